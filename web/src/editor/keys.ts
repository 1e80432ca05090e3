/** The editor's keys. */
import { baseKeymap, chainCommands } from "prosemirror-commands";
import { keymap } from "prosemirror-keymap";
import type { Command, Plugin } from "prosemirror-state";
import { indent, newLine, plainBefore, setKind, toggleStyle } from "./commands";

/** What keys do that is not a change of text. */
export type Actions = {
  readonly undo: () => void;
  readonly redo: () => void;
  readonly link: () => void;
  readonly replyHere: () => void;
  readonly leave: () => void;
  readonly finish: () => void;
};

export function editorKeys(actions: Actions): Plugin[] {
  const act = (action: () => void): Command => (_state, dispatch) => {
    if (dispatch) action();
    return true;
  };
  const own: Record<string, Command> = {
    "Mod-b": toggleStyle("bold"),
    "Mod-i": toggleStyle("italic"),
    "Mod-u": toggleStyle("underline"),
    "Mod-Shift-x": toggleStyle("strike"),
    "Mod-k": act(actions.link),
    "Mod-Alt-m": act(actions.replyHere),
    "Mod-z": act(actions.undo),
    "Mod-Shift-z": act(actions.redo),
    "Mod-y": act(actions.redo),
    "Mod-Shift-7": setKind("numbers"),
    "Mod-Shift-8": setKind("bullets"),
    "Mod-Alt-1": setKind("h1"),
    "Mod-Alt-2": setKind("h2"),
    "Mod-Alt-3": setKind("h3"),
    "Mod-Alt-4": setKind("h4"),
    "Mod-Enter": act(actions.finish),
    Escape: act(actions.leave),
    Tab: indent(1),
    "Shift-Tab": indent(-1),
    Enter: newLine,
    "Shift-Enter": newLine,
    Backspace: chainCommands(plainBefore, baseKeymap["Backspace"]!),
  };
  const { Enter: _enter, "Mod-Enter": _finish, ...base } = baseKeymap;
  return [keymap(own), keymap(base)];
}
