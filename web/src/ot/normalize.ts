/**
 * The normal form of operations: runs merged, annotation boundaries only where something changes. Results of compose
 * and transform are written through {@link OpWriter}, so that equal operations are equal to the letter.
 */

import type { OpComponent } from "../wire/messages";
import { compareKeys } from "./items";
import type { Change, DocOp, Element, ValueUpdate } from "./op";

type Run = "retain" | "characters" | "deleteCharacters";

/** Takes components and keeps them in normal form. */
export class OpWriter {
  readonly #op: OpComponent[] = [];
  /** What the last boundary for each key asked for since the last component; null is an end. */
  readonly #asked = new Map<string, ValueUpdate | null>();
  readonly #open = new Map<string, ValueUpdate>();
  #run: Run | null = null;
  #count = 0;
  #text: string[] = [];

  /** Items kept. */
  retain(items: number): void {
    if (items <= 0) return;
    this.#enter("retain");
    this.#count += items;
  }

  /** Text inserted. */
  characters(text: string): void {
    if (text === "") return;
    this.#enter("characters");
    this.#text.push(text);
  }

  /** Text deleted. */
  deleteCharacters(text: string): void {
    if (text === "") return;
    this.#enter("deleteCharacters");
    this.#text.push(text);
  }

  /** Annotation changes that end and begin. Within one boundary an end outweighs a change. */
  boundary(end: readonly string[], change: readonly Change[]): void {
    for (const c of change) this.#asked.set(c.key, c);
    for (const key of end) this.#asked.set(key, null);
  }

  /** Any component. */
  push(c: OpComponent): void {
    if ("retain" in c) this.retain(c.retain);
    else if ("characters" in c) this.characters(c.characters);
    else if ("deleteCharacters" in c) this.deleteCharacters(c.deleteCharacters);
    else if ("annotationBoundary" in c) this.boundary(c.annotationBoundary.end, c.annotationBoundary.change);
    else this.#single(c);
  }

  /** An element's start. */
  elementStart(element: Element): void {
    this.#single({ elementStart: element });
  }

  /** The operation. */
  finish(): OpComponent[] {
    this.#writeBoundary();
    this.#writeRun();
    return this.#op;
  }

  #enter(run: Run): void {
    this.#writeBoundary();
    if (this.#run !== run) this.#writeRun();
    this.#run = run;
  }

  #single(c: OpComponent): void {
    this.#writeBoundary();
    this.#writeRun();
    this.#op.push(c);
  }

  #writeRun(): void {
    if (this.#run === "retain") this.#op.push({ retain: this.#count });
    else if (this.#run === "characters") this.#op.push({ characters: this.#text.join("") });
    else if (this.#run === "deleteCharacters") this.#op.push({ deleteCharacters: this.#text.join("") });
    this.#run = null;
    this.#count = 0;
    this.#text = [];
  }

  #writeBoundary(): void {
    if (this.#asked.size === 0) return;
    const end: string[] = [];
    const change: Change[] = [];
    for (const key of [...this.#asked.keys()].sort(compareKeys)) {
      const asked = this.#asked.get(key) ?? null;
      const open = this.#open.get(key);
      if (asked === null) {
        if (open !== undefined && this.#open.delete(key)) end.push(key);
      } else if (open === undefined || open.old !== asked.old || open.new !== asked.new) {
        this.#open.set(key, asked);
        change.push({ key, old: asked.old, new: asked.new });
      }
    }
    this.#asked.clear();
    if (end.length === 0 && change.length === 0) return;
    this.#writeRun();
    this.#op.push({ annotationBoundary: { end, change } });
  }
}

/** An operation in normal form. */
export function normalize(op: DocOp): OpComponent[] {
  const writer = new OpWriter();
  for (const c of op) writer.push(c);
  return writer.finish();
}
