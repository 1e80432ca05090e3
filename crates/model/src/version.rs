//! Versions and the history hash (protocol.md §2).

use sha2::{Digest, Sha256};
use std::fmt;

use crate::id::WaveletName;

/// The number of operations applied to a wavelet so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u64);

impl Version {
    /// The version of a wavelet without history.
    pub const ZERO: Self = Self(0);

    /// A version by its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The version `ops` operations later.
    #[must_use]
    pub const fn plus(self, ops: u64) -> Self {
        Self(self.0 + ops)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hash of a history: the wavelet URI's bytes at version 0, 20 bytes of chained SHA-256 after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HistoryHash(Vec<u8>);

impl HistoryHash {
    /// Length in bytes of every hash but that of version 0.
    pub const LEN: usize = 20;

    /// A hash as it was read from outside; it is only ever compared.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A version together with the hash of the history that led to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashedVersion {
    /// How many operations.
    pub version: Version,
    /// The hash of these very operations.
    pub hash: HistoryHash,
}

impl HashedVersion {
    /// Version 0: the hash is the UTF-8 of the wavelet's URI, neither hashed nor cut (protocol.md §2).
    #[must_use]
    pub fn zero(name: &WaveletName) -> Self {
        Self {
            version: Version::ZERO,
            hash: HistoryHash(name.to_uri().into_bytes()),
        }
    }

    /// The hashed version after an applied delta of `ops` operations whose serialised bytes are `applied`:
    /// the first 20 bytes of SHA-256(previous hash ‖ bytes).
    #[must_use]
    pub fn next(&self, applied: &[u8], ops: u64) -> Self {
        let digest = Sha256::new()
            .chain_update(&self.hash.0)
            .chain_update(applied)
            .finalize();
        Self {
            version: self.version.plus(ops),
            hash: HistoryHash(digest[..HistoryHash::LEN].to_vec()),
        }
    }
}

impl fmt::Display for HashedVersion {
    /// `12:5f…` with the hash in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.version)?;
        self.hash.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
