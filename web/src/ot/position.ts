/** Positions in a document, moved along with operations. */

import type { Operation } from "../wire/messages";
import { consumed, type DocOp, produced } from "./op";

/**
 * Where a position (a number of items) is after an operation. What is inserted exactly there goes before it when `after`
 * is set, and after it when not; a position inside what is deleted ends at its start.
 */
export function movePosition(operation: DocOp, position: number, after = false): number {
  let before = 0;
  let result = 0;
  for (const c of operation) {
    const takes = consumed(c);
    if (takes === 0) {
      if (before < position || (after && before === position)) result += produced(c);
      continue;
    }
    if (before >= position) break;
    const within = Math.min(takes, position - before);
    before += takes;
    if (produced(c) > 0) result += within;
  }
  return result;
}

/** A position of a document after all of these operations that change it. */
export function movePositionPast(operations: readonly Operation[], document: string, position: number): number {
  for (const op of operations) {
    if ("mutateDocument" in op && op.mutateDocument.documentId === document) {
      position = movePosition(op.mutateDocument.operation, position);
    }
  }
  return position;
}
