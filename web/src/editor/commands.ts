/** What the toolbar and the keys do to a blip's text. */
import type { Mark, MarkType, Node } from "prosemirror-model";
import { type Command, type EditorState, TextSelection } from "prosemirror-state";
import { canSplit } from "prosemirror-transform";
import { decorations, linkProblem, safeLink, schema, withScheme } from "./schema";

export type Style = "bold" | "italic" | "underline" | "strike";

const markType = (name: string): MarkType => schema.marks[name]!;

/** The mark of a style when set, and what it becomes when the style is taken away. */
const STYLES: Record<Style, { readonly type: MarkType; readonly on: (old: Mark | undefined) => Mark; readonly off: (old: Mark) => Mark | null; readonly has: (old: Mark) => boolean }> = {
  bold: plain("fontWeight", (value) => value === "bold" || Number(value) >= 600),
  italic: plain("fontStyle", (value) => value === "italic" || value === "oblique"),
  underline: decoration("underline"),
  strike: decoration("line-through"),
};

function plain(name: string, has: (value: string) => boolean) {
  return { type: markType(name), on: () => markType(name).create(), off: () => null, has: (old: Mark) => has(old.attrs["value"]) };
}

function decoration(part: string) {
  const type = markType("textDecoration");
  const make = (parts: string[]) => (parts.length > 0 ? type.create({ value: parts.join(" ") }) : null);
  const others = (old: Mark | undefined) => (old ? decorations(old.attrs["value"]).filter((p) => p !== part) : []);
  return {
    type,
    on: (old: Mark | undefined) => make(["underline", "line-through"].filter((p) => p === part || others(old).includes(p)))!,
    off: (old: Mark) => make(others(old)),
    has: (old: Mark) => decorations(old.attrs["value"]).includes(part),
  };
}

/** Whether all of the selection (or what is typed next) has the style. */
export function hasStyle(state: EditorState, style: Style): boolean {
  const { type, has } = STYLES[style];
  const { from, to, empty, $from } = state.selection;
  if (empty) {
    const mark = type.isInSet(state.storedMarks ?? $from.marks());
    return mark !== undefined && has(mark);
  }
  let all = true;
  let some = false;
  state.doc.nodesBetween(from, to, (node) => {
    if (!node.isText) return true;
    some = true;
    const mark = type.isInSet(node.marks);
    if (!mark || !has(mark)) all = false;
    return false;
  });
  return some && all;
}

export function toggleStyle(style: Style): Command {
  return (state, dispatch) => {
    if (!dispatch) return true;
    const { type, on, off } = STYLES[style];
    const active = hasStyle(state, style);
    const next = (old: Mark | undefined) => (active ? (old ? off(old) : null) : on(old));
    const { from, to, empty, $from } = state.selection;
    const tr = state.tr;
    if (empty) {
      const mark = next(type.isInSet(state.storedMarks ?? $from.marks()) || undefined);
      tr.removeStoredMark(type);
      if (mark) tr.addStoredMark(mark);
    } else {
      eachText(state.doc, from, to, (node, start, end) => {
        const mark = next(type.isInSet(node.marks) || undefined);
        if (mark) tr.addMark(start, end, mark);
        else tr.removeMark(start, end, type);
      });
    }
    dispatch(tr);
    return true;
  };
}

function eachText(doc: Node, from: number, to: number, visit: (node: Node, from: number, to: number) => void): void {
  doc.nodesBetween(from, to, (node, position) => {
    if (node.isText) visit(node, Math.max(from, position), Math.min(to, position + node.nodeSize));
    return !node.isText;
  });
}

/** The link at the selection's start, with its whole extent. */
export function linkAt(state: EditorState): { readonly address: string; readonly from: number; readonly to: number } | null {
  const { $from, from, to } = state.selection;
  const type = markType("link");
  const around = type.isInSet($from.marks()) ?? ($from.nodeAfter ? type.isInSet($from.nodeAfter.marks) : undefined);
  if (!around) return null;
  const line = $from.parent;
  let start = $from.start();
  let first = -1;
  let last = -1;
  line.forEach((node, offset) => {
    if (!around.isInSet(node.marks)) return;
    const begin = start + offset;
    if (first < 0 || begin > last) {
      if (first >= 0 && last >= from) return;
      first = begin;
    }
    last = begin + node.nodeSize;
  });
  return { address: around.attrs["value"], from: Math.min(first, from), to: Math.max(last, to) };
}

/** Sets or (with "") takes away the link of the selection, or of the link the caret is in; inserts the address where nothing is selected. */
export function setLink(address: string): Command {
  return (state, dispatch) => {
    const type = markType("link");
    const at = linkAt(state);
    const { from, to, empty } = state.selection;
    const range = empty && at ? at : { from, to };
    if (address === "") {
      if (range.from === range.to) return false;
      dispatch?.(state.tr.removeMark(range.from, range.to, type));
      return true;
    }
    const safe = linkProblem(address) === null ? safeLink(withScheme(address.trim())) : null;
    if (!safe) return false;
    const tr = state.tr;
    const mark = type.create({ value: safe });
    if (range.from === range.to) tr.insert(from, schema.text(safe, [...state.doc.resolve(from).marks(), mark]));
    else tr.addMark(range.from, range.to, mark);
    dispatch?.(tr.removeStoredMark(type).scrollIntoView());
    return true;
  };
}

/** The lines the selection touches. */
function lines(state: EditorState): { readonly node: Node; readonly position: number }[] {
  const found: { node: Node; position: number }[] = [];
  state.doc.nodesBetween(state.selection.from, state.selection.to, (node, position) => {
    if (node.type.name === "line") found.push({ node, position });
    return false;
  });
  return found;
}

export type LineKind = "text" | "h1" | "h2" | "h3" | "h4" | "bullets" | "numbers";

export function lineKind(node: Node): LineKind {
  const t = node.attrs["t"];
  if (t === "li") return node.attrs["listyle"] === "decimal" ? "numbers" : "bullets";
  return t === "h1" || t === "h2" || t === "h3" || t === "h4" ? t : "text";
}

/** The kind of the line the caret is in. */
export function currentKind(state: EditorState): LineKind {
  const { $head } = state.selection;
  return $head.depth > 0 ? lineKind($head.node(1)) : "text";
}

/** Makes the lines of the selection that kind; if they are already, plain text. */
export function setKind(kind: LineKind): Command {
  return (state, dispatch) => {
    if (!dispatch) return true;
    const touched = lines(state);
    const target = touched.every(({ node }) => lineKind(node) === kind) ? "text" : kind;
    const list = target === "bullets" || target === "numbers";
    const wanted: Record<string, string | null> = {
      t: list ? "li" : target === "text" ? null : target,
      listyle: target === "numbers" ? "decimal" : null,
    };
    if (!list) wanted["i"] = null;
    const tr = state.tr;
    for (const { node, position } of touched) {
      for (const [name, value] of Object.entries(wanted)) {
        if (node.attrs[name] !== value) tr.setNodeAttribute(position, name, value);
      }
    }
    dispatch(tr.scrollIntoView());
    return true;
  };
}

/** Moves list items in or out; elsewhere Tab is left to the browser. */
export function indent(by: 1 | -1): Command {
  return (state, dispatch) => {
    const items = lines(state).filter(({ node }) => node.attrs["t"] === "li");
    if (items.length === 0) return false;
    const tr = state.tr;
    for (const { node, position } of items) {
      const depth = Math.min(8, Math.max(0, (Number(node.attrs["i"]) || 0) + by));
      const value = depth === 0 ? null : String(depth);
      if (value !== node.attrs["i"]) tr.setNodeAttribute(position, "i", value);
    }
    if (tr.docChanged) dispatch?.(tr);
    return true;
  };
}

/** Enter: a new line; after a heading a plain one; in an empty list item the list ends. */
export const newLine: Command = (state, dispatch) => {
  const { $from, $to } = state.selection;
  if ($from.depth === 0 || $to.depth === 0) return false;
  const line = $from.node(1);
  const isItem = line.attrs["t"] === "li";
  if (isItem && line.content.size === 0 && state.selection.empty) {
    return Number(line.attrs["i"]) > 0 ? indent(-1)(state, dispatch) : setKind("text")(state, dispatch);
  }
  if (!dispatch) return true;
  const tr = state.tr.deleteSelection();
  const at = tr.mapping.map($from.pos);
  const atEnd = tr.doc.resolve(at).parentOffset === tr.doc.resolve(at).parent.content.size;
  const marks = state.storedMarks ?? $from.marks();
  const keep = { ...tr.doc.resolve(at).parent.attrs, annotations: "", endAnnotations: null, more: "" };
  const heading = /^h\d$/.test(String(line.attrs["t"]));
  const attrs = heading && atEnd ? { ...keep, t: null } : keep;
  if (!canSplit(tr.doc, at)) return false;
  tr.split(at, 1, [{ type: schema.nodes["line"]!, attrs }]);
  tr.setSelection(TextSelection.create(tr.doc, at + 2));
  dispatch(tr.setStoredMarks(marks.filter((mark) => mark.type.name !== "link")).scrollIntoView());
  return true;
};

/** Backspace at the start of a heading or list item makes it plain text first. */
export const plainBefore: Command = (state, dispatch) => {
  const { $from, empty } = state.selection;
  if (!empty || $from.depth === 0 || $from.parentOffset > 0) return false;
  const kind = lineKind($from.parent);
  if (kind === "text") return false;
  if (Number($from.parent.attrs["i"]) > 0 && $from.parent.attrs["t"] === "li") return indent(-1)(state, dispatch);
  return setKind("text")(state, dispatch);
};
