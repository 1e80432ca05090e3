/**
 * Positions in a ProseMirror document ⇄ item offsets in the body's content. The only place that knows that the browser
 * counts UTF-16 code units and operations count scalar values.
 */
import type { Node } from "prosemirror-model";
import { annotationsOf } from "./schema";
import { elementItems, lineItems } from "./codec";
import type { Annotations } from "./items";

const sizes = new WeakMap<Node, number>();

/** Scalar values in a text. */
export function scalars(text: string): number {
  let count = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0xd800 || unit > 0xdbff) continue;
    const next = text.charCodeAt(i + 1);
    if (next >= 0xdc00 && next <= 0xdfff) {
      count--;
      i++;
    }
  }
  return count;
}

/** UTF-16 code units of the first `count` scalar values of a text. */
export function units(text: string, count: number): number {
  let at = 0;
  for (let left = count; left > 0 && at < text.length; left--) at += text.codePointAt(at)! > 0xffff ? 2 : 1;
  return at;
}

/** Items of a line (its own two included), or of an inline node. */
export function itemSize(node: Node): number {
  let size = sizes.get(node);
  if (size !== undefined) return size;
  if (node.isText) size = scalars(node.text!);
  else if (node.type.name === "line") {
    size = 2;
    node.forEach((child) => (size! += itemSize(child)));
  } else size = elementItems(node).length;
  sizes.set(node, size);
  return size;
}

/** Items of the body's content. */
export function totalItems(doc: Node): number {
  let total = 0;
  doc.forEach((line) => (total += itemSize(line)));
  return total;
}

/** The item offset of a position. Between two lines it is that before the second one's items. */
export function offsetAt(doc: Node, position: number): number {
  let offset = 0;
  let at = 0;
  for (let i = 0; i < doc.childCount; i++) {
    const line = doc.child(i);
    if (position <= at) return offset;
    if (position < at + line.nodeSize) return offset + 2 + inlineOffset(line, position - at - 1);
    offset += itemSize(line);
    at += line.nodeSize;
  }
  return offset;
}

function inlineOffset(line: Node, position: number): number {
  let offset = 0;
  let at = 0;
  for (let i = 0; i < line.childCount; i++) {
    const node = line.child(i);
    if (position <= at) break;
    if (node.isText && position < at + node.nodeSize) return offset + scalars(node.text!.slice(0, position - at));
    offset += itemSize(node);
    at += node.nodeSize;
  }
  return offset;
}

/**
 * What lies at an item offset. `text`: a place in a line's text, `position` says where. `line`: inside the items of the
 * line at `position` (`inside` 0 = before the first line, 1 = between start and end). `element`: inside the inline
 * element at `position`, `inside` items after its start.
 */
export type Place = { readonly kind: "text" | "line" | "element"; readonly position: number; readonly inside: number };

/** The place of an offset; just before a line's items it is the end of the line before. Null when out of range. */
export function placeAt(doc: Node, offset: number): Place | null {
  let at = 0;
  let left = offset;
  if (left < 0) return null;
  for (let i = 0; i < doc.childCount; i++) {
    const line = doc.child(i);
    const size = itemSize(line);
    if (left === 0 && i === 0) return { kind: "line", position: at, inside: 0 };
    if (left === 1) return { kind: "line", position: at, inside: 1 };
    if (left <= size) return inlinePlace(line, at + 1, left - 2);
    left -= size;
    at += line.nodeSize;
  }
  return null;
}

function inlinePlace(line: Node, start: number, offset: number): Place {
  let at = start;
  let left = offset;
  for (let i = 0; i < line.childCount && left > 0; i++) {
    const node = line.child(i);
    const size = itemSize(node);
    if (left < size) {
      return node.isText
        ? { kind: "text", position: at + units(node.text!, left), inside: 0 }
        : { kind: "element", position: at, inside: left };
    }
    left -= size;
    at += node.nodeSize;
  }
  return { kind: "text", position: at, inside: 0 };
}

/** The nearest text position to an offset: for carets. */
export function positionNear(doc: Node, offset: number): number {
  const place = placeAt(doc, Math.min(Math.max(offset, 2), totalItems(doc)));
  if (!place) return 1;
  return place.kind === "line" ? place.position + 1 : place.position;
}

/** Annotations of the item that ends at `offset`; at 0 those of the item before the body's content. */
export function annotationsBefore(doc: Node, offset: number, before: Annotations): Annotations {
  if (offset === 0) return before;
  let left = offset;
  for (let i = 0; i < doc.childCount; i++) {
    const line = doc.child(i);
    const size = itemSize(line);
    if (left > size) {
      left -= size;
      continue;
    }
    if (left <= 2) return lineItems(line)[left - 1]!.annotations;
    left -= 2;
    for (let k = 0; k < line.childCount; k++) {
      const node = line.child(k);
      const inline = itemSize(node);
      if (left <= inline) return node.isText ? annotationsOf(node.marks) : elementItems(node)[left - 1]!.annotations;
      left -= inline;
    }
  }
  throw new Error(`no item ends at offset ${offset}`);
}
