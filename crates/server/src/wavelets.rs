//! The wavelets of this server, hosted here or elsewhere: a name leads to the one task that owns the wavelet's machine,
//! started on first use.
//!
//! [`Wavelets`] finds the task of a wavelet or starts one, which loads it from the store; a wavelet that nobody uses is put
//! away again, with a snapshot. All that a task does is drive its machine ([`billow_wavelet`]): see `wavelets/actor.rs`.
//!
//! What a session does with it: [`Wavelets::of_wave`] or [`Wavelets::open`] give handles; [`WaveletHandle::subscribe`] gives the
//! state, or the deltas since a version that the client has, and from there on every delta in order, none twice.
//! [`WaveletHandle::submit`] is answered when the submission is on disk (on a wavelet hosted elsewhere: when its effect has come
//! back from the host and is on disk).

mod actor;
mod directory;
mod hosted;
mod keeper;
mod machine;
mod rate;
mod remote;
pub mod shown;
pub mod signing;
pub(crate) mod stored;
mod subscribers;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use billow_federation::host::SealedDelta;
use billow_model::{Domain, HashedVersion, ParticipantId, Version, WaveId, Wavelet, WaveletName, WaveletOp};
use billow_signing::{Verified, Verifier};
use billow_store::{Quota, Store, StoreError};
use billow_wavelet::hosted::Applied;
use billow_wavelet::remote::UpdateRefusal;
use billow_wavelet::{Readers, Record, Refusal, Seal, Seals, Submission, access};
use billow_wire::exchange::{SubmitResponse, WaveletUpdate};
use billow_wire::{Encoded, FromHost, SignedDelta, SignerInfo};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::federation::FederationHandle;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::requests::Requests;
use crate::web::messages::PeerDelivery;

use actor::{Mailbox, Message};
pub(crate) use remote::verify;
pub use shown::{ShownDelta, operation, state};
pub use signing::SigningPool;
pub use subscribers::{Caret, CaretSource, Event, Start, Subscription};

/// Changes that the inbox may be behind with before it has to look at everything again.
const CHANGES: usize = 4_096;

/// Deltas that a peer is given at once.
const SEALS: usize = 1_000;

/// What the wavelets of a server need.
pub struct Setup {
    /// The domain whose wavelets are hosted here.
    pub domain: Domain,
    /// Where they are kept.
    pub store: Store,
    /// Signs for our users.
    pub signing: SigningPool,
    /// Checks what others have signed.
    pub verifier: Verifier,
    /// The way to other servers.
    pub federation: FederationHandle,
    /// What is counted.
    pub metrics: Metrics,
    /// How long a wavelet that nobody uses stays loaded.
    pub idle_max: Duration,
    /// What each other domain may store here that none of our users has opened.
    pub unopened: Quota,
    /// Which other domains we talk with.
    pub policy: Policy,
    /// Who is asked first.
    pub(crate) requests: Requests,
}

/// All wavelets of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wavelets {
    shared: Arc<Shared>,
}

/// A wavelet. Cheap to clone; while there is one, or somebody watches it, the wavelet stays in memory.
#[derive(Clone)]
pub struct WaveletHandle {
    name: WaveletName,
    mailbox: Mailbox,
    shared: Arc<Shared>,
}

/// A wavelet, or how far other domains are with it, has changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which.
    pub name: WaveletName,
    /// The participants after the change, and those that it removed.
    pub people: Arc<[ParticipantId]>,
}

/// What all wavelets of a server have in common.
pub(crate) struct Shared {
    pub(crate) domain: Domain,
    pub(crate) store: Store,
    /// Not for the federation, so that no peer's bytes come to be signed (T-13): it sees [`Shared::own_chain`].
    signing: SigningPool,
    pub(crate) verifier: RwLock<Verifier>,
    pub(crate) federation: FederationHandle,
    pub(crate) metrics: Metrics,
    pub(crate) idle_max: Duration,
    pub(crate) unopened: Quota,
    pub(crate) policy: Policy,
    pub(crate) requests: Requests,
    pub(crate) legacy: watch::Sender<BTreeSet<Domain>>,
    pub(crate) stopping: watch::Sender<bool>,
    changes: broadcast::Sender<Change>,
    live: Mutex<HashMap<WaveletName, Mailbox>>,
    /// Those that were last found damaged in the store when they were to be loaded.
    damaged: Mutex<BTreeSet<WaveletName>>,
}

impl Wavelets {
    /// The wavelets in this store.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup {
            domain,
            store,
            signing,
            verifier,
            federation,
            metrics,
            idle_max,
            unopened,
            policy,
            requests,
        } = setup;
        let shared = Shared {
            domain,
            store,
            signing,
            verifier: RwLock::new(verifier),
            federation,
            metrics,
            idle_max,
            unopened,
            policy,
            requests,
            legacy: watch::Sender::default(),
            stopping: watch::Sender::default(),
            changes: broadcast::Sender::new(CHANGES),
            live: Mutex::default(),
            damaged: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Every wavelet of a wave that has a history, whoever may see it; user data left out.
    pub async fn of_wave(&self, wave: &WaveId) -> Result<Vec<WaveletHandle>, StoreError> {
        let names = self.shared.store.wavelets(wave).await?;
        let shown = names.iter().filter(|name| !name.wavelet().is_user_data());
        Ok(shown.map(|name| self.handle(name)).collect())
    }

    /// A wavelet that has a history.
    pub async fn open(&self, name: &WaveletName) -> Result<Option<WaveletHandle>, StoreError> {
        Ok(self.shared.store.has(name).await?.then(|| self.handle(name)))
    }

    /// A wavelet that is in memory.
    #[must_use]
    pub fn if_live(&self, name: &WaveletName) -> Option<WaveletHandle> {
        let live = self.shared.live().contains_key(name);
        live.then(|| self.handle(name))
    }

    /// A wavelet hosted here, whether or not it has a history yet: for its first delta. `None`: another domain hosts it.
    pub async fn open_or_begin(&self, name: &WaveletName) -> Result<Option<WaveletHandle>, StoreError> {
        Ok(self.hosts(name).then(|| self.handle(name)))
    }

    /// Whether we order the deltas of this wavelet.
    #[must_use]
    pub fn hosts(&self, name: &WaveletName) -> bool {
        self.shared.hosts(name)
    }

    /// The names of wavelets as they or their delivery change, and who may need to know. For the inbox.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// Puts all wavelets away. What was acknowledged is on disk already; this saves the next start some time.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        loop {
            let Some(mailbox) = self.shared.live().values().next().cloned() else {
                return;
            };
            mailbox.closed().await;
            self.shared.live().retain(|_, mailbox| !mailbox.is_closed());
        }
    }

    fn handle(&self, name: &WaveletName) -> WaveletHandle {
        WaveletHandle {
            name: name.clone(),
            mailbox: self.shared.mailbox(name),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// What the upkeep does with wavelets.
impl Wavelets {
    /// The stored history of a wavelet is not as it was written. If it is in memory it is put away and taken from the store
    /// again, or not: what people are shown is what is kept.
    pub(crate) fn found_damaged(&self, name: &WaveletName) {
        self.tell_if_live(name, Message::LoadAnew);
    }

    /// The stored history of a wavelet is another now: it is put away if it is in memory, and taken from the store.
    pub(crate) async fn load_anew(&self, name: &WaveletName) {
        let mailbox = self.shared.live().get(name).cloned();
        if let Some(mailbox) = mailbox {
            // It may be put away at this moment, which is as good.
            let _ = mailbox.send(Message::LoadAnew).await;
            mailbox.closed().await;
        }
        if !*self.shared.stopping.borrow() {
            self.shared.mailbox(name);
        }
    }
}

/// What the federation does with wavelets.
impl Wavelets {
    /// The wavelet that another server says something about, whether or not we know it.
    pub(crate) fn of_peer(&self, name: &WaveletName) -> WaveletHandle {
        self.handle(name)
    }

    /// Whether a wavelet is in memory, so that a message to it costs no look at the disk.
    pub(crate) fn is_live(&self, name: &WaveletName) -> bool {
        self.shared.live().contains_key(name)
    }

    /// A wavelet that another server asks something of; `None` if it is not there.
    pub(crate) async fn asked_for(&self, name: &WaveletName) -> Result<Option<WaveletHandle>, StoreError> {
        // One that is live is asked itself, which is quicker and says no just as well.
        if self.shared.live().contains_key(name) {
            Ok(Some(self.handle(name)))
        } else {
            self.open(name).await
        }
    }

    /// A server has spoken to us: what waits for it may be tried at once.
    pub(crate) fn heard(&self, host: &Domain) {
        let mailboxes: Vec<Mailbox> = self
            .shared
            .live()
            .iter()
            .filter(|(name, _)| name.host() == host)
            .map(|(_, mailbox)| mailbox.clone())
            .collect();
        for mailbox in mailboxes {
            // One that is just being put away has nothing that waits; one that is so busy has a clock too.
            let _ = mailbox.try_send(Message::HostSpoke);
        }
    }

    /// The domains that are known to run a server that takes no text beyond U+FFFF.
    pub(crate) fn set_legacy(&self, domains: BTreeSet<Domain>) {
        self.shared.legacy.send_if_modified(|known| {
            let changed = *known != domains;
            *known = domains;
            changed
        });
    }

    /// How far the other domains are with a wavelet of ours.
    pub(crate) fn set_delivery(&self, name: &WaveletName, peers: Vec<PeerDelivery>) {
        self.tell_if_live(name, Message::SetDelivery { peers });
    }

    /// Somebody at another server moved a caret.
    pub(crate) fn remote_caret(&self, name: &WaveletName, from: Domain, caret: Caret) {
        self.tell_if_live(
            name,
            Message::Caret {
                from: CaretSource::Peer(from),
                caret,
            },
        );
    }

    /// Never waits: whoever calls speaks for many wavelets, and one that is busy must not hold up the others.
    fn tell_if_live(&self, name: &WaveletName, message: Message) {
        let mailbox = self.shared.live().get(name).cloned();
        if let Some(mailbox) = mailbox {
            // Put away at this moment, then nobody has it open; or so busy that it shows nobody anything now.
            let _ = mailbox.try_send(message);
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl WaveletHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &WaveletName {
        &self.name
    }

    /// Opens it for a user; `None` if the user may not see it (decided where the state is, in one place).
    pub async fn subscribe(&self, user: &ParticipantId, known: Option<Version>) -> Option<Subscription> {
        let user = user.clone();
        self.ask(|reply| Message::Subscribe { user, known, reply }).await?
    }

    /// Whether it could not be opened because what is stored of it is damaged, as far as the user may know: who is on it is
    /// written down beside it.
    pub(crate) async fn is_damaged_for(&self, user: &ParticipantId) -> bool {
        self.shared.damaged().contains(&self.name)
            && self
                .shared
                .store
                .participants(&self.name)
                .await
                .is_ok_and(|people| access::may_read(&people, user))
    }

    /// Submits for a signed-in user. The answer may take as long as a remote host is away. It comes after the delta was sent
    /// to the subscribers. No answer (the sender is gone): it could not be stored now, and may be sent again.
    pub async fn submit(
        &self,
        author: &ParticipantId,
        submission: Submission,
        version: Version,
        ops: Vec<WaveletOp>,
    ) -> oneshot::Receiver<Result<Applied, Refusal>> {
        let author = author.clone();
        let (reply, answer) = oneshot::channel();
        self.send(Message::Submit {
            author,
            submission,
            version,
            ops,
            reply,
        })
        .await;
        answer
    }

    /// The stored record that begins at this version (for [`Applied::Before`]).
    pub async fn record(&self, applied_at: Version) -> Result<Option<Arc<Record>>, StoreError> {
        let stored = self
            .shared
            .store
            .deltas(&self.name, applied_at, applied_at.plus(1), 1)
            .await?;
        let record = stored
            .into_iter()
            .find(|stored| stored.applied_at == applied_at)
            .map(stored::record)
            .transpose()?;
        Ok(record.map(|stored| stored.record))
    }

    /// Tells a subscriber's caret to the others (never stored).
    pub async fn caret(&self, from: u64, caret: Caret) {
        self.send(Message::Caret {
            from: CaretSource::Subscriber(from),
            caret,
        })
        .await;
    }

    /// Reads the shown state where it is; `None` if it cannot be read from the store.
    pub async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Wavelet) -> T + Send + 'static) -> Option<T> {
        self.ask(|reply: oneshot::Sender<T>| {
            // Whoever asked may be gone.
            Message::Read(Box::new(move |wavelet, _| drop(reply.send(read(wavelet)))))
        })
        .await
    }

    /// As [`WaveletHandle::read`], with the version up to which it is sealed, and its hash.
    pub async fn read_sealed<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Wavelet, &HashedVersion) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask(|reply: oneshot::Sender<T>| {
            Message::Read(Box::new(move |wavelet, sealed| drop(reply.send(read(wavelet, sealed)))))
        })
        .await
    }

    /// How far the remote domains are.
    pub async fn delivery(&self) -> Arc<Vec<PeerDelivery>> {
        self.ask(|reply| Message::Delivery { reply }).await.unwrap_or_default()
    }

    /// Another server submits for a user of its own.
    pub(crate) async fn remote_submit(&self, delta: Verified<Encoded<SignedDelta>>) -> Result<SubmitResponse, Refusal> {
        self.ask(|reply| Message::RemoteSubmit {
            delta: Box::new(delta),
            reply,
        })
        .await
        .unwrap_or(Err(Refusal::Unavailable))
    }

    /// The host of the wavelet says something. The answer comes when it is durable, or refused; none comes if the wavelet
    /// is so far behind that it takes nothing more. Never waits.
    pub(crate) fn update(&self, update: FromHost<WaveletUpdate>) -> oneshot::Receiver<Result<(), UpdateRefusal>> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Update {
            update: Box::new(update),
            reply,
        };
        if let Err(mpsc::error::TrySendError::Closed(message)) = self.mailbox.try_send(message)
            && !*self.shared.stopping.borrow()
        {
            // It was put away at this moment. If there is no room, the answer is that none comes.
            let _ = self.shared.mailbox(&self.name).try_send(message);
        }
        answer
    }

    /// Sealed deltas for a domain, from this version on: contiguous, at least one, below `to`, up to about as many bytes. `Err`: the domain
    /// may have nothing from there on, for it left at this version. `None`: they cannot be read now.
    pub(crate) async fn seals(
        &self,
        domain: Domain,
        from: Version,
        to: Version,
        bytes_max: usize,
    ) -> Option<Result<Vec<SealedDelta>, Version>> {
        let answer = self
            .ask(|reply| Message::Seals {
                domain,
                from,
                to,
                reply,
            })
            .await?;
        let to = match answer {
            Seals::Left(at) => return Some(Err(at)),
            Seals::InMemory(seals) => return Some(Ok(bounded(&seals, bytes_max))),
            Seals::InStore { to } => to,
        };
        let stored = self
            .shared
            .store
            .sealed(&self.name, from, Some(to), bytes_max, SEALS)
            .await
            .ok()?;
        let deltas = stored.into_iter().map(|seal| SealedDelta {
            applied: seal.applied,
            resulting: seal.resulting,
        });
        Some(Ok(deltas.collect::<Vec<_>>())).filter(|deltas| deltas.as_ref().is_ok_and(|deltas| !deltas.is_empty()))
    }

    /// Who may read which part of it, and up to where it is sealed.
    pub(crate) async fn readers(&self) -> Option<(Readers, HashedVersion)> {
        self.ask(|reply| Message::Readers { reply }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply)).await;
        answer.await.ok()
    }

    /// Gives a message to the wavelet's task, or to a new one if it had to end.
    async fn send(&self, message: Message) {
        let Err(mpsc::error::SendError(message)) = self.mailbox.send(message).await else {
            return;
        };
        if !*self.shared.stopping.borrow() {
            // If that one ends too its answer never comes, which says enough.
            let _ = self.shared.mailbox(&self.name).send(message).await;
        }
    }
}

impl fmt::Debug for WaveletHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaveletHandle({})", self.name)
    }
}

impl Shared {
    /// The chain of the key that signs for our users.
    pub(crate) fn own_chain(&self) -> SignerInfo {
        self.signing.info()
    }

    /// From the next delta on somebody else of our domain signs.
    pub(crate) fn sign_with(&self, signer: billow_signing::Signer) {
        self.signing.replace(signer);
    }

    pub(crate) fn hosts(&self, name: &WaveletName) -> bool {
        *name.host() == self.domain
    }

    /// Whether somebody may invite people of these domains; if not, why.
    pub(crate) fn may_reach(&self, author: &ParticipantId, domains: &BTreeSet<Domain>) -> Result<(), String> {
        for domain in domains {
            let ours = author.domain() == self.domain;
            self.policy.outbound(domain).map_err(|words| match ours {
                true => words,
                false => self.policy.words_for_peer(domain, self.policy.verdict(domain)),
            })?;
        }
        let new = |domain: &&Domain| !self.requests.is_known(domain);
        let new: BTreeSet<Domain> = domains.iter().filter(new).cloned().collect();
        match new.is_empty() {
            true => Ok(()),
            false => self.policy.contacts(author, &new),
        }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<WaveletName, Mailbox>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<WaveletName>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(self: &Arc<Self>, name: &WaveletName) -> Mailbox {
        let mut live = self.live();
        if let Some(mailbox) = live.get(name)
            && !mailbox.is_closed()
        {
            return mailbox.clone();
        }
        let mailbox = actor::start(name.clone(), Arc::clone(self));
        live.insert(name.clone(), mailbox.clone());
        mailbox
    }

    /// Takes a wavelet out of the list if nobody can send to it any more; then its task may end.
    fn forget_unused(&self, name: &WaveletName, receiver: &mut mpsc::Receiver<Message>) -> bool {
        let mut live = self.live();
        // One sender is the list's own.
        if receiver.sender_strong_count() > 1 || !receiver.is_empty() {
            return false;
        }
        live.remove(name);
        true
    }

    /// Takes a wavelet out of the list whoever uses it; they find the next one.
    fn forget(&self, name: &WaveletName, receiver: &mut mpsc::Receiver<Message>) {
        let mut live = self.live();
        receiver.close();
        live.retain(|key, mailbox| key != name || !mailbox.is_closed());
    }

    fn changed(&self, name: &WaveletName, people: &Arc<[ParticipantId]>) {
        // An error says that nobody listens.
        let _ = self.changes.send(Change {
            name: name.clone(),
            people: Arc::clone(people),
        });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// Does what may take many milliseconds on this thread, while the tasks that it would hold up go on on others.
fn aside_if<T>(long: bool, work: impl FnOnce() -> T) -> T {
    if long && tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// The first of these deltas that fit; at least one.
fn bounded(seals: &[Arc<Seal>], bytes_max: usize) -> Vec<SealedDelta> {
    let mut room = bytes_max;
    let fits = |(index, seal): &(usize, &Arc<Seal>)| {
        let bytes = seal.applied.bytes().len();
        let fits = *index == 0 || bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    let taken = seals.iter().take(SEALS).enumerate().take_while(fits);
    taken
        .map(|(_, seal)| SealedDelta {
            applied: seal.applied.bytes().clone(),
            resulting: seal.resulting.clone(),
        })
        .collect()
}
