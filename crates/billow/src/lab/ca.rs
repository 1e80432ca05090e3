//! The lab's certificate authority: makes an authority and, for each domain, a certificate that serves for TLS in both
//! directions and for signing deltas.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

/// How long the lab's certificates are good.
const DAYS: u32 = 3650;
/// The lab may run on a machine whose clock is behind that of the one which made it.
const SLACK_SECONDS: i64 = 24 * 3600;

/// A certificate authority.
pub struct Ca {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its key.
pub struct Issued {
    /// The certificate, PEM. The authority's own is not in it: peers have that as a root.
    pub chain_pem: Vec<u8>,
    /// The key, PEM (PKCS#8).
    pub key_pem: Vec<u8>,
}

impl Ca {
    /// Makes an authority of that name.
    pub fn create(name: &str) -> Result<Self, ErrorStack> {
        let key = new_key()?;
        let subject = common_name(name)?;
        let mut builder = start(&subject, &subject, &key)?;
        builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(identifier)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }

    /// The authority's certificate, PEM: what servers take as a root.
    pub fn certificate_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.certificate.to_pem()
    }

    /// A certificate for a domain: `CN` and DNS name are the domain, for servers and clients, RSA of 2048 bits.
    pub fn issue(&self, domain: &str) -> Result<Issued, ErrorStack> {
        self.issue_with(domain, &[])
    }

    /// The same with further DNS names.
    pub fn issue_with(&self, domain: &str, names: &[&str]) -> Result<Issued, ErrorStack> {
        let key = new_key()?;
        let mut builder = start(&common_name(domain)?, self.certificate.subject_name(), &key)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(
            KeyUsage::new()
                .critical()
                .digital_signature()
                .key_encipherment()
                .build()?,
        )?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let mut alternatives = SubjectAlternativeName::new();
        for name in [domain].iter().chain(names) {
            alternatives.dns(name);
        }
        let extensions = [
            alternatives.build(&context)?,
            SubjectKeyIdentifier::new().build(&context)?,
            AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
        ];
        for extension in extensions {
            builder.append_extension(extension)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Issued {
            chain_pem: builder.build().to_pem()?,
            key_pem: key.private_key_to_pem_pkcs8()?,
        })
    }
}

impl Issued {
    /// Writes `DOMAIN.crt` and `DOMAIN.key` (readable by the owner only) into a folder; gives the two paths.
    pub fn write(&self, folder: &Path, domain: &str) -> io::Result<(PathBuf, PathBuf)> {
        let (chain, key) = (
            folder.join(format!("{domain}.crt")),
            folder.join(format!("{domain}.key")),
        );
        fs::write(&chain, &self.chain_pem)?;
        write_secret(&key, &self.key_pem)?;
        Ok((chain, key))
    }
}

/// Writes a file that only its owner may read, from the first moment on.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_rsa(Rsa::generate(2048)?)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_text("CN", name)?;
    Ok(builder.build())
}

/// What every certificate has.
fn start(
    subject: &X509Name,
    issuer: &openssl::x509::X509NameRef,
    key: &PKey<Private>,
) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::ONE, false)?;
    let serial = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX));
    let not_before = Asn1Time::from_unix(now.saturating_sub(SLACK_SECONDS))?;
    builder.set_not_before(&not_before)?;
    let not_after = Asn1Time::days_from_now(DAYS)?;
    builder.set_not_after(&not_after)?;
    Ok(builder)
}
