/** What of my unsent changes goes into the next submission: as much as servers take in one delta. */

import type { Document } from "../ot/document";
import { type Operation, OpError } from "../ot/op";
import { sizeOf, split } from "../ot/split";
import type { WaveletCopy } from "../wave/wavelet";

/** Servers take deltas of 64 KiB; a transformation may make one longer, and it carries names and hashes. */
const PART_BYTES = 48_000;
/** Servers take 1000 operations. */
const PART_OPERATIONS = 500;
/** Where less than this is left, an operation waits for the next part rather than being cut. */
const LEAST_BYTES = 4_000;

/** The operations to send first and those that follow them; together they do what `operations` do. */
export interface Parts {
  readonly first: readonly Operation[];
  readonly rest: readonly Operation[];
}

/** Divides operations on a copy. What cannot be cut is sent whole, and refused if it must be. */
export function divide(copy: WaveletCopy, operations: readonly Operation[]): Parts {
  if (operations.length <= PART_OPERATIONS && operations.reduce((sum, op) => sum + size(op), 0) <= PART_BYTES) {
    return { first: operations, rest: [] };
  }
  const first: Operation[] = [];
  let left = PART_BYTES;
  for (const [at, op] of operations.entries()) {
    if (first.length >= PART_OPERATIONS) return { first, rest: operations.slice(at) };
    if (size(op) > left) {
      const halves = first.length > 0 && left < LEAST_BYTES ? null : cut(copy, first, op, left);
      if (halves !== null) return { first: [...first, halves[0]], rest: [halves[1], ...operations.slice(at + 1)] };
      if (first.length > 0) return { first, rest: operations.slice(at) };
    }
    first.push(op);
    left -= size(op);
  }
  return { first, rest: [] };
}

/** About how many bytes an operation takes. */
function size(op: Operation): number {
  return 64 + ("mutateDocument" in op ? sizeOf(op.mutateDocument.operation) : 0);
}

function cut(copy: WaveletCopy, before: readonly Operation[], op: Operation, budget: number): [Operation, Operation] | null {
  if (!("mutateDocument" in op)) return null;
  const { documentId, operation } = op.mutateDocument;
  const document = documentAfter(copy, before, documentId);
  const halves = document === null ? null : split(document, operation, budget - 64);
  if (halves === null) return null;
  const [first, second] = halves;
  return [{ mutateDocument: { documentId, operation: first } }, { mutateDocument: { documentId, operation: second } }];
}

function documentAfter(copy: WaveletCopy, before: readonly Operation[], id: string): Document | null {
  try {
    return before.reduce((document, op) => {
      return "mutateDocument" in op && op.mutateDocument.documentId === id ? document.apply(op.mutateDocument.operation) : document;
    }, copy.document(id));
  } catch (e) {
    if (e instanceof OpError) return null;
    throw e;
  }
}
