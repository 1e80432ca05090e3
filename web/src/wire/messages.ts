// The client protocol's messages: JSON text frames over one WebSocket at /socket.
// Generated from crates/server/src/web/messages.rs; do not edit. To write it anew:
//   UPDATE=1 cargo test -p billow-server types_are_fresh

/** What a client says. */
export type ClientMessage = { "type": "open",
  /** `example.org/w+abc` */
  wave: string,
  /** What I have already, by wavelet name. */
  known?: Array<KnownWavelet>, }
  | { "type": "close",
  /** The wave. */
  wave: string, }
  | { "type": "submit",
  /** `example.org/w+abc/~/conv+root` */
  wavelet: string,
  /** Names the editor that made the change; random, kept as long as its changes are unsent. */
  session: string,
  /** Counts the submissions of this session to this wavelet from 1; a resend keeps its number and content. */
  sequence: number,
  /** The version that the operations fit. */
  version: number,
  /** At least one. */
  operations: Array<Operation>, }
  | { "type": "caret",
  /** The wavelet. */
  wavelet: string,
  /** As in `Submit`. */
  session: string,
  /** The version the positions are of. */
  version: number,
  /** Which document. */
  document: string | null,
  /** Item positions; equal when nothing is selected. */
  anchor: number,
  /** The moving end. */
  focus: number,
  /** Whether I typed just now. */
  typing: boolean, }
  | { "type": "read",
  /** The wavelet. */
  wavelet: string,
  /** Blip document ids. */
  blips: Array<string>,
  /** The version. */
  version: number, }
  | { "type": "watchInbox" }
  | { "type": "acceptRequest",
  /** The wave. */
  wave: string, }
  | { "type": "declineRequest",
  /** The wave. */
  wave: string, }
  | { "type": "blockDomain",
  /** The domain. */
  domain: string,
  /** Whether I want none. */
  blocked: boolean, }
  | { "type": "ping" };

/** What the server says. */
export type ServerMessage = { "type": "welcome",
  /** `alice@example.org` */
  address: string,
  /** Domains whose waves this server hosts. */
  domains: Array<string>, }
  | { "type": "snapshot",
  /** The state. */
  wavelet: WaveletState, }
  | { "type": "resumed",
  /** The wavelet. */
  wavelet: string,
  /** The version of the server's copy. */
  version: number, }
  | { "type": "opened",
  /** The wave. */
  wave: string, }
  | { "type": "noWave",
  /** The wave. */
  wave: string,
  /** For the person, a sentence: I am on it, and it cannot be shown. Then what the client has of it is still good. */
  text?: string, }
  | { "type": "delta",
  /** The delta. */
  delta: DeltaMessage, }
  | { "type": "refused",
  /** As submitted. */
  wavelet: string,
  /** As submitted. */
  session: string,
  /** As submitted. */
  sequence: number,
  /** For the program. */
  reason: RefusalReason,
  /** For the person, one sentence. */
  text: string, }
  | { "type": "caret",
  /** The wavelet. */
  wavelet: string,
  /** Whose. */
  address: string,
  /** Which of their editors. */
  session: string,
  /** The version the positions are of. */
  version: number,
  /** Which document. */
  document: string | null,
  /** Item positions. */
  anchor: number,
  /** The moving end. */
  focus: number,
  /** Whether they typed just now. */
  typing: boolean, }
  | { "type": "delivery",
  /** The wavelet. */
  wavelet: string,
  /** One per remote domain. */
  peers: Array<PeerDelivery>, }
  | { "type": "inbox",
  /** Newest first. */
  rows: Array<InboxRow>, }
  | { "type": "inboxRow",
  /** Its row. */
  row: InboxRow, }
  | { "type": "inboxGone",
  /** The wave. */
  wave: string, }
  | { "type": "requests",
  /** Who invites me. */
  rows: Array<RequestRow>,
  /** Requests that are not among the rows. */
  more: number,
  /** Domains that I have blocked. */
  blocked: Array<string>, }
  | { "type": "readState",
  /** The wavelet. */
  wavelet: string,
  /** Blip → the version up to which I have read it. */
  blips: Array<ReadBlip>, }
  | { "type": "pong" }
  | { "type": "error",
  /** What was expected and what came. */
  text: string, }
  | { "type": "signedOut" };

/** A wavelet as a client has it. */
export type KnownWavelet = {
  /** The wavelet. */
  wavelet: string,
  /** The version the client is at. */
  version: number, };

/** A wavelet's state at a version. */
export type WaveletState = {
  /** `example.org/w+abc/~/conv+root` */
  wavelet: string,
  /** The domain that orders the operations. */
  host: string,
  /** The version. */
  version: number,
  /** The history hash at `hashed_version`, hex; the wavelet is sealed up to there. */
  hash: string,
  /** See `hash`. */
  hashedVersion: number,
  /** SHA-256 of participants and documents at `version`, hex. */
  digest: string,
  /** In order of addition. */
  participants: Array<string>,
  /** Author of the first delta. */
  creator: string,
  /** ms since 1970. */
  created: number,
  /** ms since 1970. */
  lastModified: number,
  /** All documents, by id. */
  documents: Array<DocumentState>, };

/** A document's state. */
export type DocumentState = {
  /** The document id. */
  id: string,
  /** As an operation of insertions. */
  content: Array<OpComponent>,
  /** Author of the first operation. */
  author: string,
  /** In order of first contribution. */
  contributors: Array<string>,
  /** The wavelet's version after the last change that counts. */
  lastModifiedVersion: number,
  /** ms since 1970. */
  lastModifiedTime: number, };

/** A delta as clients see it. */
export type DeltaMessage = {
  /** The wavelet. */
  wavelet: string,
  /** The version before it. */
  version: number,
  /** Who did it. */
  author: string,
  /** When the host applied it, ms since 1970. */
  timestamp: number,
  /** As applied. Of the client's own submissions too (it may ignore them: its channel computed the same). */
  operations: Array<Operation>,
  /** Set to the submission's identity when it came from this address: the client whose session it names takes it as its answer. */
  own?: OwnSubmission, };

/** Identity of a submission. */
export type OwnSubmission = {
  /** As submitted. */
  session: string,
  /** As submitted. */
  sequence: number, };

/** Why a submission was refused. */
export type RefusalReason = "notParticipant" | "doesNotApply" | "unknownVersion" | "schema" | "legacyPeer" | "tooLarge" | "hostRefused" | "badRequest" | "unavailable";

/** A wavelet operation. */
export type Operation = { "addParticipant": string }
  | { "removeParticipant": string }
  | { "noOp": boolean }
  | { "mutateDocument": {
  /** Which. */
  documentId: string,
  /** How. */
  operation: Array<OpComponent>, } };

/** A component of a document operation; the form of the golden vectors. */
export type OpComponent = { "retain": number }
  | { "characters": string }
  | { "elementStart": ElementMessage }
  | { "elementEnd": boolean }
  | { "deleteCharacters": string }
  | { "deleteElementStart": ElementMessage }
  | { "deleteElementEnd": boolean }
  | { "replaceAttributes": {
  /** Before. */
  old: Array<[string, string]>,
  /** After. */
  new: Array<[string, string]>, } }
  | { "updateAttributes": Array<ChangeMessage> }
  | { "annotationBoundary": {
  /** Keys. */
  end: Array<string>,
  /** Changes. */
  change: Array<ChangeMessage>, } };

/** An element. */
export type ElementMessage = {
  /** Its type. */
  type: string,
  /** Name and value pairs. */
  attributes: Array<[string, string]>, };

/** An attribute's or annotation's change; null is "none". */
export type ChangeMessage = {
  /** Name or key. */
  key: string,
  /** Before. */
  old: string | null,
  /** After. */
  new: string | null, };

/** A wave in the inbox. */
export type InboxRow = {
  /** `example.org/w+abc` */
  wave: string,
  /** First line of the first blip, or its `conv/title`. */
  title: string,
  /** Start of the newest blip's text. */
  snippet: string,
  /** Participants of the conversation wavelet, in order. */
  people: Array<string>,
  /** Blips changed since I read them. */
  unread: number,
  /** Blips in all. */
  blips: number,
  /** Newest change, ms since 1970. */
  lastModified: number,
  /** Who changed it last. */
  lastAuthor: string,
  /** Remote domains that do not have everything yet. */
  waitingFor: Array<string>, };

/** An invitation of a domain that nobody here knows: who, and nothing of what is in the wave. */
export type RequestRow = {
  /** `example.org/w+abc`; not to be shown to people, for the inviter has chosen it. */
  wave: string,
  /** Who invites. */
  from: string,
  /** Their domain. */
  domain: string,
  /** The domain that hosts the wave, where it is another one. */
  host: string | null,
  /** Since when, ms since 1970. */
  since: number, };

/** How far a remote domain is with a wavelet. */
export type PeerDelivery = {
  /** The domain. */
  domain: string,
  /** In one word. */
  state: DeliveryState,
  /** The version it has (as a host: receipted; for the host of a remote wavelet: the version we have of it). */
  version: number,
  /** Changes it lacks; for the host of a remote wavelet: submissions of ours not yet accepted. */
  pending: number,
  /** In this state since, ms since 1970. */
  since: number,
  /** Next try, ms since 1970, when `Waiting` or `Stale`. */
  nextTry: number | null,
  /** One sentence for all states in which something is wrong. */
  reason: string | null,
  /** Whether it hosts the wavelet. */
  host: boolean,
  /** Whether it is known to run a server that takes no text beyond U+FFFF. */
  legacy: boolean, };

/** States of delivery to a remote domain (ux.md 3.3). */
export type DeliveryState = "delivered" | "sending" | "waiting" | "neverReached" | "refused" | "stale" | "refetching" | "quarantined" | "blocked";

/** A blip and how far I have read it. */
export type ReadBlip = {
  /** Blip document id. */
  blip: string,
  /** Version of the wavelet. */
  version: number, };
