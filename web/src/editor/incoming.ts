/**
 * Document operations → ProseMirror transactions.
 *
 * The operation is walked left to right; left of the cursor the transaction's document is the operation's output, right
 * of it still its input. Only small steps are made, so that selections, carets and what the browser is composing
 * elsewhere stay where they are. What the editor cannot follow (changes outside the body's content, inside an
 * element it does not know, foreign structure) is told by `null`; the caller then takes the whole document anew.
 */
import { Slice } from "prosemirror-model";
import type { Transaction } from "prosemirror-state";
import { ReplaceStep } from "prosemirror-transform";
import type { OpComponent } from "../wire/messages";
import { elementNode, type Frame, lineAttrs, lineItems } from "./codec";
import { type Annotations, type AnnotationUpdate, crossBoundary, type Item, type Pair, updateAnnotations } from "./items";
import { annotationsBefore, itemSize, placeAt, units } from "./positions";
import { annotationsOf, LINE_ATTRIBUTES, marksOf, schema } from "./schema";

class CannotFollow extends Error {}

/** Adds the operation's changes to the transaction; null when it cannot (the transaction is then of no use). */
export function follow(tr: Transaction, operation: readonly OpComponent[], frame: Frame): Transaction | null {
  try {
    const walker = new Walker(tr, frame);
    for (const component of operation) walker.step(component);
    return tr;
  } catch (error) {
    if (error instanceof CannotFollow) return null;
    throw error;
  }
}

class Walker {
  /** Offset into the output, from the start of the body's content; negative in the frame before. */
  private offset: number;
  private update: AnnotationUpdate = new Map();
  /** Annotations of the input item left of the cursor. */
  private inputLeft: Annotations = "";
  /** Items of an element being inserted, until it is complete. */
  private inserting: Item[] = [];
  private insertDepth = 0;
  private deleteDepth = 0;
  /** Items left of the element that is being deleted. */
  private deletedLeft = 0;
  private readonly edge: Annotations;

  constructor(private readonly tr: Transaction, frame: Frame) {
    this.offset = -frame.before.length;
    this.edge = frame.before.at(-1)!.annotations;
  }

  step(component: OpComponent): void {
    if ("annotationBoundary" in component) this.update = crossBoundary(this.update, component.annotationBoundary);
    else if ("retain" in component) this.retain(component.retain);
    else if ("characters" in component) this.insertText(component.characters);
    else if ("elementStart" in component) {
      const { type, attributes } = component.elementStart;
      this.insertItem({ kind: "start", type, attributes, annotations: this.inherited() });
    } else if ("elementEnd" in component) this.insertItem({ kind: "end", annotations: this.inherited() });
    else if ("deleteCharacters" in component) this.deleteText(component.deleteCharacters);
    else if ("deleteElementStart" in component) this.deleteStart(component.deleteElementStart.type);
    else if ("deleteElementEnd" in component) this.deleteEnd();
    else if ("updateAttributes" in component) {
      const changes = new Map(component.updateAttributes.map((c) => [c.key, c.new] as const));
      this.attributes((old) => {
        const next = new Map(old);
        for (const [name, value] of changes) value === null ? next.delete(name) : next.set(name, value);
        return [...next];
      });
    } else this.attributes(() => component.replaceAttributes.new);
  }

  private inherited(): Annotations {
    return updateAnnotations(this.inputLeft, this.update);
  }

  private retain(count: number): void {
    const end = this.offset + count;
    if (end > 0) {
      const last = this.annotationsBefore(end);
      if (this.update.size > 0) this.annotate(Math.max(this.offset, 0), end);
      this.inputLeft = last;
    }
    if (this.offset < 0 && this.update.size > 0) throw new CannotFollow();
    if (end === 0) this.inputLeft = this.edge;
    this.offset = end;
  }

  private annotationsBefore(offset: number): Annotations {
    let items = 0;
    this.tr.doc.forEach((line) => (items += itemSize(line)));
    if (offset <= items) return annotationsBefore(this.tr.doc, offset, this.edge);
    // In the frame after the body's content nothing may change, so what it inherits does not matter.
    if (this.update.size > 0) throw new CannotFollow();
    return "";
  }

  private textPosition(): number {
    const place = placeAt(this.tr.doc, this.offset);
    if (!place || place.kind !== "text") throw new CannotFollow();
    return place.position;
  }

  private insertText(text: string): void {
    const annotations = this.inherited();
    if (this.insertDepth > 0) {
      for (const char of text) this.inserting.push({ kind: "char", char, annotations });
      return;
    }
    const position = this.textPosition();
    this.tr.insert(position, schema.text(text, marksOf(annotations)));
    for (const _ of text) this.offset++;
  }

  private insertItem(item: Item): void {
    this.inserting.push(item);
    this.insertDepth += item.kind === "start" ? 1 : -1;
    if (this.insertDepth > 0) return;
    const items = this.inserting;
    this.inserting = [];
    const position = this.textPosition();
    const first = items[0]!;
    if (first.kind === "start" && first.type === "line" && items.length === 2) {
      const attrs = lineAttrs(first.attributes, first.annotations, item.annotations);
      this.tr.split(position, 1, [{ type: schema.nodes["line"]!, attrs: { ...NO_LINE, ...attrs } }]);
    } else {
      this.tr.insert(position, elementNode(items));
    }
    this.offset += items.length;
  }

  private deleteText(text: string): void {
    if (this.deleteDepth > 0) {
      this.deletedLeft -= [...text].length;
      return;
    }
    const from = this.textPosition();
    let count = 0;
    for (const _ of text) count++;
    this.inputLeft = this.annotationsBefore(this.offset + count);
    const $from = this.tr.doc.resolve(from);
    if ($from.parent.textBetween($from.parentOffset, Math.min($from.parentOffset + text.length, $from.parent.content.size)) !== text) {
      throw new CannotFollow();
    }
    this.tr.delete(from, from + units(text, count));
  }

  private deleteStart(type: string): void {
    this.deleteDepth++;
    if (this.deleteDepth > 1) {
      this.deletedLeft--;
      return;
    }
    const position = this.textPosition();
    const $at = this.tr.doc.resolve(position);
    const node = $at.nodeAfter;
    if (type === "line" && !node && position + 2 <= this.tr.doc.content.size) {
      const line = this.tr.doc.nodeAt(position + 1)!;
      this.inputLeft = lineItems(line)[1].annotations;
      this.tr.step(new ReplaceStep(position, position + 2, Slice.empty));
      this.deletedLeft = 1;
      return;
    }
    if (!node || node.isText) throw new CannotFollow();
    const size = itemSize(node);
    this.inputLeft = this.annotationsBefore(this.offset + size);
    this.tr.delete(position, position + 1);
    this.deletedLeft = size - 1;
  }

  private deleteEnd(): void {
    this.deleteDepth--;
    this.deletedLeft--;
    if (this.deleteDepth < 0 || (this.deleteDepth === 0 && this.deletedLeft !== 0)) throw new CannotFollow();
  }

  private attributes(change: (old: readonly Pair[]) => readonly Pair[]): void {
    const { node, position, start } = this.nodeAt(this.offset);
    if (!start) throw new CannotFollow();
    const last = this.annotationsBefore(this.offset + 1);
    if (node.type.name === "line") {
      const items = lineItems(node);
      const attrs = lineAttrs(change((items[0] as Item & { kind: "start" }).attributes), items[0].annotations, items[1].annotations);
      for (const name of [...LINE_ATTRIBUTES, "more"]) {
        const value = attrs[name] ?? null;
        if (node.attrs[name] !== value) this.tr.setNodeAttribute(position, name, value);
      }
    } else if (node.type.name === "unknown") {
      const old = node.attrs["attributes"] === "" ? [] : (JSON.parse(node.attrs["attributes"]) as Pair[]);
      const next = change(old);
      this.tr.setNodeAttribute(position, "attributes", next.length > 0 ? JSON.stringify(next) : "");
    } else {
      throw new CannotFollow();
    }
    if (this.update.size > 0) this.annotate(this.offset, this.offset + 1);
    this.inputLeft = last;
    this.offset++;
  }

  /** The line or inline element whose items include the one at `offset`. */
  private nodeAt(offset: number) {
    const doc = this.tr.doc;
    const place = placeAt(doc, offset);
    if (!place) throw new CannotFollow();
    let position = place.position;
    if (place.kind === "text" && !doc.resolve(position).nodeAfter) position++;
    const node = doc.nodeAt(position);
    if (!node || node.isText) throw new CannotFollow();
    return { node, position, start: place.inside === 0 };
  }

  /** Applies the open changes to the items from `from` to `to`. */
  private annotate(from: number, to: number): void {
    const lines: { from: number; at: number; size: number }[] = [];
    let offset = 0;
    this.tr.doc.forEach((line, at) => {
      const size = itemSize(line);
      if (offset < to && offset + size > from) lines.push({ from: offset, at, size });
      offset += size;
    });
    if (to > offset) throw new CannotFollow();
    for (const line of lines) this.annotateLine(line.at, from - line.from, to - line.from);
  }

  private annotateLine(at: number, from: number, to: number): void {
    const line = this.tr.doc.nodeAt(at)!;
    const [start, end] = lineItems(line).map((item, i) =>
      from <= i && i < to ? updateAnnotations(item.annotations, this.update) : item.annotations,
    ) as [Annotations, Annotations];
    if (start !== line.attrs["annotations"]) this.tr.setNodeAttribute(at, "annotations", start);
    const endAnnotations = end === start ? null : end;
    if (endAnnotations !== line.attrs["endAnnotations"]) this.tr.setNodeAttribute(at, "endAnnotations", endAnnotations);
    let offset = 2;
    let position = at + 1;
    line.forEach((node) => {
      const size = itemSize(node);
      const begin = Math.max(from, offset) - offset;
      const stop = Math.min(to, offset + size) - offset;
      if (begin < stop) {
        if (!node.isText && (begin > 0 || stop < size || size > 2 || node.attrs["endAnnotations"])) throw new CannotFollow();
        const first = node.isText ? position + units(node.text!, begin) : position;
        const last = node.isText ? position + units(node.text!, stop) : position + 1;
        const next = marksOf(updateAnnotations(annotationsOf(node.marks), this.update));
        for (const mark of node.marks) if (!mark.isInSet(next)) this.tr.removeMark(first, last, mark);
        for (const mark of next) if (!mark.isInSet(node.marks)) this.tr.addMark(first, last, mark);
      }
      offset += size;
      position += node.nodeSize;
    });
  }
}

const NO_LINE = { t: null, i: null, a: null, d: null, listyle: null };
