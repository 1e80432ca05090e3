//! Deltas: operations by one author against one version of a wavelet.

use crate::doc::DocOp;
use crate::id::DocumentId;
use crate::participant::ParticipantId;
use crate::version::{HashedVersion, Version};

/// Milliseconds since 1970-01-01 UTC, as they go into applied deltas (protocol.md §3, §6.1 step 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// So many milliseconds later; at the end of time there it stays.
    #[must_use]
    pub const fn later(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// One change to a wavelet; each raises the version by one (operations.md §7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaveletOp {
    /// Appends a participant; an error if already present.
    AddParticipant(ParticipantId),
    /// Removes a participant; an error if absent.
    RemoveParticipant(ParticipantId),
    /// Changes nothing but the version.
    NoOp,
    /// Changes one document; an unknown id starts as the empty document.
    MutateDocument {
        /// Which document of the wavelet.
        id: DocumentId,
        /// The change; it must fit the whole document.
        op: DocOp,
    },
}

/// What an author signs: operations against a hashed version (protocol.md §3, `ProtocolWaveletDelta`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The version the author saw.
    pub target: HashedVersion,
    /// Lower-cased address of the author.
    pub author: ParticipantId,
    /// At least one for a delta that is to be applied.
    pub ops: Vec<WaveletOp>,
    /// Further signing domains (protocol.md §4.3); empty from every known server.
    pub address_path: Vec<ParticipantId>,
}

/// A delta as it was applied: the operations fit the wavelet at `applied_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformedDelta {
    /// Who did it.
    pub author: ParticipantId,
    /// The version before the first operation.
    pub applied_at: Version,
    /// The operations after transformation; as many as in the signed delta.
    pub ops: Vec<WaveletOp>,
    /// When the host applied it.
    pub timestamp: Timestamp,
}

impl TransformedDelta {
    /// The version after the last operation.
    #[must_use]
    pub fn resulting(&self) -> Version {
        self.applied_at.plus(self.ops.len() as u64)
    }
}
