/**
 * The WebSocket to the server, kept up: reconnects after 1, 2, 4 … 30 s with jitter, and at once when the browser comes
 * online or the page becomes visible. A connection on which nothing is heard for a while is taken for dead.
 */

import type { ClientMessage, ServerMessage } from "./messages";

/** What becomes of the connection. */
export interface SocketEvents {
  /** The server's first message has come; everything can be sent. */
  connected(): void;
  /** A message. The first is always `welcome`, after `connected`. */
  message(message: ServerMessage): void;
  /** The connection is gone, or could not be made; `tries` failed in a row. The next try comes by itself. */
  disconnected(tries: number): void;
  /** Something that is not a message came in. */
  nonsense(text: string): void;
}

/** The part of a `WebSocket` that is needed. */
export interface RawSocket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  onerror: (() => void) | null;
  send(text: string): void;
  close(): void;
}

/** The world around: sockets, time, chance and what the browser knows of the network. */
export interface SocketWorld {
  open(url: string): RawSocket;
  setTimeout(action: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** From 0 to 1. */
  random(): number;
  /** Calls back when a try is worth it now: online again, visible again. */
  onHope(action: () => void): () => void;
}

/** First and longest wait between tries, ms. */
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;
/** A ping is sent after so long without a message, ms; and so long the answer may take. */
const PING_AFTER = 20_000;
const ANSWER_WITHIN = 10_000;

/** How long to wait before a try, ms: doubling, with up to a half taken off by chance. */
export function backOff(failures: number, random: number): number {
  const full = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(failures, 10));
  return full * (1 - random / 2);
}

/** See the module's comment. */
export class Socket {
  #raw: RawSocket | null = null;
  #connected = false;
  #running = false;
  #failures = 0;
  #timer: unknown = null;
  #forget: (() => void) | null = null;

  constructor(
    readonly url: string,
    readonly events: SocketEvents,
    readonly world: SocketWorld,
  ) {}

  /** Connects and stays connected. */
  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#failures = 0;
    this.#forget = this.world.onHope(() => this.hope());
    this.#connect();
  }

  /** Closes the connection and makes no other. */
  stop(): void {
    this.#running = false;
    this.#forget?.();
    this.#forget = null;
    this.#setTimer(null);
    this.#drop();
  }

  /** Tries now if it is not connected, and makes sure of the connection if it is. */
  hope(): void {
    if (!this.#running) return;
    if (this.#connected) this.#ping();
    else if (this.#raw === null) this.#connect();
  }

  /** Whether messages can be sent. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Sends a message; false, and nothing is sent, when it is not connected. */
  send(message: ClientMessage): boolean {
    if (!this.#connected || this.#raw === null) return false;
    this.#raw.send(JSON.stringify(message));
    return true;
  }

  #connect(): void {
    this.#setTimer(null);
    let raw: RawSocket;
    try {
      raw = this.world.open(this.url);
    } catch {
      return this.#failed();
    }
    this.#raw = raw;
    raw.onmessage = ({ data }) => {
      if (raw === this.#raw) this.#receive(data);
    };
    raw.onclose = () => {
      if (raw === this.#raw) this.#failed();
    };
    raw.onerror = () => {};
    this.#setTimer(() => this.#failed(), ANSWER_WITHIN);
  }

  #receive(data: unknown): void {
    const message = typeof data === "string" ? parse(data) : null;
    this.#setTimer(() => this.#ping(), PING_AFTER);
    if (message === null) return this.events.nonsense(String(data).slice(0, 200));
    if (!this.#connected) {
      this.#connected = true;
      this.#failures = 0;
      this.events.connected();
    }
    this.events.message(message);
  }

  #ping(): void {
    this.send({ type: "ping" });
    this.#setTimer(() => this.#failed(), ANSWER_WITHIN);
  }

  #failed(): void {
    this.#drop();
    if (!this.#running) return;
    const wait = backOff(this.#failures, this.world.random());
    this.#failures++;
    this.#setTimer(() => this.#connect(), wait);
    this.events.disconnected(this.#failures);
  }

  #drop(): void {
    const raw = this.#raw;
    this.#raw = null;
    this.#connected = false;
    if (raw !== null) {
      raw.onmessage = raw.onclose = raw.onopen = null;
      raw.close();
    }
  }

  #setTimer(action: (() => void) | null, ms = 0): void {
    if (this.#timer !== null) this.world.clearTimeout(this.#timer);
    this.#timer = action === null ? null : this.world.setTimeout(action, ms);
  }
}

function parse(text: string): ServerMessage | null {
  try {
    const value: unknown = JSON.parse(text);
    const isMessage = typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string";
    return isMessage ? (value as ServerMessage) : null;
  } catch {
    return null;
  }
}

/** The browser's world. */
export function browserWorld(): SocketWorld {
  return {
    open: (url) => new WebSocket(url) as unknown as RawSocket,
    setTimeout: (action, ms) => setTimeout(action, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    random: Math.random,
    onHope: (action) => {
      const visible = (): void => {
        if (document.visibilityState === "visible") action();
      };
      addEventListener("online", action);
      document.addEventListener("visibilitychange", visible);
      return () => {
        removeEventListener("online", action);
        document.removeEventListener("visibilitychange", visible);
      };
    },
  };
}
