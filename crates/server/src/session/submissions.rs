//! What a client submits, from its message to its answer.

use std::collections::HashSet;
use std::sync::Arc;

use billow_model::{ParticipantId, Version, WaveletName, WaveletOp};
use billow_wavelet::hosted::Applied;
use billow_wavelet::{Record, Refusal, Submission};
use tokio::task::JoinSet;

use crate::wavelets::{ShownDelta, WaveletHandle};
use crate::web::messages::{Operation, RefusalReason, ServerMessage};
use crate::web::translation::{self, Untranslatable};

/// Submissions of one connection that wait for their answer.
const UNDER_WAY_MAX: usize = 256;

/// The submissions of one connection.
pub(super) struct Submissions {
    operations_max: usize,
    /// Each ends with its outcome; some wait for a remote host to come back.
    under_way: JoinSet<Outcome>,
    /// Which of them wait for an answer, and have not had it by the delta itself.
    unanswered: HashSet<(WaveletName, Submission)>,
}

/// A submission that makes sense.
pub(super) struct Read {
    pub(super) name: WaveletName,
    pub(super) submission: Submission,
    pub(super) version: Version,
    pub(super) ops: Vec<WaveletOp>,
}

/// What became of a submission.
pub(crate) enum Outcome {
    /// It is on disk.
    Applied(WaveletHandle, ShownDelta),
    /// It is not, and the message says why.
    Refused(ServerMessage),
}

impl Submissions {
    pub(super) fn new(operations_max: usize) -> Self {
        Self {
            operations_max,
            under_way: JoinSet::new(),
            unanswered: HashSet::new(),
        }
    }

    /// Reads a message; one that makes no sense is refused under its own number.
    pub(super) fn read(
        &self,
        wavelet: String,
        session: String,
        sequence: u64,
        version: u64,
        operations: Vec<Operation>,
    ) -> Result<Read, Box<ServerMessage>> {
        let count = operations.len();
        let refused = |reason, text| ServerMessage::Refused {
            wavelet: wavelet.clone(),
            session: session.clone(),
            sequence,
            reason,
            text,
        };
        if count > self.operations_max {
            let text = format!(
                "a submission has at most {} operations, this one has {count}",
                self.operations_max
            );
            return Err(Box::new(refused(RefusalReason::TooLarge, text)));
        }
        let read = || {
            if sequence == 0 || count == 0 {
                return Err(Untranslatable(
                    "expected a sequence from 1 and at least one operation".to_owned(),
                ));
            }
            let submission = Submission {
                session: translation::session_name(&session)?,
                sequence,
            };
            let name = translation::wavelet_name(&wavelet)?;
            let version = translation::version(version)?;
            Ok(Read {
                name,
                submission,
                version,
                ops: translation::operations(operations)?,
            })
        };
        read().map_err(|error| Box::new(refused(RefusalReason::BadRequest, error.0)))
    }

    /// Hands a submission to its wavelet.
    pub(super) async fn begin(
        &mut self,
        handle: WaveletHandle,
        user: &ParticipantId,
        Read {
            name,
            submission,
            version,
            ops,
        }: Read,
    ) -> Result<(), Box<ServerMessage>> {
        if self.under_way.len() >= UNDER_WAY_MAX {
            return Err(Box::new(refused(&name, &submission, &Refusal::Unavailable)));
        }
        self.unanswered.insert((name.clone(), submission.clone()));
        // Given to the wavelet here, so that submissions keep their order; only the answer is waited for elsewhere.
        let answer = handle.submit(user, submission.clone(), version, ops).await;
        self.under_way.spawn(async move {
            let outcome = answer.await.unwrap_or(Err(Refusal::Unavailable));
            match record_of(&handle, outcome).await {
                Ok(record) => Outcome::Applied(handle, ShownDelta::new(name, record)),
                Err(refusal) => Outcome::Refused(refused(&name, &submission, &refusal)),
            }
        });
        Ok(())
    }

    /// Waits for the next outcome.
    pub(super) async fn next(&mut self) -> Outcome {
        loop {
            match self.under_way.join_next().await {
                Some(Ok(outcome)) => return outcome,
                Some(Err(error)) => tracing::error!(%error, "a submission's task broke"),
                None => std::future::pending().await,
            }
        }
    }

    /// A delta was sent to the client: if it is one of its submissions, that is its answer.
    pub(super) fn shown(&mut self, delta: &ShownDelta, user: &ParticipantId) {
        if delta.record().delta.author == *user
            && let Some(submission) = delta.record().submission()
        {
            self.unanswered.remove(&(delta.name().clone(), submission.clone()));
        }
    }

    /// Whether the delta has been the answer already; it is from now on.
    pub(super) fn has_shown(&mut self, delta: &ShownDelta) -> bool {
        let Some(submission) = delta.record().submission() else {
            return true;
        };
        !self.unanswered.remove(&(delta.name().clone(), submission.clone()))
    }
}

/// The record of what was applied, now or long ago.
async fn record_of(handle: &WaveletHandle, outcome: Result<Applied, Refusal>) -> Result<Arc<Record>, Refusal> {
    match outcome? {
        Applied::Record(record) => Ok(record),
        Applied::Before { applied_at } => match handle.record(applied_at).await {
            Ok(Some(record)) => Ok(record),
            Ok(None) | Err(_) => Err(Refusal::Unavailable),
        },
    }
}

fn refused(name: &WaveletName, submission: &Submission, refusal: &Refusal) -> ServerMessage {
    let reason = match refusal {
        Refusal::NotParticipant(_) | Refusal::AuthorRemoved(_) => RefusalReason::NotParticipant,
        Refusal::DoesNotApply(_) | Refusal::Rebase => RefusalReason::DoesNotApply,
        Refusal::UnknownVersion | Refusal::InvalidHash(_) => RefusalReason::UnknownVersion,
        Refusal::Schema(_) => RefusalReason::Schema,
        Refusal::TooLarge(_) => RefusalReason::TooLarge,
        Refusal::LegacyPeer(_) => RefusalReason::LegacyPeer,
        Refusal::HostRefused(_) => RefusalReason::HostRefused,
        Refusal::Unavailable => RefusalReason::Unavailable,
        Refusal::NoOperations | Refusal::CreatesWavelet | Refusal::FirstAddsAuthor | Refusal::OutOfOrder => {
            RefusalReason::BadRequest
        }
    };
    ServerMessage::Refused {
        wavelet: name.to_string(),
        session: submission.session.to_string(),
        sequence: submission.sequence,
        reason,
        text: refusal.to_string(),
    }
}
