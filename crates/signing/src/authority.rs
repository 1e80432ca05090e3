//! A small certificate authority of one's own, for a lab of servers that trust each other and nobody else.

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

use billow_model::{Domain, Timestamp};

use crate::chain::Validity;

/// A key that issues certificates.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

/// A key and the certificates that go with it, as PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The private key (PKCS#8).
    pub key_pem: Vec<u8>,
    /// The certificate of the key, then its issuer's.
    pub chain_pem: Vec<u8>,
}

impl Authority {
    /// Makes a new root.
    pub fn new(name: &str, validity: Validity) -> Result<Self, ErrorStack> {
        let key = PKey::from_rsa(Rsa::generate(2048)?)?;
        let subject = common_name(name)?;
        let mut builder = begin(&subject, &subject, &key, validity)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            key,
            certificate: builder.build(),
        })
    }

    /// The root's certificate, for others to trust.
    pub fn certificate_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.certificate.to_pem()
    }

    /// A key and a certificate that name these domains; good for signing deltas and for TLS.
    pub fn issue(&self, domain: &Domain, others: &[Domain], validity: Validity) -> Result<Issued, ErrorStack> {
        let key = PKey::from_rsa(Rsa::generate(2048)?)?;
        let subject = common_name(domain.as_str())?;
        let mut builder = begin(&subject, &self.certificate.subject_name().to_owned()?, &key, validity)?;
        let mut names = SubjectAlternativeName::new();
        for name in [domain].into_iter().chain(others) {
            names.dns(name.as_str());
        }
        let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(names)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(
            KeyUsage::new()
                .critical()
                .digital_signature()
                .key_encipherment()
                .build()?,
        )?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        let mut chain_pem = builder.build().to_pem()?;
        chain_pem.extend(self.certificate.to_pem()?);
        Ok(Issued {
            key_pem: key.private_key_to_pem_pkcs8()?,
            chain_pem,
        })
    }
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509Name::builder()?;
    builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(builder.build())
}

fn begin(
    subject: &X509Name,
    issuer: &X509Name,
    key: &PKey<Private>,
    validity: Validity,
) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let serial: Asn1Integer = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    let at = |time: Timestamp| Asn1Time::from_unix(time.0.div_euclid(1000));
    let (from, until) = (at(validity.from)?, at(validity.until)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    Ok(builder)
}
