//! Who has a wavelet open, and how what happens on it reaches them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use billow_model::{Domain, HashedVersion, ParticipantId, Version, Wavelet};
use billow_wavelet::Record;
use tokio::sync::mpsc;

use super::shown::ShownDelta;
use crate::web::messages::PeerDelivery;

/// Events that a subscriber may be behind with; one that is further behind has to open the wavelet anew.
const ROOM: usize = 1_024;

/// Room that carets leave to deltas.
const ROOM_FOR_DELTAS: usize = ROOM / 2;

/// What whoever has a wavelet open is told, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A persisted delta; none left out. Whoever is removed by it gets this one as the last.
    Delta(Arc<ShownDelta>),
    /// Somebody else's caret.
    Caret(Arc<Caret>),
    /// How far the remote domains are, when it changed.
    Delivery(Arc<Vec<PeerDelivery>>),
}

/// Where somebody's caret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caret {
    /// Whose.
    pub address: ParticipantId,
    /// Which of their editors.
    pub session: Arc<str>,
    /// The version that the positions are of.
    pub version: Version,
    /// Which document; `None`: gone.
    pub document: Option<String>,
    /// Item position.
    pub anchor: u32,
    /// The moving end.
    pub focus: u32,
    /// Whether they typed just now.
    pub typing: bool,
}

/// Who told us of a caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaretSource {
    /// A subscriber, by number: it is not told its own.
    Subscriber(u64),
    /// Another server, for a user of its own.
    Peer(Domain),
}

impl CaretSource {
    /// Whether it may tell of this user's carets, on a wavelet that we host or not.
    ///
    /// As the host we hear of a peer's own users only. From the host we hear of everybody, but of our own users from nobody.
    pub(super) fn may_tell_of(&self, user: &ParticipantId, ours: &Domain, hosted: bool) -> bool {
        match self {
            Self::Subscriber(_) => true,
            Self::Peer(domain) if hosted => user.domain() == *domain,
            Self::Peer(_) => user.domain() != *ours,
        }
    }
}

/// An open wavelet. Ends when it is dropped, when its user is removed, or when it is not read for too long
/// (the channel then closes, and the user opens it anew).
#[derive(Debug)]
pub struct Subscription {
    /// Names the subscriber, so that its own carets do not come back to it.
    pub id: u64,
    /// The state or what was missed.
    pub start: Start,
    /// The carets of others at the moment.
    pub carets: Vec<Arc<Caret>>,
    /// How far the remote domains are.
    pub delivery: Arc<Vec<PeerDelivery>>,
    /// What happens from then on.
    pub events: mpsc::Receiver<Event>,
}

/// Where the events go on from.
#[derive(Debug)]
pub enum Start {
    /// This state, and how far it is sealed.
    Snapshot(Box<Wavelet>, HashedVersion),
    /// The known version was good: these deltas lead from there to `version`.
    Resumed {
        /// Where the wavelet is.
        version: Version,
        /// What was missed, in order.
        deltas: Vec<Arc<Record>>,
    },
}

/// Those who have one wavelet open.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    list: Vec<Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    id: u64,
    user: ParticipantId,
    sender: mpsc::Sender<Event>,
}

impl Subscribers {
    pub(super) fn add(&mut self, user: ParticipantId) -> (u64, mpsc::Receiver<Event>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(ROOM);
        self.list.push(Subscriber { id, user, sender });
        (id, events)
    }

    /// Whether nobody has it open; those that are gone are forgotten.
    pub(super) fn is_empty(&mut self) -> bool {
        self.list.retain(|one| !one.sender.is_closed());
        self.list.is_empty()
    }

    /// Tells all. Who is gone, or has no room left, is a subscriber no longer: its channel closes after what it has.
    pub(super) fn tell(&mut self, event: &Event) {
        self.list.retain(|one| one.sender.try_send(event.clone()).is_ok());
    }

    /// Shows a caret to all but one. Who is behind does not get it, and stays a subscriber.
    pub(super) fn show_caret(&self, id: Option<u64>, caret: &Arc<Caret>) {
        let others = self.list.iter().filter(|one| Some(one.id) != id);
        for one in others.filter(|one| one.sender.capacity() > ROOM_FOR_DELTAS) {
            // Who is gone is forgotten with the next delta.
            let _ = one.sender.try_send(Event::Caret(Arc::clone(caret)));
        }
    }

    /// Ends the subscriptions of those who may no longer read.
    pub(super) fn keep(&mut self, may_read: impl Fn(&ParticipantId) -> bool) {
        self.list.retain(|one| may_read(&one.user));
    }

    /// Ends all.
    pub(super) fn end(&mut self) {
        self.list.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[tokio::test]
    async fn carets_end_no_subscription_and_leave_room_for_deltas() {
        let user: ParticipantId = "bob@acme.lab".parse().unwrap();
        let mut subscribers = Subscribers::default();
        let (_, mut events) = subscribers.add(user.clone());
        let caret = Arc::new(Caret {
            address: user,
            session: "s".into(),
            version: Version::ZERO,
            document: None,
            anchor: 0,
            focus: 0,
            typing: false,
        });
        (0..2 * ROOM).for_each(|_| subscribers.show_caret(None, &caret));
        let delivery = Event::Delivery(Arc::default());
        (0..ROOM_FOR_DELTAS).for_each(|_| subscribers.tell(&delivery));
        assert!(!subscribers.is_empty());
        subscribers.tell(&delivery);
        assert!(subscribers.is_empty(), "who does not even take these is too far behind");
        let mut count = 0;
        while events.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, ROOM);
    }

    #[test]
    fn nobody_else_tells_of_our_users_carets() {
        let ours: Domain = "acme.lab".parse().unwrap();
        let tells =
            |source: &CaretSource, user: &str, hosted| source.may_tell_of(&user.parse().unwrap(), &ours, hosted);
        let host = CaretSource::Peer("initech.lab".parse().unwrap());
        assert!(tells(&host, "alice@initech.lab", false));
        assert!(tells(&host, "carol@hooli.lab", false));
        assert!(!tells(&host, "bob@acme.lab", false));
        let remote = CaretSource::Peer("initech.lab".parse().unwrap());
        assert!(tells(&remote, "alice@initech.lab", true));
        assert!(!tells(&remote, "carol@hooli.lab", true));
        assert!(!tells(&remote, "bob@acme.lab", true));
        assert!(tells(&CaretSource::Subscriber(1), "bob@acme.lab", true));
    }
}
