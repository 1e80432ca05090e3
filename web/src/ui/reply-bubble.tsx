/** "Reply here", beside the words I have selected. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { active, activeChange } from "./active";
import { Icon } from "./icons";
import { useReadable } from "./readable";
import { replyHere } from "./replies";

export function ReplyBubble() {
  const now = useReadable(active);
  const turn = useReadable(activeChange);
  const bubble = useRef<HTMLButtonElement>(null);
  const shown = now?.editor.selecting && now.editor.focused;
  useLayoutEffect(() => {
    const button = bubble.current;
    const area = button?.parentElement;
    if (!button || !area || !now) return;
    const at = now.editor.view.coordsAtPos(now.editor.view.state.selection.to);
    const frame = area.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left - frame.left), frame.width - button.offsetWidth - 8);
    button.style.left = `${left}px`;
    button.style.top = `${Math.min(at.bottom - frame.top + 8, frame.height - button.offsetHeight - 8)}px`;
  }, [now, turn, shown]);
  if (!now || !shown) return null;
  return (
    <button ref={bubble} type="button" class="button small editor-tools reply-bubble" onMouseDown={(event) => event.preventDefault()} onClick={() => replyHere(now)}>
      <Icon name="comment" /> Reply here
    </button>
  );
}
