//! Keys and certificates in files: read as the server needs them, replaced so that nothing is lost.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use billow_signing::{Pair, PairError, PrivateKey};

use crate::config::FederationConfig;

/// Where a pair of key and certificates lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificates, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
    /// A file whose first line opens the key, if it is encrypted.
    pub passphrase: Option<PathBuf>,
}

/// A pair as TLS and signatures take it: the key open, the chain in order.
pub struct OpenPair {
    /// The key, PEM, not encrypted.
    pub key_pem: Vec<u8>,
    /// The certificate of the key, then each one's issuer; as they lie in the file where none belongs to the key.
    pub chain_pem: Vec<u8>,
}

impl FederationConfig {
    /// What is shown in TLS handshakes.
    #[must_use]
    pub fn tls_files(&self) -> PairFiles {
        PairFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            passphrase: self.key_passphrase_file.clone(),
        }
    }

    /// What signs our users' deltas.
    #[must_use]
    pub fn signer_files(&self) -> PairFiles {
        PairFiles {
            certificate: self.signer_certificate.clone(),
            key: self.signer_key.clone(),
            passphrase: self.key_passphrase_file.clone(),
        }
    }

    /// Whether it is still to be fetched: until then there is no federation.
    #[must_use]
    pub fn lacks_certificate(&self) -> bool {
        self.acme.is_some() && !self.certificate.exists()
    }

    /// Whether one pair has both roles.
    #[must_use]
    pub fn one_pair(&self) -> bool {
        self.signer_certificate == self.certificate && self.signer_key == self.key
    }
}

impl PairFiles {
    /// Reads the pair.
    pub fn open(&self) -> anyhow::Result<OpenPair> {
        let (key, certificates) = (read(&self.key)?, read(&self.certificate)?);
        let passphrase = self.passphrase()?;
        open(&key, passphrase.as_deref(), certificates).with_context(|| self.key.display().to_string())
    }

    /// The pair, to be looked at. The outer error: a file cannot be read.
    pub fn pair(&self) -> anyhow::Result<Result<Pair, PairError>> {
        let (key, certificates) = (read(&self.key)?, read(&self.certificate)?);
        Ok(Pair::from_pem(&key, self.passphrase()?.as_deref(), &certificates))
    }

    /// The pass phrase, if there is one.
    pub fn passphrase(&self) -> anyhow::Result<Option<Vec<u8>>> {
        self.passphrase.as_deref().map(passphrase).transpose()
    }
}

/// A key opened and its certificates put in order.
pub fn open(key_pem: &[u8], passphrase: Option<&[u8]>, certificates_pem: Vec<u8>) -> anyhow::Result<OpenPair> {
    match Pair::from_pem(key_pem, passphrase, &certificates_pem) {
        Ok(pair) => Ok(OpenPair {
            key_pem: pair.key().to_pem()?,
            chain_pem: pair.chain_pem()?,
        }),
        Err(PairError::Key(error)) => Err(error.into()),
        // Whoever uses them says what is wrong with them.
        Err(_) => Ok(OpenPair {
            key_pem: PrivateKey::from_pem(key_pem, passphrase)?.to_pem()?,
            chain_pem: certificates_pem,
        }),
    }
}

/// The first line of a file, without its end.
pub fn passphrase(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = read(path)?;
    if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
        text.truncate(end);
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    anyhow::ensure!(
        !text.is_empty(),
        "{}: expected a pass phrase, the first line is empty",
        path.display()
    );
    Ok(text)
}

/// Puts a file in place, readable by its owner only, whole or not at all. What was there is kept with `.old` at its name;
/// the path of that is given back.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<Option<PathBuf>> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(None);
    }
    let aside = with_ending(path, ".new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_new(&aside, bytes)?;
    let old = if path.exists() {
        let old = with_ending(path, ".old");
        fs::rename(path, &old)?;
        Some(old)
    } else {
        None
    };
    fs::rename(&aside, path)?;
    Ok(old)
}

/// Makes a file that only its owner may read; one that is there already is an error.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A file, or which one cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn what_was_there_is_kept_and_the_new_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        assert_eq!(replace(&path, b"one").unwrap(), None);
        assert_eq!(replace(&path, b"one").unwrap(), None, "the same again changes nothing");
        let old = replace(&path, b"two").unwrap().unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&old).unwrap()),
            (b"two".to_vec(), b"one".to_vec())
        );
        assert_eq!(old, dir.path().join("a.key.old"));
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_pass_phrase_is_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phrase");
        for (text, wanted) in [("open sesame\n", "open sesame"), ("a\r\nb", "a"), ("x", "x")] {
            fs::write(&path, text).unwrap();
            assert_eq!(passphrase(&path).unwrap(), wanted.as_bytes());
        }
        fs::write(&path, "\n").unwrap();
        assert!(passphrase(&path).is_err());
    }
}
