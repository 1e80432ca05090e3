//! Records and seals as the store keeps them.

use std::sync::Arc;

use billow_model::{ParticipantId, WaveletOp};
use billow_store::{StoreError, StoredDelta, StoredSeal, StoredStanding, WaveletWrite};
use billow_wavelet::{Evidence, Origin, Record, Seal, SignedDigest, Standing, StoredRecord, Submission};
use billow_wire::Encoded;

/// The standings as the store names them.
pub(crate) const FOLLOWING: &str = "following";
const REFETCHING: &str = "refetching";
const REFETCHED: &str = "refetched";
pub(crate) const QUARANTINED: &str = "quarantined";
const DROPPED: &str = "dropped";

/// A record and its seal, back from the store.
pub(super) fn record(stored: StoredDelta) -> Result<StoredRecord, StoreError> {
    let damaged =
        |error: &dyn std::fmt::Display| StoreError::Damaged(format!("the delta at {}: {error}", stored.applied_at));
    let seal = stored.seal.as_ref().map(seal).transpose()?;
    let origin = match (&stored.submission, &stored.signed, &seal) {
        (Some(submission), _, _) => Origin::Local(from_stored(submission)),
        (None, Some(signed), _) => Origin::Remote { signed: signed.clone() },
        (None, None, Some(seal)) => Origin::Remote {
            signed: seal.applied.signed.bytes().clone(),
        },
        (None, None, None) => return Err(damaged(&"neither a submission nor signed bytes")),
    };
    let record = Record::decode(stored.ops.clone(), stored.timestamp, origin).map_err(|error| damaged(&error))?;
    if record.applied_at() != stored.applied_at || record.resulting() != stored.resulting {
        return Err(damaged(&"its operations are of other versions"));
    }
    Ok(StoredRecord {
        record: Arc::new(record),
        seal: seal.map(Arc::new),
    })
}

/// A seal, back from the store.
pub(super) fn seal(stored: &StoredSeal) -> Result<Seal, StoreError> {
    let damaged = |error: &dyn std::fmt::Display| {
        StoreError::Damaged(format!("the applied delta at {}: {error}", stored.applied_at))
    };
    let applied: Encoded<billow_wire::AppliedDelta> =
        Encoded::decode(stored.applied.clone()).map_err(|error| damaged(&error))?;
    Ok(Seal {
        applied_at: applied.applied_at().clone(),
        resulting: stored.resulting.clone(),
        applied,
    })
}

/// A standing, back from the store.
pub(super) fn standing(stored: &StoredStanding) -> Result<Standing, StoreError> {
    let evidence = || {
        let evidence = Evidence::decode(&stored.evidence);
        evidence
            .map(Box::new)
            .ok_or_else(|| StoreError::Damaged("what speaks against a copy does not read".to_owned()))
    };
    match stored.state.as_str() {
        FOLLOWING => Ok(Standing::Following),
        REFETCHING => Ok(Standing::Refetching(evidence()?)),
        REFETCHED => Ok(Standing::Refetched(evidence()?)),
        QUARANTINED => Ok(Standing::Quarantined(evidence()?)),
        DROPPED => Ok(Standing::Dropped(evidence()?)),
        other => Err(StoreError::Damaged(format!("a copy cannot be {other:?}"))),
    }
}

pub(super) fn to_stored_standing(standing: &Standing) -> StoredStanding {
    let state = match standing {
        Standing::Following => FOLLOWING,
        Standing::Refetching(_) => REFETCHING,
        Standing::Refetched(_) => REFETCHED,
        Standing::Quarantined(_) => QUARANTINED,
        Standing::Dropped(_) => DROPPED,
    };
    StoredStanding {
        state: state.to_owned(),
        evidence: standing.evidence().map(Evidence::encode).unwrap_or_default(),
    }
}

/// Adds a record, with the participants that it adds and removes.
pub(crate) fn add_record(write: &mut WaveletWrite, record: &Record, seal: Option<&Seal>) {
    let signed = match &record.origin {
        Origin::Remote { signed } => Some(signed.clone()),
        Origin::Local(_) => None,
    };
    for op in &record.delta.ops {
        match op {
            WaveletOp::AddParticipant(who) => note(&mut write.joined, &mut write.left, who),
            WaveletOp::RemoveParticipant(who) => note(&mut write.left, &mut write.joined, who),
            WaveletOp::NoOp | WaveletOp::MutateDocument { .. } => {}
        }
    }
    write.deltas.push(StoredDelta {
        applied_at: record.applied_at(),
        resulting: record.resulting(),
        author: record.delta.author.clone(),
        timestamp: record.delta.timestamp,
        ops: record.encode_ops(),
        submission: record.submission().map(to_stored),
        signed_digest: signed.as_ref().map(|signed| *SignedDigest::of(signed).as_bytes()),
        signed,
        seal: seal.map(stored_seal),
    });
}

/// The last word on somebody counts.
fn note(into: &mut Vec<ParticipantId>, from: &mut Vec<ParticipantId>, who: &ParticipantId) {
    from.retain(|one| one != who);
    into.push(who.clone());
}

pub(super) fn stored_seal(seal: &Seal) -> StoredSeal {
    StoredSeal {
        applied_at: seal.applied_at.version,
        resulting: seal.resulting.clone(),
        applied: seal.applied.bytes().clone(),
    }
}

pub(super) fn to_stored(submission: &Submission) -> billow_store::Submission {
    billow_store::Submission {
        session: submission.session.to_string(),
        sequence: submission.sequence,
    }
}

pub(super) fn from_stored(submission: &billow_store::Submission) -> Submission {
    Submission {
        session: submission.session.as_str().into(),
        sequence: submission.sequence,
    }
}
