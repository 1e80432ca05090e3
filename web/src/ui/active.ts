/** The editors on the page: which one I write in, and which one to put the caret into when it appears. */
import type { BlipEditor } from "../editor/blip-editor";
import type { Wavelet } from "../wave/client";
import { Value } from "../wave/observable";

export type Active = { readonly editor: BlipEditor; readonly wavelet: Wavelet; readonly blip: string };

/** The editor that has the focus, or had it before the toolbar took it. */
export const active = new Value<Active | null>(null);

/** Counts changes of selection and marks in it. */
export const activeChange = new Value(0);

/** Asked for by Ctrl+K: the box for a link. */
export const linkBox = new Value(false);

const editors = new Map<string, BlipEditor>();
let wanted: string | null = null;

const key = (wavelet: Wavelet, blip: string) => `${wavelet.name} ${blip}`;

export function register(wavelet: Wavelet, blip: string, editor: BlipEditor): () => void {
  const name = key(wavelet, blip);
  editors.set(name, editor);
  if (wanted === name) {
    wanted = null;
    queueMicrotask(() => focusWhenShown(editor, 60));
  }
  return () => {
    if (editors.get(name) === editor) editors.delete(name);
    if (active.get()?.editor === editor) active.set(null);
  };
}

/** Puts the caret into a blip, now or as soon as it is on the page. */
export function write(wavelet: Wavelet, blip: string): void {
  const editor = editors.get(key(wavelet, blip));
  if (editor) editor.focus("end");
  else wanted = key(wavelet, blip);
}

/** Whether the caret is to go into this blip as soon as it is there. */
export function isWanted(wavelet: Wavelet, blip: string): boolean {
  return wanted === key(wavelet, blip);
}

/** An inline thread comes onto the page a moment after its editor was made. */
function focusWhenShown(editor: BlipEditor, frames: number): void {
  if (editor.view.isDestroyed) return;
  if (editor.view.dom.isConnected) editor.focus("end");
  else if (frames > 0) requestAnimationFrame(() => focusWhenShown(editor, frames - 1));
}

/** Whether the focus went to something that serves the active editor. */
export function servesEditor(element: Element | null): boolean {
  return element?.closest(".editor-tools, .blip-text, dialog") != null;
}
