/** The list of keys, with `?`. */
import { Dialog } from "./dialog";

const MOD = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";

const GROUPS: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ["Everywhere", [
    ["F6 / Shift+F6", "next / previous region"],
    ["c", "new wave"],
    ["g i", "inbox"],
    ["?", "this list"],
  ]],
  ["In the list and between messages", [
    ["j / k, ↓ / ↑", "next / previous"],
    ["n / p, Space / Shift+Space", "next / previous unread"],
    ["Enter", "reply in this thread"],
    ["r", "reply to this message"],
    ["i", "write in this message"],
    ["Esc", "text → message → list"],
  ]],
  ["In text", [
    [`${MOD}+B, I, U`, "bold, italic, underline"],
    [`${MOD}+Shift+X`, "strike through"],
    [`${MOD}+K`, "link"],
    [`${MOD}+Alt+1 … 4`, "headings"],
    [`${MOD}+Shift+7, 8`, "numbered list, bulleted list"],
    ["Tab / Shift+Tab", "in a list: deeper / less deep"],
    [`${MOD}+Alt+M`, "reply here: a thread at these words"],
    ["Alt+F10", "to the text tools"],
    [`${MOD}+Z, ${MOD}+Shift+Z`, "undo, redo my changes"],
    [`${MOD}+Enter, Esc`, "leave the text"],
  ]],
];

export function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="Keys" close={close} wide>
      <div class="help-groups">
      {GROUPS.map(([name, keys]) => (
        <section key={name} class="help-group">
          <h3>{name}</h3>
          <dl class="help-list">
            {keys.map(([key, what]) => (
              <>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{what}</dd>
              </>
            ))}
          </dl>
        </section>
      ))}
      </div>
      <p class="muted">Point at words: “Reply here”. Answer the message: “Reply”.</p>
      <div class="dialog-actions">
        <button type="button" class="button primary" onClick={close}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
