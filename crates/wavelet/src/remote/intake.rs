//! What the host says: put in order, completed from its history, verified and applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use billow_model::{HashedVersion, Timestamp, Version, WaveletOp, planted};
use billow_signing::Verified;
use billow_wire::exchange::{CommitNotice, WaveletUpdate};
use billow_wire::{AppliedDelta, Encoded, SignedDelta, SignerId};

use super::{
    Contradiction, HISTORY_BYTES, HistoryFailure, HostState, PENDING_MAX, RemoteOutput, RemoteWavelet, Standing,
    UpdateRefusal, Verification,
};
use crate::backoff::{Backoff, HISTORY_MS};
use crate::log::Carrying;
use crate::pace::{Pace, REMOTE_MS};
use crate::placement::{Replayed, carry_through, replay};
use crate::record::{Origin, Seal, StoredRecord};

/// Updates that wait to be receipted; of more, the oldest are forgotten and the host sends them again.
const UPDATES_MAX: usize = 256;
/// Bytes of deltas that may wait in order, one after the other from where we are; what is beyond waits like deltas ahead
/// of a gap.
const IN_ORDER_BYTES: usize = 4 * 1024 * 1024;
/// Versions are kept in doubles by some peers.
const VERSION_MAX: u64 = 1 << 52;
/// After this long without an answer a request is taken for lost, ms. The driver has shorter timeouts of its own.
const REQUEST_MS: i64 = 60_000;
/// Digests of versions that we are not at yet; of more, the ones farthest behind are forgotten.
const DIGESTS_MAX: usize = 8;
/// How long the effect of a submission may lag behind its answer before history is asked for it, ms.
const ECHO_MS: i64 = 1_000;

#[derive(Debug)]
pub(super) struct Intake {
    /// By the version they are applied at.
    pending: BTreeMap<Version, Pending>,
    updates: Vec<Update>,
    /// Whether a verified delta has added a user of ours.
    admitted: bool,
    checks: u64,
    checking: Option<(u64, Version)>,
    fetching: Option<Fetching>,
    /// The signer fetched last, so that one who stays unknown all the same is not fetched for ever.
    fetched: Option<SignerId>,
    loading_older: bool,
    requests: u64,
    request: Option<Request>,
    /// The newest version the host is known to have, and when to ask for it if it has not come.
    ahead: Option<(HashedVersion, Timestamp)>,
    /// No request for history before then.
    stalled: Option<Stall>,
    backoff: Backoff,
    /// The host's digests of the documents at versions that we are not at yet.
    digests: BTreeMap<Version, [u8; 32]>,
    pace: Pace,
}

#[derive(Debug)]
struct Pending {
    applied: Encoded<AppliedDelta>,
    verified: Option<Verified<Encoded<SignedDelta>>>,
    /// How far its operations have come through records that are no longer in memory.
    carrying: Option<Carrying>,
    /// The update it came in; `None` for history.
    tag: Option<u64>,
}

/// An update whose receipt is owed once this version is durable.
#[derive(Debug)]
struct Update {
    tag: u64,
    needs: Version,
}

/// A request for history that is under way.
#[derive(Debug)]
struct Request {
    number: u64,
    since: Timestamp,
    from: Version,
}

#[derive(Debug)]
struct Fetching {
    id: SignerId,
    delta: Version,
    since: Timestamp,
}

#[derive(Debug)]
struct Stall {
    until: Timestamp,
    /// Whether a word from the host makes another try worth while: it was not reachable.
    silent: bool,
}

impl Intake {
    pub(super) fn new(admitted: bool, seed: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            updates: Vec::new(),
            admitted: admitted || planted::is("a stranger's wavelet is taken in"),
            checks: 0,
            checking: None,
            fetching: None,
            fetched: None,
            loading_older: false,
            requests: 0,
            request: None,
            ahead: None,
            stalled: None,
            backoff: Backoff::new(HISTORY_MS, seed),
            digests: BTreeMap::new(),
            pace: Pace::new(REMOTE_MS),
        }
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admitted
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.updates.is_empty() && self.ahead.is_none() && self.request.is_none()
    }
}

impl RemoteWavelet {
    pub(super) fn update(&mut self, now: Timestamp, tag: u64, update: WaveletUpdate) {
        let WaveletUpdate { deltas, commit, .. } = update;
        let refusal = if self.failed {
            Some(UpdateRefusal::Unavailable)
        } else if self.is_quarantined() {
            Some(UpdateRefusal::Quarantined)
        } else if self.log.head().name().wavelet().is_user_data() {
            Some(UpdateRefusal::UserData)
        } else if deltas.iter().any(|delta| delta.resulting().number() > VERSION_MAX) {
            Some(UpdateRefusal::Contradiction("a version beyond 2^52".to_owned()))
        } else if deltas.iter().any(|delta| delta.operations_applied == 0) {
            // Its version would be durable before it is verified.
            Some(UpdateRefusal::Contradiction("a delta without operations".to_owned()))
        } else if contradicts_itself(&deltas, commit.as_ref()) {
            let reason = "what it commits is not where its deltas lead".to_owned();
            Some(UpdateRefusal::Contradiction(reason))
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.outputs.push_back(RemoteOutput::Refuse { tag, reason });
            return;
        }
        self.host_spoke(now);
        let needs = deltas
            .iter()
            .map(|delta| delta.resulting())
            .max()
            .unwrap_or(Version::ZERO);
        self.intake.updates.push(Update { tag, needs });
        if self.intake.updates.len() > UPDATES_MAX {
            // Whoever sent it waits for an answer.
            let Update { tag, .. } = self.intake.updates.remove(0);
            let reason = UpdateRefusal::TooManyPending;
            self.outputs.push_back(RemoteOutput::Refuse { tag, reason });
        }
        for applied in deltas {
            self.keep(applied, Some(tag));
        }
        self.drop_farthest();
        if let Some(commit) = commit {
            self.committed(now, commit);
        }
        self.proceed(now);
        self.send_receipts();
    }

    pub(super) fn history(
        &mut self,
        now: Timestamp,
        request: u64,
        mut outcome: Result<Vec<Encoded<AppliedDelta>>, HistoryFailure>,
    ) {
        if planted::is("the last delta of a history is left out")
            && let Ok(deltas) = &mut outcome
        {
            deltas.pop();
        }
        let Some(asked) = self.intake.request.take_if(|asked| asked.number == request) else {
            return;
        };
        if self.is_quarantined() || self.failed {
            return;
        }
        match outcome {
            Ok(deltas) if deltas.iter().any(|delta| delta.applied_at().version == asked.from) => {
                deltas.into_iter().for_each(|applied| self.keep(applied, None));
                self.fetch_next_page(now);
            }
            // protocol.md T3: an answer without progress must not make us ask again at once.
            Ok(_) => {
                let until = self.stall(now, false);
                self.host_withholds(now, until, "its answer holds nothing of what is missing");
            }
            Err(HistoryFailure::Refused(reason)) => {
                let until = self.stall(now, false);
                self.host_withholds(now, until, &reason);
            }
            Err(HistoryFailure::NotNow(reason)) => {
                let until = self.stall(now, true);
                self.host_silent(now, until, &reason);
            }
        }
        self.proceed(now);
    }

    /// No history for now. If the host was `silent`, a word from it ends the pause.
    fn stall(&mut self, now: Timestamp, silent: bool) -> Timestamp {
        let until = self.intake.backoff.failed(now);
        self.intake.stalled = Some(Stall { until, silent });
        until
    }

    /// Asks for what follows a page before that is worked through, so that the host reads the one while we verify the other.
    fn fetch_next_page(&mut self, now: Timestamp) {
        let Some((ahead, _)) = self.intake.ahead.clone() else {
            return;
        };
        if let Some(end) = self.end_in_order().filter(|end| end.version < ahead.version) {
            self.fetch_history_from(now, end, ahead);
        }
    }

    /// Where the deltas lead that continue what we have, unless so much waits already that no more should come.
    fn end_in_order(&self) -> Option<HashedVersion> {
        let (mut next, mut bytes, mut last) = (self.log.head().version(), 0, None);
        for (version, pending) in self.intake.pending.range(next..) {
            if *version != next {
                break;
            }
            next = pending.applied.resulting();
            bytes += pending.applied.bytes().len();
            last = Some(&pending.applied);
        }
        last.filter(|_| bytes < IN_ORDER_BYTES / 2).map(resulting)
    }

    pub(super) fn verified(&mut self, now: Timestamp, check: u64, outcome: Verification) {
        let Some((_, version)) = self.intake.checking.take_if(|(current, _)| *current == check) else {
            return;
        };
        match outcome {
            Verification::Good(signed) => {
                if let Some(pending) = self.intake.pending.get_mut(&version)
                    && pending.applied.signed.bytes() == signed.bytes()
                {
                    pending.verified = Some(signed);
                    self.intake.admitted = true;
                }
            }
            Verification::UnknownSigner(id) => self.fetch_signer(now, id, version),
            Verification::Bad(reason) => self.drop_pending(now, version, &UpdateRefusal::BadSignature(reason)),
        }
        self.proceed(now);
    }

    pub(super) fn signer_fetched(&mut self, now: Timestamp, id: &SignerId, outcome: Result<(), String>) {
        let Some(fetching) = self.intake.fetching.take_if(|fetching| fetching.id == *id) else {
            return;
        };
        match outcome {
            Ok(()) => self.intake.fetched = Some(fetching.id),
            Err(reason) => self.signer_unknown(now, fetching.delta, reason),
        }
        self.proceed(now);
    }

    pub(super) fn older(&mut self, now: Timestamp, records: Vec<StoredRecord>) {
        if !std::mem::take(&mut self.intake.loading_older) {
            return;
        }
        let contiguous = records
            .windows(2)
            .all(|pair| pair[0].record.resulting() == pair[1].record.applied_at());
        let head = self.log.head().version();
        if records.is_empty() || !contiguous {
            // Our own store has a hole. Nothing can be said about the host; loading again will say what is wrong.
            self.fail();
        } else if let Some(pending) = self.intake.pending.get_mut(&head)
            && let Some(signed) = &pending.verified
        {
            match carry_through(signed.get(), pending.carrying.take(), &records) {
                Ok(carrying) => pending.carrying = Some(carrying),
                Err(contradiction) => {
                    let applied = pending.applied.bytes().clone();
                    self.contradicted(now, contradiction, applied);
                }
            }
        }
        self.proceed(now);
    }

    pub(super) fn host_spoke_to_intake(&mut self, now: Timestamp) {
        if self.intake.stalled.take_if(|stall| stall.silent).is_some() {
            self.proceed(now);
        }
    }

    pub(super) fn tick_intake(&mut self, now: Timestamp) {
        let late = |since: Timestamp| now.0.saturating_sub(since.0) >= REQUEST_MS;
        let lost = self.intake.request.as_ref().filter(|asked| late(asked.since));
        if let Some(request) = lost.map(|asked| asked.number) {
            let silence = "no answer to a request for history".to_owned();
            self.history(now, request, Err(HistoryFailure::NotNow(silence)));
        }
        if let Some(id) = self
            .intake
            .fetching
            .as_ref()
            .filter(|fetching| late(fetching.since))
            .map(|fetching| fetching.id.clone())
        {
            self.signer_fetched(now, &id, Err("no answer to a request for a signer".to_owned()));
        }
        self.proceed(now);
    }

    pub(super) fn intake_deadline(&self) -> Option<Timestamp> {
        let after = |since: Timestamp| since.later(REQUEST_MS);
        if let Some(fetching) = &self.intake.fetching {
            return Some(after(fetching.since));
        }
        if let Some(asked) = &self.intake.request {
            return Some(after(asked.since));
        }
        if self.intake.loading_older || self.intake.checking.is_some() {
            return None;
        }
        let gap = self.intake.admitted && !self.intake.pending.is_empty();
        let ahead = self
            .intake
            .ahead
            .as_ref()
            .filter(|_| self.intake.admitted)
            .map(|(_, from)| *from);
        let from = if gap { Some(Timestamp(0)) } else { ahead }?;
        Some(self.intake.stalled.as_ref().map_or(from, |stall| stall.until.max(from)))
    }

    /// Whether this is the request for history that is under way.
    pub(super) fn has_asked(&self, request: u64) -> bool {
        self.intake
            .request
            .as_ref()
            .is_some_and(|asked| asked.number == request)
    }

    /// The newest version that the host says it has.
    pub(super) fn newest_known(&self) -> Version {
        let ahead = self.intake.ahead.as_ref().map(|(ahead, _)| ahead.version);
        let pending = self.intake.pending.values().map(|pending| pending.applied.resulting());
        ahead
            .into_iter()
            .chain(pending)
            .max()
            .unwrap_or_else(|| self.log.head().version())
    }

    /// From now on questions have other numbers than those of another machine.
    pub(super) fn number_after(&mut self, other: &Self) {
        self.intake.checks = self.intake.checks.max(other.intake.checks);
        self.intake.requests = self.intake.requests.max(other.intake.requests);
    }

    /// Waits for no answer any more.
    pub(super) fn forget_requests(&mut self) {
        self.intake.pending.clear();
        self.intake.checking = None;
        self.intake.fetching = None;
        self.intake.fetched = None;
        self.intake.loading_older = false;
        self.intake.request = None;
        self.intake.stalled = None;
        self.intake.digests.clear();
    }

    /// A copy that users of ours are known to take part in: the host has this version, which is asked for.
    pub(super) fn expect(&mut self, now: Timestamp, version: HashedVersion) {
        self.intake.admitted = true;
        self.look_ahead(version, now);
        self.proceed(now);
    }

    /// Goes on after the history was fetched again: with what the host has said meanwhile, and with what our users have.
    pub(super) fn resume_after_refetch(&mut self, now: Timestamp) {
        self.proceed(now);
        self.send_receipts();
        self.resume_outbox(now);
    }

    /// Takes note of a version that the host must have, because it has answered so.
    pub(super) fn expect_echo(&mut self, now: Timestamp, resulting: HashedVersion) {
        self.look_ahead(resulting, now.later(ECHO_MS));
    }

    pub(super) fn send_receipts(&mut self) {
        let shown = if planted::is("a receipt goes before the disk has it") {
            self.log.head().version()
        } else {
            self.log.shown().version()
        };
        let outputs = &mut self.outputs;
        self.intake.updates.retain(|update| {
            if update.needs <= shown {
                outputs.push_back(RemoteOutput::Receipt { tag: update.tag });
            }
            update.needs > shown
        });
    }

    /// Refuses all updates that are not yet receipted, and forgets what they brought.
    pub(super) fn refuse_updates(&mut self, reason: &UpdateRefusal) {
        self.intake.pending.clear();
        self.intake.checking = None;
        for update in std::mem::take(&mut self.intake.updates) {
            self.outputs.push_back(RemoteOutput::Refuse {
                tag: update.tag,
                reason: reason.clone(),
            });
        }
    }

    fn keep(&mut self, applied: Encoded<AppliedDelta>, tag: Option<u64>) {
        let version = applied.applied_at().version;
        if version >= self.log.head().version() {
            self.intake.pending.entry(version).or_insert(Pending {
                applied,
                verified: None,
                carrying: None,
                tag,
            });
        }
    }

    /// Drops the deltas farthest ahead of the gap; the history will bring them again.
    fn drop_farthest(&mut self) {
        let Some(first) = self.first_ahead() else { return };
        loop {
            let ahead = self.intake.pending.range(first..);
            let mut ahead = ahead.filter_map(|(version, pending)| Some((*version, pending.tag?)));
            if ahead.clone().count() <= PENDING_MAX {
                return;
            }
            let Some((version, tag)) = ahead.next_back() else {
                return;
            };
            self.intake.pending.remove(&version);
            self.refuse_update(Some(tag), &UpdateRefusal::TooManyPending);
        }
    }

    /// The first delta that does not continue what we have and what waits before it, or for which there is no room.
    fn first_ahead(&self) -> Option<Version> {
        let head = self.log.head().version();
        let (mut next, mut room) = (head, IN_ORDER_BYTES);
        let in_order = |(version, pending): &(&Version, &Pending)| {
            let bytes = pending.applied.bytes().len();
            let fits = **version == next && bytes <= room;
            room = room.saturating_sub(bytes);
            next = pending.applied.resulting();
            fits
        };
        let mut waiting = self.intake.pending.range(head..).skip_while(in_order);
        waiting.next().map(|(version, _)| *version)
    }

    fn refuse_update(&mut self, tag: Option<u64>, reason: &UpdateRefusal) {
        let outputs = &mut self.outputs;
        self.intake.updates.retain(|update| {
            let refused = Some(update.tag) == tag;
            if refused {
                outputs.push_back(RemoteOutput::Refuse {
                    tag: update.tag,
                    reason: reason.clone(),
                });
            }
            !refused
        });
    }

    fn committed(&mut self, now: Timestamp, commit: CommitNotice) {
        let CommitNotice { version, hash, digest } = commit;
        // What is being fetched again is not held against anybody.
        let ours = self.log.hash(version).filter(|_| self.refetch.is_none()).cloned();
        if let Some((ours, theirs)) = ours.zip(hash.clone()).filter(|(ours, theirs)| ours != theirs) {
            let at = |hash| HashedVersion { version, hash };
            let (ours, theirs) = (at(ours), at(theirs));
            return self.contradicted(now, Contradiction::Committed { ours, theirs }, bytes::Bytes::new());
        }
        if let Some(digest) = digest.filter(|_| version.number() <= VERSION_MAX && version >= self.log.head().version())
        {
            self.intake.digests.insert(version, digest);
            if self.intake.digests.len() > DIGESTS_MAX {
                self.intake.digests.pop_first();
            }
        }
        self.compare_documents(now);
        if let Some(hash) = hash.filter(|_| version.number() <= VERSION_MAX) {
            self.look_ahead(HashedVersion { version, hash }, now);
        }
    }

    /// Compares our documents with the host's, if it has told the digest of those at this very version. The history hash
    /// covers what was signed, not what became of it (hardening.md §0.2).
    fn compare_documents(&mut self, now: Timestamp) {
        let version = self.log.head().version();
        if self.is_quarantined() || self.refetch.is_some() {
            return;
        }
        self.intake.digests = self.intake.digests.split_off(&version);
        let Some(theirs) = self.intake.digests.remove(&version) else {
            return;
        };
        let Some(ours) = self.intake.pace.digest(now, self.log.head()) else {
            return;
        };
        if ours != theirs {
            let differ = Contradiction::Documents { version, ours, theirs };
            self.contradicted(now, differ, bytes::Bytes::new());
        } else if matches!(self.standing, Standing::Refetched(_) | Standing::Dropped(_)) {
            self.set_standing(Standing::Following);
        }
    }

    fn look_ahead(&mut self, version: HashedVersion, from: Timestamp) {
        let known = self
            .intake
            .ahead
            .as_ref()
            .map_or(self.log.head().version(), |(ahead, _)| ahead.version);
        if version.version > known {
            self.intake.ahead = Some((version, from));
        }
    }

    /// Goes on until something must be waited for.
    fn proceed(&mut self, now: Timestamp) {
        while !self.is_quarantined()
            && self.refetch.is_none()
            && !self.failed
            && self.intake.checking.is_none()
            && self.intake.fetching.is_none()
            && !self.intake.loading_older
        {
            let head = self.log.head().version();
            while let Some(known) = self.intake.pending.first_entry().filter(|first| *first.key() < head) {
                known.remove();
            }
            self.intake.ahead.take_if(|(ahead, _)| ahead.version <= head);
            if !self.intake.admitted {
                self.check_admission(now);
                return;
            }
            let Some((&version, first)) = self.intake.pending.first_key_value() else {
                if let Some((ahead, from)) = self.intake.ahead.clone()
                    && from <= now
                {
                    self.fetch_history(now, ahead);
                }
                return;
            };
            if version > head {
                let to = first.applied.applied_at().clone();
                self.fetch_history(now, to);
                return;
            }
            if first.verified.is_some() {
                self.apply(now, version);
            } else {
                self.verify(now, version);
            }
        }
    }

    /// A wavelet is taken in only for a verified delta that adds a user of ours (hardening.md R-10).
    fn check_admission(&mut self, now: Timestamp) {
        let adds_ours =
            |op: &WaveletOp| matches!(op, WaveletOp::AddParticipant(who) if self.local.contains(&who.domain()));
        let invitation = self
            .intake
            .pending
            .iter()
            .find(|(_, pending)| pending.applied.signed.delta.ops.iter().any(adds_ours));
        match invitation.map(|(version, _)| *version) {
            Some(version) => self.verify(now, version),
            None => {
                self.intake.ahead = None;
                self.refuse_updates(&UpdateRefusal::NoLocalParticipant);
            }
        }
    }

    fn verify(&mut self, now: Timestamp, version: Version) {
        let Some(pending) = self.intake.pending.get(&version) else {
            return;
        };
        self.intake.checks += 1;
        let check = self.intake.checks;
        self.intake.checking = Some((check, version));
        let at = pending.applied.timestamp.min(now);
        self.outputs.push_back(RemoteOutput::Verify {
            check,
            delta: pending.applied.signed.clone(),
            at,
        });
    }

    fn fetch_signer(&mut self, now: Timestamp, id: SignerId, version: Version) {
        if self.intake.fetched.take_if(|fetched| *fetched == id).is_some() {
            self.signer_unknown(now, version, "its chain does not help".to_owned());
            return;
        }
        let Some(pending) = self.intake.pending.get(&version) else {
            return;
        };
        let at = resulting(&pending.applied);
        let time = pending.applied.timestamp.min(now);
        self.intake.fetching = Some(Fetching {
            id: id.clone(),
            delta: version,
            since: now,
        });
        self.outputs.push_back(RemoteOutput::FetchSigner { id, at, time });
    }

    /// The delta is let go, and asked for again later.
    fn signer_unknown(&mut self, now: Timestamp, version: Version, reason: String) {
        if let Some(pending) = self.intake.pending.get(&version).filter(|_| self.intake.admitted) {
            let at = resulting(&pending.applied);
            self.look_ahead(at, now);
        }
        if self.intake.admitted {
            self.drop_pending(now, version, &UpdateRefusal::UnknownSigner(reason));
        } else {
            // Without the invitation the others are nothing. They are not refused for good: it may be known the next time.
            self.refuse_updates(
                &if planted::is("an invitation whose chain is late is refused for good") {
                    UpdateRefusal::NoLocalParticipant
                } else {
                    UpdateRefusal::UnknownSigner(reason)
                },
            );
        }
        self.stall(now, false);
    }

    fn drop_pending(&mut self, now: Timestamp, version: Version, reason: &UpdateRefusal) {
        let Some(pending) = self.intake.pending.remove(&version) else {
            return;
        };
        match pending.tag {
            Some(tag) => self.refuse_update(Some(tag), reason),
            None => {
                // What came with it is asked for again with it.
                self.intake.pending.retain(|_, pending| pending.tag.is_some());
                let until = self.stall(now, false);
                self.host_withholds(now, until, &reason.to_string());
            }
        }
    }

    fn fetch_history(&mut self, now: Timestamp, to: HashedVersion) {
        if planted::is("a gap is not fetched") {
            return;
        }
        let from = self
            .log
            .hashed_head()
            .expect("every record of a replica has its seal")
            .clone();
        self.fetch_history_from(now, from, to);
    }

    fn fetch_history_from(&mut self, now: Timestamp, from: HashedVersion, to: HashedVersion) {
        let stalled = self.intake.stalled.as_ref().is_some_and(|stall| stall.until > now);
        if self.intake.request.is_some() || stalled {
            return;
        }
        self.look_ahead(to.clone(), now);
        self.intake.stalled = None;
        self.intake.requests += 1;
        let request = self.intake.requests;
        self.intake.request = Some(Request {
            number: request,
            since: now,
            from: from.version,
        });
        self.outputs.push_back(RemoteOutput::FetchHistory {
            request,
            from,
            to,
            limit: HISTORY_BYTES,
        });
    }

    /// Applies the verified delta that is next in the history.
    fn apply(&mut self, now: Timestamp, version: Version) {
        let Some(Pending {
            applied,
            verified: Some(signed),
            carrying,
            tag,
        }) = self.intake.pending.remove(&version)
        else {
            return;
        };
        let delta = match replay(now, &self.log, &applied, signed.get(), carrying.clone()) {
            Ok(Replayed::Delta(delta)) => delta,
            Ok(Replayed::NeedsOlder(from)) => {
                self.intake.loading_older = true;
                self.outputs.push_back(RemoteOutput::LoadOlder {
                    from,
                    to: self.log.base(),
                });
                self.intake.pending.insert(
                    version,
                    Pending {
                        applied,
                        verified: Some(signed),
                        carrying,
                        tag,
                    },
                );
                return;
            }
            Err(contradiction) => return self.contradicted(now, contradiction, applied.bytes().clone()),
        };
        let own = self.outbox.recognise(signed.get());
        let origin = own.clone().map_or_else(
            || Origin::Remote {
                signed: signed.get().bytes().clone(),
            },
            Origin::Local,
        );
        let record = match self.log.apply(delta, origin) {
            Ok(record) => record,
            Err(error) => {
                let contradiction = Contradiction::DoesNotApply(error.to_string());
                return self.contradicted(now, contradiction, applied.bytes().clone());
            }
        };
        let seal = Arc::new(Seal::new(self.log.chain().clone(), applied));
        self.log.seal(seal.clone());
        self.intake.backoff.succeeded();
        self.intake.stalled = None;
        if matches!(self.host_state, HostState::Stale { .. }) {
            self.set_host_state(HostState::Reachable);
        }
        self.outputs.push_back(RemoteOutput::Persist {
            record: record.clone(),
            seal,
            outgoing: own.clone(),
        });
        self.outbox_followed(now, &record, own.is_some());
        self.compare_documents(now);
    }
}

/// Whether one of the deltas leads to the committed version, but with another hash: not all of it can be as the host
/// had it. Nothing else would show that a time was changed, which nobody signs.
fn contradicts_itself(deltas: &[Encoded<AppliedDelta>], commit: Option<&CommitNotice>) -> bool {
    let Some((version, hash)) = commit.and_then(|commit| Some((commit.version, commit.hash.as_ref()?))) else {
        return false;
    };
    let mut there = deltas.iter().map(resulting).filter(|there| there.version == version);
    there.any(|there| there.hash != *hash)
}

/// The hashed version that an applied delta claims to lead to.
fn resulting(applied: &Encoded<AppliedDelta>) -> HashedVersion {
    applied
        .applied_at()
        .next(applied.bytes(), u64::from(applied.operations_applied))
}
