/**
 * The ProseMirror schema of a blip's body: `doc > line+`, `line > inline*`.
 *
 * A line's closing and the next line's opening token are the two items of `<line></line>`, so positions inside text
 * differ from item offsets by a constant, inline elements and characters beyond U+FFFF aside (positions.ts).
 * One mark type per annotation key that the editor knows; all other annotations travel together in `other`.
 * Elements the editor does not know are kept whole in `unknown`.
 */
import { type Attrs, type DOMOutputSpec, type Mark, type MarkSpec, Node, Schema } from "prosemirror-model";
import { type Annotations, annotationMap, encodeAnnotations, type Pair } from "./items";

/** Line attributes with a name of their own; the rest is in `more`. */
export const LINE_ATTRIBUTES = ["t", "i", "a", "d", "listyle"] as const;

/** Annotation key ↔ mark type. */
export const MARK_KEYS: ReadonlyMap<string, string> = new Map([
  ["link/manual", "link"],
  ["style/fontWeight", "fontWeight"],
  ["style/fontStyle", "fontStyle"],
  ["style/textDecoration", "textDecoration"],
]);

const HEADINGS: Record<string, string> = { h1: "h3", h2: "h4", h3: "h5", h4: "h6" };

/** Only these may be followed from a wave; anything else stays plain text. */
export function safeLink(address: string): string | null {
  const match = /^(https?|mailto|wave):/i.exec(address.trim());
  return match ? address.trim() : null;
}

/** What is wrong with an address typed for a link, in words; null when nothing is. A bare one is of the web. */
export function linkProblem(typed: string): string | null {
  const address = typed.trim();
  if (address === "") return "Type an address.";
  if (/\s/.test(address)) return "An address has no spaces.";
  if (!safeLink(withScheme(address))) return "A link begins with https:, http:, mailto: or wave:.";
  if (/^https?:/i.test(withScheme(address)) && !isWebAddress(withScheme(address))) return "This is not the address of a page. It looks like example.org/page.";
  return null;
}

/** An address as it goes into a link. */
export function withScheme(address: string): string {
  return /^[a-z][a-z0-9+.-]*:(?!\d)/i.test(address) ? address : `https://${address}`;
}

function isWebAddress(address: string): boolean {
  try {
    return new URL(address).hostname !== "";
  } catch {
    return false;
  }
}

function lineClass(attrs: Attrs): string {
  const classes = ["line"];
  const indent = Math.min(8, Number(attrs["i"] ?? 0) || 0);
  if (attrs["t"] === "li") classes.push("line-item", attrs["listyle"] === "decimal" ? "line-decimal" : "line-bullet");
  if (indent > 0) classes.push(`line-indent-${indent}`);
  if (["c", "r", "j"].includes(attrs["a"])) classes.push(`line-align-${attrs["a"]}`);
  return classes.join(" ");
}

function lineDom(node: Node): DOMOutputSpec {
  const shape = LINE_ATTRIBUTES.filter((name) => node.attrs[name] !== null).map((name) => [name, node.attrs[name]]);
  // So that what is copied here and pasted here keeps its kind of line.
  const attrs: Record<string, string> = { class: lineClass(node.attrs), "data-line": JSON.stringify(shape) };
  if (node.attrs["d"] === "r") attrs["dir"] = "rtl";
  return [HEADINGS[node.attrs["t"]] ?? "div", attrs, 0];
}

const lineDefaults = { i: null, a: null, d: null, listyle: null, more: "", annotations: "", endAnnotations: null };

function parsedLine(t: string | null, more: Attrs = {}): Attrs {
  return { ...lineDefaults, t, ...more };
}

/** The attributes of a line copied from a wave; only those that a line may have, with values that it may have. */
function copiedLine(dom: HTMLElement): Attrs | false {
  const allowed: Record<string, RegExp> = { t: /^(h[1-4]|li)$/, i: /^[1-9]\d?$/, a: /^[lrcj]$/, d: /^[lr]$/, listyle: /^decimal$/ };
  try {
    const shape = JSON.parse(dom.getAttribute("data-line") ?? "") as unknown;
    if (!Array.isArray(shape)) return false;
    const attrs: Record<string, unknown> = { ...lineDefaults, t: null };
    for (const [name, value] of shape) if (typeof value === "string" && allowed[name]?.test(value)) attrs[name] = value;
    return attrs;
  } catch {
    return false;
  }
}

function parsedListItem(dom: HTMLElement): Attrs {
  let depth = 0;
  for (let up = dom.parentElement; up; up = up.parentElement) if (/^[ou]l$/i.test(up.nodeName)) depth++;
  const decimal = dom.parentElement?.nodeName === "OL";
  return parsedLine("li", { i: depth > 1 ? String(depth - 1) : null, listyle: decimal ? "decimal" : null });
}

function valueMark(value: string, name: string, tags: string[]): MarkSpec {
  return {
    attrs: { value: { default: value, validate: "string" } },
    parseDOM: tags.map((tag) => ({ tag, attrs: { value } })),
    toDOM: (mark) => (mark.attrs["value"] === value ? [name, 0] : ["span", 0]),
  };
}

export const schema = new Schema({
  nodes: {
    doc: { content: "line+" },
    line: {
      content: "inline*",
      defining: true,
      attrs: { t: { default: null }, ...Object.fromEntries(Object.entries(lineDefaults).map(([k, d]) => [k, { default: d }])) },
      parseDOM: [
        { tag: "[data-line]", priority: 60, getAttrs: copiedLine },
        ...Object.entries({ h1: "h1", h2: "h2", h3: "h3", h4: "h4", h5: "h4", h6: "h4" }).map(([tag, t]) => ({ tag, attrs: parsedLine(t) })),
        { tag: "li", getAttrs: parsedListItem },
        { tag: "div" }, { tag: "p" }, { tag: "pre", preserveWhitespace: "full" as const }, { tag: "blockquote" },
      ],
      toDOM: lineDom,
    },
    text: { group: "inline" },
    /** `<reply id=…>`: where an inline thread hangs. `endAnnotations` null: as the marks say. */
    reply: {
      group: "inline", inline: true, atom: true, selectable: false, draggable: false,
      attrs: { id: {}, more: { default: "" }, endAnnotations: { default: null } },
      toDOM: (node) => ["span", { class: "reply-anchor", "data-reply": node.attrs["id"] }],
    },
    /** Any other element; `inner` is all of it but the first item (JSON of items). */
    unknown: {
      group: "inline", inline: true, atom: true, selectable: true, draggable: false,
      attrs: { type: {}, attributes: { default: "" }, inner: {} },
      toDOM: (node) => ["span", { class: "unknown-element", "aria-label": `${node.attrs["type"]} (cannot be shown here)` }],
    },
  },
  marks: {
    link: {
      attrs: { value: { validate: "string" } },
      inclusive: false,
      parseDOM: [{
        tag: "a[href]",
        getAttrs: (dom) => {
          const address = safeLink(dom.getAttribute("href") ?? "");
          return address ? { value: address } : false;
        },
      }],
      toDOM: (mark) => {
        const address = safeLink(mark.attrs["value"]);
        return address ? ["a", { href: address, rel: "noopener noreferrer nofollow", target: "_blank" }, 0] : ["span", 0];
      },
    },
    fontWeight: {
      ...valueMark("bold", "strong", ["strong"]),
      parseDOM: [{ tag: "strong" }, { tag: "b", getAttrs: (dom) => (dom.style.fontWeight === "normal" ? false : null) }],
    },
    fontStyle: valueMark("italic", "em", ["em", "i"]),
    textDecoration: {
      attrs: { value: { default: "underline", validate: "string" } },
      parseDOM: [
        { tag: "u", attrs: { value: "underline" } },
        ...["s", "strike", "del"].map((tag) => ({ tag, attrs: { value: "line-through" } })),
      ],
      toDOM: (mark) => {
        const value = String(mark.attrs["value"]);
        if (value === "underline") return ["u", 0];
        if (value === "line-through") return ["s", 0];
        return ["span", { class: decorations(value).map((d) => `text-${d}`).join(" ") }, 0];
      },
    },
    /** Annotations the editor does not know, all together. */
    other: { attrs: { annotations: { validate: "string" } }, toDOM: () => ["span", 0] },
  },
});

/** The parts of a text-decoration value that we show and set. */
export function decorations(value: string): string[] {
  return value.split(/\s+/).filter((part) => part === "underline" || part === "line-through");
}

export function marksOf(annotations: Annotations): readonly Mark[] {
  let marks: readonly Mark[] = [];
  const other: Pair[] = [];
  for (const [key, value] of annotationMap(annotations)) {
    const name = MARK_KEYS.get(key);
    if (name) marks = schema.mark(name, { value }).addToSet(marks);
    else other.push([key, value]);
  }
  if (other.length > 0) marks = schema.mark("other", { annotations: encodeAnnotations(other) }).addToSet(marks);
  return marks;
}

const KEY_OF_MARK: ReadonlyMap<string, string> = new Map([...MARK_KEYS].map(([key, name]) => [name, key]));
const annotationsOfMarks = new WeakMap<readonly Mark[], Annotations>();

export function annotationsOf(marks: readonly Mark[]): Annotations {
  if (marks.length === 0) return "";
  let annotations = annotationsOfMarks.get(marks);
  if (annotations === undefined) {
    const pairs: Pair[] = [];
    for (const mark of marks) {
      const key = KEY_OF_MARK.get(mark.type.name);
      if (key) pairs.push([key, mark.attrs["value"]]);
      else pairs.push(...annotationMap(mark.attrs["annotations"]));
    }
    annotations = encodeAnnotations(pairs);
    annotationsOfMarks.set(marks, annotations);
  }
  return annotations;
}
