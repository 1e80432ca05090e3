/**
 * A wavelet that is open: drives its channel, and turns what the channel says into values and events for the user
 * interface.
 */

import { Channel, type Output, type StoredChannel } from "../channel/channel";
import { compose, composeAll } from "../ot/compose";
import type { Document } from "../ot/document";
import { invert } from "../ot/invert";
import { type DocOp, documentsOf, insertedRanges, type OpComponent, OpError, type Operation, sameJson } from "../ot/op";
import { movePosition, movePositionPast } from "../ot/position";
import type { ClientMessage, DeltaMessage, PeerDelivery, ReadBlip, ServerMessage, WaveletState } from "../wire/messages";
import type { Blip, BlipChange, BlipMeta, Caret, KeptDraft, Saving, Wavelet } from "./client";
import * as conversation from "./conversation";
import { type Conversation, MANIFEST, readConversation, titleOf } from "./conversation";
import { Emitter, Value } from "./observable";
import type { WaveletCopy } from "./wavelet";

/** What a wavelet needs of the client around it. */
export interface Surroundings {
  readonly address: string;
  /** Whether the connection is up. */
  connected(): boolean;
  /** Whether our server orders the operations of this domain's wavelets. */
  isLocal(host: string): boolean;
  send(message: ClientMessage): void;
  /** Opens the wave once more; `resume`: from what the channels have. */
  reopen(): void;
  /** The wave has come to be at the server. */
  created(): void;
  /** Keeps what is unsent; resolves when it is stored. */
  store(channel: Channel): Promise<void>;
  /** The confirmed state is a new one. */
  confirmed(copy: WaveletCopy): void;
  draft(draft: Omit<KeptDraft, "id" | "time">): void;
  /** Runs events of all documents in the order they came, also those that come while others run. */
  emit(event: () => void): void;
  /** The number of unconfirmed changes may have changed. */
  changed(): void;
  newId(): string;
  now(): number;
  setTimeout(action: () => void, ms: number): unknown;
}

/** How long a submission may be on its way before the user sees "Saving…". */
const SAVING_AFTER = 400;
const CARET_EVERY = 100;
const CARET_AGAIN = 5_000;
const CARET_GONE = 10_000;
const READ_AFTER = 300;
/** While somebody writes before my eyes, it is not noted at every letter. */
const READ_EVERY = 2_000;
const RETRY_AFTER = 5_000;
/** How long to wait for a storage that does not answer before a submission is sent all the same. */
const STORE_WITHIN = 1_000;
/** The largest submission that is tried: servers close the connection at messages of more than 1 MiB. */
const SUBMISSION_MAX = 1_000_000;
/** How long our own server may take to answer before we ask where we are. */
const ANSWER_WITHIN = 30_000;
/** Deltas that are remembered to move carets of a little while ago. */
const RECENT = 200;

const NO_RANGES: readonly (readonly [number, number])[] = [];

type CaretMessage = Extract<ServerMessage, { type: "caret" }>;

interface KnownCaret extends Caret {
  readonly seen: number;
}

class OpenBlip implements Blip {
  readonly document: Value<Document>;
  readonly meta: Value<BlipMeta | null>;
  readonly unread: Value<boolean>;
  readonly unsent: Value<readonly (readonly [number, number])[]>;
  readonly changes = new Emitter<BlipChange>();

  constructor(
    readonly id: string,
    readonly wavelet: OpenWavelet,
  ) {
    this.document = new Value(wavelet.channel.local.document(id));
    this.meta = new Value(wavelet.channel.local.meta(id));
    this.unread = new Value(wavelet.isUnread(id));
    this.unsent = new Value(wavelet.unsentIn(id));
  }

  submit(operation: DocOp, source: unknown = null): void {
    const mutable = operation as OpComponent[];
    this.wavelet.change([{ mutateDocument: { documentId: this.id, operation: mutable } }], source);
  }
}

/** See the module's comment. */
export class OpenWavelet implements Wavelet {
  readonly participants: Value<readonly string[]>;
  readonly conversation: Value<Conversation>;
  readonly title: Value<string>;
  readonly saving = new Value<Saving>({ state: "saved", changes: 0 });
  readonly delivery = new Value<readonly PeerDelivery[]>([]);
  readonly carets = new Value<readonly Caret[]>([]);
  readonly member = new Value(true);
  readonly writable = new Value(true);
  readonly removedBy = new Value<string | null>(null);
  channel: Channel;
  /** Channels of earlier pages whose changes are still to be sent. */
  #others: Channel[] = [];
  readonly #around: Surroundings;
  readonly #blips = new Map<string, OpenBlip>();
  readonly #read = new Map<string, number>();
  readonly #toRead = new Set<string>();
  readonly #carets = new Map<string, KnownCaret>();
  readonly #recent: DeltaMessage[] = [];
  #unconfirmedSince: number | null = null;
  #caret: { document: string; anchor: number; focus: number; typing: boolean } | null = null;
  #caretSent = 0;
  /** When the caret is sent next. */
  #caretDue: number | null = null;
  #readTimer = false;
  #readSent = 0;
  #pumping = false;
  #closed = false;

  constructor(channel: Channel, others: readonly StoredChannel[], around: Surroundings) {
    this.channel = channel;
    this.#around = around;
    this.#others = others.map((stored) => Channel.restore(stored, channel.confirmed));
    this.participants = new Value(channel.local.participants);
    this.conversation = new Value(readConversation(channel.local.document(MANIFEST)));
    this.title = new Value(this.#title());
    this.pump();
  }

  get name(): string {
    return this.channel.confirmed.name;
  }

  get host(): string {
    return this.channel.confirmed.host;
  }

  get creator(): string {
    return this.channel.confirmed.creator || this.#around.address;
  }

  /** The version to resume from; null when a snapshot is needed. */
  get known(): number | null {
    const versions = [this.channel, ...this.#others].map((channel) => channel.known);
    return versions.includes(null) ? null : Math.min(...(versions as number[]));
  }

  /** How many changes are not confirmed. */
  get changes(): number {
    return [this.channel, ...this.#others].reduce((sum, channel) => sum + channel.changes, 0);
  }

  blip(id: string): OpenBlip {
    let blip = this.#blips.get(id);
    if (blip === undefined) {
      blip = new OpenBlip(id, this);
      this.#blips.set(id, blip);
    }
    return blip;
  }

  /** Whether a blip has changed since it was read. */
  isUnread(id: string): boolean {
    const meta = this.channel.local.meta(id);
    return meta !== null && meta.lastModifiedVersion > (this.#read.get(id) ?? 0);
  }

  /** Where the text of mine is that cannot be sent now. */
  unsentIn(id: string): readonly (readonly [number, number])[] {
    if (this.saving.get().state !== "unsent") return NO_RANGES;
    const mine = [...(this.channel.inFlight?.current ?? []), ...this.channel.pending];
    const operations = mine.flatMap((op) => ("mutateDocument" in op && op.mutateDocument.documentId === id ? [op.mutateDocument.operation] : []));
    return operations.length === 0 ? NO_RANGES : insertedRanges(composeAll(operations));
  }

  /** How many blips of the conversation have changed since they were read. */
  get unread(): number {
    return [...this.conversation.get().blips.keys()].filter((id) => this.isUnread(id)).length;
  }

  appendBlip(thread: string | null): string {
    const id = this.#newBlip();
    this.change(conversation.appendBlip(this.#documents, thread, id), null);
    return id;
  }

  reply(blip: string): string {
    const id = this.#newBlip();
    this.change(conversation.replyTo(this.#documents, blip, id), null);
    return id;
  }

  replyInline(blip: string, at: number): string {
    const id = this.#newBlip();
    this.change(conversation.replyInlineTo(this.#documents, blip, at, id), null);
    return id;
  }

  deleteBlip(blip: string): void {
    this.change(conversation.deleteBlip(this.#documents, blip), null);
  }

  addParticipant(address: string): void {
    const wanted = address.trim().toLowerCase();
    if (!this.channel.local.participants.includes(wanted)) this.change([{ addParticipant: wanted }], null);
  }

  removeParticipant(address: string): void {
    if (this.channel.local.participants.includes(address)) this.change([{ removeParticipant: address }], null);
  }

  setCaret(caret: { document: string; anchor: number; focus: number; typing: boolean } | null): void {
    this.#caret = caret;
    const wait = this.#caretSent + CARET_EVERY - this.#around.now();
    if (wait <= 0) this.#sendCaret();
    else this.#sendCaretIn(wait);
  }

  markRead(blips: readonly string[]): void {
    for (const id of blips) {
      if (!this.isUnread(id)) continue;
      this.#read.set(id, this.channel.confirmed.version);
      this.#toRead.add(id);
      this.#blips.get(id)?.unread.set(false);
    }
    if (this.#toRead.size > 0) this.#around.changed();
    this.#sendReadLater();
  }

  /** Makes changes of mine, all or none; they count as one. */
  change(operations: readonly Operation[], source: unknown): void {
    this.channel.change(operations);
    const shown = new Map<string, DocOp>();
    for (const op of operations) {
      if (!("mutateDocument" in op)) continue;
      const { documentId, operation } = op.mutateDocument;
      const before = shown.get(documentId);
      shown.set(documentId, before === undefined ? operation : compose(before, operation));
    }
    for (const [id, operation] of shown) this.#show(id, operation, this.#around.address, source);
    this.pump();
  }

  /** The server's whole state. */
  snapshot(state: WaveletState): void {
    try {
      for (const channel of this.#all()) channel.snapshot(state);
    } catch (e) {
      if (!(e instanceof OpError)) throw e;
    }
    this.#recent.length = 0;
    this.pump();
    this.#around.confirmed(this.channel.confirmed);
  }

  /** The server has our version. */
  resumed(): void {
    for (const channel of this.#all()) channel.resumed();
  }

  /** We have what the server has. */
  opened(): void {
    for (const channel of this.#all()) channel.opened();
    this.pump();
    this.#sendReads();
    if (this.#caret !== null) this.#sendCaret();
  }

  /** A delta of the wavelet. */
  receive(delta: DeltaMessage): void {
    const mine = delta.author === this.#around.address ? documentsOf(delta.operations) : [];
    const wasRead = mine.filter((id) => id.startsWith("b+") && !this.isUnread(id));
    const before = this.channel.confirmed.version;
    for (const channel of this.#all()) channel.receive(delta);
    if (this.channel.confirmed.version !== before) {
      this.#recent.push(delta);
      if (this.#recent.length > RECENT) this.#recent.shift();
      this.#around.confirmed(this.channel.confirmed);
      // What I wrote in a blip that I had read, here or with another client, I have read.
      this.markRead(wasRead);
    }
    this.pump();
  }

  /** A submission was not applied. */
  refused(message: Extract<ServerMessage, { type: "refused" }>): void {
    const { session, sequence, reason, text } = message;
    for (const channel of this.#all()) channel.refused(session, sequence, reason, text);
    this.pump();
  }

  /** The connection is gone. */
  disconnected(): void {
    for (const channel of this.#all()) channel.disconnected();
    this.#carets.clear();
    this.#publishCarets();
    this.pump();
  }

  /** There is no such wavelet for me any more. */
  gone(): void {
    for (const channel of this.#all()) channel.gone("This wave is not there any more, or you are not on it.");
    this.pump();
  }

  /** Nothing more is to be done here. */
  close(): void {
    this.#closed = true;
  }

  /** How far the other domains are. */
  delivered(peers: readonly PeerDelivery[]): void {
    this.delivery.set(peers);
    this.#publishWritable();
  }

  /** What I have read. */
  readState(blips: readonly ReadBlip[]): void {
    for (const { blip, version } of blips) this.#read.set(blip, Math.max(version, this.#read.get(blip) ?? 0));
    this.#refreshBlips();
  }

  /** Somebody's caret. */
  caret(message: CaretMessage): void {
    if (message.session === this.channel.session) return;
    const key = `${message.address}\n${message.session}`;
    if (message.document === null) this.#carets.delete(key);
    else this.#carets.set(key, this.#placeCaret(message, message.document));
    this.#publishCarets();
    this.#around.setTimeout(() => this.#expireCarets(), CARET_GONE + 100);
  }

  /** Does what the channels ask for, and publishes what has changed. */
  pump(): void {
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    const shown = new Map<string, { operation: DocOp | null; author: string }>();
    for (const channel of this.#all()) {
      for (let output = channel.poll(); output !== null; output = channel.poll()) {
        if (output.kind === "show") {
          if (channel === this.channel) addShown(shown, output);
        } else {
          this.#do(channel, output);
        }
      }
    }
    this.#pumping = false;
    this.#others = this.#others.filter((channel) => channel.changes > 0 || channel.inFlight !== null);
    for (const [id, { operation, author }] of shown) this.#show(id, operation, author, null);
    this.#publish();
  }

  #all(): Channel[] {
    return [this.channel, ...this.#others];
  }

  #do(channel: Channel, output: Exclude<Output, { kind: "show" }>): void {
    switch (output.kind) {
      case "submit":
        return this.#submit(channel, output);
      case "reopen":
        return this.#around.reopen();
      case "retryLater":
        this.#around.setTimeout(() => {
          channel.retry();
          this.pump();
        }, RETRY_AFTER);
        return;
      case "draft":
        return this.#around.draft({
          wavelet: this.name,
          texts: output.texts,
          reason: output.reason,
          text: output.text,
        });
      case "confirmed":
        this.#around.created();
    }
  }

  /** Sends a submission once it is stored, so that after a crash it is sent again as the same one. */
  #submit(channel: Channel, output: Extract<Output, { kind: "submit" }>): void {
    if (bytesOf(output.operations) > SUBMISSION_MAX) {
      const text = "This is too much to send at once; send it in parts.";
      return channel.refused(output.session, output.sequence, "tooLarge", text);
    }
    let sent = false;
    const send = (): void => {
      if (sent || channel.inFlight?.sequence !== output.sequence) return;
      sent = true;
      const { session, sequence, version } = output;
      const operations = output.operations as Operation[];
      this.#around.send({ type: "submit", wavelet: this.name, session, sequence, version, operations });
    };
    void this.#around.store(channel).then(send, send);
    this.#around.setTimeout(send, STORE_WITHIN);
    this.#around.setTimeout(() => this.#checkAnswer(channel, output.sequence), ANSWER_WITHIN);
  }

  /** Where the host is another server an answer may take as long as it is away; ours answers at once. */
  #checkAnswer(channel: Channel, sequence: number): void {
    const waits = channel.inFlight?.sequence === sequence && channel.linked && !this.#closed;
    if (waits && this.#around.isLocal(this.host)) this.#around.reopen();
  }

  #show(id: string, operation: DocOp | null, author: string, source: unknown): void {
    const document = this.channel.local.document(id);
    if (operation !== null) this.#moveCarets(id, operation);
    const blip = this.#blips.get(id);
    if (blip === undefined) return;
    blip.document.set(document);
    const change: BlipChange =
      operation === null ? { kind: "reset", document } : { kind: "operation", operation, document, author, source };
    this.#around.emit(() => blip.changes.emit(change));
  }

  #publish(): void {
    const { local, removed } = this.channel;
    if (local.document(MANIFEST) !== this.#manifest) {
      this.#manifest = local.document(MANIFEST);
      this.conversation.set(readConversation(this.#manifest));
    }
    this.participants.set(local.participants);
    this.title.set(this.#title());
    this.removedBy.set(this.channel.removedBy);
    this.member.set(!removed);
    this.#publishWritable();
    this.#refreshBlips();
    this.#publishSaving();
    for (const [id, blip] of this.#blips) {
      const unsent = this.unsentIn(id);
      if (!sameJson(unsent, blip.unsent.get())) blip.unsent.set(unsent);
    }
    for (const channel of this.#all()) void this.#around.store(channel).catch(() => {});
    this.#around.changed();
  }

  #publishWritable(): void {
    const quarantined = this.delivery.get().some(({ host, state }) => host && state === "quarantined");
    this.writable.set(!this.channel.removed && !quarantined);
  }

  #manifest: Document | null = null;
  #titled: { document: Document; title: string } | null = null;

  #title(): string {
    const first = this.conversation.get().root.blips[0];
    if (first === undefined) return "";
    const document = this.channel.local.document(first.id);
    if (this.#titled?.document !== document) this.#titled = { document, title: titleOf(document) };
    return this.#titled.title;
  }

  #refreshBlips(): void {
    for (const [id, blip] of this.#blips) {
      blip.document.set(this.channel.local.document(id));
      blip.meta.set(this.channel.local.meta(id));
      blip.unread.set(this.isUnread(id));
    }
  }

  #publishSaving(): void {
    const { changes } = this;
    const now = this.#around.now();
    if (changes === 0) this.#unconfirmedSince = null;
    else if (this.#unconfirmedSince === null) {
      this.#unconfirmedSince = now;
      this.#around.setTimeout(() => this.pump(), SAVING_AFTER + 1);
    }
    const since = this.#unconfirmedSince;
    const late = since !== null && now - since >= SAVING_AFTER;
    const state = changes === 0 ? "saved" : !this.#around.connected() ? "unsent" : late ? "saving" : "saved";
    const before = this.saving.get();
    if (before.state !== state || before.changes !== changes) this.saving.set({ state, changes });
  }

  #sendReadLater(): void {
    if (this.#readTimer || this.#toRead.size === 0) return;
    this.#readTimer = true;
    const wait = Math.max(READ_AFTER, this.#readSent + READ_EVERY - this.#around.now());
    this.#around.setTimeout(() => {
      this.#readTimer = false;
      this.#sendReads();
    }, wait);
  }

  #sendReads(): void {
    if (this.#toRead.size === 0 || !this.channel.linked || this.#closed) return;
    const blips = [...this.#toRead];
    this.#toRead.clear();
    this.#readSent = this.#around.now();
    this.#around.send({ type: "read", wavelet: this.name, blips, version: this.channel.confirmed.version });
  }

  #placeCaret(message: CaretMessage, document: string): KnownCaret {
    const { address, session, typing } = message;
    const later = this.#recent.filter((delta) => delta.version >= message.version).flatMap((delta) => delta.operations);
    const mine = [...(this.channel.inFlight?.current ?? []), ...this.channel.pending];
    const place = (at: number): number => {
      const moved = movePositionPast(mine, document, movePositionPast(later, document, at));
      return Math.min(moved, this.channel.local.document(document).length);
    };
    const seen = this.#around.now();
    return { address, session, document, anchor: place(message.anchor), focus: place(message.focus), typing, seen };
  }

  #moveCarets(id: string, operation: DocOp): void {
    let moved = false;
    for (const [key, caret] of this.#carets) {
      if (caret.document !== id) continue;
      const anchor = movePosition(operation, caret.anchor);
      const focus = movePosition(operation, caret.focus);
      if (anchor === caret.anchor && focus === caret.focus) continue;
      this.#carets.set(key, { ...caret, anchor, focus });
      moved = true;
    }
    if (moved) this.#publishCarets();
  }

  #expireCarets(): void {
    const now = this.#around.now();
    for (const [key, caret] of this.#carets) if (now - caret.seen >= CARET_GONE) this.#carets.delete(key);
    this.#publishCarets();
  }

  #publishCarets(): void {
    if (this.#carets.size === 0 && this.carets.get().length === 0) return;
    this.carets.set([...this.#carets.values()]);
  }

  #sendCaretIn(ms: number): void {
    const due = this.#around.now() + ms;
    if (this.#caretDue !== null && this.#caretDue <= due) return;
    this.#caretDue = due;
    this.#around.setTimeout(() => {
      if (this.#caretDue === due) this.#sendCaret();
    }, ms);
  }

  #sendCaret(): void {
    if (!this.channel.linked || this.#closed) return;
    this.#caretSent = this.#around.now();
    this.#caretDue = null;
    const { session, confirmed } = this.channel;
    const { document, anchor, focus, typing } = this.#caret ?? { document: null, anchor: 0, focus: 0, typing: false };
    const back = [...this.channel.pending].reverse().concat([...(this.channel.inFlight?.current ?? [])].reverse());
    const place = (at: number): number => (document === null ? 0 : movePositionPast(back.map(undo), document, at));
    this.#around.send({
      type: "caret",
      wavelet: this.name,
      session,
      version: confirmed.version,
      document,
      anchor: place(anchor),
      focus: place(focus),
      typing,
    });
    if (document === null) return;
    if (this.#caret !== null) this.#caret = { ...this.#caret, typing: false };
    this.#sendCaretIn(CARET_AGAIN);
  }

  readonly #documents = (id: string): Document => this.channel.local.document(id);

  #newBlip(): string {
    return `b+${this.#around.newId()}`;
  }
}

function bytesOf(value: unknown): number {
  const text = JSON.stringify(value);
  return text.length * 3 <= SUBMISSION_MAX ? text.length : new TextEncoder().encode(text).length;
}

function undo(op: Operation): Operation {
  if (!("mutateDocument" in op)) return op;
  const { documentId, operation } = op.mutateDocument;
  return { mutateDocument: { documentId, operation: invert(operation) } };
}

function addShown(
  shown: Map<string, { operation: DocOp | null; author: string }>,
  { document, operation, author }: Extract<Output, { kind: "show" }>,
): void {
  const before = shown.get(document);
  if (before === undefined) shown.set(document, { operation, author });
  else if (before.operation === null || operation === null) shown.set(document, { operation: null, author });
  else shown.set(document, { operation: compose(before.operation, operation), author });
}
