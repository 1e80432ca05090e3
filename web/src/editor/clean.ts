/** Keeps characters out of blips that the blip schema does not allow in text (spec/operations.md §9). */
import { Plugin } from "prosemirror-state";
import { FOREIGN } from "./origin";

/** Characters no text of a blip may hold: controls, bidi overrides, tags, noncharacters, halves of pairs. */
const FORBIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u206a-\u206f\ufdd0-\ufdef\ufffe\uffff\u{e0000}-\u{e007f}]|[\u{1fffe}\u{1ffff}\u{2fffe}\u{2ffff}\u{3fffe}\u{3ffff}\u{4fffe}\u{4ffff}\u{5fffe}\u{5ffff}\u{6fffe}\u{6ffff}\u{7fffe}\u{7ffff}\u{8fffe}\u{8ffff}\u{9fffe}\u{9ffff}\u{afffe}\u{affff}\u{bfffe}\u{bffff}\u{cfffe}\u{cffff}\u{dfffe}\u{dffff}\u{efffe}\u{effff}\u{ffffe}\u{fffff}\u{10fffe}\u{10ffff}]|\p{Surrogate}/gu;

/** A text without forbidden characters; tabs become spaces. */
export function cleanText(text: string): string {
  return text.replace(/\t/g, " ").replace(FORBIDDEN, "");
}

/** Lines of a text, each clean: what is pasted as text keeps its lines, empty ones too. */
export function cleanLines(text: string): string[] {
  return text.split(/\r\n?|[\n\u2028\u2029]/).map(cleanText);
}

/** Takes forbidden characters out of my own changes again, before anybody sees them. */
export const cleanPlugin = new Plugin({
  appendTransaction(transactions, _old, state) {
    if (!transactions.some((tr) => tr.docChanged) || transactions.some((tr) => tr.getMeta(FOREIGN))) return null;
    const found: [number, number][] = [];
    let from = state.doc.content.size;
    let to = 0;
    transactions.forEach((tr, t) => {
      tr.mapping.maps.forEach((map, m) => {
        map.forEach((_a, _b, start, end) => {
          const later = [...tr.mapping.maps.slice(m + 1), ...transactions.slice(t + 1).flatMap((next) => next.mapping.maps)];
          from = Math.min(from, later.reduce((p, step) => step.map(p, -1), start));
          to = Math.max(to, later.reduce((p, step) => step.map(p, 1), end));
        });
      });
    });
    if (from >= to) return null;
    state.doc.nodesBetween(from, to, (node, position) => {
      if (!node.isText) return true;
      for (const match of node.text!.matchAll(FORBIDDEN)) found.push([position + match.index, position + match.index + match[0].length]);
      return false;
    });
    if (found.length === 0) return null;
    const tr = state.tr;
    for (const [start, end] of found.reverse()) tr.delete(start, end);
    return tr;
  },
});
