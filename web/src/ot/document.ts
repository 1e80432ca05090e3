/**
 * Documents: a sequence of items (a character, an element's start, an element's end), each with annotations. A
 * document never changes: {@link Document.apply} makes a new one, or throws and nothing has happened.
 */

import type { ChangeMessage, OpComponent } from "../wire/messages";
import { compareKeys, itemsOf } from "./items";
import { OpWriter } from "./normalize";
import { type Attributes, type DocOp, fail, sameAttributes, updateAttributes, type ValueUpdate } from "./op";
import { checkWellFormed } from "./wellformed";

/** The start of an element. */
export interface ElementStart {
  readonly type: string;
  readonly attributes: Attributes;
}

/** The end of an element, as an item. */
export const ELEMENT_END = Symbol("element end");

/** One item of a document; a string is one character (one code point). */
export type Item = string | ElementStart | typeof ELEMENT_END;

/** The annotations of an item. Items with the same annotations mostly share one object. */
export type Annotations = ReadonlyMap<string, string>;

const NONE: Annotations = new Map();

/** A stretch of a document: text with the same annotations, or one element start or end. */
export type Segment =
  | { readonly kind: "text"; readonly at: number; readonly text: string; readonly annotations: Annotations }
  | { readonly kind: "start"; readonly at: number; readonly element: ElementStart; readonly annotations: Annotations }
  | { readonly kind: "end"; readonly at: number; readonly annotations: Annotations };

/** A document. */
export class Document {
  /** The document without items. */
  static readonly empty = new Document([], []);

  readonly #items: readonly Item[];
  readonly #annotations: readonly Annotations[];

  private constructor(items: readonly Item[], annotations: readonly Annotations[]) {
    this.#items = items;
    this.#annotations = annotations;
  }

  /** The document that an operation of insertions makes. */
  static from(content: DocOp): Document {
    return Document.empty.apply(content);
  }

  /** The number of items. */
  get length(): number {
    return this.#items.length;
  }

  /** The item at a position. */
  item(at: number): Item | undefined {
    return this.#items[at];
  }

  /** The annotations of the item at a position; none outside the document. */
  annotations(at: number): Annotations {
    return this.#annotations[at] ?? NONE;
  }

  /** The document after an operation. Throws an `OpError` when the operation is ill-formed or does not fit. */
  apply(op: DocOp): Document {
    checkWellFormed(op);
    const edit = new Edit(this.#items, this.#annotations);
    for (const c of op) edit.component(c);
    return new Document(...edit.finish());
  }

  /** All characters, elements left out. */
  text(): string {
    return this.#items.filter((item) => typeof item === "string").join("");
  }

  /** The document from left to right, from one position to another. */
  *segments(from = 0, to = this.length): Generator<Segment> {
    let at = from;
    while (at < to) {
      const item = this.#items[at]!;
      const annotations = this.#annotations[at]!;
      if (item === ELEMENT_END) {
        yield { kind: "end", at, annotations };
        at++;
      } else if (typeof item === "object") {
        yield { kind: "start", at, element: item, annotations };
        at++;
      } else {
        const start = at;
        while (at < to && typeof this.#items[at] === "string" && sameAnnotations(annotations, this.#annotations[at]!)) {
          at++;
        }
        yield { kind: "text", at: start, text: this.#items.slice(start, at).join(""), annotations };
      }
    }
  }

  /** The operation that makes this document out of the empty one; one form only for each document. */
  toOp(): OpComponent[] {
    const writer = new OpWriter();
    let before = NONE;
    for (const segment of this.segments()) {
      writeBoundary(writer, before, segment.annotations);
      before = segment.annotations;
      if (segment.kind === "text") writer.characters(segment.text);
      else if (segment.kind === "start") writer.elementStart(elementMessage(segment.element));
      else writer.push({ elementEnd: true });
    }
    writeBoundary(writer, before, NONE);
    return writer.finish();
  }

  /** The position just after the end that closes the element that starts at `at`. */
  elementEnd(at: number): number {
    let depth = 0;
    for (let i = at; i < this.length; i++) {
      const item = this.#items[i];
      if (item === ELEMENT_END) depth--;
      else if (typeof item === "object") depth++;
      if (depth === 0) return i + 1;
    }
    return this.length;
  }

  /**
   * The operation that deletes the items from `from` to `to`, whole elements only, with the annotation changes that a
   * deletion must bring. As other clients do, it names also the annotations that stay the same.
   */
  deletion(from: number, to: number): OpComponent[] {
    const writer = new OpWriter();
    writer.retain(from);
    this.writeDeletion(writer, from, to);
    writer.retain(this.length - to);
    return writer.finish();
  }

  /** As {@link deletion}, without the retains around. */
  writeDeletion(writer: OpWriter, from: number, to: number): void {
    const left = this.annotations(from - 1);
    const open = new Set<string>();
    for (const segment of this.segments(from, to)) {
      const change = changesBetween(segment.annotations, left);
      const keys = new Set(change.map((c) => c.key));
      writer.boundary(
        [...open].filter((key) => !keys.has(key)),
        change,
      );
      for (const key of open) if (!keys.has(key)) open.delete(key);
      for (const key of keys) open.add(key);
      if (segment.kind === "text") writer.deleteCharacters(segment.text);
      else if (segment.kind === "start") writer.push({ deleteElementStart: elementMessage(segment.element) });
      else writer.push({ deleteElementEnd: true });
    }
    writer.boundary([...open], []);
  }
}

/** An element in the mutable form that messages have. */
export function elementMessage(element: ElementStart): { type: string; attributes: [string, string][] } {
  return { type: element.type, attributes: element.attributes.map(([name, value]) => [name, value]) };
}

/** The value of an attribute, or null. */
export function attribute(element: ElementStart, name: string): string | null {
  return element.attributes.find(([key]) => key === name)?.[1] ?? null;
}

/** Whether two items' annotations are the same. */
export function sameAnnotations(a: Annotations, b: Annotations): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}

/** The changes that bring `from` to `to`, sorted by key. */
function differing(from: Annotations, to: Annotations): ChangeMessage[] {
  return from === to ? [] : changesBetween(from, to).filter((c) => c.old !== c.new);
}

/** For each key of either, the change that brings `from` to `to`, sorted by key. */
function changesBetween(from: Annotations, to: Annotations): ChangeMessage[] {
  const keys = [...new Set([...from.keys(), ...to.keys()])].sort(compareKeys);
  return keys.map((key) => ({ key, old: from.get(key) ?? null, new: to.get(key) ?? null }));
}

function writeBoundary(writer: OpWriter, before: Annotations, after: Annotations): void {
  const changes = differing(before, after);
  writer.boundary(
    changes.filter((c) => c.new === null).map((c) => c.key),
    changes.filter((c) => c.new !== null).map((c) => ({ key: c.key, old: null, new: c.new })),
  );
}

/** An operation half-way through a document. */
class Edit {
  readonly #items: readonly Item[];
  readonly #annotations: readonly Annotations[];
  readonly #newItems: Item[] = [];
  readonly #newAnnotations: Annotations[] = [];
  readonly #update = new Map<string, ValueUpdate>();
  #at = 0;
  /** The annotations of the last item written: what a deletion must leave behind. */
  #last = NONE;
  /** The last annotations that the update was applied to, and what came out; cleared with each boundary. */
  #memo: [Annotations, Annotations] | null = null;

  constructor(items: readonly Item[], annotations: readonly Annotations[]) {
    this.#items = items;
    this.#annotations = annotations;
  }

  component(c: OpComponent): void {
    if ("retain" in c) this.#retain(c.retain);
    else if ("characters" in c) for (const item of itemsOf(c.characters)) this.#insert(item);
    else if ("elementStart" in c) this.#insert(c.elementStart);
    else if ("elementEnd" in c) this.#insert(ELEMENT_END);
    else if ("deleteCharacters" in c) for (const item of itemsOf(c.deleteCharacters)) this.#deleteCharacter(item);
    else if ("deleteElementStart" in c) this.#deleteStart(c.deleteElementStart);
    else if ("deleteElementEnd" in c) this.#deleteEnd();
    else if ("replaceAttributes" in c) this.#replace(c.replaceAttributes.old, c.replaceAttributes.new);
    else if ("updateAttributes" in c) this.#updateAttributes(c.updateAttributes);
    else {
      for (const key of c.annotationBoundary.end) this.#update.delete(key);
      for (const change of c.annotationBoundary.change) this.#update.set(change.key, change);
      this.#memo = null;
    }
  }

  finish(): [Item[], Annotations[]] {
    if (this.#at !== this.#items.length) fail("doesNotFit", `the document is longer by ${this.#items.length - this.#at}`);
    return [this.#newItems, this.#newAnnotations];
  }

  #retain(items: number): void {
    const end = this.#at + items;
    if (end > this.#items.length) fail("doesNotFit", `the document is shorter by ${end - this.#items.length}`);
    for (; this.#at < end; this.#at++) this.#write(this.#items[this.#at]!, this.#annotations[this.#at]!);
  }

  #insert(item: Item): void {
    this.#write(item, this.#annotations[this.#at - 1] ?? NONE);
  }

  /** Writes an item whose annotations are `before` with the update on top. */
  #write(item: Item, before: Annotations): void {
    this.#last = this.#updated(before);
    this.#newItems.push(item);
    this.#newAnnotations.push(this.#last);
  }

  #updated(before: Annotations): Annotations {
    if (this.#update.size === 0) return before;
    if (this.#memo?.[0] === before) return this.#memo[1];
    const after = new Map(before);
    for (const [key, { old, new: value }] of this.#update) {
      if ((before.get(key) ?? null) !== old) this.#wrongAnnotation(key, old);
      if (value === null) after.delete(key);
      else after.set(key, value);
    }
    // Small documents make the same few sets of annotations over and over; unchanged ones stay shared.
    const result = after.size === 0 ? NONE : sameAnnotations(before, after) ? before : after;
    this.#memo = [before, result];
    return result;
  }

  #next(): Item {
    return this.#items[this.#at] ?? fail("doesNotFit", "the document is shorter");
  }

  #deleteCharacter(item: string): void {
    if (this.#next() !== item) fail("doesNotFit", `position ${this.#at} does not have the character to delete`);
    this.#delete();
  }

  #deleteStart(element: ElementStart): void {
    const item = this.#next();
    if (typeof item !== "object") fail("doesNotFit", `position ${this.#at} does not have an element to delete`);
    if (item.type !== element.type || !sameAttributes(item.attributes, element.attributes)) {
      fail("doesNotFit", `position ${this.#at} has another element`);
    }
    this.#delete();
  }

  #deleteEnd(): void {
    if (this.#next() !== ELEMENT_END) fail("doesNotFit", `position ${this.#at} does not have an element's end`);
    this.#delete();
  }

  #delete(): void {
    const before = this.#annotations[this.#at]!;
    for (const [key, { old, new: value }] of this.#update) {
      if ((before.get(key) ?? null) !== old) this.#wrongAnnotation(key, old);
      if ((this.#last.get(key) ?? null) !== value) fail("doesNotFit", `a deletion leaves the wrong value of ${key}`);
    }
    if (before !== this.#last) {
      for (const { key } of differing(before, this.#last)) {
        if (!this.#update.has(key)) fail("doesNotFit", `a deletion does not change annotation ${key}`);
      }
    }
    this.#at++;
  }

  #replace(old: Attributes, value: Attributes): void {
    const element = this.#element();
    if (!sameAttributes(element.attributes, old)) fail("doesNotFit", `position ${this.#at} has other attributes`);
    this.#write({ type: element.type, attributes: value }, this.#annotations[this.#at++]!);
  }

  #updateAttributes(updates: readonly { key: string; old: string | null; new: string | null }[]): void {
    const element = this.#element();
    for (const { key, old } of updates) {
      if (attribute(element, key) !== old) fail("doesNotFit", `attribute ${key} at position ${this.#at} is another`);
    }
    const attributes = updateAttributes(element.attributes, updates);
    this.#write({ type: element.type, attributes }, this.#annotations[this.#at++]!);
  }

  #element(): ElementStart {
    const item = this.#next();
    if (typeof item !== "object") fail("doesNotFit", `position ${this.#at} is not an element`);
    return item;
  }

  #wrongAnnotation(key: string, old: string | null): never {
    fail("doesNotFit", `annotation ${key} at position ${this.#at} is not ${old}`);
  }
}
