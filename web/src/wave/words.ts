/** The state of my changes and of the connection, in the words people read. */

import type { ConnectionState, PeerDelivery, Saving } from "./client";

/** One line for the state chip and the bar. */
export function stateWords(connection: ConnectionState, saving: Saving): { chip: string; bar: string | null } {
  const n = saving.changes === 1 ? "1 change" : `${saving.changes} changes`;
  const chip = saving.state === "saved" ? "Saved" : saving.state === "saving" ? "Saving…" : `${n} not sent`;
  switch (connection.kind) {
    case "connecting":
    case "online":
      return { chip, bar: null };
    case "reconnecting":
      return { chip, bar: "Reconnecting… you can keep writing" };
    case "offline":
      return { chip, bar: `Offline since ${clock(connection.since)}. ${later(saving.changes, n)}` };
    case "signedOut":
      return { chip, bar: saving.changes > 0 ? `Sign in to send ${n}` : "You are signed out" };
  }
}

function later(changes: number, n: string): string {
  return changes > 0 ? `${n} will be sent` : "You can keep writing";
}

function clock(time: number): string {
  const at = new Date(time);
  return `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
}

/** What is wrong with our copy of a wave, for everybody who reads it; null while nothing is. */
export function troubleWords({ domain, state, host, since }: PeerDelivery, time: (ms: number) => string = clock): string | null {
  if (!host) return null;
  switch (state) {
    case "stale":
      return `There is something newer in this wave at ${domain}, but ${domain} does not give it to your server. You see the copy of ${time(since)}. Your server goes on asking.`;
    case "refetching":
      return `Your server's copy of this wave and the one at ${domain} do not agree. It is being fetched again. You can read on; what you write is kept and sent afterwards.`;
    case "quarantined":
      return `${domain} contradicts itself about this wave, so your server takes nothing more from it. You can read and copy what came before ${time(since)}; nobody here can write. Your other waves are not affected. Tell the people who run your server.`;
    default:
      return null;
  }
}
