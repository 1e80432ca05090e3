/**
 * A document as a flat list of items, the way operations count it (one item = one Unicode scalar value, one element
 * start or one element end), each with its annotations. The editor's codec reads and writes this form; nothing here
 * knows of ProseMirror.
 */
import type { OpComponent } from "../wire/messages";

/** Annotations of an item: sorted `[key, value]` pairs as JSON text, `""` for none. Equal strings, equal annotations. */
export type Annotations = string;

export type Pair = readonly [string, string];

export type Item =
  | { readonly kind: "char"; readonly char: string; readonly annotations: Annotations }
  | { readonly kind: "start"; readonly type: string; readonly attributes: readonly Pair[]; readonly annotations: Annotations }
  | { readonly kind: "end"; readonly annotations: Annotations };

const NONE: ReadonlyMap<string, string> = new Map();
const decoded = new Map<Annotations, ReadonlyMap<string, string>>();

/** The annotations as a map; the same text gives the same map, so do not change it. */
export function annotationMap(annotations: Annotations): ReadonlyMap<string, string> {
  if (annotations === "") return NONE;
  let map = decoded.get(annotations);
  if (!map) {
    map = new Map(JSON.parse(annotations) as [string, string][]);
    if (decoded.size > 5000) decoded.clear();
    decoded.set(annotations, map);
  }
  return map;
}

/** Key order is that of UTF-16 code units, which is what JavaScript's own comparison does. */
export function byKey(a: Pair, b: Pair): number {
  return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
}

export function encodeAnnotations(map: Iterable<Pair>): Annotations {
  const pairs = [...map].sort(byKey);
  return pairs.length === 0 ? "" : JSON.stringify(pairs);
}

/** A change of annotations: key → value, null for none. */
export type AnnotationUpdate = ReadonlyMap<string, string | null>;

export function updateAnnotations(annotations: Annotations, update: AnnotationUpdate): Annotations {
  if (update.size === 0) return annotations;
  const map = new Map(annotationMap(annotations));
  for (const [key, value] of update) {
    if (value === null) map.delete(key);
    else map.set(key, value);
  }
  return encodeAnnotations(map);
}

/** The open changes after a boundary. */
export function crossBoundary(
  open: AnnotationUpdate,
  boundary: { readonly end: readonly string[]; readonly change: readonly { key: string; new: string | null }[] },
): AnnotationUpdate {
  const next = new Map(open);
  for (const key of boundary.end) next.delete(key);
  for (const change of boundary.change) next.set(change.key, change.new);
  return next;
}

/** The items of a document given as an operation of insertions. */
export function itemsOf(content: readonly OpComponent[]): Item[] {
  const items: Item[] = [];
  let open: AnnotationUpdate = new Map();
  let annotations: Annotations = "";
  for (const component of content) {
    if ("annotationBoundary" in component) {
      open = crossBoundary(open, component.annotationBoundary);
      annotations = updateAnnotations("", open);
    } else if ("characters" in component) {
      for (const char of component.characters) items.push({ kind: "char", char, annotations });
    } else if ("elementStart" in component) {
      const { type, attributes } = component.elementStart;
      items.push({ kind: "start", type, attributes, annotations });
    } else if ("elementEnd" in component) {
      items.push({ kind: "end", annotations });
    } else {
      throw new Error(`expected a document's content (insertions only), got ${Object.keys(component).join()}`);
    }
  }
  return items;
}

/** Where the element that starts at `index` ends: the index of its end item. */
export function endOf(items: readonly Item[], index: number): number {
  let depth = 0;
  for (let at = index; at < items.length; at++) {
    const kind = items[at]!.kind;
    if (kind === "start") depth++;
    else if (kind === "end" && --depth === 0) return at;
  }
  throw new Error(`the element at item ${index} has no end`);
}

export function sameAttributes(a: readonly Pair[], b: readonly Pair[]): boolean {
  return a.length === b.length && a.every((pair, i) => pair[0] === b[i]![0] && pair[1] === b[i]![1]);
}
