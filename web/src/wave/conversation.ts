/**
 * The conversation of a wavelet: the document `conversation` (the manifest) read as threads and blips, and the operations
 * that append, reply and delete. The operations are those that other clients make for the same action.
 */

import { attribute, type Document, ELEMENT_END } from "../ot/document";
import { OpWriter } from "../ot/normalize";
import type { OpComponent, Operation } from "../ot/op";

/** The document that holds the manifest. */
export const MANIFEST = "conversation";

/** A blip as the manifest has it. */
export interface Blip {
  readonly id: string;
  /** Reply threads, in order; inline ones too. */
  readonly threads: readonly Thread[];
  /** Where its element starts in the manifest. */
  readonly at: number;
  /** Just after its element. */
  readonly end: number;
}

/** A thread. */
export interface Thread {
  /** Null: the root thread. */
  readonly id: string | null;
  /** Anchored inside the text of the blip above; where, says the element `reply` with this id in that blip's document. */
  readonly inline: boolean;
  readonly blips: readonly Blip[];
  /** Where its element starts in the manifest. */
  readonly at: number;
  /** Just after its element. */
  readonly end: number;
}

/** A manifest, read. */
export interface Conversation {
  readonly root: Thread;
  /** All blips by id; of several with one id the first. */
  readonly blips: ReadonlyMap<string, Blip>;
  /** All threads but the root by id; of several with one id the first. */
  readonly threads: ReadonlyMap<string, Thread>;
  /** The blip a thread hangs on, by thread id. */
  readonly parents: ReadonlyMap<string, string>;
}

/** The documents of a wavelet, as they are read here. */
export type Documents = (id: string) => Document;

interface Open {
  readonly type: string;
  readonly id: string | null;
  readonly inline: boolean;
  readonly at: number;
  readonly blips: Blip[];
  readonly threads: Thread[];
}

/** Reads a manifest. What is not a conversation, blip or thread at its place is passed over. */
export function readConversation(manifest: Document): Conversation {
  const blips = new Map<string, Blip>();
  const threads = new Map<string, Thread>();
  const parents = new Map<string, string>();
  const open: Open[] = [];
  let root: Thread = { id: null, inline: false, blips: [], at: 0, end: manifest.length };
  let found = false;
  for (const segment of manifest.segments()) {
    if (segment.kind === "start") {
      const { element, at } = segment;
      const inline = attribute(element, "inline") === "true";
      open.push({ type: element.type, id: attribute(element, "id"), inline, at, blips: [], threads: [] });
    } else if (segment.kind === "end") {
      const closed = open.pop();
      if (closed === undefined) continue;
      const above = open[open.length - 1];
      const end = segment.at + 1;
      if (closed.type === "conversation" && above === undefined && !found) {
        found = true;
        root = { id: null, inline: false, blips: closed.blips, at: closed.at, end };
      } else if (closed.type === "blip" && closed.id !== null && (above?.type === "conversation" || above?.type === "thread")) {
        above.blips.push({ id: closed.id, threads: closed.threads, at: closed.at, end });
      } else if (closed.type === "thread" && closed.id !== null && above?.type === "blip") {
        above.threads.push({ id: closed.id, inline: closed.inline, blips: closed.blips, at: closed.at, end });
      }
    }
  }
  // In the order of the manifest, without recursion: a foreign server nests as deep as it likes.
  const ahead: Blip[] = [...root.blips].reverse();
  for (let blip = ahead.pop(); blip !== undefined; blip = ahead.pop()) {
    if (!blips.has(blip.id)) blips.set(blip.id, blip);
    for (const below of [...blip.threads].reverse()) {
      if (below.id !== null) parents.set(below.id, parents.get(below.id) ?? blip.id);
      for (let i = below.blips.length - 1; i >= 0; i--) ahead.push(below.blips[i]!);
    }
    for (const below of blip.threads) if (below.id !== null && !threads.has(below.id)) threads.set(below.id, below);
  }
  return { root, blips, threads, parents };
}

function mutate(documentId: string, operation: OpComponent[]): Operation {
  return { mutateDocument: { documentId, operation } };
}

/** The first content of a blip: one empty line, or one line of text. */
export function emptyBlip(text = ""): OpComponent[] {
  const writer = new OpWriter();
  writer.elementStart({ type: "body", attributes: [] });
  writer.elementStart({ type: "line", attributes: [] });
  writer.push({ elementEnd: true });
  writer.characters(text);
  writer.push({ elementEnd: true });
  return writer.finish();
}

/** A new conversation without blips. */
export function emptyManifest(): OpComponent[] {
  return [{ elementStart: { type: "conversation", attributes: [] } }, { elementEnd: true }];
}

/** Inserts an empty element with an id into a document. */
function insertElement(document: Document, at: number, type: string, attributes: [string, string][]): OpComponent[] {
  const writer = new OpWriter();
  writer.retain(at);
  writer.elementStart({ type, attributes });
  writer.push({ elementEnd: true });
  writer.retain(document.length - at);
  return writer.finish();
}

/** Operations by which a sequence of actions is made, each on the result of those before. */
class Plan {
  readonly operations: Operation[] = [];
  readonly #documents = new Map<string, Document>();
  readonly #read: Documents;

  constructor(documents: Documents) {
    this.#read = documents;
  }

  document(id: string): Document {
    return this.#documents.get(id) ?? this.#read(id);
  }

  conversation(): Conversation {
    return readConversation(this.document(MANIFEST));
  }

  change(id: string, operation: OpComponent[]): void {
    this.#documents.set(id, this.document(id).apply(operation));
    this.operations.push(mutate(id, operation));
  }
}

/** Appends a blip to a thread (null: the root thread): first its document, then its entry. */
export function appendBlip(documents: Documents, thread: string | null, id: string): Operation[] {
  const plan = new Plan(documents);
  append(plan, thread, id);
  return plan.operations;
}

function append(plan: Plan, thread: string | null, id: string): void {
  if (plan.document(MANIFEST).length === 0) plan.change(MANIFEST, emptyManifest());
  const { root, threads } = plan.conversation();
  const into = thread === null ? root : threads.get(thread);
  if (into === undefined) throw new Error(`there is no thread ${thread}`);
  plan.change(id, emptyBlip());
  plan.change(MANIFEST, insertElement(plan.document(MANIFEST), into.end - 1, "blip", [["id", id]]));
}

/** Begins a reply thread as the last below a blip, with its first blip. */
export function replyTo(documents: Documents, blip: string, id: string): Operation[] {
  const plan = new Plan(documents);
  const parent = plan.conversation().blips.get(blip);
  if (parent === undefined) throw new Error(`there is no blip ${blip}`);
  plan.change(MANIFEST, insertElement(plan.document(MANIFEST), parent.end - 1, "thread", [["id", id]]));
  append(plan, id, id);
  return plan.operations;
}

/** Begins an inline reply thread at a place in a blip's text, with its first blip. */
export function replyInlineTo(documents: Documents, blip: string, at: number, id: string): Operation[] {
  const plan = new Plan(documents);
  const parent = plan.conversation().blips.get(blip);
  if (parent === undefined) throw new Error(`there is no blip ${blip}`);
  plan.change(blip, insertElement(plan.document(blip), at, "reply", [["id", id]]));
  const attributes: [string, string][] = [
    ["id", id],
    ["inline", "true"],
  ];
  plan.change(MANIFEST, insertElement(plan.document(MANIFEST), parent.end - 1, "thread", attributes));
  append(plan, id, id);
  return plan.operations;
}

/** Deletes a blip: its reply threads, its entry, its content, and its thread with the anchors when that is left empty. */
export function deleteBlip(documents: Documents, blip: string): Operation[] {
  const plan = new Plan(documents);
  removeBlip(plan, blip);
  return plan.operations;
}

function removeBlip(plan: Plan, id: string): void {
  for (;;) {
    const thread = plan.conversation().blips.get(id)?.threads[0];
    if (thread === undefined) break;
    removeThread(plan, thread);
  }
  const { blips, root } = plan.conversation();
  const blip = blips.get(id);
  if (blip === undefined) return;
  const inside = threadOf(root, id);
  const manifest = plan.document(MANIFEST);
  plan.change(MANIFEST, manifest.deletion(blip.at, blip.end));
  const content = plan.document(id);
  if (content.length > 0) plan.change(id, content.deletion(0, content.length));
  if (inside === null || inside.id === null || inside.blips.length > 1) return;
  const emptied = plan.conversation().threads.get(inside.id);
  if (emptied !== undefined && emptied.blips.length === 0) removeThread(plan, emptied);
}

/** Removes a thread with its blips; the last blip's removal takes the thread itself and its anchors along. */
function removeThread(plan: Plan, thread: Thread): void {
  const first = thread.blips[0];
  if (first !== undefined) {
    for (const blip of [...thread.blips].reverse()) removeBlip(plan, blip.id);
    return;
  }
  const parent = thread.id === null ? undefined : plan.conversation().parents.get(thread.id);
  const manifest = plan.document(MANIFEST);
  plan.change(MANIFEST, manifest.deletion(thread.at, thread.end));
  if (parent === undefined || !thread.inline) return;
  for (;;) {
    const document = plan.document(parent);
    const at = anchorOf(document, thread.id ?? "");
    if (at === null) return;
    plan.change(parent, document.deletion(at, document.elementEnd(at)));
  }
}

function threadOf(root: Thread, id: string): Thread | null {
  const ahead = [root];
  for (let thread = ahead.pop(); thread !== undefined; thread = ahead.pop()) {
    if (thread.blips.some((blip) => blip.id === id)) return thread;
    for (const blip of [...thread.blips].reverse()) ahead.push(...[...blip.threads].reverse());
  }
  return null;
}

/** Where in a blip's document the first anchor of a thread is; null when there is none. */
export function anchorOf(document: Document, thread: string): number | null {
  for (const segment of document.segments()) {
    if (segment.kind !== "start" || segment.element.type !== "reply") continue;
    if (attribute(segment.element, "id") === thread) return segment.at;
  }
  return null;
}

/** The first line of a blip's text, or what `conv/title` says the title is. */
export function titleOf(document: Document): string {
  let covered = "";
  for (const segment of document.segments()) {
    const title = segment.annotations.get("conv/title");
    if (title === undefined) {
      if (covered !== "") break;
      continue;
    }
    if (title !== "") return title;
    if (segment.kind === "text") covered += segment.text;
  }
  return covered.trim() || (linesOf(document).find((line) => line.trim() !== "") ?? "").trim();
}

/** The start of a blip's text, on one line. */
export function snippetOf(document: Document, length = 120): string {
  const text = linesOf(document).join(" ").replace(/\s+/g, " ").trim();
  return [...text].slice(0, length).join("");
}

/** The text of a blip, one string a line. */
export function linesOf(document: Document): string[] {
  const lines: string[] = [];
  for (let at = 0; at < document.length; at++) {
    const item = document.item(at);
    if (typeof item === "string") {
      if (lines.length === 0) lines.push("");
      lines[lines.length - 1] += item;
    } else if (item !== ELEMENT_END && item?.type === "line") {
      lines.push("");
    }
  }
  return lines;
}
