/** The operation between two documents of which nothing else is known: for when the operations in between are lost. */

import { type Annotations, Document, ELEMENT_END, elementMessage, type Item, sameAnnotations } from "./document";
import { compareKeys } from "./items";
import { OpWriter } from "./normalize";
import { type OpComponent, sameAttributes } from "./op";

/**
 * An operation that makes `to` of `from`: what both have at their start and end is kept, the middle is replaced. Null
 * when they are equal.
 */
export function diff(from: Document, to: Document): OpComponent[] | null {
  if (from === to) return null;
  const shorter = Math.min(from.length, to.length);
  let start = 0;
  while (start < shorter && sameAt(from, start, to, start)) start++;
  if (start === from.length && start === to.length) return null;
  let kept = 0;
  while (kept < shorter - start && sameAt(from, from.length - 1 - kept, to, to.length - 1 - kept)) kept++;
  [start, kept] = widen(from, to, start, kept);
  return replacement(from, to, start, kept);
}

function sameAt(a: Document, i: number, b: Document, j: number): boolean {
  return sameItem(a.item(i), b.item(j)) && sameAnnotations(a.annotations(i), b.annotations(j));
}

function sameItem(a: Item | undefined, b: Item | undefined): boolean {
  if (typeof a !== "object" || typeof b !== "object") return a === b;
  return a.type === b.type && sameAttributes(a.attributes, b.attributes);
}

/** How a stretch of items nests: the lowest depth inside it and the depth at its end, from 0 at its start. */
interface Nesting {
  lowest: number;
  end: number;
}

function nesting(document: Document, from: number, to: number): Nesting {
  const result = { lowest: 0, end: 0 };
  for (let at = from; at < to; at++) extendRight(result, step(document.item(at)));
  return result;
}

function step(item: Item | undefined): number {
  return item === ELEMENT_END ? -1 : typeof item === "object" ? 1 : 0;
}

function extendRight(n: Nesting, by: number): void {
  n.end += by;
  n.lowest = Math.min(n.lowest, n.end);
}

function extendLeft(n: Nesting, by: number): void {
  n.end += by;
  n.lowest = Math.min(0, n.lowest + by);
}

/** Makes the two middles larger until each is whole elements and text. */
function widen(from: Document, to: Document, start: number, kept: number): [number, number] {
  const both = [nesting(from, start, from.length - kept), nesting(to, start, to.length - kept)];
  for (;;) {
    if (both.some((n) => n.lowest < 0) && start > 0) {
      start--;
      for (const n of both) extendLeft(n, step(from.item(start)));
    } else if (both.some((n) => n.end !== 0) && kept > 0) {
      for (const n of both) extendRight(n, step(from.item(from.length - kept)));
      kept--;
    } else {
      return [start, kept];
    }
  }
}

function replacement(from: Document, to: Document, start: number, kept: number): OpComponent[] {
  const writer = new OpWriter();
  writer.retain(start);
  const end = from.length - kept;
  from.writeDeletion(writer, start, end);
  const inherited = from.annotations(end - 1);
  const open = new Set<string>();
  for (const segment of to.segments(start, to.length - kept)) {
    annotate(writer, open, inherited, segment.annotations);
    if (segment.kind === "text") writer.characters(segment.text);
    else if (segment.kind === "start") writer.elementStart(elementMessage(segment.element));
    else writer.push({ elementEnd: true });
  }
  writer.boundary([...open], []);
  writer.retain(kept);
  return writer.finish();
}

function annotate(writer: OpWriter, open: Set<string>, inherited: Annotations, wanted: Annotations): void {
  const keys = [...new Set([...inherited.keys(), ...wanted.keys()])].sort(compareKeys);
  const change = keys
    .map((key) => ({ key, old: inherited.get(key) ?? null, new: wanted.get(key) ?? null }))
    .filter((c) => c.old !== c.new);
  const changed = new Set(change.map((c) => c.key));
  const end = [...open].filter((key) => !changed.has(key));
  writer.boundary(end, change);
  for (const key of end) open.delete(key);
  for (const key of changed) open.add(key);
}
