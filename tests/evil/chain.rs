//! The history of a wavelet as a host has it: deltas signed, applied and hashed, rightly or wrongly.

use std::time::{SystemTime, UNIX_EPOCH};

use billow_model::conversation::blip_of_text;
use billow_model::{Delta, DocumentId, HashedVersion, ParticipantId, Timestamp, WaveletName, WaveletOp};
use billow_signing::Signer;
use billow_wire::{AppliedDelta, Encoded, SignedDelta};

/// A history, from version 0 on.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) name: WaveletName,
    pub(crate) head: HashedVersion,
    pub(crate) deltas: Vec<Encoded<AppliedDelta>>,
}

impl Chain {
    pub(crate) fn new(name: WaveletName) -> Self {
        Self {
            head: HashedVersion::zero(&name),
            name,
            deltas: Vec::new(),
        }
    }

    /// A delta of somebody's at the head, signed.
    pub(crate) fn sign(&self, signer: &Signer, author: &str, ops: Vec<WaveletOp>) -> Encoded<SignedDelta> {
        sign_at(signer, &self.head, author, ops)
    }

    /// What an honest host makes of a delta at the head.
    pub(crate) fn applied(&self, signed: Encoded<SignedDelta>) -> AppliedDelta {
        AppliedDelta {
            applied_at: (signed.delta.target != self.head).then(|| self.head.clone()),
            operations_applied: u32::try_from(signed.delta.ops.len()).unwrap(),
            timestamp: now(),
            signed,
        }
    }

    /// Applies a delta at the head, as an honest host.
    pub(crate) fn apply(&mut self, signed: Encoded<SignedDelta>) -> Encoded<AppliedDelta> {
        let applied = Encoded::new(self.applied(signed));
        self.push(applied.clone());
        applied
    }

    /// Takes over what a host has applied; what is not next is passed over.
    pub(crate) fn push(&mut self, applied: Encoded<AppliedDelta>) {
        if applied.applied_at() == &self.head {
            self.head = after(&applied);
            self.deltas.push(applied);
        }
    }
}

/// The version after an applied delta.
pub(crate) fn after(applied: &Encoded<AppliedDelta>) -> HashedVersion {
    applied
        .applied_at()
        .next(applied.bytes(), u64::from(applied.operations_applied))
}

/// A delta of somebody's at any version, signed.
pub(crate) fn sign_at(
    signer: &Signer,
    target: &HashedVersion,
    author: &str,
    ops: Vec<WaveletOp>,
) -> Encoded<SignedDelta> {
    signer.sign(Encoded::new(delta(target, author, ops))).unwrap()
}

pub(crate) fn delta(target: &HashedVersion, author: &str, ops: Vec<WaveletOp>) -> Delta {
    Delta {
        target: target.clone(),
        author: who(author),
        ops,
        address_path: Vec::new(),
    }
}

pub(crate) fn who(address: &str) -> ParticipantId {
    address.parse().unwrap()
}

/// A delta's worth: a new document with a text.
pub(crate) fn writes(document: &str, text: &str) -> Vec<WaveletOp> {
    vec![WaveletOp::MutateDocument {
        id: DocumentId::new(document).unwrap(),
        op: blip_of_text(text).unwrap(),
    }]
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}
