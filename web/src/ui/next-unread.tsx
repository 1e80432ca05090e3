/** One button for what is new: how much, and on to the next. */
import { useEffect, useReducer } from "preact/hooks";
import type { Wavelet } from "../wave/client";
import { useReadable } from "./readable";

export function NextUnread({ wavelet }: { wavelet: Wavelet }) {
  const conversation = useReadable(wavelet.conversation);
  const [, draw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const off = [...conversation.blips.keys()].map((id) => wavelet.blip(id).unread.subscribe(() => draw(null)));
    return () => off.forEach((end) => end());
  }, [wavelet, conversation]);
  const count = [...conversation.blips.keys()].filter((id) => wavelet.blip(id).unread.get()).length;
  if (count === 0) return null;
  return (
    <button type="button" class="button primary next-unread" onClick={() => goUnread(1)}>
      {`Next unread (${count})`}
    </button>
  );
}

const messages = () => [...document.querySelectorAll<HTMLElement>("#messages article.blip")];

function show(element: HTMLElement): void {
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: "nearest" });
}

/** To the next (or the previous) unread message; into a closed thread, or what is not shown yet, when it is there. */
export function goUnread(by: 1 | -1): void {
  const all = messages();
  const here = document.activeElement?.closest<HTMLElement>("article.blip") ?? null;
  const at = here ? all.indexOf(here) : by > 0 ? -1 : all.length;
  const unread = (blip: HTMLElement) => blip.dataset["unread"] !== undefined;
  const ordered = by > 0 ? [...all.slice(at + 1), ...all.slice(0, at + 1)] : [...all.slice(0, Math.max(at, 0)).reverse(), ...all.slice(at).reverse()];
  const next = ordered.find(unread);
  if (next) {
    show(next);
    return;
  }
  const closed = '.reply-marker.is-unread[aria-expanded="false"]';
  const marker = document.querySelector<HTMLElement>(closed) ?? document.querySelector<HTMLElement>("#messages .show-more");
  marker?.click();
  marker?.scrollIntoView({ block: "nearest" });
}

/** To the next or previous message. */
export function goMessage(by: 1 | -1): void {
  const all = messages();
  const here = document.activeElement?.closest<HTMLElement>("article.blip") ?? null;
  const at = here ? all.indexOf(here) + by : by > 0 ? 0 : all.length - 1;
  const next = all[Math.min(Math.max(at, 0), all.length - 1)];
  if (next) show(next);
}
