// The client protocol's messages, as crates/server/src/web/messages.rs has them.

/** What a client says. */
export type ClientMessage =
  | { type: "open"; wave: string; known: Array<KnownWavelet> }
  | { type: "close"; wave: string }
  | {
      type: "submit";
      wavelet: string;
      session: string;
      sequence: number;
      version: number;
      operations: Array<Operation>;
    }
  | {
      type: "caret";
      wavelet: string;
      session: string;
      version: number;
      document: string | null;
      anchor: number;
      focus: number;
      typing: boolean;
    }
  | { type: "read"; wavelet: string; blips: Array<string>; version: number }
  | { type: "watchInbox" }
  | { type: "ping" };

/** A wavelet as a client has it. */
export type KnownWavelet = { wavelet: string; version: number };

/** What the server says. */
export type ServerMessage =
  | { type: "welcome"; address: string; domains: Array<string> }
  | { type: "snapshot"; wavelet: WaveletState }
  | { type: "resumed"; wavelet: string; version: number }
  | { type: "opened"; wave: string }
  | { type: "noWave"; wave: string }
  | { type: "delta"; delta: DeltaMessage }
  | { type: "refused"; wavelet: string; session: string; sequence: number; reason: RefusalReason; text: string }
  | {
      type: "caret";
      wavelet: string;
      address: string;
      session: string;
      version: number;
      document: string | null;
      anchor: number;
      focus: number;
      typing: boolean;
    }
  | { type: "delivery"; wavelet: string; peers: Array<PeerDelivery> }
  | { type: "inbox"; rows: Array<InboxRow> }
  | { type: "inboxRow"; row: InboxRow }
  | { type: "inboxGone"; wave: string }
  | { type: "readState"; wavelet: string; blips: Array<ReadBlip> }
  | { type: "pong" }
  | { type: "error"; text: string }
  | { type: "signedOut" };

/** Why a submission was refused. */
export type RefusalReason =
  | "notParticipant"
  | "doesNotApply"
  | "unknownVersion"
  | "schema"
  | "legacyPeer"
  | "tooLarge"
  | "hostRefused"
  | "badRequest"
  | "unavailable";

/** A delta as clients see it. */
export type DeltaMessage = {
  wavelet: string;
  version: number;
  author: string;
  timestamp: number;
  operations: Array<Operation>;
  own?: OwnSubmission | null;
};

/** Identity of a submission. */
export type OwnSubmission = { session: string; sequence: number };

/** A wavelet's state at a version. */
export type WaveletState = {
  wavelet: string;
  host: string;
  version: number;
  hash: string;
  hashedVersion: number;
  digest: string;
  participants: Array<string>;
  creator: string;
  created: number;
  lastModified: number;
  documents: Array<DocumentState>;
};

/** A document's state. */
export type DocumentState = {
  id: string;
  content: Array<OpComponent>;
  author: string;
  contributors: Array<string>;
  lastModifiedVersion: number;
  lastModifiedTime: number;
};

/** A wavelet operation. */
export type Operation =
  | { addParticipant: string }
  | { removeParticipant: string }
  | { noOp: boolean }
  | { mutateDocument: { documentId: string; operation: Array<OpComponent> } };

/** A component of a document operation; the form of the golden vectors. */
export type OpComponent =
  | { retain: number }
  | { characters: string }
  | { elementStart: ElementMessage }
  | { elementEnd: boolean }
  | { deleteCharacters: string }
  | { deleteElementStart: ElementMessage }
  | { deleteElementEnd: boolean }
  | { replaceAttributes: { old: Array<[string, string]>; new: Array<[string, string]> } }
  | { updateAttributes: Array<ChangeMessage> }
  | { annotationBoundary: { end: Array<string>; change: Array<ChangeMessage> } };

/** An element. */
export type ElementMessage = { type: string; attributes: Array<[string, string]> };

/** An attribute's or annotation's change; null is "none". */
export type ChangeMessage = { key: string; old: string | null; new: string | null };

/** A wave in the inbox. */
export type InboxRow = {
  wave: string;
  title: string;
  snippet: string;
  people: Array<string>;
  unread: number;
  blips: number;
  lastModified: number;
  lastAuthor: string;
  waitingFor: Array<string>;
};

/** How far a remote domain is with a wavelet. */
export type PeerDelivery = {
  domain: string;
  state: DeliveryState;
  version: number;
  pending: number;
  since: number;
  nextTry: number | null;
  reason: string | null;
  host: boolean;
  legacy: boolean;
};

/** States of delivery to a remote domain. */
export type DeliveryState = "delivered" | "sending" | "waiting" | "neverReached" | "refused" | "blocked";

/** A blip and how far I have read it. */
export type ReadBlip = { blip: string; version: number };
