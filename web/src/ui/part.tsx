/**
 * How much of a conversation is on the page. A foreign server makes conversations as long and as deep as it likes; the
 * page shows a part that it can bear, nearest to the root first, and buttons for more.
 */
import { createContext } from "preact";
import { useContext, useMemo, useState } from "preact/hooks";
import type { Conversation, ManifestBlip, Thread } from "../wave/client";

/** Messages and threads that are shown at first, and that each button adds. */
export const PART = 500;
/** Threads within threads that are shown before somebody asks for more. */
export const DEPTH = 24;

/** What is shown, and how there comes to be more. */
export type Part = {
  readonly has: (one: ManifestBlip | Thread) => boolean;
  /** Shows more of everything, and these threads however deep they are. */
  readonly more: (threads: readonly Thread[]) => void;
};

/** The messages and threads that are shown, in the order of their depth; threads named in `opened` count as near. */
export function partOf(root: Thread, most: number, opened: ReadonlySet<string>): Set<ManifestBlip | Thread> {
  const shown = new Set<ManifestBlip | Thread>([root]);
  const ahead: { thread: Thread; depth: number }[] = [{ thread: root, depth: 0 }];
  for (let next = 0; next < ahead.length; next++) {
    const { thread, depth } = ahead[next]!;
    for (const blip of thread.blips) {
      if (shown.size > most) return shown;
      shown.add(blip);
      for (const below of blip.threads) {
        const near = below.id !== null && opened.has(below.id) ? 0 : depth + 1;
        if (near > DEPTH) continue;
        if (shown.size > most) return shown;
        shown.add(below);
        ahead.push({ thread: below, depth: near });
      }
    }
  }
  return shown;
}

/** The messages of threads and of all below them; counting ends at `most`. */
export function countOf(threads: readonly Thread[], most = 10_000): number {
  const ahead = [...threads];
  let count = 0;
  for (let thread = ahead.pop(); thread !== undefined && count < most; thread = ahead.pop()) {
    count += thread.blips.length;
    for (const blip of thread.blips) for (const below of blip.threads) ahead.push(below);
  }
  return Math.min(count, most);
}

const ALL: Part = { has: () => true, more: () => {} };

const PartContext = createContext<Part>(ALL);

export const usePart = (): Part => useContext(PartContext);

/** The part of this conversation that is shown, for all that is drawn inside. */
export function ShownPart({ conversation, children }: { readonly conversation: Conversation; readonly children: preact.ComponentChildren }) {
  const [{ most, opened }, set] = useState<{ most: number; opened: ReadonlySet<string> }>({ most: PART, opened: new Set() });
  const part = useMemo<Part>(() => {
    const shown = partOf(conversation.root, most, opened);
    return {
      has: (one) => shown.has(one),
      more: (threads) =>
        set((old) => {
          const ids = threads.flatMap(({ id }) => (id === null ? [] : [id])).slice(0, PART);
          return { most: old.most + PART, opened: new Set([...old.opened, ...ids]) };
        }),
    };
  }, [conversation, most, opened]);
  return <PartContext.Provider value={part}>{children}</PartContext.Provider>;
}

/** The button where something is left out. */
export function ShowMore({ count, what, more }: { readonly count: number; readonly what: "message" | "reply"; readonly more: () => void }) {
  const many = what === "message" ? "messages" : "replies";
  return (
    <button type="button" class="button quiet small show-more" onClick={more}>
      {count < 10_000 ? `Show ${count} more ${count === 1 ? what : many}` : `Show more of over 10,000 ${many}`}
    </button>
  );
}
