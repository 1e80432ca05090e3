/** A whole server in memory behind fake sockets, a clock that is moved by hand, and browsers with storage and locks. */

import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { Storage } from "../../src/channel/storage";
import { ClientStore } from "../../src/wave/store";
import type { ClientMessage, DeltaMessage, ServerMessage } from "../../src/wire/messages";
import { type RawSocket, Socket } from "../../src/wire/socket";
import { FakeServer } from "../channel/fake-server";

globalThis.IDBKeyRange = IDBKeyRange;

/** Time that stands still until it is moved. */
export class Clock {
  now = 1_700_000_000_000;
  #next = 1;
  readonly #timers = new Map<number, { at: number; action: () => void }>();

  setTimeout(action: () => void, ms: number): number {
    this.#timers.set(this.#next, { at: this.now + ms, action });
    return this.#next++;
  }

  clearTimeout(timer: unknown): void {
    this.#timers.delete(timer as number);
  }

  advance(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined) break;
      this.#timers.delete(due[0]);
      this.now = Math.max(this.now, due[1].at);
      due[1].action();
    }
    this.now = end;
  }
}

class Line implements RawSocket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  onerror: (() => void) | null = null;
  readonly up: string[] = [];
  readonly down: string[] = [];
  readonly open = new Set<string>();
  closed = false;

  constructor(
    readonly hub: Hub,
    readonly address: string,
  ) {}

  send(text: string): void {
    if (!this.closed) this.up.push(text);
  }

  close(): void {
    this.closed = true;
    this.hub.lines.delete(this);
  }

  say(message: ServerMessage): void {
    if (!this.closed) this.down.push(JSON.stringify(message));
  }
}

/** See the module's comment. */
export class Hub {
  readonly clock = new Clock();
  readonly lines = new Set<Line>();
  readonly wavelets = new Map<string, FakeServer>();
  readonly reads: { address: string; blips: readonly string[]; version: number }[] = [];
  /** Whether connections can be made. */
  up = true;
  /** Whether messages to the clients are thrown away (the answer gets lost). */
  deaf = false;
  /** Why no wave can be shown, although it is there. */
  damage: string | null = null;
  /** Everything that was submitted. */
  readonly submissions: string[] = [];

  /** Cuts all connections of an address; what is under way in both directions is lost. */
  cut(address?: string): void {
    for (const line of [...this.lines]) {
      if (address !== undefined && line.address !== address) continue;
      line.closed = true;
      this.lines.delete(line);
      line.onclose?.();
    }
  }

  connect(address: string): Line {
    const line = new Line(this, address);
    if (!this.up) {
      this.clock.setTimeout(() => line.onclose?.(), 1);
      return line;
    }
    this.lines.add(line);
    line.say({ type: "welcome", address, domains: ["example.org"] });
    return line;
  }

  /** Lets everything happen that happens by itself. */
  async settle(ms = 0): Promise<void> {
    for (let quiet = 0, n = 0; quiet < 12 && n < 3_000; n++) {
      quiet = this.#step() ? 0 : quiet + 1;
      await new Promise((resolve) => setImmediate(resolve));
      if (ms > 0 && quiet > 0) {
        this.clock.advance(Math.min(ms, 50));
        ms -= Math.min(ms, 50);
        quiet = Math.min(quiet, ms > 0 ? 1 : quiet);
      }
    }
  }

  #step(): boolean {
    let moved = false;
    for (const line of [...this.lines]) {
      const up = line.up.shift();
      if (up !== undefined) {
        moved = true;
        this.#receive(line, JSON.parse(up));
      }
      const down = line.down.shift();
      if (down !== undefined) {
        moved = true;
        if (!this.deaf) line.onmessage?.({ data: down });
      }
    }
    return moved;
  }

  #receive(line: Line, message: ClientMessage): void {
    switch (message.type) {
      case "watchInbox":
        return line.say({ type: "inbox", rows: [] });
      case "ping":
        return line.say({ type: "pong" });
      case "open":
        return this.#open(line, message.wave, message.known ?? []);
      case "close":
        line.open.delete(message.wave);
        return;
      case "submit":
        return this.#submit(line, message);
      case "read":
        this.reads.push({ address: line.address, blips: message.blips, version: message.version });
        return;
      case "caret":
        for (const other of this.lines) {
          if (other !== line && other.open.has(waveOf(message.wavelet))) other.say({ ...message, address: line.address });
        }
    }
  }

  #open(line: Line, wave: string, known: readonly { wavelet: string; version: number }[]): void {
    const mine = [...this.wavelets.values()].filter(
      (w) => waveOf(w.name) === wave && w.copy.version > 0 && w.copy.participants.includes(line.address),
    );
    if (mine.length > 0 && this.damage !== null) return line.say({ type: "noWave", wave, text: this.damage });
    if (mine.length === 0) return line.say({ type: "noWave", wave });
    line.open.add(wave);
    for (const server of mine) {
      const version = known.find((k) => k.wavelet === server.name)?.version;
      if (version !== undefined && server.knows(version)) {
        line.say({ type: "resumed", wavelet: server.name, version: server.copy.version });
        for (const delta of server.since(version)) line.say({ type: "delta", delta: forLine(delta, line) });
      } else {
        line.say({ type: "snapshot", wavelet: server.snapshot() });
      }
    }
    line.say({ type: "opened", wave });
  }

  #submit(line: Line, message: Extract<ClientMessage, { type: "submit" }>): void {
    this.submissions.push(`${message.session} ${message.sequence}`);
    let server = this.wavelets.get(message.wavelet);
    if (server === undefined) {
      server = new FakeServer(message.wavelet);
      this.wavelets.set(message.wavelet, server);
    }
    const answer = server.submit(line.address, message);
    if (answer.kind === "refused") {
      const { wavelet, session, sequence } = message;
      return line.say({ type: "refused", wavelet, session, sequence, reason: answer.reason, text: answer.text });
    }
    if (answer.again) return line.say({ type: "delta", delta: answer.delta });
    for (const other of this.lines) {
      if (other === line || other.open.has(waveOf(server.name))) {
        other.say({ type: "delta", delta: forLine(answer.delta, other) });
      }
    }
  }
}

/** `own` is only for the address whose it is. */
function forLine(delta: DeltaMessage, line: Line): DeltaMessage {
  if (delta.author === line.address) return delta;
  const { own: _, ...rest } = delta;
  return rest;
}

function waveOf(wavelet: string): string {
  return wavelet.split("/").slice(0, 2).join("/");
}

/** A browser of one person: what it stores outlives its pages. */
export class Browser {
  readonly indexedDB = new IDBFactory();
  readonly #held = new Map<string, unknown>();
  static #ids = 0;

  constructor(
    readonly hub: Hub,
    readonly address: string,
  ) {}

  /** Opens a page; it is connected when `hub.settle()` was awaited. */
  page(): { client: ClientStore; crash(): void } {
    const { hub, address } = this;
    const mine: string[] = [];
    let alive = true;
    let socket: Socket | null = null;
    let storage: Storage | null = null;
    const timeout = (action: () => void, ms: number): unknown => hub.clock.setTimeout(() => alive && action(), ms);
    const locks = {
      request: (name: string, _options: unknown, callback: (lock: unknown) => Promise<void> | undefined) => {
        if (this.#held.has(name)) return Promise.resolve(callback(null));
        this.#held.set(name, page);
        mine.push(name);
        return Promise.resolve(callback({ name }));
      },
    } as unknown as Pick<LockManager, "request">;
    const newId = (): string => `${address.split("@")[0]}${++Browser.#ids}`;
    const client = new ClientStore({
      address,
      connection: (events) => {
        socket = new Socket("ws://fake", events, {
          open: () => hub.connect(address),
          setTimeout: timeout,
          clearTimeout: (timer) => hub.clock.clearTimeout(timer),
          random: () => 0,
          onHope: () => () => {},
        });
        return socket;
      },
      storage: async () => {
        storage = await Storage.open(address, {
          indexedDB: this.indexedDB,
          locks,
          pageStorage: null,
          newSession: newId,
          now: () => hub.clock.now,
        });
        return storage;
      },
      signedIn: async () => null,
      online: () => true,
      newId,
      now: () => hub.clock.now,
      setTimeout: timeout,
    });
    const page = {
      client,
      /** The page is gone at once: no last words. */
      crash: (): void => {
        alive = false;
        socket?.stop();
        storage?.close();
        for (const name of mine) this.#held.delete(name);
      },
    };
    client.start();
    return page;
  }
}
