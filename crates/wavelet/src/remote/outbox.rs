//! Our users' submissions on their way to the host: a queue, and one in flight.
//!
//! The one in flight goes through the stages of [`Stage`]. It is sent as the same bytes until the host has answered, and
//! made anew, against the newest version, only when the host has said that it was made against too old a one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use billow_model::wavelet::ApplyDeltaError;
use billow_model::{Delta, ParticipantId, Timestamp, Version, WaveletOp, planted};
use billow_wire::exchange::SubmitResponse;
use billow_wire::{Encoded, SignedDelta};

use super::{Outgoing, QUEUE_MAX, RemoteOutput, RemoteWavelet, SubmitFailure};
use crate::access::may_write;
use crate::backoff::{Backoff, SUBMISSION_MS};
use crate::composed::one_op_a_document;
use crate::hosted::{Applied, resent};
use crate::limits::{Refusal, check_size};
use crate::log::CarryError;
use crate::placement::check_growth;
use crate::record::{Record, Submission, encode_ops};

/// How often a submission is made anew before the host's refusal is final.
const REBASES_MAX: u32 = 20;
/// How long to wait for the newer deltas that a refusal speaks of, ms.
const NEWS_MS: i64 = 30_000;
/// How long after a signature could not be made it is asked for again, ms.
const SIGN_AGAIN_MS: i64 = 10_000;
/// After this long without an answer a submission is sent again, ms. The driver has a shorter timeout of its own.
const ANSWER_MS: i64 = 60_000;

/// A submission and the version that its operations fit.
#[derive(Debug)]
pub(super) struct Job {
    tickets: Vec<u64>,
    submission: Submission,
    author: ParticipantId,
    version: Version,
    ops: Vec<WaveletOp>,
    rebases: u32,
}

/// The submission in flight. Its job's operations are those of the delta, its version the delta's target.
#[derive(Debug)]
struct Flight {
    job: Job,
    /// Once it is signed.
    signed: Option<Encoded<SignedDelta>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for the signature of this delta.
    Signing(Encoded<Delta>),
    /// This delta could not be signed; it is tried again.
    Unsigned { delta: Encoded<Delta>, at: Timestamp },
    /// Waits to be on disk.
    Storing,
    /// Waits for the host's answer to this sending.
    Sending { attempt: u64, since: Timestamp },
    /// Waits to be sent again; a word from the host makes it at once, if the host was silent.
    Again { at: Timestamp, silent: bool },
    /// The host has applied it; waits for the delta itself.
    Echo(SubmitResponse),
    /// The host says it was made against too old a version; waits for a newer one.
    News { until: Timestamp, reason: String },
    /// It is settled, and answered once it is off the disk: after a restart it must not be sent again.
    Dropping(Result<Version, Refusal>),
}

#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Job>,
    flight: Option<Flight>,
    /// Tickets of submissions that have come back and are not yet persisted, by the version they are applied at.
    owed: BTreeMap<Version, Vec<u64>>,
    attempts: u64,
    backoff: Backoff,
}

impl Job {
    pub(super) fn new(submission: Submission, author: ParticipantId, version: Version, ops: Vec<WaveletOp>) -> Self {
        Self {
            tickets: Vec::new(),
            submission,
            author,
            version,
            ops,
            rebases: 0,
        }
    }
}

impl Outbox {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            flight: None,
            owed: BTreeMap::new(),
            attempts: 0,
            backoff: Backoff::new(SUBMISSION_MS, seed),
        }
    }

    /// Takes up what was on its way before a restart: it is sent again at once.
    pub(super) fn resume(&mut self, outgoing: Option<Outgoing>) {
        self.flight = outgoing.map(|Outgoing { submission, signed }| {
            let Delta {
                target, author, ops, ..
            } = signed.delta.value().clone();
            let job = Job::new(submission, author, target.version, ops);
            Flight {
                job,
                signed: Some(signed),
                stage: Stage::Again {
                    at: Timestamp(0),
                    silent: true,
                },
            }
        });
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.flight.is_some())
    }

    pub(super) fn owed(&mut self, applied_at: Version) -> Vec<u64> {
        self.owed.remove(&applied_at).unwrap_or_default()
    }

    /// Takes all tickets that are still to be answered.
    pub(super) fn all_tickets(&mut self) -> Vec<u64> {
        let jobs = self.queue.drain(..).chain(self.flight.take().map(|flight| flight.job));
        let waiting: Vec<u64> = jobs.flat_map(|job| job.tickets).collect();
        std::mem::take(&mut self.owed)
            .into_values()
            .flatten()
            .chain(waiting)
            .collect()
    }

    /// The submission in flight, if this is its signed delta.
    pub(super) fn recognise(&self, signed: &Encoded<SignedDelta>) -> Option<Submission> {
        let own = |flight: &&Flight| flight.signed.as_ref().is_some_and(|own| own.bytes() == signed.bytes());
        let flight = self
            .flight
            .as_ref()
            .filter(own)
            .filter(|flight| !matches!(flight.stage, Stage::Dropping(_)))?;
        Some(flight.job.submission.clone())
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.flight.as_ref()?.stage {
            Stage::Sending { since, .. } => Some(since.later(ANSWER_MS)),
            Stage::Again { at, .. } | Stage::Unsigned { at, .. } => Some(*at),
            Stage::News { until, .. } => Some(*until),
            Stage::Signing(_) | Stage::Storing | Stage::Echo(_) | Stage::Dropping(_) => None,
        }
    }

    fn waiting(&mut self, author: &ParticipantId, submission: &Submission) -> Option<&mut Job> {
        let flight = self.flight.as_mut().map(|flight| &mut flight.job);
        flight
            .into_iter()
            .chain(&mut self.queue)
            .find(|job| job.submission == *submission && job.author == *author)
    }
}

impl RemoteWavelet {
    pub(super) fn submit(&mut self, now: Timestamp, ticket: u64, mut job: Job) -> Result<Option<Applied>, Refusal> {
        if self.failed {
            return Err(Refusal::Unavailable);
        }
        if let Some(applied_at) = resent(&self.log, &job.author, &job.submission)? {
            return Ok(self.answer_resend(ticket, applied_at));
        }
        if let Some(same) = self.outbox.waiting(&job.author, &job.submission) {
            same.tickets.push(ticket);
            return Ok(None);
        }
        self.check_submission(&job)?;
        job.tickets.push(ticket);
        self.outbox.queue.push_back(job);
        self.launch_next(now);
        Ok(None)
    }

    fn answer_resend(&mut self, ticket: u64, applied_at: Version) -> Option<Applied> {
        if applied_at >= self.log.shown().version() {
            self.outbox.owed.entry(applied_at).or_default().push(ticket);
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

    fn check_submission(&self, job: &Job) -> Result<(), Refusal> {
        if self.is_quarantined() {
            return Err(Refusal::HostRefused(
                "the wavelet is in quarantine: its host contradicts itself".to_owned(),
            ));
        }
        if self.outbox.queue.len() >= QUEUE_MAX {
            return Err(Refusal::Unavailable);
        }
        check_size(&job.ops, encode_ops(job.version, &job.author, &job.ops).len())?;
        if !may_write(self.log.shown().participants(), &job.author) {
            return Err(Refusal::NotParticipant(job.author.clone()));
        }
        if job.version == Version::ZERO {
            return Err(Refusal::CreatesWavelet);
        }
        if job.version > self.log.shown().version() || self.log.index(job.version).is_none() {
            return Err(Refusal::UnknownVersion);
        }
        check_growth(&self.log, &job.ops, &self.legacy)
    }

    /// Starts the next submission if none is in flight.
    fn launch_next(&mut self, now: Timestamp) {
        while self.outbox.flight.is_none() && !self.is_held() && !self.failed {
            let Some(job) = self.outbox.queue.pop_front() else {
                return;
            };
            self.launch(now, job, false);
        }
    }

    /// Carries a job to the newest version and has it signed. `stored`: an earlier form of it is on disk.
    fn launch(&mut self, now: Timestamp, job: Job, stored: bool) {
        let head = self
            .log
            .hashed_head()
            .expect("every record of a replica has its seal")
            .clone();
        let carried = if self.log.index(job.version).is_none() {
            Err(Refusal::UnknownVersion)
        } else if !may_write(self.log.head().participants(), &job.author) {
            Err(Refusal::NotParticipant(job.author.clone()))
        } else {
            self.log
                .carry(&job.author, job.ops.clone(), job.version)
                .map_err(|error| match error {
                    CarryError::TooMuch => Refusal::UnknownVersion,
                    CarryError::Transform(error) => Refusal::DoesNotApply(error.to_string()),
                })
                .and_then(|ops| check_people(self.log.head().participants(), &ops).map(|()| ops))
                .and_then(|ops| self.as_the_host_takes_it(ops))
        };
        match carried {
            Ok(ops) => {
                let delta = Encoded::new(Delta {
                    target: head.clone(),
                    author: job.author.clone(),
                    ops: ops.clone(),
                    address_path: Vec::new(),
                });
                let job = Job {
                    version: head.version,
                    ops,
                    ..job
                };
                self.outputs.push_back(RemoteOutput::Sign(delta.clone()));
                self.outbox.flight = Some(Flight {
                    job,
                    signed: None,
                    stage: Stage::Signing(delta),
                });
            }
            Err(refusal) => self.refuse(now, job, stored, &refusal),
        }
    }

    /// A host that runs the reference gets one operation for each document, so that it computes what we do (decision 7).
    fn as_the_host_takes_it(&self, ops: Vec<WaveletOp>) -> Result<Vec<WaveletOp>, Refusal> {
        if self.legacy.contains(self.name.host()) {
            one_op_a_document(ops).map_err(|error| Refusal::DoesNotApply(error.to_string()))
        } else {
            Ok(ops)
        }
    }

    fn refuse(&mut self, now: Timestamp, job: Job, stored: bool, refusal: &Refusal) {
        if stored {
            return self.drop_outgoing(job, Err(refusal.clone()));
        }
        for ticket in job.tickets {
            self.answer(ticket, Err(refusal.clone()));
        }
        self.launch_next(now);
    }

    /// Settles a submission that is on disk: with the version it is applied at, or a refusal.
    fn drop_outgoing(&mut self, job: Job, outcome: Result<Version, Refusal>) {
        self.outputs
            .push_back(RemoteOutput::DropOutgoing(job.submission.clone()));
        self.outbox.flight = Some(Flight {
            job,
            signed: None,
            stage: Stage::Dropping(outcome),
        });
    }

    pub(super) fn signed(&mut self, signed: Encoded<SignedDelta>) {
        let Some(flight) = &mut self.outbox.flight else { return };
        let Stage::Signing(delta) = &flight.stage else { return };
        if delta.bytes() == signed.delta.bytes() {
            flight.signed = Some(signed.clone());
            flight.stage = Stage::Storing;
            let submission = flight.job.submission.clone();
            if planted::is("a submission leaves before the disk has it") {
                return self.send(Timestamp(0));
            }
            self.outputs
                .push_back(RemoteOutput::PersistOutgoing(Outgoing { submission, signed }));
        }
    }

    /// What waits for its signature waits on; nothing is lost, and nobody is told that it is.
    pub(super) fn sign_failed(&mut self, now: Timestamp) {
        let Some(flight) = &mut self.outbox.flight else { return };
        let Stage::Signing(delta) = &flight.stage else { return };
        let at = now.later(SIGN_AGAIN_MS);
        let delta = delta.clone();
        flight.stage = Stage::Unsigned { delta, at };
    }

    pub(super) fn outgoing_persisted(&mut self, now: Timestamp) {
        if self
            .outbox
            .flight
            .as_ref()
            .is_some_and(|flight| matches!(flight.stage, Stage::Storing))
        {
            self.send(now);
        }
        let dropping = |flight: &mut Flight| matches!(flight.stage, Stage::Dropping(_));
        let Some(Flight {
            job,
            stage: Stage::Dropping(outcome),
            ..
        }) = self.outbox.flight.take_if(dropping)
        else {
            return;
        };
        for ticket in job.tickets {
            match outcome.clone() {
                Err(refusal) => self.answer(ticket, Err(refusal)),
                Ok(applied_at) => {
                    if let Some(applied) = self.answer_resend(ticket, applied_at) {
                        self.answer(ticket, Ok(applied));
                    }
                }
            }
        }
        self.launch_next(now);
    }

    /// Our users' submissions wait while the copy is not to be trusted.
    fn is_held(&self) -> bool {
        self.is_quarantined() || self.refetch.is_some()
    }

    /// The copy has been fetched again: what was held up goes on.
    pub(super) fn resume_outbox(&mut self, now: Timestamp) {
        self.settle_echo();
        self.rebase(now);
        self.tick_outbox(now);
        self.launch_next(now);
    }

    /// Sends the submission in flight, for the first time or again.
    fn send(&mut self, now: Timestamp) {
        let again = |flight: &mut Flight| matches!(flight.stage, Stage::Again { .. });
        if planted::is("what is in flight is changed when it is sent again")
            && let Some(flight) = self.outbox.flight.take_if(again)
        {
            return self.launch(now, flight.job, true);
        }
        let held = self.is_held();
        let Some(flight) = &mut self.outbox.flight else { return };
        if held {
            flight.stage = Stage::Again { at: now, silent: false };
            return;
        }
        let Some(delta) = flight.signed.clone() else { return };
        self.outbox.attempts += 1;
        let attempt = self.outbox.attempts;
        flight.stage = Stage::Sending { attempt, since: now };
        self.outputs.push_back(RemoteOutput::Submit { attempt, delta });
    }

    pub(super) fn submit_answered(
        &mut self,
        now: Timestamp,
        attempt: u64,
        outcome: Result<SubmitResponse, SubmitFailure>,
    ) {
        let current =
            |flight: &mut Flight| matches!(flight.stage, Stage::Sending { attempt: sent, .. } if sent == attempt);
        let Some(mut flight) = self.outbox.flight.take_if(current) else {
            return;
        };
        match outcome {
            Ok(response) => {
                self.outbox.backoff.succeeded();
                self.host_spoke(now);
                self.expect_echo(now, response.resulting.clone());
                if planted::is("the host's word counts as the disk's") {
                    let before = response.resulting.version.number() - u64::from(response.operations_applied);
                    let applied_at = Version::new(before);
                    for ticket in std::mem::take(&mut flight.job.tickets) {
                        self.answer(ticket, Ok(Applied::Before { applied_at }));
                    }
                }
                flight.stage = Stage::Echo(response);
                self.outbox.flight = Some(flight);
                self.settle_echo();
            }
            Err(SubmitFailure::Unreachable(reason)) => {
                let at = self.outbox.backoff.failed(now);
                flight.stage = Stage::Again { at, silent: true };
                self.outbox.flight = Some(flight);
                self.host_silent(now, at, &reason);
            }
            Err(SubmitFailure::NotNow(reason)) => {
                let at = self.outbox.backoff.failed(now);
                flight.stage = Stage::Again { at, silent: false };
                self.outbox.flight = Some(flight);
                self.host_silent(now, at, &reason);
            }
            Err(SubmitFailure::Stale(reason)) => {
                self.host_spoke(now);
                let until = now.later(NEWS_MS);
                flight.stage = Stage::News { until, reason };
                self.outbox.flight = Some(flight);
                self.rebase(now);
            }
            Err(SubmitFailure::Refused(reason)) => {
                self.host_spoke(now);
                self.refuse(now, flight.job, true, &Refusal::HostRefused(reason));
            }
        }
    }

    /// Makes a submission that the host found stale anew, if there is a newer version now.
    fn rebase(&mut self, now: Timestamp) {
        if self.is_held() {
            return;
        }
        let head = self.log.head().version();
        let newer = |flight: &mut Flight| matches!(flight.stage, Stage::News { .. }) && head > flight.job.version;
        let Some(Flight {
            job,
            stage: Stage::News { reason, .. },
            ..
        }) = self.outbox.flight.take_if(newer)
        else {
            return;
        };
        if job.rebases >= REBASES_MAX {
            self.refuse(now, job, true, &Refusal::HostRefused(reason));
        } else {
            let rebases = job.rebases + 1;
            self.launch(now, Job { rebases, ..job }, true);
        }
    }

    /// A delta has been applied; `own`: it is the one in flight.
    pub(super) fn outbox_followed(&mut self, now: Timestamp, record: &Record, own: bool) {
        if own {
            if let Some(flight) = self.outbox.flight.take() {
                self.outbox
                    .owed
                    .entry(record.applied_at())
                    .or_default()
                    .extend(flight.job.tickets);
                self.outbox.backoff.succeeded();
            }
            self.launch_next(now);
        } else {
            self.settle_echo();
            self.rebase(now);
        }
    }

    /// COMPAT(wiab): a host may take a submission for a repetition of an earlier delta of the same author with equal
    /// operations, and answer with that one (operations.md §8). Then ours never comes, and that one is the answer.
    fn settle_echo(&mut self) {
        let head = self.log.head().version();
        let passed =
            |flight: &mut Flight| matches!(&flight.stage, Stage::Echo(response) if response.resulting.version <= head);
        let Some(Flight {
            job,
            stage: Stage::Echo(response),
            ..
        }) = self.outbox.flight.take_if(passed)
        else {
            return;
        };
        let resulting = response.resulting.version;
        let before = Version::new(
            resulting
                .number()
                .saturating_sub(u64::from(response.operations_applied)),
        );
        let applied_at = self
            .log
            .entry_before(resulting)
            .map_or(before, |entry| entry.record.applied_at());
        self.drop_outgoing(job, Ok(applied_at));
    }

    pub(super) fn host_spoke_to_outbox(&mut self, now: Timestamp) {
        if self
            .outbox
            .flight
            .as_ref()
            .is_some_and(|flight| matches!(flight.stage, Stage::Again { silent: true, .. }))
        {
            self.send(now);
        }
    }

    pub(super) fn tick_outbox(&mut self, now: Timestamp) {
        if self.outbox.deadline().is_none_or(|deadline| deadline > now) || self.failed || self.is_held() {
            return;
        }
        let Some(flight) = &self.outbox.flight else { return };
        match &flight.stage {
            Stage::Sending { attempt, .. } => {
                let unreachable = SubmitFailure::Unreachable("no answer to a submission".to_owned());
                self.submit_answered(now, *attempt, Err(unreachable));
            }
            Stage::Again { .. } => self.send(now),
            Stage::Unsigned { delta, .. } => {
                let delta = delta.clone();
                self.outputs.push_back(RemoteOutput::Sign(delta.clone()));
                if let Some(flight) = &mut self.outbox.flight {
                    flight.stage = Stage::Signing(delta);
                }
            }
            Stage::News { reason, .. } => {
                let refusal = Refusal::HostRefused(reason.clone());
                if let Some(flight) = self.outbox.flight.take() {
                    self.refuse(now, flight.job, true, &refusal);
                }
            }
            Stage::Signing(_) | Stage::Storing | Stage::Echo(_) | Stage::Dropping(_) => {}
        }
    }

    /// Answers what has not left yet with a refusal, so that its authors keep it. What is on its way stays on disk: whether
    /// the host has applied it is not known.
    pub(super) fn refuse_queue(&mut self, refusal: &Refusal) {
        let unsigned = |flight: &mut Flight| flight.signed.is_none() && !matches!(flight.stage, Stage::Dropping(_));
        let flight = self.outbox.flight.take_if(unsigned).map(|flight| flight.job);
        let jobs: Vec<Job> = flight.into_iter().chain(self.outbox.queue.drain(..)).collect();
        for ticket in jobs.into_iter().flat_map(|job| job.tickets) {
            self.answer(ticket, Err(refusal.clone()));
        }
    }
}

/// Whether participants can be added and removed so. The host, which knows at least what we know, would refuse it as we do,
/// and its word would have to be waited for: perhaps it speaks of something newer.
fn check_people(participants: &[ParticipantId], ops: &[WaveletOp]) -> Result<(), Refusal> {
    let mut people: BTreeSet<&ParticipantId> = participants.iter().collect();
    let refused = |error: ApplyDeltaError| Err(Refusal::DoesNotApply(error.to_string()));
    for op in ops {
        match op {
            WaveletOp::AddParticipant(who) if !people.insert(who) => {
                return refused(ApplyDeltaError::AlreadyParticipant(who.clone()));
            }
            WaveletOp::RemoveParticipant(who) if !people.remove(who) => {
                return refused(ApplyDeltaError::NoSuchParticipant(who.clone()));
            }
            _ => {}
        }
    }
    Ok(())
}
