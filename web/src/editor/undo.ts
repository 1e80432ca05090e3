/**
 * Undo of my own changes only.
 *
 * Each stack holds inverse operations; the top fits the document as it is, each one below fits what the one above it
 * leaves. What others do is carried down through both stacks, so that an inverse never touches their words. Changes made
 * within half a second at one place are one entry.
 */
import { compose } from "../ot/compose";
import { invert } from "../ot/invert";
import { transform } from "../ot/transform";
import type { OpComponent } from "../wire/messages";

type Op = readonly OpComponent[];

const LIMIT = 200;
const GROUP_MS = 500;

export class UndoStack {
  private undos: Op[] = [];
  private redos: Op[] = [];
  /** Until when, and from where, the next change still belongs to the top entry. */
  private group: { readonly until: number; readonly at: number } | null = null;

  get canUndo(): boolean {
    return this.undos.length > 0;
  }

  get canRedo(): boolean {
    return this.redos.length > 0;
  }

  /** My own change was applied; `at` is its offset in the document. */
  record(op: Op, at: number, now: number): void {
    const inverse = invert(op);
    const top = this.undos.at(-1);
    const joins = this.group !== null && now < this.group.until && Math.abs(at - this.group.at) <= 2;
    if (joins && top) this.undos[this.undos.length - 1] = compose(inverse, top);
    else this.undos.push(inverse);
    if (this.undos.length > LIMIT) this.undos.shift();
    this.redos = [];
    this.group = { until: now + GROUP_MS, at };
  }

  /** Ends the group: the next change is an entry of its own. */
  close(): void {
    this.group = null;
  }

  /** Somebody else's change was applied. */
  pass(op: Op): void {
    this.undos = carried(this.undos, op);
    this.redos = carried(this.redos, op);
  }

  /** The operation that undoes my last change; the caller applies it at once. */
  undo(): Op | null {
    const op = this.undos.pop();
    if (!op) return null;
    this.redos.push(invert(op));
    this.group = null;
    return op;
  }

  /** The operation that does again what was undone last; the caller applies it at once. */
  redo(): Op | null {
    const op = this.redos.pop();
    if (!op) return null;
    this.undos.push(invert(op));
    this.group = null;
    return op;
  }

  /** Forgets everything: the document was taken anew. */
  clear(): void {
    this.undos = [];
    this.redos = [];
    this.group = null;
  }
}

/** A stack after somebody's change; entries that no longer do anything are dropped. */
function carried(stack: readonly Op[], op: Op): Op[] {
  const result: Op[] = [];
  let server = op;
  for (let i = stack.length - 1; i >= 0; i--) {
    const pair = transform(stack[i]!, server);
    server = pair.server;
    if (!isIdle(pair.client)) result.unshift(pair.client);
  }
  return result;
}

/** Whether an operation leaves every document as it is. */
export function isIdle(op: Op): boolean {
  return op.every(
    (c) => "retain" in c || ("annotationBoundary" in c && c.annotationBoundary.change.every((change) => change.old === change.new)),
  );
}

/** The offset at which an operation first does something, and up to where in its output it does. */
export function extent(op: Op): { readonly from: number; readonly to: number } {
  let offset = 0;
  let from = -1;
  let to = 0;
  let annotating = false;
  for (const c of op) {
    if ("annotationBoundary" in c) {
      annotating = c.annotationBoundary.change.length > 0 || (annotating && c.annotationBoundary.end.length === 0);
      continue;
    }
    const length = "retain" in c ? c.retain : "characters" in c ? [...c.characters].length : isDeletion(c) ? 0 : 1;
    if (!("retain" in c) || annotating) {
      if (from < 0) from = offset;
      to = offset + length;
    }
    offset += length;
  }
  return { from: Math.max(from, 0), to: Math.max(to, 0) };
}

const isDeletion = (c: OpComponent) => "deleteCharacters" in c || "deleteElementStart" in c || "deleteElementEnd" in c;
