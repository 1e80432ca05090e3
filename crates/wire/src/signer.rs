//! Certificate chains of signers and their ids (protocol.md §4.2).

use std::fmt;

use billow_model::Domain;
use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256, Sha512};

use crate::encoded::{DecodeError, Message};
use crate::{groups, proto};

/// The digest of a certificate chain, by which signatures name their signer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignerId(Vec<u8>);

impl SignerId {
    /// An id as somebody named it; [`SignerInfo::id`] gives the true one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The raw digest: 32 or 64 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The digest that makes a signer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// 32 bytes; the only one that servers use.
    Sha256,
    /// 64 bytes.
    Sha512,
}

/// A certificate chain that signs for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerInfo {
    /// How its id is made.
    pub hash: HashAlgorithm,
    /// The domain it says it signs for; only its certificates prove it.
    pub domain: Domain,
    /// DER certificates, the signer's own first, then its issuers.
    pub certificates: Vec<Bytes>,
}

impl SignerInfo {
    /// The id by which signatures name this chain: the digest of its DER PkiPath, the issuers before the signer.
    /// It covers exactly the certificates given.
    #[must_use]
    pub fn id(&self) -> SignerId {
        let path = self.pki_path();
        match self.hash {
            HashAlgorithm::Sha256 => SignerId(Sha256::digest(&path).to_vec()),
            HashAlgorithm::Sha512 => SignerId(Sha512::digest(&path).to_vec()),
        }
    }

    /// `SEQUENCE OF Certificate`, last certificate first, with the shortest DER length.
    fn pki_path(&self) -> Vec<u8> {
        const SEQUENCE: u8 = 0x30;
        let length: usize = self.certificates.iter().map(Bytes::len).sum();
        let mut path = Vec::with_capacity(length + 10);
        path.push(SEQUENCE);
        match u8::try_from(length) {
            Ok(short @ 0..=0x7f) => path.push(short),
            _ => {
                let bytes = length.to_be_bytes();
                let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
                path.push(0x80 | u8::try_from(bytes.len()).expect("a length has at most 8 bytes"));
                path.extend_from_slice(bytes);
            }
        }
        self.certificates
            .iter()
            .rev()
            .for_each(|certificate| path.extend_from_slice(certificate));
        path
    }
}

impl Message for SignerInfo {
    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        const MESSAGE: &str = "signer info";
        DecodeError::of_groups(MESSAGE, bytes, &groups::FLAT)?;
        let message = proto::SignerInfo::decode(bytes.clone()).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))?;
        let hash = match message.hash_algorithm {
            Some(1) => HashAlgorithm::Sha256,
            Some(2) => HashAlgorithm::Sha512,
            _ => return Err(DecodeError::missing(MESSAGE, "hash_algorithm")),
        };
        let domain = message.domain.ok_or_else(|| DecodeError::missing(MESSAGE, "domain"))?;
        let domain = domain
            .parse()
            .map_err(|e: billow_model::ParseIdError| DecodeError::new(MESSAGE, e.to_string()))?;
        Ok(Self {
            hash,
            domain,
            certificates: message.certificate,
        })
    }

    fn encode(&self) -> Bytes {
        let hash = match self.hash {
            HashAlgorithm::Sha256 => 1,
            HashAlgorithm::Sha512 => 2,
        };
        proto::SignerInfo {
            hash_algorithm: Some(hash),
            domain: Some(self.domain.to_string()),
            certificate: self.certificates.clone(),
        }
        .encode_to_vec()
        .into()
    }
}
