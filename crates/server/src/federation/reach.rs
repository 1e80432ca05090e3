//! Trying to reach a peer for it: at the places that its own DNS records name and nowhere else, seldom, and for few at a
//! time, so that nobody can use this server to knock at doors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use billow_federation::stanza::reach::Tried;
use billow_net::{NetHandle, Visit};
use billow_xmpp::Domain;
use tokio::sync::Semaphore;

/// A peer may ask once in so long.
const PAUSE: Duration = Duration::from_secs(10);
/// Most peers that are tried at once.
const AT_ONCE: usize = 4;
/// Most peers that are remembered.
const KNOWN: usize = 1_000;

/// Who has asked lately. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    asked: Arc<Mutex<HashMap<Domain, Instant>>>,
    places: Arc<Semaphore>,
}

impl Reach {
    pub(super) fn new() -> Self {
        Self {
            asked: Arc::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Whether a peer may ask now; if so, it has.
    pub(super) fn admits(&self, peer: &Domain, now: Instant) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, when| now.saturating_duration_since(*when) < PAUSE);
        if asked.len() >= KNOWN || asked.contains_key(peer) {
            return false;
        }
        asked.insert(peer.clone(), now);
        true
    }

    /// Tries all places of a peer; the error says why there is none. `None`: it cannot be tried from here.
    pub(super) async fn try_all(
        &self,
        net: &NetHandle,
        local: &Domain,
        peer: &Domain,
    ) -> Option<Result<Vec<Tried>, String>> {
        let _place = self.places.acquire().await.ok()?;
        let visits = net.visit(local, peer).await?;
        let tried = |visit: Visit| Tried {
            address: visit.address,
            direct_tls: visit.direct_tls,
            outcome: visit.outcome,
        };
        Some(visits.map(|visits| visits.into_iter().map(tried).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_ask_once_in_a_while_and_a_crowd_may_not() {
        let (reach, now) = (Reach::new(), Instant::now());
        let domain = |n: usize| format!("d{n}.lab").parse::<Domain>().unwrap();
        assert!(reach.admits(&domain(0), now));
        assert!(!reach.admits(&domain(0), now + PAUSE / 2));
        assert!(reach.admits(&domain(0), now + PAUSE * 2));
        let later = now + PAUSE * 4;
        let admitted = (0..2 * KNOWN).filter(|n| reach.admits(&domain(*n), later)).count();
        assert_eq!(admitted, KNOWN);
    }
}
