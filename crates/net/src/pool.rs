//! The net as its user sees it: one outgoing stream per pair of a domain of ours and a peer.
//!
//! Each pair is a task that owns its stream. What is sent waits in the pair's queue, which is bounded in stanzas, bytes
//! and age; at the bound the stanza comes back to its sender, who knows whether it is still worth sending. A pair that
//! has been wanted within the last day is tried again for as long as it takes: after a pause that doubles from one
//! second to the cap (the actual pause is drawn from below that), and at once when the peer authenticates itself to us.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use billow_xmpp::contact::{Contact, Secured, Tried};
use billow_xmpp::dialback::Dialback;
use billow_xmpp::ping::{self, Finding, Watch};
use billow_xmpp::s2s::{EncodedStanza, Event, Machine, Outgoing, Question, Verdict};
use billow_xmpp::{Domain, Element};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::component::{self, Link};
use crate::dns::{AddressPolicy, Dns, Target, random};
use crate::driver::Driver;
use crate::listen::{self, Places};
use crate::looked::{Looked, milliseconds};
use crate::probe::{Depth, Errand, Guest, Visit};
use crate::tls::Tls;
use crate::{BounceReason, Fingerprint, LocalDomain, NetConfig, NetEvent, NetLimits, SendError, StartError, dial};

/// Most pairs that are tried at the same time.
const DIALLING: usize = 64;
/// Most pairs.
pub(crate) const PAIRS: usize = 10_000;
/// Most events that wait for the layer above; then the streams wait.
const EVENTS: usize = 1024;
/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A stream that lived for so long was no failure.
pub(crate) const PROVEN: Duration = Duration::from_secs(10);
/// A pair that nobody wanted for so long is given up.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// The same for one that was never up: names are cheap, and each has its place among [`PAIRS`].
const NEVER_UP_FORGOTTEN: Duration = Duration::from_secs(600);
/// While DNS is silent, a peer is tried again after at most so long: it is not the peer that is down.
const DNS_PAUSE: Duration = Duration::from_secs(45);
/// Most keys that are remembered of one peer; it may have several servers.
const KEYS: usize = 4;
/// How long the streams may take to say good-bye.
const STOPPING: Duration = Duration::from_secs(5);

/// Starts the net.
pub struct Net;

/// The net. Cheap to clone.
#[derive(Clone)]
pub struct NetHandle {
    shared: Arc<Shared>,
    /// The way to all peers, if we are a component of an XMPP server.
    component: Option<Arc<Link>>,
    listening: Arc<[SocketAddr]>,
}

/// What all tasks of the net have in common.
pub(crate) struct Shared {
    pub(crate) tls: Tls,
    pub(crate) limits: NetLimits,
    pub(crate) local_domains: Arc<BTreeSet<Domain>>,
    /// Connections that have not authenticated themselves, by address.
    pub(crate) strangers: Arc<Places<IpAddr>>,
    /// Those that have, by domain.
    pub(crate) peers: Arc<Places<Domain>>,
    pub(crate) dialback: Arc<Dialback>,
    /// Places for the questions about dialback keys.
    pub(crate) verifying: Semaphore,
    /// By which keys peers are known.
    keys: Mutex<HashMap<Domain, Vec<Fingerprint>>>,
    own_ports: OnceLock<Vec<u16>>,
    dns: Dns,
    dialling: Semaphore,
    pairs: Mutex<HashMap<(Domain, Domain), Arc<Pair>>>,
    events: mpsc::Sender<NetEvent>,
    pub(crate) stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
}

/// A domain of ours, a peer, and what waits to go from one to the other.
struct Pair {
    local: Domain,
    peer: Domain,
    queue: Mutex<Queue>,
    /// Something was put into the queue.
    filled: Notify,
    /// Waiting is over: try now.
    hurry: Notify,
    /// Counts up when a stream that is up must not be used any longer.
    renewed: AtomicU64,
    /// Whether the peer is still there.
    watch: Mutex<Watch>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Bytes that were taken out and are being written.
    writing: usize,
    wanted: Option<Instant>,
}

struct Waiting {
    stanza: Element,
    encoded: EncodedStanza,
    since: Instant,
}

impl Net {
    /// Starts listening and is ready to send. The events must be read: when too many wait, the streams wait.
    pub async fn start(config: NetConfig) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), StartError> {
        let (events, told) = mpsc::channel(EVENTS);
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| StartError::Randomness(error.to_string()))?;
        let policy = AddressPolicy {
            all: config.allow_private_addresses,
            allowed: config.allowed_networks,
        };
        let shared = Arc::new(Shared {
            tls: Tls::new(&config.domains, &config.roots)?,
            local_domains: Arc::new(config.domains.iter().map(|local| local.domain.clone()).collect()),
            strangers: Places::new(config.limits.unauthenticated_per_address, config.limits.unauthenticated),
            peers: Places::new(config.limits.streams_per_peer, usize::MAX),
            dns: Dns::new(&config.resolver, policy)?,
            dialback: Arc::new(Dialback::new(&secret, config.dialback)),
            verifying: Semaphore::new(config.limits.verifying),
            keys: Mutex::default(),
            own_ports: OnceLock::new(),
            dialling: Semaphore::new(DIALLING),
            limits: config.limits,
            pairs: Mutex::default(),
            events,
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
            runtime: Handle::current(),
        });
        let mut listening: Vec<SocketAddr> = Vec::new();
        let mut listeners = Vec::new();
        // A server without a domain has nobody to be taken for.
        let addresses = if shared.local_domains.is_empty() {
            Vec::new()
        } else {
            config.listen
        };
        for address in addresses {
            let listener = listen::bind(address).await?;
            listening.push(
                listener
                    .local_addr()
                    .map_err(|error| StartError::Listen { address, error })?,
            );
            listeners.push(listener);
        }
        let own_ports = listening.iter().map(SocketAddr::port).chain(config.own_ports);
        shared.own_ports.get_or_init(|| own_ports.collect());
        for listener in listeners {
            shared.spawn(listen::accept(shared.clone(), listener));
        }
        let component = config.component.map(|config| Arc::new(Link::new(config)));
        if let Some(link) = &component {
            shared.spawn(component::keep(shared.clone(), link.clone()));
        }
        Ok((
            NetHandle {
                shared,
                component,
                listening: listening.into(),
            },
            told,
        ))
    }
}

impl NetHandle {
    /// Queues a stanza for a peer and opens a stream to it if there is none. Never waits. What cannot be queued comes
    /// back at once; what was queued and could not be sent in time comes back as [`NetEvent::Bounced`].
    pub fn send(&self, local: &Domain, peer: &Domain, stanza: Element) -> Result<(), SendError> {
        let refuse = |stanza, reason| {
            Err(SendError {
                stanza: Box::new(stanza),
                reason,
            })
        };
        if !self.is_ours(local) {
            return refuse(
                stanza,
                BounceReason::NotAllowed("the sender is no domain of this server"),
            );
        }
        if self.is_ours(peer) {
            return refuse(stanza, BounceReason::NotAllowed("the recipient is this server itself"));
        }
        if !peer.is_routable() {
            return refuse(
                stanza,
                BounceReason::NotAllowed("the recipient is not a domain of the Internet"),
            );
        }
        let encoded = match EncodedStanza::new(&stanza) {
            Ok(encoded) => encoded,
            Err(error) => return refuse(stanza, BounceReason::NotSendable(error.to_string())),
        };
        if *self.shared.stop.borrow() {
            return refuse(stanza, BounceReason::Stopping);
        }
        if let Some(link) = &self.component {
            link.meet(peer);
            return link.push(&self.shared.limits, peer, stanza, encoded);
        }
        let Some(pair) = self.shared.pair(local, peer) else {
            return refuse(stanza, BounceReason::QueueFull);
        };
        pair.push(&self.shared.limits, stanza, encoded)
    }

    /// Opens a stream to a peer, or opens it again without waiting further, although there is nothing to send.
    pub fn connect(&self, local: &Domain, peer: &Domain) {
        if let Some(link) = &self.component {
            return link.hurry();
        }
        let ours = &self.shared.local_domains;
        if ours.contains(local)
            && !ours.contains(peer)
            && peer.is_routable()
            && let Some(pair) = self.shared.pair(local, peer)
        {
            pair.queue().wanted = Some(Instant::now());
            pair.filled.notify_one();
            pair.hurry.notify_one();
        }
    }

    /// Tries a peer that is waiting for its next attempt now.
    pub fn retry_now(&self, peer: &Domain) {
        if let Some(link) = &self.component {
            return link.hurry();
        }
        self.shared.hurry(peer);
    }

    /// Opens a stream to a peer only to see how that goes, beside the one that may be up, and closes it again.
    /// `None`: we are a component, and the XMPP server before us does that.
    pub async fn contact(&self, local: &Domain, peer: &Domain) -> Option<Contact> {
        if self.component.is_some() {
            return None;
        }
        let ours = &self.shared.local_domains;
        if !ours.contains(local) || ours.contains(peer) || !peer.is_routable() {
            let reason = "it is not a domain that this server could reach".to_owned();
            return Some(Attempt::new(peer).end(Err(reason)));
        }
        self.shared.dns.doubt(peer);
        let (contact, opened) = open(&self.shared, local, peer).await;
        if let Ok(mut up) = opened {
            up.driver.machine.close(Instant::now());
            // The peer may be gone before it hears it.
            let _ = up.driver.settle().await;
        }
        Some(contact)
    }

    /// `host` is only guessed to serve `base`: from now on its certificate must be good for both, whichever side opens the
    /// stream, and dialback proves nothing. A stream that is up is opened anew.
    pub fn guess(&self, host: &Domain, base: &Domain) {
        if !self.shared.tls.guess(host, base) {
            return;
        }
        let pairs = self
            .shared
            .pairs
            .lock()
            .expect("nothing panics while it holds the pairs");
        for pair in pairs.values().filter(|pair| pair.peer == *host) {
            pair.renewed.fetch_add(1, Ordering::Relaxed);
            pair.filled.notify_one();
        }
    }

    /// The guess was wrong: `host` is known by its own name again. What still waits to go there was meant for another
    /// and is dropped.
    pub fn no_guess(&self, host: &Domain) {
        let pairs = self
            .shared
            .pairs
            .lock()
            .expect("nothing panics while it holds the pairs");
        for pair in pairs.values().filter(|pair| pair.peer == *host) {
            drop(pair.take());
            pair.written();
        }
        self.shared.tls.no_guess(host);
    }

    /// From the next handshake on a domain of ours shows that certificate. One that cannot be used (its key is another,
    /// it cannot be read) changes nothing.
    pub fn replace_certificate(&self, local: &LocalDomain) -> Result<(), StartError> {
        if !self.shared.local_domains.contains(&local.domain) {
            return Err(StartError::Certificate {
                domain: local.domain.clone(),
                reason: "it is no domain of this server".to_owned(),
            });
        }
        self.shared.tls.replace(local)
    }

    /// Bytes that wait for a peer, or are being written and it does not read them.
    #[must_use]
    pub fn unsent(&self, local: &Domain, peer: &Domain) -> usize {
        if let Some(link) = &self.component {
            return link.unsent();
        }
        let pairs = self
            .shared
            .pairs
            .lock()
            .expect("nothing panics while it holds the pairs");
        let pair = pairs.get(&(local.clone(), peer.clone()));
        pair.map_or(0, |pair| {
            let queue = pair.queue();
            queue.bytes + queue.writing
        })
    }

    /// Tries each place that a peer announces now, as far as to a stream that stanzas could go over; nothing is sent.
    /// The error says why there is no place. `None`: we are a component, and have no streams of our own.
    pub async fn visit(&self, local: &Domain, peer: &Domain) -> Option<Result<Vec<Visit>, String>> {
        if self.component.is_some() {
            return None;
        }
        let net = &self.shared;
        net.dns.doubt(peer);
        let targets = match net.dns.find(peer).await {
            Ok(targets) => targets,
            Err(error) => return Some(Err(error.to_string())),
        };
        let guest = Guest {
            tls: &net.tls,
            limits: &net.limits,
            dialback: &net.dialback,
        };
        let mut visits = Vec::new();
        for target in targets {
            for address in target.addresses {
                let errand = Errand {
                    local,
                    peer,
                    address,
                    direct_tls: target.direct_tls,
                    depth: Depth::Stream,
                };
                visits.push(guest.visit(&errand).await);
            }
        }
        Some(Ok(visits))
    }

    /// Whether a domain is one of ours.
    fn is_ours(&self, domain: &Domain) -> bool {
        match &self.component {
            Some(link) => link.name() == domain,
            None => self.shared.local_domains.contains(domain),
        }
    }

    /// The addresses on which peers are listened for.
    #[must_use]
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.listening.to_vec()
    }

    /// Stops listening and closes all streams; returns when they are closed.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.shared.tasks());
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOPPING, all).await.is_err() {
            tracing::warn!("some streams did not close in time");
        }
    }
}

impl Shared {
    /// Starts a task of the net.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().expect("nothing panics while it holds the tasks")
    }

    /// Returns when the net stops.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as self.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Tells the layer above; waits while too much waits there already.
    pub(crate) async fn tell(&self, event: NetEvent) {
        // A receiver that is gone does not want to know.
        let _ = self.events.send(event).await;
    }

    /// Ends the pause of all pairs with a peer, and what was found for it before counts no longer.
    pub(crate) fn hurry(&self, peer: &Domain) {
        self.dns.doubt(peer);
        let pairs = self.pairs.lock().expect("nothing panics while it holds the pairs");
        for pair in pairs.values().filter(|pair| pair.peer == *peer) {
            pair.hurry.notify_one();
        }
    }

    /// The ports at which we ourselves listen.
    fn own_ports(&self) -> &[u16] {
        self.own_ports.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// A peer spoke to us. Whether it only answered a ping, which is nobody else's affair.
    pub(crate) fn heard(&self, local: &Domain, peer: &Domain, stanza: &Element) -> bool {
        let pairs = self.pairs.lock().expect("nothing panics while it holds the pairs");
        let pair = pairs.get(&(local.clone(), peer.clone()));
        pair.is_some_and(|pair| pair.watch().heard(Instant::now(), stanza))
    }

    /// A peer showed a key: tells if it is the first, or another than before.
    pub(crate) async fn note_key(&self, peer: &Domain, new: Option<Fingerprint>) {
        let Some(new) = new else { return };
        let Some(old) = self.learn_key(peer, new) else { return };
        self.tell(NetEvent::KeyShown {
            peer: peer.clone(),
            old,
            new,
        })
        .await;
    }

    /// Remembers a key of a peer; if it was not known, gives the one that was known last, if there was one.
    fn learn_key(&self, peer: &Domain, new: Fingerprint) -> Option<Option<Fingerprint>> {
        let mut keys = self.keys.lock().expect("nothing panics while it holds the keys");
        if keys.len() >= PAIRS && !keys.contains_key(peer) {
            return None;
        }
        let known = keys.entry(peer.clone()).or_default();
        if known.contains(&new) {
            return None;
        }
        let old = known.last().copied();
        if known.len() >= KEYS {
            known.remove(0);
        }
        known.push(new);
        Some(old)
    }

    /// The pair, made if need be; `None` if there are too many.
    fn pair(self: &Arc<Self>, local: &Domain, peer: &Domain) -> Option<Arc<Pair>> {
        let mut pairs = self.pairs.lock().expect("nothing panics while it holds the pairs");
        let key = (local.clone(), peer.clone());
        if let Some(pair) = pairs.get(&key) {
            return Some(pair.clone());
        }
        if pairs.len() >= PAIRS {
            return None;
        }
        let pair = Arc::new(Pair {
            local: local.clone(),
            peer: peer.clone(),
            queue: Mutex::new(Queue {
                wanted: Some(Instant::now()),
                ..Queue::default()
            }),
            filled: Notify::new(),
            hurry: Notify::new(),
            renewed: AtomicU64::new(0),
            watch: Mutex::new(Watch::new(
                Instant::now(),
                format!("ping-{:08x}{:08x}", random(), random()),
            )),
        });
        pairs.insert(key, pair.clone());
        self.spawn(keep(self.clone(), pair.clone()));
        Some(pair)
    }

    /// Forgets a pair that nobody has wanted for long. Whether it is forgotten.
    fn forget(&self, pair: &Arc<Pair>, was_up: bool) -> bool {
        let mut pairs = self.pairs.lock().expect("nothing panics while it holds the pairs");
        let queue = pair.queue();
        let unwanted = queue.wanted.map(|wanted| wanted.elapsed());
        let forgotten = queue.waiting.is_empty() && is_forgotten(unwanted, was_up);
        if forgotten {
            pairs.remove(&(pair.local.clone(), pair.peer.clone()));
        }
        forgotten
    }
}

impl Pair {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the queue")
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().expect("nothing panics while it holds the watch")
    }

    fn push(&self, limits: &NetLimits, stanza: Element, encoded: EncodedStanza) -> Result<(), SendError> {
        let mut queue = self.queue();
        queue.wanted = Some(Instant::now());
        let bytes = queue.bytes + queue.writing;
        let full = queue.waiting.len() >= limits.queue_stanzas || bytes + encoded.size() > limits.queue_bytes;
        if full && bytes > 0 {
            return Err(SendError {
                stanza: Box::new(stanza),
                reason: BounceReason::QueueFull,
            });
        }
        queue.bytes += encoded.size();
        queue.waiting.push_back(Waiting {
            stanza,
            encoded,
            since: Instant::now(),
        });
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes all that waits, to write it.
    fn take(&self) -> VecDeque<Waiting> {
        let mut queue = self.queue();
        queue.writing += std::mem::take(&mut queue.bytes);
        std::mem::take(&mut queue.waiting)
    }

    /// What was taken is written, or lost.
    fn written(&self) {
        self.queue().writing = 0;
    }

    /// Takes what has waited too long, and says when the next will have.
    fn take_expired(&self, age: Duration) -> (Vec<Waiting>, Option<Instant>) {
        let mut queue = self.queue();
        let mut expired = Vec::new();
        while let Some(first) = queue.waiting.pop_front() {
            if first.since.elapsed() < age {
                let next = first.since + age;
                queue.waiting.push_front(first);
                return (expired, Some(next));
            }
            queue.bytes = queue.bytes.saturating_sub(first.encoded.size());
            expired.push(first);
        }
        (expired, None)
    }

    fn bounce(&self, stanza: Element, reason: BounceReason) -> NetEvent {
        NetEvent::Bounced {
            local: self.local.clone(),
            peer: self.peer.clone(),
            stanza,
            reason,
        }
    }
}

/// Why a pair has no stream.
struct Ended {
    reason: String,
    /// How long there was one.
    lived: Duration,
    kind: EndKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EndKind {
    /// The peer was not reached, or it or the connection failed.
    Failed,
    /// DNS did not say where the peer is.
    Dns,
    /// A better place than the one it was at is there again.
    Moving,
}

/// Keeps the stream of a pair up for as long as somebody wants it.
async fn keep(net: Arc<Shared>, pair: Arc<Pair>) {
    let mut failures = 0;
    let mut was_up = false;
    loop {
        let ended = stream(&net, &pair).await;
        was_up |= !ended.lived.is_zero();
        if *net.stop.borrow() || net.forget(&pair, was_up) {
            return;
        }
        if ended.kind == EndKind::Moving {
            tracing::info!(local = %pair.local, peer = %pair.peer, reason = ended.reason, "the stream to a peer moves");
            continue;
        }
        failures = if ended.lived >= PROVEN { 0 } else { failures + 1 };
        let cap = match ended.kind {
            EndKind::Dns if net.dns.is_silent() => net.limits.backoff_cap.min(DNS_PAUSE),
            _ => net.limits.backoff_cap,
        };
        let (pause, reason) = (pause(failures, cap), ended.reason);
        tracing::info!(local = %pair.local, peer = %pair.peer, reason, ?pause, "the stream to a peer is down");
        net.tell(NetEvent::Unreachable {
            local: pair.local.clone(),
            peer: pair.peer.clone(),
            reason: reason.clone(),
            retry_at: SystemTime::now() + pause,
        })
        .await;
        let recovered = async {
            match ended.kind {
                EndKind::Dns => net.dns.recovered.notified().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait(&net, &pair, Instant::now() + pause, &reason) => {}
            () = recovered => {}
            () = net.stopped() => return,
        }
    }
}

/// Waits for the next attempt; gives back what has waited too long meanwhile.
async fn wait(net: &Shared, pair: &Pair, until: Instant, reason: &str) {
    loop {
        let (expired, next) = pair.take_expired(net.limits.queue_age);
        for waiting in expired {
            net.tell(pair.bounce(waiting.stanza, BounceReason::TimedOut(reason.to_owned())))
                .await;
        }
        let wake = next.map_or(until, |next| next.min(until));
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => {}
            () = pair.hurry.notified() => return,
        }
        if Instant::now() >= until {
            return;
        }
    }
}

/// Whether a pair that nobody has wanted for so long is given up.
fn is_forgotten(unwanted: Option<Duration>, was_up: bool) -> bool {
    let bound = if was_up { FORGOTTEN } else { NEVER_UP_FORGOTTEN };
    unwanted.is_none_or(|unwanted| unwanted >= bound)
}

/// The pause after so many failures: drawn from below a bound that doubles, but not so short that it would be none.
pub(crate) fn pause(failures: u32, cap: Duration) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let bound = doubled.min(cap).as_millis().try_into().unwrap_or(u64::MAX);
    let drawn = (u128::from(bound) * u128::from(random())) >> 32;
    Duration::from_millis(u64::try_from(drawn).unwrap_or(bound).max(bound / 10))
}

/// One stream of a pair, from the look-up to its end.
async fn stream(net: &Shared, pair: &Pair) -> Ended {
    let renewed = pair.renewed.load(Ordering::Relaxed);
    let opened = tokio::select! {
        (contact, opened) = open(net, &pair.local, &pair.peer) => {
            net.tell(NetEvent::Contact {
                local: pair.local.clone(),
                peer: pair.peer.clone(),
                contact: Box::new(contact),
            })
            .await;
            opened
        }
        () = net.stopped() => Err(("the net is stopping".to_owned(), EndKind::Failed)),
    };
    let mut up = match opened {
        Ok(up) => up,
        Err((reason, kind)) => {
            return Ended {
                reason,
                lived: Duration::ZERO,
                kind,
            };
        }
    };
    let since = Instant::now();
    pair.watch().begin(since);
    net.note_key(&pair.peer, up.driver.fingerprint()).await;
    net.tell(NetEvent::Connected {
        local: pair.local.clone(),
        peer: pair.peer.clone(),
    })
    .await;
    let (reason, kind) = feed(net, pair, renewed, &mut up).await;
    Ended {
        reason,
        lived: since.elapsed(),
        kind,
    }
}

/// A stream that is up.
struct Up<'a> {
    driver: Driver<'a, Outgoing>,
    /// The places that would be better.
    better: Vec<Target>,
}

/// Finds a peer and brings a stream up at the first of its targets where that succeeds.
async fn open<'a>(net: &'a Shared, local: &Domain, peer: &Domain) -> (Contact, Result<Up<'a>, (String, EndKind)>) {
    let mut attempt = Attempt::new(peer);
    let opened = attempt.open(net, local, peer).await;
    match opened {
        Ok((up, secured)) => (attempt.end(Ok(secured)), Ok(up)),
        Err((reason, kind)) => (attempt.end(Err(reason.clone())), Err((reason, kind))),
    }
}

/// An attempt to open a stream, which notes how it goes.
struct Attempt {
    peer: Domain,
    at: SystemTime,
    looked: Looked,
    tried: Vec<Tried>,
}

impl Attempt {
    fn new(peer: &Domain) -> Self {
        Self {
            peer: peer.clone(),
            at: SystemTime::now(),
            looked: Looked::nothing(peer, "it was not asked for"),
            tried: Vec::new(),
        }
    }

    fn end(self, outcome: Result<Secured, String>) -> Contact {
        let at = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Contact {
            host: self.peer.as_str().to_owned(),
            at: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
            service: self.looked.service,
            addresses: self.looked.addresses,
            tried: self.tried,
            outcome,
        }
    }

    async fn open<'a>(
        &mut self,
        net: &'a Shared,
        local: &Domain,
        peer: &Domain,
    ) -> Result<(Up<'a>, Secured), (String, EndKind)> {
        let turn = net.dialling.acquire().await;
        let _turn = turn.map_err(|_| ("the net is stopping".to_owned(), EndKind::Failed))?;
        let found = net.dns.look_up(peer).await;
        self.looked = found.looked;
        let targets = found.targets.map_err(|error| {
            let kind = if error.is_of_dns() {
                EndKind::Dns
            } else {
                EndKind::Failed
            };
            (error.to_string(), kind)
        })?;
        let mut reasons = Vec::new();
        for target in &targets {
            match self.target(net, local, peer, target).await {
                Ok((driver, secured)) => {
                    let better = targets.iter().filter(|other| other.priority < target.priority);
                    let better = better.cloned().collect();
                    return Ok((Up { driver, better }, secured));
                }
                Err(reason) => {
                    if let Some(tried) = self.tried.last_mut() {
                        tried.fault = Some(reason.clone());
                    }
                    reasons.push(reason);
                }
            }
        }
        net.dns.doubt(peer);
        reasons.dedup();
        let reason = reasons.join("; ").chars().take(500).collect();
        Err((reason, EndKind::Failed))
    }

    /// Brings a stream up at one target.
    async fn target<'a>(
        &mut self,
        net: &'a Shared,
        local: &Domain,
        peer: &Domain,
        target: &Target,
    ) -> Result<(Driver<'a, Outgoing>, Secured), String> {
        let began = Instant::now();
        let dialled = dial::dial(&target.addresses, net.own_ports()).await;
        self.tried.push(Tried {
            place: target.place.clone(),
            fault: None,
            ms: milliseconds(began.elapsed()),
        });
        let socket = dialled?;
        let address = socket.peer_addr().map_err(|error| error.to_string())?.to_string();
        let connected = Instant::now();
        let mut driver = net.outgoing(local, peer, socket, target, None);
        loop {
            let settled = driver.settle().await;
            if let Some(reason) = settled.over {
                return Err(reason);
            }
            if settled.events.contains(&Event::Ready) {
                let secured = Secured {
                    place: target.place.clone(),
                    by_service: self.looked.addresses.is_none(),
                    address,
                    tls: driver.tls_version(),
                    by_certificate: driver.is_certified(peer),
                    ms: milliseconds(connected.elapsed()),
                };
                return Ok((driver, secured));
            }
            driver.hear().await;
        }
    }
}

/// The machine of a stream of ours.
pub(crate) fn outgoing(
    limits: &NetLimits,
    dialback: &Arc<Dialback>,
    local: &Domain,
    peer: &Domain,
    direct_tls: bool,
) -> Outgoing {
    let new = if direct_tls {
        Outgoing::direct_tls
    } else {
        Outgoing::new
    };
    new(Instant::now(), local.clone(), peer.clone())
        .with_auth_deadline(limits.auth_deadline)
        .with_dialback(dialback.clone())
}

impl Shared {
    /// A stream of ours over a connection that was just made, to send or to ask.
    fn outgoing<'a>(
        &'a self,
        local: &Domain,
        peer: &Domain,
        socket: TcpStream,
        target: &Target,
        question: Option<Question>,
    ) -> Driver<'a, Outgoing> {
        let dialback = self.dialback_with(peer);
        let mut machine = outgoing(&self.limits, &dialback, local, peer, target.direct_tls);
        if let Some(question) = question {
            machine = machine.asking(question);
        }
        Driver::new(machine, socket, &self.tls, Some(peer.clone())).with_tls_deadline(self.limits.tls_deadline)
    }

    /// How dialback is done with a peer: not at all with one that must prove more than its name.
    fn dialback_with(&self, peer: &Domain) -> Arc<Dialback> {
        match self.tls.is_guess(peer) {
            true => Arc::default(),
            false => self.dialback.clone(),
        }
    }

    /// Asks the server of a domain whether a dialback key is its own, over a connection that we make to it.
    pub(crate) async fn verify(&self, local: &Domain, peer: &Domain, question: Question) -> Verdict {
        if self.tls.is_guess(peer) {
            return Verdict::Invalid;
        }
        let Ok(_turn) = self.verifying.acquire().await else {
            return Verdict::Unknown;
        };
        let targets = match self.dns.find(peer).await {
            Ok(targets) => targets,
            Err(error) => {
                tracing::info!(%peer, %error, "a dialback key cannot be verified");
                return Verdict::Unknown;
            }
        };
        for target in &targets {
            match self.ask(local, peer, target, question.clone()).await {
                Ok(true) => return Verdict::Valid,
                Ok(false) => return Verdict::Invalid,
                Err(reason) => tracing::info!(%peer, reason, "a dialback key cannot be verified"),
            }
        }
        Verdict::Unknown
    }

    async fn ask(&self, local: &Domain, peer: &Domain, target: &Target, question: Question) -> Result<bool, String> {
        let socket = dial::dial(&target.addresses, self.own_ports()).await?;
        let mut driver = self.outgoing(local, peer, socket, target, Some(question));
        loop {
            let settled = driver.settle().await;
            let answer = settled.events.iter().find_map(|event| match event {
                Event::Answer(answer) => Some(*answer),
                _ => None,
            });
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if let Some(reason) = settled.over {
                return Err(reason);
            }
            driver.hear().await;
        }
    }
}

/// Sends what is queued until the stream ends; why it ended.
async fn feed(net: &Shared, pair: &Pair, renewed: u64, up: &mut Up<'_>) -> (String, EndKind) {
    let mut better = std::pin::pin!(better_is_there(net, std::mem::take(&mut up.better)));
    let driver = &mut up.driver;
    let mut ending = None;
    loop {
        if pair.renewed.load(Ordering::Relaxed) != renewed {
            driver.machine.close(Instant::now());
            let _ = driver.settle().await;
            return ("the peer must prove more than it did".to_owned(), EndKind::Moving);
        }
        for waiting in pair.take() {
            // What the peer would not take comes back; the stream goes on.
            if let Err(error) = driver.machine.send(Instant::now(), &waiting.encoded) {
                net.tell(pair.bounce(waiting.stanza, BounceReason::NotSendable(error.to_string())))
                    .await;
            }
        }
        let settled = driver.settle().await;
        pair.written();
        if let Some(reason) = settled.over {
            return (reason, EndKind::Failed);
        }
        let quiet = pair.watch().deadline();
        tokio::select! {
            () = pair.filled.notified() => {}
            () = driver.hear() => {}
            () = tokio::time::sleep_until(quiet.into()) => {
                if let Some(reason) = look_after(pair, &mut driver.machine) {
                    ending = Some((reason, EndKind::Failed));
                }
            }
            () = &mut better => ending = Some(("a better place for the peer is there again".to_owned(), EndKind::Moving)),
            () = net.stopped() => driver.machine.close(Instant::now()),
        }
        if ending.is_some() {
            driver.machine.close(Instant::now());
        }
        if !driver.machine.is_ready() {
            let over = driver.settle().await.over;
            let over = over.unwrap_or_else(|| "the stream ended".to_owned());
            return ending.unwrap_or((over, EndKind::Failed));
        }
    }
}

/// Pings a peer that is quiet; if it is gone, says so.
fn look_after(pair: &Pair, machine: &mut Outgoing) -> Option<String> {
    let now = Instant::now();
    match pair.watch().handle_timeout(now) {
        Finding::Well => None,
        Finding::Gone => Some(format!(
            "the other server does not answer a ping within {} s",
            ping::ANSWER.as_secs()
        )),
        Finding::Ping(id) => {
            let ping = ping::stanza(&pair.local, &pair.peer, &id);
            let encoded = EncodedStanza::new(&ping).expect("two domains and an id of ours can be written");
            // A peer that takes no stanza of this size takes none.
            let _ = machine.send(now, &encoded);
            None
        }
    }
}

/// Returns when one of these targets takes connections again; never if there are none.
async fn better_is_there(net: &Shared, targets: Vec<Target>) {
    if targets.is_empty() {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(net.limits.fail_back).await;
        for target in &targets {
            if dial::dial(&target.addresses, net.own_ports()).await.is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_was_never_up_is_forgotten_first() {
        let unwanted = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        assert!(!is_forgotten(unwanted(9), false));
        assert!(is_forgotten(unwanted(10), false));
        assert!(!is_forgotten(unwanted(23 * 60), true));
        assert!(is_forgotten(unwanted(24 * 60), true));
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_are_never_none() {
        let cap = Duration::from_secs(60);
        for failures in 0..100 {
            let bound = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(cap);
            let drawn = pause(failures, cap);
            assert!(
                drawn <= bound && drawn >= Duration::from_millis(50),
                "{failures}: {drawn:?}"
            );
        }
        assert!(pause(u32::MAX, Duration::MAX) > Duration::ZERO);
    }

    fn pair() -> Pair {
        Pair {
            local: "a.lab".parse().unwrap(),
            peer: "b.lab".parse().unwrap(),
            queue: Mutex::default(),
            filled: Notify::new(),
            hurry: Notify::new(),
            renewed: AtomicU64::new(0),
            watch: Mutex::new(Watch::new(Instant::now(), "ping".to_owned())),
        }
    }

    fn push(pair: &Pair, limits: &NetLimits) -> Result<(), SendError> {
        let stanza = billow_xmpp::element("message", "jabber:client").done();
        let encoded = EncodedStanza::new(&stanza).unwrap();
        pair.push(limits, stanza, encoded)
    }

    #[test]
    fn a_queue_has_a_bound_in_stanzas_and_in_bytes() {
        let few = NetLimits {
            queue_stanzas: 2,
            ..NetLimits::default()
        };
        let pair_of_few = pair();
        push(&pair_of_few, &few).unwrap();
        push(&pair_of_few, &few).unwrap();
        assert_eq!(push(&pair_of_few, &few).unwrap_err().reason, BounceReason::QueueFull);
        assert_eq!(pair_of_few.take().len(), 2);
        push(&pair_of_few, &few).unwrap();
        // What the peer does not read counts until it is written.
        let narrow = NetLimits {
            queue_bytes: 15,
            ..NetLimits::default()
        };
        let slow = pair();
        push(&slow, &narrow).unwrap();
        assert_eq!(slow.take().len(), 1);
        assert_eq!(push(&slow, &narrow).unwrap_err().reason, BounceReason::QueueFull);
        slow.written();
        push(&slow, &narrow).unwrap();
        let small = NetLimits {
            queue_bytes: 15,
            ..NetLimits::default()
        };
        let small_pair = pair();
        push(&small_pair, &small).unwrap();
        assert_eq!(push(&small_pair, &small).unwrap_err().reason, BounceReason::QueueFull);
    }

    #[test]
    fn what_waited_too_long_is_taken_out_in_order() {
        let pair = pair();
        push(&pair, &NetLimits::default()).unwrap();
        assert!(pair.take_expired(Duration::from_secs(60)).0.is_empty());
        let (expired, next) = pair.take_expired(Duration::ZERO);
        assert_eq!((expired.len(), next), (1, None));
        assert_eq!(pair.queue().bytes, 0);
    }
}
