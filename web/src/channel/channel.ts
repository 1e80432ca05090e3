/**
 * One wavelet's channel to the server: what is confirmed, what is in flight, what is pending. A pure machine: it is told
 * things ({@link Channel.change}, `receive`, `refused`, `resumed`, `snapshot`, `opened`, `disconnected`) and asked what to
 * do ({@link Channel.poll}); it knows no sockets, clocks or pages.
 *
 * At most one submission is in flight. Once sent it never changes: it is sent again after a break with the same session,
 * sequence, version and operations, and recognised by session and sequence when it comes back. Changes made meanwhile
 * are pending, composed into one operation per document, so their number is bounded by what was written. What is more
 * than a server takes at once goes in parts, each after the answer to the one before.
 *
 * Two copies of the wavelet are kept: `confirmed`, as the server has it at `confirmed.version`, and `local`, the same
 * with the operations in flight and pending on top.
 *
 * After a break for which the server has no deltas any more there is a snapshot. An operation in flight is then sent once
 * more, unchanged, and the answer tells whether the snapshot has it already; after that what is mine is moved past the
 * difference between the two states. Text of mine that does not survive is handed back in a `draft`, never thrown away.
 */

import { compose } from "../ot/compose";
import { transformDelta } from "../ot/delta";
import { diff } from "../ot/diff";
import type { Document } from "../ot/document";
import { invert } from "../ot/invert";
import { type DocOp, fail, isIdentity, OpError, type OpComponent, type Operation, sameJson } from "../ot/op";
import { transform } from "../ot/transform";
import { WaveletCopy } from "../wave/wavelet";
import { divide } from "./parts";
import type { DeltaMessage, DocumentState, RefusalReason, WaveletState } from "../wire/messages";

/** A submission, as it was sent and as it applies now. */
export interface InFlight {
  readonly sequence: number;
  readonly version: number;
  /** As sent. */
  readonly operations: readonly Operation[];
  /** Moved to the confirmed version. */
  readonly current: readonly Operation[];
  /** How many changes of mine it completes: none when only a part of them fits. */
  readonly changes: number;
}

/** What an output asks for. */
export type Output =
  /** Send this. */
  | {
      readonly kind: "submit";
      readonly session: string;
      readonly sequence: number;
      readonly version: number;
      readonly operations: readonly Operation[];
    }
  /** A document of `local` was changed from outside by this operation; null: it is another one altogether. */
  | { readonly kind: "show"; readonly document: string; readonly operation: DocOp | null; readonly author: string }
  /** Ask for the wavelet again; with its version, if the server still has the deltas, or else for a snapshot. */
  | { readonly kind: "reopen"; readonly resume: boolean }
  /** The server cannot store now: call {@link Channel.retry} after a while. */
  | { readonly kind: "retryLater" }
  /** Text of mine that could not be merged. */
  | {
      readonly kind: "draft";
      readonly reason: RefusalReason | "conflict" | "removed";
      readonly text: string;
      readonly texts: readonly { readonly document: string; readonly text: string }[];
    }
  /** A submission of mine was confirmed, at this version. */
  | { readonly kind: "confirmed"; readonly version: number };

/** A channel as it is stored: what is unsent, with the documents it belongs to. Plain JSON. */
export interface StoredChannel {
  readonly wavelet: string;
  readonly host: string;
  readonly session: string;
  readonly address: string;
  readonly sequence: number;
  readonly version: number;
  /** Whether some documents were not as of that version. */
  readonly partial: boolean;
  readonly inFlight: InFlight | null;
  readonly pending: readonly Operation[];
  readonly pendingChanges: number;
  readonly participants: readonly string[];
  /** The documents that the operations change, as confirmed. */
  readonly documents: readonly DocumentState[];
}

/** How often a submission may be refused for not fitting before it is given up. */
const MAX_REFUSALS = 5;

type Link =
  /** Nothing can be sent. */
  | "off"
  /** The server knows where we are: submissions may be sent. */
  | "on";

/** See the module's comment. */
export class Channel {
  confirmed: WaveletCopy;
  local: WaveletCopy;
  #sequence: number;
  #inFlight: InFlight | null = null;
  #pending: Operation[] = [];
  #pendingChanges = 0;
  #link: Link = "off";
  /** A snapshot that came while the fate of what is in flight is unknown; deltas after it are applied to it. */
  #newer: WaveletCopy | null = null;
  /** Whether `confirmed` lacks documents, so that nothing may be resumed from it. */
  #partial = false;
  /** Whether what is in flight was refused for not fitting, and waits for a snapshot. */
  #unfit = false;
  #refusals = 0;
  #removed = false;
  #removedBy: string | null = null;
  /** Whether what is pending begins with what an earlier page had pending. */
  #restored = false;
  /** Whether deltas are of no use until the server has told where it is. */
  #astray = false;
  readonly #outputs: Output[] = [];

  /** A channel without changes, at a copy's version. */
  constructor(
    copy: WaveletCopy,
    readonly session: string,
    readonly address: string,
    sequence = 0,
  ) {
    this.confirmed = copy;
    this.local = copy.clone();
    this.#sequence = sequence;
  }

  /** A channel with what an earlier page left, on a copy of the wavelet of that page or of another version. */
  static restore(stored: StoredChannel, cached: WaveletCopy | null): Channel {
    const copy = cached?.clone() ?? new WaveletCopy(stored.wavelet, stored.host);
    const partial = stored.partial || (cached === null ? stored.version > 0 : cached.version !== stored.version);
    if (partial || cached === null) {
      copy.version = stored.version;
      copy.participants = stored.participants;
      const own = WaveletCopy.from({ ...copy.toState(), documents: [...stored.documents] });
      for (const id of own.documentIds()) copy.setDocument(id, own.document(id));
    }
    const channel = new Channel(copy, stored.session, stored.address, stored.sequence);
    channel.#partial = partial;
    channel.#inFlight = stored.inFlight;
    channel.#pending = [...stored.pending];
    channel.#pendingChanges = stored.pendingChanges;
    // What was pending is sent as it is: should it have been sent after all, it has this number.
    if (stored.inFlight === null) channel.#takeOff();
    else channel.#restored = stored.pending.length > 0;
    try {
      channel.#rebuildLocal();
    } catch (e) {
      if (!(e instanceof OpError)) throw e;
      channel.#giveUp("conflict", "What was stored here could not be read.");
      channel.#partial = true;
    }
    return channel;
  }

  /** What is to be stored; null when nothing is unsent. */
  toStored(): StoredChannel | null {
    if (this.#inFlight === null && this.#pending.length === 0) return null;
    const touched = new Set<string>();
    for (const op of [...(this.#inFlight?.current ?? []), ...this.#pending]) {
      if ("mutateDocument" in op) touched.add(op.mutateDocument.documentId);
    }
    return {
      wavelet: this.confirmed.name,
      host: this.confirmed.host,
      session: this.session,
      address: this.address,
      sequence: this.#sequence,
      version: this.confirmed.version,
      partial: this.#partial,
      inFlight: this.#inFlight,
      pending: this.#pending,
      pendingChanges: this.#pendingChanges,
      participants: [...this.confirmed.participants],
      documents: [...touched].map((id) => this.confirmed.documentState(id)),
    };
  }

  /** How many changes of mine are not confirmed. */
  get changes(): number {
    return (this.#inFlight?.changes ?? 0) + this.#pendingChanges;
  }

  /** The version to resume from; null when a snapshot is needed. */
  get known(): number | null {
    return this.#partial || this.#unfit || this.#newer !== null ? null : this.confirmed.version;
  }

  /** The number of the last submission: the next one of this session has the number after it, whichever channel sends it. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The submission that waits for its answer. */
  get inFlight(): InFlight | null {
    return this.#inFlight;
  }

  /** What is not sent yet. */
  get pending(): readonly Operation[] {
    return this.#pending;
  }

  /** Whether the server takes submissions from us now. */
  get linked(): boolean {
    return this.#link === "on";
  }

  /** Whether I was removed: nothing can be written any more. */
  get removed(): boolean {
    return this.#removed;
  }

  /** Who removed me, if that was seen; myself when I have left. */
  get removedBy(): string | null {
    return this.#removedBy;
  }

  /** What is to be done next; null: nothing. */
  poll(): Output | null {
    return this.#outputs.shift() ?? null;
  }

  /** A change of mine; all operations or, with an `OpError`, none. It counts as one change. */
  change(operations: readonly Operation[]): void {
    if (this.#removed) fail("removedAuthor", `${this.address} is not a participant`);
    this.local.applyAll(operations);
    for (const op of operations) this.#addPending(op);
    this.#pendingChanges = this.#pending.length === 0 ? 0 : this.#pendingChanges + 1;
    this.#send();
  }

  /** A delta of the wavelet, mine or not. */
  receive(delta: DeltaMessage): void {
    const end = delta.version + delta.operations.length;
    if (this.#astray) return;
    const mine = this.#isMine(delta);
    if (this.#newer !== null) return this.#receiveNewer(this.#newer, delta, mine);
    if (end <= this.confirmed.version) return mine ? this.#receiveOld(delta) : undefined;
    if (delta.version !== this.confirmed.version) return this.#lost(delta.version > this.confirmed.version);
    try {
      if (mine || this.#isOfEarlierSelf(delta)) this.#receiveOwn(delta);
      else this.#receiveOther(delta);
    } catch (e) {
      if (!(e instanceof OpError)) throw e;
      this.#lost(false);
    }
  }

  /** A submission was not applied. */
  refused(session: string, sequence: number, reason: RefusalReason, text: string): void {
    const flight = this.#inFlight;
    if (flight === null || session !== this.session || sequence !== flight.sequence) return;
    if (reason === "unavailable") {
      this.#outputs.push({ kind: "retryLater" });
    } else if (reason === "doesNotApply" || reason === "unknownVersion") {
      this.#refusals++;
      if (this.#refusals >= MAX_REFUSALS) this.#rollBack(flight, reason, text);
      else if (this.#newer !== null) this.#settle(this.#newer, false);
      else {
        this.#unfit = true;
        this.#lost(false);
      }
    } else {
      this.#rollBack(flight, reason, text);
    }
  }

  /** The connection is gone. */
  disconnected(): void {
    this.#link = "off";
    this.#astray = true;
  }

  /** The server has our version, and its deltas since then follow. */
  resumed(): void {
    this.#astray = false;
  }

  /** We have all that the server has: submissions may be sent. */
  opened(): void {
    if (this.#astray) return;
    this.#link = "on";
    this.#resend();
    this.#send();
  }

  /** Sends again what could not be stored. */
  retry(): void {
    this.#resend();
  }

  /** The wavelet's whole state, as the server has it. Throws an `OpError` when it makes no sense. */
  snapshot(state: WaveletState): void {
    const copy = WaveletCopy.from(state);
    this.#astray = false;
    if (this.#inFlight !== null && !this.#unfit && copy.version !== this.confirmed.version) {
      this.#newer = copy;
      this.#resend();
    } else {
      this.#settle(copy, false);
    }
  }

  /** There is no such wavelet for us any more: everything unsent becomes a draft. */
  gone(text: string): void {
    this.#giveUp("removed", text);
  }

  #isMine(delta: DeltaMessage): boolean {
    const own = delta.own;
    return own != null && own.session === this.session && own.sequence === this.#inFlight?.sequence;
  }

  /**
   * A submission that was sent after this channel was last stored (which the driver avoids): all that was pending in
   * the stored state was part of it, as pending operations only grow until they are sent.
   */
  #isOfEarlierSelf(delta: DeltaMessage): boolean {
    const own = delta.own;
    if (own == null || own.session !== this.session || own.sequence <= this.#sequence) return false;
    this.#sequence = own.sequence;
    if (this.#inFlight !== null || !this.#restored || this.#pending.length === 0) return false;
    const operations = this.#launch(own.sequence, delta.version);
    this.#noteLost(operations, delta.operations);
    return true;
  }

  #addPending(op: Operation): void {
    const pending = this.#pending;
    if ("mutateDocument" in op) {
      const { documentId, operation } = op.mutateDocument;
      const at = pending.findIndex((p) => "mutateDocument" in p && p.mutateDocument.documentId === documentId);
      const before = pending[at];
      if (before === undefined || !("mutateDocument" in before)) {
        if (!isIdentity(operation)) pending.push(op);
        return;
      }
      const composed = compose(before.mutateDocument.operation, operation);
      if (isIdentity(composed)) pending.splice(at, 1);
      else pending[at] = { mutateDocument: { documentId, operation: composed } };
      return;
    }
    const at = pending.findIndex((p) => undoes(op, p));
    if (at >= 0) pending.splice(at, 1);
    else if (!("noOp" in op)) pending.push(op);
  }

  #send(): void {
    if (this.#link !== "on" || this.#inFlight !== null || this.#newer !== null || this.#removed) return;
    if (this.#takeOff()) this.#resend();
  }

  /** What is pending becomes what is in flight. */
  #takeOff(): boolean {
    if (this.#pending.length === 0) return false;
    this.#sequence++;
    this.#launch(this.#sequence, this.confirmed.version);
    return true;
  }

  /** As much of what is pending as fits into one submission is in flight from now on. */
  #launch(sequence: number, version: number): readonly Operation[] {
    const { first, rest } = divide(this.confirmed, this.#pending);
    const changes = rest.length === 0 ? this.#pendingChanges : 0;
    this.#inFlight = { sequence, version, operations: first, current: first, changes };
    this.#pending = [...rest];
    this.#pendingChanges -= changes;
    this.#restored = false;
    return first;
  }

  #resend(): void {
    if (this.#inFlight === null || this.#link !== "on" || this.#unfit) return;
    const { sequence, version, operations } = this.#inFlight;
    this.#outputs.push({ kind: "submit", session: this.session, sequence, version, operations });
  }

  /** The copy cannot be gone on with: nothing is sent until the server has told where it is. */
  #lost(resume: boolean): void {
    this.#link = "off";
    this.#astray = true;
    if (!resume) this.#partial = true;
    this.#outputs.push({ kind: "reopen", resume: resume && this.known !== null });
  }

  #receiveOwn(delta: DeltaMessage): void {
    const flight = this.#inFlight!;
    const asExpected = sameJson(flight.current, delta.operations);
    const expected = this.confirmed.clone();
    if (!asExpected) expected.applyAll(flight.current);
    this.confirmed.applyDelta(delta);
    this.#inFlight = null;
    this.#refusals = 0;
    this.#noteRemoval(delta);
    if (asExpected) this.local.takeMeta(this.confirmed);
    else this.#moveTo(expected, this.confirmed, delta.author);
    this.local.version = this.confirmed.version;
    this.#outputs.push({ kind: "confirmed", version: this.confirmed.version });
    this.#send();
  }

  /** The answer that what is in flight is part of the confirmed state already, by an earlier page that had this number. */
  #receiveOld(delta: DeltaMessage): void {
    const current = this.#inFlight?.current ?? [];
    const expected = this.confirmed.clone();
    expected.applyAll(current);
    this.#inFlight = null;
    this.#noteLost(current, delta.operations);
    this.#moveTo(expected, this.confirmed, this.address);
    this.#outputs.push({ kind: "confirmed", version: this.confirmed.version });
    this.#send();
  }

  #receiveOther(delta: DeltaMessage): void {
    const flight = this.#inFlight;
    const mine = { author: this.address, operations: flight?.current ?? [] };
    try {
      const first = transformDelta(mine, delta.operations);
      const second = transformDelta({ author: this.address, operations: this.#pending }, first.server);
      const local = this.local.clone();
      local.applyAll(second.server);
      this.confirmed.applyDelta(delta);
      this.local = local;
      this.#noteLost([...mine.operations, ...this.#pending], [...first.client, ...second.client]);
      if (flight !== null) this.#inFlight = { ...flight, current: first.client };
      this.#setPending(second.client);
      this.#show(second.server, delta.author);
    } catch (e) {
      if (!(e instanceof OpError)) throw e;
      this.confirmed.applyDelta(delta);
      if (e.kind === "removedAuthor") this.#giveUp("removed", "You are no longer a participant.");
      else this.#giveUp("conflict", "Too much had changed around it.");
    }
    this.local.takeMeta(this.confirmed);
    this.local.version = this.confirmed.version;
    this.#noteRemoval(delta);
  }

  /** Whether I am in the wavelet after a delta, and whose doing it is if I am not. */
  #noteRemoval(delta: DeltaMessage): void {
    const { participants } = this.confirmed;
    if (participants.length === 0 && !delta.operations.some((op) => "removeParticipant" in op)) return;
    this.#removed = !participants.includes(this.address);
    if (!this.#removed) this.#removedBy = null;
    else this.#removedBy ??= delta.author;
  }

  #receiveNewer(newer: WaveletCopy, delta: DeltaMessage, mine: boolean): void {
    const end = delta.version + delta.operations.length;
    if (end > newer.version) {
      if (delta.version !== newer.version) return this.#lost(false);
      try {
        newer.applyDelta(delta);
      } catch (e) {
        if (!(e instanceof OpError)) throw e;
        return this.#lost(false);
      }
    }
    if (mine) this.#settle(newer, true);
  }

  /**
   * Takes a state of the server whose way from ours is not known, and moves what is mine onto it. `applied`: what is
   * in flight is part of it already.
   */
  #settle(copy: WaveletCopy, applied: boolean): void {
    try {
      this.#settleOn(copy, applied);
    } catch (e) {
      if (!(e instanceof OpError)) throw e;
      this.confirmed = copy;
      this.#giveUp("conflict", "Too much had changed around it.");
    }
  }

  #settleOn(copy: WaveletCopy, applied: boolean): void {
    const base = this.confirmed.clone();
    const flight = this.#inFlight;
    // At the same version the submission is not applied yet, and its answer still to come.
    const keep = !applied && !this.#unfit && flight !== null && copy.version === this.confirmed.version;
    if (flight !== null && !keep) {
      if (applied) base.applyAll(flight.current);
      else {
        const later = this.#pending;
        const changes = flight.changes + this.#pendingChanges;
        this.#pending = [];
        for (const op of [...flight.current, ...later]) this.#addPending(op);
        this.#pendingChanges = changes;
      }
      this.#inFlight = null;
    }
    this.#newer = null;
    this.#unfit = false;
    this.#partial = false;
    this.confirmed = copy;
    this.#removed = copy.participants.length > 0 && !copy.participants.includes(this.address);
    if (this.#removed && this.changes > 0) this.#giveUp("removed", "You are no longer a participant.");
    this.#moveTo(base, copy, "");
    if (applied) this.#refusals = 0;
    if (applied) this.#outputs.push({ kind: "confirmed", version: copy.version });
    if (keep) this.#resend();
    this.#send();
  }

  /** Moves what is in flight, pending and shown from one state of the confirmed copy to another. */
  #moveTo(from: WaveletCopy, to: WaveletCopy, author: string): void {
    const flight = this.#inFlight;
    const before = [...(flight?.current ?? []), ...this.#pending];
    let current: Operation[] = [...(flight?.current ?? [])];
    let pending: Operation[] = [...this.#pending];
    const shown: { id: string; operation: DocOp | null }[] = [];
    for (const id of new Set([...from.documentIds(), ...to.documentIds()])) {
      const way = diff(from.document(id), to.document(id));
      if (way === null) continue;
      try {
        const first = moveDocument(current, id, way);
        const second = moveDocument(pending, id, first.way);
        checkFits(to.document(id), id, [...first.operations, ...second.operations]);
        current = first.operations;
        pending = second.operations;
        shown.push({ id, operation: second.way });
      } catch (e) {
        if (!(e instanceof OpError)) throw e;
        current = current.filter((op) => !touches(op, id));
        pending = pending.filter((op) => !touches(op, id));
        shown.push({ id, operation: null });
      }
    }
    const people = participantsThatFit(to.participants, current, pending);
    this.#noteLost(before, [...people.current, ...people.pending]);
    if (flight !== null) this.#inFlight = { ...flight, current: people.current };
    this.#setPending(people.pending);
    const old = this.local;
    this.#rebuildLocal();
    for (const { id, operation } of shown) {
      const works = operation !== null && gives(old.document(id), operation, this.local.document(id));
      if (works && isIdentity(operation)) continue;
      this.#outputs.push({ kind: "show", document: id, operation: works ? operation : null, author });
    }
  }

  #rebuildLocal(): void {
    this.local = this.confirmed.clone();
    this.local.applyAll(this.#inFlight?.current ?? []);
    this.local.applyAll(this.#pending);
  }

  #setPending(operations: readonly Operation[]): void {
    this.#pending = operations.filter((op) => !isNothing(op));
    if (this.#pending.length === 0) this.#pendingChanges = 0;
  }

  /** Takes back what is in flight, for good. */
  #rollBack(flight: InFlight, reason: RefusalReason, text: string): void {
    const from = this.confirmed.clone();
    from.applyAll(flight.current);
    const texts = textsOf(flight.current);
    this.#inFlight = null;
    this.#unfit = false;
    this.#refusals = 0;
    const newer = this.#newer;
    this.#newer = null;
    this.#outputs.push({ kind: "draft", reason, text, texts });
    const before = this.#pending;
    try {
      const undo = flight.current.map(inverse).reverse();
      const { client, server } = transformDelta({ author: "", operations: this.#pending }, undo);
      const shown = this.local.clone();
      shown.applyAll(server);
      const check = this.confirmed.clone();
      check.applyAll(client);
      this.#noteLost(before, client);
      this.#setPending(client);
      this.local = shown;
      this.#show(server, this.address);
    } catch (e) {
      if (!(e instanceof OpError)) throw e;
      this.#noteLost(before, []);
      this.#pending = [];
      this.#pendingChanges = 0;
      this.#rebuildLocal();
      for (const id of from.documentIds()) this.#outputs.push({ kind: "show", document: id, operation: null, author: "" });
    }
    if (reason === "notParticipant") this.#removed = true;
    if (newer !== null) this.#settle(newer, false);
    this.#send();
  }

  /** Everything unsent becomes a draft; what is shown is what is confirmed. */
  #giveUp(reason: "conflict" | "removed", text: string): void {
    const unsent = [...(this.#inFlight?.current ?? []), ...this.#pending];
    const texts = textsOf(unsent);
    this.#inFlight = null;
    this.#pending = [];
    this.#pendingChanges = 0;
    this.#newer = null;
    this.#unfit = false;
    if (reason === "removed") this.#removed = true;
    if (texts.length > 0) this.#outputs.push({ kind: "draft", reason, text, texts });
    const old = this.local;
    this.#rebuildLocal();
    for (const id of new Set([...old.documentIds(), ...this.local.documentIds()])) {
      if (diff(old.document(id), this.local.document(id)) === null) continue;
      this.#outputs.push({ kind: "show", document: id, operation: null, author: "" });
    }
  }

  /** A draft of the text that is in `before` and not in `after`, if there is any. */
  #noteLost(before: readonly Operation[], after: readonly Operation[]): void {
    const kept = new Map(textsOf(after).map((t) => [t.document, t.text]));
    const texts = textsOf(before).filter((t) => t.text.trim() !== "" && !isPartOf(t.text, kept.get(t.document) ?? ""));
    if (texts.length === 0) return;
    const text = "What it belonged to was deleted or replaced in the meantime.";
    this.#outputs.push({ kind: "draft", reason: "conflict", text, texts });
  }

  /** Operations that came from outside, one output a document. */
  #show(operations: readonly Operation[], author: string): void {
    const byDocument = new Map<string, DocOp>();
    for (const op of operations) {
      if (!("mutateDocument" in op)) continue;
      const { documentId, operation } = op.mutateDocument;
      const before = byDocument.get(documentId);
      byDocument.set(documentId, before === undefined ? operation : compose(before, operation));
    }
    for (const [document, operation] of byDocument) {
      this.#outputs.push({ kind: "show", document, operation, author });
    }
  }
}

function touches(op: Operation, id: string): boolean {
  return "mutateDocument" in op && op.mutateDocument.documentId === id;
}

function isNothing(op: Operation): boolean {
  return "noOp" in op || ("mutateDocument" in op && isIdentity(op.mutateDocument.operation));
}

function undoes(op: Operation, before: Operation): boolean {
  if ("addParticipant" in op) return "removeParticipant" in before && before.removeParticipant === op.addParticipant;
  if ("removeParticipant" in op) return "addParticipant" in before && before.addParticipant === op.removeParticipant;
  return false;
}

function inverse(op: Operation): Operation {
  if ("addParticipant" in op) return { removeParticipant: op.addParticipant };
  if ("removeParticipant" in op) return { addParticipant: op.removeParticipant };
  if ("mutateDocument" in op) {
    const { documentId, operation } = op.mutateDocument;
    return { mutateDocument: { documentId, operation: invert(operation) } };
  }
  return op;
}

/** The operations on one document moved past a change of it, and the change past them. */
function moveDocument(
  operations: readonly Operation[],
  id: string,
  way: OpComponent[],
): { operations: Operation[]; way: OpComponent[] } {
  const moved = operations.map((op) => {
    if (!("mutateDocument" in op) || op.mutateDocument.documentId !== id) return op;
    const { client, server } = transform(op.mutateDocument.operation, way);
    way = server;
    return { mutateDocument: { documentId: id, operation: client } };
  });
  return { operations: moved, way };
}

function checkFits(document: Document, id: string, operations: readonly Operation[]): void {
  for (const op of operations) if ("mutateDocument" in op && touches(op, id)) document = document.apply(op.mutateDocument.operation);
}

/** Leaves out what adds who is there and removes who is not. */
function participantsThatFit(
  participants: readonly string[],
  current: readonly Operation[],
  pending: readonly Operation[],
): { current: Operation[]; pending: Operation[] } {
  const present = new Set(participants);
  const fits = (op: Operation): boolean => {
    if ("addParticipant" in op) return !present.has(op.addParticipant) && present.add(op.addParticipant) !== null;
    if ("removeParticipant" in op) return present.delete(op.removeParticipant);
    return true;
  };
  return { current: current.map((op) => (fits(op) ? op : { noOp: true })), pending: pending.filter(fits) };
}

function gives(before: Document, operation: DocOp, after: Document): boolean {
  try {
    return diff(before.apply(operation), after) === null;
  } catch (e) {
    if (e instanceof OpError) return false;
    throw e;
  }
}

/** Whether all of a text is in another, in order, perhaps with more in between. */
function isPartOf(text: string, whole: string): boolean {
  let at = 0;
  for (const character of text) {
    at = whole.indexOf(character, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

/** The text that operations insert, by document. */
function textsOf(operations: readonly Operation[]): { document: string; text: string }[] {
  const texts = new Map<string, string>();
  for (const op of operations) {
    if (!("mutateDocument" in op)) continue;
    const { documentId, operation } = op.mutateDocument;
    const text = insertedText(operation);
    if (text !== "") texts.set(documentId, (texts.get(documentId) ?? "") + text);
  }
  return [...texts].map(([document, text]) => ({ document, text }));
}

function insertedText(operation: DocOp): string {
  let text = "";
  for (const c of operation) {
    if ("characters" in c) text += c.characters;
    else if ("elementStart" in c && c.elementStart.type === "line" && text !== "") text += "\n";
  }
  return text;
}
