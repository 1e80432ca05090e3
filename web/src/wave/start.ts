/** Puts the client together in a browser. */

import { Storage, type StorageWorld } from "../channel/storage";
import { browserWorld, Socket } from "../wire/socket";
import type { Client } from "./client";
import { ClientStore } from "./store";

/** The client of a page, for who is signed in. It does nothing before `start`. */
export function createClient({ address }: { address: string }): Client {
  const url = new URL("/socket", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const client = new ClientStore({
    address,
    connection: (events) => new Socket(url.href, events, browserWorld()),
    storage: async () => ("indexedDB" in globalThis ? Storage.open(address, storageWorld()) : null),
    signedIn: () => signedIn(address),
    online: () => navigator.onLine,
    newId,
    now: () => Date.now(),
    setTimeout: (action, ms) => setTimeout(action, ms),
  });
  addEventListener("pagehide", () => void client.flush());
  addEventListener("offline", () => client.retry());
  return client;
}

/** Whether the server still takes us for this address; null when it does not answer. */
async function signedIn(address: string): Promise<boolean | null> {
  try {
    const response = await fetch("/api/me", { credentials: "same-origin" });
    if (response.status === 401) return false;
    if (!response.ok) return null;
    const me: unknown = await response.json();
    return (me as { address?: unknown } | null)?.address === address;
  } catch {
    return null;
  }
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** A random name of 16 letters and digits (95 bits). */
function newId(): string {
  let id = "";
  while (id.length < 16) {
    // 248 is the largest multiple of 62 in a byte: every letter is as likely.
    for (const byte of crypto.getRandomValues(new Uint8Array(24))) {
      if (byte < 248 && id.length < 16) id += ALPHABET[byte % 62];
    }
  }
  return id;
}

function storageWorld(): StorageWorld {
  return {
    indexedDB,
    locks: navigator.locks ?? null,
    pageStorage: globalThis.sessionStorage ?? null,
    newSession: newId,
    now: () => Date.now(),
  };
}
