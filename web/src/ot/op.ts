/**
 * Document operations: arrays of components in the form the client protocol and the golden vectors have. Left to
 * right, with a cursor over the document's items.
 */

import type { ChangeMessage, ElementMessage, OpComponent, Operation } from "../wire/messages";
import { itemCount } from "./items";

export type { OpComponent, Operation } from "../wire/messages";

/** A change to one document. */
export type DocOp = readonly OpComponent[];

/** Attributes of an element: name and value pairs, sorted by name. */
export type Attributes = readonly (readonly [string, string])[];

/** A change of one attribute or annotation; null is "none". */
export type Change = Readonly<ChangeMessage>;

/** An element as an operation names it. */
export type Element = Readonly<ElementMessage>;

/** Old and new value of an annotation in an open update. */
export interface ValueUpdate {
  readonly old: string | null;
  readonly new: string | null;
}

/** Why operations were not accepted. */
export type OpErrorKind =
  /** Wrong whatever the document. */
  | "illFormed"
  /** Well-formed, but of another document than this. */
  | "doesNotFit"
  /** Two operations that cannot have started at the same state, or not follow one another. */
  | "incompatible"
  /** The other side's operation removes the author of this one. */
  | "removedAuthor";

/** An operation that could not be applied, composed or transformed; nothing has changed. */
export class OpError extends Error {
  override readonly name = "OpError";

  constructor(
    readonly kind: OpErrorKind,
    message: string,
  ) {
    super(message);
  }
}

/** Throws an {@link OpError}. */
export function fail(kind: OpErrorKind, message: string): never {
  throw new OpError(kind, message);
}

/** Items of the input document that a component passes. */
export function consumed(c: OpComponent): number {
  if ("retain" in c) return c.retain;
  if ("deleteCharacters" in c) return itemCount(c.deleteCharacters);
  if ("deleteElementStart" in c || "deleteElementEnd" in c) return 1;
  if ("replaceAttributes" in c || "updateAttributes" in c) return 1;
  return 0;
}

/** Items of the output document that a component leaves. */
export function produced(c: OpComponent): number {
  if ("retain" in c) return c.retain;
  if ("characters" in c) return itemCount(c.characters);
  if ("elementStart" in c || "elementEnd" in c) return 1;
  if ("replaceAttributes" in c || "updateAttributes" in c) return 1;
  return 0;
}

/** The length of the documents an operation fits. */
export function inputLength(op: DocOp): number {
  return op.reduce((sum, c) => sum + consumed(c), 0);
}

/** The length of the document after an operation. */
export function outputLength(op: DocOp): number {
  return op.reduce((sum, c) => sum + produced(c), 0);
}

/** Where in the document after an operation the text is that it inserts: from and to, in items. */
export function insertedRanges(op: DocOp): [number, number][] {
  const ranges: [number, number][] = [];
  let at = 0;
  for (const c of op) {
    const end = at + produced(c);
    const last = ranges[ranges.length - 1];
    if ("characters" in c && last?.[1] === at) last[1] = end;
    else if ("characters" in c) ranges.push([at, end]);
    at = end;
  }
  return ranges;
}

/** Whether an operation only retains, and so changes nothing. */
export function isIdentity(op: DocOp): boolean {
  return op.every((c) => "retain" in c);
}

/**
 * `attributes` after `updates`. A wrong old value is noticed only while an attribute of that or a later name is left to
 * compare, as in the reference; with valid operations that makes no difference.
 */
export function updateAttributes(attributes: Attributes, updates: readonly Change[]): [string, string][] {
  const result: [string, string][] = [];
  let at = 0;
  for (const update of updates) {
    for (; at < attributes.length; at++) {
      const [name, value] = attributes[at]!;
      if (update.key > name) {
        result.push([name, value]);
        continue;
      }
      if (update.key === name) {
        if (value !== update.old) fail("doesNotFit", `attribute ${name} is ${value}, not ${update.old}`);
        at++;
      } else if (update.old !== null) {
        fail("doesNotFit", `attribute ${update.key} is not set`);
      }
      break;
    }
    if (update.new !== null) result.push([update.key, update.new]);
  }
  for (; at < attributes.length; at++) result.push([attributes[at]![0], attributes[at]![1]]);
  return result;
}

/** One update that does what `first` and then `second` do. */
export function composeUpdates(first: readonly Change[], second: readonly Change[]): Change[] {
  const result: Change[] = [];
  let at = 0;
  for (const next of second) {
    while (at < first.length && first[at]!.key < next.key) result.push(first[at++]!);
    const before = first[at];
    if (before?.key === next.key) {
      if (before.new !== next.old) fail("incompatible", `attribute ${next.key} is ${before.new}, not ${next.old}`);
      result.push({ key: next.key, old: before.old, new: next.new });
      at++;
    } else {
      result.push(next);
    }
  }
  return result.concat(first.slice(at));
}

/** Changes with old and new swapped. */
export function invertChanges(changes: readonly Change[]): ChangeMessage[] {
  return changes.map((c) => ({ key: c.key, old: c.new, new: c.old }));
}

/** Whether two attribute lists are the same. */
export function sameAttributes(a: Attributes, b: Attributes): boolean {
  return a.length === b.length && a.every(([name, value], i) => b[i]![0] === name && b[i]![1] === value);
}

/** Whether two operations on a wavelet or a document are the same, component for component. */
export function sameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** The documents that operations change, in order of first mention. */
export function documentsOf(operations: readonly Operation[]): string[] {
  const ids = new Set<string>();
  for (const op of operations) if ("mutateDocument" in op) ids.add(op.mutateDocument.documentId);
  return [...ids];
}
