//! What the store keeps of a delta: the [`Record`] as it was applied, and later its [`Seal`].

use std::fmt;
use std::sync::Arc;

use billow_model::{Delta, HashedVersion, HistoryHash, ParticipantId, Timestamp, TransformedDelta, Version, WaveletOp};
use billow_wire::{AppliedDelta, DecodeError, Encoded, Message as _};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Identity of a user's submission on a wavelet, together with its author: which editor, and its how-manieth. A resend keeps both (decision: two
/// equal edits from two devices both count, one edit sent twice counts once).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Submission {
    /// Names the editor; random, but seen by others, who may name theirs the same.
    pub session: Arc<str>,
    /// Counts from 1 within the session and wavelet.
    pub sequence: u64,
}

/// SHA-256 of a signed delta's bytes, by which a resend from another server is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignedDigest([u8; 32]);

impl SignedDigest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(signed: &[u8]) -> Self {
        Self(Sha256::digest(signed).into())
    }

    /// A digest as it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// How a delta came to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From a user of ours. On a hosted wavelet it is signed when it is sealed; on a remote one its bytes are in the seal.
    Local(Submission),
    /// From another server, signed there. On a remote wavelet these bytes are in the seal as well.
    Remote {
        /// The signed delta as it came.
        signed: Bytes,
    },
}

/// An applied delta as it is stored: immutable, and all that is needed to show it and, later, to seal it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Author, version, operations as they apply there, time.
    pub delta: TransformedDelta,
    /// Where it came from.
    pub origin: Origin,
}

impl Record {
    /// The version before its operations.
    #[must_use]
    pub fn applied_at(&self) -> Version {
        self.delta.applied_at
    }

    /// The version after its operations.
    #[must_use]
    pub fn resulting(&self) -> Version {
        self.delta.resulting()
    }

    /// Which submission of our users it is, if it is one.
    #[must_use]
    pub fn submission(&self) -> Option<&Submission> {
        match &self.origin {
            Origin::Local(submission) => Some(submission),
            Origin::Remote { .. } => None,
        }
    }

    /// The transformed operations as bytes for the store: a delta message whose target has an empty hash.
    #[must_use]
    pub fn encode_ops(&self) -> Bytes {
        encode_ops(self.applied_at(), &self.delta.author, &self.delta.ops)
    }

    /// Reads what [`Record::encode_ops`] wrote, with the columns stored beside it.
    pub fn decode(ops: Bytes, timestamp: Timestamp, origin: Origin) -> Result<Self, DecodeError> {
        let Delta {
            target, author, ops, ..
        } = Delta::decode(&ops)?;
        Ok(Self {
            delta: TransformedDelta {
                author,
                applied_at: target.version,
                ops,
                timestamp,
            },
            origin,
        })
    }
}

/// Operations as a delta message of no known history.
pub(crate) fn encode_ops(at: Version, author: &ParticipantId, ops: &[WaveletOp]) -> Bytes {
    let target = HashedVersion {
        version: at,
        hash: HistoryHash::default(),
    };
    Delta {
        target,
        author: author.clone(),
        ops: ops.to_vec(),
        address_path: Vec::new(),
    }
    .encode()
}

/// What makes a record part of the history that other servers see.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal {
    /// Where the delta was applied, with the hash.
    pub applied_at: HashedVersion,
    /// The hashed version after it.
    pub resulting: HashedVersion,
    /// The applied delta; its bytes are what the hash covers and what travels.
    pub applied: Encoded<AppliedDelta>,
}

impl Seal {
    /// The seal of an applied delta at the hashed version where it was applied.
    #[must_use]
    pub fn new(applied_at: HashedVersion, applied: Encoded<AppliedDelta>) -> Self {
        let resulting = applied_at.next(applied.bytes(), u64::from(applied.operations_applied));
        Self {
            applied_at,
            resulting,
            applied,
        }
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Seal({} → {}, {} bytes)",
            self.applied_at,
            self.resulting,
            self.applied.bytes().len()
        )
    }
}

/// A record as it comes back from the store, with its seal if it has one.
#[derive(Debug, Clone)]
pub struct StoredRecord {
    /// The record.
    pub record: Arc<Record>,
    /// Its seal. On a remote wavelet every record has one.
    pub seal: Option<Arc<Seal>>,
}

/// Why stored records do not make a wavelet. Only a damaged store, or a driver that loads too little, gives this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The snapshot's bytes do not read.
    #[error("the snapshot is damaged: {0}")]
    Snapshot(String),
    /// The records do not follow one another, or leave a gap to the snapshot.
    #[error("expected the record at version {expected}, got the one at {given}")]
    Gap {
        /// The version that was needed.
        expected: Version,
        /// The version that came.
        given: Version,
    },
    /// A record does not apply.
    #[error("the record at version {at} does not apply: {reason}")]
    Record {
        /// Its version.
        at: Version,
        /// Why.
        reason: String,
    },
    /// A seal does not continue the chain of hashes, or a sealed record follows an unsealed one.
    #[error("the seal at version {at} does not continue the history")]
    Seal {
        /// Its version.
        at: Version,
    },
}
