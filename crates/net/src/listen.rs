//! Takes the connections of peers, within limits, and brings their stanzas.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use billow_xmpp::Domain;
use billow_xmpp::s2s::{Event, Incoming, Machine};
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
    let mut entropy = [0; 32];
    if dial::prepare(&socket).is_err() || getrandom::fill(&mut entropy).is_err() {
        return;
    }
    let mut stranger = Some(place);
    let mut place = None;
    let machine = Incoming::new(Instant::now(), net.local_domains.clone(), entropy);
    let machine = machine.with_auth_deadline(net.limits.auth_deadline);
    let mut driver = Driver::new(machine, socket, &net.tls, None);
    let mut proved: Option<Domain> = None;
    loop {
        let settled = driver.settle().await;
        for event in settled.events {
            match event {
                Event::Authenticated { local, peer } => {
                    stranger = None;
                    place = net.peers.admit(peer.clone());
                    if place.is_none() {
                        tracing::warn!(%peer, "a peer has too many streams");
                        driver.machine.close(Instant::now());
                        continue;
                    }
                    proved = Some(peer.clone());
                    tracing::info!(%peer, %local, %address, "a peer has authenticated itself");
                    net.hurry(&peer);
                    net.tell(NetEvent::Heard { local, peer }).await;
                }
                Event::Stanza { local, element } => {
                    let peer = proved
                        .clone()
                        .expect("the machine gives stanzas after it gave the peer");
                    net.tell(NetEvent::Stanza { local, peer, element }).await;
                }
                Event::Ready | Event::Over(_) => {}
            }
        }
        if let Some(reason) = settled.over {
            tracing::debug!(%address, peer = ?proved, stranger = stranger.is_some(), reason, "a stream from a peer is over");
            drop((stranger, place));
            return;
        }
        tokio::select! {
            () = driver.hear() => {}
            () = net.stopped() => driver.machine.close(Instant::now()),
        }
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
    fn b_016_strangers_are_counted_by_address_and_in_all() {
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
