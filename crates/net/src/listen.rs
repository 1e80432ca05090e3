//! Takes the connections of peers, within limits, and brings their stanzas.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use billow_xmpp::Domain;
use billow_xmpp::s2s::{Event, Incoming, Machine};
use tokio::net::{TcpListener, TcpStream};

use crate::driver::Driver;
use crate::pool::Shared;
use crate::{NetEvent, NetLimits, StartError, dial};

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
                if let Some(place) = net.strangers.admit(address.ip()) {
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
async fn serve(net: Arc<Shared>, socket: TcpStream, address: SocketAddr, place: Place) {
    let mut entropy = [0; 32];
    if dial::prepare(&socket).is_err() || getrandom::fill(&mut entropy).is_err() {
        return;
    }
    let mut place = Some(place);
    let machine = Incoming::new(Instant::now(), net.local_domains.clone(), entropy);
    let machine = machine.with_auth_deadline(net.limits.auth_deadline);
    let mut driver = Driver::new(machine, socket, &net.tls, None);
    let mut proved: Option<Domain> = None;
    loop {
        let settled = driver.settle().await;
        for event in settled.events {
            match event {
                Event::Authenticated { local, peer } => {
                    place = None;
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
            let known = place.is_none();
            tracing::debug!(%address, peer = ?proved, known, reason, "a stream from a peer is over");
            return;
        }
        tokio::select! {
            () = driver.hear() => {}
            () = net.stopped() => driver.machine.close(Instant::now()),
        }
    }
}

/// Counts the connections that have not authenticated themselves.
pub(crate) struct Strangers {
    counts: Mutex<Counts>,
    per_address: usize,
    total: usize,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection among the strangers; given back when it is dropped.
pub(crate) struct Place {
    strangers: Arc<Strangers>,
    address: IpAddr,
}

impl Strangers {
    pub(crate) fn new(limits: &NetLimits) -> Arc<Self> {
        Arc::new(Self {
            counts: Mutex::default(),
            per_address: limits.unauthenticated_per_address,
            total: limits.unauthenticated,
        })
    }

    /// A place for a connection from that address, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = neighbourhood(address);
        let mut counts = self.counts.lock().expect("nothing panics while it holds the counts");
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.total >= self.total || here >= self.per_address {
            return None;
        }
        counts.total += 1;
        counts.by_address.insert(address, here + 1);
        Some(Place {
            strangers: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .strangers
            .counts
            .lock()
            .expect("nothing panics while it holds the counts");
        counts.total = counts.total.saturating_sub(1);
        match counts.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: a /64 in IPv6, where one machine has as many as it likes.
fn neighbourhood(address: IpAddr) -> IpAddr {
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
        let limits = NetLimits {
            unauthenticated_per_address: 2,
            unauthenticated: 3,
            ..NetLimits::default()
        };
        let strangers = Strangers::new(&limits);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = strangers.admit(ip("2001:db8::1")).unwrap();
        let _second = strangers.admit(ip("2001:db8::2")).unwrap();
        assert!(strangers.admit(ip("2001:db8::3")).is_none(), "one /64 is one address");
        let _third = strangers.admit(ip("192.0.2.1")).unwrap();
        assert!(strangers.admit(ip("192.0.2.2")).is_none(), "the total is full");
        drop(first);
        assert!(strangers.admit(ip("192.0.2.2")).is_some());
        assert!(strangers.counts.lock().unwrap().by_address.len() <= 3);
    }
}
