/** Other people's carets and selections, as decorations. Colour and pattern both tell people apart; the name is a flag. */
import type { Node } from "prosemirror-model";
import { Plugin, PluginKey } from "prosemirror-state";
import { Decoration, DecorationSet } from "prosemirror-view";

/** A caret, at positions of the ProseMirror document. */
export type RemoteCaret = {
  readonly session: string;
  readonly name: string;
  /** 1 to 8: the person's colour and pattern. */
  readonly look: number;
  readonly anchor: number;
  readonly head: number;
};

const key = new PluginKey<DecorationSet>("carets");

export const caretsPlugin = new Plugin<DecorationSet>({
  key,
  state: {
    init: () => DecorationSet.empty,
    apply(tr, set) {
      const carets = tr.getMeta(key) as readonly RemoteCaret[] | undefined;
      return carets ? decorations(tr.doc, carets) : set.map(tr.mapping, tr.doc);
    },
  },
  props: { decorations: (state) => key.getState(state) },
});

/** The meta that replaces all carets: `tr.setMeta(...caretsMeta(carets))`. */
export function caretsMeta(carets: readonly RemoteCaret[]): [PluginKey, readonly RemoteCaret[]] {
  return [key, carets];
}

function decorations(doc: Node, carets: readonly RemoteCaret[]): DecorationSet {
  const all: Decoration[] = [];
  for (const caret of carets) {
    const from = Math.min(caret.anchor, caret.head);
    const to = Math.max(caret.anchor, caret.head);
    if (from < to) all.push(Decoration.inline(from, to, { class: `remote-selection look-${caret.look}` }));
    const place = `${caret.session}:${caret.anchor}:${caret.head}:${caret.name}`;
    all.push(Decoration.widget(caret.head, () => caretDom(caret), { key: place, side: 5, ignoreSelection: true, marks: [] }));
  }
  return DecorationSet.create(doc, all);
}

function caretDom(caret: RemoteCaret): HTMLElement {
  const dom = document.createElement("span");
  dom.className = `remote-caret look-${caret.look}`;
  dom.setAttribute("aria-hidden", "true");
  const flag = dom.appendChild(document.createElement("span"));
  flag.className = "remote-flag";
  flag.textContent = caret.name;
  return dom;
}
