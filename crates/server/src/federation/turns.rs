//! How much of what one peer asks is under way at once: some of it runs, some waits its turn, the rest is refused, so that
//! no peer can take the server's memory, disk and threads from the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of all peers for one kind of work. Cheap to clone. `P` is whatever has turns of its own: a peer, or a peer's
/// part in something.
pub(super) struct Turns<P> {
    running: usize,
    admitted: usize,
    peers: Arc<Mutex<BTreeMap<P, Peer>>>,
}

impl<P> Clone for Turns<P> {
    fn clone(&self) -> Self {
        Self {
            running: self.running,
            admitted: self.admitted,
            peers: Arc::clone(&self.peers),
        }
    }
}

struct Peer {
    running: Arc<Semaphore>,
    admitted: usize,
}

/// A piece of work of a peer that is let in; it ends when this is dropped.
pub(super) struct Turn<P: Ord> {
    turns: Turns<P>,
    peer: P,
    running: Arc<Semaphore>,
}

impl<P: Ord + Clone> Turns<P> {
    /// So many pieces of a peer's work may run, and so many in all may be let in.
    pub(super) fn new(running: usize, admitted: usize) -> Self {
        Self {
            running,
            admitted,
            peers: Arc::default(),
        }
    }

    /// Lets a piece of work in, unless there is too much of this peer already.
    pub(super) fn take(&self, peer: &P) -> Option<Turn<P>> {
        let mut peers = self.peers();
        let entry = peers.entry(peer.clone()).or_insert_with(|| Peer {
            running: Arc::new(Semaphore::new(self.running)),
            admitted: 0,
        });
        if entry.admitted >= self.admitted {
            return None;
        }
        entry.admitted += 1;
        Some(Turn {
            turns: self.clone(),
            peer: peer.clone(),
            running: entry.running.clone(),
        })
    }
}

impl<P> Turns<P> {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<P, Peer>> {
        self.peers.lock().expect("nothing panics while it holds the peers")
    }
}

impl<P: Ord> Turn<P> {
    /// Waits until the work may run; it runs while the answer is held.
    pub(super) async fn begin(&self) -> Option<SemaphorePermit<'_>> {
        self.running.acquire().await.ok()
    }
}

impl<P: Ord> Drop for Turn<P> {
    fn drop(&mut self) {
        let mut peers = self.turns.peers();
        if let Some(entry) = peers.get_mut(&self.peer) {
            entry.admitted -= 1;
            if entry.admitted == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use billow_xmpp::Domain;

    use super::*;

    #[tokio::test]
    async fn a_peer_has_its_turns_and_takes_nobody_elses() {
        let turns = Turns::new(2, 3);
        let (evil, acme): (Domain, Domain) = ("evil.lab".parse().unwrap(), "acme.lab".parse().unwrap());
        let taken: Vec<Turn<Domain>> = std::iter::from_fn(|| turns.take(&evil)).collect();
        assert_eq!(taken.len(), 3);
        assert!(turns.take(&acme).is_some());
        let first = taken[0].begin().await;
        let second = taken[1].begin().await;
        assert!(first.is_some() && second.is_some());
        assert_eq!(taken[2].running.available_permits(), 0, "the third waits");
        drop(first);
        assert!(taken[2].begin().await.is_some());
        drop(second);
        drop(taken);
        assert!(turns.peers().is_empty(), "nothing is kept of who asks nothing");
        assert!(turns.take(&evil).is_some());
    }
}
