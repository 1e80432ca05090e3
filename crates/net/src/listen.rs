//! Takes the connections of peers, within limits, and brings their stanzas.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use billow_xmpp::Domain;
use billow_xmpp::s2s::{Event, Incoming, Machine, Verdict};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};

use crate::driver::Driver;
use crate::pool::Shared;
use crate::{NetEvent, StartError, dial};

/// How long no connection is taken when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// Listens on an address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Listen { address, error })
}

/// Takes connections until the net stops.
pub(crate) async fn accept(net: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = net.stopped() => return,
        };
        match accepted {
            Ok((socket, address)) => {
                // Beyond the limit a connection is closed without a word.
                if let Some(place) = net.strangers.admit(neighbourhood(address.ip())) {
                    net.spawn(serve(net.clone(), socket, address, place));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// One connection of a peer, from its first byte to its end.
async fn serve(net: Arc<Shared>, socket: TcpStream, address: SocketAddr, place: Place<IpAddr>) {
    let accepted = Instant::now();
    let mut entropy = [0; 32];
    if dial::prepare(&socket).is_err() || getrandom::fill(&mut entropy).is_err() {
        return;
    }
    let direct = tokio::select! {
        direct = begins_with_tls(&socket, net.limits.auth_deadline) => direct,
        () = net.stopped() => return,
    };
    let mut machine = Incoming::new(accepted, net.local_domains.clone(), entropy)
        .with_auth_deadline(net.limits.auth_deadline)
        .with_dialback(net.dialback.clone());
    if direct {
        machine = machine.direct_tls();
    }
    let driver = Driver::new(machine, socket, &net.tls, None).with_tls_deadline(net.limits.tls_deadline);
    let mut connection = Connection {
        net: &net,
        driver,
        address,
        stranger: Some(place),
        places: Vec::new(),
        verifying: FuturesUnordered::new(),
    };
    loop {
        let settled = connection.driver.settle().await;
        for event in settled.events {
            connection.event(event).await;
        }
        if let Some(reason) = settled.over {
            let stranger = connection.stranger.is_some();
            tracing::debug!(%address, stranger, reason, "a stream from a peer is over");
            return;
        }
        tokio::select! {
            () = connection.driver.hear() => {}
            Some((token, verdict)) = connection.verifying.next() => {
                connection.driver.machine.handle_verdict(token, verdict);
            }
            () = net.stopped() => connection.driver.machine.close(Instant::now()),
        }
    }
}

/// Whether the first byte is that of a TLS handshake (XEP-0368). No byte in time is for the stream to complain about.
pub(crate) async fn begins_with_tls(socket: &TcpStream, patience: Duration) -> bool {
    let mut first = [0];
    let peeked = tokio::time::timeout(patience, socket.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))) && first == [HANDSHAKE]
}

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// A connection of a peer with what it holds of ours.
struct Connection<'a> {
    net: &'a Arc<Shared>,
    driver: Driver<'a, Incoming>,
    address: SocketAddr,
    /// Its place among those that have not authenticated themselves.
    stranger: Option<Place<IpAddr>>,
    /// Its places among those that have.
    places: Vec<(Domain, Place<Domain>)>,
    /// The questions about its dialback keys.
    verifying: FuturesUnordered<BoxFuture<'static, (u64, Verdict)>>,
}

impl Connection<'_> {
    async fn event(&mut self, event: Event) {
        match event {
            Event::Authenticated { local, peer } => self.authenticated(local, peer).await,
            Event::Stanza { local, peer, element } => {
                if !self.net.heard(&local, &peer, &element) {
                    self.net.tell(NetEvent::Stanza { local, peer, element }).await;
                }
            }
            Event::Verify {
                token,
                local,
                peer,
                question,
            } => {
                let net = self.net.clone();
                let verified = async move { (token, net.verify(&local, &peer, question).await) };
                self.verifying.push(Box::pin(verified));
            }
            Event::Ready | Event::Answer(_) | Event::Over(_) => {}
        }
    }

    async fn authenticated(&mut self, local: Domain, peer: Domain) {
        self.stranger = None;
        if !self.places.iter().any(|(known, _)| *known == peer) {
            let Some(place) = self.net.peers.admit(peer.clone()) else {
                tracing::warn!(%peer, "a peer has too many streams");
                return self.driver.machine.close(Instant::now());
            };
            self.places.push((peer.clone(), place));
        }
        tracing::info!(%peer, %local, address = %self.address, "a peer has authenticated itself");
        self.net.note_key(&peer, self.driver.fingerprint()).await;
        self.net.hurry(&peer);
        self.net.tell(NetEvent::Heard { local, peer }).await;
    }
}

/// Counts connections by what they have in common, so that nobody takes all the room.
pub(crate) struct Places<K: Eq + Hash + Clone> {
    counts: Mutex<Counts<K>>,
    per_key: usize,
    total: usize,
}

struct Counts<K> {
    total: usize,
    by_key: HashMap<K, usize>,
}

/// The place of one connection; given back when it is dropped.
pub(crate) struct Place<K: Eq + Hash + Clone> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Places<K> {
    pub(crate) fn new(per_key: usize, total: usize) -> Arc<Self> {
        let counts = Mutex::new(Counts {
            total: 0,
            by_key: HashMap::new(),
        });
        Arc::new(Self { counts, per_key, total })
    }

    /// A place for a connection of that key, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut counts = self.counts.lock().expect("nothing panics while it holds the counts");
        let here = counts.by_key.get(&key).copied().unwrap_or(0);
        if counts.total >= self.total || here >= self.per_key {
            return None;
        }
        counts.total += 1;
        counts.by_key.insert(key.clone(), here + 1);
        Some(Place {
            places: self.clone(),
            key,
        })
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut counts = self
            .places
            .counts
            .lock()
            .expect("nothing panics while it holds the counts");
        counts.total = counts.total.saturating_sub(1);
        match counts.by_key.get_mut(&self.key) {
            Some(here) if *here > 1 => *here -= 1,
            _ => {
                counts.by_key.remove(&self.key);
            }
        }
    }
}

/// What counts as one address: a /64 in IPv6, where one machine has as many as it likes.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_counted_by_address_and_in_all() {
        let strangers = Places::new(2, 3);
        let ip = |text: &str| neighbourhood(text.parse().unwrap());
        let first = strangers.admit(ip("2001:db8::1")).unwrap();
        let _second = strangers.admit(ip("2001:db8::2")).unwrap();
        assert!(strangers.admit(ip("2001:db8::3")).is_none(), "one /64 is one address");
        let _third = strangers.admit(ip("192.0.2.1")).unwrap();
        assert!(strangers.admit(ip("192.0.2.2")).is_none(), "the total is full");
        drop(first);
        assert!(strangers.admit(ip("192.0.2.2")).is_some());
        assert!(strangers.counts.lock().unwrap().by_key.len() <= 3);
    }
}
