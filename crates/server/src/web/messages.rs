//! The client protocol: JSON text frames over one WebSocket at `/socket` (docs/protocol/client.md).
//!
//! One message a frame, tagged by `"type"`. Versions are numbers, never hashes. Operations have the JSON form of the
//! golden vectors. `web/src/wire/messages.ts` is generated from this file: `UPDATE=1 cargo test -p billow-server
//! types_are_fresh` writes it, without `UPDATE` the test fails when it is stale.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What a client says.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum ClientMessage {
    /// Opens a wave, or takes it up again after a break: every wavelet of it that I may see.
    /// Answer: per wavelet one `Snapshot`, or where `known` names a version the server still has the deltas from,
    /// one `Resumed` and then `Delta`s; then live `Delta`s. A wave that is not there, or not mine: `NoWave`.
    Open {
        /// `example.org/w+abc`
        wave: String,
        /// What I have already, by wavelet name.
        #[serde(default)]
        #[ts(optional, as = "Option<Vec<KnownWavelet>>")]
        known: Vec<KnownWavelet>,
    },
    /// No more messages about this wave.
    Close {
        /// The wave.
        wave: String,
    },
    /// Operations against a version of a wavelet. One submission per wavelet and session is under way at a time.
    /// Answer: `Delta` with `own` (applied and on disk; also when it was a resend), or `Refused`. The wave must be open.
    /// A submission at version 0 of `<my domain>/w+…/~/conv+root` creates the wave and opens it on this connection;
    /// its first operation adds me. Unsure after a break whether that arrived: `Open` with `known` at version 0, and on
    /// `NoWave` submit again.
    Submit {
        /// `example.org/w+abc/~/conv+root`
        wavelet: String,
        /// Names the editor that made the change; random, kept as long as its changes are unsent.
        session: String,
        /// Counts the submissions of this session to this wavelet from 1; a resend keeps its number and content.
        #[ts(type = "number")]
        sequence: u64,
        /// The version that the operations fit.
        #[ts(type = "number")]
        version: u64,
        /// At least one.
        operations: Vec<Operation>,
    },
    /// Where my caret is, for the others on the wavelet. Never stored. `document` absent: I have left.
    Caret {
        /// The wavelet.
        wavelet: String,
        /// As in `Submit`.
        session: String,
        /// The version the positions are of.
        #[ts(type = "number")]
        version: u64,
        /// Which document.
        document: Option<String>,
        /// Item positions; equal when nothing is selected.
        anchor: u32,
        /// The moving end.
        focus: u32,
        /// Whether I typed just now.
        typing: bool,
    },
    /// I have read these blips as of this version of the wavelet.
    Read {
        /// The wavelet.
        wavelet: String,
        /// Blip document ids.
        blips: Vec<String>,
        /// The version.
        #[ts(type = "number")]
        version: u64,
    },
    /// From now on: all rows of my inbox in one `Inbox`, then `InboxRow` and `InboxGone` as they change; and my `Requests`,
    /// all of them whenever they have changed.
    WatchInbox,
    /// I want to be in a wave that I was invited to: it comes into my inbox, and its domain is known here from now on.
    AcceptRequest {
        /// The wave.
        wave: String,
    },
    /// I do not want to be in it. The inviter is told nothing.
    DeclineRequest {
        /// The wave.
        wave: String,
    },
    /// I want no invitations of this domain, or I do again. Those that wait are declined.
    BlockDomain {
        /// The domain.
        domain: String,
        /// Whether I want none.
        blocked: bool,
    },
    /// Still there? Answer: `Pong`.
    Ping,
}

/// A wavelet as a client has it.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownWavelet {
    /// The wavelet.
    pub wavelet: String,
    /// The version the client is at.
    #[ts(type = "number")]
    pub version: u64,
}

/// What the server says.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ServerMessage {
    /// First message of each connection.
    Welcome {
        /// `alice@example.org`
        address: String,
        /// Domains whose waves this server hosts.
        domains: Vec<String>,
    },
    /// A wavelet's whole state. Also unasked in an open wave: a wavelet that I have come onto, or a fresh start where
    /// this connection fell too far behind; it replaces what the client has.
    Snapshot {
        /// The state.
        wavelet: WaveletState,
    },
    /// The client's copy of this wavelet is good; `Delta`s from its version follow.
    Resumed {
        /// The wavelet.
        wavelet: String,
        /// The version of the server's copy.
        #[ts(type = "number")]
        version: u64,
    },
    /// The answer to `Open` is complete; what comes now is live.
    Opened {
        /// The wave.
        wave: String,
    },
    /// There is no such wave, or I am not on it, or no longer. (These are not told apart.) It is closed. A removal is
    /// told by the delta that removes me, the last one of its wavelet; when no other wavelet is left, this follows.
    NoWave {
        /// The wave.
        wave: String,
        /// For the person, a sentence: I am on it, and it cannot be shown. Then what the client has of it is still good.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        #[ts(optional)]
        text: Option<String>,
    },
    /// A delta of an open wavelet, in order of version, none left out; the client's own too.
    Delta {
        /// The delta.
        delta: DeltaMessage,
    },
    /// A submission that was not applied, and never will be.
    Refused {
        /// As submitted.
        wavelet: String,
        /// As submitted.
        session: String,
        /// As submitted.
        #[ts(type = "number")]
        sequence: u64,
        /// For the program.
        reason: RefusalReason,
        /// For the person, one sentence.
        text: String,
    },
    /// Somebody's caret. `document` absent: gone. Also gone when 10 s pass without news of it.
    Caret {
        /// The wavelet.
        wavelet: String,
        /// Whose.
        address: String,
        /// Which of their editors.
        session: String,
        /// The version the positions are of.
        #[ts(type = "number")]
        version: u64,
        /// Which document.
        document: Option<String>,
        /// Item positions.
        anchor: u32,
        /// The moving end.
        focus: u32,
        /// Whether they typed just now.
        typing: bool,
    },
    /// How far each remote domain of a wavelet is; sent on open and on each change of state.
    Delivery {
        /// The wavelet.
        wavelet: String,
        /// One per remote domain.
        peers: Vec<PeerDelivery>,
    },
    /// All waves of my inbox.
    Inbox {
        /// Newest first.
        rows: Vec<InboxRow>,
    },
    /// A wave of my inbox is new or has changed.
    InboxRow {
        /// Its row.
        row: InboxRow,
    },
    /// A wave is no longer in my inbox.
    InboxGone {
        /// The wave.
        wave: String,
    },
    /// Invitations of domains that nobody here knows, the newest first. After `Inbox`, and when they have changed.
    Requests {
        /// Who invites me.
        rows: Vec<RequestRow>,
        /// Requests that are not among the rows.
        more: u32,
        /// Domains that I have blocked.
        blocked: Vec<String>,
    },
    /// What I have read of an open wavelet; on open and after each change.
    ReadState {
        /// The wavelet.
        wavelet: String,
        /// Blip → the version up to which I have read it.
        blips: Vec<ReadBlip>,
    },
    /// Answer to `Ping`.
    Pong,
    /// The message before made no sense; the connection goes on.
    Error {
        /// What was expected and what came.
        text: String,
    },
    /// The session was ended (signed out elsewhere, password changed); the server closes.
    SignedOut,
}

/// Why a submission was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum RefusalReason {
    /// I am not (any longer) a participant.
    NotParticipant,
    /// The operations do not fit; a fresh snapshot is needed.
    DoesNotApply,
    /// The version is unknown or too old; a fresh snapshot is needed.
    UnknownVersion,
    /// The rules of the document forbid it.
    Schema,
    /// A domain on the wavelet runs a server that cannot take such text (characters beyond U+FFFF).
    LegacyPeer,
    /// Too large.
    TooLarge,
    /// The host refused; `text` has its reason.
    HostRefused,
    /// An id or message that is not allowed.
    BadRequest,
    /// The server could not store it (disk full); try again later with the same number.
    Unavailable,
}

/// A delta as clients see it.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DeltaMessage {
    /// The wavelet.
    pub wavelet: String,
    /// The version before it.
    #[ts(type = "number")]
    pub version: u64,
    /// Who did it.
    pub author: String,
    /// When the host applied it, ms since 1970.
    #[ts(type = "number")]
    pub timestamp: i64,
    /// As applied. Of the client's own submissions too (it may ignore them: its channel computed the same).
    pub operations: Vec<Operation>,
    /// Set to the submission's identity when it came from this address: the client whose session it names takes it as its answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[ts(optional)]
    pub own: Option<OwnSubmission>,
}

/// Identity of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct OwnSubmission {
    /// As submitted.
    pub session: String,
    /// As submitted.
    #[ts(type = "number")]
    pub sequence: u64,
}

/// A wavelet's state at a version.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct WaveletState {
    /// `example.org/w+abc/~/conv+root`
    pub wavelet: String,
    /// The domain that orders the operations.
    pub host: String,
    /// The version.
    #[ts(type = "number")]
    pub version: u64,
    /// The history hash at `hashed_version`, hex; the wavelet is sealed up to there.
    pub hash: String,
    /// See `hash`.
    #[ts(type = "number")]
    pub hashed_version: u64,
    /// SHA-256 of participants and documents at `version`, hex.
    pub digest: String,
    /// In order of addition.
    pub participants: Vec<String>,
    /// Author of the first delta.
    pub creator: String,
    /// ms since 1970.
    #[ts(type = "number")]
    pub created: i64,
    /// ms since 1970.
    #[ts(type = "number")]
    pub last_modified: i64,
    /// All documents, by id.
    pub documents: Vec<DocumentState>,
}

/// A document's state.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DocumentState {
    /// The document id.
    pub id: String,
    /// As an operation of insertions.
    pub content: Vec<OpComponent>,
    /// Author of the first operation.
    pub author: String,
    /// In order of first contribution.
    pub contributors: Vec<String>,
    /// The wavelet's version after the last change that counts.
    #[ts(type = "number")]
    pub last_modified_version: u64,
    /// ms since 1970.
    #[ts(type = "number")]
    pub last_modified_time: i64,
}

/// A wavelet operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Operation {
    /// Adds a participant.
    AddParticipant(String),
    /// Removes a participant.
    RemoveParticipant(String),
    /// Does nothing; the value is `true`.
    NoOp(bool),
    /// Changes a document.
    MutateDocument {
        /// Which.
        document_id: String,
        /// How.
        operation: Vec<OpComponent>,
    },
}

/// A component of a document operation; the form of the golden vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum OpComponent {
    /// Items kept.
    Retain(u32),
    /// Text inserted.
    Characters(String),
    /// Element inserted.
    ElementStart(ElementMessage),
    /// `true`
    ElementEnd(bool),
    /// Text deleted.
    DeleteCharacters(String),
    /// Element deleted.
    DeleteElementStart(ElementMessage),
    /// `true`
    DeleteElementEnd(bool),
    /// All attributes.
    ReplaceAttributes {
        /// Before.
        old: Vec<(String, String)>,
        /// After.
        new: Vec<(String, String)>,
    },
    /// Some attributes.
    UpdateAttributes(Vec<ChangeMessage>),
    /// Annotation changes that end and begin.
    AnnotationBoundary {
        /// Keys.
        end: Vec<String>,
        /// Changes.
        change: Vec<ChangeMessage>,
    },
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ElementMessage {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name and value pairs.
    pub attributes: Vec<(String, String)>,
}

/// An attribute's or annotation's change; null is "none".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ChangeMessage {
    /// Name or key.
    pub key: String,
    /// Before.
    pub old: Option<String>,
    /// After.
    pub new: Option<String>,
}

/// A wave in the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct InboxRow {
    /// `example.org/w+abc`
    pub wave: String,
    /// First line of the first blip, or its `conv/title`.
    pub title: String,
    /// Start of the newest blip's text.
    pub snippet: String,
    /// Participants of the conversation wavelet, in order.
    pub people: Vec<String>,
    /// Blips changed since I read them.
    pub unread: u32,
    /// Blips in all.
    pub blips: u32,
    /// Newest change, ms since 1970.
    #[ts(type = "number")]
    pub last_modified: i64,
    /// Who changed it last.
    pub last_author: String,
    /// Remote domains that do not have everything yet.
    pub waiting_for: Vec<String>,
}

/// An invitation of a domain that nobody here knows: who, and nothing of what is in the wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RequestRow {
    /// `example.org/w+abc`; not to be shown to people, for the inviter has chosen it.
    pub wave: String,
    /// Who invites.
    pub from: String,
    /// Their domain.
    pub domain: String,
    /// The domain that hosts the wave, where it is another one.
    pub host: Option<String>,
    /// Since when, ms since 1970.
    #[ts(type = "number")]
    pub since: i64,
}

/// How far a remote domain is with a wavelet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PeerDelivery {
    /// The domain.
    pub domain: String,
    /// In one word.
    pub state: DeliveryState,
    /// The version it has (as a host: receipted; for the host of a remote wavelet: the version we have of it).
    #[ts(type = "number")]
    pub version: u64,
    /// Changes it lacks; for the host of a remote wavelet: submissions of ours not yet accepted.
    pub pending: u32,
    /// In this state since, ms since 1970.
    #[ts(type = "number")]
    pub since: i64,
    /// Next try, ms since 1970, when `Waiting` or `Stale`.
    #[ts(type = "number | null")]
    pub next_try: Option<i64>,
    /// One sentence for all states in which something is wrong.
    pub reason: Option<String>,
    /// Whether it hosts the wavelet.
    pub host: bool,
    /// Whether it is known to run a server that takes no text beyond U+FFFF.
    pub legacy: bool,
}

/// States of delivery to a remote domain (ux.md 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryState {
    /// It has everything.
    Delivered,
    /// On its way.
    Sending,
    /// Not reachable now; kept and sent when it is back.
    Waiting,
    /// No wave server was ever found there.
    NeverReached,
    /// It refused.
    Refused,
    /// As the host: it answers, but does not give what it says there is.
    Stale,
    /// As the host: what it says contradicts our copy, which is fetched again.
    Refetching,
    /// As the host: it contradicts itself. Our copy takes nothing more, and nobody here can write.
    Quarantined,
    /// Our own policy.
    Blocked,
}

/// A blip and how far I have read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ReadBlip {
    /// Blip document id.
    pub blip: String,
    /// Version of the wavelet.
    #[ts(type = "number")]
    pub version: u64,
}
