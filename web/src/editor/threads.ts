/**
 * Inline threads in the text: a marker where each thread hangs, and for each open one a place below its line into which
 * the interface renders the thread.
 */
import type { Node } from "prosemirror-model";
import { Plugin, PluginKey } from "prosemirror-state";
import { Decoration, DecorationSet, type NodeView } from "prosemirror-view";

/** What a marker says of its thread. */
export type ThreadMark = { readonly open: boolean; readonly replies: number; readonly unread: number; readonly label: string };

const key = new PluginKey<ThreadsState>("threads");

type ThreadsState = { readonly places: ReadonlyMap<string, HTMLElement>; readonly decorations: DecorationSet };

export const threadsPlugin = new Plugin<ThreadsState>({
  key,
  state: {
    init: () => ({ places: new Map(), decorations: DecorationSet.empty }),
    apply(tr, state) {
      const places = (tr.getMeta(key) as ReadonlyMap<string, HTMLElement> | undefined) ?? state.places;
      if (places === state.places && (!tr.docChanged || places.size === 0)) return state;
      return { places, decorations: decorations(tr.doc, places) };
    },
  },
  props: { decorations: (state) => key.getState(state)?.decorations },
});

/** The meta that says which threads are open, and in which element each is rendered. */
export function threadsMeta(places: ReadonlyMap<string, HTMLElement>): [PluginKey, ReadonlyMap<string, HTMLElement>] {
  return [key, places];
}

/** The ids of the threads that hang in the text, in order, each once. */
export function anchored(doc: Node): string[] {
  const ids = new Set<string>();
  doc.descendants((node) => {
    if (node.type.name === "reply") ids.add(node.attrs["id"]);
  });
  return [...ids];
}

function decorations(doc: Node, places: ReadonlyMap<string, HTMLElement>): DecorationSet {
  const all: Decoration[] = [];
  const seen = new Set<string>();
  doc.forEach((line, at) => {
    line.forEach((node) => {
      const id = node.type.name === "reply" ? (node.attrs["id"] as string) : null;
      const place = id === null ? undefined : places.get(id);
      if (id === null || !place || seen.has(id)) return;
      seen.add(id);
      all.push(Decoration.widget(at + line.nodeSize, () => place, { key: `thread ${id}`, side: 1, stopEvent: () => true, ignoreSelection: true }));
    });
  });
  return DecorationSet.create(doc, all);
}

/** The marker in the text; its words come from outside. */
export class AnchorView implements NodeView {
  readonly dom: HTMLElement;
  private readonly button: HTMLButtonElement;

  constructor(readonly id: string, mark: ThreadMark | undefined, toggle: (id: string) => void, private readonly left: () => void) {
    this.dom = document.createElement("span");
    this.dom.className = "reply-anchor";
    this.dom.contentEditable = "false";
    this.button = this.dom.appendChild(document.createElement("button"));
    this.button.type = "button";
    this.button.addEventListener("click", () => toggle(id));
    this.show(mark);
  }

  show(mark: ThreadMark | undefined): void {
    this.button.className = `reply-marker${mark && mark.unread > 0 ? " is-unread" : ""}`;
    this.button.textContent = mark ? String(mark.replies) : "…";
    this.button.setAttribute("aria-expanded", String(mark?.open ?? false));
    this.button.setAttribute("aria-label", mark?.label ?? "Thread");
    this.button.title = mark?.label ?? "";
  }

  stopEvent(event: Event): boolean {
    return event.target === this.button;
  }

  ignoreMutation(): boolean {
    return true;
  }

  destroy(): void {
    this.left();
  }
}
