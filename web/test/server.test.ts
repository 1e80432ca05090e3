/**
 * The client against a real server: `BILLOW_BIN` names the binary; without it these tests are skipped. Node 20 needs
 * `NODE_OPTIONS=--experimental-websocket`.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Storage } from "../src/channel/storage";
import type { Wave, Wavelet } from "../src/wave/client";
import { linesOf } from "../src/wave/conversation";
import { ClientStore } from "../src/wave/store";
import { type RawSocket, Socket } from "../src/wire/socket";

globalThis.IDBKeyRange = IDBKeyRange;
const binary = process.env["BILLOW_BIN"];
const ids = (): string => crypto.randomUUID().replaceAll("-", "").slice(0, 16);

async function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}

class RealServer {
  readonly folder = mkdtempSync(join(tmpdir(), "billow-"));
  process: ChildProcess | null = null;
  port = 0;

  async start(): Promise<void> {
    if (this.port === 0) {
      this.port = await freePort();
      const config = `domain = "localhost"\ndata_dir = ${JSON.stringify(join(this.folder, "data"))}\n[http]\nlisten = "127.0.0.1:${this.port}"\n`;
      writeFileSync(join(this.folder, "billow.toml"), `${config}[accounts]\nregistration = "open"\n`);
    }
    const child = spawn(resolve(binary!), ["serve", "--config", join(this.folder, "billow.toml")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.process = child;
    await new Promise<void>((ready, failed) => {
      child.stdout!.once("data", () => ready());
      child.once("exit", (code) => failed(new Error(`the server ended with ${code}`)));
    });
  }

  async kill(): Promise<void> {
    const child = this.process;
    if (child === null) return;
    const gone = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await gone;
  }

  async register(name: string): Promise<string> {
    const response = await fetch(`http://127.0.0.1:${this.port}/api/register`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-billow": "1" },
      body: JSON.stringify({ address: `${name}@localhost`, password: "correct horse battery" }),
    });
    const body = (await response.json()) as { token: string; error?: string };
    if (!response.ok) throw new Error(body.error);
    return body.token;
  }

  page(name: string, token: string, indexedDB = new IDBFactory()): ClientStore {
    const address = `${name}@localhost`;
    const client = new ClientStore({
      address,
      connection: (events) =>
        new Socket(`ws://127.0.0.1:${this.port}/socket`, events, {
          open: (url) => new WebSocket(url, { headers: { authorization: `Bearer ${token}` } } as never) as unknown as RawSocket,
          setTimeout: (action, ms) => setTimeout(action, Math.min(ms, 500)),
          clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
          random: () => 1,
          onHope: () => () => {},
        }),
      storage: () => Storage.open(address, { indexedDB, locks: null, pageStorage: null, newSession: ids, now: Date.now }),
      signedIn: async () => null,
      online: () => true,
      newId: ids,
      now: Date.now,
      setTimeout: (action, ms) => setTimeout(action, ms),
    });
    client.errors.on((text) => errors.push(`${name}: ${text}`));
    client.start();
    return client;
  }
}

const errors: string[] = [];

async function until(what: string, check: () => boolean, ms = 20_000): Promise<void> {
  const end = Date.now() + ms;
  while (!check()) {
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}; errors: ${errors.join("; ")}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

function root(wave: Wave): Wavelet {
  const wavelet = wave.root.get();
  if (wavelet === null) throw new Error(`${wave.id} is ${wave.status.get()}`);
  return wavelet;
}

function text(wave: Wave): string {
  const [first] = root(wave).conversation.get().root.blips;
  return linesOf(root(wave).blip(first!.id).document.get()).join("\n");
}

function type(wave: Wave, letters: string): void {
  const blip = root(wave).blip(root(wave).conversation.get().root.blips[0]!.id);
  const { length } = blip.document.get();
  blip.submit([{ retain: length - 1 }, { characters: letters }, { retain: 1 }]);
}

describe.skipIf(binary === undefined)("against a real server", () => {
  const server = new RealServer();
  const pages: ClientStore[] = [];
  let alice: ClientStore;
  let bob: ClientStore;

  beforeAll(async () => {
    await server.start();
    alice = server.page("alice", await server.register("alice"));
    bob = server.page("bob", await server.register("bob"));
    pages.push(alice, bob);
    await until("connections", () => pages.every((page) => page.connection.get().kind === "online"));
  });

  afterAll(async () => {
    for (const page of pages) await page.stop();
    await server.kill();
    rmSync(server.folder, { recursive: true, force: true });
  });

  it("two people write in one wave, also over a crash of the server", async () => {
    const wave = alice.create({ title: "Hello 😀", participants: ["bob@localhost"] });
    await until("alice's wave to be saved", () => alice.saving.get().changes === 0);
    await until("bob's inbox", () => bob.inbox.get()?.some((row) => row.wave === wave.id) ?? false);
    const theirs = bob.open(wave.id);
    await until("bob's wave", () => theirs.status.get() === "open");
    expect(root(theirs).title.get()).toBe("Hello 😀");
    expect(root(theirs).participants.get()).toEqual(["alice@localhost", "bob@localhost"]);
    let written = 0;
    for (let round = 0; round < Number(process.env["BILLOW_ROUNDS"] ?? 3); round++) {
      for (let n = 0; n < 30; n++) {
        type(n % 2 === 0 ? wave : theirs, String.fromCodePoint(0x4e00 + written++));
        if (n % 5 === 0) await new Promise((done) => setTimeout(done, 15));
        if (n === 20 && round > 0) {
          await server.kill();
          setTimeout(() => void server.start(), 300);
        }
      }
      await until("all to be saved", () => pages.every((page) => page.saving.get().changes === 0));
      await until("both to see the same", () => text(wave) === text(theirs) && [...text(wave)].length === 7 + written);
    }
    const letters = [...text(wave)].filter((c) => c >= "\u4e00" && c < "\u9fff");
    expect(letters.length).toBe(written);
    expect(new Set(letters).size).toBe(written);
    expect(alice.drafts.get().concat(bob.drafts.get())).toEqual([]);
  });

  it("replies, carets and read marks arrive", async () => {
    const wave = alice.create({ title: "Second", participants: ["bob@localhost"] });
    await until("the wave to be saved", () => alice.saving.get().changes === 0);
    const theirs = bob.open(wave.id);
    await until("bob's wave", () => theirs.status.get() === "open");
    const [first] = root(theirs).conversation.get().root.blips;
    const reply = root(theirs).replyInline(first!.id, 5);
    await until("the reply", () => root(wave).conversation.get().blips.has(reply));
    root(theirs).setCaret({ document: first!.id, anchor: 3, focus: 5, typing: true });
    await until("the caret", () => root(wave).carets.get().length === 1);
    expect(root(wave).carets.get()[0]).toMatchObject({ address: "bob@localhost", anchor: 3, focus: 5 });
    expect(root(wave).blip(reply).unread.get()).toBe(true);
    root(wave).markRead([reply]);
    const tab = server.page("alice", await tokenOf("alice"));
    pages.push(tab);
    const again = tab.open(wave.id);
    await until("the other tab", () => again.status.get() === "open");
    await until("the read mark", () => !root(again).blip(reply).unread.get());
    root(wave).removeParticipant("bob@localhost");
    await until("bob to be out", () => !root(theirs).writable.get());
    expect(errors).toEqual([]);
  });

  it("a wave that begins with more than a delta takes is made in parts, its text deleted in parts too", async () => {
    const words = "Many words, 日本 and 😀. ".repeat(8_000);
    const wave = alice.create({ title: words, participants: ["bob@localhost"] });
    await until("the wave to be saved", () => alice.saving.get().changes === 0);
    const theirs = bob.open(wave.id);
    await until("bob's wave", () => theirs.status.get() === "open");
    await until("all of it", () => text(theirs).length === words.length);
    expect(text(theirs) === words).toBe(true);
    const reply = root(theirs).appendBlip(null);
    root(theirs).blip(reply).submit([{ retain: 3 }, { characters: words }, { retain: 1 }]);
    await until("the reply to be saved", () => bob.saving.get().changes === 0);
    root(theirs).deleteBlip(reply);
    await until("the reply to be deleted", () => bob.saving.get().changes === 0);
    await until("alice not to see it", () => root(wave).blip(reply).document.get().length === 0);
    wave.close();
    await until("the wave to be left", () => alice.saving.get().changes === 0);
    const again = alice.open(wave.id);
    await until("the wave", () => again.status.get() === "open" && again.root.get() !== null);
    type(again, "!");
    await until("the last letter", () => text(theirs) === `${words}!`);
    expect(alice.drafts.get().concat(bob.drafts.get())).toEqual([]);
  });

  async function tokenOf(name: string): Promise<string> {
    const response = await fetch(`http://127.0.0.1:${server.port}/api/signin`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-billow": "1" },
      body: JSON.stringify({ address: `${name}@localhost`, password: "correct horse battery" }),
    });
    return ((await response.json()) as { token: string }).token;
  }
});
