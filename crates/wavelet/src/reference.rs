//! What the reference's host and replica do with deltas, so that our machines can be held against its vectors.
//!
//! Not for serving anybody: nothing is verified here, and the host side has the reference's rules where ours are stricter
//! (decisions 7 and 8): it transforms as the reference does even where that is wrong, and takes equal operations of one
//! author for a repetition. Log, transformation, application and seal are those of the real machines.

use std::collections::BTreeSet;
use std::sync::Arc;

use billow_model::{HashedVersion, Timestamp, TransformedDelta, Version, Wavelet, WaveletName, WaveletOp};
use billow_wire::{AppliedDelta, Encoded, SignedDelta};

use crate::access::may_write;
use crate::hosted::seal_of;
use crate::limits::{Refusal, check_size, has_astral_text};
use crate::log::{Carried, CarryError, Carrying, Log, Signed};
use crate::placement::{Replayed, check_target, place_signed, replay};
use crate::record::{Origin, Record, Seal};
use crate::remote::Contradiction;

/// A wavelet hosted as the reference hosts it.
#[derive(Debug)]
pub struct ReferenceHost(Log);

/// What became of a delta at the reference's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Applied, with this record and seal.
    Applied(Arc<Record>, Arc<Seal>),
    /// Taken for a repetition of this one.
    Duplicate(Arc<Record>, Arc<Seal>),
}

impl ReferenceHost {
    /// A wavelet without history.
    #[must_use]
    pub fn new(name: WaveletName) -> Self {
        Self(Log::new(name, Signed::Known))
    }

    /// The wavelet.
    #[must_use]
    pub fn wavelet(&self) -> &Wavelet {
        self.0.head()
    }

    /// Its newest version.
    #[must_use]
    pub fn version(&self) -> &HashedVersion {
        self.0.chain()
    }

    /// What a Billow host would make of the delta: the operations as applied. The wavelet stays as it is.
    pub fn place_like_billow(&self, signed: &Encoded<SignedDelta>) -> Result<Vec<WaveletOp>, Refusal> {
        check_size(&signed.delta.ops, signed.bytes().len())?;
        let ops = place_signed(&self.0, &signed.delta, &BTreeSet::new())?;
        let mut trial = self.0.head().clone();
        let timestamp = trial.last_modified();
        let delta = TransformedDelta {
            author: signed.delta.author.clone(),
            applied_at: trial.version(),
            ops,
            timestamp,
        };
        trial
            .apply(&delta)
            .map_err(|error| Refusal::DoesNotApply(error.to_string()))?;
        Ok(delta.ops)
    }

    /// Submits a delta as the reference's host takes it.
    pub fn submit(&mut self, signed: Encoded<SignedDelta>, now: Timestamp) -> Result<Outcome, Refusal> {
        let delta = signed.delta.value().clone();
        let author = delta.author;
        let participants = self.0.head().participants();
        let empty = self.0.head().version() == Version::ZERO;
        // The reference's hole: with `@host` on the wavelet it lets anybody in, of any domain (protocol.md T16).
        let open = participants
            .iter()
            .any(|one| one.name().is_empty() && one.domain() == *self.0.head().name().host());
        if !empty && !open && !may_write(participants, &author) {
            return Err(Refusal::NotParticipant(author));
        }
        if delta.ops.is_empty() {
            return Err(Refusal::NoOperations);
        }
        if has_astral_text(&delta.ops) {
            return Err(Refusal::LegacyPeer(self.0.head().name().host().clone()));
        }
        check_target(&self.0, &delta.target)?;
        let not_transformed = |error: CarryError| Refusal::DoesNotApply(error.to_string());
        let ops = match self
            .0
            .carry_like_reference(&author, Carrying::new(delta.ops, delta.target.version))
            .map_err(not_transformed)?
        {
            Carried::Ops(ops) => ops,
            Carried::Duplicate(record) => {
                let entry = self.0.entry(record.applied_at()).expect("the record is in the log");
                let seal = entry.seal.clone().expect("every record here is sealed at once");
                return Ok(Outcome::Duplicate(record, seal));
            }
        };
        let transformed = TransformedDelta {
            author,
            applied_at: self.0.head().version(),
            ops,
            timestamp: now,
        };
        let origin = Origin::Remote {
            signed: signed.bytes().clone(),
        };
        let record = self
            .0
            .apply(transformed, origin)
            .map_err(|error| Refusal::DoesNotApply(error.to_string()))?;
        let seal = Arc::new(seal_of(&record, signed, self.0.chain().clone()));
        self.0.seal(seal.clone());
        self.0.persisted(record.resulting());
        Ok(Outcome::Applied(record, seal))
    }
}

/// A replica that is fed applied deltas in order.
#[derive(Debug)]
pub struct ReferenceReplica(Log);

impl ReferenceReplica {
    /// A wavelet without history.
    #[must_use]
    pub fn new(name: WaveletName) -> Self {
        Self(Log::new(name, Signed::Forgotten))
    }

    /// The wavelet.
    #[must_use]
    pub fn wavelet(&self) -> &Wavelet {
        self.0.head()
    }

    /// Its newest version.
    #[must_use]
    pub fn version(&self) -> &HashedVersion {
        self.0.chain()
    }

    /// Applies the next delta, or says what is wrong with it.
    pub fn follow(&mut self, applied: Encoded<AppliedDelta>) -> Result<Arc<Record>, Contradiction> {
        let signed = applied.signed.clone();
        let Replayed::Delta(delta) = replay(Timestamp(i64::MAX), &self.0, &applied, &signed, None)? else {
            return Err(Contradiction::Target {
                target: signed.delta.target.clone(),
            });
        };
        let origin = Origin::Remote {
            signed: signed.bytes().clone(),
        };
        let record = self
            .0
            .apply(delta, origin)
            .map_err(|error| Contradiction::DoesNotApply(error.to_string()))?;
        self.0.seal(Arc::new(Seal::new(self.0.chain().clone(), applied)));
        self.0.persisted(record.resulting());
        Ok(record)
    }
}
