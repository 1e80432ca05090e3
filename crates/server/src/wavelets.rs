//! The live wavelets: a name leads to the one task that owns the wavelet's machine, started on first use.
//!
//! What sessions and the inbox ask of it; the tasks are in `wavelets/actor.rs`.

use std::sync::Arc;

use billow_model::{ParticipantId, Version, WaveId, Wavelet, WaveletName, WaveletOp};
use billow_store::StoreError;
use billow_wavelet::hosted::Applied;
use billow_wavelet::{Record, Refusal, Submission};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::web::messages::PeerDelivery;

/// All live wavelets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Wavelets {}

/// A live wavelet. Cheap to clone; while there is one, or somebody watches it, the wavelet stays in memory.
#[derive(Clone)]
pub(crate) struct WaveletHandle {}

/// What whoever has a wavelet open is told, in order.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A persisted delta; none left out. Whoever is removed by it gets this one as the last.
    Delta(Arc<Record>),
    /// Somebody else's caret.
    Caret(Arc<Caret>),
    /// How far the remote domains are, when it changed.
    Delivery(Arc<Vec<PeerDelivery>>),
}

/// Where somebody's caret is.
#[derive(Debug, Clone)]
pub(crate) struct Caret {
    pub(crate) address: ParticipantId,
    pub(crate) session: Arc<str>,
    pub(crate) version: Version,
    pub(crate) document: Option<String>,
    pub(crate) anchor: u32,
    pub(crate) focus: u32,
    pub(crate) typing: bool,
}

/// An open wavelet. Ends when it is dropped, when its user is removed, or when it is not read for too long
/// (the channel then closes, and the user opens it anew).
pub(crate) struct Subscription {
    /// Names the subscriber, so that its own carets do not come back to it.
    pub(crate) id: u64,
    pub(crate) start: Start,
    /// How far the remote domains are.
    pub(crate) delivery: Arc<Vec<PeerDelivery>>,
    pub(crate) events: mpsc::Receiver<Event>,
}

/// Where the events go on from.
pub(crate) enum Start {
    /// This state, and how far it is sealed.
    Snapshot(Box<Wavelet>, billow_model::HashedVersion),
    /// The known version was good: these deltas from there to `version`.
    Resumed { version: Version, deltas: Vec<Arc<Record>> },
}

impl Wavelets {
    /// Every wavelet of a wave that has a history, whoever may see it.
    pub(crate) async fn of_wave(&self, _wave: &WaveId) -> Result<Vec<WaveletHandle>, StoreError> {
        todo!()
    }

    /// A wavelet that has a history.
    pub(crate) async fn open(&self, _name: &WaveletName) -> Result<Option<WaveletHandle>, StoreError> {
        todo!()
    }

    /// A wavelet hosted here, whether or not it has a history yet: for its first delta. `None`: another domain hosts it.
    pub(crate) async fn open_or_begin(&self, _name: &WaveletName) -> Result<Option<WaveletHandle>, StoreError> {
        todo!()
    }

    /// The names of wavelets as they or their delivery change, and who may need to know. For the inbox.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        todo!()
    }
}

/// A wavelet has changed.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) name: WaveletName,
    /// The participants after the change, and those that it removed.
    pub(crate) people: Arc<[ParticipantId]>,
}

impl WaveletHandle {
    pub(crate) fn name(&self) -> &WaveletName {
        todo!()
    }

    /// Opens it for a user; `None` if the user may not see it (decided where the state is, in one place).
    pub(crate) async fn subscribe(&self, _user: &ParticipantId, _known: Option<Version>) -> Option<Subscription> {
        todo!()
    }

    /// Submits for a signed-in user. The answer may take as long as a remote host is away. It comes after the delta was sent
    /// to the subscribers.
    pub(crate) async fn submit(
        &self,
        _author: &ParticipantId,
        _submission: Submission,
        _version: Version,
        _ops: Vec<WaveletOp>,
    ) -> oneshot::Receiver<Result<Applied, Refusal>> {
        todo!()
    }

    /// The stored record that begins at this version (for [`Applied::Before`]).
    pub(crate) async fn record(&self, _applied_at: Version) -> Result<Option<Arc<Record>>, StoreError> {
        todo!()
    }

    /// Tells a subscriber's caret to the others (never stored).
    pub(crate) async fn caret(&self, _from: u64, _caret: Caret) {
        todo!()
    }

    /// Reads the shown state where it is.
    pub(crate) async fn read<T: Send + 'static>(&self, _read: impl FnOnce(&Wavelet) -> T + Send + 'static) -> T {
        todo!()
    }

    /// How far the remote domains are.
    pub(crate) async fn delivery(&self) -> Arc<Vec<PeerDelivery>> {
        todo!()
    }
}
