/** The state of my changes and of the connection, in the words people read. */

import type { ConnectionState, Saving } from "./client";

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
