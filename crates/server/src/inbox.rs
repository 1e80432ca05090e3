//! The waves a user is in, as rows; and what of them the user has read.
//!
//! A row is made of a summary of the conversation, the same for everybody, and the user's own read state. Summaries are kept
//! in memory and, some time after a change, in the store: an inbox opens without loading its waves. What changes is
//! looked at a few times a second at most, and only where somebody who is signed in takes part.
//!
//! What a user has read is in the user-data wavelet beside the conversation, which this server hosts and no other sees.

mod summary;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use billow_model::conversation::{ReadState, mark_blip_read, merged};
use billow_model::{
    Document, DocumentId, Domain, ParticipantId, Version, WaveId, Wavelet, WaveletId, WaveletName, WaveletOp,
};
use billow_store::{InboxEntry, Store, StoreError};
use billow_wavelet::{Refusal, Submission};
use bytes::Bytes;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::requests::RequestList;
use crate::wavelets::{Change, Wavelets};
use crate::web::messages::{DeliveryState, InboxRow, ReadBlip};
use serde::Serialize;
use summary::{StoredReadState, Summary};

/// Changes are looked at this often.
const PAUSE: Duration = Duration::from_millis(200);
/// What was read is written down after this long, together.
const READ_PAUSE: Duration = Duration::from_millis(150);
/// Summaries are stored this often.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// Notices that may wait for one session.
const NOTICES_MAX: usize = 1024;
/// Summaries in memory.
const SUMMARIES_MAX: usize = 50_000;
/// How often a read mark is tried.
const TRIES: u32 = 4;

/// All inboxes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    wavelets: Wavelets,
    store: Store,
    people: Mutex<HashMap<ParticipantId, Person>>,
    summaries: Mutex<HashMap<WaveletName, Arc<Summary>>>,
    /// Summaries, and what was read, to be stored.
    unkept: Mutex<HashMap<WaveletName, billow_store::Summary>>,
    /// What was read and is not written down yet.
    unwritten: Mutex<HashMap<(ParticipantId, WaveletName), BTreeMap<DocumentId, Version>>>,
    to_write: Notify,
    /// Names this process as the author of read marks, and counts them.
    session: Arc<str>,
    sequence: AtomicU64,
}

/// A user with at least one session.
#[derive(Default)]
struct Person {
    listeners: Vec<(u64, mpsc::Sender<Notice>)>,
    /// The rows as they were last told.
    rows: HashMap<WaveId, Arc<InboxRow>>,
    /// What was read, by user-data wavelet.
    read: HashMap<WaveletName, Arc<ReadState>>,
}

/// Something that concerns a user.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// A row is new or has changed.
    Row(Arc<InboxRow>),
    /// The user is no longer in this wave.
    Gone(WaveId),
    /// The user's requests may have changed.
    Requests,
    /// The user has come onto this wavelet, or it has just become known.
    Joined(WaveletName),
    /// The user has read something of this wavelet.
    Read(WaveletName, Arc<[ReadBlip]>),
}

/// The notices of one session. Dropped, the session is forgotten.
pub(crate) struct Notices {
    receiver: mpsc::Receiver<Notice>,
    user: ParticipantId,
    id: u64,
    shared: Arc<Shared>,
}

impl Notices {
    /// The next notice; `None` if they were not taken quickly enough and there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Notice> {
        self.receiver.recv().await
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let mut people = self.shared.people();
        if let Some(person) = people.get_mut(&self.user) {
            person.listeners.retain(|(id, _)| *id != self.id);
            if person.listeners.is_empty() {
                people.remove(&self.user);
            }
        }
    }
}

impl Inbox {
    pub(crate) fn new(wavelets: Wavelets, store: Store) -> Self {
        let mut name = [0_u8; 12];
        getrandom::fill(&mut name).expect("the system has randomness");
        let shared = Shared {
            wavelets,
            store,
            people: Mutex::default(),
            summaries: Mutex::default(),
            unkept: Mutex::default(),
            unwritten: Mutex::default(),
            to_write: Notify::new(),
            session: format!("read-{}", hex::encode(name)).into(),
            sequence: AtomicU64::new(1),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Begins to listen for a user's session.
    pub(crate) fn join(&self, user: &ParticipantId) -> Notices {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(NOTICES_MAX);
        self.shared
            .people()
            .entry(user.clone())
            .or_default()
            .listeners
            .push((id, sender));
        Notices {
            receiver,
            user: user.clone(),
            id,
            shared: Arc::clone(&self.shared),
        }
    }

    /// All rows of a user, newest first.
    pub(crate) async fn rows(&self, user: &ParticipantId) -> Result<Vec<InboxRow>, StoreError> {
        let entries = self.shared.store.inbox(user).await?;
        let mut rows = Vec::new();
        let shown = |entry: &&InboxEntry| is_row(&entry.name) && !self.hides(user, &entry.name);
        for entry in entries.iter().filter(shown) {
            let Some(summary) = self.summary(entry).await else {
                continue;
            };
            let read = self.read(user, &entry.name, &entries).await;
            rows.push(Arc::new(row(
                &entry.name,
                &summary,
                &read,
                &self.waiting_for(&entry.name).await,
            )));
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.last_modified));
        if let Some(person) = self.shared.people().get_mut(user) {
            person.rows = rows
                .iter()
                .filter_map(|row| Some((row.wave.parse().ok()?, Arc::clone(row))))
                .collect();
        }
        Ok(rows.iter().map(|row| InboxRow::clone(row)).collect())
    }

    /// What a user is asked first.
    pub(crate) fn requests(&self, user: &ParticipantId) -> RequestList {
        self.shared.wavelets.shared().requests.of(user)
    }

    /// Brings a wave into a user's inbox that was a request; whether it was one.
    pub(crate) async fn accept(&self, user: &ParticipantId, wave: &WaveId) -> Result<bool, StoreError> {
        let names = self.shared.wavelets.shared().requests.accept(user, wave).await?;
        for name in &names {
            self.wavelet_changed(name, &[user.clone()].into()).await;
        }
        self.tell(user, &Notice::Requests);
        Ok(!names.is_empty())
    }

    /// Hides a wave that is a request; whether it is one.
    pub(crate) async fn decline(&self, user: &ParticipantId, wave: &WaveId) -> Result<bool, StoreError> {
        let was = self.shared.wavelets.shared().requests.decline(user, wave).await?;
        self.tell(user, &Notice::Requests);
        Ok(was)
    }

    /// A user wants no invitations of a domain, or does again.
    pub(crate) async fn block(&self, user: &ParticipantId, domain: &Domain, blocked: bool) -> Result<(), StoreError> {
        let requests = &self.shared.wavelets.shared().requests;
        match blocked {
            true => requests.block(user, domain).await?,
            false => requests.unblock(user, domain).await?,
        }
        self.tell(user, &Notice::Requests);
        Ok(())
    }

    fn hides(&self, user: &ParticipantId, name: &WaveletName) -> bool {
        self.shared.wavelets.shared().requests.hides(user, name)
    }

    /// What a user has read of a wavelet.
    pub(crate) async fn read_state(&self, user: &ParticipantId, name: &WaveletName) -> Vec<ReadBlip> {
        let Some(summary) = self.known_summary(name).await else {
            return Vec::new();
        };
        read_blips(&*self.read(user, name, &[]).await, name, &summary)
    }

    /// Notes that a user has read blips of a wavelet as of a version; it is written down soon.
    pub(crate) fn mark_read(&self, user: &ParticipantId, name: &WaveletName, blips: Vec<DocumentId>, version: Version) {
        let mut unwritten = self.shared.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = unwritten.entry((user.clone(), name.clone())).or_default();
        for blip in blips {
            let mark = marks.entry(blip).or_default();
            *mark = version.max(*mark);
        }
        drop(unwritten);
        self.shared.to_write.notify_one();
    }

    /// Follows the wavelets and writes down what is read, until the server stops.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            () = self.write_marks() => {}
            () = self.keep_summaries() => {}
            () = crate::web::stopped(&mut stopping) => {}
        }
        self.write_waiting_marks().await;
        self.keep_waiting_summaries().await;
    }

    async fn follow(&self) {
        let mut changes = self.shared.wavelets.changes();
        loop {
            match next_changes(&mut changes).await {
                Some(changed) => {
                    for (name, people) in changed {
                        if !name.wavelet().is_user_data() {
                            self.wavelet_changed(&name, &people).await;
                        } else if let Some(user) = whose_user_data(&name) {
                            self.read_state_changed(&name, user).await;
                        }
                    }
                }
                None => self.look_at_everything().await,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// So much has changed at once that some of it is not known: all rows that somebody sees are made anew.
    async fn look_at_everything(&self) {
        self.shared.summaries().clear();
        let users: Vec<ParticipantId> = self.shared.people().keys().cloned().collect();
        for user in users {
            if let Err(error) = self.look_at_all_of(&user).await {
                tracing::error!(%user, %error, "an inbox cannot be read");
                // Its clients ask for everything anew.
                if let Some(person) = self.shared.people().get_mut(&user) {
                    person.listeners.clear();
                }
            }
        }
    }

    async fn look_at_all_of(&self, user: &ParticipantId) -> Result<(), StoreError> {
        let entries = self.shared.store.inbox(user).await?;
        let told: BTreeSet<WaveId> = match self.shared.people().get_mut(user) {
            Some(person) => {
                person.read.clear();
                person.rows.keys().cloned().collect()
            }
            None => return Ok(()),
        };
        self.tell(user, &Notice::Requests);
        let shown = |entry: &&InboxEntry| !entry.name.wavelet().is_user_data() && !self.hides(user, &entry.name);
        for entry in entries.iter().filter(shown) {
            let name = &entry.name;
            if !is_row(name) || !told.contains(name.wave()) {
                self.tell(user, &Notice::Joined(name.clone()));
            }
            if is_row(name)
                && let Some(summary) = self.summary(entry).await
            {
                let read = self.read(user, name, &entries).await;
                self.tell_row(user, row(name, &summary, &read, &self.waiting_for(name).await));
            }
        }
        for wave in told {
            let name = WaveletName::new(wave.clone(), WaveletId::root(wave.domain().clone()));
            let who = user.clone();
            let may_read = move |wavelet: &Wavelet| billow_wavelet::access::may_read(wavelet.participants(), &who);
            if self.look(&name, may_read).await == Some(false) {
                self.has_left(user, &name);
            }
        }
        Ok(())
    }

    /// Tells everybody whom a change of a conversation concerns. `people`: who takes part, or did before the change.
    async fn wavelet_changed(&self, name: &WaveletName, people: &BTreeSet<ParticipantId>) {
        let domains: BTreeSet<String> = people
            .iter()
            .filter(|one| one.name().is_empty())
            .map(|one| one.domain().to_string())
            .collect();
        let is_concerned = |user: &&ParticipantId| {
            people.contains(*user) || (!domains.is_empty() && domains.contains(user.domain().as_str()))
        };
        let listening: Vec<ParticipantId> = self.shared.people().keys().filter(is_concerned).cloned().collect();
        if listening.is_empty() {
            self.shared.summaries().remove(name);
            return;
        }
        let looked = self.look(name, |wavelet| wavelet.participants().to_vec()).await;
        let Some(participants) = looked else { return };
        let (concerned, left): (Vec<_>, Vec<_>) = listening
            .into_iter()
            .partition(|user| billow_wavelet::access::may_read(&participants, user));
        left.iter().for_each(|user| self.has_left(user, name));
        let (asked, concerned): (Vec<_>, Vec<_>) = concerned.into_iter().partition(|user| self.hides(user, name));
        asked
            .iter()
            .chain(&left)
            .for_each(|user| self.tell(user, &Notice::Requests));
        concerned
            .iter()
            .for_each(|user| self.tell(user, &Notice::Joined(name.clone())));
        if concerned.is_empty() || !is_row(name) {
            return;
        }
        let Some(summary) = self.summarise(name).await else {
            return;
        };
        let waiting_for = self.waiting_for(name).await;
        for user in concerned {
            let read = self.read(&user, name, &[]).await;
            self.tell_row(&user, row(name, &summary, &read, &waiting_for));
        }
    }

    fn has_left(&self, user: &ParticipantId, name: &WaveletName) {
        let left = is_row(name)
            && self
                .shared
                .people()
                .get_mut(user)
                .is_some_and(|person| person.rows.remove(name.wave()).is_some());
        if left {
            self.tell(user, &Notice::Gone(name.wave().clone()));
        }
    }

    /// A user has read something.
    async fn read_state_changed(&self, user_data: &WaveletName, user: ParticipantId) {
        if !self.shared.people().contains_key(&user) {
            return;
        }
        let Some(state) = self.load_read_state(user_data).await else {
            return;
        };
        if let Some(person) = self.shared.people().get_mut(&user) {
            person.read.insert(user_data.clone(), Arc::clone(&state));
        }
        let Ok(names) = self.shared.store.wavelets(user_data.wave()).await else {
            return;
        };
        for name in names.into_iter().filter(|name| name.wavelet().is_conversational()) {
            let Some(summary) = self.known_summary(&name).await else {
                continue;
            };
            if !summary.people.iter().any(|one| one == user.as_str()) || self.hides(&user, &name) {
                continue;
            }
            self.tell(
                &user,
                &Notice::Read(name.clone(), read_blips(&state, &name, &summary).into()),
            );
            if is_row(&name) {
                self.tell_row(&user, row(&name, &summary, &state, &self.waiting_for(&name).await));
            }
        }
    }

    fn tell_row(&self, user: &ParticipantId, row: InboxRow) {
        let row = Arc::new(row);
        let Ok(wave) = row.wave.parse() else { return };
        let changed = self.shared.people().get_mut(user).is_some_and(|person| {
            let before = person.rows.insert(wave, Arc::clone(&row));
            before.is_none_or(|before| before != row)
        });
        if changed {
            self.tell(user, &Notice::Row(row));
        }
    }

    fn tell(&self, user: &ParticipantId, notice: &Notice) {
        if let Some(person) = self.shared.people().get_mut(user) {
            // One that is full is ended; its client asks for everything anew.
            person
                .listeners
                .retain(|(_, listener)| listener.try_send(notice.clone()).is_ok());
        }
    }

    /// A summary as good as the store's version of the wavelet.
    async fn summary(&self, entry: &InboxEntry) -> Option<Arc<Summary>> {
        let current = |summary: &Summary| summary.version >= entry.version.number();
        if let Some(summary) = self
            .shared
            .summaries()
            .get(&entry.name)
            .filter(|summary| current(summary))
        {
            return Some(Arc::clone(summary));
        }
        let stored = entry
            .summary
            .as_ref()
            .and_then(|stored| serde_json::from_slice::<Summary>(&stored.data).ok());
        if let Some(summary) = stored.filter(current).map(Arc::new) {
            self.shared.remember(&entry.name, &summary);
            return Some(summary);
        }
        self.summarise(&entry.name).await
    }

    async fn known_summary(&self, name: &WaveletName) -> Option<Arc<Summary>> {
        let known = self.shared.summaries().get(name).cloned();
        match known {
            Some(summary) => Some(summary),
            None => self.summarise(name).await,
        }
    }

    /// Makes a summary from the wavelet.
    async fn summarise(&self, name: &WaveletName) -> Option<Arc<Summary>> {
        let last_author = self.shared.store.last_author(name).await.ok().flatten();
        let last_author = last_author.map(|author| author.to_string()).unwrap_or_default();
        let summary = self
            .look(name, move |wavelet| Summary::of(wavelet, last_author))
            .await?;
        let summary = Arc::new(summary);
        self.shared.remember(name, &summary);
        self.shared.keep_soon(name, Version::new(summary.version), &*summary);
        Some(summary)
    }

    /// What a user has read in a wave: known, stored beside the rows, or looked up.
    async fn read(&self, user: &ParticipantId, name: &WaveletName, entries: &[InboxEntry]) -> Arc<ReadState> {
        let Some(user_data) = user_data_name(user, name) else {
            return Arc::default();
        };
        let known = self
            .shared
            .people()
            .get(user)
            .and_then(|person| person.read.get(&user_data).cloned());
        if let Some(known) = known {
            return known;
        }
        let entry = entries.iter().find(|entry| entry.name == user_data);
        let stored = entry.and_then(|entry| {
            let stored = entry
                .summary
                .as_ref()
                .filter(|stored| stored.version >= entry.version)?;
            serde_json::from_slice::<StoredReadState>(&stored.data).ok()?.read()
        });
        let state = match stored {
            Some(stored) => Arc::new(stored),
            None if entry.is_none() && !entries.is_empty() => Arc::default(),
            None => self.load_read_state(&user_data).await.unwrap_or_default(),
        };
        if let Some(person) = self.shared.people().get_mut(user) {
            person.read.insert(user_data, Arc::clone(&state));
        }
        state
    }

    async fn load_read_state(&self, user_data: &WaveletName) -> Option<Arc<ReadState>> {
        let read = |wavelet: &Wavelet| {
            let document = wavelet.document(&read_document());
            (
                wavelet.version(),
                document
                    .map(|(document, _)| ReadState::read(document))
                    .unwrap_or_default(),
            )
        };
        let (version, state) = self.look(user_data, read).await?;
        self.shared.keep_soon(user_data, version, &StoredReadState::of(&state));
        Some(Arc::new(state))
    }

    async fn waiting_for(&self, name: &WaveletName) -> Vec<String> {
        let Some(handle) = self.shared.wavelets.if_live(name) else {
            return Vec::new();
        };
        let peers = handle.delivery().await;
        let behind = peers.iter().filter(|peer| peer.state != DeliveryState::Delivered);
        behind.map(|peer| peer.domain.clone()).collect()
    }

    /// Looks at a wavelet as it is shown now; `None` if it is not there or cannot be read.
    async fn look<T: Send + 'static>(
        &self,
        name: &WaveletName,
        look: impl FnOnce(&Wavelet) -> T + Send + 'static,
    ) -> Option<T> {
        self.shared.wavelets.open(name).await.ok()??.read(look).await
    }

    async fn write_marks(&self) {
        loop {
            self.shared.to_write.notified().await;
            tokio::time::sleep(READ_PAUSE).await;
            self.write_waiting_marks().await;
        }
    }

    async fn write_waiting_marks(&self) {
        let marks = std::mem::take(&mut *self.shared.unwritten.lock().unwrap_or_else(PoisonError::into_inner));
        let writing = marks
            .into_iter()
            .map(|((user, name), blips)| self.write_mark(user, name, blips));
        futures_util::future::join_all(writing).await;
    }

    /// Writes into the user-data wavelet what was read.
    async fn write_mark(&self, user: ParticipantId, name: WaveletName, blips: BTreeMap<DocumentId, Version>) {
        let Some(user_data) = user_data_name(&user, &name) else {
            return;
        };
        // Only blips that are there, up to the version that is there.
        let present = self.look(&name, move |wavelet| {
            let version = wavelet.version();
            let there = blips.into_iter().filter(|(blip, _)| wavelet.document(blip).is_some());
            there
                .map(|(blip, mark)| (blip, mark.min(version)))
                .collect::<BTreeMap<_, _>>()
        });
        let Some(blips) = present.await else { return };
        for _ in 0..TRIES {
            let Some((version, ops)) = self.mark_ops(&user, &name, &user_data, blips.clone()).await else {
                return;
            };
            let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
            let submission = Submission {
                session: Arc::clone(&self.shared.session),
                sequence,
            };
            let Ok(Some(handle)) = self.shared.wavelets.open_or_begin(&user_data).await else {
                return;
            };
            let answer = handle.submit(&user, submission, version, ops).await;
            match answer.await.unwrap_or(Err(Refusal::Unavailable)) {
                Ok(_) => return,
                Err(Refusal::Unavailable) => tokio::time::sleep(READ_PAUSE).await,
                // Somebody else was quicker, or made the wavelet: look again.
                Err(refusal) => tracing::debug!(%user_data, %refusal, "a read mark is tried again"),
            }
        }
        tracing::warn!(%user_data, "a read mark was not written");
    }

    /// The version of the user-data wavelet and the operations that mark the blips; `None` if they are marked already.
    async fn mark_ops(
        &self,
        user: &ParticipantId,
        name: &WaveletName,
        user_data: &WaveletName,
        blips: BTreeMap<DocumentId, Version>,
    ) -> Option<(Version, Vec<WaveletOp>)> {
        let conversation = name.wavelet().clone();
        let on_blank = mark(Document::new(), &conversation, &blips);
        let looked = self.look(user_data, move |wavelet| {
            let document = wavelet.document(&read_document()).map(|(document, _)| document.clone());
            (
                wavelet.version(),
                mark(document.unwrap_or_default(), &conversation, &blips),
            )
        });
        let (version, ops) = looked.await.unwrap_or((Version::ZERO, on_blank));
        let mut ops = ops.filter(|ops| !ops.is_empty())?;
        if version == Version::ZERO {
            ops.insert(0, WaveletOp::AddParticipant(user.clone()));
        }
        Some((version, ops))
    }

    async fn keep_summaries(&self) {
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            self.keep_waiting_summaries().await;
        }
    }

    async fn keep_waiting_summaries(&self) {
        let unkept = std::mem::take(&mut *self.shared.unkept());
        let keeping = unkept
            .iter()
            .map(|(name, summary)| self.shared.store.keep_summary(name, summary.clone()));
        for outcome in futures_util::future::join_all(keeping).await {
            if let Err(error) = outcome {
                tracing::warn!(%error, "a summary was not stored; it will be made again");
            }
        }
    }
}

impl Shared {
    fn people(&self) -> MutexGuard<'_, HashMap<ParticipantId, Person>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summaries(&self) -> MutexGuard<'_, HashMap<WaveletName, Arc<Summary>>> {
        self.summaries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unkept(&self) -> MutexGuard<'_, HashMap<WaveletName, billow_store::Summary>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_soon(&self, name: &WaveletName, version: Version, summary: &impl Serialize) {
        let data = Bytes::from(serde_json::to_vec(summary).expect("a summary is plain data"));
        self.unkept()
            .insert(name.clone(), billow_store::Summary { version, data });
    }

    fn remember(&self, name: &WaveletName, summary: &Arc<Summary>) {
        let mut summaries = self.summaries();
        if summaries.len() >= SUMMARIES_MAX {
            summaries.clear();
        }
        summaries.insert(name.clone(), Arc::clone(summary));
    }
}

/// Waits for a change, and takes what else has changed; `None` if some were missed.
async fn next_changes(
    changes: &mut broadcast::Receiver<Change>,
) -> Option<BTreeMap<WaveletName, BTreeSet<ParticipantId>>> {
    let mut changed: BTreeMap<WaveletName, BTreeSet<ParticipantId>> = BTreeMap::new();
    let mut next = match changes.recv().await {
        Ok(change) => change,
        Err(RecvError::Lagged(_)) => return None,
        Err(RecvError::Closed) => return std::future::pending().await,
    };
    loop {
        changed
            .entry(next.name)
            .or_default()
            .extend(next.people.iter().cloned());
        next = match changes.try_recv() {
            Ok(change) => change,
            Err(TryRecvError::Lagged(_)) => return None,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(changed),
        };
    }
}

/// A wave's row is that of its root conversation, at the wave's own domain: any domain may host a `conv+root` in it.
fn is_row(name: &WaveletName) -> bool {
    name.wavelet().is_conversation_root() && name.host() == name.wave().domain()
}

fn read_document() -> DocumentId {
    DocumentId::new("m/read").expect("this is an id")
}

/// Whose user data this is; `None` where it is not where that user's data is.
fn whose_user_data(name: &WaveletName) -> Option<ParticipantId> {
    let user = name.wavelet().user_data_address()?.parse().ok()?;
    (user_data_name(&user, name).as_ref() == Some(name)).then_some(user)
}

/// The wavelet of what a user has read in a wave: in the wave, hosted at the user's domain.
fn user_data_name(user: &ParticipantId, name: &WaveletName) -> Option<WaveletName> {
    Some(WaveletName::new(name.wave().clone(), WaveletId::user_data(user).ok()?))
}

/// The operations, one on the document, that mark all these blips.
fn mark(mut document: Document, wavelet: &WaveletId, blips: &BTreeMap<DocumentId, Version>) -> Option<Vec<WaveletOp>> {
    let mut ops = Vec::new();
    for (blip, version) in blips {
        // The versions in the document are 32-bit integers.
        let version = Version::new(version.number().min(i32::MAX as u64));
        for op in mark_blip_read(&document, wavelet, blip, version).ok()? {
            if let WaveletOp::MutateDocument { op, .. } = &op {
                document.apply(op).ok()?;
            }
            ops.push(op);
        }
    }
    merged(ops).ok()
}

fn read_blips(state: &ReadState, name: &WaveletName, summary: &Summary) -> Vec<ReadBlip> {
    let read = |(blip, _): &(String, u64)| {
        let version = state.version(name.wavelet(), &DocumentId::new(blip).ok()?)?;
        Some(ReadBlip {
            blip: blip.clone(),
            version: version.number(),
        })
    };
    summary.blips.iter().filter_map(read).collect()
}

fn row(name: &WaveletName, summary: &Summary, read: &ReadState, waiting_for: &[String]) -> InboxRow {
    let is_unread = |(blip, modified): &&(String, u64)| {
        let blip = DocumentId::new(blip);
        blip.is_ok_and(|blip| read.is_unread(name.wavelet(), &blip, Version::new(*modified)))
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    InboxRow {
        wave: name.wave().to_string(),
        title: summary.title.clone(),
        snippet: summary.snippet.clone(),
        people: summary.people.clone(),
        unread: count(summary.blips.iter().filter(is_unread).count()),
        blips: count(summary.blips.len()),
        last_modified: summary.last_modified,
        last_author: summary.last_author.clone(),
        waiting_for: waiting_for.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    fn name(text: &str) -> WaveletName {
        text.parse().unwrap()
    }

    #[test]
    fn another_domains_root_conversation_in_a_wave_is_not_its_row() {
        assert!(is_row(&name("initech.lab/w+a/~/conv+root")));
        assert!(!is_row(&name("initech.lab/w+a/evil.lab/conv+root")));
        assert!(!is_row(&name("initech.lab/w+a/~/conv+other")));
    }

    #[tokio::test]
    async fn missed_changes_are_made_up_for_and_end_no_session() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::config::Config {
            domain: "initech.lab".parse().unwrap(),
            ..Default::default()
        };
        let store = Store::open(dir.path()).unwrap();
        let metrics = crate::metrics::Metrics::new();
        let running = crate::federation::Running::start(&config, &store, &metrics)
            .await
            .unwrap();
        let (alice, bob): (ParticipantId, ParticipantId) =
            ("alice@initech.lab".parse().unwrap(), "bob@initech.lab".parse().unwrap());
        let name = name("initech.lab/w+a/~/conv+root");
        let wavelet = running.wavelets().open_or_begin(&name).await.unwrap().unwrap();
        let submit = async |sequence, version, ops| {
            let session = "s".into();
            let submission = Submission { session, sequence };
            let answer = wavelet.submit(&alice, submission, Version::new(version), ops).await;
            answer.await.unwrap().unwrap();
        };
        // Nobody follows: every change is missed.
        let inbox = Inbox::new(running.wavelets().clone(), store);
        let mut notices = inbox.join(&bob);
        let mut next = async || loop {
            match notices.next().await {
                Some(Notice::Requests) => {}
                other => break other,
            }
        };
        let add = |who: &ParticipantId| WaveletOp::AddParticipant(who.clone());
        submit(1, 0, vec![add(&alice), add(&bob)]).await;
        inbox.look_at_everything().await;
        assert!(matches!(next().await, Some(Notice::Joined(joined)) if joined == name));
        assert!(matches!(next().await, Some(Notice::Row(row)) if row.people.len() == 2));
        submit(2, 2, vec![add(&"carol@initech.lab".parse().unwrap())]).await;
        inbox.look_at_everything().await;
        assert!(matches!(next().await, Some(Notice::Row(row)) if row.people.len() == 3));
        submit(3, 3, vec![WaveletOp::RemoveParticipant(bob.clone())]).await;
        inbox.look_at_everything().await;
        assert!(matches!(next().await, Some(Notice::Gone(wave)) if wave == *name.wave()));
        drop(wavelet);
        running.stop().await;
    }

    #[test]
    fn user_data_is_at_the_users_domain() {
        let alice: ParticipantId = "alice@initech.lab".parse().unwrap();
        let wave = name("hooli.lab/w+a/~/conv+root");
        let own = user_data_name(&alice, &wave).unwrap();
        assert_eq!(whose_user_data(&own), Some(alice));
        let id = own.wavelet().id();
        assert_eq!(whose_user_data(&name(&format!("hooli.lab/w+a/evil.lab/{id}"))), None);
        assert_eq!(whose_user_data(&name("hooli.lab/w+a/initech.lab/user+")), None);
    }
}
