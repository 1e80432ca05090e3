/** Random documents and operations, from any source of choices. */

import { Document, ELEMENT_END, elementMessage } from "../../src/ot/document";
import { normalize, OpWriter } from "../../src/ot/normalize";
import type { OpComponent } from "../../src/ot/op";
import { composeAll } from "../../src/ot/compose";

/** A choice from 0 to n - 1. */
export type Pick = (n: number) => number;

const TEXTS = ["a", "b", "ab", "xyz", "é", "日本", "😀", "a😀b", " "];
const TYPES = ["p", "q", "line"];
const NAMES = ["a", "b", "__proto__", "constructor"];
const KEYS = ["k", "style/fontWeight", "__proto__", "constructor", "toString", "ﬀ", "𐐀"];
const VALUES = ["", "1", "2", "😀"];

/** A pseudo-random source of choices (mulberry32). */
export function seeded(seed: number): Pick {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
  };
}

function one<T>(pick: Pick, from: readonly T[]): T {
  return from[pick(from.length)]!;
}

/** A document made by a few operations. */
export function randomDocument(pick: Pick, steps = 8): Document {
  let document = Document.empty;
  for (let i = 0; i < steps; i++) document = document.apply(randomStep(pick, document));
  return document;
}

/** An operation on a document, of several things at once; in normal form or not. */
export function randomOp(pick: Pick, document: Document, steps = 1 + pick(4)): OpComponent[] {
  const ops: OpComponent[][] = [];
  for (let i = 0; i < steps; i++) {
    const op = randomStep(pick, document);
    document = document.apply(op);
    ops.push(op);
  }
  const op = composeAll(ops);
  return pick(3) === 0 ? splitRetains(op) : op;
}

function splitRetains(op: OpComponent[]): OpComponent[] {
  return op.flatMap((c): OpComponent[] => ("retain" in c && c.retain > 1 ? [{ retain: 1 }, { retain: c.retain - 1 }] : [c]));
}

/** One change of a document. */
export function randomStep(pick: Pick, document: Document): OpComponent[] {
  switch (pick(6)) {
    case 0:
    case 1:
      return insertion(pick, document);
    case 2:
      return deletion(pick, document);
    case 3:
    case 4:
      return annotation(pick, document);
    default:
      return attributes(pick, document);
  }
}

function insertion(pick: Pick, document: Document): OpComponent[] {
  const at = pick(document.length + 1);
  const left = document.annotations(at - 1);
  const writer = new OpWriter();
  writer.retain(at);
  const annotated = pick(3) === 0;
  const key = one(pick, KEYS);
  if (annotated) writer.boundary([], [{ key, old: left.get(key) ?? null, new: pick(3) === 0 ? null : one(pick, VALUES) }]);
  if (pick(3) > 0) {
    writer.characters(one(pick, TEXTS));
  } else {
    writer.elementStart({ type: one(pick, TYPES), attributes: pick(2) === 0 ? [] : [[one(pick, NAMES), one(pick, VALUES)]] });
    if (pick(2) === 0) writer.characters(one(pick, TEXTS));
    writer.push({ elementEnd: true });
  }
  if (annotated) writer.boundary([key], []);
  writer.retain(document.length - at);
  return writer.finish();
}

function deletion(pick: Pick, document: Document): OpComponent[] {
  if (document.length === 0) return insertion(pick, document);
  let from = pick(document.length);
  while (document.item(from) === ELEMENT_END) from--;
  let to = from;
  for (let n = 1 + pick(3); n > 0 && to < document.length && document.item(to) !== ELEMENT_END; n--) {
    to = typeof document.item(to) === "object" ? document.elementEnd(to) : to + 1;
  }
  return document.deletion(from, to);
}

function annotation(pick: Pick, document: Document): OpComponent[] {
  if (document.length === 0) return [];
  const from = pick(document.length);
  const to = from + 1 + pick(document.length - from);
  const key = one(pick, KEYS);
  const value = pick(4) === 0 ? null : one(pick, VALUES);
  const op: OpComponent[] = from > 0 ? [{ retain: from }] : [];
  for (let at = from; at < to; at++) {
    const old = document.annotations(at).get(key) ?? null;
    op.push({ annotationBoundary: { end: [], change: [{ key, old, new: value }] } }, { retain: 1 });
  }
  op.push({ annotationBoundary: { end: [key], change: [] } });
  if (to < document.length) op.push({ retain: document.length - to });
  return pick(2) === 0 ? op : normalize(op);
}

function attributes(pick: Pick, document: Document): OpComponent[] {
  const starts: number[] = [];
  for (const segment of document.segments()) if (segment.kind === "start") starts.push(segment.at);
  if (starts.length === 0) return insertion(pick, document);
  const at = one(pick, starts);
  const item = document.item(at);
  if (typeof item !== "object") return [];
  const old = elementMessage(item).attributes;
  const key = one(pick, NAMES);
  const value = pick(3) === 0 ? null : one(pick, VALUES);
  const change: OpComponent =
    pick(2) === 0
      ? { replaceAttributes: { old, new: value === null ? [] : [[key, value]] } }
      : { updateAttributes: [{ key, old: old.find(([name]) => name === key)?.[1] ?? null, new: value }] };
  const op: OpComponent[] = at > 0 ? [{ retain: at }, change] : [change];
  if (at + 1 < document.length) op.push({ retain: document.length - at - 1 });
  return op;
}
