//! What DNS said about peers, and how long it is believed: at least a little, so that a TTL of nothing is no storm of
//! questions; not for ever; and longer than it said when it does not answer any more.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use billow_xmpp::{Domain, srv};

use crate::dns::FindError;
use crate::looked::Looked;

/// An answer is believed for at least so long.
const SHORTEST: Duration = Duration::from_secs(5);
/// And at most.
const LONGEST: Duration = Duration::from_secs(3600);
/// That there is nothing is believed for so long at least, and at most.
const NOTHING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// For so long after its time an answer is better than none.
const STALE: Duration = Duration::from_secs(3600);
/// Most peers that are remembered.
const MOST: usize = 10_000;

/// One target with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) record: srv::Record,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What is known, peer by peer.
#[derive(Default)]
pub(crate) struct Known {
    peers: HashMap<Domain, Entry>,
}

struct Entry {
    found: Result<Vec<Place>, FindError>,
    until: Instant,
    /// How it was found.
    looked: Option<Looked>,
}

/// What is known of a peer, and how it was found.
pub(crate) type Remembered = (Result<Vec<Place>, FindError>, Option<Looked>);

impl Known {
    /// Remembers an answer that may be kept for `ttl`.
    pub(crate) fn learn(&mut self, peer: Domain, found: Result<Vec<Place>, FindError>, now: Instant, ttl: Duration) {
        if self.peers.len() >= MOST && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, entry| entry.until > now);
            if self.peers.len() >= MOST {
                return;
            }
        }
        let (shortest, longest) = if found.is_ok() { (SHORTEST, LONGEST) } else { NOTHING };
        let until = now + ttl.clamp(shortest, longest);
        let looked = None;
        self.peers.insert(peer, Entry { found, until, looked });
    }

    /// How what was just learnt was found.
    pub(crate) fn note(&mut self, peer: &Domain, looked: Looked) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.looked = Some(looked);
        }
    }

    /// What is known and within its time.
    pub(crate) fn fresh(&self, peer: &Domain, now: Instant) -> Option<Remembered> {
        let entry = self.peers.get(peer)?;
        (now < entry.until).then(|| (entry.found.clone(), entry.looked.clone()))
    }

    /// Where the peer was, for when DNS does not answer.
    pub(crate) fn stale(&self, peer: &Domain, now: Instant) -> Option<Vec<Place>> {
        let entry = self.peers.get(peer)?;
        let places = entry.found.as_ref().ok()?;
        (now < entry.until + STALE).then(|| places.clone())
    }

    /// It is time to ask again.
    pub(crate) fn doubt(&mut self, peer: &Domain, now: Instant) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.until = entry.until.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Domain {
        "acme.lab".parse().unwrap()
    }

    fn places() -> Vec<Place> {
        let record = srv::Record {
            priority: 1,
            weight: 1,
            port: 5269,
            target: "x.lab".to_owned(),
            direct_tls: false,
        };
        vec![Place {
            record,
            addresses: vec!["192.0.2.1:5269".parse().unwrap()],
        }]
    }

    /// For how many seconds an answer is believed.
    fn believed(found: Result<Vec<Place>, FindError>, ttl: Duration) -> u64 {
        let (start, mut known) = (Instant::now(), Known::default());
        known.learn(peer(), found, start, ttl);
        let holds = |seconds: &u64| known.fresh(&peer(), start + Duration::from_secs(*seconds)).is_some();
        (0..10_000).take_while(holds).count() as u64
    }

    #[test]
    fn b_073_times_to_live_are_kept_within_bounds() {
        assert_eq!(believed(Ok(places()), Duration::ZERO), 5);
        assert_eq!(believed(Ok(places()), Duration::from_secs(60)), 60);
        assert_eq!(believed(Ok(places()), Duration::from_secs(1 << 31)), 3600);
        assert_eq!(believed(Ok(places()), Duration::MAX), 3600);
        assert_eq!(believed(Err(FindError::NotFound), Duration::ZERO), 1);
        assert_eq!(believed(Err(FindError::NotFound), Duration::from_secs(86_400)), 300);
        assert_eq!(believed(Err(FindError::NotOffered), Duration::from_secs(1 << 31)), 300);
    }

    #[test]
    fn an_answer_is_good_for_an_hour_longer_while_dns_is_silent() {
        let (start, mut known) = (Instant::now(), Known::default());
        known.learn(peer(), Ok(places()), start, Duration::from_secs(60));
        let after = |minutes: u64| start + Duration::from_secs(60 + minutes * 60);
        assert_eq!(known.fresh(&peer(), after(0)), None);
        assert_eq!(known.stale(&peer(), after(59)), Some(places()));
        assert_eq!(known.stale(&peer(), after(60)), None);
    }

    #[test]
    fn what_is_doubted_is_asked_again_but_not_forgotten() {
        let (now, mut known) = (Instant::now(), Known::default());
        known.learn(peer(), Ok(places()), now, Duration::from_secs(60));
        known.doubt(&peer(), now);
        assert_eq!(known.fresh(&peer(), now), None);
        assert_eq!(known.stale(&peer(), now), Some(places()));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let (now, mut known) = (Instant::now(), Known::default());
        for n in 0..MOST + 10 {
            known.learn(format!("d{n}.lab").parse().unwrap(), Ok(Vec::new()), now, LONGEST);
        }
        assert_eq!(known.peers.len(), MOST);
    }
}
