//! A wavelet that our server hosts: the machine that orders its deltas.
//!
//! A submission is checked, transformed, applied in memory and handed out to be persisted; several may be under way.
//! Once persisted it is shown and answered; then, in order of version, it is sealed: our users' deltas are signed as they
//! were applied, others keep the bytes they came with. One delta is signed at a time, because each names the hash of the
//! one before. A wavelet that no other domain has ever been on is sealed only when asked to ([`HostedInput::SealNow`])
//! or when [`UNSEALED_MAX`] operations wait.
//!
//! Bounds: [`UNDER_WAY_MAX`] submissions not yet persisted (further ones are refused as unavailable); the recent records
//! kept in memory are bounded, and a submission against an older version is refused as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use billow_model::{Delta, Domain, HashedVersion, ParticipantId, Timestamp, Version, Wavelet, WaveletName, WaveletOp};
use billow_signing::Verified;
use billow_wire::exchange::SubmitResponse;
use billow_wire::{Encoded, SignedDelta};
use bytes::Bytes;

use crate::access::Readers;
use crate::limits::Refusal;
use crate::record::{LoadError, Record, Seal, StoredRecord, Submission};

/// Submissions applied but not yet persisted.
pub const UNDER_WAY_MAX: usize = 1_000;
/// Operations that may wait for their seal on a wavelet that no other domain is on.
pub const UNSEALED_MAX: u64 = 1_000;

/// What a hosted wavelet is told.
#[derive(Debug)]
pub enum HostedInput {
    /// A user of ours submits. The author is who is signed in, never what a message says.
    /// Answered by [`HostedOutput::Answer`] with this ticket.
    Submit {
        /// Names the question in its answer.
        ticket: u64,
        /// The submission's identity.
        submission: Submission,
        /// Who.
        author: ParticipantId,
        /// The shown version that the operations fit; 0 creates the wavelet.
        version: Version,
        /// What.
        ops: Vec<WaveletOp>,
    },
    /// Another server submits for a user of its own. Answered by [`HostedOutput::AnswerRemote`] with this ticket.
    RemoteSubmit {
        /// Names the question in its answer.
        ticket: u64,
        /// The delta, its signatures checked.
        delta: Verified<Encoded<SignedDelta>>,
    },
    /// Everything up to this version that was handed out as [`HostedOutput::Persist`] is on disk.
    Persisted {
        /// The version after the last of these records.
        upto: Version,
    },
    /// A record could not be stored. Everything not yet persisted is answered with [`Refusal::Unavailable`]; the machine
    /// takes no more and is to be dropped and loaded again.
    PersistFailed,
    /// The answer to [`HostedOutput::Sign`].
    Signed {
        /// The very delta that was handed out, signed.
        delta: Encoded<SignedDelta>,
    },
    /// Everything up to this version that was handed out as [`HostedOutput::PersistSeal`] is on disk.
    SealPersisted {
        /// The version after the last of these seals.
        upto: Version,
    },
    /// The domains now known to run a server that takes no text beyond U+FFFF.
    LegacyDomains(BTreeSet<Domain>),
    /// Seal everything that is persisted, even if nobody else needs it yet.
    SealNow,
}

/// What a hosted wavelet wants done, in this order.
#[derive(Debug, Clone)]
pub enum HostedOutput {
    /// Store the record; records come in order of version. Then tell [`HostedInput::Persisted`].
    Persist(Arc<Record>),
    /// Send the delta to every local user who has the wavelet open. Each record once, in order of version.
    Show(Arc<Record>),
    /// The answer to [`HostedInput::Submit`]; for a delta just applied it follows its [`HostedOutput::Show`].
    Answer {
        /// Whose.
        ticket: u64,
        /// What became of it.
        outcome: Result<Applied, Refusal>,
    },
    /// Sign with the key of the author's domain; then tell [`HostedInput::Signed`]. At most one is under way.
    Sign(Encoded<Delta>),
    /// Store the seal beside its record; then tell [`HostedInput::SealPersisted`].
    PersistSeal(Arc<Seal>),
    /// The delta may leave the server now. Each once, in order of version.
    Sealed {
        /// The stored seal.
        seal: Arc<Seal>,
        /// Other domains that must get it: those taking part after it and those it removed (protocol.md §6.2).
        domains: Vec<Domain>,
    },
    /// The answer to [`HostedInput::RemoteSubmit`].
    AnswerRemote {
        /// Whose.
        ticket: u64,
        /// What became of it; for a resend, what became of the original.
        outcome: Result<SubmitResponse, Refusal>,
    },
}

/// A submission that is part of the wavelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Here is its record.
    Record(Arc<Record>),
    /// A resend of a submission applied so long ago that its record is no longer in memory: the store has it at this version.
    Before {
        /// The version before its operations.
        applied_at: Version,
    },
}

/// A wavelet of ours.
#[derive(Debug)]
pub struct HostedWavelet {
    name: WaveletName,
    shown: Wavelet,
    sealed: HashedVersion,
    readers: Readers,
    waiting: BTreeMap<Version, u64>,
}

impl HostedWavelet {
    /// A wavelet without history.
    #[must_use]
    pub fn new(name: WaveletName) -> Self {
        let sealed = HashedVersion::zero(&name);
        Self { shown: Wavelet::new(name.clone()), name, sealed, readers: Readers::default(), waiting: BTreeMap::new() }
    }

    /// A wavelet from the store.
    ///
    /// `snapshot` is what [`HostedWavelet::snapshot`] gave at some time, the later the quicker. `records` are contiguous and
    /// reach to the newest; they begin at or before both the snapshot's version and the first record without a seal, and as
    /// much earlier as clients may want to resume from. Without a snapshot they begin at version 0.
    pub fn load(name: WaveletName, snapshot: Option<&[u8]>, records: Vec<StoredRecord>) -> Result<Self, LoadError> {
        let _ = (name, snapshot, records);
        todo!()
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Timestamp, input: HostedInput) {
        let _ = (now, input);
        todo!()
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<HostedOutput> {
        todo!()
    }

    /// When the machine wants to be told the time: never, its work is only ever started by inputs.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        None
    }

    /// The wavelet as it is persisted and shown.
    #[must_use]
    pub fn wavelet(&self) -> &Wavelet {
        &self.shown
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &WaveletName {
        &self.name
    }

    /// The newest version whose seal is persisted.
    #[must_use]
    pub fn sealed(&self) -> &HashedVersion {
        &self.sealed
    }

    /// Who may read which part of the history.
    #[must_use]
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// The shown records from this version on, if all of them are in memory and it is a boundary between two of them.
    #[must_use]
    pub fn deltas(&self, from: Version) -> Option<Vec<Arc<Record>>> {
        let _ = from;
        todo!()
    }

    /// The persisted seals from this version on, likewise.
    #[must_use]
    pub fn seals(&self, from: Version) -> Option<Vec<Arc<Seal>>> {
        let _ = from;
        todo!()
    }

    /// The persisted state as bytes, for [`HostedWavelet::load`]. Costs as much as the wavelet is large.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        todo!()
    }

    /// Whether a store failure has made this machine useless, so that it must be loaded again.
    #[must_use]
    pub fn failed(&self) -> bool {
        todo!()
    }

    /// Whether nothing is under way: no answer owed, nothing to persist, sign or seal. Only then may it be put away.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}
