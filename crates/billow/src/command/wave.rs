//! `billow wave …`: waves for people at a terminal and for scripts; one file a subcommand.

mod list;
mod new;
mod participants;
mod requests;
mod show;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use billow_model::conversation::{self, Manifest};
use billow_model::wavelet::WaveletParts;
use billow_model::{BlipMetadata, Document, DocumentId, Timestamp, Version, WaveId, Wavelet, WaveletOp};
use billow_server::web::messages::{
    ClientMessage, DeltaMessage, DocumentState, OpComponent, PeerDelivery, RefusalReason, ServerMessage, WaveletState,
};
use billow_server::web::translation;

use crate::client::{Profile, Socket};

/// How long a command waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one message that every server takes, unless it was told otherwise.
const MESSAGE_MAX: usize = 1 << 20;

/// Waves: list, make, read and write them.
#[derive(Debug, clap::Subcommand)]
pub enum Wave {
    /// The waves you are in, newest first, and who asks to share one with you
    List(list::List),
    /// Start a wave
    New(new::New),
    /// Add somebody, from this server or any other
    Add(participants::Add),
    /// Remove somebody
    Remove(participants::Remove),
    /// Write: a new blip, into a blip, or a reply
    Write(write::Write),
    /// Take up an invitation of somebody from an unknown domain
    Accept(requests::Accept),
    /// Hide one; nobody is told
    Decline(requests::Decline),
    /// Take invitations of a blocked domain again
    Unblock(requests::Unblock),
    /// Print a wave
    Show(show::Show),
    /// Print what happens in a wave until Ctrl-C
    Watch(watch::Watch),
}

impl Wave {
    /// Runs the subcommand as the person of a profile.
    pub async fn run(self, profile: &str, as_json: bool) -> anyhow::Result<()> {
        let profile = Profile::load(profile)?;
        match self {
            Self::List(command) => command.run(&profile, as_json).await,
            Self::New(command) => command.run(&profile, as_json).await,
            Self::Add(command) => command.run(&profile, as_json).await,
            Self::Remove(command) => command.run(&profile, as_json).await,
            Self::Write(command) => command.run(&profile, as_json).await,
            Self::Accept(command) => command.run(&profile, as_json).await,
            Self::Decline(command) => command.run(&profile, as_json).await,
            Self::Unblock(command) => command.run(&profile, as_json).await,
            Self::Show(command) => command.run(&profile, as_json).await,
            Self::Watch(command) => command.run(&profile, as_json).await,
        }
    }
}

/// A wave as the server showed it, with the connection still open.
pub struct OpenWave {
    /// `example.org/w+abc`
    pub wave: String,
    /// Deltas go on arriving here.
    pub socket: Socket,
    /// By name.
    pub wavelets: BTreeMap<String, WaveletState>,
    /// Per wavelet: how far the other servers are.
    pub delivery: BTreeMap<String, Vec<PeerDelivery>>,
}

impl OpenWave {
    /// Opens a wave and reads all of its wavelets.
    pub async fn open(profile: &Profile, wave: &str) -> anyhow::Result<Self> {
        Self::try_open(profile, wave)
            .await?
            .with_context(|| format!("{} is in no wave {wave}: see `billow wave list`", profile.address))
    }

    /// Opens a wave that is about to reach this server, once it is there at `version` or later.
    pub async fn wait_for(profile: &Profile, wave: &str, version: u64, patience: Duration) -> anyhow::Result<Self> {
        let give_up = Instant::now() + patience;
        loop {
            if let Some(opened) = Self::try_open(profile, wave).await?
                && opened.conversation().is_ok_and(|state| state.version >= version)
            {
                return Ok(opened);
            }
            if Instant::now() > give_up {
                bail!("{wave} did not reach {} within {} s", profile.url, patience.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_open(profile: &Profile, wave: &str) -> anyhow::Result<Option<Self>> {
        let wave = wave.parse::<WaveId>()?.to_string();
        let mut socket = Socket::connect(profile).await?;
        socket
            .send(&ClientMessage::Open {
                wave: wave.clone(),
                known: Vec::new(),
            })
            .await?;
        let (mut wavelets, mut delivery) = (BTreeMap::new(), BTreeMap::new());
        loop {
            match socket.next_within(PATIENCE).await? {
                ServerMessage::Snapshot { wavelet } => drop(wavelets.insert(wavelet.wavelet.clone(), wavelet)),
                ServerMessage::Delivery { wavelet, peers } => drop(delivery.insert(wavelet, peers)),
                ServerMessage::Opened { .. } => {
                    return Ok(Some(Self {
                        wave,
                        socket,
                        wavelets,
                        delivery,
                    }));
                }
                ServerMessage::NoWave { text: Some(text), .. } => bail!("{text}"),
                ServerMessage::NoWave { text: None, .. } => return Ok(None),
                ServerMessage::Error { text } => bail!("{text}"),
                _ => {}
            }
        }
    }

    /// The wave's conversation: its `conv+root`.
    pub fn conversation(&self) -> anyhow::Result<&WaveletState> {
        let root = self
            .wavelets
            .iter()
            .find(|(name, _)| name.ends_with("/conv+root"))
            .map(|(_, state)| state);
        root.with_context(|| format!("{} has no conversation that you may see", self.wave))
    }

    /// The conversation as the model has it.
    pub fn wavelet(&self) -> anyhow::Result<Wavelet> {
        let state = self.conversation()?;
        let document = |document: &DocumentState| {
            let metadata = BlipMetadata {
                author: document.author.parse()?,
                contributors: document
                    .contributors
                    .iter()
                    .map(|address| address.parse())
                    .collect::<Result<_, _>>()?,
                last_modified_version: Version::new(document.last_modified_version),
                last_modified_time: Timestamp(document.last_modified_time),
            };
            anyhow::Ok((
                DocumentId::new(&document.id)?,
                (document_of(&document.content)?, metadata),
            ))
        };
        let parts = WaveletParts {
            version: Version::new(state.version),
            participants: state
                .participants
                .iter()
                .map(|address| address.parse())
                .collect::<Result<_, _>>()?,
            documents: state.documents.iter().map(document).collect::<Result<_, _>>()?,
            creator: state.creator.parse().ok(),
            created: Timestamp(state.created),
            last_modified: Timestamp(state.last_modified),
        };
        Ok(Wavelet::from_parts(state.wavelet.parse()?, parts))
    }

    /// A document of the conversation.
    pub fn document(&self, id: &str) -> anyhow::Result<Document> {
        let state = self.conversation()?.documents.iter().find(|document| document.id == id);
        document_of(
            &state
                .with_context(|| format!("{} has no blip {id}: see `billow wave show {}`", self.wave, self.wave))?
                .content,
        )
    }

    /// A blip's text.
    pub fn text(&self, blip: &str) -> anyhow::Result<String> {
        Ok(self.document(blip)?.text())
    }

    /// The first blip of the root thread.
    pub fn first_blip(&self) -> anyhow::Result<DocumentId> {
        let manifest = Manifest::read(&self.document("conversation")?);
        manifest
            .root
            .blips
            .first()
            .map(|blip| blip.id.clone())
            .with_context(|| format!("{} has no blip", self.wave))
    }

    /// Submits operations against the conversation as it was opened and waits until the server has them.
    /// Gives the version after them.
    pub async fn submit(&mut self, ops: &[WaveletOp]) -> anyhow::Result<u64> {
        let state = self.conversation()?;
        let (wavelet, version) = (state.wavelet.clone(), state.version);
        submit(&mut self.socket, &wavelet, version, ops).await
    }

    /// One's own new blip is not news to oneself.
    pub async fn mark_read(&mut self, blip: &DocumentId, version: u64) -> anyhow::Result<()> {
        let wavelet = self.conversation()?.wavelet.clone();
        mark_read(&mut self.socket, wavelet, blip, version).await
    }
}

/// Where [`create`] put a wave.
pub struct Created {
    /// `example.org/w+abc`
    pub wave: String,
    /// The first blip.
    pub blip: DocumentId,
    /// After creation and the additions.
    pub version: u64,
}

/// Makes a wave of a profile's domain with a text in its first blip and other people on it.
pub async fn create(profile: &Profile, text: &str, with: &[String]) -> anyhow::Result<Created> {
    let me = profile.address.parse()?;
    let with = with
        .iter()
        .map(|address| address.parse())
        .collect::<Result<Vec<_>, _>>()?;
    let (_, domain) = profile
        .address
        .split_once('@')
        .context("the profile's address is damaged")?;
    let wave = format!("{domain}/w+{}", random_token()?);
    let blip = DocumentId::new(&format!("b+{}", random_token()?))?;
    let ops = conversation::create_wave(&me, &blip, conversation::blip_of_text(&without_tabs(text))?, &with)?;
    let mut socket = Socket::connect(profile).await?;
    let wavelet = format!("{wave}/~/conv+root");
    let version = submit(&mut socket, &wavelet, 0, &ops).await?;
    mark_read(&mut socket, wavelet, &blip, version).await?;
    Ok(Created { wave, blip, version })
}

async fn mark_read(socket: &mut Socket, wavelet: String, blip: &DocumentId, version: u64) -> anyhow::Result<()> {
    let blips = vec![blip.to_string()];
    let read = ClientMessage::Read {
        wavelet,
        blips,
        version,
    };
    socket.send(&read).await
}

/// What somebody wrote as a blip can hold it: a tab, which no blip may hold, as spaces up to the next multiple of four.
pub fn without_tabs(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = 4 - column % 4;
                plain.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c => {
                plain.push(c);
                column = if c == '\n' { 0 } else { column + 1 };
            }
        }
    }
    plain
}

async fn submit(socket: &mut Socket, wavelet: &str, version: u64, ops: &[WaveletOp]) -> anyhow::Result<u64> {
    let session = random_token()?;
    let message = ClientMessage::Submit {
        wavelet: wavelet.to_owned(),
        session: session.clone(),
        sequence: 1,
        version,
        operations: ops.iter().map(operation_to_message).collect(),
    };
    let size = serde_json::to_vec(&message)?.len();
    if size > MESSAGE_MAX {
        bail!("this is too much to send at once: {size} bytes, at most {MESSAGE_MAX}; write it in parts");
    }
    socket.send(&message).await?;
    let give_up = Instant::now() + PATIENCE;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        match socket.next_within(left).await? {
            ServerMessage::Delta { delta } if delta.own.as_ref().is_some_and(|own| own.session == session) => {
                return Ok(delta.version + delta.operations.len() as u64);
            }
            ServerMessage::Refused {
                session: mine,
                reason,
                text,
                ..
            } if mine == session => match reason {
                RefusalReason::NotParticipant => bail!("you are not (or no longer) on this wave: {text}"),
                _ => bail!("{text}"),
            },
            ServerMessage::Error { text } => bail!("{text}"),
            _ => {}
        }
    }
}

/// An operation in the client protocol's form.
pub use billow_server::wavelets::shown::operation as operation_to_message;

/// Operations out of the client protocol's form.
pub fn operations_from_messages(delta: &DeltaMessage) -> anyhow::Result<Vec<WaveletOp>> {
    Ok(translation::operations(delta.operations.clone())?)
}

/// A document out of the insertions that a snapshot holds.
pub fn document_of(content: &[OpComponent]) -> anyhow::Result<Document> {
    let mut document = Document::new();
    document.apply(&translation::doc_op(content.to_vec())?)?;
    Ok(document)
}

/// An unguessable part of an id.
pub fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::without_tabs;

    #[test]
    fn a_tab_reaches_to_the_next_stop() {
        assert_eq!(without_tabs("\ta\tbcde\tf\n\tg"), "    a   bcde    f\n    g");
        assert_eq!(without_tabs("plain"), "plain");
    }
}
