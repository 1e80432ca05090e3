/** One operation that does what two do one after the other. */

import type { OpComponent } from "../wire/messages";
import { itemCount, splitItems } from "./items";
import { OpWriter } from "./normalize";
import {
  type Change,
  composeUpdates,
  consumed,
  type DocOp,
  fail,
  invertChanges,
  produced,
  updateAttributes,
  type ValueUpdate,
} from "./op";
import { checkStructure } from "./wellformed";

/** `a` and then `b`, as one operation in normal form. */
export function compose(a: DocOp, b: DocOp): OpComponent[] {
  return new Composer().run(a, b);
}

/** Folds operations that follow one another into one. */
export function composeAll(ops: readonly DocOp[]): OpComponent[] {
  const [first, ...rest] = ops;
  if (first === undefined) return [];
  return rest.reduce<OpComponent[]>((sum, op) => compose(sum, op), [...first]);
}

interface Boundary {
  readonly end: readonly string[];
  readonly change: readonly Change[];
}

/** The update one of the two operations has open, and the boundaries of it that are not written yet. */
class Annotations {
  readonly open = new Map<string, ValueUpdate>();
  queue: Boundary[] = [];
}

class Composer {
  readonly #out = new OpWriter();
  readonly #first = new Annotations();
  readonly #second = new Annotations();

  run(a: DocOp, b: DocOp): OpComponent[] {
    let left: OpComponent | null = null;
    let right: OpComponent | null = null;
    let next = 0;
    for (const component of a) {
      left = component;
      while (left !== null) {
        if (isDeletion(left)) {
          this.#flush(this.#first);
          this.#out.push(left);
          break;
        }
        if ("annotationBoundary" in left) {
          this.#first.queue.push(left.annotationBoundary);
          break;
        }
        if (right === null) {
          if (next >= b.length) fail("incompatible", "the second operation is too short for the first");
          right = this.#alone(b[next++]!);
          continue;
        }
        [left, right] = this.#pair(left, right);
      }
    }
    // A rest of `b`'s last retain or deletion goes unnoticed, as in the reference.
    for (; next < b.length; next++) {
      if (this.#alone(b[next]!) !== null) fail("incompatible", "the second operation is too long for the first");
    }
    this.#flush(this.#first);
    this.#flush(this.#second);
    const result = this.#out.finish();
    checkStructure(result);
    return result;
  }

  /** Writes what of `b` does not need anything of `a`; hands the rest back. */
  #alone(c: OpComponent): OpComponent | null {
    if ("annotationBoundary" in c) {
      this.#second.queue.push(c.annotationBoundary);
      return null;
    }
    if (!isInsertion(c)) return c;
    this.#flush(this.#second);
    this.#out.push(c);
    return null;
  }

  /** Meets the output of `a` with the input of `b`, and hands back what of either is left. */
  #pair(left: OpComponent, right: OpComponent): [OpComponent | null, OpComponent | null] {
    const items = Math.min(produced(left), consumed(right));
    const [l, leftRest] = cut(left, items);
    const [r, rightRest] = cut(right, items);
    const result = combine(l, r);
    this.#flush(this.#first);
    this.#flush(this.#second);
    if (result !== null) this.#out.push(result);
    return [leftRest, rightRest];
  }

  #flush(side: Annotations): void {
    if (side.queue.length === 0) return;
    const isFirst = side === this.#first;
    const other = (isFirst ? this.#second : this.#first).open;
    for (const boundary of side.queue) {
      const end: string[] = [];
      const change: Change[] = [];
      for (const key of boundary.end) {
        side.open.delete(key);
        const open = other.get(key);
        if (open === undefined) end.push(key);
        else change.push({ key, old: open.old, new: open.new });
      }
      for (const c of boundary.change) {
        side.open.set(c.key, c);
        const open = other.get(c.key);
        if (open === undefined) change.push(c);
        else if (isFirst) change.push({ key: c.key, old: c.old, new: open.new });
        else change.push({ key: c.key, old: open.old, new: c.new });
      }
      this.#out.boundary(end, change);
    }
    side.queue = [];
  }
}

function isInsertion(c: OpComponent): boolean {
  return "characters" in c || "elementStart" in c || "elementEnd" in c;
}

function isDeletion(c: OpComponent): boolean {
  return "deleteCharacters" in c || "deleteElementStart" in c || "deleteElementEnd" in c;
}

/** A component cut after so many items; the rest is null when there is none. */
export function cut(c: OpComponent, items: number): [OpComponent, OpComponent | null] {
  if ("retain" in c) {
    return c.retain <= items ? [c, null] : [{ retain: items }, { retain: c.retain - items }];
  }
  if ("characters" in c) {
    if (itemCount(c.characters) <= items) return [c, null];
    const [head, tail] = splitItems(c.characters, items);
    return [{ characters: head }, { characters: tail }];
  }
  if ("deleteCharacters" in c) {
    if (itemCount(c.deleteCharacters) <= items) return [c, null];
    const [head, tail] = splitItems(c.deleteCharacters, items);
    return [{ deleteCharacters: head }, { deleteCharacters: tail }];
  }
  return [c, null];
}

/** What one component of `a` and one of `b` on the same items come to; null is nothing. */
function combine(a: OpComponent, b: OpComponent): OpComponent | null {
  if ("retain" in b) return a;
  if ("retain" in a) return b;
  if ("characters" in a && "deleteCharacters" in b) return null;
  if ("elementEnd" in a && "deleteElementEnd" in b) return null;
  if ("elementStart" in a) {
    const { type, attributes } = a.elementStart;
    if ("deleteElementStart" in b) return null;
    if ("replaceAttributes" in b) return { elementStart: { type, attributes: b.replaceAttributes.new } };
    if ("updateAttributes" in b) {
      return { elementStart: { type, attributes: updateAttributes(attributes, b.updateAttributes) } };
    }
  }
  if ("replaceAttributes" in a) {
    const { old, new: value } = a.replaceAttributes;
    if ("deleteElementStart" in b) return { deleteElementStart: { type: b.deleteElementStart.type, attributes: old } };
    if ("replaceAttributes" in b) return { replaceAttributes: { old, new: b.replaceAttributes.new } };
    if ("updateAttributes" in b) {
      return { replaceAttributes: { old, new: updateAttributes(value, b.updateAttributes) } };
    }
  }
  if ("updateAttributes" in a) {
    const undo = invertChanges(a.updateAttributes);
    if ("deleteElementStart" in b) {
      const { type, attributes } = b.deleteElementStart;
      return { deleteElementStart: { type, attributes: updateAttributes(attributes, undo) } };
    }
    if ("replaceAttributes" in b) {
      const { old, new: value } = b.replaceAttributes;
      return { replaceAttributes: { old: updateAttributes(old, undo), new: value } };
    }
    if ("updateAttributes" in b) return { updateAttributes: composeUpdates(a.updateAttributes, b.updateAttributes) };
  }
  return fail("incompatible", "the second operation is not of the first one's result");
}
