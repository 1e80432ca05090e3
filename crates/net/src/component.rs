//! The one stream of a component: all peers are reached over the XMPP server that we are a component of (XEP-0114).
//!
//! Nothing is looked up and nobody is authenticated here: the XMPP server finds the servers of other domains, does TLS
//! with them, and vouches for who sent what. To the layers above it looks like streams to single peers all the same:
//! when the stream is up, all peers that were spoken with are up, and when it is down none is. What the XMPP server
//! cannot deliver comes back from it as an error of the stanza.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use billow_xmpp::component::{Component, Secret};
use billow_xmpp::s2s::{EncodedStanza, Event, Machine, Over};
use billow_xmpp::{Domain, Element, ping};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::dns::random;
use crate::driver::Driver;
use crate::pool::{PAIRS, PROVEN, Shared, pause};
use crate::{BounceReason, NetEvent, NetLimits, SendError};

/// Longest pause between two attempts: the XMPP server is ours, and everybody waits for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECTING: Duration = Duration::from_secs(10);
/// How many times as much may wait for all peers together as for one.
const PEERS_AT_ONCE: usize = 16;

/// Which XMPP server we are a component of, and as whom.
#[derive(Clone)]
pub struct ComponentConfig {
    /// Its port for components.
    pub address: SocketAddr,
    /// Our name there, which peers find by service discovery.
    pub name: Domain,
    /// What it knows us by.
    pub secret: Secret,
}

impl fmt::Debug for ComponentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ComponentConfig({} at {})", self.name, self.address)
    }
}

/// The way to all peers.
pub(crate) struct Link {
    config: ComponentConfig,
    waiting: Mutex<Waiting>,
    /// Something was put into the queue.
    filled: Notify,
    /// Waiting is over: try now.
    hurry: Notify,
    /// Begins the ids of what we ask ourselves.
    prefix: String,
}

/// What waits, and for whom.
#[derive(Default)]
struct Waiting {
    queue: VecDeque<Stanza>,
    /// Bytes of each peer that wait.
    bytes: HashMap<Domain, usize>,
    /// Bytes in all that wait.
    total: usize,
    /// Bytes that were taken out and are being written.
    writing: usize,
    /// The peers that were spoken with.
    peers: BTreeSet<Domain>,
}

struct Stanza {
    peer: Domain,
    stanza: Element,
    encoded: EncodedStanza,
    since: Instant,
}

impl Link {
    pub(crate) fn new(config: ComponentConfig) -> Self {
        Self {
            config,
            waiting: Mutex::default(),
            filled: Notify::new(),
            hurry: Notify::new(),
            prefix: format!("billow-{:08x}{:08x}", random(), random()),
        }
    }

    /// Our name.
    pub(crate) fn name(&self) -> &Domain {
        &self.config.name
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it holds what waits")
    }

    /// Queues a stanza; at the bounds it comes back.
    pub(crate) fn push(
        &self,
        limits: &NetLimits,
        peer: &Domain,
        stanza: Element,
        encoded: EncodedStanza,
    ) -> Result<(), SendError> {
        let mut waiting = self.waiting();
        if let Err(reason) = waiting.room(limits, peer, encoded.size()) {
            return Err(SendError {
                stanza: Box::new(stanza),
                reason,
            });
        }
        waiting.total += encoded.size();
        *waiting.bytes.entry(peer.clone()).or_default() += encoded.size();
        waiting.queue.push_back(Stanza {
            peer: peer.clone(),
            stanza,
            encoded,
            since: Instant::now(),
        });
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Notes a peer, so that it is told of when the stream breaks.
    pub(crate) fn meet(&self, peer: &Domain) {
        let mut waiting = self.waiting();
        if waiting.peers.len() < PAIRS && !waiting.peers.contains(peer) {
            waiting.peers.insert(peer.clone());
        }
    }

    /// Ends the pause.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Bytes on their way to the XMPP server that it has not read.
    pub(crate) fn unsent(&self) -> usize {
        let waiting = self.waiting();
        waiting.total + waiting.writing
    }

    fn peers(&self) -> Vec<Domain> {
        self.waiting().peers.iter().cloned().collect()
    }

    /// Takes all that waits, to write it.
    fn take(&self) -> VecDeque<Stanza> {
        let mut waiting = self.waiting();
        waiting.writing += std::mem::take(&mut waiting.total);
        waiting.bytes.clear();
        std::mem::take(&mut waiting.queue)
    }

    /// What was taken is written, or lost.
    fn written(&self) {
        self.waiting().writing = 0;
    }

    /// Takes what has waited too long, and says when the next will have.
    fn take_expired(&self, age: Duration) -> (Vec<Stanza>, Option<Instant>) {
        let mut waiting = self.waiting();
        let mut expired = Vec::new();
        while let Some(first) = waiting.queue.pop_front() {
            if first.since.elapsed() < age {
                let next = first.since + age;
                waiting.queue.push_front(first);
                return (expired, Some(next));
            }
            let size = first.encoded.size();
            waiting.total = waiting.total.saturating_sub(size);
            if let Some(bytes) = waiting.bytes.get_mut(&first.peer) {
                *bytes = bytes.saturating_sub(size);
            }
            expired.push(first);
        }
        (expired, None)
    }

    /// What failed, at which server.
    fn words(&self, what: impl fmt::Display) -> String {
        format!("the XMPP server at {} {what}", self.config.address)
    }
}

impl Waiting {
    /// Whether so many bytes more may wait for a peer; one stanza always may.
    fn room(&self, limits: &NetLimits, peer: &Domain, size: usize) -> Result<(), BounceReason> {
        let of_peer = self.bytes.get(peer).copied().unwrap_or_default();
        let of_all = self.total + self.writing;
        let is_full = (of_peer > 0 && of_peer + size > limits.queue_bytes)
            || (of_all > 0 && of_all + size > limits.queue_bytes.saturating_mul(PEERS_AT_ONCE))
            || self.queue.len() >= limits.queue_stanzas.saturating_mul(PEERS_AT_ONCE);
        if is_full { Err(BounceReason::QueueFull) } else { Ok(()) }
    }
}

/// Why there is no stream, or no longer.
struct Ended {
    reason: String,
    lived: Duration,
    /// Somebody must change a configuration.
    needs_somebody: bool,
}

impl Ended {
    fn before_it_began(reason: String) -> Self {
        Self {
            reason,
            lived: Duration::ZERO,
            needs_somebody: false,
        }
    }
}

/// Keeps the stream up until the net stops.
pub(crate) async fn keep(net: Arc<Shared>, link: Arc<Link>) {
    let mut failures = 0;
    let mut told = String::new();
    loop {
        let ended = stream(&net, &link).await;
        if *net.stop.borrow() {
            return;
        }
        failures = if ended.lived >= PROVEN { 0 } else { failures + 1 };
        let pause = pause(failures, net.limits.backoff_cap.min(LONGEST_PAUSE));
        let reason = ended.reason;
        // Said once, however often it is tried.
        if ended.needs_somebody && told != reason {
            tracing::error!(name = %link.name(), "no other domain can be reached: {reason}");
        } else if told != reason {
            tracing::warn!(name = %link.name(), ?pause, "no other domain can be reached: {reason}");
        }
        told.clone_from(&reason);
        if !ended.lived.is_zero() {
            told.clear();
        }
        let retry_at = SystemTime::now() + pause;
        for peer in link.peers() {
            net.tell(NetEvent::Unreachable {
                local: link.name().clone(),
                peer,
                reason: reason.clone(),
                retry_at,
            })
            .await;
        }
        tokio::select! {
            () = wait(&net, &link, Instant::now() + pause, &reason) => {}
            () = net.stopped() => return,
        }
    }
}

/// Waits for the next attempt; gives back what has waited too long meanwhile.
async fn wait(net: &Shared, link: &Link, until: Instant, reason: &str) {
    loop {
        let (expired, next) = link.take_expired(net.limits.queue_age);
        for waited in expired {
            net.tell(NetEvent::Bounced {
                local: link.name().clone(),
                peer: waited.peer,
                stanza: waited.stanza,
                reason: BounceReason::TimedOut(reason.to_owned()),
            })
            .await;
        }
        let wake = next.map_or(until, |next| next.min(until));
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => {}
            () = link.hurry.notified() => return,
        }
        if Instant::now() >= until {
            return;
        }
    }
}

/// One stream, from connecting to its end.
async fn stream(net: &Shared, link: &Link) -> Ended {
    let connecting = tokio::time::timeout(CONNECTING, TcpStream::connect(link.config.address));
    let connected = tokio::select! {
        connected = connecting => connected,
        () = net.stopped() => return Ended::before_it_began("the net is stopping".to_owned()),
    };
    let socket = match connected {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Ended::before_it_began(link.words(format_args!("cannot be reached: {error}"))),
        Err(_) => {
            let what = format_args!("cannot be reached: no answer within {} s", CONNECTING.as_secs());
            return Ended::before_it_began(link.words(what));
        }
    };
    // Many stanzas are small and somebody waits for each.
    let _ = socket.set_nodelay(true);
    let config = &link.config;
    let prefix = format!("{}-self", link.prefix);
    let machine = Component::new(Instant::now(), config.name.clone(), config.secret.clone(), prefix);
    let mut driver = Driver::plain(machine, socket);
    let mut since = None;
    let over = feed(net, link, &mut driver, &mut since).await;
    let needs_somebody = matches!(&over, Over::Component(refusal) if refusal.needs_somebody());
    Ended {
        reason: link.words(over),
        lived: since.map_or(Duration::ZERO, |since: Instant| since.elapsed()),
        needs_somebody,
    }
}

/// Sends what is queued and tells what comes until the stream ends; why it ended, and since when it was up.
async fn feed(net: &Shared, link: &Link, driver: &mut Driver<'_, Component>, since: &mut Option<Instant>) -> Over {
    let mut greetings = BTreeSet::new();
    loop {
        if driver.machine.is_ready() {
            let now = Instant::now();
            for waiting in link.take() {
                driver.machine.send(now, &waiting.encoded);
            }
        }
        let settled = driver.settle().await;
        link.written();
        for event in settled.events {
            match event {
                Event::Ready => {
                    *since = Some(Instant::now());
                    tracing::info!(
                        "connected to the XMPP server at {} as {}",
                        link.config.address,
                        link.name()
                    );
                    greetings = greet(net, link, driver).await;
                }
                Event::Stanza { local, peer, element } => {
                    link.meet(&peer);
                    if greetings.remove(element.attr("id").unwrap_or_default()) {
                        if element.attr("type") == Some("result") {
                            net.tell(NetEvent::Heard { local, peer }).await;
                        }
                        continue;
                    }
                    net.tell(NetEvent::Stanza { local, peer, element }).await;
                }
                _ => {}
            }
        }
        if let Some(over) = settled.ended {
            return over;
        }
        let is_ready = driver.machine.is_ready();
        tokio::select! {
            () = link.filled.notified(), if is_ready => {}
            () = driver.hear() => {}
            () = net.stopped() => driver.machine.close(Instant::now()),
        }
    }
}

/// Says that the stream is up, and pings all peers: one that could not reach us while it was down tries again when it
/// hears us. The ids of the pings.
async fn greet(net: &Shared, link: &Link, driver: &mut Driver<'_, Component>) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (at, peer) in link.peers().into_iter().enumerate() {
        let id = format!("{}-{at}", link.prefix);
        let ping = ping::stanza(link.name(), &peer, &id);
        if let Ok(encoded) = EncodedStanza::new(&ping) {
            driver.machine.send(Instant::now(), &encoded);
            ids.insert(id);
        }
        net.tell(NetEvent::Connected {
            local: link.name().clone(),
            peer,
        })
        .await;
    }
    ids
}

#[cfg(test)]
mod tests {
    use billow_xmpp::component::Refusal;

    use super::*;

    fn link() -> Link {
        Link::new(ComponentConfig {
            address: "127.0.0.1:5347".parse().unwrap(),
            name: "wave.a.lab".parse().unwrap(),
            secret: Secret::new("opensesame"),
        })
    }

    fn push(link: &Link, limits: &NetLimits, peer: &str) -> Result<(), SendError> {
        let stanza = billow_xmpp::element("message", "jabber:client").done();
        let encoded = EncodedStanza::new(&stanza).unwrap();
        link.push(limits, &peer.parse().unwrap(), stanza, encoded)
    }

    #[test]
    fn one_peer_cannot_fill_the_queue_of_all() {
        let limits = NetLimits {
            queue_bytes: 15,
            ..NetLimits::default()
        };
        let link = link();
        push(&link, &limits, "b.lab").unwrap();
        assert_eq!(
            push(&link, &limits, "b.lab").unwrap_err().reason,
            BounceReason::QueueFull
        );
        for peer in 0..2 * PEERS_AT_ONCE {
            let _ = push(&link, &limits, &format!("c{peer}.lab"));
        }
        assert_eq!(
            push(&link, &limits, "d.lab").unwrap_err().reason,
            BounceReason::QueueFull
        );
        assert!(link.unsent() > 15);
        assert!(link.take().len() > PEERS_AT_ONCE);
        // What the server does not read counts until it is written.
        assert_eq!(
            push(&link, &limits, "d.lab").unwrap_err().reason,
            BounceReason::QueueFull
        );
        link.written();
        push(&link, &limits, "d.lab").unwrap();
    }

    #[test]
    fn what_waited_too_long_is_taken_out_in_order() {
        let link = link();
        push(&link, &NetLimits::default(), "b.lab").unwrap();
        assert!(link.take_expired(Duration::from_secs(60)).0.is_empty());
        let (expired, next) = link.take_expired(Duration::ZERO);
        assert_eq!((expired.len(), next, link.unsent()), (1, None, 0));
    }

    #[test]
    fn what_is_wrong_is_said_of_the_server() {
        let refusal = Refusal::Secret("wave.a.lab".parse().unwrap());
        let words = link().words(Over::Component(refusal));
        assert!(
            words.starts_with("the XMPP server at 127.0.0.1:5347 refused the secret of wave.a.lab"),
            "{words}"
        );
        assert!(!format!("{:?}", link().config).contains("opensesame"));
    }
}
