/**
 * ProseMirror steps → document operations.
 *
 * A step says which range of the old document became which range of the new one. The items of both are compared inside
 * that range only: what is equal at its edges is kept; the same content with other annotations or attributes is
 * annotated in place; anything else is inserted and deleted.
 */
import type { Node } from "prosemirror-model";
import { AddMarkStep, AddNodeMarkStep, AttrStep, RemoveMarkStep, RemoveNodeMarkStep, type Step } from "prosemirror-transform";
import type { OpComponent } from "../wire/messages";
import { elementItems, type Frame, lineItems } from "./codec";
import { type Item, sameAttributes } from "./items";
import { annotationsBefore, offsetAt, totalItems } from "./positions";
import { annotationsOf } from "./schema";
import { OpWriter } from "./writer";

/** A character, or an element with all its items. */
type Token = readonly Item[];

type Range = { readonly from: number; readonly oldTo: number; readonly newTo: number };

/** The operation of one step from `old` to `next`; null when it changes nothing. */
export function operationOf(step: Step, old: Node, next: Node, frame: Frame): OpComponent[] | null {
  const range = changedRange(step, old);
  if (!range) return null;
  const { from, oldTo, newTo } = widen(range, old, next);
  const before = tokens(old, from, oldTo);
  const after = tokens(next, from, newTo);
  let head = 0;
  while (head < before.length && head < after.length && sameToken(before[head]!, after[head]!)) head++;
  let tail = 0;
  while (
    tail < before.length - head && tail < after.length - head &&
    sameToken(before[before.length - 1 - tail]!, after[after.length - 1 - tail]!)
  ) tail++;
  const removed = before.slice(head, before.length - tail);
  const added = after.slice(head, after.length - tail);
  if (removed.length === 0 && added.length === 0) return null;

  const writer = new OpWriter();
  const kept = before.slice(0, head).flat();
  const start = offsetAt(old, from) + kept.length;
  const edge = frame.before.at(-1)!.annotations;
  writer.retain(frame.before.length + start, annotationsBefore(old, start, edge));
  writeDifference(writer, removed, added, start === 0);
  const rest = totalItems(old) - start - removed.flat().length + frame.after.length;
  writer.retain(rest, frame.after.at(-1)!.annotations);
  return writer.finish();
}

function writeDifference(writer: OpWriter, removed: readonly Token[], added: readonly Token[], first: boolean): void {
  const alike = removed.length === added.length && removed.every((token, i) => alikeToken(token, added[i]!));
  // The first line of a body can neither be deleted nor preceded: it is kept and made what the new first line is.
  const kept = alike ? removed.length : first && removed.length > 0 && added.length > 0 ? 1 : 0;
  for (let i = 0; i < kept; i++) removed[i]!.forEach((item, k) => writer.change(item, added[i]![k]!));
  for (const token of added.slice(kept)) for (const item of token) writer.insert(item);
  for (const token of removed.slice(kept)) for (const item of token) writer.delete(item);
}

function changedRange(step: Step, old: Node): Range | null {
  if (step instanceof AddMarkStep || step instanceof RemoveMarkStep) return { from: step.from, oldTo: step.to, newTo: step.to };
  if (step instanceof AttrStep || step instanceof AddNodeMarkStep || step instanceof RemoveNodeMarkStep) {
    const end = step.pos + (old.nodeAt(step.pos)?.isInline ? 1 : 2);
    return { from: step.pos, oldTo: end, newTo: end };
  }
  let range: Range | null = null;
  let shift = 0;
  step.getMap().forEach((oldFrom, oldTo, newFrom, newTo) => {
    range = { from: range ? Math.min(range.from, oldFrom) : Math.min(oldFrom, newFrom), oldTo, newTo };
    shift = newTo - oldTo;
  });
  if (range === null) return null;
  const found: Range = range;
  return { ...found, newTo: found.oldTo + shift };
}

/**
 * Moves the ends of a range out of the gaps between lines and out of surrogate pairs. Left of the range, and right of
 * it, both documents are the same, so one look at the old one is enough.
 */
function widen(range: Range, old: Node, next: Node): Range {
  let { from, oldTo, newTo } = range;
  if (from > 0 && old.resolve(from).depth === 0) from--;
  if (oldTo < old.content.size && old.resolve(oldTo).depth === 0) {
    oldTo++;
    newTo++;
  }
  if (splitsPair(old, from) || splitsPair(next, from)) from--;
  if (splitsPair(old, oldTo) || splitsPair(next, newTo)) {
    oldTo++;
    newTo++;
  }
  return { from, oldTo, newTo };
}

function splitsPair(doc: Node, position: number): boolean {
  const $at = doc.resolve(position);
  if ($at.textOffset === 0) return false;
  const unit = $at.parent.child($at.index()).text!.charCodeAt($at.textOffset);
  return unit >= 0xdc00 && unit <= 0xdfff;
}

/** Tokens between two positions, both in text or at the ends of the document; lines that begin inside are included. */
export function tokens(doc: Node, from: number, to: number): Token[] {
  const result: Token[] = [];
  doc.forEach((line, at) => {
    if (at + line.nodeSize <= from || at >= to) return;
    if (at >= from) result.push(lineItems(line));
    line.forEach((node, offset) => {
      const begin = at + 1 + offset;
      if (begin >= to || begin + node.nodeSize <= from) return;
      if (!node.isText) {
        result.push(elementItems(node));
        return;
      }
      const annotations = annotationsOf(node.marks);
      const text = node.text!.slice(Math.max(0, from - begin), to - begin);
      for (const char of text) result.push([{ kind: "char", char, annotations }]);
    });
  });
  return result;
}

function sameItem(a: Item, b: Item): boolean {
  return a.annotations === b.annotations && alikeItem(a, b) && (a.kind !== "start" || b.kind !== "start" || sameAttributes(a.attributes, b.attributes));
}

function alikeItem(a: Item, b: Item): boolean {
  if (a.kind === "char") return b.kind === "char" && a.char === b.char;
  if (a.kind === "start") return b.kind === "start" && a.type === b.type;
  return b.kind === "end";
}

const sameToken = (a: Token, b: Token) => a.length === b.length && a.every((item, i) => sameItem(item, b[i]!));
const alikeToken = (a: Token, b: Token) => a.length === b.length && a.every((item, i) => alikeItem(item, b[i]!));
