//! Our copy of a wavelet that another domain hosts.
//!
//! What the host says is put in order, verified, transformed exactly as the reference does, compared with the history
//! hash, persisted and shown. Gaps are fetched, one request at a time. Our users' submissions wait in a queue; one at a
//! time is transformed to the newest version, signed, stored and sent to the host, again and again with the same bytes
//! until the host has answered. Its effect comes back like everybody's deltas, and is recognised by its bytes.
//!
//! A delta that does not verify changes nothing. A verified one that contradicts what we have (another hash, another
//! count of operations, operations that do not apply, documents with another digest) has the history fetched again from
//! version 0, once (`remote/refetch.rs`). If that does not help, the wavelet is in quarantine: it stays readable, and
//! takes nothing more. Both are told as [`Standing`]s, which are kept on disk with the [`Evidence`].
//!
//! Bounds: [`PENDING_MAX`] deltas ahead of a gap (the farthest are dropped, their update refused; history brings them),
//! 4 MiB of deltas in order, one history request, [`QUEUE_MAX`] submissions (further ones are refused as unavailable).
//! A long history is fetched a page after the other, and the next page is asked for before the last is worked through.

mod evidence;
mod intake;
mod outbox;
mod refetch;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use billow_model::{Delta, Domain, HashedVersion, ParticipantId, Timestamp, Version, Wavelet, WaveletName, WaveletOp};
use billow_signing::Verified;
use billow_wire::exchange::{SubmitResponse, WaveletUpdate};
use billow_wire::{AppliedDelta, Encoded, FromHost, SignedDelta, SignerId};
use bytes::Bytes;

use crate::access::Readers;
use crate::hosted::Applied;
use crate::limits::Refusal;
use crate::log::{Log, Signed};
use crate::record::{LoadError, Record, Seal, StoredRecord, Submission};
use intake::Intake;
use outbox::{Job, Outbox};
use refetch::Refetch;

pub use evidence::{Contradiction, Evidence, Standing};
pub use refetch::REFETCH_BYTES;

/// Deltas that wait for a gap to be closed.
pub const PENDING_MAX: usize = 64;
/// Submissions of our users that wait for the host.
pub const QUEUE_MAX: usize = 100;
/// How many bytes of history are asked for at once.
pub const HISTORY_BYTES: u64 = 300_000;

/// What a remote wavelet is told.
#[derive(Debug)]
pub enum RemoteInput {
    /// The host says something. Answered by [`RemoteOutput::Receipt`] or [`RemoteOutput::Refuse`] with this tag.
    Update {
        /// Names the update in its answer.
        tag: u64,
        /// What it says.
        update: FromHost<WaveletUpdate>,
    },
    /// The answer to [`RemoteOutput::Verify`].
    Verified {
        /// Which question.
        check: u64,
        /// What came out.
        outcome: Verification,
    },
    /// The answer to [`RemoteOutput::FetchSigner`]: the chain is now known to the verifier, or why not.
    SignerFetched {
        /// Which signer.
        id: SignerId,
        /// The reason is shown to people.
        outcome: Result<(), String>,
    },
    /// The answer to [`RemoteOutput::FetchHistory`].
    History {
        /// Which request.
        request: u64,
        /// The deltas as they came from the host's server, or why there are none.
        outcome: Result<Vec<Encoded<AppliedDelta>>, HistoryFailure>,
    },
    /// The answer to [`RemoteOutput::LoadOlder`]: stored records from the asked version on.
    Older {
        /// Contiguous and at least one, as many as are read at once; they need not reach to where memory begins.
        records: Vec<StoredRecord>,
    },
    /// Everything up to this version that was handed out as [`RemoteOutput::Persist`] is on disk.
    Persisted {
        /// The version after the last of these records.
        upto: Version,
    },
    /// Something could not be stored. The machine takes no more and is to be dropped and loaded again.
    PersistFailed,
    /// A user of ours submits. Answered by [`RemoteOutput::Answer`] with this ticket, perhaps much later.
    Submit {
        /// Names the question in its answer.
        ticket: u64,
        /// The submission's identity.
        submission: Submission,
        /// Who.
        author: ParticipantId,
        /// The shown version that the operations fit.
        version: Version,
        /// What.
        ops: Vec<WaveletOp>,
    },
    /// The answer to [`RemoteOutput::Sign`].
    Signed {
        /// The very delta that was handed out, signed.
        delta: Encoded<SignedDelta>,
    },
    /// The other answer to [`RemoteOutput::Sign`]: it could not be signed. It is asked for again later.
    SignFailed,
    /// The answer to [`RemoteOutput::Replace`]: it is done on disk.
    Replaced,
    /// The answer to [`RemoteOutput::PersistOutgoing`] and to [`RemoteOutput::DropOutgoing`]: it is done on disk.
    OutgoingPersisted,
    /// The answer to [`RemoteOutput::Submit`].
    SubmitAnswered {
        /// Which sending.
        attempt: u64,
        /// What the host says, or why it says nothing.
        outcome: Result<SubmitResponse, SubmitFailure>,
    },
    /// The host's server has spoken to us, whatever it said: what waits for it may be tried at once.
    HostSpoke,
    /// The domains now known to run a server that takes no text beyond U+FFFF.
    LegacyDomains(BTreeSet<Domain>),
    /// The deadline has passed.
    Tick,
}

/// What a verifier says of a signed delta.
#[derive(Debug)]
pub enum Verification {
    /// All signatures hold.
    Good(Verified<Encoded<SignedDelta>>),
    /// The chain of this signer is not known (yet).
    UnknownSigner(SignerId),
    /// A signature does not hold.
    Bad(String),
}

/// Why there is no history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryFailure {
    /// No answer: not connected, timed out, bounced. It is asked for again when the host speaks.
    #[error("{0}")]
    NotNow(String),
    /// The host has answered, with an error: it does not have it, does not give it to us, or cannot now. It is asked for
    /// again after a pause, whatever the host says meanwhile.
    #[error("{0}")]
    Refused(String),
}

/// Why a submission did not get through to the host, or was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitFailure {
    /// No answer: not connected, timed out, bounced. The same bytes are sent again.
    Unreachable(String),
    /// The host could not now (internal-server-error, resource-constraint, unknown signer): the same bytes are sent again.
    NotNow(String),
    /// The host cannot apply it at its target (mismatched hash, does not apply, rebase): it is made again at the newest
    /// version, once something newer has come; if nothing does, it is refused.
    Stale(String),
    /// The host will never take it.
    Refused(String),
}

/// What a remote wavelet wants done, in this order.
#[derive(Debug, Clone)]
pub enum RemoteOutput {
    /// Check the signatures, then tell [`RemoteInput::Verified`]. At most one is under way.
    Verify {
        /// Names the question in its answer.
        check: u64,
        /// What is to be checked.
        delta: Encoded<SignedDelta>,
        /// As of when: the time at which the host says it applied the delta, never later than now.
        at: Timestamp,
    },
    /// Ask the host for a signer's chain, check it, give it to the verifier; then tell [`RemoteInput::SignerFetched`].
    FetchSigner {
        /// Which.
        id: SignerId,
        /// The version just after a delta with its signature.
        at: HashedVersion,
        /// The time as of which the chain is to be checked: when that delta was applied.
        time: Timestamp,
    },
    /// Ask the host for the deltas of `[from, to)`; then tell [`RemoteInput::History`]. At most one is under way.
    FetchHistory {
        /// Names the request in its answer.
        request: u64,
        /// What we have.
        from: HashedVersion,
        /// What we know of.
        to: HashedVersion,
        /// Wanted bound of the answer in bytes.
        limit: u64,
    },
    /// Load stored records from the one at or before this version on; then tell [`RemoteInput::Older`].
    LoadOlder {
        /// A delta was made against this version.
        from: Version,
        /// Where the records in memory begin.
        to: Version,
    },
    /// Store the record with its seal, and in the same transaction remove the outgoing submission that it is, if any.
    /// Records come in order of version. Then tell [`RemoteInput::Persisted`].
    Persist {
        /// The record.
        record: Arc<Record>,
        /// Its seal.
        seal: Arc<Seal>,
        /// The outgoing submission that has come back in it.
        outgoing: Option<Submission>,
    },
    /// The update is durable (or was known): send its receipt.
    Receipt {
        /// Which update.
        tag: u64,
    },
    /// The update was not taken: answer with an error.
    Refuse {
        /// Which update.
        tag: u64,
        /// Why.
        reason: UpdateRefusal,
    },
    /// Send the delta to every local user who has the wavelet open. Each record once, in order of version.
    Show(Arc<Record>),
    /// The answer to [`RemoteInput::Submit`].
    Answer {
        /// Whose.
        ticket: u64,
        /// What became of it.
        outcome: Result<Applied, Refusal>,
    },
    /// Sign with the key of the author's domain; then tell [`RemoteInput::Signed`] or [`RemoteInput::SignFailed`].
    Sign(Encoded<Delta>),
    /// Store the outgoing submission, replacing one of the same identity; then tell [`RemoteInput::OutgoingPersisted`].
    PersistOutgoing(Outgoing),
    /// Remove a stored outgoing submission: the host has refused it, or has merged it with another delta. Then tell
    /// [`RemoteInput::OutgoingPersisted`].
    DropOutgoing(Submission),
    /// Send the delta to the host; then tell [`RemoteInput::SubmitAnswered`].
    Submit {
        /// Names the sending in its answer.
        attempt: u64,
        /// The delta.
        delta: Encoded<SignedDelta>,
    },
    /// The host can, or cannot, be reached; said on each change.
    HostState(HostState),
    /// A contradiction: tell the operator. The history is fetched again.
    Diverged(Box<Evidence>),
    /// Keep how the copy stands to its host, in the place of what was kept; for [`RemoteWavelet::restore`].
    PersistStanding(Standing),
    /// Store these records with their seals in the place of the whole stored history and its snapshots, in one write; what is
    /// outgoing stays, and so does the submission of a record that had one. Then tell [`RemoteInput::Replaced`].
    Replace {
        /// From version 0 on.
        records: Vec<(Arc<Record>, Arc<Seal>)>,
    },
    /// The shown state is another one: whoever has the wavelet open needs it whole, whatever version they know.
    Reset,
    /// A contradiction, and fetching again has not helped: tell the operator. The wavelet takes nothing more.
    Quarantined(Box<Evidence>),
}

/// A submission of our user that is on its way to the host: on disk before it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The submission.
    pub submission: Submission,
    /// The delta as signed; a resend is these very bytes.
    pub signed: Encoded<SignedDelta>,
}

/// Whether the host takes our submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostState {
    /// As far as we know.
    Reachable,
    /// It does not answer.
    Waiting {
        /// Since when.
        since: Timestamp,
        /// When we try again.
        next_try: Timestamp,
        /// In the words of the one who noticed.
        reason: String,
    },
    /// It answers, but does not give what it says there is.
    Stale {
        /// Since when.
        since: Timestamp,
        /// When it is asked for again.
        next_try: Timestamp,
        /// The version that it says it has.
        ahead: Version,
        /// What came instead.
        reason: String,
    },
}

/// Why an update was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateRefusal {
    /// A signature does not hold.
    #[error("verification failed: {0}")]
    BadSignature(String),
    /// The host could not give a signer's chain.
    #[error("unknown signer: {0}")]
    UnknownSigner(String),
    /// No user of ours takes part in this wavelet, and no verified delta adds one.
    #[error("no local participant")]
    NoLocalParticipant,
    /// It is of what a user has read and the like, which no server tells another.
    #[error("user data is private")]
    UserData,
    /// Too many deltas wait for a gap to be closed.
    #[error("too many deltas out of order")]
    TooManyPending,
    /// It contradicts what we know; see the evidence.
    #[error("it contradicts the history: {0}")]
    Contradiction(String),
    /// The wavelet is in quarantine since an earlier contradiction.
    #[error("the wavelet is in quarantine")]
    Quarantined,
    /// More than is taken of its host now; the text says which bound.
    #[error("{0}")]
    TooMuch(String),
    /// It could not be stored.
    #[error("it cannot be stored now")]
    Unavailable,
}

/// A wavelet of another domain.
#[derive(Debug)]
pub struct RemoteWavelet {
    name: WaveletName,
    local: BTreeSet<Domain>,
    legacy: BTreeSet<Domain>,
    log: Log,
    outputs: VecDeque<RemoteOutput>,
    intake: Intake,
    outbox: Outbox,
    host_state: HostState,
    standing: Standing,
    /// The new copy while the history is fetched again.
    refetch: Option<Refetch>,
    seed: u64,
    failed: bool,
}

impl RemoteWavelet {
    /// A wavelet that we have nothing of. `local` are the domains of this server's users; `seed` is for the jitter of retries.
    #[must_use]
    pub fn new(name: WaveletName, local: BTreeSet<Domain>, seed: u64) -> Self {
        Self::with_log(Log::new(name, Signed::Forgotten), local, seed)
    }

    /// A wavelet from the store; `snapshot` and `records` as for [`crate::HostedWavelet::load`], `outgoing` as it was last
    /// persisted (at most one).
    pub fn load(
        name: WaveletName,
        local: BTreeSet<Domain>,
        seed: u64,
        snapshot: Option<&[u8]>,
        records: Vec<StoredRecord>,
        outgoing: Option<Outgoing>,
    ) -> Result<Self, LoadError> {
        if let Some(bare) = records.iter().find(|stored| stored.seal.is_none()) {
            return Err(LoadError::Seal {
                at: bare.record.applied_at(),
            });
        }
        let log = Log::load(name, Signed::Forgotten, snapshot, records)?;
        if log.hashed_head().is_none() {
            return Err(LoadError::Seal {
                at: log.chain().version,
            });
        }
        let mut remote = Self::with_log(log, local, seed);
        remote.outbox.resume(outgoing);
        Ok(remote)
    }

    fn with_log(log: Log, local: BTreeSet<Domain>, seed: u64) -> Self {
        let admitted = log.head().version() > Version::ZERO;
        Self {
            name: log.head().name().clone(),
            local,
            legacy: BTreeSet::new(),
            log,
            outputs: VecDeque::new(),
            intake: Intake::new(admitted, seed),
            outbox: Outbox::new(seed.rotate_left(32)),
            host_state: HostState::Reachable,
            standing: Standing::Following,
            refetch: None,
            seed,
            failed: false,
        }
    }

    /// Takes up a standing that was kept, just after [`RemoteWavelet::load`] (or [`RemoteWavelet::new`], if the copy was
    /// dropped). What was being fetched again is fetched again from the start.
    pub fn restore(&mut self, now: Timestamp, standing: Standing) {
        self.standing = standing;
        match self.standing.clone() {
            Standing::Refetching(evidence) => self.refetch(now, evidence),
            Standing::Dropped(evidence) => self.expect(now, evidence.ours),
            Standing::Following | Standing::Refetched(_) | Standing::Quarantined(_) => {}
        }
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Timestamp, input: RemoteInput) {
        let Some(input) = self.route(now, input) else { return };
        match input {
            RemoteInput::Update { tag, update } => self.update(now, tag, update.into_inner()),
            RemoteInput::Verified { check, outcome } => self.verified(now, check, outcome),
            RemoteInput::SignerFetched { id, outcome } => self.signer_fetched(now, &id, outcome),
            RemoteInput::History { request, outcome } => self.history(now, request, outcome),
            RemoteInput::Older { records } => self.older(now, records),
            RemoteInput::Persisted { upto } => self.persisted(upto),
            RemoteInput::PersistFailed => self.fail(),
            RemoteInput::Submit {
                ticket,
                submission,
                author,
                version,
                ops,
            } => match self.submit(now, ticket, Job::new(submission, author, version, ops)) {
                Ok(None) => {}
                Ok(Some(applied)) => self.answer(ticket, Ok(applied)),
                Err(refusal) => self.answer(ticket, Err(refusal)),
            },
            RemoteInput::Signed { delta } => self.signed(delta),
            RemoteInput::SignFailed => self.sign_failed(now),
            RemoteInput::Replaced => self.replaced(now),
            RemoteInput::OutgoingPersisted => self.outgoing_persisted(now),
            RemoteInput::SubmitAnswered { attempt, outcome } => self.submit_answered(now, attempt, outcome),
            RemoteInput::HostSpoke => self.host_spoke(now),
            RemoteInput::LegacyDomains(domains) => self.legacy = domains,
            RemoteInput::Tick => {
                self.tick_intake(now);
                self.tick_outbox(now);
            }
        }
    }

    /// While the history is fetched again, the answers to its questions are the new copy's.
    fn route(&mut self, now: Timestamp, input: RemoteInput) -> Option<RemoteInput> {
        if self.refetch.is_none() {
            return Some(input);
        }
        match input {
            RemoteInput::History {
                request,
                outcome: Err(HistoryFailure::Refused(reason)),
            } => {
                self.refetch_denied(request, reason);
                None
            }
            RemoteInput::Verified { .. } | RemoteInput::SignerFetched { .. } | RemoteInput::History { .. } => {
                self.tell_copy(now, input);
                None
            }
            RemoteInput::HostSpoke => {
                self.tell_copy(now, RemoteInput::HostSpoke);
                Some(input)
            }
            RemoteInput::Tick => {
                self.tell_copy(now, RemoteInput::Tick);
                Some(input)
            }
            other => Some(other),
        }
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<RemoteOutput> {
        self.outputs.pop_front()
    }

    /// When the machine wants a [`RemoteInput::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.failed || self.is_quarantined() {
            return None;
        }
        if self.refetch.is_some() {
            return self.refetch_deadline();
        }
        [self.intake_deadline(), self.outbox.deadline()]
            .into_iter()
            .flatten()
            .min()
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

    /// The hashed version of [`RemoteWavelet::wavelet`].
    #[must_use]
    pub fn sealed(&self) -> HashedVersion {
        let version = self.log.shown().version();
        let hash = self
            .log
            .hash(version)
            .expect("the shown version is a sealed boundary in memory")
            .clone();
        HashedVersion { version, hash }
    }

    /// The domains that take part, as far as we know.
    #[must_use]
    pub fn readers(&self) -> &Readers {
        self.log.readers()
    }

    /// Whether the wavelet is, or is about to be, in the store. If not, dropping the machine forgets it without a trace.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.intake.is_admitted()
    }

    /// Whether a contradiction has ended the following of the host.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        matches!(self.standing, Standing::Quarantined(_))
    }

    /// How the copy stands to its host.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
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

    /// Submissions of our users that the host has not yet taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the host takes our submissions.
    #[must_use]
    pub fn host_state(&self) -> &HostState {
        &self.host_state
    }

    /// The persisted state as bytes, for [`RemoteWavelet::load`]. Costs as much as the wavelet is large.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        self.log.snapshot(&self.sealed()).encode()
    }

    /// Whether a store failure has made this machine useless, so that it must be loaded again.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Whether transforming operations made against this version to the newest may take long, so that it should hold up nothing else.
    #[must_use]
    pub fn takes_long(&self, version: Version, ops: &[WaveletOp]) -> bool {
        self.log.takes_long(version, ops)
    }

    /// Whether nothing is under way, so that it may be put away.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        // What waits in quarantine waits on disk.
        let waits = self.refetch.is_some() || !self.intake.is_idle() || self.outbox.len() > 0;
        self.outputs.is_empty() && self.log.under_way() == 0 && (self.is_quarantined() || !waits)
    }

    fn answer(&mut self, ticket: u64, outcome: Result<Applied, Refusal>) {
        self.outputs.push_back(RemoteOutput::Answer { ticket, outcome });
    }

    fn persisted(&mut self, upto: Version) {
        if self.failed {
            return;
        }
        for record in self.log.persisted(upto) {
            self.outputs.push_back(RemoteOutput::Show(record.clone()));
            for ticket in self.outbox.owed(record.applied_at()) {
                self.answer(ticket, Ok(Applied::Record(record.clone())));
            }
        }
        self.send_receipts();
    }

    fn host_spoke(&mut self, now: Timestamp) {
        // That it speaks does not mean that it gives what it owes.
        if !matches!(self.host_state, HostState::Stale { .. }) {
            self.set_host_state(HostState::Reachable);
        }
        self.host_spoke_to_intake(now);
        self.host_spoke_to_outbox(now);
    }

    fn host_silent(&mut self, now: Timestamp, next_try: Timestamp, reason: &str) {
        let since = match &self.host_state {
            HostState::Waiting { since, .. } => *since,
            HostState::Reachable | HostState::Stale { .. } => now,
        };
        self.set_host_state(HostState::Waiting {
            since,
            next_try,
            reason: reason.to_owned(),
        });
    }

    fn set_host_state(&mut self, state: HostState) {
        if self.host_state != state {
            self.host_state = state.clone();
            self.outputs.push_back(RemoteOutput::HostState(state));
        }
    }

    /// The host answers, but not with what it says there is.
    fn host_withholds(&mut self, now: Timestamp, next_try: Timestamp, reason: &str) {
        let since = match &self.host_state {
            HostState::Stale { since, .. } => *since,
            HostState::Reachable | HostState::Waiting { .. } => now,
        };
        let ahead = self.newest_known();
        self.set_host_state(HostState::Stale {
            since,
            next_try,
            ahead,
            reason: reason.to_owned(),
        });
    }

    fn set_standing(&mut self, standing: Standing) {
        self.standing = standing.clone();
        // Of a wavelet that is not in the store nothing is kept.
        if self.log.head().version() > Version::ZERO {
            self.outputs.push_back(RemoteOutput::PersistStanding(standing));
        }
    }

    fn quarantine(&mut self, evidence: Box<Evidence>) {
        self.refetch = None;
        self.set_standing(Standing::Quarantined(evidence.clone()));
        self.refuse_updates(&UpdateRefusal::Quarantined);
        self.outputs.push_back(RemoteOutput::Quarantined(evidence));
        self.refuse_queue(&Refusal::HostRefused(UpdateRefusal::Quarantined.to_string()));
    }

    fn fail(&mut self) {
        self.failed = true;
        self.refetch = None;
        let done = |output: &RemoteOutput| {
            matches!(
                output,
                RemoteOutput::Show(_)
                    | RemoteOutput::Answer { .. }
                    | RemoteOutput::Receipt { .. }
                    | RemoteOutput::Refuse { .. }
                    | RemoteOutput::Diverged(_)
                    | RemoteOutput::Quarantined(_)
            )
        };
        self.outputs.retain(done);
        self.refuse_updates(&UpdateRefusal::Unavailable);
        for ticket in self.outbox.all_tickets() {
            self.answer(ticket, Err(Refusal::Unavailable));
        }
    }
}
