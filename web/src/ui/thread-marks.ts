/** What the markers of inline threads say: how many replies, how many unread, who was last. */
import { useEffect, useMemo, useReducer } from "preact/hooks";
import type { ThreadMark } from "../editor/threads";
import type { Thread, Wavelet } from "../wave/client";
import { nameOf } from "./people";
import { clockTime } from "./time";

/** All blips of a thread, those of the threads below too; without recursion, for they may be nested deeply. */
export function blipsOf(thread: Thread): string[] {
  const ids: string[] = [];
  const ahead = [...thread.blips].reverse();
  for (let blip = ahead.pop(); blip !== undefined; blip = ahead.pop()) {
    ids.push(blip.id);
    for (const below of [...blip.threads].reverse()) for (const one of [...below.blips].reverse()) ahead.push(one);
  }
  return ids;
}

export function useThreadMarks(wavelet: Wavelet, threads: readonly Thread[], closed: ReadonlySet<string>): ReadonlyMap<string, ThreadMark> {
  const [turn, draw] = useReducer((n: number) => n + 1, 0);
  const ids = threads.flatMap(blipsOf).join(" ");
  useEffect(() => {
    const off = threads.flatMap(blipsOf).map((id) => wavelet.blip(id).unread.subscribe(() => draw(null)));
    return () => off.forEach((end) => end());
  }, [wavelet, ids]);
  return useMemo(() => {
    return new Map(threads.map((thread) => [thread.id!, markOf(wavelet, thread, !closed.has(thread.id!))]));
  }, [wavelet, ids, closed, turn]);
}

function markOf(wavelet: Wavelet, thread: Thread, open: boolean): ThreadMark {
  const blips = blipsOf(thread).map((id) => wavelet.blip(id));
  const unread = blips.filter((blip) => blip.unread.get()).length;
  const newest = blips
    .map((blip) => blip.meta.get())
    .filter((meta) => meta !== null)
    .sort((a, b) => b.lastModifiedTime - a.lastModifiedTime)[0];
  const words = [`${blips.length} ${blips.length === 1 ? "reply" : "replies"}`];
  if (unread > 0) words.push(`${unread} new`);
  if (newest) words.push(`last ${nameOf(newest.author)} ${clockTime(newest.lastModifiedTime)}`);
  return { open, replies: blips.length, unread, label: `Thread here: ${words.join(", ")}` };
}
