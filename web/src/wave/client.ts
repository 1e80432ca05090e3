/**
 * What the user interface sees of the world: the connection, the inbox, and the open waves. It builds on nothing else
 * of the folders `channel` and `wire`.
 *
 * Everything is synchronous and local first: a change that is made here is in the documents before the call returns,
 * and is sent, kept and sent again behind the scenes. Values are {@link Readable}: `get()` and `subscribe()`.
 *
 * An editor of a blip does three things: it shows `blip.document.get()`, it calls `blip.submit(operation, me)` with
 * each change of its own, which must fit `blip.document.get()`, and it applies each event of `blip.changes` whose
 * `source` is not itself, in the order they come. An editor that must wait (an input method is composing) keeps the
 * events and moves its own operation past them with `transform` of `ot/transform.ts` before it submits.
 *
 * The client is made by `createClient()` of `wave/start.ts`: one a page.
 */

import type { Document } from "../ot/document";
import type { DocOp, OpComponent } from "../ot/op";
import type { DeliveryState, InboxRow, PeerDelivery, RefusalReason, RequestRow } from "../wire/messages";
import type { Blip as ManifestBlip, Conversation, Thread } from "./conversation";
import type { Emitter, Readable } from "./observable";

export type { Conversation, DeliveryState, InboxRow, ManifestBlip, OpComponent, PeerDelivery, Readable, Thread };
export { Document } from "../ot/document";
export { stateWords, troubleWords } from "./words";

/** The connection to the server. */
export type ConnectionState =
  /** The first connection is being made. */
  | { readonly kind: "connecting" }
  /** All is well. */
  | { readonly kind: "online" }
  /** Lost, and tried again; `since` in ms since 1970. */
  | { readonly kind: "reconnecting"; readonly since: number }
  /** The browser says that there is no network, or many tries have failed. */
  | { readonly kind: "offline"; readonly since: number }
  /** The session was ended elsewhere: sign in again, then call `Client.start` again. What is unsent is kept. */
  | { readonly kind: "signedOut" };

/** Where my changes are. */
export interface Saving {
  /** `saved`: the server has all. `saving`: on the way for more than 400 ms. `unsent`: kept here until we are connected. */
  readonly state: "saved" | "saving" | "unsent";
  /** How many changes of mine the server has not confirmed. */
  readonly changes: number;
}

/** A change of mine that could not be merged: its text, kept until it is dismissed. */
export interface KeptDraft {
  readonly id: string;
  readonly wavelet: string;
  /** The documents and what I had written in them. */
  readonly texts: readonly { readonly document: string; readonly text: string }[];
  /** For the program; `conflict` when too much had changed around it, `removed` when I am no longer a participant. */
  readonly reason: RefusalReason | "conflict" | "removed";
  /** For the person, one sentence. */
  readonly text: string;
  /** ms since 1970. */
  readonly time: number;
}

/** Somebody's caret, at positions of the document as it is here and now. */
export interface Caret {
  readonly address: string;
  /** Which of their editors. */
  readonly session: string;
  readonly document: string;
  /** Item positions; equal when nothing is selected. */
  readonly anchor: number;
  readonly focus: number;
  readonly typing: boolean;
}

/** A change of a blip's document. */
export type BlipChange =
  /** An operation on the document as it was before the event. */
  | {
      readonly kind: "operation";
      readonly operation: DocOp;
      /** The document after it. */
      readonly document: Document;
      /** Who made it. */
      readonly author: string;
      /** What was given to `submit`; null for other people's. */
      readonly source: unknown;
    }
  /** The document is another one altogether (after a break in which too much had changed): show it afresh. */
  | { readonly kind: "reset"; readonly document: Document };

/** Who wrote a blip, and when. */
export interface BlipMeta {
  readonly author: string;
  /** In order of first contribution. */
  readonly contributors: readonly string[];
  readonly lastModifiedVersion: number;
  /** ms since 1970. */
  readonly lastModifiedTime: number;
}

/** One blip (or any other document) of a wavelet. */
export interface Blip {
  readonly id: string;
  /** The document with my unsent changes; the empty document when there is none. */
  readonly document: Readable<Document>;
  /** Null until somebody has changed it. */
  readonly meta: Readable<BlipMeta | null>;
  /** Each change of the document, mine too, as it happens; `document` is already the new one. */
  readonly changes: Pick<Emitter<BlipChange>, "on">;
  /** Whether it has changed since I read it. */
  readonly unread: Readable<boolean>;
  /** While there is no connection: where in `document` the text is that is not sent yet, from and to, in items. */
  readonly unsent: Readable<readonly (readonly [number, number])[]>;
  /**
   * Makes a change of mine. `operation` must fit `document.get()`; throws an `OpError`, and nothing has happened, if it
   * does not. `source` comes back in `changes`.
   */
  submit(operation: DocOp, source?: unknown): void;
}

/** One wavelet of an open wave. */
export interface Wavelet {
  /** `example.org/w+abc/~/conv+root` */
  readonly name: string;
  /** The domain that orders its operations. */
  readonly host: string;
  /** In order of addition, my unsent changes included. */
  readonly participants: Readable<readonly string[]>;
  /** Author of the first delta. */
  readonly creator: string;
  /** The threads and blips. A new object after each change of the manifest. */
  readonly conversation: Readable<Conversation>;
  /** The first blip's `conv/title`, or its first line. */
  readonly title: Readable<string>;
  /** Whether all of my changes are at the server. */
  readonly saving: Readable<Saving>;
  /** How far each remote domain is. */
  readonly delivery: Readable<readonly PeerDelivery[]>;
  /** Other people's carets; moved along with every operation, gone 10 s after the last news. */
  readonly carets: Readable<readonly Caret[]>;
  /** Whether I am a participant. */
  readonly member: Readable<boolean>;
  /** Whether I may write: false when I am not a participant any more, and while our copy is in quarantine. */
  readonly writable: Readable<boolean>;
  /** Who removed me, when that is known; my own address when I have left. */
  readonly removedBy: Readable<string | null>;

  /** A blip or other document by its id; the same object each time. */
  blip(id: string): Blip;

  /** Adds an empty blip at the end of a thread (null: the root thread) and gives its id. */
  appendBlip(thread: string | null): string;
  /** Begins a reply thread below a blip and gives the id of its first blip. */
  reply(blip: string): string;
  /** Begins an inline reply thread anchored at an item position of a blip's document, and gives its first blip's id. */
  replyInline(blip: string, at: number): string;
  /** Deletes a blip with the threads below it; a thread left empty goes with its anchors. */
  deleteBlip(blip: string): void;
  /** Adds a participant; nothing when present. The address is lower-cased. */
  addParticipant(address: string): void;
  /** Removes a participant; nothing when absent. */
  removeParticipant(address: string): void;
  /** Says where my caret is, at positions of `blip(document).document.get()`; null when I have left. Sent at most every 100 ms. */
  setCaret(caret: { document: string; anchor: number; focus: number; typing: boolean } | null): void;
  /** Marks blips as read, as they are now. */
  markRead(blips: readonly string[]): void;
}

/** A wave that is open here. */
export interface Wave {
  /** `example.org/w+abc` */
  readonly id: string;
  /** `missing`: there is no such wave, or I am not on it. */
  readonly status: Readable<"loading" | "open" | "missing">;
  /** Why the server cannot show a wave that I am on, in a sentence. */
  readonly trouble: Readable<string | null>;
  /** The wavelets I may see. */
  readonly wavelets: Readable<readonly Wavelet[]>;
  /** The wavelet `conv+root`, when it is loaded. */
  readonly root: Readable<Wavelet | null>;
  /** Tells the server that the wave is not looked at any more. The object is dead afterwards. */
  close(): void;
}

/** Who wants to share a wave with me, and is not known here. */
export interface RequestList {
  /** The newest first. */
  readonly rows: readonly RequestRow[];
  /** How many there are besides. */
  readonly more: number;
  /** Domains that I take no invitations of. */
  readonly blocked: readonly string[];
}

/** The client. */
export interface Client {
  readonly connection: Readable<ConnectionState>;
  /** My address; null before the first connection. */
  readonly address: Readable<string | null>;
  /** Domains whose waves the server hosts: everybody else's are remote. */
  readonly domains: Readable<readonly string[]>;
  /** The waves I am in, newest first; null until they are loaded. */
  readonly inbox: Readable<readonly InboxRow[] | null>;
  /** Invitations of domains that nobody here knows. */
  readonly requests: Readable<RequestList>;
  /** How delivery to other domains was last, as far as the waves that were open here have shown it. */
  readonly domainStates: Readable<ReadonlyMap<string, DeliveryState>>;
  /** How many changes of all waves are not confirmed. */
  readonly saving: Readable<Saving>;
  /** Changes that could not be merged. */
  readonly drafts: Readable<readonly KeptDraft[]>;
  /** The server's complaints about messages that made no sense; for the log. */
  readonly errors: Pick<Emitter<string>, "on">;

  /** Connects, and sends what an earlier page left unsent. */
  start(): void;
  /** Closes the connection; everything unsent stays in the storage. */
  stop(): Promise<void>;
  /** Tries to connect now. */
  retry(): void;
  /** Opens a wave. Each call needs its `close`. */
  open(wave: string): Wave;
  /** Makes a new wave with me, its first blip (with `title` as its first line) and others; it is open at once. */
  create(options: { title?: string; participants?: readonly string[]; domain?: string }): Wave;
  /** Brings a wave that is a request into the inbox. */
  accept(wave: string): void;
  /** Hides a wave that is a request; the inviter is told nothing. */
  decline(wave: string): void;
  /** Takes no invitations of a domain, or takes them again. */
  block(domain: string, blocked: boolean): void;
  /** Throws a kept draft away. */
  dismiss(draft: string): void;
  /** Writes what is unsent into the storage at once; for when the page is left. */
  flush(): Promise<void>;
}
