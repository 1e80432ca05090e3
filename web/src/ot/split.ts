/**
 * One operation as two that follow one another, so that the first is small enough to be sent: `first` then `second`
 * does what the operation does.
 *
 * The cut is made where the budget ends: between components, or inside a run of characters. Elements that are inserted
 * but not closed there are closed by the first and gone into by the second; a deleted element is not cut, except where
 * the operation deletes one stretch of the document and nothing else: then a part of what is inside goes first.
 */

import type { OpComponent } from "../wire/messages";
import { compose, cut } from "./compose";
import type { Document } from "./document";
import { unitOffset } from "./items";
import { normalize, OpWriter } from "./normalize";
import { consumed, type DocOp, OpError, produced, sameJson, type ValueUpdate } from "./op";

/** What a component takes beside its text, at most. */
const FRAME = 16;

/** Two operations that together do what `op` does to `document`, the first within the budget; null where there are none. */
export function split(document: Document, op: DocOp, budget: number): [OpComponent[], OpComponent[]] | null {
  for (const way of [splitAnywhere, splitDeletion]) {
    try {
      const parts = way(document, op, budget);
      if (parts !== null && isSplit(document, op, parts)) return parts;
    } catch (e) {
      // Not this way, then: the operation goes whole.
      if (!(e instanceof OpError)) throw e;
    }
  }
  return null;
}

/** About how many bytes an operation takes when it is sent; rather too many than too few. */
export function sizeOf(op: DocOp): number {
  return op.reduce((sum, c) => sum + componentSize(c), 0);
}

/** Bytes of a text in UTF-8. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Two halves of a pair are 4 bytes together.
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 2 : 3;
  }
  return bytes;
}

function componentSize(c: OpComponent): number {
  if ("retain" in c || "elementEnd" in c || "deleteElementEnd" in c) return FRAME;
  if ("characters" in c) return FRAME + utf8Length(c.characters);
  if ("deleteCharacters" in c) return FRAME + utf8Length(c.deleteCharacters);
  return FRAME + utf8Length(JSON.stringify(c));
}

/** How many items of a text take so many bytes at most. */
function itemsWithin(text: string, bytes: number): number {
  let items = 0;
  for (const character of text) {
    bytes -= utf8Length(character);
    if (bytes < 0) break;
    items++;
  }
  return items;
}

type Updates = ReadonlyMap<string, ValueUpdate>;

function splitAnywhere(_document: Document, op: DocOp, budget: number): [OpComponent[], OpComponent[]] | null {
  const parts = divide(op, budget);
  if (parts === null) return null;
  const [head, tail] = parts;
  const first = new OpWriter();
  const second = new OpWriter();
  const open = new Map<string, ValueUpdate>();
  let depth = 0;
  for (const c of head) {
    first.push(c);
    second.retain(produced(c));
    note(open, c);
    if ("elementStart" in c) depth++;
    else if ("elementEnd" in c) depth--;
  }
  first.boundary([...open.keys()], []);
  for (let n = 0; n < depth; n++) first.push({ elementEnd: true });
  for (const c of tail) first.retain(consumed(c));
  writeTail(second, tail, open, depth);
  return [first.finish(), second.finish()];
}

/** The components before the cut and those after it; null when nothing but what stays would be before it. */
function divide(op: DocOp, budget: number): [OpComponent[], OpComponent[]] | null {
  let left = budget;
  let deleting = 0;
  let safe = 0;
  let at = 0;
  for (; at < op.length; at++) {
    const c = op[at]!;
    if (deleting === 0) safe = at;
    if (componentSize(c) > left) break;
    left -= componentSize(c);
    if ("deleteElementStart" in c) deleting++;
    else if ("deleteElementEnd" in c) deleting--;
  }
  const c = op[at];
  if (c === undefined) return null;
  let head = op.slice(0, safe);
  let tail = op.slice(safe);
  const text = "characters" in c ? c.characters : "deleteCharacters" in c ? c.deleteCharacters : "";
  const items = safe === at ? itemsWithin(text, left - FRAME) : 0;
  if (items > 0 && unitOffset(text, items) < text.length) {
    const [before, after] = cut(c, items);
    head = [...head, before];
    tail = after === null ? tail.slice(1) : [after, ...tail.slice(1)];
  }
  // What a boundary begins or ends is of what comes after it.
  for (let last = head.at(-1); last !== undefined && "annotationBoundary" in last; last = head.at(-1)) {
    tail = [head.pop()!, ...tail];
  }
  return head.every((c) => "retain" in c || "annotationBoundary" in c) ? null : [head, tail];
}

function note(open: Map<string, ValueUpdate>, c: OpComponent): void {
  if (!("annotationBoundary" in c)) return;
  for (const key of c.annotationBoundary.end) open.delete(key);
  for (const change of c.annotationBoundary.change) open.set(change.key, change);
}

/** Writes what is after the cut, for a document in which what is before it is done; `closed` elements are there already. */
function writeTail(writer: OpWriter, tail: DocOp, before: Updates, closed: number): void {
  const open = new Map(before);
  let asked: Updates = new Map();
  let depth = 0;
  let atCut = true;
  for (const c of tail) {
    if ("annotationBoundary" in c) {
      note(open, c);
      continue;
    }
    const there = "elementEnd" in c && depth === 0 && closed > 0;
    if (there) closed--;
    else if ("elementStart" in c) depth++;
    else if ("elementEnd" in c) depth--;
    if (there || consumed(c) > 0) atCut = false;
    const wanted = atCut ? besideCut(before, open) : new Map(open);
    writer.boundary([...asked.keys()].filter((key) => !wanted.has(key)), [...wanted].map(([key, update]) => ({ key, ...pick(update) })));
    asked = wanted;
    writer.push(there ? { retain: 1 } : c);
  }
  writer.boundary([...asked.keys()], []);
}

function pick({ old, new: value }: ValueUpdate): ValueUpdate {
  return { old, new: value };
}

/**
 * What is inserted takes its annotations from the item on its left. At the cut that was an item of the document before
 * the whole operation; now it is one that the first part has changed.
 */
function besideCut(before: Updates, open: Updates): Updates {
  const wanted = new Map<string, ValueUpdate>();
  for (const key of new Set([...before.keys(), ...open.keys()])) {
    const was = before.get(key);
    const is = open.get(key);
    const old = was === undefined ? is!.old : was.new;
    const value = is === undefined ? was!.old : is.new;
    if (is !== undefined || old !== value) wanted.set(key, { old, new: value });
  }
  return wanted;
}

/** An operation that only deletes, at one place: some of what is there, and then the rest. */
function splitDeletion(document: Document, op: DocOp, budget: number): [OpComponent[], OpComponent[]] | null {
  const changing = op.filter((c) => !("annotationBoundary" in c));
  const begin = changing.findIndex((c) => !("retain" in c));
  const after = changing.slice(begin);
  const end = after.findIndex((c) => "retain" in c);
  const deletions = end < 0 ? after : after.slice(0, end);
  const lead = changing.slice(0, begin).reduce((sum, c) => sum + consumed(c), 0);
  const length = deletions.reduce((sum, c) => sum + consumed(c), 0);
  const isOne = end < 0 || after.slice(end).every((c) => "retain" in c);
  if (begin < 0 || !isOne || deletions.some((c) => consumed(c) === 0 || produced(c) > 0)) return null;
  const part = innerPart(document, lead, lead + length, budget / 2);
  if (part === null) return null;
  const first = document.deletion(part.from, part.to);
  const rest = document.apply(first);
  return [first, rest.deletion(lead, lead + length - (part.to - part.from))];
}

/** As much as the budget allows of a stretch of whole elements; of what is in an element when that alone is too large. */
function innerPart(document: Document, from: number, to: number, budget: number): { from: number; to: number } | null {
  while (from < to) {
    let at = from;
    for (let left = budget; at < to; ) {
      const end = typeof document.item(at) === "object" ? document.elementEnd(at) : at + 1;
      for (let i = at; i < end; i++) left -= itemSize(document, i);
      if (left < 0) break;
      at = end;
    }
    if (at > from) return { from, to: at };
    to = document.elementEnd(from) - 1;
    from++;
    // A body's first line stays as long as the body does.
    const item = document.item(from);
    if (typeof item === "object" && item.type === "line") from = document.elementEnd(from);
  }
  return null;
}

function itemSize(document: Document, at: number): number {
  const item = document.item(at);
  const text = typeof item === "string" ? utf8Length(item) : FRAME + (typeof item === "object" ? utf8Length(JSON.stringify(item)) : 0);
  const annotations = document.annotations(at);
  return annotations === document.annotations(at - 1) ? text : text + 2 * utf8Length(JSON.stringify([...annotations])) + FRAME;
}

/** Whether the two parts do what the operation does. */
function isSplit(document: Document, op: DocOp, [first, second]: [OpComponent[], OpComponent[]]): boolean {
  // Mostly they come together again to the letter, which is seen without the document.
  if (sameJson(compose(first, second), normalize(op))) return true;
  return sameJson(document.apply(first).apply(second).toOp(), document.apply(op).toOp());
}
