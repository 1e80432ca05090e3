//! The net as its user sees it: one outgoing stream per pair of a domain of ours and a peer.
//!
//! Each pair is a task that owns its stream. What is sent waits in the pair's queue, which is bounded in stanzas, bytes
//! and age; at the bound the stanza comes back to its sender, who knows whether it is still worth sending. A pair that
//! has been wanted within the last day is tried again for as long as it takes: after a pause that doubles from one
//! second to the cap (the actual pause is drawn from below that), and at once when the peer authenticates itself to us.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use billow_xmpp::s2s::{EncodedStanza, Event, Machine, Outgoing};
use billow_xmpp::{Domain, Element};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::dns::{Dns, random};
use crate::driver::Driver;
use crate::listen::{self, Places};
use crate::tls::Tls;
use crate::{BounceReason, NetConfig, NetEvent, NetLimits, SendError, StartError, dial};

/// Most pairs that are tried at the same time.
const DIALLING: usize = 64;
/// Most pairs.
const PAIRS: usize = 10_000;
/// Most events that wait for the layer above; then the streams wait.
const EVENTS: usize = 1024;
/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A stream that lived for so long was no failure.
const PROVEN: Duration = Duration::from_secs(10);
/// A pair that nobody wanted for so long is given up.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// The same for one that was never up: names are cheap, and each has its place among [`PAIRS`].
const NEVER_UP_FORGOTTEN: Duration = Duration::from_secs(600);
/// How long the streams may take to say good-bye.
const STOPPING: Duration = Duration::from_secs(5);

/// Starts the net.
pub struct Net;

/// The net. Cheap to clone.
#[derive(Clone)]
pub struct NetHandle {
    shared: Arc<Shared>,
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
    dns: Dns,
    dialling: Semaphore,
    pairs: Mutex<HashMap<(Domain, Domain), Arc<Pair>>>,
    events: mpsc::Sender<NetEvent>,
    stop: watch::Sender<bool>,
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
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
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
        let shared = Arc::new(Shared {
            tls: Tls::new(&config.domains, &config.roots)?,
            local_domains: Arc::new(config.domains.iter().map(|local| local.domain.clone()).collect()),
            strangers: Places::new(config.limits.unauthenticated_per_address, config.limits.unauthenticated),
            peers: Places::new(config.limits.streams_per_peer, usize::MAX),
            dns: Dns::new(&config.resolver, config.allow_private_addresses)?,
            dialling: Semaphore::new(DIALLING),
            limits: config.limits,
            pairs: Mutex::default(),
            events,
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
            runtime: Handle::current(),
        });
        let mut listening = Vec::new();
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
            shared.spawn(listen::accept(shared.clone(), listener));
        }
        Ok((
            NetHandle {
                shared,
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
        let ours = &self.shared.local_domains;
        if !ours.contains(local) {
            return refuse(
                stanza,
                BounceReason::NotAllowed("the sender is no domain of this server"),
            );
        }
        if ours.contains(peer) {
            return refuse(stanza, BounceReason::NotAllowed("the recipient is this server itself"));
        }
        let encoded = match EncodedStanza::new(&stanza) {
            Ok(encoded) => encoded,
            Err(error) => return refuse(stanza, BounceReason::NotSendable(error.to_string())),
        };
        if *self.shared.stop.borrow() {
            return refuse(stanza, BounceReason::Stopping);
        }
        let Some(pair) = self.shared.pair(local, peer) else {
            return refuse(stanza, BounceReason::QueueFull);
        };
        pair.push(&self.shared.limits, stanza, encoded)
    }

    /// Opens a stream to a peer, or opens it again without waiting further, although there is nothing to send.
    pub fn connect(&self, local: &Domain, peer: &Domain) {
        let ours = &self.shared.local_domains;
        if ours.contains(local)
            && !ours.contains(peer)
            && let Some(pair) = self.shared.pair(local, peer)
        {
            pair.queue().wanted = Some(Instant::now());
            pair.filled.notify_one();
            pair.hurry.notify_one();
        }
    }

    /// Tries a peer that is waiting for its next attempt now.
    pub fn retry_now(&self, peer: &Domain) {
        self.shared.hurry(peer);
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

    /// Ends the pause of all pairs with a peer.
    pub(crate) fn hurry(&self, peer: &Domain) {
        let pairs = self.pairs.lock().expect("nothing panics while it holds the pairs");
        for pair in pairs.values().filter(|pair| pair.peer == *peer) {
            pair.hurry.notify_one();
        }
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

    fn push(&self, limits: &NetLimits, stanza: Element, encoded: EncodedStanza) -> Result<(), SendError> {
        let mut queue = self.queue();
        queue.wanted = Some(Instant::now());
        let full = queue.waiting.len() >= limits.queue_stanzas || queue.bytes + encoded.size() > limits.queue_bytes;
        if full && !queue.waiting.is_empty() {
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

    /// Takes all that waits.
    fn take(&self) -> VecDeque<Waiting> {
        let mut queue = self.queue();
        queue.bytes = 0;
        std::mem::take(&mut queue.waiting)
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

/// Keeps the stream of a pair up for as long as somebody wants it.
async fn keep(net: Arc<Shared>, pair: Arc<Pair>) {
    let mut failures = 0;
    let mut was_up = false;
    loop {
        let (reason, lived) = stream(&net, &pair).await;
        was_up |= !lived.is_zero();
        if *net.stop.borrow() || net.forget(&pair, was_up) {
            return;
        }
        failures = if lived >= PROVEN { 0 } else { failures + 1 };
        let pause = pause(failures, net.limits.backoff_cap);
        tracing::info!(local = %pair.local, peer = %pair.peer, reason, ?pause, "the stream to a peer is down");
        net.tell(NetEvent::Unreachable {
            local: pair.local.clone(),
            peer: pair.peer.clone(),
            reason: reason.clone(),
            retry_at: SystemTime::now() + pause,
        })
        .await;
        tokio::select! {
            () = wait(&net, &pair, Instant::now() + pause, &reason) => {}
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
fn pause(failures: u32, cap: Duration) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let bound = doubled.min(cap).as_millis().try_into().unwrap_or(u64::MAX);
    let drawn = (u128::from(bound) * u128::from(random())) >> 32;
    Duration::from_millis(u64::try_from(drawn).unwrap_or(bound).max(bound / 10))
}

/// One stream of a pair, from the look-up to its end: why it ended and how long it was up.
async fn stream(net: &Shared, pair: &Pair) -> (String, Duration) {
    let mut ready_since = None;
    let opened = tokio::select! {
        opened = open(net, pair) => opened,
        () = net.stopped() => Err("the net is stopping".to_owned()),
    };
    let reason = match opened {
        Ok(mut driver) => {
            ready_since = Some(Instant::now());
            net.tell(NetEvent::Connected {
                local: pair.local.clone(),
                peer: pair.peer.clone(),
            })
            .await;
            feed(net, pair, &mut driver).await
        }
        Err(reason) => reason,
    };
    (reason, ready_since.map_or(Duration::ZERO, |since| since.elapsed()))
}

/// Finds a peer, connects, and brings the stream up.
async fn open<'a>(net: &'a Shared, pair: &Pair) -> Result<Driver<'a, Outgoing>, String> {
    let _turn = net
        .dialling
        .acquire()
        .await
        .map_err(|_| "the net is stopping".to_owned())?;
    let socket = dial::dial(&net.dns, &pair.peer).await?;
    let machine = Outgoing::new(Instant::now(), pair.local.clone(), pair.peer.clone());
    let machine = machine.with_auth_deadline(net.limits.auth_deadline);
    let mut driver = Driver::new(machine, socket, &net.tls, Some(pair.peer.clone()));
    loop {
        let settled = driver.settle().await;
        if let Some(reason) = settled.over {
            return Err(reason);
        }
        if settled.events.contains(&Event::Ready) {
            return Ok(driver);
        }
        driver.hear().await;
    }
}

/// Sends what is queued until the stream ends; why it ended.
async fn feed(net: &Shared, pair: &Pair, driver: &mut Driver<'_, Outgoing>) -> String {
    loop {
        for waiting in pair.take() {
            // What the peer would not take comes back; the stream goes on.
            if let Err(error) = driver.machine.send(Instant::now(), &waiting.encoded) {
                net.tell(pair.bounce(waiting.stanza, BounceReason::NotSendable(error.to_string())))
                    .await;
            }
        }
        if let Some(reason) = driver.settle().await.over {
            return reason;
        }
        tokio::select! {
            () = pair.filled.notified() => {}
            () = driver.hear() => {}
            () = net.stopped() => driver.machine.close(Instant::now()),
        }
        if !driver.machine.is_ready() {
            return driver
                .settle()
                .await
                .over
                .unwrap_or_else(|| "the stream ended".to_owned());
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
