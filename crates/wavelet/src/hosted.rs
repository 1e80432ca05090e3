//! A wavelet that our server hosts: the machine that orders its deltas.
//!
//! A submission is checked, transformed, applied in memory and handed out to be persisted; several may be under way.
//! Once persisted it is shown and answered; then, in order of version, it is sealed: our users' deltas are signed as they
//! were applied, others keep the bytes they came with. One delta is signed at a time, because each names the hash of the
//! one before. A wavelet that no other domain has ever been on is sealed only when asked to ([`HostedInput::SealNow`])
//! or when [`UNSEALED_MAX`] operations wait.
//!
//! Bounds: [`UNDER_WAY_MAX`] submissions not yet persisted (further ones are refused as unavailable); the recent records
//! kept in memory are bounded, and a submission against an older version is refused as unknown;
//! [`REFUSED_MAX`] refusals are remembered, then all are forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use billow_model::{
    Delta, Domain, HashedVersion, ParticipantId, Timestamp, TransformedDelta, Version, Wavelet, WaveletName, WaveletOp,
    planted,
};
use billow_signing::Verified;
use billow_wire::exchange::SubmitResponse;
use billow_wire::{AppliedDelta, DecodeError, Encoded, SignedDelta};
use bytes::Bytes;

use crate::access::Readers;
use crate::limits::{Refusal, check_size};
use crate::log::{Log, Signed, SignedMark};
use crate::pace::{HOST_MS, Pace};
use crate::placement::{place_local, place_signed};
use crate::record::{LoadError, Origin, Record, Seal, SignedDigest, StoredRecord, Submission, encode_ops};

/// Submissions applied but not yet persisted.
pub const UNDER_WAY_MAX: usize = 1_000;
/// Operations that may wait for their seal on a wavelet that no other domain is on.
pub const UNSEALED_MAX: u64 = 1_000;
/// How long after a signature could not be made it is asked for again, ms.
const SIGN_AGAIN_MS: i64 = 10_000;
/// Refused signed deltas that are remembered.
const REFUSED_MAX: usize = 1_000;

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
    /// The other answer to [`HostedOutput::Sign`]: it could not be signed. It is asked for again later.
    SignFailed,
    /// Everything up to this version that was handed out as [`HostedOutput::PersistSeal`] is on disk.
    SealPersisted {
        /// The version after the last of these seals.
        upto: Version,
    },
    /// The domains now known to run a server that takes no text beyond U+FFFF.
    LegacyDomains(BTreeSet<Domain>),
    /// Seal everything that is persisted, even if nobody else needs it yet.
    SealNow,
    /// The deadline has passed.
    Tick,
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
    /// Sign with the key of the author's domain; then tell [`HostedInput::Signed`] or [`HostedInput::SignFailed`]. At most one
    /// is under way.
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
    /// The digest of the documents at a sealed version, for other Billow servers to compare theirs with. Computed about once
    /// a second at most, and always at last when nothing more happens.
    Digest {
        /// The version.
        at: HashedVersion,
        /// [`Wavelet::digest`] there.
        digest: [u8; 32],
        /// Other domains that take part.
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
    log: Log,
    outputs: VecDeque<HostedOutput>,
    /// Tickets of local submissions, by the version their records begin at; answered when persisted.
    owed: BTreeMap<Version, Vec<u64>>,
    /// Tickets of remote submissions, by the version their records result in; answered when the seal is persisted.
    owed_remote: BTreeMap<Version, Vec<u64>>,
    /// The delta that is being signed.
    signing: Option<Encoded<Delta>>,
    /// Seals handed out and not yet persisted, with the domains to be told.
    sealing: VecDeque<(Arc<Seal>, Vec<Domain>)>,
    sealed: HashedVersion,
    /// Seal up to here although no other domain needs it.
    seal_until: Version,
    legacy: BTreeSet<Domain>,
    /// Signed deltas that were refused, and why: a late copy of the same bytes must not be applied after all, when its
    /// author has been told and has submitted something else instead.
    refused: HashMap<SignedDigest, Refusal>,
    /// What could not be signed is tried again then.
    sign_again: Option<Timestamp>,
    /// There is a newer sealed version than the one of the last digest.
    digest_owed: bool,
    pace: Pace,
    failed: bool,
}

impl HostedWavelet {
    /// A wavelet without history.
    #[must_use]
    pub fn new(name: WaveletName) -> Self {
        Self::with_log(Log::new(name, Signed::Known))
    }

    /// A wavelet from the store.
    ///
    /// `snapshot` is what [`HostedWavelet::snapshot`] gave at some time, the later the quicker. `records` are contiguous and
    /// reach to the newest; they begin at or before both the snapshot's version and the first record without a seal, and as
    /// much earlier as clients may want to resume from. Without a snapshot they begin at version 0.
    pub fn load(name: WaveletName, snapshot: Option<&[u8]>, records: Vec<StoredRecord>) -> Result<Self, LoadError> {
        for StoredRecord { record, seal } in &records {
            if let (Origin::Remote { signed }, None) = (&record.origin, seal) {
                let damaged = |error: DecodeError| LoadError::Record {
                    at: record.applied_at(),
                    reason: error.to_string(),
                };
                Encoded::<SignedDelta>::decode(signed.clone()).map_err(damaged)?;
            }
        }
        let mut hosted = Self::with_log(Log::load(name, Signed::Known, snapshot, records)?);
        hosted.seal_on();
        Ok(hosted)
    }

    fn with_log(log: Log) -> Self {
        Self {
            name: log.head().name().clone(),
            sealed: log.chain().clone(),
            log,
            outputs: VecDeque::new(),
            owed: BTreeMap::new(),
            owed_remote: BTreeMap::new(),
            signing: None,
            sealing: VecDeque::new(),
            seal_until: Version::ZERO,
            legacy: BTreeSet::new(),
            refused: HashMap::new(),
            sign_again: None,
            digest_owed: false,
            pace: Pace::new(HOST_MS),
            failed: false,
        }
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Timestamp, input: HostedInput) {
        match input {
            HostedInput::Submit {
                ticket,
                submission,
                author,
                version,
                ops,
            } => match self.submit(now, ticket, submission, author, version, ops) {
                Ok(None) => {}
                Ok(Some(applied)) => self.outputs.push_back(HostedOutput::Answer {
                    ticket,
                    outcome: Ok(applied),
                }),
                Err(refusal) => self.outputs.push_back(HostedOutput::Answer {
                    ticket,
                    outcome: Err(refusal),
                }),
            },
            HostedInput::RemoteSubmit { ticket, delta } => match self.submit_signed(now, ticket, delta.into_inner()) {
                Ok(None) => {}
                Ok(Some(response)) => self.outputs.push_back(HostedOutput::AnswerRemote {
                    ticket,
                    outcome: Ok(response),
                }),
                Err(refusal) => self.outputs.push_back(HostedOutput::AnswerRemote {
                    ticket,
                    outcome: Err(refusal),
                }),
            },
            HostedInput::Persisted { upto } => self.persisted(upto),
            HostedInput::PersistFailed => self.fail(),
            HostedInput::Signed { delta } => self.signed(delta),
            HostedInput::SignFailed => self.sign_failed(now),
            HostedInput::SealPersisted { upto } => {
                self.seal_persisted(upto);
                self.tell_digest(now);
            }
            HostedInput::LegacyDomains(domains) => self.legacy = domains,
            HostedInput::SealNow => {
                self.seal_until = self.log.head().version();
                self.seal_on();
            }
            HostedInput::Tick => {
                if self.sign_again.take_if(|at| *at <= now).is_some() {
                    self.seal_on();
                }
                self.tell_digest(now);
            }
        }
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<HostedOutput> {
        self.outputs.pop_front()
    }

    /// When the machine wants a [`HostedInput::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.failed {
            return None;
        }
        let digest = self.may_tell_digest().then(|| self.pace.next());
        [digest, self.sign_again].into_iter().flatten().min()
    }

    /// The wavelet as it is persisted and shown.
    #[must_use]
    pub fn wavelet(&self) -> &Wavelet {
        self.log.shown()
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
        self.log.readers()
    }

    /// The shown records from this version on, if all of them are in memory and it is a boundary between two of them.
    #[must_use]
    pub fn deltas(&self, from: Version) -> Option<Vec<Arc<Record>>> {
        let shown = self.log.shown().version();
        if from > shown {
            None
        } else {
            self.log.records(from, shown)
        }
    }

    /// The persisted seals from this version on, likewise.
    #[must_use]
    pub fn seals(&self, from: Version) -> Option<Vec<Arc<Seal>>> {
        self.log.seals(from, self.sealed.version)
    }

    /// The persisted state as bytes, for [`HostedWavelet::load`]. Costs as much as the wavelet is large.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        self.log.snapshot(&self.sealed).encode()
    }

    /// Whether transforming operations made against this version to the newest may take long, so that it should hold up nothing else.
    #[must_use]
    pub fn takes_long(&self, version: Version, ops: &[WaveletOp]) -> bool {
        self.log.takes_long(version, ops)
    }

    /// Whether a store failure has made this machine useless, so that it must be loaded again.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Whether nothing is under way: no answer owed, nothing to persist, sign or seal. Only then may it be put away.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty()
            && self.log.under_way() == 0
            && self.owed.is_empty()
            && self.owed_remote.is_empty()
            && self.signing.is_none()
            && self.sealing.is_empty()
    }

    fn submit(
        &mut self,
        now: Timestamp,
        ticket: u64,
        submission: Submission,
        author: ParticipantId,
        version: Version,
        ops: Vec<WaveletOp>,
    ) -> Result<Option<Applied>, Refusal> {
        if self.failed {
            return Err(Refusal::Unavailable);
        }
        if let Some(applied_at) = resent(&self.log, &author, &submission)? {
            return Ok(self.answer_resend(ticket, applied_at));
        }
        if self.log.under_way() >= UNDER_WAY_MAX {
            return Err(Refusal::Unavailable);
        }
        check_size(&ops, encode_ops(version, &author, &ops).len())?;
        let ops = place_local(&self.log, &author, version, ops, &self.legacy)?;
        if planted::is("equal edits are one edit")
            && let Some(twin) = self.log.twin(&author, &ops)
        {
            return Ok(Some(Applied::Record(twin)));
        }
        let record = self.apply(now, author, ops, Origin::Local(submission))?;
        if planted::is("an answer comes before the disk has it") {
            return Ok(Some(Applied::Record(record)));
        }
        self.owed.entry(record.applied_at()).or_default().push(ticket);
        Ok(None)
    }

    fn answer_resend(&mut self, ticket: u64, applied_at: Version) -> Option<Applied> {
        if applied_at >= self.log.shown().version() {
            self.owed.entry(applied_at).or_default().push(ticket);
            return None;
        }
        Some(
            self.log
                .entry(applied_at)
                .map_or(Applied::Before { applied_at }, |entry| {
                    Applied::Record(entry.record.clone())
                }),
        )
    }

    fn submit_signed(
        &mut self,
        now: Timestamp,
        ticket: u64,
        signed: Encoded<SignedDelta>,
    ) -> Result<Option<SubmitResponse>, Refusal> {
        if self.failed {
            return Err(Refusal::Unavailable);
        }
        let digest = SignedDigest::of(signed.bytes());
        if let Some(mark) = self.log.signed(&digest)
            && !planted::is("a signed delta that comes twice counts twice")
        {
            let mark = mark.clone();
            return Ok(self.answer_signed(ticket, mark));
        }
        if let Some(refusal) = self.refused.get(&digest) {
            return Err(refusal.clone());
        }
        if self.log.under_way() >= UNDER_WAY_MAX {
            return Err(Refusal::Unavailable);
        }
        match self.apply_signed(now, &signed) {
            Ok(record) => {
                self.owed_remote.entry(record.resulting()).or_default().push(ticket);
                Ok(None)
            }
            Err(refusal) => {
                if self.refused.len() >= REFUSED_MAX {
                    self.refused.clear();
                }
                self.refused.insert(digest, refusal.clone());
                Err(refusal)
            }
        }
    }

    fn apply_signed(&mut self, now: Timestamp, signed: &Encoded<SignedDelta>) -> Result<Arc<Record>, Refusal> {
        check_size(&signed.delta.ops, signed.bytes().len())?;
        let ops = place_signed(&self.log, &signed.delta, &self.legacy)?;
        let origin = Origin::Remote {
            signed: signed.bytes().clone(),
        };
        self.apply(now, signed.delta.author.clone(), ops, origin)
    }

    /// The same bytes again: the answer is that of the first time, once there is one (protocol.md T21).
    fn answer_signed(&mut self, ticket: u64, mark: SignedMark) -> Option<SubmitResponse> {
        let SignedMark {
            applied_at,
            operations,
            timestamp,
            resulting,
        } = mark;
        match resulting.filter(|resulting| resulting.version <= self.sealed.version) {
            Some(resulting) => Some(SubmitResponse {
                operations_applied: operations,
                resulting,
                timestamp,
            }),
            None => {
                self.owed_remote
                    .entry(applied_at.plus(u64::from(operations)))
                    .or_default()
                    .push(ticket);
                None
            }
        }
    }

    fn apply(
        &mut self,
        now: Timestamp,
        author: ParticipantId,
        ops: Vec<WaveletOp>,
        origin: Origin,
    ) -> Result<Arc<Record>, Refusal> {
        let head = self.log.head();
        let timestamp = now.max(head.last_modified());
        let delta = TransformedDelta {
            author,
            applied_at: head.version(),
            ops,
            timestamp,
        };
        let record = self
            .log
            .apply(delta, origin)
            .map_err(|error| Refusal::DoesNotApply(error.to_string()))?;
        self.outputs.push_back(HostedOutput::Persist(record.clone()));
        if planted::is("a delta is shown before the disk has it") {
            self.persisted(record.resulting());
        }
        Ok(record)
    }

    fn persisted(&mut self, upto: Version) {
        if self.failed {
            return;
        }
        for record in self.log.persisted(upto) {
            self.outputs.push_back(HostedOutput::Show(record.clone()));
            for ticket in self.owed.remove(&record.applied_at()).unwrap_or_default() {
                self.outputs.push_back(HostedOutput::Answer {
                    ticket,
                    outcome: Ok(Applied::Record(record.clone())),
                });
            }
        }
        let shown = self.log.shown().version();
        if shown.number() - self.log.chain().version.number() >= UNSEALED_MAX {
            self.seal_until = shown;
        }
        self.seal_on();
    }

    /// Seals what may be sealed, up to the first delta that has to be signed.
    fn seal_on(&mut self) {
        let host = self.name.host();
        let shared = self.log.readers().domains().any(|(domain, _)| domain != host);
        while self.signing.is_none() && self.sign_again.is_none() && !self.failed {
            let Some(record) = self
                .log
                .unsealed()
                .filter(|record| record.resulting() <= self.log.shown().version())
            else {
                return;
            };
            if !shared && record.applied_at() >= self.seal_until {
                return;
            }
            match &record.origin {
                Origin::Local(_) => {
                    let TransformedDelta { author, ops, .. } = record.delta.clone();
                    let delta = Encoded::new(Delta {
                        target: self.log.chain().clone(),
                        author,
                        ops,
                        address_path: Vec::new(),
                    });
                    self.outputs.push_back(HostedOutput::Sign(delta.clone()));
                    self.signing = Some(delta);
                }
                Origin::Remote { signed } => {
                    let signed =
                        Encoded::decode(signed.clone()).expect("it was read when it came, or when it was loaded");
                    self.seal(signed);
                }
            }
        }
    }

    fn signed(&mut self, signed: Encoded<SignedDelta>) {
        if self
            .signing
            .as_ref()
            .is_some_and(|delta| delta.bytes() == signed.delta.bytes())
        {
            self.signing = None;
            self.seal(signed);
            self.seal_on();
        }
    }

    /// What cannot be signed now stays where it is, and is tried again.
    fn sign_failed(&mut self, now: Timestamp) {
        if self.signing.take().is_some() {
            self.sign_again = Some(now.later(SIGN_AGAIN_MS));
        }
    }

    /// Seals the first unsealed record with its signed delta.
    fn seal(&mut self, signed: Encoded<SignedDelta>) {
        let chain = self.log.chain().clone();
        let entry = self
            .log
            .entry(chain.version)
            .expect("what is being sealed is in memory");
        let applied = seal_of(&entry.record, signed, chain);
        let (seal, domains) = (Arc::new(applied), entry.domains.clone());
        self.log.seal(seal.clone());
        self.outputs.push_back(HostedOutput::PersistSeal(seal.clone()));
        self.sealing.push_back((seal, domains));
    }

    fn seal_persisted(&mut self, upto: Version) {
        while self
            .sealing
            .front()
            .is_some_and(|(seal, _)| seal.resulting.version <= upto)
        {
            let Some((seal, domains)) = self.sealing.pop_front() else {
                return;
            };
            self.sealed = seal.resulting.clone();
            self.digest_owed = true;
            let response = SubmitResponse {
                operations_applied: seal.applied.operations_applied,
                resulting: seal.resulting.clone(),
                timestamp: seal.applied.timestamp,
            };
            self.outputs.push_back(HostedOutput::Sealed { seal, domains });
            for ticket in self.owed_remote.remove(&response.resulting.version).unwrap_or_default() {
                self.outputs.push_back(HostedOutput::AnswerRemote {
                    ticket,
                    outcome: Ok(response.clone()),
                });
            }
        }
    }

    /// A digest is of a sealed version, and there is one of the newest state only.
    fn may_tell_digest(&self) -> bool {
        self.digest_owed && self.log.shown().version() == self.sealed.version
    }

    fn tell_digest(&mut self, now: Timestamp) {
        if !self.may_tell_digest() || self.failed {
            return;
        }
        let others = self.log.readers().domains();
        let others = others.filter(|(domain, until)| until.is_none() && *domain != self.name.host());
        let domains: Vec<Domain> = others.map(|(domain, _)| domain.clone()).collect();
        if domains.is_empty() {
            self.digest_owed = false;
            return;
        }
        if let Some(digest) = self.pace.digest(now, self.log.shown()) {
            self.digest_owed = false;
            let at = self.sealed.clone();
            self.outputs.push_back(HostedOutput::Digest { at, digest, domains });
        }
    }

    fn fail(&mut self) {
        if planted::is("a failed write is passed over") {
            return self.persisted(self.log.head().version());
        }
        self.failed = true;
        self.signing = None;
        self.sealing.clear();
        self.outputs.retain(|output| {
            matches!(
                output,
                HostedOutput::Answer { .. } | HostedOutput::AnswerRemote { .. } | HostedOutput::Show(_)
            )
        });
        for ticket in std::mem::take(&mut self.owed).into_values().flatten() {
            self.outputs.push_back(HostedOutput::Answer {
                ticket,
                outcome: Err(Refusal::Unavailable),
            });
        }
        for ticket in std::mem::take(&mut self.owed_remote).into_values().flatten() {
            self.outputs.push_back(HostedOutput::AnswerRemote {
                ticket,
                outcome: Err(Refusal::Unavailable),
            });
        }
    }
}

/// The seal of a record: its applied delta always says where it was applied (protocol.md §2).
pub(crate) fn seal_of(record: &Record, signed: Encoded<SignedDelta>, applied_at: HashedVersion) -> Seal {
    let applied = AppliedDelta {
        signed,
        applied_at: Some(applied_at.clone()),
        operations_applied: u32::try_from(record.delta.ops.len()).expect("a delta has at most a thousand operations"),
        timestamp: record.delta.timestamp,
    };
    Seal::new(applied_at, Encoded::new(applied))
}

/// Where a submission was applied, if it was before.
pub(crate) fn resent(log: &Log, author: &ParticipantId, submission: &Submission) -> Result<Option<Version>, Refusal> {
    if planted::is("a submission that comes twice counts twice") {
        return Ok(None);
    }
    match log.session(author, &submission.session) {
        Some(mark) if mark.sequence == submission.sequence => Ok(Some(mark.applied_at)),
        Some(mark) if mark.sequence > submission.sequence => log
            .find(author, submission)
            .map(|record| Some(record.applied_at()))
            .ok_or(Refusal::OutOfOrder),
        _ => Ok(None),
    }
}
