//! The lab's certificate authority: for each domain a certificate that serves for TLS in both directions and for signing
//! deltas, good for ten years.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use billow_model::{Domain, Timestamp};
use billow_signing::{Authority, Validity};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A certificate authority of the lab.
pub struct Ca(Authority);

/// A certificate with its key.
pub struct Issued {
    /// The certificate, PEM. The authority's own is not in it: peers have that as a root.
    pub chain_pem: Vec<u8>,
    /// The key, PEM (PKCS#8).
    pub key_pem: Vec<u8>,
}

/// Why there is no certificate.
#[derive(Debug)]
pub struct NotIssued(String);

impl std::fmt::Display for NotIssued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotIssued {}

impl Ca {
    /// Makes an authority of that name.
    pub fn create(name: &str) -> Result<Self, NotIssued> {
        Authority::new(name, ten_years()).map(Self).map_err(told)
    }

    /// The authority's certificate, PEM: what servers take as a root.
    pub fn certificate_pem(&self) -> Result<Vec<u8>, NotIssued> {
        self.0.certificate_pem().map_err(told)
    }

    /// A certificate for a domain: `CN` and DNS name are the domain, for servers and clients, RSA of 2048 bits.
    pub fn issue(&self, domain: &str) -> Result<Issued, NotIssued> {
        self.issue_with(domain, &[])
    }

    /// The same with further DNS names.
    pub fn issue_with(&self, domain: &str, names: &[&str]) -> Result<Issued, NotIssued> {
        let domain: Domain = domain.parse().map_err(told)?;
        let names = names.iter().map(|name| name.parse().map_err(told));
        let names = names.collect::<Result<Vec<Domain>, _>>()?;
        let issued = self.0.issue(&domain, &names, ten_years()).map_err(told)?;
        Ok(Issued {
            chain_pem: issued.certificate_pem,
            key_pem: issued.key_pem,
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

fn told(error: impl std::fmt::Display) -> NotIssued {
    NotIssued(error.to_string())
}

/// From yesterday on: the lab may run on a machine whose clock is behind that of the one which made it.
fn ten_years() -> Validity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX / 2);
    Validity {
        from: Timestamp(now - DAY_MS),
        until: Timestamp(now + 3650 * DAY_MS),
    }
}
