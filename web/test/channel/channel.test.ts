/** The channel against a server in memory: breaks, lost answers and reloads at random moments. */

import { describe, expect, it } from "vitest";
import { Channel, type Output, type StoredChannel } from "../../src/channel/channel";
import { Document } from "../../src/ot/document";
import type { OpComponent, Operation } from "../../src/ot/op";
import { WaveletCopy } from "../../src/wave/wavelet";
import type { DeltaMessage, RefusalReason } from "../../src/wire/messages";
import { type Pick, randomStep, seeded } from "../ot/generate";
import { FakeServer } from "./fake-server";

const DOCUMENTS = ["b+1", "b+2", "__proto__"];

type Down =
  | { kind: "resumed" }
  | { kind: "snapshot" }
  | { kind: "opened" }
  | { kind: "delta"; delta: DeltaMessage }
  | { kind: "refused"; session: string; sequence: number; reason: RefusalReason; text: string };

/** A page: a channel, what it shows, and a connection whose messages take time in both directions. */
class Page {
  channel: Channel;
  screen = new Map<string, Document>();
  connected = false;
  up: Output[] = [];
  down: Down[] = [];
  drafts: Extract<Output, { kind: "draft" }>[] = [];
  submissions = new Map<string, string>();
  /** Whether the page may send more than it has stored. */
  lags = false;
  #sessions = 0;
  #cache: WaveletCopy | null = null;

  constructor(
    readonly server: FakeServer,
    readonly address: string,
  ) {
    this.channel = new Channel(WaveletCopy.from(server.snapshot()), this.#session(), address);
    this.#redraw();
    this.connect();
  }

  #session(): string {
    return `${this.address}/${++this.#sessions}`;
  }

  #redraw(): void {
    this.screen = new Map(this.channel.local.documentIds().map((id) => [id, this.channel.local.document(id)]));
  }

  shown(id: string): Document {
    return this.screen.get(id) ?? Document.empty;
  }

  edit(id: string, operation: OpComponent[]): void {
    this.screen.set(id, this.shown(id).apply(operation));
    this.channel.change([{ mutateDocument: { documentId: id, operation } }]);
    this.work();
  }

  connect(): void {
    this.connected = true;
    this.down = [];
    this.up = [];
    this.#open(this.channel.known);
  }

  #open(known: number | null): void {
    if (known !== null && this.server.knows(known)) {
      this.down.push({ kind: "resumed" });
      for (const delta of this.server.since(known)) this.down.push({ kind: "delta", delta });
    } else {
      this.down.push({ kind: "snapshot" });
      // The state is that of the moment the server answers, not of when it arrives.
      this.#snapshots.push(this.server.snapshot());
    }
    this.down.push({ kind: "opened" });
  }

  #snapshots: ReturnType<FakeServer["snapshot"]>[] = [];

  disconnect(): void {
    this.connected = false;
    this.up = [];
    this.down = [];
    this.#snapshots = [];
    this.channel.disconnected();
  }

  /** Writes what is unsent into the storage. */
  save(): void {
    this.#saved = JSON.stringify(this.channel.toStored());
  }

  #saved: string | null = null;

  /** Closes the page and opens it again with what was saved last, and a copy of the wavelet of any age, or none. */
  reload(pick: Pick): void {
    if (!this.lags || this.#saved === null) this.save();
    const text = this.#saved ?? "null";
    const stored = JSON.parse(text) as StoredChannel | null;
    const fresh = this.channel.known === null ? null : this.channel.confirmed;
    if (this.#cache === null || pick(2) === 0) this.#cache = fresh?.clone() ?? null;
    const wasConnected = this.connected;
    this.disconnect();
    const cached = pick(4) === 0 ? null : this.#cache;
    if (stored !== null) this.channel = Channel.restore(stored, cached);
    else this.channel = new Channel(cached?.clone() ?? WaveletCopy.from(this.server.snapshot()), this.#session(), this.address);
    this.channel.disconnected();
    this.#redraw();
    if (wasConnected) this.connect();
  }

  work(): void {
    for (let output = this.channel.poll(); output !== null; output = this.channel.poll()) {
      if (output.kind === "show") {
        if (output.operation === null) this.screen.set(output.document, this.channel.local.document(output.document));
        else this.screen.set(output.document, this.shown(output.document).apply(output.operation));
      } else if (output.kind === "draft") {
        this.drafts.push(output);
      } else if (output.kind === "reopen") {
        if (this.connected) this.#open(output.resume ? this.channel.known : null);
      } else if (this.connected) {
        this.up.push(output);
      }
    }
    for (const id of this.channel.local.documentIds()) same(this.shown(id), this.channel.local.document(id));
  }

  /** One message arrives somewhere. */
  step(pages: Page[], pick: Pick): void {
    if (!this.connected) return;
    if (this.up.length > 0 && (this.down.length === 0 || pick(2) === 0)) return this.#deliverUp(pages, pick);
    const message = this.down.shift();
    if (message === undefined) return;
    if (message.kind === "resumed") this.channel.resumed();
    else if (message.kind === "snapshot") this.channel.snapshot(this.#snapshots.shift()!);
    else if (message.kind === "opened") this.channel.opened();
    else if (message.kind === "delta") this.channel.receive(JSON.parse(JSON.stringify(message.delta)));
    else this.channel.refused(message.session, message.sequence, message.reason, message.text);
    this.work();
  }

  #deliverUp(pages: Page[], pick: Pick): void {
    const output = this.up.shift()!;
    if (output.kind === "retryLater") {
      this.channel.retry();
      return this.work();
    }
    if (output.kind !== "submit") return;
    const key = `${output.session} ${output.sequence}`;
    const content = JSON.stringify([output.version, output.operations]);
    if (!this.lags) expect(this.submissions.get(key) ?? content, "a resend has the same content").toBe(content);
    this.submissions.set(key, content);
    if (pick(20) === 0) {
      const { session, sequence } = output;
      this.down.push({ kind: "refused", session, sequence, reason: "unavailable", text: "" });
      return;
    }
    const answer = this.server.submit(this.address, JSON.parse(JSON.stringify(output)));
    if (answer.kind === "refused") {
      this.down.push({ ...answer, session: output.session, sequence: output.sequence });
      return;
    }
    if (answer.again) this.down.push({ kind: "delta", delta: answer.delta });
    else for (const page of pages) if (page.connected) page.down.push({ kind: "delta", delta: answer.delta });
  }
}

function same(a: Document, b: Document): void {
  if (a !== b) expect(a.toOp()).toEqual(b.toOp());
}

function begin(addresses: string[]): FakeServer {
  const server = new FakeServer();
  const operations: Operation[] = addresses.map((address) => ({ addParticipant: address }));
  server.submit(addresses[0]!, { session: "first", sequence: 1, version: 0, operations });
  return server;
}

function settle(pages: Page[], pick: Pick): void {
  for (const page of pages) if (!page.connected) page.connect();
  for (let n = 0; n < 20_000; n++) {
    const busy = pages.filter((p) => p.up.length > 0 || p.down.length > 0);
    if (busy.length === 0) break;
    busy[pick(busy.length)]!.step(pages, pick);
  }
}

function mishap(page: Page, server: FakeServer, pick: Pick, forgets: boolean): void {
  switch (pick(12)) {
    case 0:
      return page.disconnect();
    case 1:
    case 2:
    case 3:
      if (!page.connected) page.connect();
      return;
    case 4:
      return page.reload(pick);
    case 5:
      if (forgets && pick(4) === 0) server.forget();
  }
}

/** Inserts a letter that nobody else inserts, somewhere in a document of so many items. */
function letterAt(pick: Pick, length: number, n: number): OpComponent[] {
  const at = pick(length + 1);
  const op: OpComponent[] = [{ characters: String.fromCodePoint(0x4e00 + n) }];
  if (at > 0) op.unshift({ retain: at });
  if (at < length) op.push({ retain: length - at });
  return op;
}

/** How many random histories each test goes through. */
const seeds = Number(process.env["BILLOW_SEEDS"] ?? 60);

describe("a channel", () => {
  it("converges with others through edits, breaks, lost answers and reloads", () => {
    for (let seed = 1; seed <= seeds; seed++) {
      const pick = seeded(seed);
      const server = begin(["alice@example.org", "bob@example.org"]);
      const pages = [new Page(server, "alice@example.org"), new Page(server, "bob@example.org")];
      for (let n = 0; n < 150; n++) {
        const page = pages[pick(2)]!;
        if (pick(3) === 0) {
          const id = DOCUMENTS[pick(DOCUMENTS.length)]!;
          page.edit(id, randomStep(pick, page.shown(id)));
        } else page.step(pages, pick);
        if (pick(6) === 0) mishap(page, server, pick, true);
      }
      settle(pages, pick);
      for (const page of pages) {
        expect(page.channel.changes, `seed ${seed}`).toBe(0);
        expect(page.channel.confirmed.version, `seed ${seed}`).toBe(server.copy.version);
        for (const id of DOCUMENTS) {
          same(page.channel.confirmed.document(id), server.copy.document(id));
          same(page.shown(id), server.copy.document(id));
          if (page.channel.confirmed.meta(id) !== null) {
            expect(page.channel.confirmed.meta(id)).toEqual(server.copy.meta(id));
          }
        }
      }
    }
  });

  for (const forgets of [false, true]) {
    const how = forgets ? "also when the server has forgotten the deltas in between" : "with every delta at hand";
    it(`applies each change exactly once, ${how}`, () => {
      for (let seed = 1; seed <= seeds; seed++) {
        const pick = seeded(seed * 7919);
        const server = begin(["alice@example.org", "bob@example.org"]);
        const pages = [new Page(server, "alice@example.org"), new Page(server, "bob@example.org")];
        const written: string[] = [];
        for (let n = 0; n < 200; n++) {
          const page = pages[pick(2)]!;
          if (pick(3) === 0) {
            const id = DOCUMENTS[pick(DOCUMENTS.length)]!;
            page.edit(id, letterAt(pick, page.shown(id).length, written.length));
            written.push(String.fromCodePoint(0x4e00 + written.length));
          } else page.step(pages, pick);
          if (pick(6) === 0) mishap(page, server, pick, forgets);
        }
        settle(pages, pick);
        const text = DOCUMENTS.map((id) => server.copy.document(id).text()).join("");
        expect([...text].sort().join(""), `seed ${seed}`).toBe(written.join(""));
        expect(pages.flatMap((p) => p.drafts)).toEqual([]);
        for (const page of pages) for (const id of DOCUMENTS) same(page.shown(id), server.copy.document(id));
      }
    });
  }

  it("applies no change twice when the storage lags behind what was sent", () => {
    for (let seed = 1; seed <= seeds; seed++) {
      const pick = seeded(seed * 104729);
      const server = begin(["alice@example.org", "bob@example.org"]);
      const pages = [new Page(server, "alice@example.org"), new Page(server, "bob@example.org")];
      for (const page of pages) page.lags = true;
      let written = 0;
      for (let n = 0; n < 200; n++) {
        const page = pages[pick(2)]!;
        if (pick(3) === 0) page.edit("b+1", letterAt(pick, page.shown("b+1").length, written++));
        else page.step(pages, pick);
        if (pick(5) === 0) page.save();
        if (pick(6) === 0) mishap(page, server, pick, false);
      }
      settle(pages, pick);
      const letters = [...server.copy.document("b+1").text()];
      expect(new Set(letters).size, `seed ${seed}`).toBe(letters.length);
      for (const page of pages) same(page.shown("b+1"), server.copy.document("b+1"));
    }
  });

  it("never changes a submission that is in flight", () => {
    const server = begin(["alice@example.org"]);
    const page = new Page(server, "alice@example.org");
    settle([page], seeded(1));
    page.edit("b+1", [{ characters: "a" }]);
    page.edit("b+1", [{ retain: 1 }, { characters: "b" }]);
    page.edit("b+1", [{ retain: 2 }, { characters: "c" }]);
    expect(page.up).toMatchObject([{ kind: "submit", sequence: 1, operations: [{ mutateDocument: { operation: [{ characters: "a" }] } }] }]);
    expect(page.channel.changes).toBe(3);
    page.disconnect();
    page.connect();
    settle([page], seeded(1));
    expect(server.log.slice(1).map((d) => d.operations)).toEqual([
      [{ mutateDocument: { documentId: "b+1", operation: [{ characters: "a" }] } }],
      [{ mutateDocument: { documentId: "b+1", operation: [{ retain: 1 }, { characters: "bc" }] } }],
    ]);
  });

  it("takes its own delta for its answer by session and sequence, and an equal one of another page for another", () => {
    const server = begin(["alice@example.org"]);
    const pages = [new Page(server, "alice@example.org"), new Page(server, "alice@example.org")];
    Object.assign(pages[1]!.channel, { session: "other" });
    settle(pages, seeded(1));
    for (const page of pages) page.edit("b+1", [{ characters: "x" }]);
    settle(pages, seeded(2));
    expect(server.copy.document("b+1").text()).toBe("xx");
    for (const page of pages) expect(page.shown("b+1").text()).toBe("xx");
  });

  it("hands text back when it is refused for good, and keeps what came after", () => {
    const server = begin(["alice@example.org"]);
    const page = new Page(server, "alice@example.org");
    settle([page], seeded(1));
    page.edit("b+1", [{ characters: "bad" }]);
    page.edit("b+2", [{ characters: "good" }]);
    page.edit("b+1", [{ retain: 3 }, { characters: "!" }]);
    page.up = [];
    page.channel.refused(page.channel.session, 1, "legacyPeer", "No.");
    page.work();
    expect(page.drafts).toMatchObject([{ reason: "legacyPeer", texts: [{ document: "b+1", text: "bad" }] }]);
    expect(page.shown("b+1").text()).toBe("!");
    settle([page], seeded(1));
    expect(server.copy.document("b+1").text()).toBe("!");
    expect(server.copy.document("b+2").text()).toBe("good");
  });

  it("keeps text as a draft when the element around it is deleted", () => {
    const server = begin(["alice@example.org", "bob@example.org"]);
    const pages = [new Page(server, "alice@example.org"), new Page(server, "bob@example.org")];
    settle(pages, seeded(1));
    pages[0]!.edit("b+1", [{ elementStart: { type: "body", attributes: [] } }, { elementEnd: true }]);
    settle(pages, seeded(1));
    pages[1]!.disconnect();
    pages[1]!.edit("b+1", [{ retain: 1 }, { characters: "my words" }, { retain: 1 }]);
    pages[0]!.edit("b+1", [{ deleteElementStart: { type: "body", attributes: [] } }, { deleteElementEnd: true }]);
    settle(pages, seeded(1));
    expect(pages[1]!.drafts).toMatchObject([{ reason: "conflict", texts: [{ document: "b+1", text: "my words" }] }]);
    for (const page of pages) expect(page.shown("b+1").length).toBe(0);
  });

  it("keeps text as a draft when I was removed", () => {
    const server = begin(["alice@example.org", "bob@example.org"]);
    const pages = [new Page(server, "alice@example.org"), new Page(server, "bob@example.org")];
    settle(pages, seeded(1));
    pages[1]!.disconnect();
    pages[1]!.edit("b+1", [{ characters: "my words" }]);
    pages[0]!.channel.change([{ removeParticipant: "bob@example.org" }]);
    pages[0]!.work();
    settle(pages, seeded(1));
    expect(pages[1]!.drafts).toMatchObject([{ reason: "removed", texts: [{ document: "b+1", text: "my words" }] }]);
    expect(pages[1]!.channel.removed).toBe(true);
    expect(() => pages[1]!.edit("b+1", [{ characters: "more" }])).toThrow();
    expect(server.copy.document("b+1").length).toBe(0);
  });

  it("asks again when a delta is missing, and goes on", () => {
    const server = begin(["alice@example.org", "bob@example.org"]);
    const pages = [new Page(server, "alice@example.org"), new Page(server, "bob@example.org")];
    settle(pages, seeded(1));
    pages[0]!.edit("b+1", [{ characters: "one" }]);
    for (let n = 0; n < 4; n++) pages[0]!.step(pages, seeded(1));
    pages[1]!.down = [];
    pages[0]!.edit("b+1", [{ retain: 3 }, { characters: " two" }]);
    pages[1]!.edit("b+2", [{ characters: "mine" }]);
    settle(pages, seeded(1));
    expect(pages[1]!.shown("b+1").text()).toBe("one two");
    expect(server.copy.document("b+2").text()).toBe("mine");
  });

  it("goes into JSON and back with nothing lost", () => {
    const server = begin(["alice@example.org"]);
    const page = new Page(server, "alice@example.org");
    settle([page], seeded(1));
    page.edit("__proto__", [{ characters: "😀" }]);
    page.edit("__proto__", [{ retain: 1 }, { characters: "x" }]);
    page.disconnect();
    const stored = JSON.parse(JSON.stringify(page.channel.toStored())) as StoredChannel;
    const again = Channel.restore(stored, null);
    expect(again.local.document("__proto__").text()).toBe("😀x");
    expect(again.toStored()).toEqual({ ...stored, partial: true });
    expect(stored.inFlight).not.toBeNull();
    expect(again.changes).toBe(2);
  });
});
