//! Our own key: makes the signatures of one domain.

use std::fmt;
use std::sync::Arc;

use billow_model::{Delta, Domain};
use billow_wire::{Encoded, HashAlgorithm, Signature, SignedDelta, SignerId, SignerInfo};
use bytes::Bytes;
use openssl::hash::MessageDigest;
use openssl::pkey::Id;
use openssl::x509::X509;

use crate::chain::{self, ChainError, MIN_BITS, Validity};
use crate::key::PrivateKey;
use crate::pair::{self, PairError};
use crate::sha1;

/// The private key of a domain and the certificate chain that goes with it. A clone is the same signer.
#[derive(Clone)]
pub struct Signer(Arc<Inner>);

struct Inner {
    key: PrivateKey,
    info: SignerInfo,
    id: SignerId,
    validity: Validity,
}

/// Why a key and certificates do not make a signer; each says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The key file holds no unencrypted private key.
    #[error("the signing key of {domain} cannot be read: expected an unencrypted PEM private key ({reason})")]
    Key {
        /// Whose.
        domain: Domain,
        /// OpenSSL's word for it.
        reason: String,
    },
    /// Another kind of key.
    #[error(
        "the signing key of {domain} is not RSA: the Wave protocol knows only RSA; make one with `billow cert csr --type rsa`"
    )]
    NotRsa {
        /// Whose.
        domain: Domain,
    },
    /// Too short a key.
    #[error(
        "the signing key of {domain} has {bits} bits, expected at least {MIN_BITS}: \
         make one with `openssl genrsa 2048` and have a certificate issued for it"
    )]
    Weak {
        /// Whose.
        domain: Domain,
        /// Its length.
        bits: u32,
    },
    /// The certificate file holds none.
    #[error("the certificate chain of {domain} cannot be read: expected PEM certificates ({reason})")]
    Chain {
        /// Whose.
        domain: Domain,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate for the key.
    #[error(
        "none of the certificates of {domain} belongs to its signing key: the key file and the certificate file are of different pairs"
    )]
    Mismatch {
        /// Whose.
        domain: Domain,
    },
    /// A certificate for somebody else.
    #[error(
        "the signing certificate of {domain} does not name it (it names {names}): have one issued with the subjectAltName DNS:{domain}"
    )]
    Name {
        /// Whose.
        domain: Domain,
        /// Whom it names.
        names: String,
    },
    /// A certificate that issued nothing in the chain.
    #[error("the certificate chain of {domain} holds a certificate that issued none of the others: take {subject} out")]
    Stray {
        /// Whose.
        domain: Domain,
        /// The subject of the certificate.
        subject: String,
    },
    /// A chain that peers would refuse.
    #[error("the certificate chain of {domain} would be refused by every peer: {error}")]
    Refused {
        /// Whose.
        domain: Domain,
        /// Why.
        error: ChainError,
    },
}

/// Why a delta was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Its author is another domain's.
    #[error("expected a delta by a user of {expected}, got one by {author}")]
    ForeignAuthor {
        /// The signer's domain.
        expected: Domain,
        /// The delta's author.
        author: String,
    },
    /// Bytes made so that the signature would be good for others too.
    #[error("the delta bears the marks of a SHA-1 collision")]
    Collision,
    /// OpenSSL failed in itself.
    #[error("openssl: {0}")]
    OpenSsl(String),
}

impl Signer {
    /// Reads a key and its certificate chain, which may lie in the PEM text in any order.
    pub fn from_pem(domain: Domain, key_pem: &[u8], chain_pem: &[u8]) -> Result<Self, SignerError> {
        let key = read_key(&domain, key_pem)?;
        let certificates = read_chain(&domain, chain_pem)?;
        let chain = order(&domain, &key, certificates)?;
        let names = chain::dns_names(&chain[0]);
        if !names.contains(&domain) {
            let names = names.iter().map(Domain::as_str).collect::<Vec<_>>().join(", ");
            let names = if names.is_empty() {
                "no domain".to_owned()
            } else {
                names
            };
            return Err(SignerError::Name { domain, names });
        }
        let refused = |error| SignerError::Refused {
            domain: domain.clone(),
            error,
        };
        chain::public_key(&chain[0]).map_err(refused)?;
        let validity = chain::validity(&chain).map_err(refused)?;
        let certificates: Vec<Bytes> = chain
            .iter()
            .map(|certificate| certificate.to_der().map(Bytes::from))
            .collect::<Result<_, _>>()
            .map_err(|error| refused(error.into()))?;
        let bytes = certificates.iter().map(Bytes::len).sum();
        if certificates.len() > chain::MAX_CERTIFICATES || bytes > chain::MAX_BYTES {
            return Err(refused(ChainError::Size {
                certificates: certificates.len(),
                bytes,
            }));
        }
        let info = SignerInfo {
            hash: HashAlgorithm::Sha256,
            domain,
            certificates,
        };
        let id = info.id();
        Ok(Self(Arc::new(Inner {
            key,
            info,
            id,
            validity,
        })))
    }

    /// The domain for whose users it signs.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.0.info.domain
    }

    /// The chain to give to peers.
    #[must_use]
    pub fn info(&self) -> &SignerInfo {
        &self.0.info
    }

    /// The name of the chain in signatures.
    #[must_use]
    pub fn id(&self) -> &SignerId {
        &self.0.id
    }

    /// When the chain is valid; outside of it peers refuse what it signs.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// Signs a delta of one of the domain's own users. The same delta gives the same bytes, always.
    pub fn sign(&self, delta: Encoded<Delta>) -> Result<Encoded<SignedDelta>, SignError> {
        if delta.author.domain() != *self.domain() {
            return Err(SignError::ForeignAuthor {
                expected: self.domain().clone(),
                author: delta.author.to_string(),
            });
        }
        let bytes = self.sign_bytes(delta.bytes())?;
        let signature = Signature {
            bytes: bytes.into(),
            signer: self.0.id.clone(),
        };
        Ok(Encoded::new(SignedDelta {
            delta,
            signatures: vec![signature],
        }))
    }

    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        if sha1::is_collision(bytes) {
            return Err(SignError::Collision);
        }
        openssl::sign::Signer::new(MessageDigest::sha1(), self.0.key.as_openssl())
            .and_then(|mut signer| signer.sign_oneshot_to_vec(bytes))
            .map_err(|error| SignError::OpenSsl(error.to_string()))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("domain", self.domain())
            .field("id", self.id())
            .finish_non_exhaustive()
    }
}

fn read_key(domain: &Domain, pem: &[u8]) -> Result<PrivateKey, SignerError> {
    let read = PrivateKey::from_pem(pem, None).map_err(|error| SignerError::Key {
        domain: domain.clone(),
        reason: error.to_string(),
    })?;
    let key = read.as_openssl();
    if key.id() != Id::RSA {
        return Err(SignerError::NotRsa { domain: domain.clone() });
    }
    if key.bits() < MIN_BITS {
        return Err(SignerError::Weak {
            domain: domain.clone(),
            bits: key.bits(),
        });
    }
    Ok(read)
}

fn read_chain(domain: &Domain, pem: &[u8]) -> Result<Vec<X509>, SignerError> {
    pair::certificates(pem).map_err(|error| SignerError::Chain {
        domain: domain.clone(),
        reason: match error {
            PairError::Certificates { reason } => reason,
            other => other.to_string(),
        },
    })
}

/// The certificate of the key first, then each one's issuer.
fn order(domain: &Domain, key: &PrivateKey, certificates: Vec<X509>) -> Result<Vec<X509>, SignerError> {
    let arranged = pair::arrange(key, certificates);
    let (chain, strays) = arranged.map_err(|_| SignerError::Mismatch { domain: domain.clone() })?;
    match strays.first() {
        Some(stray) => Err(SignerError::Stray {
            domain: domain.clone(),
            subject: format!("{:?}", stray.subject_name()),
        }),
        None => Ok(chain),
    }
}
