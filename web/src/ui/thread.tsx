/** A thread: its messages and the place to add one. */
import type { Thread, Wavelet } from "../wave/client";
import { BlipView } from "./blip";
import { ShowMore, usePart } from "./part";
import { useReadable } from "./readable";
import { replyInThread } from "./replies";

type Props = { readonly wavelet: Wavelet; readonly thread: Thread; readonly close?: () => void; readonly below?: string };

export function ThreadView({ wavelet, thread, close, below }: Props) {
  const writable = useReadable(wavelet.writable);
  const kind = thread.id === null ? "root-thread" : thread.inline ? "inline-thread" : "reply-thread";
  const seen = new Set<string>();
  const part = usePart();
  const blips = thread.blips.filter((blip) => part.has(blip) && !seen.has(blip.id) && seen.add(blip.id));
  const left = thread.blips.length - thread.blips.filter(part.has).length;
  return (
    <div class={`thread ${kind}`} role={thread.id === null ? undefined : "group"} aria-label={thread.id === null ? undefined : thread.inline ? "Thread in the text" : `Replies${below ? ` to ${below}` : ""}`}>
      {close && (
        <div class="thread-head">
          <span>In reply to these words</span>
          <button type="button" class="button quiet small" onClick={close}>
            Close thread
          </button>
        </div>
      )}
      {blips.map((blip) => (
        <BlipView key={blip.id} wavelet={wavelet} blip={blip} />
      ))}
      {left > 0 && <ShowMore count={left} what="message" more={() => part.more([thread])} />}
      {writable && (
        <button type="button" class="composer" id={thread.id === null ? "composer" : undefined} data-thread={thread.id ?? ""} onClick={() => replyInThread(wavelet, thread.id)}>
          Reply in this thread
        </button>
      )}
    </div>
  );
}
