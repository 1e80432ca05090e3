//! The task of one live wavelet: it owns the machine, and does nothing but tell it what comes in and do what it wants.
//!
//! A wavelet that nobody has a handle of or has open is sealed, kept as a snapshot and put away after a while. A machine that a
//! store failure has made useless is dropped with everybody who waits for it; the next message loads it again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use billow_model::{Domain, HashedVersion, ParticipantId, Version, Wavelet, WaveletName, WaveletOp, planted};
use billow_signing::Verified;
use billow_store::{Snapshot, StoreError};
use billow_wavelet::hosted::Applied;
use billow_wavelet::remote::UpdateRefusal;
use billow_wavelet::{
    HostedInput, Machine, Readers, Record, Refusal, RemoteInput, Seals, StoredRecord, Submission, access,
};
use billow_wire::exchange::{SubmitResponse, WaveletUpdate};
use billow_wire::{Encoded, FromHost, SignedDelta};
use tokio::sync::{mpsc, oneshot};

use super::keeper::{Done, Keeper, until};
use super::subscribers::{Caret, CaretSource, Start, Subscription};
use super::{Shared, aside_if, hosted, machine, remote};
use crate::clock;
use crate::web::messages::PeerDelivery;

/// Messages that wait for the task before senders do.
const MESSAGES: usize = 1_024;
/// Messages and results taken in before the machine is asked what it wants: what they cause is stored in one write.
const ROUND: usize = 256;
/// Operations between two snapshots.
const SNAPSHOT_EVERY: u64 = 1_000;
/// So many deltas at once are worked through while other tasks go on.
const MUCH: usize = 20;
/// How often clients are told of the delivery's state at most.
const DELIVERY_EVERY: Duration = Duration::from_millis(200);
/// Operations that somebody who resumes may be behind; more is a snapshot.
const RESUME_MAX: u64 = 10_000;
/// How long a wavelet that is not in the store is kept.
const UNKNOWN_MAX: Duration = Duration::from_secs(1);
/// How long a wavelet that could not go on is left alone.
const RELOAD: Duration = Duration::from_secs(5);
/// How long a wavelet may take to be put away when the server stops.
const STOP_MAX: Duration = Duration::from_secs(3);

/// The way to a wavelet's task.
pub(super) type Mailbox = mpsc::Sender<Message>;

/// A look at the shown state and how far it is sealed.
type Read = Box<dyn FnOnce(&Wavelet, &HashedVersion) + Send>;

/// What a wavelet's task is asked.
pub(super) enum Message {
    Subscribe {
        user: ParticipantId,
        known: Option<Version>,
        reply: oneshot::Sender<Option<Subscription>>,
    },
    Submit {
        author: ParticipantId,
        submission: Submission,
        version: Version,
        ops: Vec<WaveletOp>,
        reply: oneshot::Sender<Result<Applied, Refusal>>,
    },
    Caret {
        from: CaretSource,
        caret: Caret,
    },
    Read(Read),
    Delivery {
        reply: oneshot::Sender<Arc<Vec<PeerDelivery>>>,
    },
    SetDelivery {
        peers: Vec<PeerDelivery>,
    },
    RemoteSubmit {
        delta: Box<Verified<Encoded<SignedDelta>>>,
        reply: oneshot::Sender<Result<SubmitResponse, Refusal>>,
    },
    Update {
        update: Box<FromHost<WaveletUpdate>>,
        reply: oneshot::Sender<Result<(), UpdateRefusal>>,
    },
    Readers {
        reply: oneshot::Sender<(Readers, HashedVersion)>,
    },
    Seals {
        domain: Domain,
        from: Version,
        to: Version,
        reply: oneshot::Sender<Seals>,
    },
    HostSpoke,
    LoadAnew,
}

/// Starts the task of a wavelet; it begins by loading it.
pub(super) fn start(name: WaveletName, shared: Arc<Shared>) -> Mailbox {
    let (mailbox, receiver) = mpsc::channel(MESSAGES);
    tokio::spawn(run(name, shared, receiver));
    mailbox
}

async fn run(name: WaveletName, shared: Arc<Shared>, mut receiver: mpsc::Receiver<Message>) {
    let machine = match machine::load(&name, &shared).await {
        Ok(machine) => machine,
        Err(error) => {
            tracing::error!("{name} cannot be loaded: {error}");
            shared.metrics.count("store_errors", "load");
            if matches!(error, StoreError::Damaged(_)) {
                shared.damaged().insert(name.clone());
            }
            shared.forget(&name, &mut receiver);
            return;
        }
    };
    shared.damaged().remove(&name);
    let fence = match shared.store.fence(&name).await {
        Ok(fence) if shared.hosts(&name) => fence,
        Ok(_) => None,
        Err(error) => {
            tracing::error!("{name} cannot be loaded: {error}");
            shared.forget(&name, &mut receiver);
            return;
        }
    };
    let (done, finished) = mpsc::unbounded_channel();
    let kept = machine.kept;
    let mut keeper = Keeper::new(name, shared, done);
    keeper.rebuilt = machine.rebuilt;
    let mut actor = Actor {
        keeper,
        machine: machine.machine,
        receiver,
        finished,
        used: Instant::now(),
        snapshot: kept,
        snapshot_under_way: false,
        writes: 0,
        much: false,
        opened: false,
        over_quota: false,
        stopping_since: None,
        delivery_told: None,
        anew: false,
        fence,
        told_of_more: false,
    };
    actor.run().await;
}

struct Actor {
    keeper: Keeper,
    machine: Machine,
    receiver: mpsc::Receiver<Message>,
    finished: mpsc::UnboundedReceiver<Done>,
    /// When somebody last asked something.
    used: Instant,
    /// The version of the newest snapshot in the store.
    snapshot: Version,
    snapshot_under_way: bool,
    /// Writes that are not answered yet.
    writes: usize,
    /// Many deltas have come that are not worked through.
    much: bool,
    /// A user has opened it.
    opened: bool,
    /// It was not stored because its domain has stored too much here.
    over_quota: bool,
    stopping_since: Option<Instant>,
    delivery_told: Option<Instant>,
    /// What is in memory is not to be used any more.
    anew: bool,
    /// Why nothing may be changed, on a wavelet of ours of which others know more.
    fence: Option<String>,
    /// A participant's server has named a version that is not here, and the operator was told.
    told_of_more: bool,
}

impl Actor {
    async fn run(&mut self) {
        let mut legacy = self.keeper.shared.legacy.subscribe();
        let mut stopping = self.keeper.shared.stopping.subscribe();
        legacy.mark_changed();
        if let Machine::Hosted(machine) = &self.machine {
            self.keeper
                .shared
                .federation
                .loaded(&self.keeper.name, machine.readers());
        }
        loop {
            self.drive().await;
            if self.machine.failed() || self.anew {
                if !self.over_quota {
                    tracing::warn!("{} is loaded anew", self.keeper.name);
                }
                self.keeper.give_up();
                self.keeper.shared.forget(&self.keeper.name, &mut self.receiver);
                self.take_up_later();
                return;
            }
            let stop = *stopping.borrow();
            if self.put_away(stop) {
                return;
            }
            let wake = tokio::time::Instant::from_std(self.wake(stop));
            tokio::select! {
                biased;
                Some(done) = self.finished.recv() => self.finish(done),
                Some(message) = self.receiver.recv() => self.take(message),
                Ok(()) = legacy.changed() => {
                    let domains = legacy.borrow_and_update().clone();
                    self.machine.tell_legacy(clock::steady(), domains);
                }
                Ok(()) = stopping.changed(), if !stop => {}
                () = tokio::time::sleep_until(wake) => self.machine.tick(clock::steady()),
            }
            for _ in 0..ROUND {
                if let Ok(done) = self.finished.try_recv() {
                    self.finish(done);
                } else if let Ok(message) = self.receiver.try_recv() {
                    self.take(message);
                } else {
                    break;
                }
            }
        }
    }

    /// Has the wavelet loaded again after a while, whether or not anybody asks for it: what it had under way to others is in
    /// the store and goes on then.
    fn take_up_later(&self) {
        let (shared, name) = (Arc::clone(&self.keeper.shared), self.keeper.name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(RELOAD).await;
            if !*shared.stopping.borrow() && matches!(shared.store.has(&name).await, Ok(true)) {
                shared.mailbox(&name);
            }
        });
    }

    /// Whether nothing may be changed, because this wavelet may have another history elsewhere.
    ///
    /// A participant's delta made after a version that we do not have is told to the operator and changes nothing: either its
    /// server lies, and then a lie must not stop the wavelet, or an old copy of our data was put back by hand.
    fn knows_more(&mut self, delta: &Verified<Encoded<SignedDelta>>) -> bool {
        let (delta, wavelet) = (&delta.get().delta, self.machine.wavelet());
        let (theirs, ours) = (delta.target.version, wavelet.version());
        let claims_more = theirs > ours && access::may_read(wavelet.participants(), &delta.author);
        if self.fence.is_none() && claims_more && !self.machine.is_remote() && !self.told_of_more {
            self.told_of_more = true;
            let (name, domain) = (&self.keeper.name, delta.author.domain());
            tracing::error!(
                "ALARM: {domain} names version {theirs} of {name}, which ends here at {ours}: it lies, or an old copy of this \
                 server's data was put back by hand; if so, stop the server and use billow restore and billow adopt"
            );
            self.keeper
                .shared
                .metrics
                .count("alarms", "a peer names a newer version");
        }
        self.fence.is_some()
    }

    async fn drive(&mut self) {
        match &mut self.machine {
            Machine::Hosted(machine) => self.writes += usize::from(hosted::drive(machine, &mut self.keeper).await),
            Machine::Remote(machine) => {
                let rebuilt = self.keeper.rebuilt;
                let much = std::mem::take(&mut self.much);
                self.writes += remote::drive(machine, &mut self.keeper, much).await;
                if self.keeper.rebuilt != rebuilt {
                    // The snapshot of the state before is gone.
                    self.snapshot = Version::ZERO;
                }
                let refused = self.keeper.shared.policy.refusal(self.keeper.name.host());
                let peers = remote::delivery(machine, &self.keeper.delivery, refused);
                if self.delivery_told.is_none_or(|told| told.elapsed() >= DELIVERY_EVERY)
                    && *self.keeper.delivery != peers
                {
                    self.delivery_told = Some(Instant::now());
                    self.keeper.set_delivery(machine.wavelet(), peers);
                }
            }
        }
        let shown = self.machine.wavelet().version();
        let far = shown.number() >= self.snapshot.number().saturating_add(SNAPSHOT_EVERY);
        if far && !self.snapshot_under_way && self.machine.is_sound() {
            self.keep_snapshot();
        }
    }

    /// When something is to be done even if nothing comes in.
    fn wake(&self, stop: bool) -> Instant {
        let now = Instant::now();
        let mut wake = if stop {
            now + Duration::from_millis(20)
        } else {
            self.used + self.idle_max()
        };
        if let Some(deadline) = self.machine.deadline() {
            wake = wake.min(now + until(clock::steady(), deadline));
        }
        if let Some(told) = self.delivery_told.filter(|_| self.machine.is_remote()) {
            let next = told + DELIVERY_EVERY;
            if next > now {
                wake = wake.min(next);
            }
        }
        wake
    }

    fn take(&mut self, message: Message) {
        self.used = Instant::now();
        let now = clock::steady();
        match message {
            Message::Subscribe { user, known, reply } => self.subscribe(user, known, reply),
            Message::Submit { reply, .. } if self.fence.is_some() => {
                let words = self.fence.clone().unwrap_or_default();
                let text =
                    format!("this wave can be read and not changed: {words}. Its server's operator has been told.");
                drop(reply.send(Err(Refusal::HostRefused(text))));
            }
            Message::Submit {
                author,
                submission,
                version,
                ops,
                reply,
            } => {
                if let Err(words) = self.may_invite(&author, &ops) {
                    self.keeper.shared.metrics.count("submissions_refused", "policy");
                    return drop(reply.send(Err(Refusal::HostRefused(words))));
                }
                let ticket = self.keeper.ticket();
                self.keeper.answers.insert(ticket, reply);
                let long = self.machine.takes_long(version, &ops);
                let machine = &mut self.machine;
                aside_if(long, || match machine {
                    // What is applied now says when, by the time of day.
                    Machine::Hosted(machine) => machine.handle(
                        clock::now(),
                        HostedInput::Submit {
                            ticket,
                            submission,
                            author,
                            version,
                            ops,
                        },
                    ),
                    Machine::Remote(machine) => machine.handle(
                        now,
                        RemoteInput::Submit {
                            ticket,
                            submission,
                            author,
                            version,
                            ops,
                        },
                    ),
                });
            }
            Message::Caret { from, caret } => self.keeper.caret(self.machine.wavelet(), &from, caret),
            Message::Read(read) => read(self.machine.wavelet(), &self.machine.sealed()),
            Message::Delivery { reply } => drop(reply.send(Arc::clone(&self.keeper.delivery))),
            Message::SetDelivery { peers } => self.keeper.set_delivery(self.machine.wavelet(), peers),
            // The peer tries again.
            Message::RemoteSubmit { delta, reply } if self.knows_more(&delta) => {
                drop(delta);
                drop(reply.send(Err(Refusal::Unavailable)));
            }
            Message::RemoteSubmit { delta, reply } => {
                let wanted = &delta.get().delta;
                if let Err(words) = self.may_invite(&wanted.author, &wanted.ops) {
                    self.keeper.shared.metrics.count("refused", "policy");
                    return drop(reply.send(Err(Refusal::HostRefused(words))));
                }
                match &mut self.machine {
                    Machine::Hosted(machine) => {
                        let ticket = self.keeper.ticket();
                        self.keeper.remote_answers.insert(ticket, reply);
                        let wanted = &delta.get().delta;
                        let long = machine.takes_long(wanted.target.version, &wanted.ops);
                        aside_if(long, || {
                            machine.handle(clock::now(), HostedInput::RemoteSubmit { ticket, delta: *delta })
                        });
                    }
                    Machine::Remote(_) => drop(reply.send(Err(Refusal::HostRefused(
                        "this server does not host the wavelet".to_owned(),
                    )))),
                }
            }
            Message::Update { update, reply } => match &mut self.machine {
                Machine::Remote(machine) => {
                    let is_new = machine.wavelet().version() == Version::ZERO;
                    if is_new && let Err(words) = self.keeper.shared.policy.new_wavelet(&self.keeper.name) {
                        self.keeper.shared.metrics.count("refused", "policy");
                        return drop(reply.send(Err(UpdateRefusal::TooMuch(words))));
                    }
                    let tag = self.keeper.ticket();
                    let deltas = &update.get().deltas;
                    let long = |delta: &billow_model::Delta| machine.takes_long(delta.target.version, &delta.ops);
                    self.much |= deltas.len() > MUCH || deltas.iter().any(|delta| long(&delta.signed.delta));
                    self.keeper.update_answers.insert(tag, reply);
                    machine.handle(now, RemoteInput::Update { tag, update: *update });
                }
                Machine::Hosted(_) => drop(reply.send(Err(UpdateRefusal::NoLocalParticipant))),
            },
            Message::Readers { reply } => drop(reply.send((self.machine.readers().clone(), self.machine.sealed()))),
            Message::Seals {
                domain,
                from,
                to,
                reply,
            } => drop(reply.send(self.machine.seals(&domain, from, to))),
            Message::LoadAnew => self.anew = true,
            Message::HostSpoke => {
                if let Machine::Remote(machine) = &mut self.machine {
                    machine.handle(now, RemoteInput::HostSpoke);
                }
            }
        }
    }

    /// Whether somebody may add those whom these operations add; if not, why.
    fn may_invite(&self, author: &ParticipantId, ops: &[WaveletOp]) -> Result<(), String> {
        let (present, ours) = (self.machine.wavelet().participants(), &self.keeper.shared.domain);
        let invited = ops.iter().filter_map(|op| match op {
            WaveletOp::AddParticipant(who) if !present.contains(who) => Some(who.domain()),
            _ => None,
        });
        let elsewhere: BTreeSet<Domain> = invited.filter(|domain| domain != ours).collect();
        match elsewhere.is_empty() {
            true => Ok(()),
            false => self.keeper.shared.may_reach(author, &elsewhere),
        }
    }

    fn finish(&mut self, done: Done) {
        let now = clock::steady();
        if let Done::Stored { .. } = &done {
            self.writes -= 1;
        }
        match done {
            Done::Stored {
                written,
                outcome: Ok(()),
            } => self.machine.stored(now, written),
            Done::Stored {
                outcome: Err(error), ..
            } => {
                if let StoreError::OverQuota(_) = &error {
                    self.keeper.shared.metrics.count("refused", "quota");
                    self.over_quota = true;
                } else {
                    tracing::error!("{} could not be stored: {error}", self.keeper.name);
                    self.keeper.shared.metrics.count("store_errors", "write");
                }
                match &mut self.machine {
                    Machine::Hosted(machine) => machine.handle(now, HostedInput::PersistFailed),
                    Machine::Remote(machine) => machine.handle(now, RemoteInput::PersistFailed),
                }
            }
            Done::Signed(None) => {
                self.keeper.shared.metrics.count("signing", "failed");
                self.machine.sign_failed(now);
            }
            Done::Signed(Some(delta)) => match &mut self.machine {
                Machine::Hosted(machine) => machine.handle(now, HostedInput::Signed { delta }),
                Machine::Remote(machine) => machine.handle(now, RemoteInput::Signed { delta }),
            },
            Done::Remote(input) => {
                if let Machine::Remote(machine) = &mut self.machine {
                    self.much |=
                        matches!(&input, RemoteInput::History { outcome: Ok(deltas), .. } if deltas.len() > MUCH);
                    machine.handle(now, input);
                }
            }
            Done::Resume {
                user,
                known,
                older,
                reply,
            } => self.resume(user, known, &older, reply),
            Done::Snapshot { version, kept } => {
                self.snapshot_under_way = false;
                // One that could not be kept is tried again after as many operations more.
                self.snapshot = if kept {
                    version
                } else {
                    self.machine.wavelet().version()
                };
            }
        }
    }

    /// Opens the wavelet for somebody. Deltas that are no longer in memory are read from the store first.
    fn subscribe(&mut self, user: ParticipantId, known: Option<Version>, reply: oneshot::Sender<Option<Subscription>>) {
        let wavelet = self.machine.wavelet();
        let hidden = self.keeper.shared.requests.hides(&user, &self.keeper.name);
        let reader = access::may_read(wavelet.participants(), &user) || planted::is("a stranger may open a wavelet");
        if hidden || !reader {
            return drop(reply.send(None));
        }
        let shown = wavelet.version();
        self.note_opened();
        let known = known.filter(|known| *known <= shown && shown.number() - known.number() <= RESUME_MAX);
        let known = known.filter(|known| self.keeper.rebuilt.is_none_or(|rebuilt| rebuilt < *known));
        let Some(known) = known else {
            return drop(reply.send(Some(self.start(user, None))));
        };
        if let Some(deltas) = self.machine.deltas(known) {
            return drop(reply.send(Some(self.start(user, Some(deltas)))));
        }
        let (shared, done, name) = (
            Arc::clone(&self.keeper.shared),
            self.keeper.done.clone(),
            self.keeper.name.clone(),
        );
        tokio::spawn(async move {
            let older = shared.older(&name, known, shown, usize::MAX).await.unwrap_or_default();
            let _ = done.send(Done::Resume {
                user,
                known,
                older,
                reply,
            });
        });
    }

    /// From now on another domain's wavelet is one that somebody here wants.
    fn note_opened(&mut self) {
        if self.machine.is_remote() && !std::mem::replace(&mut self.opened, true) {
            let (shared, name) = (Arc::clone(&self.keeper.shared), self.keeper.name.clone());
            tokio::spawn(async move {
                if let Err(error) = shared.store.opened(&name).await {
                    tracing::warn!("that {name} was opened is not kept: {error}");
                }
            });
        }
    }

    /// Goes on with [`Actor::subscribe`]: what was read, and what has come since.
    fn resume(
        &mut self,
        user: ParticipantId,
        known: Version,
        older: &[StoredRecord],
        reply: oneshot::Sender<Option<Subscription>>,
    ) {
        if !access::may_read(self.machine.wavelet().participants(), &user) {
            return drop(reply.send(None));
        }
        let starts = older.first().is_some_and(|first| first.record.applied_at() == known);
        let rest = older
            .last()
            .filter(|_| starts)
            .and_then(|last| self.machine.deltas(last.record.resulting()));
        let deltas = rest.map(|rest| {
            older
                .iter()
                .map(|stored| Arc::clone(&stored.record))
                .chain(rest)
                .collect()
        });
        drop(reply.send(Some(self.start(user, deltas))));
    }

    fn start(&mut self, user: ParticipantId, deltas: Option<Vec<Arc<Record>>>) -> Subscription {
        let (id, events) = self.keeper.subscribers.add(user);
        let wavelet = self.machine.wavelet();
        let start = match deltas {
            Some(deltas) => Start::Resumed {
                version: wavelet.version(),
                deltas,
            },
            None => Start::Snapshot(Box::new(wavelet.clone()), self.machine.sealed()),
        };
        Subscription {
            id,
            start,
            carets: self.keeper.carets(),
            delivery: Arc::clone(&self.keeper.delivery),
            events,
        }
    }

    fn keep_snapshot(&mut self) {
        self.snapshot_under_way = true;
        let version = self.machine.wavelet().version();
        let snapshot = Snapshot {
            version,
            sealed: self.machine.sealed().version,
            state: self.machine.snapshot(),
        };
        let (shared, done, name) = (
            Arc::clone(&self.keeper.shared),
            self.keeper.done.clone(),
            self.keeper.name.clone(),
        );
        tokio::spawn(async move {
            let kept = shared.store.keep_snapshot(&name, snapshot).await;
            if let Err(error) = &kept {
                tracing::warn!("the snapshot of {name} is not kept: {error}");
            }
            let _ = done.send(Done::Snapshot {
                version,
                kept: kept.is_ok(),
            });
        });
    }

    /// Whether the task is at its end: nobody uses the wavelet, everything is stored and sealed, and a snapshot is kept.
    fn put_away(&mut self, stop: bool) -> bool {
        if stop {
            return self.stop();
        }
        if self.used.elapsed() < self.idle_max() {
            return false;
        }
        // Whatever stands in the way now: look again when as much time has passed.
        self.used = Instant::now();
        if !self.machine.is_idle() || self.snapshot_under_way || !self.keeper.subscribers.is_empty() {
            return false;
        }
        let shown = self.machine.wavelet().version();
        if self.machine.is_admitted() {
            if shown > self.machine.sealed().version {
                if let Machine::Hosted(machine) = &mut self.machine {
                    machine.handle(clock::steady(), HostedInput::SealNow);
                }
                return false;
            }
            if shown > self.snapshot {
                self.keep_snapshot();
                return false;
            }
        }
        self.keeper.shared.forget_unused(&self.keeper.name, &mut self.receiver)
    }

    /// As [`Actor::put_away`] when the server stops: whoever has it open is being sent away too, and what waits for other servers
    /// waits in the store.
    fn stop(&mut self) -> bool {
        self.keeper.subscribers.end();
        let since = *self.stopping_since.get_or_insert_with(Instant::now);
        let patient = since.elapsed() < STOP_MAX;
        if patient
            && (self.snapshot_under_way || !(self.machine.is_idle() || self.machine.is_remote() && self.writes == 0))
        {
            return false;
        }
        let newer = self.machine.wavelet().version() > self.snapshot;
        if patient && newer && self.machine.is_admitted() && self.machine.is_sound() {
            self.keep_snapshot();
            return false;
        }
        self.keeper.shared.forget(&self.keeper.name, &mut self.receiver);
        true
    }

    /// How long it stays when nobody asks for anything; one that is in no store (a stranger asked for it) does not stay.
    fn idle_max(&self) -> Duration {
        let idle_max = self.keeper.shared.idle_max;
        if self.machine.is_admitted() {
            idle_max
        } else {
            idle_max.min(UNKNOWN_MAX)
        }
    }
}
