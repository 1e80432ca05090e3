/** What the browser keeps, page by page. */

import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { beforeEach, describe, expect, it } from "vitest";
import type { StoredChannel } from "../../src/channel/channel";
import { Storage, type StorageWorld } from "../../src/channel/storage";
import { WaveletCopy } from "../../src/wave/wavelet";

globalThis.IDBKeyRange = IDBKeyRange;
const address = "alice@example.org";
const wavelet = "example.org/w+abc/~/conv+root";

let world: StorageWorld;
let held: Set<string>;
let sessions: number;

beforeEach(() => {
  held = new Set();
  sessions = 0;
  const page = new Map<string, string>();
  world = {
    indexedDB: new IDBFactory(),
    locks: {
      request: async (name: string, _: unknown, callback: (lock: unknown) => Promise<void> | undefined) => {
        if (held.has(name)) return callback(null);
        held.add(name);
        void callback({})?.then(() => held.delete(name));
      },
    } as never,
    pageStorage: { getItem: (key) => page.get(key) ?? null, setItem: (key, value) => void page.set(key, value) },
    newSession: () => `s${++sessions}`,
    now: () => 1,
  };
});

function unsent(session: string): StoredChannel {
  return {
    wavelet,
    host: "example.org",
    session,
    address,
    sequence: 1,
    version: 3,
    partial: false,
    inFlight: null,
    pending: [{ noOp: true }],
    pendingChanges: 1,
    participants: [address],
    documents: [],
  };
}

describe("the storage", () => {
  it("gives a page's unsent changes to one later page, and not while it lives", async () => {
    const first = await Storage.open(address, world);
    await first.saveChannel(wavelet, first.session, unsent(first.session));
    const second = await Storage.open(address, world);
    expect(await second.adopt()).toEqual([]);
    first.close();
    await Promise.resolve();
    expect(await second.adopt()).toEqual([unsent("s1")]);
    const third = await Storage.open(address, world);
    expect(await third.adopt()).toEqual([]);
    await second.saveChannel(wavelet, "s1", null);
    second.close();
    third.close();
    expect(await (await Storage.open(address, world)).adopt()).toEqual([]);
  });

  it("without locks gives a page what it had before its reloads, and no other page's", async () => {
    world = { ...world, locks: null };
    const first = await Storage.open(address, world);
    await first.saveChannel(wavelet, first.session, unsent(first.session));
    const other = await Storage.open(address, { ...world, pageStorage: null });
    expect(await other.adopt()).toEqual([]);
    first.close();
    for (let reload = 0; reload < 3; reload++) {
      const again = await Storage.open(address, world);
      expect(await again.adopt()).toEqual([unsent("s1")]);
      again.close();
    }
  });

  it("keeps the newest state of a wavelet, whoever writes last", async () => {
    const storage = await Storage.open(address, world);
    const old = new WaveletCopy(wavelet, "example.org");
    old.version = 1;
    const young = new WaveletCopy(wavelet, "example.org");
    young.version = 2;
    young.setDocument("__proto__", young.document("b+1"));
    await storage.saveSnapshot("example.org/w+abc", young);
    await storage.saveSnapshot("example.org/w+abc", old);
    const states = await storage.snapshots("example.org/w+abc");
    expect(states.map((state) => [state.version, state.documents.map((d) => d.id)])).toEqual([[2, ["__proto__"]]]);
    expect(await storage.snapshots("example.org/w+ab")).toEqual([]);
    await storage.prune();
    await storage.forgetSnapshot(wavelet);
    expect(await storage.snapshots("example.org/w+abc")).toEqual([]);
  });

  it("keeps drafts and the inbox", async () => {
    const storage = await Storage.open(address, world);
    const draft = { id: "d1", wavelet, texts: [], reason: "conflict" as const, text: "", time: 1 };
    await storage.saveDraft(draft);
    expect(await storage.drafts()).toEqual([draft]);
    await storage.removeDraft("d1");
    expect(await storage.drafts()).toEqual([]);
    expect(await storage.inbox()).toBeNull();
    await storage.saveInbox([]);
    expect(await storage.inbox()).toEqual([]);
  });
});
