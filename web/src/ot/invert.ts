/** The operation that takes another back. */

import type { OpComponent } from "../wire/messages";
import { type DocOp, invertChanges } from "./op";

/** `op` and then its inverse leave every document as it was. Component by component; the result is not normalised. */
export function invert(op: DocOp): OpComponent[] {
  return op.map(invertComponent);
}

function invertComponent(c: OpComponent): OpComponent {
  if ("characters" in c) return { deleteCharacters: c.characters };
  if ("deleteCharacters" in c) return { characters: c.deleteCharacters };
  if ("elementStart" in c) return { deleteElementStart: c.elementStart };
  if ("deleteElementStart" in c) return { elementStart: c.deleteElementStart };
  if ("elementEnd" in c) return { deleteElementEnd: true };
  if ("deleteElementEnd" in c) return { elementEnd: true };
  if ("replaceAttributes" in c) {
    return { replaceAttributes: { old: c.replaceAttributes.new, new: c.replaceAttributes.old } };
  }
  if ("updateAttributes" in c) return { updateAttributes: invertChanges(c.updateAttributes) };
  if ("annotationBoundary" in c) {
    const { end, change } = c.annotationBoundary;
    return { annotationBoundary: { end, change: invertChanges(change) } };
  }
  return c;
}
