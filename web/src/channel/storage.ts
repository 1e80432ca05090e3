/**
 * What the browser keeps: changes that are not sent, the last state of each wavelet, drafts, the inbox. IndexedDB, one
 * database an address.
 *
 * Unsent changes are kept by wavelet and session, and a session belongs to one page, so that two pages never write over
 * each other. A page holds a lock on its session as long as it lives; one that starts takes over the sessions whose lock
 * nobody holds. Where the browser has no locks (they need a secure context) a page takes over only the sessions that it
 * had itself before its reloads.
 */

import type { WaveletCopy } from "../wave/wavelet";
import type { KeptDraft } from "../wave/client";
import type { InboxRow, WaveletState } from "../wire/messages";
import type { StoredChannel } from "./channel";

/** The stored form of a channel, with its key. */
interface ChannelRow {
  readonly key: string;
  readonly session: string;
  readonly channel: StoredChannel;
}

interface SnapshotRow {
  readonly key: string;
  readonly wave: string;
  readonly saved: number;
  readonly state: WaveletState;
}

const STORES = { channels: "key", snapshots: "key", drafts: "id", settings: "key" } as const;
type StoreName = keyof typeof STORES;

/** Waves that are kept for reading without a connection. */
const KEPT_WAVELETS = 200;

/** Reloads after which a page without locks still finds what it left. */
const SESSIONS_KEPT = 50;

/** The part of the browser that is needed; the locks may be missing. */
export interface StorageWorld {
  readonly indexedDB: IDBFactory;
  readonly locks: Pick<LockManager, "request"> | null;
  /** Survives a reload of this page only. */
  readonly pageStorage: Pick<globalThis.Storage, "getItem" | "setItem"> | null;
  newSession(): string;
  now(): number;
}

/** See the module's comment. */
export class Storage {
  readonly #db: IDBDatabase;
  readonly #world: StorageWorld;
  readonly #address: string;
  /** The session of this page. */
  readonly session: string;
  /** The sessions that this page had before its reloads. */
  readonly #earlier: readonly string[];
  readonly #release: (() => void)[] = [];

  private constructor(db: IDBDatabase, world: StorageWorld, address: string) {
    this.#db = db;
    this.#world = world;
    this.#address = address;
    this.session = world.newSession();
    const key = `billow-sessions/${address}`;
    this.#earlier = (world.pageStorage?.getItem(key) ?? "").split(" ").filter((session) => session !== "");
    world.pageStorage?.setItem(key, [...this.#earlier, this.session].slice(-SESSIONS_KEPT).join(" "));
  }

  /** Opens the database of an address and begins a session. Throws when the browser does not let us store. */
  static async open(address: string, world: StorageWorld): Promise<Storage> {
    const request = world.indexedDB.open(`billow/${address}`, 1);
    request.onupgradeneeded = () => {
      for (const [name, keyPath] of Object.entries(STORES)) request.result.createObjectStore(name, { keyPath });
    };
    const db = await result(request);
    db.onversionchange = () => db.close();
    const storage = new Storage(db, world, address);
    await storage.#lock(storage.session);
    return storage;
  }

  /** Ends the session; what is stored stays. */
  close(): void {
    for (const release of this.#release) release();
    this.#db.close();
  }

  /** The unsent changes of pages that live no more; they are this page's from now on. */
  async adopt(): Promise<StoredChannel[]> {
    const rows = await this.#all<ChannelRow>("channels");
    const sessions = new Set(rows.map((row) => row.session));
    const orphans = new Set<string>();
    for (const session of sessions) if (session !== this.session && (await this.#isOrphan(session))) orphans.add(session);
    return rows.filter((row) => orphans.has(row.session)).map((row) => row.channel);
  }

  /** Keeps a channel's unsent changes; `null` when there are none any more. Resolves when they are stored. */
  async saveChannel(wavelet: string, session: string, channel: StoredChannel | null): Promise<void> {
    const key = JSON.stringify([wavelet, session]);
    if (channel === null) await this.#write("channels", (store) => store.delete(key));
    else await this.#write("channels", (store) => store.put({ key, session, channel } satisfies ChannelRow));
  }

  /** Keeps a wavelet's state as the server confirmed it, unless a newer one is there. */
  async saveSnapshot(wave: string, copy: WaveletCopy): Promise<void> {
    const transaction = this.#db.transaction("snapshots", "readwrite");
    const store = transaction.objectStore("snapshots");
    const before = await result<SnapshotRow | undefined>(store.get(copy.name));
    if (before === undefined || before.state.version <= copy.version) {
      store.put({ key: copy.name, wave, saved: this.#world.now(), state: copy.toState() } satisfies SnapshotRow);
    }
    await done(transaction);
  }

  /** The kept states of a wave's wavelets. */
  async snapshots(wave: string): Promise<WaveletState[]> {
    const rows = await this.#all<SnapshotRow>("snapshots", IDBKeyRange.bound(`${wave}/`, `${wave}/\uffff`));
    return rows.map((row) => row.state);
  }

  /** Forgets a wavelet's state. */
  async forgetSnapshot(wavelet: string): Promise<void> {
    await this.#write("snapshots", (store) => store.delete(wavelet));
  }

  /** Forgets the states that were used longest ago, when there are too many. */
  async prune(): Promise<void> {
    const rows = await this.#all<SnapshotRow>("snapshots");
    const old = rows.sort((a, b) => b.saved - a.saved).slice(KEPT_WAVELETS);
    for (const row of old) await this.forgetSnapshot(row.key);
  }

  /** All drafts. */
  async drafts(): Promise<KeptDraft[]> {
    return this.#all<KeptDraft>("drafts");
  }

  /** Keeps a draft. */
  async saveDraft(draft: KeptDraft): Promise<void> {
    await this.#write("drafts", (store) => store.put(draft));
  }

  /** Forgets a draft. */
  async removeDraft(id: string): Promise<void> {
    await this.#write("drafts", (store) => store.delete(id));
  }

  /** The inbox as it was last. */
  async inbox(): Promise<InboxRow[] | null> {
    const transaction = this.#db.transaction("settings");
    const row = await result<{ rows: InboxRow[] } | undefined>(transaction.objectStore("settings").get("inbox"));
    return row?.rows ?? null;
  }

  /** Keeps the inbox. */
  async saveInbox(rows: readonly InboxRow[]): Promise<void> {
    await this.#write("settings", (store) => store.put({ key: "inbox", rows }));
  }

  async #isOrphan(session: string): Promise<boolean> {
    if (this.#world.locks === null) return this.#earlier.includes(session);
    return this.#lock(session);
  }

  /** Takes a session's lock until this page ends; false when somebody has it. */
  #lock(session: string): Promise<boolean> {
    const locks = this.#world.locks;
    if (locks === null) return Promise.resolve(true);
    return new Promise((resolve, reject) => {
      const held = new Promise<void>((release) => this.#release.push(release));
      locks
        .request(`billow/${this.#address}/${session}`, { ifAvailable: true }, (lock) => {
          resolve(lock !== null);
          return lock === null ? undefined : held;
        })
        .catch(reject);
    });
  }

  async #all<T>(name: StoreName, range?: IDBKeyRange): Promise<T[]> {
    return result<T[]>(this.#db.transaction(name).objectStore(name).getAll(range));
  }

  async #write(name: StoreName, action: (store: IDBObjectStore) => void): Promise<void> {
    const transaction = this.#db.transaction(name, "readwrite", { durability: "relaxed" });
    action(transaction.objectStore(name));
    await done(transaction);
  }
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function done(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}
