/**
 * Writes one document operation left to right and takes care of annotation boundaries: the caller says which items with
 * which annotations it keeps, changes, inserts and deletes; what an insertion inherits and what a deletion must state
 * (spec/operations.md §2) is worked out here.
 */
import type { ChangeMessage, OpComponent } from "../wire/messages";
import { type Annotations, annotationMap, type Item, type Pair } from "./items";

export class OpWriter {
  private readonly components: OpComponent[] = [];
  private open = new Map<string, ChangeMessage>();
  /** Annotations of the input item left of the cursor, as they were. */
  private inputLeft: Annotations = "";
  /** Annotations that the output has where the last component that is no deletion ran. */
  private context: Annotations = "";

  /** Keeps `count` items, the last of which has these annotations. */
  retain(count: number, last: Annotations): void {
    if (count === 0) return;
    this.annotate("", "");
    this.push({ retain: count });
    this.inputLeft = last;
    this.context = last;
  }

  /** Keeps one item and gives it other annotations, or attributes. */
  change(old: Item, item: Item): void {
    this.annotate(old.annotations, item.annotations);
    const attributes = old.kind === "start" && item.kind === "start" ? attributeChanges(old.attributes, item.attributes) : [];
    this.push(attributes.length > 0 ? { updateAttributes: attributes } : { retain: 1 });
    this.inputLeft = old.annotations;
    this.context = item.annotations;
  }

  insert(item: Item): void {
    this.annotate(this.inputLeft, item.annotations);
    if (item.kind === "char") this.push({ characters: item.char });
    else if (item.kind === "end") this.push({ elementEnd: true });
    else this.push({ elementStart: { type: item.type, attributes: item.attributes.map(([name, value]) => [name, value]) } });
    this.context = item.annotations;
  }

  delete(item: Item): void {
    this.annotate(item.annotations, this.context);
    if (item.kind === "char") this.push({ deleteCharacters: item.char });
    else if (item.kind === "end") this.push({ deleteElementEnd: true });
    else this.push({ deleteElementStart: { type: item.type, attributes: item.attributes.map(([name, value]) => [name, value]) } });
    this.inputLeft = item.annotations;
  }

  finish(): OpComponent[] {
    this.annotate("", "");
    return this.components;
  }

  /** Makes the open changes exactly those that lead from `old` to `next`. */
  private annotate(old: Annotations, next: Annotations): void {
    const wanted = new Map<string, ChangeMessage>();
    if (old !== next) {
      const from = annotationMap(old);
      const to = annotationMap(next);
      for (const key of new Set([...from.keys(), ...to.keys()])) {
        const change = { key, old: from.get(key) ?? null, new: to.get(key) ?? null };
        if (change.old !== change.new) wanted.set(key, change);
      }
    }
    const end = [...this.open.keys()].filter((key) => !wanted.has(key)).sort();
    const change = [...wanted.values()]
      .filter((c) => this.open.get(c.key)?.old !== c.old || this.open.get(c.key)?.new !== c.new)
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    if (end.length > 0 || change.length > 0) this.components.push({ annotationBoundary: { end, change } });
    this.open = wanted;
  }

  private push(component: OpComponent): void {
    const last = this.components.at(-1);
    if (last && "retain" in last && "retain" in component) last.retain += component.retain;
    else if (last && "characters" in last && "characters" in component) last.characters += component.characters;
    else if (last && "deleteCharacters" in last && "deleteCharacters" in component) last.deleteCharacters += component.deleteCharacters;
    else this.components.push(component);
  }
}

function attributeChanges(old: readonly Pair[], next: readonly Pair[]): ChangeMessage[] {
  const from = new Map(old);
  const to = new Map(next);
  return [...new Set([...from.keys(), ...to.keys()])]
    .sort()
    .map((key) => ({ key, old: from.get(key) ?? null, new: to.get(key) ?? null }))
    .filter((change) => change.old !== change.new);
}
