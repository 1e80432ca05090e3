//! Certificates made here: by a small authority of one's own, by a key for itself, and requests to other authorities.
//!
//! All of them name each domain as a subjectAltName, are signed with SHA-256, and are good for TLS in both directions as
//! well as for signing deltas (if the key is RSA).

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::stack::Stack;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameRef, X509Ref, X509Req};

use billow_model::{Domain, Timestamp};

use crate::chain::Validity;
use crate::key::{KeyKind, PrivateKey};

/// A key that issues certificates.
pub struct Authority {
    key: PrivateKey,
    certificate: X509,
}

/// A key and the certificates that go with it, as PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The private key (PKCS#8).
    pub key_pem: Vec<u8>,
    /// The certificate of the key alone.
    pub certificate_pem: Vec<u8>,
    /// The certificate of the key, then its issuer's.
    pub chain_pem: Vec<u8>,
}

/// Why two PEM texts are not an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no certificate authority with its key: {0}")]
pub struct NotAnAuthority(pub String);

impl Authority {
    /// Makes a new root.
    pub fn new(name: &str, validity: Validity) -> Result<Self, ErrorStack> {
        let key = PrivateKey::generate(KeyKind::BOTH)?;
        let subject = common_name(name)?;
        let mut builder = begin(&subject, &subject, &key, validity)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(identifier)?;
        builder.sign(key.as_openssl(), MessageDigest::sha256())?;
        Ok(Self {
            key,
            certificate: builder.build(),
        })
    }

    /// One that was made before.
    pub fn from_pem(key_pem: &[u8], certificate_pem: &[u8], passphrase: Option<&[u8]>) -> Result<Self, NotAnAuthority> {
        let key = PrivateKey::from_pem(key_pem, passphrase).map_err(|error| NotAnAuthority(error.to_string()))?;
        let certificate = X509::from_pem(certificate_pem).map_err(|error| NotAnAuthority(error.to_string()))?;
        let fits = certificate
            .public_key()
            .is_ok_and(|public| public.public_eq(key.as_openssl()));
        if !fits {
            return Err(NotAnAuthority(
                "the key and the certificate are of different pairs".into(),
            ));
        }
        Ok(Self { key, certificate })
    }

    /// The root's certificate, for others to trust.
    pub fn certificate_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.certificate.to_pem()
    }

    /// The root's key, for [`Authority::from_pem`].
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// A key and a certificate that name these domains; good for signing deltas and for TLS.
    pub fn issue(&self, domain: &Domain, others: &[Domain], validity: Validity) -> Result<Issued, ErrorStack> {
        self.issue_for(&PrivateKey::generate(KeyKind::BOTH)?, domain, others, validity)
    }

    /// A certificate for a key that is there.
    pub fn issue_for(
        &self,
        key: &PrivateKey,
        domain: &Domain,
        others: &[Domain],
        validity: Validity,
    ) -> Result<Issued, ErrorStack> {
        let issuer = Some(&*self.certificate);
        let certificate_pem = certify(key, domain, others, validity, issuer, &self.key)?;
        let mut chain_pem = certificate_pem.clone();
        chain_pem.extend(self.certificate.to_pem()?);
        Ok(Issued {
            key_pem: key.to_pem()?,
            certificate_pem,
            chain_pem,
        })
    }
}

/// A certificate by which a key speaks for itself, PEM. Others believe it only where they have been told to by name.
pub fn self_signed(
    key: &PrivateKey,
    domain: &Domain,
    others: &[Domain],
    validity: Validity,
) -> Result<Vec<u8>, ErrorStack> {
    certify(key, domain, others, validity, None, key)
}

/// A request to an authority for a certificate of these names (PKCS#10, RFC 2986), PEM.
pub fn request_pem(key: &PrivateKey, domain: &Domain, others: &[Domain]) -> Result<Vec<u8>, ErrorStack> {
    request(key, domain, others)?.to_pem()
}

/// The same, DER.
pub fn request_der(key: &PrivateKey, domain: &Domain, others: &[Domain]) -> Result<Vec<u8>, ErrorStack> {
    request(key, domain, others)?.to_der()
}

fn request(key: &PrivateKey, domain: &Domain, others: &[Domain]) -> Result<X509Req, ErrorStack> {
    let mut builder = X509Req::builder()?;
    builder.set_version(0)?;
    let subject = common_name(domain.as_str())?;
    builder.set_subject_name(&subject)?;
    builder.set_pubkey(key.as_openssl())?;
    let mut extensions = Stack::new()?;
    extensions.push(names(domain, others).build(&builder.x509v3_context(None))?)?;
    builder.add_extensions(&extensions)?;
    builder.sign(key.as_openssl(), MessageDigest::sha256())?;
    Ok(builder.build())
}

fn certify(
    key: &PrivateKey,
    domain: &Domain,
    others: &[Domain],
    validity: Validity,
    issuer: Option<&X509Ref>,
    issuing: &PrivateKey,
) -> Result<Vec<u8>, ErrorStack> {
    let subject = common_name(domain.as_str())?;
    let issued_by = issuer.map_or(&*subject, X509Ref::subject_name);
    let mut builder = begin(&subject, issued_by, key, validity)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    let mut usage = KeyUsage::new();
    usage.critical().digital_signature().key_encipherment();
    builder.append_extension(usage.build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
    let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer, None))?;
    builder.append_extension(identifier)?;
    let context = builder.x509v3_context(issuer, None);
    let mut more = vec![names(domain, others).build(&context)?];
    if issuer.is_some() {
        more.push(AuthorityKeyIdentifier::new().keyid(false).build(&context)?);
    }
    for extension in more {
        builder.append_extension(extension)?;
    }
    builder.sign(issuing.as_openssl(), MessageDigest::sha256())?;
    builder.build().to_pem()
}

fn names(domain: &Domain, others: &[Domain]) -> SubjectAlternativeName {
    let mut names = SubjectAlternativeName::new();
    for name in [domain].into_iter().chain(others) {
        names.dns(name.as_str());
    }
    names
}

/// The common name is for people; an old limit of X.509 gives it 64 letters, so a longer domain leaves it out.
fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509Name::builder()?;
    if name.len() <= 64 {
        builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    } else {
        builder.append_entry_by_nid(Nid::ORGANIZATIONNAME, "a Wave domain")?;
    }
    Ok(builder.build())
}

fn begin(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    key: &PrivateKey,
    validity: Validity,
) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::ONE, false)?;
    let serial: Asn1Integer = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key.as_openssl())?;
    let at = |time: Timestamp| Asn1Time::from_unix(time.0.div_euclid(1000));
    let (from, until) = (at(validity.from)?, at(validity.until)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    Ok(builder)
}

/// A key and the certificate that answers a tls-alpn-01 challenge (RFC 8737 §3): it signs itself, names the domain alone and
/// holds the digest of the key authorization in a critical extension.
pub fn challenge_pair(domain: &Domain, digest: &[u8], validity: Validity) -> Result<Issued, ErrorStack> {
    let key = PrivateKey::generate(KeyKind::Ec)?;
    let subject = common_name(domain.as_str())?;
    let mut builder = begin(&subject, &subject, &key, validity)?;
    let names = names(domain, &[]).build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    // OCTET STRING, of so many bytes.
    let mut value = vec![0x04, u8::try_from(digest.len()).unwrap_or(u8::MAX)];
    value.extend_from_slice(digest);
    let value = Asn1OctetString::new_from_bytes(&value)?;
    let identifier = Asn1Object::from_str(ACME_IDENTIFIER)?;
    builder.append_extension(X509Extension::new_from_der(&identifier, true, &value)?)?;
    builder.sign(key.as_openssl(), MessageDigest::sha256())?;
    let certificate_pem = builder.build().to_pem()?;
    Ok(Issued {
        key_pem: key.to_pem()?,
        chain_pem: certificate_pem.clone(),
        certificate_pem,
    })
}

/// id-pe-acmeIdentifier.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";
