/** Words of mine that are not sent yet, underlined with dots. */
import { Plugin, PluginKey } from "prosemirror-state";
import { Decoration, DecorationSet } from "prosemirror-view";

/** A stretch, at positions of the ProseMirror document. */
export type Stretch = readonly [from: number, to: number];

const key = new PluginKey<DecorationSet>("unsent");

export const unsentPlugin = new Plugin<DecorationSet>({
  key,
  state: {
    init: () => DecorationSet.empty,
    apply(tr, set) {
      const stretches = tr.getMeta(key) as readonly Stretch[] | undefined;
      if (!stretches) return set.map(tr.mapping, tr.doc);
      return DecorationSet.create(tr.doc, stretches.filter(([from, to]) => from < to).map(([from, to]) => Decoration.inline(from, to, { class: "unsent" })));
    },
  },
  props: { decorations: (state) => key.getState(state) },
});

/** The meta that replaces all stretches: `tr.setMeta(...unsentMeta(stretches))`. */
export function unsentMeta(stretches: readonly Stretch[]): [PluginKey, readonly Stretch[]] {
  return [key, stretches];
}
