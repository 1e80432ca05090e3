/** The one polite live region. What happens within five seconds is said together. */
import { useEffect } from "preact/hooks";
import { useReadable } from "./readable";
import { Value } from "../wave/observable";

const said = new Value("");
let waiting: string[] = [];
let last = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Says something to people who use a screen reader. */
export function announce(text: string): void {
  if (!waiting.includes(text)) waiting.push(text);
  if (timer !== undefined) return;
  timer = setTimeout(() => {
    timer = undefined;
    last = Date.now();
    said.set(waiting.join(". "));
    waiting = [];
  }, Math.max(50, last + 5000 - Date.now()));
}

export function LiveRegion() {
  // What was said is of no use to who comes back to the frame.
  useEffect(() => () => said.set(""), []);
  return (
    <div class="visually-hidden" role="status" aria-live="polite" aria-atomic="true">
      {useReadable(said)}
    </div>
  );
}
