//! What the task of a wavelet has besides its machine: who watches, who waits for answers, what is to be stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use billow_model::{ParticipantId, Timestamp, Version, Wavelet, WaveletName, WaveletOp, planted};
use billow_store::{StoreError, WaveletWrite};
use billow_wavelet::hosted::Applied;
use billow_wavelet::remote::UpdateRefusal;
use billow_wavelet::{Record, Refusal, RemoteInput, StoredRecord, Written, access};
use billow_wire::exchange::SubmitResponse;
use billow_wire::{Encoded, SignedDelta};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::rate::CaretRate;
use super::shown::ShownDelta;
use super::subscribers::{Caret, CaretSource, Event, Subscribers, Subscription};
use crate::web::messages::PeerDelivery;

/// A caret of which nothing was heard for so long is gone.
const CARET_AGE: Duration = Duration::from_secs(10);
/// Carets that one wavelet remembers for those who open it.
const CARETS_MAX: usize = 200;
/// Carets that one user of another server may have on it at once.
const EDITORS_MAX: usize = 8;

/// Something that the task had begun is done.
pub(super) enum Done {
    /// A write is on disk, or not.
    Stored {
        written: Written,
        outcome: Result<(), StoreError>,
    },
    /// A delta is signed; `None`: it could not be.
    Signed(Option<Encoded<SignedDelta>>),
    /// An answer for a remote wavelet.
    Remote(RemoteInput),
    /// The deltas before those in memory, for somebody who resumes.
    Resume {
        user: ParticipantId,
        known: Version,
        older: Vec<StoredRecord>,
        reply: oneshot::Sender<Option<Subscription>>,
    },
    /// A snapshot is kept, or not.
    Snapshot { version: Version, kept: bool },
}

/// Everything of a wavelet's task but the machine.
pub(super) struct Keeper {
    pub(super) name: WaveletName,
    pub(super) shared: Arc<Shared>,
    pub(super) done: mpsc::UnboundedSender<Done>,
    pub(super) subscribers: Subscribers,
    pub(super) answers: HashMap<u64, oneshot::Sender<Result<Applied, Refusal>>>,
    pub(super) remote_answers: HashMap<u64, oneshot::Sender<Result<SubmitResponse, Refusal>>>,
    pub(super) update_answers: HashMap<u64, oneshot::Sender<Result<(), UpdateRefusal>>>,
    pub(super) delivery: Arc<Vec<PeerDelivery>>,
    /// Up to this version there was another state once: who knows a version up to there needs everything anew.
    pub(super) rebuilt: Option<Version>,
    people: Arc<[ParticipantId]>,
    carets: Vec<(Arc<Caret>, Instant)>,
    caret_rate: CaretRate,
    /// Deltas were shown of which the inbox does not know yet; they remove these people.
    news: Option<Vec<ParticipantId>>,
    tickets: u64,
}

impl Keeper {
    pub(super) fn new(name: WaveletName, shared: Arc<Shared>, done: mpsc::UnboundedSender<Done>) -> Self {
        Self {
            name,
            shared,
            done,
            subscribers: Subscribers::default(),
            answers: HashMap::new(),
            remote_answers: HashMap::new(),
            update_answers: HashMap::new(),
            delivery: Arc::default(),
            rebuilt: None,
            people: Arc::from([]),
            carets: Vec::new(),
            caret_rate: CaretRate::default(),
            news: None,
            tickets: 0,
        }
    }

    /// A new name for a question.
    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Shows a delta to everybody who has the wavelet open. `wavelet` is at least as new as the delta.
    pub(super) fn show(&mut self, wavelet: &Wavelet, record: &Arc<Record>) {
        if !self.subscribers.is_empty() {
            let shown = ShownDelta::new(self.name.clone(), Arc::clone(record));
            self.subscribers.tell(&Event::Delta(Arc::new(shown)));
        }
        let changes_people =
            |op: &WaveletOp| matches!(op, WaveletOp::AddParticipant(_) | WaveletOp::RemoveParticipant(_));
        if self.people.is_empty() || record.delta.ops.iter().any(changes_people) {
            self.people = wavelet.participants().into();
            self.subscribers
                .keep(|user| access::may_read(wavelet.participants(), user));
        }
        let removed = record.delta.ops.iter().filter_map(|op| match op {
            WaveletOp::RemoveParticipant(who) => Some(who),
            _ => None,
        });
        self.news.get_or_insert_default().extend(removed.cloned());
    }

    /// The shown state is another one: everybody opens the wavelet anew.
    pub(super) fn reset(&mut self, wavelet: &Wavelet) {
        self.rebuilt = Some(wavelet.version());
        self.subscribers.end();
        self.carets.clear();
        self.people = wavelet.participants().into();
        self.shared.changed(&self.name, &self.people);
    }

    /// Tells the inbox of all that was shown since the last time, at once: a history of many deltas is one change to it.
    pub(super) fn tell_inbox(&mut self) {
        let Some(removed) = self.news.take() else { return };
        if removed.is_empty() {
            self.shared.changed(&self.name, &self.people);
        } else {
            self.shared
                .changed(&self.name, &self.people.iter().cloned().chain(removed).collect());
        }
    }

    pub(super) fn answer(&mut self, ticket: u64, outcome: Result<Applied, Refusal>) {
        if let Err(refusal) = &outcome {
            self.shared.metrics.count("submissions_refused", kind(refusal));
        }
        if let Some(reply) = self.answers.remove(&ticket) {
            // Whoever asked may be gone.
            let _ = reply.send(outcome);
        }
    }

    /// Says how far other domains are, if that has changed.
    pub(super) fn set_delivery(&mut self, wavelet: &Wavelet, mut peers: Vec<PeerDelivery>) {
        for peer in &mut peers {
            let before = self
                .delivery
                .iter()
                .find(|before| before.domain == peer.domain && before.state == peer.state);
            peer.since = before.map_or(peer.since, |before| before.since);
        }
        if *self.delivery == peers {
            return;
        }
        self.delivery = Arc::new(peers);
        self.subscribers.tell(&Event::Delivery(Arc::clone(&self.delivery)));
        self.people = wavelet.participants().into();
        self.shared.changed(&self.name, &self.people);
    }

    /// Passes a caret on, if it is of somebody who may be here.
    pub(super) fn caret(&mut self, wavelet: &Wavelet, from: &CaretSource, caret: Caret) {
        let by_peer = match from {
            CaretSource::Subscriber(_) => None,
            CaretSource::Peer(domain) => Some(domain),
        };
        let hosted = self.shared.hosts(&self.name);
        let liar = !from.may_tell_of(&caret.address, &self.shared.domain, hosted);
        if liar || !access::may_read(wavelet.participants(), &caret.address) {
            self.shared.metrics.count("refused", "caret");
            return;
        }
        let now = Instant::now();
        if by_peer.is_some_and(|domain| !self.caret_rate.takes(domain, now)) {
            self.shared.metrics.count("dropped", "caret");
            return;
        }
        self.carets.retain(|(one, seen)| {
            (&one.address, &one.session) != (&caret.address, &caret.session) && now.duration_since(*seen) < CARET_AGE
        });
        let editors = self.carets.iter().filter(|(one, _)| one.address == caret.address);
        if by_peer.is_some() && caret.document.is_some() && editors.count() >= EDITORS_MAX {
            self.shared.metrics.count("dropped", "caret");
            return;
        }
        let caret = Arc::new(caret);
        if caret.document.is_some() && self.carets.len() < CARETS_MAX {
            self.carets.push((Arc::clone(&caret), now));
        }
        let id = match from {
            CaretSource::Subscriber(id) => Some(*id),
            CaretSource::Peer(_) => None,
        };
        self.subscribers.show_caret(id, &caret);
        if by_peer.is_none() || hosted {
            self.shared
                .federation
                .caret(&self.name, wavelet.participants(), by_peer, &caret);
        }
    }

    pub(super) fn carets(&self) -> Vec<Arc<Caret>> {
        let now = Instant::now();
        self.carets
            .iter()
            .filter(|(_, seen)| now.duration_since(*seen) < CARET_AGE)
            .map(|(caret, _)| Arc::clone(caret))
            .collect()
    }

    /// Hands a write to the store; the outcome comes back as [`Done::Stored`].
    pub(super) async fn store(&self, write: WaveletWrite, written: Written) {
        let done = self.done.clone();
        if planted::is("a server answers before it stores") {
            let (shared, outcome) = (Arc::clone(&self.shared), Ok(()));
            tokio::spawn(async move {
                let mut stopping = shared.stopping.subscribe();
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(5)) => drop(shared.store.append(write).await),
                    _ = stopping.changed() => {}
                }
            });
            return drop(done.send(Done::Stored { written, outcome }));
        }
        let outcome = self
            .shared
            .store
            .append_then(write, move |outcome| {
                // The task may have ended; the write counts all the same.
                let _ = done.send(Done::Stored { written, outcome });
            })
            .await;
        if let Err(error) = outcome {
            let _ = self.done.send(Done::Stored {
                written,
                outcome: Err(error),
            });
        }
    }

    /// Has a delta signed; it comes back as [`Done::Signed`].
    pub(super) fn sign(&self, delta: Encoded<billow_model::Delta>) {
        let (done, name) = (self.done.clone(), self.name.clone());
        self.shared.signing.sign(delta, move |outcome| {
            let signed = outcome
                .map_err(|error| tracing::error!("a delta of {name} cannot be signed: {error}"))
                .ok();
            let _ = done.send(Done::Signed(signed));
        });
    }

    /// The machine could not go on: everybody is told by silence, and opens or sends again.
    pub(super) fn give_up(&mut self) {
        self.subscribers.end();
        self.answers.clear();
        self.remote_answers.clear();
        self.update_answers.clear();
    }
}

/// How long until a time of day.
pub(super) fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(then.0.saturating_sub(now.0)).unwrap_or(0))
}

/// A refusal as a counter names it.
pub(crate) fn kind(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotParticipant(_) => "not a participant",
        Refusal::AuthorRemoved(_) => "author removed",
        Refusal::NoOperations => "no operations",
        Refusal::CreatesWavelet => "creates a wavelet",
        Refusal::FirstAddsAuthor => "first operation",
        Refusal::InvalidHash(_) => "hash",
        Refusal::UnknownVersion => "unknown version",
        Refusal::DoesNotApply(_) => "does not apply",
        Refusal::Rebase => "rebase",
        Refusal::Schema(_) => "schema",
        Refusal::TooLarge(_) => "too large",
        Refusal::LegacyPeer(_) => "legacy peer",
        Refusal::OutOfOrder => "out of order",
        Refusal::HostRefused(_) => "host refused",
        Refusal::Unavailable => "unavailable",
    }
}
