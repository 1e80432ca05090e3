/** The client: one connection, one storage, the waves that are open. */

import { Channel, type StoredChannel } from "../channel/channel";
import type { Storage } from "../channel/storage";
import { sameJson } from "../ot/op";
import type { ClientMessage, DeliveryState, InboxRow, OpComponent, PeerDelivery, ServerMessage, WaveletState } from "../wire/messages";
import type { SocketEvents } from "../wire/socket";
import type { Client, ConnectionState, KeptDraft, RequestList, Saving, Wave, Wavelet } from "./client";
import { emptyBlip, emptyManifest, MANIFEST } from "./conversation";
import { Emitter, Value } from "./observable";
import { OpenWavelet, type Surroundings } from "./open-wavelet";
import { WaveletCopy } from "./wavelet";

/** The connection, as the client uses it. */
export interface Connection {
  start(): void;
  stop(): void;
  hope(): void;
  send(message: ClientMessage): boolean;
  readonly connected: boolean;
}

/** The world of a client. */
export interface ClientWorld {
  /** My address. */
  readonly address: string;
  connection(events: SocketEvents): Connection;
  /** Opens the storage; null where the browser has none for us. */
  storage(): Promise<Storage | null>;
  /** Whether the session is still good; null when the server cannot be asked. */
  signedIn(): Promise<boolean | null>;
  /** Whether the browser believes that there is a network. */
  online(): boolean;
  newId(): string;
  now(): number;
  setTimeout(action: () => void, ms: number): unknown;
}

/** Tries in a row after which we say that we are offline. */
const OFFLINE_AFTER = 5;
/** How long after a change the state of a wavelet is kept, ms. */
const KEEP_AFTER = 1_500;

/** An open wave: of all who have it open the one object behind. */
class OpenWave {
  readonly status = new Value<"loading" | "open" | "missing">("loading");
  readonly trouble = new Value<string | null>(null);
  readonly wavelets = new Value<readonly Wavelet[]>([]);
  readonly root = new Value<Wavelet | null>(null);
  readonly open = new Map<string, OpenWavelet>();
  /** Wavelets that the server has named since the last `open` message. */
  readonly named = new Set<string>();
  users = 0;
  /** Whether what is stored has been read. */
  loaded = false;
  /** Whether an `open` message waits for its answer. */
  opening = false;
  /** Whether the wave is one that we are about to make. */
  creating = false;

  constructor(readonly id: string) {}

  add(wavelet: OpenWavelet): void {
    this.open.set(wavelet.name, wavelet);
    const all = [...this.open.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    this.wavelets.set(all);
    if (wavelet.name === rootOf(this.id)) this.root.set(wavelet);
  }
}

/** See the module's comment. */
export class ClientStore implements Client, SocketEvents {
  readonly connection = new Value<ConnectionState>({ kind: "connecting" });
  readonly address: Value<string | null>;
  readonly domains = new Value<readonly string[]>([]);
  readonly inbox = new Value<readonly InboxRow[] | null>(null);
  readonly requests = new Value<RequestList>({ rows: [], more: 0, blocked: [] });
  readonly domainStates = new Value<ReadonlyMap<string, DeliveryState>>(new Map());
  /** The rows as the server has them. */
  #rows: readonly InboxRow[] | null = null;
  readonly saving = new Value<Saving>({ state: "saved", changes: 0 });
  readonly drafts = new Value<readonly KeptDraft[]>([]);
  readonly errors = new Emitter<string>();
  readonly #world: ClientWorld;
  readonly #socket: Connection;
  readonly #waves = new Map<string, OpenWave>();
  readonly #orphans = new Map<string, StoredChannel[]>();
  #storage: Storage | null = null;
  #ready: Promise<void> | null = null;
  #session: string;
  /** The last number of a submission by wavelet, of wavelets that were closed: numbers of a session are never used twice. */
  readonly #sequences = new Map<string, number>();
  readonly #events: (() => void)[] = [];
  #emitting = false;
  readonly #stored = new WeakMap<Channel, { text: string; done: Promise<void> }>();
  readonly #keeping = new Map<string, WaveletCopy>();

  constructor(world: ClientWorld) {
    this.#world = world;
    this.address = new Value<string | null>(world.address);
    this.#session = world.newId();
    this.#socket = world.connection(this);
  }

  start(): void {
    if (this.connection.get().kind === "signedOut") this.connection.set({ kind: "connecting" });
    this.#ready ??= this.#load();
    void this.#ready.then(() => this.#socket.start());
  }

  async stop(): Promise<void> {
    this.#socket.stop();
    for (const wavelet of this.#allWavelets()) wavelet.disconnected();
    await this.flush();
    this.#storage?.close();
    this.#storage = null;
    this.#ready = null;
  }

  retry(): void {
    this.#socket.hope();
  }

  open(id: string): Wave {
    const wave = this.#use(id);
    if (!wave.loaded && wave.users === 1) void this.#loadWave(wave);
    return this.#handle(wave);
  }

  create({ title = "", participants = [], domain }: { title?: string; participants?: readonly string[]; domain?: string }): Wave {
    const me = this.#world.address;
    const wave = this.#use(`${domain ?? me.slice(me.lastIndexOf("@") + 1)}/w+${this.#world.newId()}`);
    const name = rootOf(wave.id);
    wave.loaded = true;
    wave.creating = true;
    const channel = this.#channel(new WaveletCopy(name, hostOf(name)));
    const wavelet = new OpenWavelet(channel, [], this.#surroundings(wave));
    wave.add(wavelet);
    const blip = `b+${this.#world.newId()}`;
    const others = [...new Set(participants.map((p) => p.trim().toLowerCase()))].filter((p) => p !== me && p !== "");
    wavelet.change(
      [
        { addParticipant: me },
        { mutateDocument: { documentId: MANIFEST, operation: emptyManifest() } },
        { mutateDocument: { documentId: blip, operation: emptyBlip(title) } },
        { mutateDocument: { documentId: MANIFEST, operation: firstEntry(blip) } },
        ...others.map((address) => ({ addParticipant: address })),
      ],
      null,
    );
    wave.status.set("open");
    if (this.#socket.connected) this.#begin(wavelet);
    return this.#handle(wave);
  }

  accept(wave: string): void {
    this.#answer(wave, { type: "acceptRequest", wave });
  }

  decline(wave: string): void {
    this.#answer(wave, { type: "declineRequest", wave });
  }

  block(domain: string, blocked: boolean): void {
    this.#socket.send({ type: "blockDomain", domain, blocked });
  }

  /** The request is gone at once; the server says again what is left. */
  #answer(wave: string, message: ClientMessage): void {
    if (!this.#socket.send(message)) return;
    const now = this.requests.get();
    this.requests.set({ ...now, rows: now.rows.filter((row) => row.wave !== wave) });
  }

  dismiss(draft: string): void {
    this.drafts.set(this.drafts.get().filter((d) => d.id !== draft));
    void this.#storage?.removeDraft(draft).catch(() => {});
  }

  async flush(): Promise<void> {
    const writes = this.#allWavelets().map((wavelet) => this.#store(wavelet.channel));
    for (const copy of this.#keeping.values()) writes.push(this.#keep(copy));
    this.#keeping.clear();
    await Promise.allSettled(writes);
  }

  // What becomes of the connection.

  connected(): void {
    this.connection.set({ kind: "online" });
  }

  disconnected(tries: number): void {
    for (const wavelet of this.#allWavelets()) wavelet.disconnected();
    const before = this.connection.get();
    if (before.kind === "signedOut") return;
    const since = "since" in before ? before.since : this.#world.now();
    const offline = !this.#world.online() || tries >= OFFLINE_AFTER;
    if (before.kind !== "connecting" || offline) this.connection.set({ kind: offline ? "offline" : "reconnecting", since });
    this.#sumUp();
    void this.#world.signedIn().then((good) => {
      if (good === false && !this.#socket.connected) this.#signedOut();
    });
  }

  nonsense(text: string): void {
    this.errors.emit(`not a message: ${text}`);
  }

  message(message: ServerMessage): void {
    switch (message.type) {
      case "welcome":
        return this.#welcome(message.address, message.domains);
      case "snapshot":
        return this.#snapshot(message.wavelet);
      case "resumed":
        return this.#wavelet(message.wavelet)?.resumed();
      case "opened":
        return this.#opened(message.wave);
      case "noWave":
        return this.#noWave(message.wave, message.text);
      case "delta":
        return this.#wavelet(message.delta.wavelet)?.receive(message.delta);
      case "refused":
        return this.#wavelet(message.wavelet)?.refused(message);
      case "caret":
        return this.#wavelet(message.wavelet)?.caret(message);
      case "delivery":
        return this.#delivery(message.wavelet, message.peers);
      case "readState":
        return this.#wavelet(message.wavelet)?.readState(message.blips);
      case "inbox":
        return this.#setInbox(message.rows);
      case "inboxRow":
        return this.#setInbox([message.row, ...(this.#rows ?? []).filter((row) => row.wave !== message.row.wave)]);
      case "inboxGone":
        return this.#setInbox((this.#rows ?? []).filter((row) => row.wave !== message.wave));
      case "requests":
        return this.requests.set({ rows: message.rows, more: message.more, blocked: message.blocked });
      case "error":
        return this.errors.emit(message.text);
      case "signedOut":
        return this.#signedOut();
      case "pong":
    }
  }

  #delivery(name: string, peers: readonly PeerDelivery[]): void {
    this.#wavelet(name)?.delivered(peers);
    const states = this.domainStates.get();
    if (peers.every(({ domain, state }) => states.get(domain) === state)) return;
    this.domainStates.set(new Map([...states, ...peers.map(({ domain, state }) => [domain, state] as const)]));
  }

  #welcome(address: string, domains: readonly string[]): void {
    if (address !== this.#world.address) {
      // Somebody else has signed in with this browser: what is unsent here is not theirs.
      this.errors.emit(`signed in as ${address}, not ${this.#world.address}`);
      return this.#signedOut();
    }
    this.domains.set(domains);
    this.#socket.send({ type: "watchInbox" });
    for (const wave of this.#waves.values()) this.#sendOpen(wave);
    this.#sumUp();
  }

  #signedOut(): void {
    this.connection.set({ kind: "signedOut" });
    this.#socket.stop();
    for (const wavelet of this.#allWavelets()) wavelet.disconnected();
    this.#sumUp();
  }

  #snapshot(state: WaveletState): void {
    const wave = this.#waves.get(waveOf(state.wavelet));
    if (wave === undefined || !isConversation(state.wavelet)) return;
    wave.named.add(state.wavelet);
    const before = wave.open.get(state.wavelet);
    if (before !== undefined) {
      before.snapshot(state);
      if (!wave.opening) before.opened();
      return;
    }
    let copy: WaveletCopy;
    try {
      copy = WaveletCopy.from(state);
    } catch (e) {
      return this.errors.emit(`${state.wavelet}: ${e instanceof Error ? e.message : e}`);
    }
    const wavelet = new OpenWavelet(this.#channel(copy), [], this.#surroundings(wave));
    wave.add(wavelet);
    // One that I was added to while the wave is open comes by itself.
    if (!wave.opening) wavelet.opened();
    this.#keepLater(copy);
  }

  #opened(id: string): void {
    const wave = this.#waves.get(id);
    if (wave === undefined) return;
    wave.creating = false;
    wave.opening = false;
    wave.trouble.set(null);
    wave.status.set("open");
    for (const wavelet of wave.open.values()) {
      if (wave.named.has(wavelet.name)) wavelet.opened();
      else wavelet.gone();
    }
    this.#closeIdle(wave);
  }

  #noWave(id: string, unshown?: string): void {
    const wave = this.#waves.get(id);
    if (wave === undefined) return;
    wave.opening = false;
    const root = wave.open.get(rootOf(id));
    if (root !== undefined && root.channel.confirmed.version === 0 && root.changes > 0) {
      wave.creating = true;
      return this.#begin(root);
    }
    if (unshown !== undefined) {
      // It is there and mine; what is kept here is all that can be shown now, and nothing of it is let go.
      wave.trouble.set(unshown);
      if (wave.open.size === 0) wave.status.set("missing");
      return;
    }
    for (const wavelet of wave.open.values()) {
      wavelet.gone();
      void this.#storage?.forgetSnapshot(wavelet.name).catch(() => {});
    }
    wave.status.set("missing");
    this.#closeIdle(wave);
  }

  /** The server has no such wave yet: the submission makes it. */
  #begin(wavelet: OpenWavelet): void {
    wavelet.resumed();
    wavelet.opened();
  }

  #setInbox(rows: readonly InboxRow[]): void {
    const sorted = [...rows].sort((a, b) => b.lastModified - a.lastModified);
    this.#rows = sorted;
    this.#showInbox();
    void this.#storage?.saveInbox(sorted).catch(() => {});
  }

  /** Of a wave that is open we know ourselves, and at once, what is unread. */
  #showInbox(): void {
    if (this.#rows === null) return;
    const shown = this.#rows.map((row) => {
      const wave = this.#waves.get(row.wave);
      if (row.unread === 0 || wave === undefined || wave.opening || wave.open.size === 0 || wave.users === 0) return row;
      const unread = Math.min(row.unread, [...wave.open.values()].reduce((sum, wavelet) => sum + wavelet.unread, 0));
      return unread === row.unread ? row : { ...row, unread };
    });
    const before = this.inbox.get();
    const same = before?.length === shown.length && shown.every((row, i) => row === before[i] || sameJson(row, before[i]));
    if (!same) this.inbox.set(shown);
  }

  // Waves.

  #use(id: string): OpenWave {
    let wave = this.#waves.get(id);
    if (wave === undefined) {
      wave = new OpenWave(id);
      this.#waves.set(id, wave);
    }
    wave.users++;
    return wave;
  }

  #handle(wave: OpenWave): Wave {
    let closed = false;
    const close = (): void => {
      if (closed) return;
      closed = true;
      this.#leave(wave);
    };
    return { id: wave.id, status: wave.status, trouble: wave.trouble, wavelets: wave.wavelets, root: wave.root, close };
  }

  /** A wave stays open for as long as somebody looks at it or something of mine is unsent. */
  #leave(wave: OpenWave): void {
    wave.users--;
    this.#closeIdle(wave);
  }

  #closeIdle(wave: OpenWave): void {
    if (wave.users > 0 || this.#waves.get(wave.id) !== wave || !wave.loaded) return;
    if ([...wave.open.values()].some((wavelet) => wavelet.changes > 0)) return;
    this.#waves.delete(wave.id);
    for (const wavelet of wave.open.values()) {
      wavelet.setCaret(null);
      wavelet.close();
      const { session, sequence } = wavelet.channel;
      if (session === this.#session) this.#sequences.set(wavelet.name, sequence);
    }
    this.#socket.send({ type: "close", wave: wave.id });
  }

  /** Reads what is stored of a wave, then asks the server for it. */
  async #loadWave(wave: OpenWave): Promise<void> {
    await this.#ready;
    const states = (await this.#storage?.snapshots(wave.id).catch(() => [])) ?? [];
    if (wave.loaded) return;
    wave.loaded = true;
    const copies = new Map<string, WaveletCopy>();
    for (const state of states) {
      try {
        if (isConversation(state.wavelet)) copies.set(state.wavelet, WaveletCopy.from(state));
      } catch {
        void this.#storage?.forgetSnapshot(state.wavelet).catch(() => {});
      }
    }
    for (const name of this.#orphans.keys()) if (waveOf(name) === wave.id && !copies.has(name)) copies.set(name, this.#bare(name));
    for (const [name, copy] of copies) this.#restore(wave, name, copy);
    if (wave.open.size > 0) wave.status.set("open");
    if (this.#socket.connected) this.#sendOpen(wave);
    this.#closeIdle(wave);
  }

  /** A channel without changes, that goes on with the numbers of those before it. */
  #channel(copy: WaveletCopy): Channel {
    return new Channel(copy, this.#session, this.#world.address, this.#sequences.get(copy.name) ?? 0);
  }

  #bare(name: string): WaveletCopy {
    return new WaveletCopy(name, this.#orphans.get(name)?.[0]?.host ?? hostOf(name));
  }

  #restore(wave: OpenWave, name: string, copy: WaveletCopy): void {
    if (wave.open.has(name)) return;
    const [first, ...others] = this.#orphans.get(name) ?? [];
    this.#orphans.delete(name);
    const channel =
      first === undefined
        ? this.#channel(copy)
        : Channel.restore(first, copy.version === 0 ? null : copy);
    channel.disconnected();
    wave.add(new OpenWavelet(channel, others, this.#surroundings(wave)));
  }

  #sendOpen(wave: OpenWave): void {
    if (!wave.loaded) return;
    wave.named.clear();
    const known: { wavelet: string; version: number }[] = [];
    for (const wavelet of wave.open.values()) {
      const version = wavelet.known;
      if (version !== null && version > 0) known.push({ wavelet: wavelet.name, version });
    }
    wave.opening = this.#socket.send({ type: "open", wave: wave.id, known });
  }

  #wavelet(name: string): OpenWavelet | undefined {
    const wave = this.#waves.get(waveOf(name));
    wave?.named.add(name);
    return wave?.open.get(name);
  }

  #allWavelets(): OpenWavelet[] {
    return [...this.#waves.values()].flatMap((wave) => [...wave.open.values()]);
  }

  #surroundings(wave: OpenWave): Surroundings {
    const world = this.#world;
    return {
      address: world.address,
      connected: () => this.#socket.connected,
      isLocal: (host) => this.domains.get().includes(host),
      send: (message) => void this.#socket.send(message),
      reopen: () => this.#sendOpen(wave),
      created: () => {
        if (!wave.creating) return;
        wave.creating = false;
        this.#sendOpen(wave);
      },
      store: (channel) => this.#store(channel),
      confirmed: (copy) => this.#keepLater(copy),
      draft: (draft) => this.#addDraft(draft),
      emit: (event) => this.#emit(event),
      changed: () => {
        this.#sumUp();
        this.#showInbox();
        if (wave.users === 0) this.#closeIdle(wave);
      },
      newId: () => world.newId(),
      now: () => world.now(),
      setTimeout: (action, ms) => world.setTimeout(action, ms),
    };
  }

  /** Events run one after the other, also those that come while one runs. */
  #emit(event: () => void): void {
    this.#events.push(event);
    if (this.#emitting) return;
    this.#emitting = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) next();
    } finally {
      this.#emitting = false;
    }
  }

  #sumUp(): void {
    const all = this.#allWavelets().map((wavelet) => wavelet.saving.get());
    const changes = this.#allWavelets().reduce((sum, wavelet) => sum + wavelet.changes, 0);
    const has = (state: Saving["state"]): boolean => all.some((saving) => saving.state === state);
    const state = has("unsent") ? "unsent" : has("saving") ? "saving" : "saved";
    const before = this.saving.get();
    if (before.state !== state || before.changes !== changes) this.saving.set({ state, changes });
  }

  // Storage.

  async #load(): Promise<void> {
    try {
      this.#storage = await this.#world.storage();
    } catch (e) {
      this.errors.emit(`changes cannot be kept in this browser: ${e instanceof Error ? e.message : e}`);
    }
    const storage = this.#storage;
    if (storage === null) return;
    this.#session = storage.session;
    this.#sequences.clear();
    try {
      this.drafts.set(await storage.drafts());
      const rows = await storage.inbox();
      if (this.#rows === null && rows !== null) this.inbox.set((this.#rows = rows));
      for (const channel of await storage.adopt()) {
        this.#orphans.set(channel.wavelet, [...(this.#orphans.get(channel.wavelet) ?? []), channel]);
      }
      void storage.prune().catch(() => {});
    } catch (e) {
      this.errors.emit(`what was kept cannot be read: ${e instanceof Error ? e.message : e}`);
    }
    for (const id of new Set([...this.#orphans.keys()].map(waveOf))) {
      const wave = this.#use(id);
      void this.#loadWave(wave).then(() => this.#leave(wave));
    }
  }

  /** Keeps a channel's unsent changes as they are now; the same is not written twice. */
  #store(channel: Channel): Promise<void> {
    const storage = this.#storage;
    if (storage === null) return Promise.resolve();
    const stored = channel.toStored();
    const text = stored === null ? "" : JSON.stringify([stored.sequence, stored.version, stored.inFlight, stored.pending]);
    const before = this.#stored.get(channel);
    if (before?.text === text) return before.done;
    if (before === undefined && stored === null && channel.session === this.#session) return Promise.resolve();
    const done = storage.saveChannel(channel.confirmed.name, channel.session, stored);
    this.#stored.set(channel, { text, done });
    done.catch(() => this.#stored.delete(channel));
    return done;
  }

  #keepLater(copy: WaveletCopy): void {
    if (this.#storage === null) return;
    const waiting = this.#keeping.has(copy.name);
    this.#keeping.set(copy.name, copy);
    if (waiting) return;
    this.#world.setTimeout(() => {
      const latest = this.#keeping.get(copy.name);
      this.#keeping.delete(copy.name);
      if (latest !== undefined) void this.#keep(latest).catch(() => {});
    }, KEEP_AFTER);
  }

  async #keep(copy: WaveletCopy): Promise<void> {
    await this.#storage?.saveSnapshot(waveOf(copy.name), copy);
  }

  #addDraft(draft: Omit<KeptDraft, "id" | "time">): void {
    const kept = { ...draft, id: this.#world.newId(), time: this.#world.now() };
    this.drafts.set([...this.drafts.get(), kept]);
    void this.#storage?.saveDraft(kept).catch(() => {});
  }
}

/** `example.org/w+abc` of `example.org/w+abc/~/conv+root`. */
export function waveOf(wavelet: string): string {
  return wavelet.split("/").slice(0, 2).join("/");
}

/** The domain that orders a wavelet's operations. */
export function hostOf(wavelet: string): string {
  const [wave, , host] = wavelet.split("/");
  return (host === "~" ? wave : host) ?? "";
}

function rootOf(wave: string): string {
  return `${wave}/~/conv+root`;
}

function isConversation(wavelet: string): boolean {
  return (wavelet.split("/")[3] ?? "").startsWith("conv+");
}

function firstEntry(blip: string): OpComponent[] {
  return [
    { retain: 1 },
    { elementStart: { type: "blip", attributes: [["id", blip]] } },
    { elementEnd: true },
    { retain: 1 },
  ];
}
