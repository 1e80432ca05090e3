/** The tools for the text I write in. They stay in place, and are idle while I write nowhere. */
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Command } from "prosemirror-state";
import { currentKind, hasStyle, type LineKind, linkAt, setKind, setLink, type Style, toggleStyle } from "../editor/commands";
import { linkProblem } from "../editor/schema";
import { type Active, active, activeChange, linkBox } from "./active";
import { Icon } from "./icons";
import { useReadable } from "./readable";
import { replyHere } from "./replies";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const MOD = MAC ? "⌘" : "Ctrl+";
const keys = (text: string) => text.replace("Mod+", MOD).replace("Alt+", MAC ? "⌥" : "Alt+").replace("Shift+", MAC ? "⇧" : "Shift+");

const STYLES: readonly { style: Style; name: string; key: string; face: string; look: string }[] = [
  { style: "bold", name: "Bold", key: "Mod+B", face: "B", look: "tool-b" },
  { style: "italic", name: "Italic", key: "Mod+I", face: "I", look: "tool-i" },
  { style: "underline", name: "Underline", key: "Mod+U", face: "U", look: "tool-u" },
  { style: "strike", name: "Strike through", key: "Mod+Shift+X", face: "S", look: "tool-s" },
];

const KINDS: readonly [LineKind, string][] = [
  ["text", "Text"], ["h1", "Heading 1"], ["h2", "Heading 2"], ["h3", "Heading 3"], ["h4", "Heading 4"],
];

export function Toolbar() {
  const now = useReadable(active);
  useReadable(activeChange);
  const linking = useReadable(linkBox);
  const bar = useRef<HTMLDivElement>(null);
  const idle = now === null;
  const state = now?.editor.view.state;
  const run = (command: Command) => () => now?.editor.run(command);
  const kind = state ? currentKind(state) : "text";
  const tool = (name: string, key: string, pressed: boolean | undefined, action: () => void, face: preact.ComponentChildren, off = false) => (
    <button
      type="button" class="button" title={key ? `${name} (${keys(key)})` : name} aria-label={name} aria-keyshortcuts={key.replace("Mod", "Control") || undefined}
      aria-pressed={pressed} disabled={idle || off} onMouseDown={(event) => event.preventDefault()} onClick={action}
    >
      {face}
    </button>
  );
  return (
    <div class={`editor-tools text-tools${idle ? " is-idle" : ""}`}>
      <div class="toolbar" role="toolbar" aria-label="Text tools" ref={bar} onKeyDown={(event) => roam(event, bar.current, now)}>
        <select
          aria-label="Kind of line" title={`Kind of line (${keys("Mod+Alt+1")} to 4)`} disabled={idle}
          value={kind === "bullets" || kind === "numbers" ? "text" : kind}
          onChange={(event) => {
            const wanted = event.currentTarget.value as LineKind;
            if (wanted !== kind) run(setKind(wanted === "text" ? kind : wanted))();
          }}
        >
          {KINDS.map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
        {STYLES.map(({ style, name, key, face, look }) =>
          tool(name, key, state ? hasStyle(state, style) : false, run(toggleStyle(style)), <span class={look}>{face}</span>),
        )}
        {tool("Link", "Mod+K", undefined, () => linkBox.set(true), <Icon name="link" />)}
        <span class="gap" />
        {tool("Bulleted list", "Mod+Shift+8", kind === "bullets", run(setKind("bullets")), <Icon name="bullets" />)}
        {tool("Numbered list", "Mod+Shift+7", kind === "numbers", run(setKind("numbers")), <Icon name="numbers" />)}
        <span class="gap" />
        {tool("Undo my change", "Mod+Z", undefined, () => now?.editor.undo(), <Icon name="undo" />, !now?.editor.canUndo)}
        {tool("Redo my change", "Mod+Shift+Z", undefined, () => now?.editor.redo(), <Icon name="redo" />, !now?.editor.canRedo)}
        <span class="gap" />
        {tool("Reply here", "Mod+Alt+M", undefined, () => now && replyHere(now), <><Icon name="comment" /> Reply here</>)}
      </div>
      {linking && now && <LinkBox now={now} />}
    </div>
  );
}

/** Arrow keys move between tools, Esc goes back to the text. */
function roam(event: KeyboardEvent, bar: HTMLElement | null, now: Active | null): void {
  if (event.key === "Escape") {
    event.stopPropagation();
    now?.editor.focus();
    return;
  }
  const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (by === 0 || !bar) return;
  const tools = [...bar.querySelectorAll<HTMLElement>("button:not(:disabled), select")];
  const at = tools.indexOf(document.activeElement as HTMLElement);
  tools[(at + by + tools.length) % tools.length]?.focus();
  event.preventDefault();
}

function LinkBox({ now }: { now: Active }) {
  const id = useId();
  const [address, setAddress] = useState(() => linkAt(now.editor.view.state)?.address ?? "");
  const [wrong, setWrong] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current?.select(), []);
  const close = () => {
    linkBox.set(false);
    now.editor.focus();
  };
  const apply = (value: string) => {
    const { view } = now.editor;
    setLink(value.trim())(view.state, (tr) => view.dispatch(tr), view);
    close();
  };
  const submit = () => {
    const problem = linkProblem(address);
    setWrong(problem);
    if (problem === null) apply(address);
    else input.current?.focus();
  };
  return (
    <form
      class="link-box"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        close();
      }}
    >
      <div class="field">
        <label for={id}>Address of the link</label>
        <input id={id} ref={input} value={address} onInput={(event) => setAddress(event.currentTarget.value)} autocomplete="off" spellcheck={false} aria-describedby={`${id}-wrong`} aria-invalid={wrong !== null} />
        <span class="error" id={`${id}-wrong`} role="alert">
          {wrong}
        </span>
      </div>
      <button type="submit" class="button primary small">Set link</button>
      <button type="button" class="button small" onClick={() => apply("")}>Remove link</button>
      <button type="button" class="button quiet small" onClick={close}>Cancel</button>
    </form>
  );
}
