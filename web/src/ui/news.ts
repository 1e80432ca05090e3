/** What others do in the open wave, said to the live region: new messages and people, never letters. */
import { useEffect } from "preact/hooks";
import type { Wavelet } from "../wave/client";
import { announce } from "./announce";
import { useApp } from "./context";
import { nameOf } from "./people";

export function useNews(wavelet: Wavelet): void {
  const { me } = useApp();
  useEffect(() => {
    let blips = new Set(wavelet.conversation.get().blips.keys());
    let people = new Set(wavelet.participants.get());
    const off = [
      wavelet.conversation.subscribe((conversation) => {
        for (const id of conversation.blips.keys()) {
          if (blips.has(id)) continue;
          const author = wavelet.blip(id).meta.get()?.author;
          if (author && author !== me.address) announce(`${nameOf(author)} added a reply`);
        }
        blips = new Set(conversation.blips.keys());
      }),
      wavelet.participants.subscribe((now) => {
        for (const address of now) if (!people.has(address)) announce(`${nameOf(address)} is in this wave now`);
        for (const address of people) if (!now.includes(address)) announce(`${nameOf(address)} is not in this wave any more`);
        people = new Set(now);
      }),
    ];
    return () => off.forEach((end) => end());
  }, [wavelet, me.address]);
}
