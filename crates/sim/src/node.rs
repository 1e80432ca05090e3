//! One server: the machines, put together as `billow-server` does it, over a [`Disk`].
//!
//! Tell it an [`Event`] with [`Node::handle`], then do what [`Node::poll`] gives until it gives nothing; call again with
//! [`Event::Tick`] when [`Node::deadline`] has come. Time, randomness and keys come from outside, so that the same events
//! give the same bytes. A crash is to drop the node but for its disk ([`Node::into_disk`], [`Disk::crash`]); a restart is
//! [`Node::start`] with that disk.
//!
//! What the world owes the node: each [`Action::Sign`] is answered by [`Event::Signed`], each [`Action::Written`] by
//! [`Event::Synced`], [`Event::DiskFull`] or [`Event::DiskFailed`], in any time but writes in order. For a world without
//! such delays there is [`Node::run`].
//!
//! Not here: browsers' connections, carets, and the net with its streams. Stanzas come in with the domain that their
//! stream has proved, and go out to the domain that a stream is wanted to.

mod serve;
mod wavelets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use billow_federation::Ids;
use billow_federation::discovery::{self, Discovery};
use billow_federation::held::{Held, HeldStanza};
use billow_federation::host::{self, Host, SealedDelta};
use billow_federation::inbound::{self, Ask};
use billow_federation::remote::{self, Failure, Remote, Response};
use billow_model::{Delta, Domain, ParticipantId, Timestamp, Version, Wavelet, WaveletName, WaveletOp};
use billow_signing::{Signer, TrustRoots, Verifier};
use billow_wavelet::hosted::Applied;
use billow_wavelet::remote::{Evidence, HistoryFailure, SubmitFailure};
use billow_wavelet::{Record, Refusal, RemoteInput, Submission};
use billow_wire::{Encoded, SignedDelta, SignerId, SignerInfo};
use billow_xmpp::{Condition, Element, IqKind, Jid, Stanza, StanzaError};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

use crate::disk::{Cursor, Disk, Write};
use serve::Batch;
use wavelets::Live;

/// How long a cursor may wait for its way to the disk, ms.
const CURSORS_EVERY_MS: i64 = 250;
/// How often machines are told that a peer has spoken, at most, ms.
const SPOKE_EVERY_MS: i64 = 1_000;

/// What a server is.
#[derive(Clone)]
pub struct Config {
    /// Its domain: the one whose wavelets it hosts and under which other servers know it.
    pub domain: Domain,
    /// Its key. The node itself only gives the chain to peers; whoever drives it signs with it.
    pub signer: Signer,
    /// Whom it believes.
    pub roots: TrustRoots,
    /// What it calls itself.
    pub description: String,
    /// Where its stanza ids and its jitter come from. A server that starts again should get another one.
    pub seed: u64,
    /// How long a wavelet that nobody uses stays loaded, ms.
    pub idle_ms: i64,
    /// Operations between two snapshots.
    pub snapshot_every: u64,
    /// Bytes of deltas in an answer to a request for history, whatever was asked for.
    pub history_bytes: usize,
    /// Whether a wavelet is sealed as soon as it is persisted, even if nobody else is on it.
    pub seal_at_once: bool,
}

impl Config {
    /// A server with the product's own numbers.
    #[must_use]
    pub fn new(domain: Domain, signer: Signer, roots: TrustRoots, seed: u64) -> Self {
        Self {
            domain,
            signer,
            roots,
            description: "Billow".to_owned(),
            seed,
            idle_ms: 60_000,
            snapshot_every: 1_000,
            history_bytes: 300_000,
            seal_at_once: false,
        }
    }
}

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of day, which deltas carry; it may jump.
    pub wall: Timestamp,
    /// The time for waits, which only grows.
    pub steady: Timestamp,
}

impl From<Timestamp> for Now {
    fn from(time: Timestamp) -> Self {
        Self {
            wall: time,
            steady: time,
        }
    }
}

/// What a node is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stanza came over a stream that `peer` has opened and proved to be its own.
    Stanza {
        /// The authenticated domain.
        peer: billow_xmpp::Domain,
        /// The stanza, in the namespace `jabber:client`.
        element: Element,
    },
    /// The stream to a peer is up.
    Connected(billow_xmpp::Domain),
    /// A peer has opened a stream to us.
    Heard(billow_xmpp::Domain),
    /// A peer cannot be reached.
    Unreachable {
        /// Who.
        peer: billow_xmpp::Domain,
        /// For people.
        reason: String,
        /// When the net tries again, by the steady clock.
        retry_at: Timestamp,
    },
    /// A stanza of ours did not leave.
    Bounced {
        /// Whom it was for.
        peer: billow_xmpp::Domain,
        /// The stanza.
        stanza: Element,
        /// Whether it is too big to be written, and not only late.
        too_big: bool,
    },
    /// A user of ours submits. Answered by [`Action::Answered`] with this ticket, or [`Action::Dropped`].
    Submit {
        /// Names the question in its answer.
        ticket: u64,
        /// To which wavelet; version 0 of one that this server hosts creates it.
        wavelet: WaveletName,
        /// Who.
        author: ParticipantId,
        /// The submission's identity.
        submission: Submission,
        /// The shown version that the operations fit.
        version: Version,
        /// What.
        ops: Vec<WaveletOp>,
    },
    /// The answer to [`Action::Sign`]; `None`: it could not be signed.
    Signed {
        /// Which.
        job: u64,
        /// The delta, signed.
        delta: Option<Encoded<SignedDelta>>,
    },
    /// The disk has taken everything up to this write.
    Synced {
        /// The number of [`Action::Written`].
        upto: u64,
    },
    /// The disk had no room for the oldest unsynced write.
    DiskFull,
    /// The disk has failed: nothing unsynced and nothing more is taken until the server starts again.
    DiskFailed,
    /// Seal this wavelet of ours up to its newest version, whether or not anybody else needs it.
    Seal(WaveletName),
    /// The time that [`Node::deadline`] named has come.
    Tick,
}

/// What a node does or wants done, in this order.
#[derive(Debug, Clone)]
pub enum Action {
    /// Send a stanza to a domain.
    Send {
        /// Whom.
        peer: billow_xmpp::Domain,
        /// The stanza.
        stanza: Element,
    },
    /// Something was written and wants to be synced.
    Written(u64),
    /// Sign with this server's key.
    Sign {
        /// Names the job in its answer.
        job: u64,
        /// What.
        delta: Encoded<Delta>,
        /// On which wavelet; for those who watch.
        wavelet: WaveletName,
    },
    /// A durable delta is shown to everybody here who has the wavelet open.
    Shown {
        /// Which.
        wavelet: WaveletName,
        /// The delta.
        record: Arc<Record>,
    },
    /// What became of a submission.
    Answered {
        /// Whose.
        ticket: u64,
        /// What.
        outcome: Result<Applied, Refusal>,
    },
    /// The submission gets no answer: it may be sent again.
    Dropped {
        /// Whose.
        ticket: u64,
    },
    /// A wavelet of another host contradicts itself and is followed no longer.
    Quarantined {
        /// Which.
        wavelet: WaveletName,
        /// Why.
        evidence: Box<Evidence>,
    },
    /// What the disk has does not make a wavelet. A node that has only ever had its own disk never says this.
    Damaged {
        /// Which.
        wavelet: WaveletName,
        /// Why.
        reason: String,
    },
    /// The net should try this peer now.
    Hurry(billow_xmpp::Domain),
}

/// Who waits for a host's answer: a wavelet, in a certain life of its machine.
#[derive(Debug)]
enum Reply {
    Submit { attempt: u64 },
    History { request: u64 },
    Signer { id: SignerId, time: Timestamp },
}

/// Who waits for a write.
#[derive(Debug)]
enum Writer {
    Wavelet(WaveletName, u64, billow_wavelet::Written),
    Snapshot(WaveletName, u64, Version),
    Cursors(BTreeMap<(WaveletName, Domain), Cursor>),
    Posted(Ask, SignerInfo, Timestamp),
    Fetched(WaveletName, u64, SignerInfo, Timestamp),
}

/// A server. See the module.
pub struct Node {
    config: Config,
    own: Jid,
    disk: Disk,
    disk_failed: bool,
    verifier: Verifier,
    discovery: Discovery,
    hosts: BTreeMap<Domain, Host>,
    remotes: BTreeMap<Domain, Remote>,
    held: Held,
    released: VecDeque<HeldStanza>,
    touched_hosts: BTreeSet<Domain>,
    touched_remotes: BTreeSet<Domain>,
    services: BTreeMap<String, BTreeSet<Domain>>,
    legacy: BTreeSet<Domain>,
    live: BTreeMap<WaveletName, Live>,
    touched: BTreeSet<WaveletName>,
    reload: BTreeMap<WaveletName, Timestamp>,
    replies: BTreeMap<u64, (WaveletName, u64, Reply)>,
    asks: BTreeMap<u64, (WaveletName, u64, Ask)>,
    clients: BTreeMap<u64, (WaveletName, u64, u64)>,
    batches: BTreeMap<u64, Batch>,
    tags: BTreeMap<u64, (WaveletName, u64, u64, usize)>,
    signing: BTreeMap<u64, (WaveletName, u64)>,
    writing: BTreeMap<u64, Writer>,
    cursors: BTreeMap<(WaveletName, Domain), Cursor>,
    cursors_at: Option<Timestamp>,
    cursors_under_way: bool,
    spoke: BTreeMap<billow_xmpp::Domain, Timestamp>,
    counter: u64,
    machines: u64,
    actions: VecDeque<Action>,
}

impl Node {
    /// A server with this disk; it takes up what was under way.
    #[must_use]
    pub fn start(now: impl Into<Now>, config: Config, disk: Disk) -> Self {
        let now = now.into();
        let local: billow_xmpp::Domain = config
            .domain
            .as_str()
            .parse()
            .expect("a server's domain is one of XMPP too");
        let own = local.to_jid();
        let mut node = Self {
            discovery: Discovery::new(own.clone(), ids(config.seed, 0)),
            verifier: Verifier::new(config.roots.clone()),
            own,
            disk,
            disk_failed: false,
            hosts: BTreeMap::new(),
            remotes: BTreeMap::new(),
            held: Held::new(),
            released: VecDeque::new(),
            touched_hosts: BTreeSet::new(),
            touched_remotes: BTreeSet::new(),
            services: BTreeMap::new(),
            legacy: BTreeSet::new(),
            live: BTreeMap::new(),
            touched: BTreeSet::new(),
            reload: BTreeMap::new(),
            replies: BTreeMap::new(),
            asks: BTreeMap::new(),
            clients: BTreeMap::new(),
            batches: BTreeMap::new(),
            tags: BTreeMap::new(),
            signing: BTreeMap::new(),
            writing: BTreeMap::new(),
            cursors: BTreeMap::new(),
            cursors_at: None,
            cursors_under_way: false,
            spoke: BTreeMap::new(),
            counter: 0,
            machines: 0,
            actions: VecDeque::new(),
            config,
        };
        // One whose authority is not trusted here cannot be verified here either.
        let _ = node.verifier.add(node.config.signer.info().clone(), now.wall);
        node.resume(now);
        node.drive(now);
        node
    }

    /// Takes up what was under way: deliveries, deltas to be sealed for others, submissions to other hosts.
    fn resume(&mut self, now: Now) {
        let cursors: Vec<_> = self
            .disk
            .cursors()
            .map(|(name, peer, cursor)| (name.clone(), peer.clone(), cursor))
            .collect();
        for (wavelet, peer, Cursor { acknowledged, until }) in cursors {
            let sealed = self.disk.sealed(&wavelet).max(acknowledged);
            let input = host::Input::Resume {
                wavelet,
                acknowledged,
                until,
                sealed,
            };
            self.tell_host(now, &peer, input);
        }
        for name in self.disk.unfinished() {
            self.load(now, &name);
        }
    }

    /// Tells it something.
    pub fn handle(&mut self, now: impl Into<Now>, event: Event) {
        let now = now.into();
        match event {
            Event::Stanza { peer, element } => {
                self.spoke(now, &peer, SPOKE_EVERY_MS);
                self.stanza(now, &peer, &element, true);
            }
            Event::Connected(peer) => self.spoke(now, &peer, 0),
            Event::Heard(peer) => {
                self.actions.push_back(Action::Hurry(peer.clone()));
                self.spoke(now, &peer, 0);
            }
            Event::Unreachable { peer, reason, retry_at } => self.unreachable(now, &peer, &reason, retry_at),
            Event::Bounced { peer, stanza, too_big } => self.bounced(now, &peer, &stanza, too_big),
            Event::Submit {
                ticket,
                wavelet,
                author,
                submission,
                version,
                ops,
            } => self.submit(now, ticket, &wavelet, author, submission, version, ops),
            Event::Signed { job, delta } => self.signed(now, job, delta),
            Event::Synced { upto } => self.synced(now, upto),
            Event::DiskFull => {
                if let Some(id) = self.disk.refuse_one() {
                    self.written(now, id, false);
                }
            }
            Event::DiskFailed => self.disk_failed(now),
            Event::Seal(name) => self.seal(now, &name),
            Event::Tick => self.tick(now),
        }
        self.drive(now);
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// As [`Node::handle`] and [`Node::poll`] on a perfect disk and with a signer at hand: everything is synced and signed
    /// at once. Gives what is left for the outside.
    pub fn run(&mut self, now: impl Into<Now>, event: Event) -> Vec<Action> {
        let now = now.into();
        self.handle(now, event);
        let mut outside = Vec::new();
        while let Some(action) = self.poll() {
            match action {
                Action::Written(upto) => self.handle(now, Event::Synced { upto }),
                Action::Sign { job, delta, .. } => {
                    let delta = self.config.signer.sign(delta).ok();
                    self.handle(now, Event::Signed { job, delta });
                }
                other => outside.push(other),
            }
        }
        outside
    }

    /// When it wants an [`Event::Tick`], by the steady clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let hosts = self.hosts.values().filter_map(Host::deadline);
        let remotes = self.remotes.values().filter_map(Remote::deadline);
        let live = self.live.values().flat_map(|live| live.deadline(&self.config));
        let cursors = self.cursors_at.filter(|_| !self.cursors_under_way);
        hosts
            .chain(remotes)
            .chain(live)
            .chain(self.discovery.deadline())
            .chain(self.held.deadline())
            .chain(cursors)
            .chain(self.reload.values().copied())
            .min()
    }

    /// What it is.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Ends it; its disk remains.
    #[must_use]
    pub fn into_disk(self) -> Disk {
        self.disk
    }

    /// A wavelet as it is shown here, if it is loaded.
    #[must_use]
    pub fn wavelet(&self, name: &WaveletName) -> Option<&Wavelet> {
        self.live.get(name).map(|live| live.machine.wavelet())
    }

    /// The loaded wavelets.
    pub fn live(&self) -> impl Iterator<Item = &Wavelet> {
        self.live.values().map(|live| live.machine.wavelet())
    }

    /// Loads a wavelet that is on the disk, as a user does who opens it.
    pub fn open(&mut self, now: impl Into<Now>, name: &WaveletName) {
        let now = now.into();
        if self.disk.has(name) {
            self.load(now, name);
            self.drive(now);
        }
    }

    /// Whether this wavelet is in quarantine.
    #[must_use]
    pub fn is_quarantined(&self, name: &WaveletName) -> bool {
        self.live.get(name).is_some_and(|live| live.machine.is_quarantined())
    }

    /// Whether nothing is under way: nothing to write, sign, send or wait for, but for what an unreachable peer lacks.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.writing.is_empty()
            && self.signing.is_empty()
            && self.asks.is_empty()
            && self.clients.is_empty()
            && self.batches.is_empty()
            && self.cursors.is_empty()
            && self.held.deadline().is_none()
            && self.live.values().all(|live| live.machine.is_idle())
    }

    /// How many operations peers lack, by wavelet and peer.
    pub fn undelivered(&self) -> impl Iterator<Item = (&WaveletName, &Domain, u64)> {
        let all = self.hosts.iter().flat_map(|(peer, host)| {
            host.deliveries()
                .map(move |(name, delivery)| (name, peer, delivery.pending))
        });
        all.filter(|(_, _, pending)| *pending > 0)
    }

    /// Everything about delivery, for people who look for a fault.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{:?} {:?}", self.discovery, self.hosts)
    }

    /// How much is under way in the tables of this node, by table: for those who check that none grows without bound.
    #[must_use]
    pub fn sizes(&self) -> [(&'static str, usize); 7] {
        [
            ("replies", self.replies.len()),
            ("asks", self.asks.len()),
            ("submissions", self.clients.len()),
            ("batches", self.batches.len()),
            ("updates", self.tags.len()),
            ("signing", self.signing.len()),
            ("live", self.live.len()),
        ]
    }

    /// Whether this server orders the deltas of a wavelet.
    #[must_use]
    pub fn hosts(&self, name: &WaveletName) -> bool {
        *name.host() == self.config.domain
    }

    fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Asks all machines that were told something until they want nothing more.
    fn drive(&mut self, now: Now) {
        loop {
            if let Some(output) = self.discovery.poll() {
                self.do_discovery(now, output);
            } else if let Some(name) = self.touched.pop_first() {
                self.drive_wavelet(now, &name);
            } else if let Some(peer) = self.touched_hosts.pop_first() {
                self.drive_host(now, &peer);
            } else if let Some(peer) = self.touched_remotes.pop_first() {
                self.drive_remote(now, &peer);
            } else if let Some(HeldStanza { peer, element }) = self.released.pop_front() {
                self.stanza(now, &peer, &element, false);
            } else {
                return;
            }
        }
    }

    fn drive_host(&mut self, now: Now, peer: &Domain) {
        while let Some(output) = self.hosts.get_mut(peer).and_then(Host::poll) {
            match output {
                host::Output::Discover => self.discovery.handle(now.steady, discovery::Input::Find(peer.clone())),
                host::Output::NeedDeltas {
                    wavelet,
                    from,
                    to,
                    max_bytes,
                } => self.read_deltas(now, peer, wavelet, from, to, max_bytes),
                host::Output::Send(stanza) => self.send(stanza),
                host::Output::PersistCursor {
                    wavelet,
                    acknowledged,
                    until,
                } => {
                    self.cursors
                        .insert((wavelet, peer.clone()), Cursor { acknowledged, until });
                    self.cursors_at.get_or_insert(now.steady.later(CURSORS_EVERY_MS));
                }
                host::Output::Changed { .. } => {}
            }
        }
    }

    fn drive_remote(&mut self, now: Now, peer: &Domain) {
        while let Some(output) = self.remotes.get_mut(peer).and_then(Remote::poll) {
            match output {
                remote::Output::Discover => self.discovery.handle(now.steady, discovery::Input::Find(peer.clone())),
                remote::Output::Send(stanza) => self.send(stanza),
                remote::Output::Answered { ticket, outcome } => self.replied(now, ticket, outcome),
            }
        }
    }

    /// A host has answered a wavelet, or does not.
    fn replied(&mut self, now: Now, ticket: u64, outcome: Result<Response, Failure>) {
        const OTHER: &str = "an answer to another question";
        let Some((name, life, reply)) = self.replies.remove(&ticket) else {
            return;
        };
        let input = match reply {
            Reply::Submit { attempt } => RemoteInput::SubmitAnswered {
                attempt,
                outcome: match outcome {
                    Ok(Response::Submitted(response)) => Ok(response),
                    Ok(_) => Err(SubmitFailure::NotNow(OTHER.to_owned())),
                    Err(Failure::Unreachable(reason)) => Err(SubmitFailure::Unreachable(reason)),
                    Err(Failure::NotNow(reason)) => Err(SubmitFailure::NotNow(reason)),
                    Err(Failure::Stale(reason)) => Err(SubmitFailure::Stale(reason)),
                    Err(Failure::Refused(reason)) => Err(SubmitFailure::Refused(reason)),
                },
            },
            Reply::History { request } => RemoteInput::History {
                request,
                outcome: match outcome {
                    Ok(Response::History(response)) => Ok(response.deltas),
                    Ok(_) => Err(HistoryFailure::Refused(OTHER.to_owned())),
                    Err(Failure::Unreachable(reason)) => Err(HistoryFailure::NotNow(reason)),
                    Err(Failure::NotNow(reason) | Failure::Stale(reason) | Failure::Refused(reason)) => {
                        Err(HistoryFailure::Refused(reason))
                    }
                },
            },
            Reply::Signer { id, time } => match outcome {
                Ok(Response::Signer(info)) if info.id() == id => return self.fetched(now, name, life, info, time),
                Ok(_) => RemoteInput::SignerFetched {
                    id,
                    outcome: Err(OTHER.to_owned()),
                },
                Err(failure) => RemoteInput::SignerFetched {
                    id,
                    outcome: Err(failure.to_string()),
                },
            },
        };
        self.tell_remote_wavelet(now, &name, life, input);
    }

    /// A chain that was asked for: it counts once it is checked and on the disk.
    fn fetched(&mut self, now: Now, name: WaveletName, life: u64, info: SignerInfo, time: Timestamp) {
        let id = info.id();
        match self.verifier.check(&info, time) {
            Ok(_) => self.write(
                now,
                Write::Signer(info.clone()),
                Writer::Fetched(name, life, info, time),
            ),
            Err(error) => {
                let outcome = Err(error.to_string());
                self.tell_remote_wavelet(now, &name, life, RemoteInput::SignerFetched { id, outcome });
            }
        }
    }

    fn do_discovery(&mut self, now: Now, output: discovery::Output) {
        match output {
            discovery::Output::Send(stanza) => self.send(stanza),
            // Nobody here guesses.
            discovery::Output::Guess { .. } | discovery::Output::NoGuess { .. } => {}
            discovery::Output::Found { domain, service } => {
                self.services
                    .entry(service.jid.to_string())
                    .or_default()
                    .insert(domain.clone());
                let changed = if service.software.is_billow() {
                    self.legacy.remove(&domain)
                } else {
                    self.legacy.insert(domain.clone())
                };
                if changed {
                    self.tell_legacy(now);
                }
                self.released.extend(self.held.settled(&domain));
                self.tell_known_remote(now, &domain, remote::Input::Service(service.clone()));
                self.tell_known_host(now, &domain, host::Input::Service(service));
            }
            discovery::Output::Failed {
                domain,
                reason,
                retry_at,
            } => {
                self.released.extend(self.held.settled(&domain));
                self.tell_known_remote(now, &domain, remote::Input::NoService(reason.clone()));
                self.tell_known_host(now, &domain, host::Input::NoService { reason, retry_at });
            }
        }
    }

    /// A peer is there: what waits for it is tried at once.
    fn spoke(&mut self, now: Now, peer: &billow_xmpp::Domain, every: i64) {
        if self.spoke.get(peer).is_some_and(|last| now.steady.0 - last.0 < every) {
            return;
        }
        self.spoke.insert(peer.clone(), now.steady);
        for domain in self.domains_at(peer) {
            self.discovery
                .handle(now.steady, discovery::Input::Heard(domain.clone()));
            self.tell_known_host(now, &domain, host::Input::Reachable);
            self.heard(now, &domain);
        }
    }

    fn unreachable(&mut self, now: Now, peer: &billow_xmpp::Domain, reason: &str, retry_at: Timestamp) {
        let input = discovery::Input::Unreachable {
            host: peer.as_str().to_owned(),
            reason: reason.to_owned(),
        };
        self.discovery.handle(now.steady, input);
        for domain in self.domains_at(peer) {
            self.tell_known_remote(now, &domain, remote::Input::Unreachable(reason.to_owned()));
            let input = host::Input::Unreachable {
                reason: reason.to_owned(),
                retry_at,
            };
            self.tell_known_host(now, &domain, input);
        }
    }

    /// A stanza of ours came back from the net.
    fn bounced(&mut self, now: Now, peer: &billow_xmpp::Domain, stanza: &Element, too_big: bool) {
        const REASON: &str = "it did not leave";
        let condition = if too_big {
            Condition::PolicyViolation
        } else {
            Condition::RemoteServerTimeout
        };
        match Stanza::parse(stanza) {
            Ok(Stanza::Message(message)) => {
                let Some(id) = message.id else { return };
                let input = host::Input::Bounced {
                    from: message.to.clone(),
                    id,
                    error: StanzaError::new(condition, REASON),
                };
                self.tell_hosts_at(now, &message.to, &input);
            }
            Ok(Stanza::Iq(iq)) if too_big && matches!(iq.kind, IqKind::Get(_) | IqKind::Set(_)) => {
                self.answer(now, iq.error(StanzaError::new(condition, REASON)));
            }
            Ok(Stanza::Iq(iq)) if matches!(iq.kind, IqKind::Get(_) | IqKind::Set(_)) => {
                self.unreachable(now, peer, REASON, now.steady.later(1_000));
            }
            // Answers that do not get through: the asker asks again.
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes in a stanza. If it `may_wait`, it waits where its sender speaks for a domain that is just being looked for.
    fn stanza(&mut self, now: Now, peer: &billow_xmpp::Domain, element: &Element, may_wait: bool) {
        let around = Around {
            own: &self.own,
            discovery: &self.discovery,
            hosts: &self.hosts,
            description: &self.config.description,
        };
        let inbound = inbound::read(peer, element, &around);
        if let Some(domain) = inbound.unproved(&around).filter(|_| may_wait) {
            let claimed = discovery::Input::Claimed {
                domain: domain.clone(),
                by: peer.as_str().to_owned(),
            };
            self.discovery.handle(now.steady, claimed);
            if self.discovery.is_looking_for(&domain) && self.held.hold(now.steady, domain, peer, element) {
                return;
            }
        }
        match inbound {
            inbound::Inbound::Updates(updates) => self.updates(now, peer, updates),
            inbound::Inbound::Submit(ask, request) => self.remote_submit(now, ask, request),
            inbound::Inbound::History(ask, request) => self.history(now, &ask, &request),
            inbound::Inbound::GetSigner(ask, request) => self.get_signer(now, &ask, &request),
            inbound::Inbound::PostSigner(ask, info) => self.posted_signer(now, ask, info),
            inbound::Inbound::Answer(iq) => self.answer(now, iq),
            inbound::Inbound::Receipt(from, id) => {
                self.tell_hosts_at(now, &from, &host::Input::Receipt { from: from.clone(), id });
            }
            inbound::Inbound::Bounced(from, id, error) => {
                let input = host::Input::Bounced {
                    from: from.clone(),
                    id,
                    error,
                };
                self.tell_hosts_at(now, &from, &input);
            }
            inbound::Inbound::Reply(answer) => self.send(answer),
            inbound::Inbound::Clock(ask) => self.send(ask.clock(now.wall)),
            // Carets are not kept, nobody watches here, and there are no doors to knock at.
            inbound::Inbound::Presence(..) | inbound::Inbound::Reach(_) | inbound::Inbound::Ignored(_) => {}
        }
    }

    fn answer(&mut self, now: Now, iq: billow_xmpp::Iq) {
        if self.discovery.asked(&iq) {
            return self.discovery.handle(now.steady, discovery::Input::Answer(iq));
        }
        let asked = self.remotes.iter().find(|(_, remote)| remote.asked(&iq));
        if let Some(domain) = asked.map(|(domain, _)| domain.clone()) {
            self.tell_known_remote(now, &domain, remote::Input::Answer(iq));
        }
    }

    /// Asks a wavelet's host something; the answer is told the wavelet.
    fn ask_host(&mut self, now: Now, name: &WaveletName, life: u64, request: remote::Request, reply: Reply) {
        let ticket = self.fresh();
        let peer = name.host().clone();
        self.replies.insert(ticket, (name.clone(), life, reply));
        if !self.remotes.contains_key(&peer) {
            let ids = self.new_ids();
            let remote = Remote::new(self.own.clone(), self.config.signer.info().clone(), ids);
            self.remotes.insert(peer.clone(), remote);
        }
        self.tell_known_remote(now, &peer, remote::Input::Ask { ticket, request });
    }

    fn tick(&mut self, now: Now) {
        let passed = |deadline: Option<Timestamp>| deadline.is_some_and(|deadline| deadline <= now.steady);
        if passed(self.discovery.deadline()) {
            self.discovery.handle(now.steady, discovery::Input::Tick);
        }
        self.released.extend(self.held.expired(now.steady));
        let hosts = self.hosts.iter().filter(|(_, host)| passed(host.deadline()));
        for peer in hosts.map(|(peer, _)| peer.clone()).collect::<Vec<_>>() {
            self.tell_known_host(now, &peer, host::Input::Tick);
        }
        let remotes = self.remotes.iter().filter(|(_, remote)| passed(remote.deadline()));
        for peer in remotes.map(|(peer, _)| peer.clone()).collect::<Vec<_>>() {
            self.tell_known_remote(now, &peer, remote::Input::Tick);
        }
        self.reload(now);
        self.tick_wavelets(now);
        if passed(self.cursors_at) && !self.cursors_under_way {
            self.cursors_at = None;
            self.cursors_under_way = true;
            let cursors = std::mem::take(&mut self.cursors);
            self.write(now, Write::Cursors(cursors.clone()), Writer::Cursors(cursors));
        }
    }

    fn tell_host(&mut self, now: Now, peer: &Domain, input: host::Input) {
        if !self.hosts.contains_key(peer) {
            // It has answered before if it has acknowledged anything.
            let reached = matches!(&input, host::Input::Resume { acknowledged, .. } if *acknowledged > Version::ZERO);
            let ids = self.new_ids();
            self.hosts
                .insert(peer.clone(), Host::new(self.own.clone(), reached, ids));
        }
        self.tell_known_host(now, peer, input);
    }

    fn tell_known_host(&mut self, now: Now, peer: &Domain, input: host::Input) {
        if let Some(host) = self.hosts.get_mut(peer) {
            host.handle(now.steady, input);
            self.touched_hosts.insert(peer.clone());
        }
    }

    fn tell_known_remote(&mut self, now: Now, peer: &Domain, input: remote::Input) {
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.handle(now.steady, input);
            self.touched_remotes.insert(peer.clone());
        }
    }

    fn tell_hosts_at(&mut self, now: Now, jid: &Jid, input: &host::Input) {
        for domain in self.services.get(&jid.to_string()).cloned().unwrap_or_default() {
            self.tell_known_host(now, &domain, input.clone());
        }
    }

    /// Sealed deltas for a peer, as far as it may have them.
    fn read_deltas(&mut self, now: Now, peer: &Domain, wavelet: WaveletName, from: Version, to: Version, bytes: usize) {
        let input = match self.seals(now, peer, &wavelet, from, to, bytes) {
            Ok(deltas) if deltas.is_empty() => host::Input::NoDeltas {
                wavelet,
                from,
                reason: "the wavelet cannot be read now".to_owned(),
            },
            Ok(deltas) => host::Input::Deltas { wavelet, from, deltas },
            Err(at) => {
                let left = host::Input::Left {
                    wavelet: wavelet.clone(),
                    at,
                };
                self.tell_known_host(now, peer, left);
                host::Input::NoDeltas {
                    wavelet,
                    from,
                    reason: "the domain takes part no longer".to_owned(),
                }
            }
        };
        self.tell_known_host(now, peer, input);
    }

    fn seals(
        &mut self,
        now: Now,
        peer: &Domain,
        name: &WaveletName,
        from: Version,
        to: Version,
        bytes: usize,
    ) -> Result<Vec<SealedDelta>, Version> {
        const COUNT: usize = 1_000;
        let Some(live) = self.load(now, name) else {
            return Ok(Vec::new());
        };
        let readable = live
            .machine
            .readers()
            .readable(peer, live.machine.sealed().version)
            .unwrap_or(Version::ZERO);
        let to = to.min(readable);
        if from >= to {
            return Err(readable);
        }
        let deltas = self.disk.sealed_deltas(name, from, to, bytes, COUNT).into_iter();
        Ok(deltas
            .map(|(resulting, applied)| SealedDelta { applied, resulting })
            .collect())
    }

    /// The domains for which an address speaks: its own, and those whose service we found there.
    fn domains_of(&self, jid: &Jid) -> BTreeSet<Domain> {
        let own = jid
            .node()
            .is_none()
            .then(|| jid.domain().as_str().parse().ok())
            .flatten();
        self.discovery.domains_of(jid).cloned().chain(own).collect()
    }

    /// The domains whose service is reached at this XMPP domain.
    fn domains_at(&self, peer: &billow_xmpp::Domain) -> BTreeSet<Domain> {
        let at = |jid: &String| Jid::new(jid).is_ok_and(|jid| jid.domain().as_str() == peer.as_str());
        let found = self.services.iter().filter(|(jid, _)| at(jid));
        found
            .flat_map(|(_, domains)| domains.iter().cloned())
            .chain(peer.as_str().parse())
            .collect()
    }

    fn send(&mut self, stanza: Element) {
        let to = stanza.attr("to").and_then(|to| Jid::new(to).ok());
        if let Some(peer) = to.and_then(|to| billow_xmpp::Domain::of(&to).ok()) {
            self.actions.push_back(Action::Send { peer, stanza });
        }
    }

    fn write(&mut self, now: Now, write: Write, writer: Writer) {
        let id = self.disk.write(write);
        self.writing.insert(id, writer);
        self.actions.push_back(Action::Written(id));
        if self.disk_failed {
            self.disk_failed(now);
        }
    }

    fn synced(&mut self, now: Now, upto: u64) {
        while self.disk.unsynced().next().is_some_and(|id| id <= upto) {
            if let Some((id, taken)) = self.disk.sync_one() {
                self.written(now, id, taken);
            }
        }
    }

    fn disk_failed(&mut self, now: Now) {
        self.disk_failed = true;
        while let Some(id) = self.disk.refuse_one() {
            self.written(now, id, false);
        }
    }

    /// A write is durable, or will never be.
    fn written(&mut self, now: Now, id: u64, taken: bool) {
        match self.writing.remove(&id) {
            Some(Writer::Wavelet(name, life, written)) => self.stored(now, &name, life, written, taken),
            Some(Writer::Snapshot(name, life, version)) => self.snapshot_kept(&name, life, version, taken),
            Some(Writer::Cursors(cursors)) => {
                self.cursors_under_way = false;
                if !taken {
                    for (key, cursor) in cursors {
                        // One that has moved on since counts.
                        self.cursors.entry(key).or_insert(cursor);
                    }
                    self.cursors_at.get_or_insert(now.steady.later(CURSORS_EVERY_MS));
                }
            }
            Some(Writer::Posted(ask, info, at)) => self.signer_kept(&ask, info, at, taken),
            Some(Writer::Fetched(name, life, info, at)) => {
                let id = info.id();
                let outcome = if taken {
                    self.verifier.add(info, at).map(drop).map_err(|error| error.to_string())
                } else {
                    Err("it cannot be stored".to_owned())
                };
                self.tell_remote_wavelet(now, &name, life, RemoteInput::SignerFetched { id, outcome });
            }
            None => {}
        }
    }

    fn new_ids(&mut self) -> Ids {
        self.machines += 1;
        ids(self.config.seed, self.machines)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.config.domain)
    }
}

/// What the reader of stanzas needs to know.
struct Around<'a> {
    own: &'a Jid,
    discovery: &'a Discovery,
    hosts: &'a BTreeMap<Domain, Host>,
    description: &'a str,
}

impl inbound::Surroundings for Around<'_> {
    fn is_ours(&self, jid: &Jid) -> bool {
        jid == self.own
    }

    fn speaks_for(&self, jid: &Jid, domain: &Domain) -> bool {
        self.discovery.speaks_for(jid, domain)
    }

    fn takes_part(&self, domain: &Domain) -> bool {
        self.hosts.contains_key(domain)
    }

    fn description(&self) -> &str {
        self.description
    }
}

fn ids(seed: u64, machine: u64) -> Ids {
    let secret = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(machine.to_be_bytes())
        .finalize();
    Ids::new(secret.into())
}
