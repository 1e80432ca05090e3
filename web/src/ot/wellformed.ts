/** Well-formedness: what can be said of an operation without any document. */

import type { OpComponent } from "../wire/messages";
import type { Attributes, Change, DocOp } from "./op";
import { fail } from "./op";

const NONCHARACTER = /\p{Noncharacter_Code_Point}/u;
const LONE_SURROGATE = /\p{Surrogate}/u;
const NAME_START =
  ":A-Z_a-z\\u{C0}-\\u{D6}\\u{D8}-\\u{F6}\\u{F8}-\\u{2FF}\\u{370}-\\u{37D}\\u{37F}-\\u{1FFF}\\u{200C}-\\u{200D}" +
  "\\u{2070}-\\u{218F}\\u{2C00}-\\u{2FEF}\\u{3001}-\\u{D7FF}\\u{F900}-\\u{FDCF}\\u{FDF0}-\\u{FFFD}\\u{10000}-\\u{EFFFF}";
const NAME = new RegExp(`^[${NAME_START}][-.0-9\\u{B7}\\u{300}-\\u{36F}\\u{203F}-\\u{2040}${NAME_START}]*$`, "u");
/** Positions are 32-bit in other servers. */
const MAX_LENGTH = 0x7fffffff;

/** Whether a string may be a value, or text when it is not empty: valid Unicode without noncharacters. */
export function isPermitted(text: string): boolean {
  return !LONE_SURROGATE.test(text) && !NONCHARACTER.test(text);
}

/** Whether a string may be the type of an element or the name of an attribute. */
export function isName(name: string): boolean {
  return NAME.test(name) && isPermitted(name);
}

/** Whether a string may be an annotation's key. */
export function isAnnotationKey(key: string): boolean {
  return isPermitted(key) && !/[?@]/.test(key);
}

/** Refuses an operation that is wrong whatever the document. */
export function checkWellFormed(op: DocOp): void {
  new Checker(true).run(op);
}

/** As {@link checkWellFormed}, without looking at names and characters: for what was made from checked operations. */
export function checkStructure(op: DocOp): void {
  new Checker(false).run(op);
}

type Inside = "nothing" | "insertion" | "deletion";

class Checker {
  readonly #strings: boolean;
  readonly #open = new Set<string>();
  #depth = 0;
  #inside: Inside = "nothing";
  #afterBoundary = false;
  #before = 0;
  #after = 0;

  constructor(strings: boolean) {
    this.#strings = strings;
  }

  run(op: DocOp): void {
    for (const c of op) {
      if ("annotationBoundary" in c) {
        this.#boundary(c.annotationBoundary.end, c.annotationBoundary.change);
        this.#afterBoundary = true;
      } else {
        this.#component(c);
        this.#afterBoundary = false;
      }
    }
    if (this.#depth > 0) bad("an element is not closed");
    if (this.#open.size > 0) bad("an annotation change is not ended");
  }

  #component(c: OpComponent): void {
    if ("retain" in c) this.#retain(c.retain);
    else if ("characters" in c) this.#text(c.characters, "insertion");
    else if ("deleteCharacters" in c) this.#text(c.deleteCharacters, "deletion");
    else if ("elementStart" in c) this.#start(c.elementStart, "insertion");
    else if ("deleteElementStart" in c) this.#start(c.deleteElementStart, "deletion");
    else if ("elementEnd" in c) this.#end("insertion");
    else if ("deleteElementEnd" in c) this.#end("deletion");
    else if ("replaceAttributes" in c) {
      this.#keep(1);
      this.#attributes(c.replaceAttributes.old);
      this.#attributes(c.replaceAttributes.new);
    } else if ("updateAttributes" in c) {
      this.#keep(1);
      this.#changes(c.updateAttributes, isName);
    } else bad("an unknown component");
  }

  #retain(items: number): void {
    if (!Number.isSafeInteger(items) || items <= 0) bad("a retain of no items");
    this.#keep(items);
  }

  #keep(items: number): void {
    if (this.#inside !== "nothing") bad("a retain inside an insertion or deletion");
    this.#move(items, items);
  }

  #text(text: string, where: Inside): void {
    if (text === "") bad("no characters");
    if (this.#strings && !isPermitted(text)) bad("characters that are not permitted");
    this.#enter(where);
    this.#count(text.length, where);
  }

  #start(element: { readonly type: string; readonly attributes: Attributes }, where: Inside): void {
    this.#enter(where);
    if (this.#strings && !isName(element.type)) bad("an element type that is not a name");
    this.#attributes(element.attributes);
    this.#depth++;
    this.#inside = where;
    this.#count(1, where);
  }

  #end(where: Inside): void {
    if (this.#inside !== where) bad("an element end without its start");
    if (--this.#depth === 0) this.#inside = "nothing";
    this.#count(1, where);
  }

  #enter(where: Inside): void {
    if (this.#inside !== "nothing" && this.#inside !== where) bad("an insertion inside a deletion or the reverse");
  }

  #count(items: number, where: Inside): void {
    if (where === "insertion") this.#move(0, items);
    else this.#move(items, 0);
  }

  #move(before: number, after: number): void {
    this.#before += before;
    this.#after += after;
    if (this.#before > MAX_LENGTH || this.#after > MAX_LENGTH) bad("a document that is too long");
  }

  #boundary(end: readonly string[], change: readonly Change[]): void {
    if (this.#afterBoundary) bad("two annotation boundaries in a row");
    let previous: string | null = null;
    for (const key of end) {
      if (previous !== null && previous >= key) bad("ends that are not sorted");
      previous = key;
      if (!this.#open.has(key)) bad(`annotation ${key} is ended but not open`);
    }
    this.#changes(change, isAnnotationKey);
    const ends = new Set(end);
    for (const c of change) if (ends.has(c.key)) bad(`annotation ${c.key} is ended and changed at once`);
    for (const key of end) this.#open.delete(key);
    for (const c of change) this.#open.add(c.key);
  }

  #changes(changes: readonly Change[], isKey: (key: string) => boolean): void {
    let previous: string | null = null;
    for (const { key, old, new: value } of changes) {
      if (previous !== null && previous >= key) bad("changes that are not sorted");
      previous = key;
      if (!this.#strings) continue;
      if (!isKey(key)) bad(`${key} is not permitted as a name or key`);
      if ((old !== null && !isPermitted(old)) || (value !== null && !isPermitted(value))) bad("a value not permitted");
    }
  }

  #attributes(attributes: Attributes): void {
    let previous: string | null = null;
    for (const [name, value] of attributes) {
      if (previous !== null && previous >= name) bad("attributes that are not sorted");
      previous = name;
      if (this.#strings && !isName(name)) bad(`${name} is not a name`);
      if (this.#strings && !isPermitted(value)) bad("an attribute value that is not permitted");
    }
  }
}

function bad(what: string): never {
  fail("illFormed", `ill-formed operation: ${what}`);
}
