//! What speaks against our copy of a wavelet, or against its host: as it is kept on disk.
//!
//! The form is our own and private to this crate. The signed deltas in it are kept as the bytes that they came in, so that
//! anybody who has their signers' certificates can check them.

use billow_model::{HashedVersion, HistoryHash, Timestamp, Version};
use billow_wire::{AppliedDelta, Encoded, SignerId};
use bytes::Bytes;
use prost::Message;

/// In which way what the host says contradicts our copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The delta is applied at our version with another hash.
    #[error("expected it applied at {ours}, got {theirs}")]
    AppliedAt {
        /// Our hash of that version.
        ours: HashedVersion,
        /// Theirs.
        theirs: HashedVersion,
    },
    /// The author signed a target that is not in our history: the author was shown another one (B-125).
    #[error("its author saw a history that has {target}")]
    Target {
        /// What the author signed.
        target: HashedVersion,
    },
    /// It was made against a version so far back that no host should have taken it.
    #[error("it was made against version {0}, which is too old")]
    TooOld(Version),
    /// The count of operations is wrong.
    #[error("expected {ours} operations, got {theirs}")]
    OperationCount {
        /// What the transformed delta has.
        ours: u64,
        /// What the host says.
        theirs: u64,
    },
    /// The operations do not transform or apply here.
    #[error("it does not apply: {0}")]
    DoesNotApply(String),
    /// The host has committed another history at a version that we have.
    #[error("the host has committed {theirs}, we have {ours}")]
    Committed {
        /// Our hash of that version.
        ours: HashedVersion,
        /// Theirs.
        theirs: HashedVersion,
    },
    /// The same history has led to other documents at the host.
    #[error("the documents differ at version {version}")]
    Documents {
        /// The version.
        version: Version,
        /// The digest of ours.
        ours: [u8; 32],
        /// The digest that the host sent.
        theirs: [u8; 32],
    },
    /// The time cannot be one.
    #[error("{0} ms since 1970 is no time")]
    Timestamp(i64),
    /// The host does not give the history again that it has given before.
    #[error("the host does not give the history again that it gave before: {0}")]
    Denied(String),
    /// One of an earlier time, in its words.
    #[error("{0}")]
    Noted(String),
}

/// What contradicts what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The contradiction.
    pub contradiction: Contradiction,
    /// When it was found.
    pub found: Timestamp,
    /// Where our copy was.
    pub ours: HashedVersion,
    /// What the host, or an author, says instead: a version with its hash.
    pub theirs: Option<HashedVersion>,
    /// The digests of the documents at the version of `ours`: ours, and the host's.
    pub digests: Option<([u8; 32], [u8; 32])>,
    /// The applied delta that leads to the version in question in our history, as the host gave it then; empty where it is no
    /// longer in memory (the store has it).
    pub kept: Bytes,
    /// The applied delta that contradicts it, as the host gave it now; empty where a commit notice does.
    pub applied: Bytes,
}

/// How a copy stands to its host. Kept on disk, so that a restart forgets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It follows the host.
    #[default]
    Following,
    /// The host has contradicted it: the history is fetched again from version 0. It stays readable meanwhile.
    Refetching(Box<Evidence>),
    /// It has been fetched again for this reason, and follows. The next contradiction is the last.
    Refetched(Box<Evidence>),
    /// It takes nothing more, and stays readable.
    Quarantined(Box<Evidence>),
    /// The operator has thrown it away: whatever the host gives is taken, from version 0 on.
    Dropped(Box<Evidence>),
}

impl Evidence {
    /// The kind of contradiction in a word or two: for counters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.contradiction {
            Contradiction::Documents { .. } => "documents differ",
            Contradiction::Target { .. } => "fork",
            Contradiction::AppliedAt { .. } | Contradiction::Committed { .. } => "another history",
            Contradiction::Denied(_) => "history denied",
            Contradiction::OperationCount { .. }
            | Contradiction::DoesNotApply(_)
            | Contradiction::TooOld(_)
            | Contradiction::Timestamp(_)
            | Contradiction::Noted(_) => "contradiction",
        }
    }

    /// Who has signed the contradicting delta, if there is one.
    #[must_use]
    pub fn signers(&self) -> Vec<SignerId> {
        let applied = Encoded::<AppliedDelta>::decode(self.applied.clone());
        applied.map_or_else(
            |_| Vec::new(),
            |applied| {
                let signatures = &applied.signed.signatures;
                signatures.iter().map(|signature| signature.signer.clone()).collect()
            },
        )
    }

    /// As bytes for the store.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (our_digest, their_digest) = self.digests.map_or_else(Default::default, |(ours, theirs)| {
            (Bytes::copy_from_slice(&ours), Bytes::copy_from_slice(&theirs))
        });
        EvidenceMessage {
            words: self.contradiction.to_string(),
            found: self.found.0,
            ours: Some(write_version(&self.ours)),
            theirs: self.theirs.as_ref().map(write_version),
            our_digest,
            their_digest,
            kept: self.kept.clone(),
            applied: self.applied.clone(),
        }
        .encode_to_vec()
        .into()
    }

    /// Reads what [`Evidence::encode`] wrote; the contradiction only in words. `None`: it is something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let message = EvidenceMessage::decode(bytes).ok()?;
        let digest = |bytes: &Bytes| <[u8; 32]>::try_from(bytes.as_ref()).ok();
        Some(Self {
            contradiction: Contradiction::Noted(message.words),
            found: Timestamp(message.found),
            ours: read_version(&message.ours?),
            theirs: message.theirs.as_ref().map(read_version),
            digests: digest(&message.our_digest).zip(digest(&message.their_digest)),
            kept: message.kept,
            applied: message.applied,
        })
    }
}

impl Standing {
    /// The evidence, unless all is well and always was.
    #[must_use]
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::Following => None,
            Self::Refetching(evidence)
            | Self::Refetched(evidence)
            | Self::Quarantined(evidence)
            | Self::Dropped(evidence) => Some(evidence),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct EvidenceMessage {
    #[prost(string, tag = "1")]
    words: String,
    #[prost(int64, tag = "2")]
    found: i64,
    #[prost(message, optional, tag = "3")]
    ours: Option<VersionMessage>,
    #[prost(message, optional, tag = "4")]
    theirs: Option<VersionMessage>,
    #[prost(bytes = "bytes", tag = "5")]
    our_digest: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    their_digest: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    kept: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    applied: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct VersionMessage {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(bytes = "bytes", tag = "2")]
    hash: Bytes,
}

fn write_version(at: &HashedVersion) -> VersionMessage {
    VersionMessage {
        version: at.version.number(),
        hash: Bytes::copy_from_slice(at.hash.as_bytes()),
    }
}

fn read_version(message: &VersionMessage) -> HashedVersion {
    HashedVersion {
        version: Version::new(message.version),
        hash: HistoryHash::from_bytes(&message.hash),
    }
}
