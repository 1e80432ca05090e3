//! Private keys: made, read (also with a pass phrase) and written.

use std::fmt;

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;

/// What a key is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of so many bits: for TLS and for signing deltas.
    Rsa(u32),
    /// Elliptic curve P-256: for TLS only, the Wave protocol signs with RSA.
    Ec,
}

impl KeyKind {
    /// What serves both purposes.
    pub const BOTH: Self = Self::Rsa(2048);
}

/// A private key.
#[derive(Clone)]
pub struct PrivateKey(PKey<Private>);

/// Why a text is not a private key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key, or a damaged one.
    #[error("expected a PEM private key ({reason})")]
    Unreadable {
        /// OpenSSL's word for it.
        reason: String,
    },
    /// It is encrypted, and no pass phrase is given.
    #[error("the key is encrypted: name a file that holds its pass phrase")]
    Locked,
    /// It is encrypted with another one.
    #[error("the pass phrase does not open the key")]
    Passphrase,
}

impl PrivateKey {
    /// A new key.
    pub fn generate(kind: KeyKind) -> Result<Self, ErrorStack> {
        let key = match kind {
            KeyKind::Rsa(bits) => PKey::from_rsa(Rsa::generate(bits)?)?,
            KeyKind::Ec => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                PKey::from_ec_key(EcKey::generate(&group)?)?
            }
        };
        Ok(Self(key))
    }

    /// Reads a key; a pass phrase is used if the key is encrypted (PKCS#8 or OpenSSL's older form) and ignored otherwise.
    pub fn from_pem(pem: &[u8], passphrase: Option<&[u8]>) -> Result<Self, KeyError> {
        let mut asked = false;
        // The callback stands in for a prompt: without it OpenSSL would ask for a password at the terminal.
        let read = PKey::private_key_from_pem_callback(pem, |room| {
            asked = true;
            let given = passphrase.unwrap_or_default();
            let length = given.len().min(room.len());
            room[..length].copy_from_slice(&given[..length]);
            Ok(length)
        });
        match read {
            Ok(key) => Ok(Self(key)),
            Err(_) if asked && passphrase.is_none() => Err(KeyError::Locked),
            Err(_) if asked => Err(KeyError::Passphrase),
            Err(error) => Err(KeyError::Unreadable {
                reason: error.to_string(),
            }),
        }
    }

    /// PKCS#8, open.
    pub fn to_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.0.private_key_to_pem_pkcs8()
    }

    /// PKCS#8, encrypted with AES-256.
    pub fn to_encrypted_pem(&self, passphrase: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        self.0
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), passphrase)
    }

    /// PEM, encrypted if there is a pass phrase.
    pub fn to_pem_with(&self, passphrase: Option<&[u8]>) -> Result<Vec<u8>, ErrorStack> {
        passphrase.map_or_else(|| self.to_pem(), |passphrase| self.to_encrypted_pem(passphrase))
    }

    /// Whether a PEM text is a key that needs a pass phrase.
    #[must_use]
    pub fn is_encrypted(pem: &[u8]) -> bool {
        matches!(Self::from_pem(pem, None), Err(KeyError::Locked))
    }

    pub(crate) fn as_openssl(&self) -> &PKey<Private> {
        &self.0
    }
}

impl fmt::Display for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(&self.0))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({self})")
    }
}

/// `RSA of 2048 bits`.
pub(crate) fn in_words<T: HasPublic>(key: &PKeyRef<T>) -> String {
    match key.id() {
        Id::RSA => format!("RSA of {} bits", key.bits()),
        Id::EC => format!("EC of {} bits", key.bits()),
        Id::ED25519 => "Ed25519".to_owned(),
        _ => format!("a key of another kind, of {} bits", key.bits()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_key_is_opened_by_its_pass_phrase_and_by_no_other() {
        for kind in [KeyKind::BOTH, KeyKind::Ec] {
            let key = PrivateKey::generate(kind).unwrap();
            let sealed = key.to_encrypted_pem(b"open sesame").unwrap();
            assert!(PrivateKey::is_encrypted(&sealed) && !PrivateKey::is_encrypted(&key.to_pem().unwrap()));
            let opened = PrivateKey::from_pem(&sealed, Some(b"open sesame")).unwrap();
            assert_eq!(opened.to_pem().unwrap(), key.to_pem().unwrap());
            assert_eq!(
                PrivateKey::from_pem(&sealed, Some(b"open barley")).unwrap_err(),
                KeyError::Passphrase
            );
            assert_eq!(PrivateKey::from_pem(&sealed, None).unwrap_err(), KeyError::Locked);
            assert!(
                PrivateKey::from_pem(&key.to_pem().unwrap(), Some(b"not needed")).is_ok(),
                "an open key needs none"
            );
        }
        assert!(matches!(
            PrivateKey::from_pem(b"no key", None),
            Err(KeyError::Unreadable { .. })
        ));
    }
}
