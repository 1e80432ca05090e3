//! Certificates for tests, good ones and bad ones of many kinds.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, BigNumContext, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Rsa, RsaPrivateKeyBuilder};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Extension, X509Name};

const DAY: i64 = 24 * 3600;

/// A key with its certificate.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) key: PKey<Private>,
    pub(super) certificate: X509,
}

impl Made {
    pub(super) fn chain_pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    pub(super) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }

    pub(super) fn der(&self) -> Vec<u8> {
        self.certificate.to_der().unwrap()
    }
}

/// What a certificate is to be.
pub(super) struct Recipe<'a> {
    /// The subject, as pairs of field and text.
    pub(super) subject: &'a [(&'a str, &'a str)],
    /// The alternative names, as DNS names.
    pub(super) dns: &'a [&'a str],
    /// First and last day, counted from today.
    pub(super) days: (i64, i64),
    /// `None`: signs itself.
    pub(super) issuer: Option<&'a Made>,
    pub(super) key: PKey<Private>,
    /// Below zero, instead of at random.
    pub(super) serial: Option<i32>,
    pub(super) digest: MessageDigest,
    pub(super) authority: bool,
    pub(super) path_length: Option<u32>,
    /// `None`: it says nothing about its use.
    pub(super) usage: Option<ExtendedKeyUsage>,
    /// Further extensions, as OpenSSL's configuration has them.
    pub(super) more: &'a [(Nid, &'a str)],
}

pub(super) fn ec() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

pub(super) fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

/// An RSA key of a modulus that is made of many primes of 1024 bits: as good as any, and quickly made.
pub(super) fn long_rsa(primes: i32) -> PKey<Private> {
    let mut context = BigNumContext::new().unwrap();
    let (mut modulus, mut order) = (BigNum::from_u32(1).unwrap(), BigNum::from_u32(1).unwrap());
    let e = BigNum::from_u32(65_537).unwrap();
    for _ in 0..primes {
        let mut prime = BigNum::new().unwrap();
        prime.generate_prime(1024, false, None, None).unwrap();
        modulus = &modulus * &prime;
        prime.sub_word(1).unwrap();
        order = &order * &prime;
    }
    let mut d = BigNum::new().unwrap();
    d.mod_inverse(&e, &order, &mut context).unwrap();
    PKey::from_rsa(RsaPrivateKeyBuilder::new(modulus, e, d).unwrap().build()).unwrap()
}

/// An RSA key of 2048 bits whose public exponent is about as long.
pub(super) fn rsa_with_a_huge_exponent() -> PKey<Private> {
    let mut context = BigNumContext::new().unwrap();
    let usual = Rsa::generate(2048).unwrap();
    let mut p = usual.p().unwrap().to_owned().unwrap();
    let mut q = usual.q().unwrap().to_owned().unwrap();
    p.sub_word(1).unwrap();
    q.sub_word(1).unwrap();
    let order = &p * &q;
    let d = BigNum::from_u32(65_539).unwrap();
    let mut e = BigNum::new().unwrap();
    e.mod_inverse(&d, &order, &mut context).unwrap();
    let n = usual.n().to_owned().unwrap();
    PKey::from_rsa(RsaPrivateKeyBuilder::new(n, e, d).unwrap().build()).unwrap()
}

impl<'a> Recipe<'a> {
    /// A good one for these names.
    pub(super) fn of(dns: &'a [&'a str], issuer: Option<&'a Made>) -> Self {
        let mut usage = ExtendedKeyUsage::new();
        usage.server_auth().client_auth();
        Self {
            subject: &[("O", "Lab")],
            dns,
            days: (-1, 30),
            issuer,
            key: ec(),
            serial: None,
            digest: MessageDigest::sha256(),
            authority: false,
            path_length: None,
            usage: Some(usage),
            more: &[],
        }
    }

    /// An authority.
    pub(super) fn authority(name: &'a [(&'a str, &'a str)], issuer: Option<&'a Made>) -> Self {
        Self {
            subject: name,
            authority: true,
            usage: None,
            ..Self::of(&[], issuer)
        }
    }

    pub(super) fn make(self) -> Made {
        let mut name = X509Name::builder().unwrap();
        for (field, text) in self.subject {
            name.append_entry_by_text(field, text).unwrap();
        }
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let mut serial = BigNum::new().unwrap();
        match self.serial {
            Some(below) => {
                serial = BigNum::from_u32(below.unsigned_abs()).unwrap();
                serial.set_negative(true);
            }
            None => serial.rand(120, MsbOption::ONE, false).unwrap(),
        }
        builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_pubkey(&self.key).unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let at = |day: i64| Asn1Time::from_unix(now.as_secs() as i64 + day * DAY).unwrap();
        builder.set_not_before(&at(self.days.0)).unwrap();
        builder.set_not_after(&at(self.days.1)).unwrap();
        let mut constraints = BasicConstraints::new();
        constraints.critical();
        if self.authority {
            constraints.ca();
        }
        if let Some(length) = self.path_length {
            constraints.pathlen(length);
        }
        builder.append_extension(constraints.build().unwrap()).unwrap();
        if let Some(usage) = &self.usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if !self.dns.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for dns in self.dns {
                names.dns(dns);
            }
            let names = names.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        for (kind, value) in self.more {
            #[allow(deprecated)]
            let extension = X509Extension::new_nid(None, None, *kind, value).unwrap();
            builder.append_extension(extension).unwrap();
        }
        let signer = match self.issuer {
            Some(issuer) => {
                builder.set_issuer_name(issuer.certificate.subject_name()).unwrap();
                &issuer.key
            }
            None => {
                builder.set_issuer_name(&name).unwrap();
                &self.key
            }
        };
        builder.sign(signer, self.digest).unwrap();
        Made {
            certificate: builder.build(),
            key: self.key,
        }
    }
}
