/** What the tabs of one browser tell each other: that somebody has signed in or out. */

export type News = { readonly kind: "in" | "out"; readonly address: string };

const NAME = "billow-session";
const own = "BroadcastChannel" in globalThis ? new BroadcastChannel(NAME) : null;

/** Tells the other tabs. */
export function tellTabs(news: News): void {
  own?.postMessage(news);
}

/** Calls back with what other tabs tell, until the returned function is called. */
export function watchTabs(listener: (news: News) => void): () => void {
  const hear = ({ data }: MessageEvent) => listener(data as News);
  own?.addEventListener("message", hear);
  return () => own?.removeEventListener("message", hear);
}
