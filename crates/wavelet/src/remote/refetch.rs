//! A second look: after a contradiction the history is fetched again from version 0, into a copy beside the one that
//! people read.
//!
//! If it leads to where ours was, with our hash there and, where the host has sent a digest, with its documents, then it was
//! ours that was wrong, and the new copy takes its place. If it does not, the host contradicts itself, or we and it
//! compute differently: quarantine. So fetching again mends our copy, and never lets a host write history anew.
//!
//! Meanwhile people read the old copy and may write; what they submit waits, and so does what the host goes on to say.
//! Bound: [`REFETCH_BYTES`] of applied deltas, for they wait in memory until all of them take their place in one write.

use std::sync::Arc;

use billow_model::{HashedVersion, Timestamp};
use bytes::Bytes;

use super::evidence::{Contradiction, Evidence, Standing};
use super::{RemoteInput, RemoteOutput, RemoteWavelet};
use crate::record::{Origin, Record, Seal, StoredRecord};

/// Bytes of applied deltas that are fetched again; a longer history is not, and its wavelet is in quarantine at once.
pub const REFETCH_BYTES: usize = 256 * 1024 * 1024;

/// The new copy on its way.
#[derive(Debug)]
pub(super) struct Refetch {
    copy: Box<RemoteWavelet>,
    evidence: Box<Evidence>,
    /// What takes the place of the stored history.
    records: Vec<(Arc<Record>, Arc<Seal>)>,
    bytes: usize,
    /// It is all there, and is being stored.
    replacing: bool,
}

impl RemoteWavelet {
    /// What the host said cannot be true together with our copy: it is fetched again, if it has not been before.
    pub(super) fn contradicted(&mut self, now: Timestamp, contradiction: Contradiction, applied: Bytes) {
        let evidence = Box::new(self.evidence(now, contradiction, applied));
        self.refuse_updates(&super::UpdateRefusal::Contradiction(evidence.contradiction.to_string()));
        match self.standing {
            Standing::Following if self.log.chain().version > billow_model::Version::ZERO => {
                self.outputs.push_back(RemoteOutput::Diverged(evidence.clone()));
                self.set_standing(Standing::Refetching(evidence.clone()));
                self.refetch(now, evidence);
            }
            _ => self.quarantine(evidence),
        }
    }

    fn evidence(&self, now: Timestamp, contradiction: Contradiction, applied: Bytes) -> Evidence {
        let ours = self.log.chain().clone();
        let theirs = match &contradiction {
            Contradiction::AppliedAt { theirs, .. } | Contradiction::Committed { theirs, .. } => Some(theirs.clone()),
            Contradiction::Target { target } => Some(target.clone()),
            _ => None,
        };
        let digests = match contradiction {
            Contradiction::Documents { ours, theirs, .. } => Some((ours, theirs)),
            _ => None,
        };
        let contested = theirs.as_ref().map_or(ours.version, |theirs| theirs.version);
        let seal = self.log.entry_before(contested).and_then(|entry| entry.seal.as_ref());
        Evidence {
            contradiction,
            found: now,
            ours,
            theirs,
            digests,
            kept: seal.map(|seal| seal.applied.bytes().clone()).unwrap_or_default(),
            applied,
        }
    }

    /// Begins to fetch the history again, up to where ours was.
    pub(super) fn refetch(&mut self, now: Timestamp, evidence: Box<Evidence>) {
        self.forget_requests();
        let mut copy = Self::new(self.name.clone(), self.local.clone(), self.seed.rotate_left(7));
        copy.standing = Standing::Refetched(evidence.clone());
        copy.number_after(self);
        copy.expect(now, evidence.ours.clone());
        self.refetch = Some(Refetch {
            copy: Box::new(copy),
            evidence,
            records: Vec::new(),
            bytes: 0,
            replacing: false,
        });
        self.take_from_copy(now);
    }

    /// Tells the new copy what only it has asked for.
    pub(super) fn tell_copy(&mut self, now: Timestamp, input: RemoteInput) {
        if let Some(refetch) = self.refetch.as_mut().filter(|refetch| !refetch.replacing) {
            refetch.copy.handle(now, input);
            self.take_from_copy(now);
        }
    }

    pub(super) fn refetch_deadline(&self) -> Option<Timestamp> {
        let refetch = self.refetch.as_ref().filter(|refetch| !refetch.replacing)?;
        refetch.copy.deadline()
    }

    /// Passes on what the new copy wants, and keeps what it has got.
    fn take_from_copy(&mut self, now: Timestamp) {
        while let Some(refetch) = self.refetch.as_mut().filter(|refetch| !refetch.replacing)
            && let Some(output) = refetch.copy.poll()
        {
            match output {
                RemoteOutput::Persist { record, seal, .. } => self.take_record(now, &record, seal),
                RemoteOutput::Quarantined(second) => {
                    let first = refetch.evidence.clone();
                    self.give_up_refetch(*first, second.contradiction, second.applied);
                }
                RemoteOutput::HostState(state) => self.set_host_state(state),
                // The store has the old copy's.
                RemoteOutput::LoadOlder { from, to } => {
                    let older =
                        |(record, _): &&(Arc<Record>, Arc<Seal>)| record.resulting() > from && record.applied_at() < to;
                    let records = refetch.records.iter().filter(older).map(stored).collect();
                    refetch.copy.handle(now, RemoteInput::Older { records });
                }
                RemoteOutput::Verify { .. } | RemoteOutput::FetchSigner { .. } | RemoteOutput::FetchHistory { .. } => {
                    self.outputs.push_back(output);
                }
                // Nobody sees the new copy yet, nobody has told it anything, and it writes nothing of its own.
                RemoteOutput::Show(_)
                | RemoteOutput::Receipt { .. }
                | RemoteOutput::Refuse { .. }
                | RemoteOutput::Answer { .. }
                | RemoteOutput::Sign(_)
                | RemoteOutput::PersistOutgoing(_)
                | RemoteOutput::DropOutgoing(_)
                | RemoteOutput::Submit { .. }
                | RemoteOutput::Diverged(_)
                | RemoteOutput::PersistStanding(_)
                | RemoteOutput::Replace { .. }
                | RemoteOutput::Reset => {}
            }
        }
    }

    fn take_record(&mut self, now: Timestamp, record: &Record, seal: Arc<Seal>) {
        let Some(refetch) = self.refetch.as_mut().filter(|refetch| !refetch.replacing) else {
            return;
        };
        // Whose submission it was is known to ours only; the history up to there must turn out to be the same.
        let own = self.log.entry(record.applied_at()).map(|entry| &entry.record);
        let origin = own
            .filter(|own| matches!(own.origin, Origin::Local(_)))
            .map_or_else(|| record.origin.clone(), |own| own.origin.clone());
        let record = Arc::new(Record {
            delta: record.delta.clone(),
            origin,
        });
        let (reached, upto) = (seal.resulting.clone(), record.resulting());
        refetch.bytes = refetch.bytes.saturating_add(seal.applied.bytes().len());
        refetch.records.push((record, seal));
        if refetch.bytes > REFETCH_BYTES {
            let first = refetch.evidence.clone();
            let long = format!("the history is longer than {REFETCH_BYTES} bytes");
            return self.give_up_refetch(*first, Contradiction::Denied(long), Bytes::new());
        }
        refetch.copy.handle(now, RemoteInput::Persisted { upto });
        let target = refetch.evidence.ours.version;
        if upto >= target {
            self.judge(reached);
        }
    }

    /// The new copy is where ours was: which of the two is right?
    fn judge(&mut self, reached: HashedVersion) {
        let Some(refetch) = &mut self.refetch else { return };
        let evidence = refetch.evidence.clone();
        if reached != evidence.ours {
            let last = refetch.records.last().map(|(_, seal)| seal.applied.bytes().clone());
            let contradiction = Contradiction::Committed {
                ours: evidence.ours.clone(),
                theirs: reached,
            };
            return self.give_up_refetch(*evidence, contradiction, last.unwrap_or_default());
        }
        let now_ours = refetch.copy.log.head().digest();
        if let Some((_, theirs)) = evidence.digests.filter(|(_, theirs)| *theirs != now_ours) {
            let contradiction = Contradiction::Documents {
                version: reached.version,
                ours: now_ours,
                theirs,
            };
            return self.give_up_refetch(*evidence, contradiction, Bytes::new());
        }
        refetch.replacing = true;
        let records = std::mem::take(&mut refetch.records);
        self.set_standing(Standing::Refetched(evidence));
        self.outputs.push_back(RemoteOutput::Replace { records });
    }

    /// The new copy is on disk in the place of the old one.
    pub(super) fn replaced(&mut self, now: Timestamp) {
        let Some(refetch) = self.refetch.take_if(|refetch| refetch.replacing) else {
            return;
        };
        let mut copy = *refetch.copy;
        copy.log.adopt(&mut self.log);
        self.number_after(&copy);
        self.log = copy.log;
        self.outputs.push_back(RemoteOutput::Reset);
        self.send_receipts();
        self.resume_after_refetch(now);
    }

    /// Fetching again has not helped.
    fn give_up_refetch(&mut self, first: Evidence, second: Contradiction, applied: Bytes) {
        if let Some(refetch) = self.refetch.take() {
            self.number_after(&refetch.copy);
        }
        let digests = match second {
            Contradiction::Documents { ours, theirs, .. } => Some((ours, theirs)),
            _ => first.digests,
        };
        let theirs = match &second {
            Contradiction::Committed { theirs, .. } | Contradiction::AppliedAt { theirs, .. } => Some(theirs.clone()),
            _ => first.theirs,
        };
        let contradiction = match second {
            second @ (Contradiction::Documents { .. } | Contradiction::Noted(_)) => second,
            // Both are worth knowing.
            second => Contradiction::Noted(format!("{}; fetched again: {second}", first.contradiction)),
        };
        let applied = if applied.is_empty() { first.applied } else { applied };
        self.quarantine(Box::new(Evidence {
            contradiction,
            digests,
            theirs,
            applied,
            ..first
        }));
    }

    /// The host refuses to give again what it has given before.
    pub(super) fn refetch_denied(&mut self, request: u64, reason: String) {
        let asked = |refetch: &&Refetch| !refetch.replacing && refetch.copy.has_asked(request);
        if let Some(refetch) = self.refetch.as_ref().filter(asked) {
            let first = refetch.evidence.clone();
            self.give_up_refetch(*first, Contradiction::Denied(reason), Bytes::new());
        }
    }
}

fn stored((record, seal): &(Arc<Record>, Arc<Seal>)) -> StoredRecord {
    StoredRecord {
        record: record.clone(),
        seal: Some(seal.clone()),
    }
}
