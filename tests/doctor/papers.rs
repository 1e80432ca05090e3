//! Certificates as operators come by them: good ones, and bad ones of many kinds.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

const DAY: i64 = 24 * 3600;

/// A key with its certificate.
#[derive(Clone)]
pub(crate) struct Paper {
    pub(crate) key: PKey<Private>,
    pub(crate) certificate: X509,
}

/// What a certificate is to be.
#[derive(Clone)]
pub(crate) struct Wish<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) days: (i64, i64),
    pub(crate) issuer: Option<&'a Paper>,
    pub(crate) authority: Option<&'a str>,
    pub(crate) for_servers: bool,
    pub(crate) key: Option<PKey<Private>>,
}

impl<'a> Wish<'a> {
    /// A good one.
    pub(crate) fn of(names: &'a [&'a str], issuer: Option<&'a Paper>) -> Self {
        Self {
            names,
            days: (-1, 365),
            issuer,
            authority: None,
            for_servers: true,
            key: None,
        }
    }

    /// An authority of that name.
    pub(crate) fn authority(name: &'a str, issuer: Option<&'a Paper>) -> Self {
        Self {
            authority: Some(name),
            ..Self::of(&[], issuer)
        }
    }

    pub(crate) fn days(self, from: i64, until: i64) -> Self {
        Self {
            days: (from, until),
            ..self
        }
    }

    pub(crate) fn make(self) -> Paper {
        let key = self.key.unwrap_or_else(|| rsa(2048));
        let mut name = X509Name::builder().unwrap();
        let common = self.authority.or(self.names.first().copied()).unwrap_or("nobody");
        name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let mut serial = BigNum::new().unwrap();
        serial.rand(120, MsbOption::ONE, false).unwrap();
        builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap().as_secs() as i64;
        let at = |day: i64| Asn1Time::from_unix(now + day * DAY).unwrap();
        builder.set_not_before(&at(self.days.0)).unwrap();
        builder.set_not_after(&at(self.days.1)).unwrap();
        let mut constraints = BasicConstraints::new();
        constraints.critical();
        if self.authority.is_some() {
            constraints.ca();
        }
        builder.append_extension(constraints.build().unwrap()).unwrap();
        if self.authority.is_none() {
            let mut usage = ExtendedKeyUsage::new();
            usage.client_auth();
            if self.for_servers {
                usage.server_auth();
            }
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if !self.names.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for name in self.names {
                names.dns(name);
            }
            let names = names.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        let signer = match self.issuer {
            Some(issuer) => {
                builder.set_issuer_name(issuer.certificate.subject_name()).unwrap();
                &issuer.key
            }
            None => {
                builder.set_issuer_name(&name).unwrap();
                &key
            }
        };
        builder.sign(signer, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();
        Paper { key, certificate }
    }
}

impl Paper {
    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }
}

pub(crate) fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

pub(crate) fn ec() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}
