/** Random blips, and random changes of them, for the editor's laws. Seeded: a failure names its seed. */
import { Fragment, type Node, Slice } from "prosemirror-model";
import type { EditorState, Transaction } from "prosemirror-state";
import { schema } from "../../src/editor/schema";
import type { OpComponent } from "../../src/wire/messages";

export type Random = (below: number) => number;

/** A small generator of numbers (mulberry32). */
export function random(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const pick = <T>(r: Random, values: readonly T[]): T => values[r(values.length)]!;

const CHARS = ["a", "b", "c", " ", "é", "日", "😀", "👩", "x", "y"];
const ANNOTATIONS: [string, string | null][] = [
  ["style/fontWeight", "bold"], ["style/fontStyle", "italic"], ["style/textDecoration", "underline"],
  ["style/textDecoration", "underline line-through"], ["link/manual", "https://example.org/"], ["style/color", "red"],
  ["conv/title", ""], ["lang", "de"],
];

export function text(r: Random): string {
  let s = "";
  for (let n = 1 + r(5); n > 0; n--) s += pick(r, CHARS);
  return s;
}

export function lineAttributes(r: Random): [string, string][] {
  return pick<[string, string][]>(r, [[], [], [["t", "h1"]], [["i", "1"], ["t", "li"]], [["a", "c"]], [["listyle", "decimal"], ["t", "li"]], [["future", "yes"], ["t", "h2"]]]);
}

/** A random blip, as content. `writable`: as a client of ours could have made it. */
export function content(r: Random): OpComponent[] {
  const result: OpComponent[] = [];
  const open = new Map<string, string>();
  const boundary = () => {
    if (r(3) > 0) return;
    const end: string[] = [];
    const change: { key: string; old: null; new: string | null }[] = [];
    for (const [key, value] of ANNOTATIONS) {
      if (change.some((c) => c.key === key) || end.includes(key) || r(4) > 0) continue;
      if (open.has(key)) {
        end.push(key);
        open.delete(key);
      } else {
        change.push({ key, old: null, new: value });
        open.set(key, value!);
      }
    }
    const order = (a: { key: string }, b: { key: string }) => (a.key < b.key ? -1 : 1);
    if (end.length + change.length > 0) result.push({ annotationBoundary: { end: end.sort(), change: change.sort(order) } });
  };
  const element = (type: string, attributes: [string, string][], inner: () => void) => {
    result.push({ elementStart: { type, attributes } });
    inner();
    result.push({ elementEnd: true });
  };
  const nothing = () => {};
  if (r(4) === 0) element("head", [], nothing);
  boundary();
  element("body", [], () => {
    element("line", [], nothing);
    for (let n = r(8); n > 0; n--) {
      boundary();
      const kind = r(10);
      if (kind < 5) result.push({ characters: text(r) });
      else if (kind < 8) element("line", lineAttributes(r), r(5) === 0 ? boundary : nothing);
      else if (kind === 8) element("reply", [["id", `t${r(100)}`]], nothing);
      else element("image", [["attachment", "a"]], () => element("caption", [], () => result.push({ characters: text(r) })));
    }
  });
  if (open.size > 0) result.push({ annotationBoundary: { end: [...open.keys()].sort(), change: [] } });
  return merged(result);
}

/** Joins boundaries and texts that stand beside each other. */
function merged(components: OpComponent[]): OpComponent[] {
  const result: OpComponent[] = [];
  for (const c of components) {
    const last = result.at(-1);
    if (last && "characters" in last && "characters" in c) last.characters += c.characters;
    else if (last && "annotationBoundary" in last && "annotationBoundary" in c) {
      const change = new Map(last.annotationBoundary.change.map((x) => [x.key, x]));
      const end = new Set(last.annotationBoundary.end);
      for (const key of c.annotationBoundary.end) change.delete(key), end.add(key);
      for (const x of c.annotationBoundary.change) change.set(x.key, x), end.delete(x.key);
      result.pop();
      const sorted = [...change.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
      result.push({ annotationBoundary: { end: [...end].sort(), change: sorted } });
    } else result.push(structuredClone(c));
  }
  return result;
}

function textPosition(r: Random, doc: Node): number {
  for (;;) {
    const position = r(doc.content.size + 1);
    const $at = doc.resolve(position);
    if ($at.depth === 0) continue;
    const after = $at.nodeAfter;
    if ($at.textOffset > 0 && after?.isText && /^[\udc00-\udfff]/.test(after.text!)) continue;
    return position;
  }
}

function range(r: Random, doc: Node): [number, number] {
  const a = textPosition(r, doc);
  const b = r(2) === 0 ? Math.min(a + r(4), doc.content.size - 1) : textPosition(r, doc);
  const ends: [number, number] = a < b ? [a, b] : [b, a];
  const $b = doc.resolve(ends[1]);
  if ($b.depth === 0 || ($b.textOffset > 0 && /^[\udc00-\udfff]/.test($b.nodeAfter!.text!))) return [a, a];
  return ends;
}

function randomMark(r: Random) {
  return pick(r, [
    () => schema.mark("fontWeight"), () => schema.mark("fontStyle"),
    () => schema.mark("textDecoration", { value: pick(r, ["underline", "line-through", "underline line-through"]) }),
    () => schema.mark("link", { value: pick(r, ["https://a.lab/", "https://b.lab/"]) }),
  ])();
}

function randomLine(r: Random): Node {
  const inline = r(2) === 0 ? [schema.text(text(r), r(2) === 0 ? [randomMark(r)] : [])] : [];
  return schema.node("line", pick(r, [{}, { t: "h2" }, { t: "li", i: "1" }]), inline);
}

/** A transaction as an editor may make it, of one to three steps. */
export function edit(r: Random, state: EditorState): Transaction {
  const tr = state.tr;
  for (let n = 1 + r(3); n > 0; n--) {
    const doc = tr.doc;
    const [from, to] = range(r, doc);
    const kind = r(12);
    if (kind < 3) tr.insertText(text(r), from, r(2) === 0 ? to : from);
    else if (kind === 3) tr.delete(from, to);
    else if (kind === 4) tr.split(from);
    else if (kind === 5) tr.addMark(from, to, randomMark(r));
    else if (kind === 6) tr.removeMark(from, to, r(2) === 0 ? null : randomMark(r).type);
    else if (kind === 7) tr.setNodeAttribute(doc.resolve(from).before(1), pick(r, ["t", "i", "listyle"]), pick(r, ["h1", "1", null]));
    else if (kind === 8) tr.insert(from, schema.node("reply", { id: `n${r(100)}` }));
    else if (kind === 9) tr.replace(from, to, new Slice(Fragment.fromArray([randomLine(r), randomLine(r)]), 1, 1));
    else if (kind === 10) tr.setBlockType(from, to, schema.nodes["line"]!, pick(r, [{ t: "h3" }, { t: "li", i: "2" }, {}]));
    else tr.replaceWith(r(2) === 0 ? 0 : doc.resolve(from).before(1), doc.content.size, [randomLine(r), randomLine(r)]);
  }
  return tr;
}
