//! One signed-in client on one connection: which waves it has open, what it submits, what it is told.
//!
//! What a user may see and do is decided where the state is, in the wavelet's task: by `WaveletHandle::subscribe` for reading,
//! by the machine for writing. The author of everything is the user of the session, whatever a message says.

mod carets;
mod submissions;

use std::collections::HashMap;

use billow_model::{DocumentId, Domain, ParticipantId, Version, WaveId, WaveletName};
use billow_store::StoreError;

use futures_util::StreamExt as _;
use futures_util::stream::{self, AbortHandle, Abortable, BoxStream, SelectAll};
use tokio::sync::mpsc;

use crate::inbox::{Inbox, Notice, Notices};
use crate::requests::RequestList;
use crate::wavelets::{Caret, Event, ShownDelta, Start, Subscription, WaveletHandle, Wavelets, state};
use crate::web::messages::{ClientMessage, InboxRow, KnownWavelet, PeerDelivery, ReadBlip, ServerMessage};
use crate::web::outbox::{Outbox, Overfull};
use crate::web::translation::{self, Untranslatable};
use carets::Carets;
use submissions::{Outcome, Submissions};

/// Waves open at once.
const WAVES_MAX: usize = 200;
/// Blips in one `Read`.
const READ_MAX: usize = 1000;

/// Why a session ends; the client may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It takes less than it is told.
    TooSlow,
}

impl From<Overfull> for Ended {
    fn from(Overfull: Overfull) -> Self {
        Self::TooSlow
    }
}

/// One client.
pub(crate) struct Session {
    user: ParticipantId,
    domain: Domain,
    wavelets: Wavelets,
    inbox: Inbox,
    outbox: Outbox,
    events: SelectAll<Events>,
    notices: Notices,
    waves: HashMap<WaveId, HashMap<WaveletName, OpenWavelet>>,
    submissions: Submissions,
    carets: Carets,
    watching: Watching,
    /// The requests that the client was told of.
    requests: RequestList,
}

struct OpenWavelet {
    handle: WaveletHandle,
    /// Of the subscription.
    id: u64,
    /// The version that the client has been told of.
    version: Version,
    /// Ends the events.
    stop: AbortHandle,
}

/// Why a user's wavelet could not be opened, if that is known.
async fn damage_of(handle: &WaveletHandle, user: &ParticipantId) -> Option<String> {
    let words = "is damaged. It cannot be shown until the operator of the server has mended it.";
    let damaged = handle.is_damaged_for(user).await;
    damaged.then(|| format!("What {} has stored of this wave {words}", user.domain()))
}

/// The events of one subscription, and `None` when there are no more.
type Events = Abortable<BoxStream<'static, (WaveletName, u64, Option<Event>)>>;

/// Something that the client must be told.
pub(crate) enum Happening {
    Event(WaveletName, u64, Option<Event>),
    Outcome(Outcome),
    Notice(Option<Notice>),
    CaretDue(WaveletName, Caret),
    Rows(Vec<InboxRow>),
}

/// Whether the client wants to hear of its inbox.
enum Watching {
    No,
    /// The rows are being collected; changes wait until they are sent.
    Soon(tokio::sync::oneshot::Receiver<Vec<InboxRow>>, Vec<Notice>),
    Yes,
}

impl Session {
    /// A session of a user, which writes to an outbox.
    pub(crate) fn new(
        user: ParticipantId,
        wavelets: Wavelets,
        inbox: Inbox,
        outbox: Outbox,
        operations_max: usize,
    ) -> Self {
        let domain = user.domain();
        let notices = inbox.join(&user);
        Self {
            submissions: Submissions::new(operations_max),
            user,
            domain,
            wavelets,
            inbox,
            outbox,
            events: SelectAll::new(),
            notices,
            waves: HashMap::new(),
            carets: Carets::default(),
            watching: Watching::No,
            requests: RequestList::default(),
        }
    }

    /// Waits for the next thing that the client must be told. Nothing is lost if the wait is given up.
    pub(crate) async fn wait(&mut self) -> Happening {
        tokio::select! {
            Some((name, id, event)) = self.events.next() => Happening::Event(name, id, event),
            outcome = self.submissions.next() => Happening::Outcome(outcome),
            notice = self.notices.next() => Happening::Notice(notice),
            (name, caret) = self.carets.next() => Happening::CaretDue(name, caret),
            rows = collected(&mut self.watching) => Happening::Rows(rows),
        }
    }

    /// Tells the client, or the others.
    pub(crate) async fn tell(&mut self, happening: Happening) -> Result<(), Ended> {
        match happening {
            Happening::Event(name, id, event) => self.tell_event(&name, id, event).await,
            Happening::Notice(None) => Err(Ended::TooSlow),
            Happening::Outcome(outcome) => self.settle(outcome).await,
            Happening::Notice(Some(notice)) => self.notice(notice).await,
            Happening::CaretDue(name, caret) => {
                self.send_out(&name, caret).await;
                Ok(())
            }
            Happening::Rows(rows) => self.send_rows(rows),
        }
    }

    /// Does what a message asks for.
    pub(crate) async fn hear(&mut self, text: &str) -> Result<(), Ended> {
        let message: ClientMessage = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => return self.complain(&format!("this message was not understood: {error}")),
        };
        match self.obey(message).await {
            Ok(()) => Ok(()),
            Err(Trouble::Untranslatable(error)) => self.complain(&error.0),
            Err(Trouble::Ended(ended)) => Err(ended),
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), Trouble> {
        match message {
            ClientMessage::Open { wave, known } => self.open(&wave, known).await?,
            ClientMessage::Close { wave } => self.close(&wave_id(&wave)?),
            ClientMessage::Submit {
                wavelet,
                session,
                sequence,
                version,
                operations,
            } => {
                let submitted = self.submissions.read(wavelet, session, sequence, version, operations);
                match submitted {
                    Ok(read) => self.submit(read).await?,
                    Err(refused) => self.outbox.send(&refused).map_err(Ended::from)?,
                }
            }
            ClientMessage::Caret {
                wavelet,
                session,
                version,
                document,
                anchor,
                focus,
                typing,
            } => {
                let name = self.open_wavelet(&wavelet)?;
                let caret = Caret {
                    address: self.user.clone(),
                    session: translation::session_name(&session)?,
                    version: translation::version(version)?,
                    document: document
                        .as_deref()
                        .map(translation::document_id)
                        .transpose()?
                        .map(|id| id.to_string()),
                    anchor,
                    focus,
                    typing,
                };
                if let Some(caret) = self.carets.now_or_later(&name, caret) {
                    self.send_out(&name, caret).await;
                }
            }
            ClientMessage::Read {
                wavelet,
                blips,
                version,
            } => self.read(&wavelet, &blips, version)?,
            ClientMessage::WatchInbox => self.watch_inbox(),
            ClientMessage::AcceptRequest { wave } => {
                let id = wave_id(&wave)?;
                let was = self.inbox.accept(&self.user, &id).await;
                self.answered(&id, was)?;
            }
            ClientMessage::DeclineRequest { wave } => {
                let id = wave_id(&wave)?;
                let was = self.inbox.decline(&self.user, &id).await;
                self.answered(&id, was)?;
            }
            ClientMessage::BlockDomain { domain, blocked } => {
                let domain: Domain = domain
                    .parse()
                    .map_err(|error: billow_model::ParseIdError| Untranslatable(error.to_string()))?;
                let kept = self.inbox.block(&self.user, &domain, blocked).await;
                kept.map_err(|error| not_kept(&error))?;
            }
            ClientMessage::Ping => self.outbox.send(&ServerMessage::Pong).map_err(Ended::from)?,
        }
        Ok(())
    }

    /// Opens every wavelet of a wave that the user may see.
    async fn open(&mut self, wave: &str, known: Vec<KnownWavelet>) -> Result<(), Trouble> {
        let id = wave_id(wave)?;
        let mut versions = HashMap::new();
        for KnownWavelet { wavelet, version } in known {
            versions.insert(translation::wavelet_name(&wavelet)?, translation::version(version)?);
        }
        self.close(&id);
        if self.waves.len() >= WAVES_MAX {
            return Err(Untranslatable(format!("expected at most {WAVES_MAX} open waves; close one first")).into());
        }
        let wavelets = self.wavelets.of_wave(&id).await.map_err(|error| {
            tracing::error!(%error, "a wave cannot be read");
            Untranslatable(format!("{id} cannot be read now; open it again later"))
        })?;
        let mut damage = None;
        for handle in wavelets.into_iter().filter(|handle| is_shown(handle.name())) {
            let known = versions.get(handle.name()).copied();
            if !self.open_one(handle.clone(), known, true).await? {
                damage = damage.or(damage_of(&handle, &self.user).await);
            }
        }
        let wave = wave.to_owned();
        let answer = match self.waves.contains_key(&id) {
            true => ServerMessage::Opened { wave },
            false => ServerMessage::NoWave { wave, text: damage },
        };
        Ok(self.outbox.send(&answer).map_err(Ended::from)?)
    }

    /// Opens one wavelet and tells its start; whether the user may see it. `announce`: say so if the known version is good.
    async fn open_one(&mut self, handle: WaveletHandle, known: Option<Version>, announce: bool) -> Result<bool, Ended> {
        let Some(subscription) = handle.subscribe(&self.user, known).await else {
            return Ok(false);
        };
        let name = handle.name().clone();
        let Subscription {
            id,
            start,
            carets,
            delivery,
            events,
        } = subscription;
        let version = match start {
            Start::Snapshot(wavelet, sealed) => {
                self.outbox.send(&ServerMessage::Snapshot {
                    wavelet: state(&wavelet, &sealed),
                })?;
                wavelet.version()
            }
            Start::Resumed { version, deltas } => {
                if announce {
                    let wavelet = name.to_string();
                    self.outbox.send(&ServerMessage::Resumed {
                        wavelet,
                        version: version.number(),
                    })?;
                }
                for record in deltas {
                    let delta = ShownDelta::new(name.clone(), record);
                    self.submissions.shown(&delta, &self.user);
                    // What the client asked for does not count against it.
                    self.outbox.send_json(&delta.json(&self.user), false)?;
                }
                version
            }
        };
        let (events, stop) = stream_of(name.clone(), id, events);
        self.events.push(events);
        self.send_delivery(&name, &delivery)?;
        for caret in &carets {
            self.send_caret(&name, caret)?;
        }
        let read = self.inbox.read_state(&self.user, &name).await;
        self.send_read_state(&name, read)?;
        let wavelets = self.waves.entry(name.wave().clone()).or_default();
        wavelets.insert(
            name,
            OpenWavelet {
                handle,
                id,
                version,
                stop,
            },
        );
        Ok(true)
    }

    fn close(&mut self, wave: &WaveId) {
        for (name, open) in self.waves.remove(wave).unwrap_or_default() {
            self.carets.forget(&name);
            open.stop.abort();
        }
    }

    /// Ends everything that the client has open; others see its carets go.
    pub(crate) async fn end(mut self) {
        for (name, caret) in self.carets.gone() {
            self.send_out(&name, caret).await;
        }
    }

    /// Tells the others where this client's caret is.
    async fn send_out(&mut self, name: &WaveletName, caret: Caret) {
        if let Some(open) = self.open_at(name) {
            open.handle.caret(open.id, caret).await;
        }
    }

    async fn submit(&mut self, read: submissions::Read) -> Result<(), Trouble> {
        let handle = match self.open_at(&read.name) {
            Some(open) => Some(open.handle.clone()),
            None if read.version == Version::ZERO && self.may_begin(&read.name) => self.begin(&read.name).await,
            None => None,
        };
        let Some(handle) = handle else {
            let (domain, name) = (&self.domain, &read.name);
            let text = format!("expected an open wavelet, or a new wave like {domain}/w+abc/~/conv+root, got {name}");
            return Err(Untranslatable(text).into());
        };
        match self.submissions.begin(handle, &self.user, read).await {
            Ok(()) => Ok(()),
            Err(refused) => Ok(self.outbox.send(&refused).map_err(Ended::from)?),
        }
    }

    async fn begin(&mut self, name: &WaveletName) -> Option<WaveletHandle> {
        self.wavelets.open_or_begin(name).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a wavelet cannot be read");
            None
        })
    }

    /// Whether a first submission to this wavelet makes a wave of ours.
    fn may_begin(&self, name: &WaveletName) -> bool {
        let ours = self.wavelets.hosts(name) && *name.wave().domain() == self.domain;
        ours && name.wave().id().starts_with("w+") && name.wavelet().is_conversation_root() && name.is_acceptable()
    }

    /// Tells the client what became of a submission, where the delta itself has not said so.
    async fn settle(&mut self, outcome: Outcome) -> Result<(), Ended> {
        let (handle, delta) = match outcome {
            Outcome::Refused(message) => return Ok(self.outbox.send(&message)?),
            Outcome::Applied(handle, delta) => (handle, delta),
        };
        if delta.record().applied_at() == Version::ZERO && !self.is_open(handle.name()) {
            // A new wave: everything from the start, this delta included.
            self.open_one(handle, Some(Version::ZERO), false).await?;
        }
        let on_its_way = self
            .open_at(delta.name())
            .is_some_and(|open| open.version <= delta.record().applied_at());
        if on_its_way || self.submissions.has_shown(&delta) {
            return Ok(());
        }
        Ok(self.outbox.send_json(&delta.json(&self.user), true)?)
    }

    /// Tells the client what happened on a wavelet that it has open.
    async fn tell_event(&mut self, name: &WaveletName, id: u64, event: Option<Event>) -> Result<(), Ended> {
        let wave = self.waves.get_mut(name.wave());
        let Some(open) = wave.and_then(|wave| wave.get_mut(name)).filter(|open| open.id == id) else {
            return Ok(());
        };
        match event {
            Some(Event::Delta(delta)) => {
                if delta.record().applied_at() < open.version {
                    return Ok(());
                }
                open.version = delta.record().resulting();
                self.submissions.shown(&delta, &self.user);
                Ok(self.outbox.send_json(&delta.json(&self.user), true)?)
            }
            Some(Event::Caret(caret)) => self.send_caret(name, &caret),
            Some(Event::Delivery(peers)) => self.send_delivery(name, &peers),
            None => self.open_again(name).await,
        }
    }

    /// A wavelet's events have ended: the session fell behind, the wavelet was loaded anew, or the user may see it no longer.
    async fn open_again(&mut self, name: &WaveletName) -> Result<(), Ended> {
        let Some(wave) = self.waves.get_mut(name.wave()) else {
            return Ok(());
        };
        let Some(OpenWavelet { handle, version, .. }) = wave.remove(name) else {
            return Ok(());
        };
        if wave.is_empty() {
            self.waves.remove(name.wave());
        }
        self.carets.forget(name);
        let again = self.open_one(handle.clone(), Some(version), false).await?;
        if !again && !self.waves.contains_key(name.wave()) {
            self.outbox.send(&ServerMessage::NoWave {
                wave: name.wave().to_string(),
                text: damage_of(&handle, &self.user).await,
            })?;
        }
        Ok(())
    }

    fn read(&mut self, wavelet: &str, blips: &[String], version: u64) -> Result<(), Trouble> {
        let name = self.open_wavelet(wavelet)?;
        if blips.len() > READ_MAX {
            return Err(Untranslatable(format!("expected at most {READ_MAX} blips, got {}", blips.len())).into());
        }
        let blips: Vec<DocumentId> = blips
            .iter()
            .map(|blip| translation::document_id(blip))
            .collect::<Result<_, _>>()?;
        self.inbox
            .mark_read(&self.user, &name, blips, translation::version(version)?);
        Ok(())
    }

    fn watch_inbox(&mut self) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (inbox, user) = (self.inbox.clone(), self.user.clone());
        tokio::spawn(async move {
            let rows = inbox.rows(&user).await.unwrap_or_else(|error| {
                tracing::error!(%error, "an inbox cannot be read");
                Vec::new()
            });
            // The session may have ended meanwhile.
            drop(sender.send(rows));
        });
        self.watching = Watching::Soon(receiver, Vec::new());
    }

    fn send_rows(&mut self, rows: Vec<InboxRow>) -> Result<(), Ended> {
        let before = std::mem::replace(&mut self.watching, Watching::Yes);
        self.outbox.send(&ServerMessage::Inbox { rows })?;
        self.requests = self.inbox.requests(&self.user);
        self.send_requests()?;
        if let Watching::Soon(_, waiting) = before {
            waiting.iter().try_for_each(|notice| self.send_inbox_change(notice))?;
        }
        Ok(())
    }

    /// Something concerns this user, on whatever wave.
    async fn notice(&mut self, notice: Notice) -> Result<(), Ended> {
        match &notice {
            Notice::Read(name, blips) if self.is_open(name) => self.send_read_state(name, blips.to_vec())?,
            Notice::Joined(name) if self.waves.contains_key(name.wave()) && !self.is_open(name) && is_shown(name) => {
                if let Ok(Some(handle)) = self.wavelets.open(name).await {
                    self.open_one(handle, None, true).await?;
                }
            }
            _ => {}
        }
        match &mut self.watching {
            Watching::No => Ok(()),
            Watching::Soon(_, waiting) => {
                waiting.push(notice);
                Ok(())
            }
            Watching::Yes => self.send_inbox_change(&notice),
        }
    }

    fn send_inbox_change(&mut self, notice: &Notice) -> Result<(), Ended> {
        match notice {
            Notice::Requests => {
                let now = self.inbox.requests(&self.user);
                if now == self.requests {
                    return Ok(());
                }
                self.requests = now;
                self.send_requests()
            }
            Notice::Row(row) => Ok(self.outbox.send(&ServerMessage::InboxRow {
                row: InboxRow::clone(row),
            })?),
            Notice::Gone(wave) => Ok(self.outbox.send(&ServerMessage::InboxGone { wave: wave.to_string() })?),
            Notice::Read(..) | Notice::Joined(_) => Ok(()),
        }
    }

    fn send_requests(&self) -> Result<(), Ended> {
        let RequestList { rows, more, blocked } = self.requests.clone();
        Ok(self.outbox.send(&ServerMessage::Requests {
            rows,
            more: u32::try_from(more).unwrap_or(u32::MAX),
            blocked,
        })?)
    }

    /// What became of an answer to a request.
    fn answered(&self, wave: &WaveId, was: Result<bool, StoreError>) -> Result<(), Trouble> {
        match was {
            Ok(true) => Ok(()),
            Ok(false) => Err(Untranslatable(format!("nobody has invited you to {wave}, or it is no request")).into()),
            Err(error) => Err(not_kept(&error).into()),
        }
    }

    fn send_caret(&self, name: &WaveletName, caret: &Caret) -> Result<(), Ended> {
        Ok(self.outbox.send(&ServerMessage::Caret {
            wavelet: name.to_string(),
            address: caret.address.to_string(),
            session: caret.session.to_string(),
            version: caret.version.number(),
            document: caret.document.clone(),
            anchor: caret.anchor,
            focus: caret.focus,
            typing: caret.typing,
        })?)
    }

    fn send_delivery(&self, name: &WaveletName, peers: &[PeerDelivery]) -> Result<(), Ended> {
        Ok(self.outbox.send(&ServerMessage::Delivery {
            wavelet: name.to_string(),
            peers: peers.to_vec(),
        })?)
    }

    fn send_read_state(&self, name: &WaveletName, blips: Vec<ReadBlip>) -> Result<(), Ended> {
        Ok(self.outbox.send(&ServerMessage::ReadState {
            wavelet: name.to_string(),
            blips,
        })?)
    }

    fn complain(&self, text: &str) -> Result<(), Ended> {
        Ok(self.outbox.send(&ServerMessage::Error { text: text.to_owned() })?)
    }

    fn is_open(&self, name: &WaveletName) -> bool {
        self.open_at(name).is_some()
    }

    fn open_at(&self, name: &WaveletName) -> Option<&OpenWavelet> {
        self.waves.get(name.wave())?.get(name)
    }

    fn open_wavelet(&self, text: &str) -> Result<WaveletName, Trouble> {
        let name = translation::wavelet_name(text)?;
        match self.is_open(&name) {
            true => Ok(name),
            false => Err(Untranslatable(format!("expected a wavelet of an open wave, got {name}")).into()),
        }
    }
}

/// Why a message was not obeyed: it made no sense, or there is no session any more.
enum Trouble {
    Untranslatable(Untranslatable),
    Ended(Ended),
}

impl From<Untranslatable> for Trouble {
    fn from(error: Untranslatable) -> Self {
        Self::Untranslatable(error)
    }
}

impl From<Ended> for Trouble {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

fn not_kept(error: &StoreError) -> Untranslatable {
    tracing::error!(%error, "an answer to a request cannot be kept");
    Untranslatable("that cannot be stored now; try again".to_owned())
}

fn wave_id(text: &str) -> Result<WaveId, Untranslatable> {
    text.parse()
        .map_err(|error: billow_model::ParseIdError| Untranslatable(error.to_string()))
}

/// A subscription's events as a stream that can be stopped.
fn stream_of(name: WaveletName, id: u64, receiver: mpsc::Receiver<Event>) -> (Events, AbortHandle) {
    let stream = stream::unfold(Some(receiver), move |receiver| {
        let name = name.clone();
        async move {
            let mut receiver = receiver?;
            let event = receiver.recv().await;
            let rest = event.is_some().then_some(receiver);
            Some(((name, id, event), rest))
        }
    });
    stream::abortable(stream.boxed())
}

/// User data has its own messages.
fn is_shown(name: &WaveletName) -> bool {
    !name.wavelet().is_user_data()
}

/// The rows of the inbox, once, when they have been collected.
async fn collected(watching: &mut Watching) -> Vec<InboxRow> {
    match watching {
        Watching::Soon(rows, _) => rows.await.unwrap_or_default(),
        Watching::No | Watching::Yes => std::future::pending().await,
    }
}
