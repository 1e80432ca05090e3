/** The client as the user interface has it, against a server in memory. */

import { describe, expect, it } from "vitest";
import { type BlipChange, type PeerDelivery, troubleWords, type Wave, type Wavelet } from "../../src/wave/client";
import { linesOf } from "../../src/wave/conversation";
import type { ClientStore } from "../../src/wave/store";
import { Browser, Hub } from "./hub";

function root(wave: Wave): Wavelet {
  const wavelet = wave.root.get();
  if (wavelet === null) throw new Error(`${wave.id} is ${wave.status.get()}`);
  return wavelet;
}

/** Types at the end of the last line of a blip. */
function type(wave: Wave, text: string, blip = root(wave).conversation.get().root.blips[0]!.id): void {
  const { document } = root(wave).blip(blip);
  const { length } = document.get();
  root(wave).blip(blip).submit([{ retain: length - 1 }, { characters: text }, { retain: 1 }]);
}

function text(wave: Wave): string {
  const [first] = root(wave).conversation.get().root.blips;
  return linesOf(root(wave).blip(first!.id).document.get()).join("\n");
}

async function begin(): Promise<{ hub: Hub; alice: ClientStore; wave: Wave; bob: ClientStore; theirs: Wave; browser: Browser }> {
  const hub = new Hub();
  const browser = new Browser(hub, "alice@example.org");
  const alice = browser.page().client;
  const bob = new Browser(hub, "bob@example.org").page().client;
  await hub.settle();
  const wave = alice.create({ title: "Hi", participants: ["Bob@example.org"] });
  await hub.settle();
  const theirs = bob.open(wave.id);
  await hub.settle();
  return { hub, alice, wave, bob, theirs, browser };
}

describe("the client", () => {
  it("shows requests, answers them and forgets at once what was answered", async () => {
    const hub = new Hub();
    const alice = new Browser(hub, "alice@example.org").page().client;
    await hub.settle();
    const row = (n: number) => ({ wave: `evil.lab/w+${n}`, from: `eve${n}@evil.lab`, domain: "evil.lab", host: null, since: n });
    const [line] = hub.lines;
    line!.say({ type: "requests", rows: [row(2), row(1)], more: 3, blocked: ["spam.lab"] });
    await hub.settle();
    expect(alice.requests.get()).toEqual({ rows: [row(2), row(1)], more: 3, blocked: ["spam.lab"] });
    expect(alice.inbox.get()).toEqual([]);
    alice.accept("evil.lab/w+2");
    alice.block("spam.lab", false);
    expect(alice.requests.get().rows).toEqual([row(1)]);
    alice.decline("evil.lab/w+1");
    expect(line!.up.map((text) => JSON.parse(text))).toEqual([
      { type: "acceptRequest", wave: "evil.lab/w+2" },
      { type: "blockDomain", domain: "spam.lab", blocked: false },
      { type: "declineRequest", wave: "evil.lab/w+1" },
    ]);
  });

  it("makes a wave in one submission, and the other sees it and types in it", async () => {
    const { hub, alice, wave, theirs } = await begin();
    expect(hub.submissions.length).toBe(1);
    const server = hub.wavelets.get(`${wave.id}/~/conv+root`)!;
    expect(server.log[0]!.operations[0]).toEqual({ addParticipant: "alice@example.org" });
    expect(root(theirs).participants.get()).toEqual(["alice@example.org", "bob@example.org"]);
    expect(root(theirs).title.get()).toBe("Hi");
    expect(alice.saving.get()).toEqual({ state: "saved", changes: 0 });
    type(wave, " there");
    type(theirs, "!");
    expect(text(wave)).toBe("Hi there");
    await hub.settle();
    expect(text(wave)).toBe(text(theirs));
    expect([...text(wave)].sort().join("")).toBe([..."Hi there!"].sort().join(""));
    expect(root(theirs).creator).toBe("alice@example.org");
  });

  it("replies, replies inline and deletes", async () => {
    const { hub, wave, theirs } = await begin();
    const [first] = root(wave).conversation.get().root.blips;
    const reply = root(wave).reply(first!.id);
    await hub.settle();
    const inline = root(theirs).replyInline(first!.id, 4);
    const next = root(theirs).appendBlip(null);
    await hub.settle();
    const shape = root(wave).conversation.get();
    expect([...shape.blips.keys()]).toEqual([first!.id, reply, inline, next]);
    expect(shape.threads.get(inline)!.inline).toBe(true);
    root(wave).deleteBlip(inline);
    await hub.settle();
    expect([...root(theirs).conversation.get().blips.keys()]).toEqual([first!.id, reply, next]);
    expect(root(theirs).blip(inline).document.get().length).toBe(0);
  });

  it("keeps every editor's document equal to what its events make of it", async () => {
    const { hub, wave, theirs } = await begin();
    const id = root(wave).conversation.get().root.blips[0]!.id;
    const screens = [wave, theirs].map((w) => {
      const blip = root(w).blip(id);
      const screen = { document: blip.document.get() };
      blip.changes.on((change: BlipChange) => {
        screen.document = change.kind === "reset" ? change.document : screen.document.apply(change.operation);
        // An editor that reacts to what others write by writing itself.
        if (change.kind === "operation" && change.source === null && blip.document.get().length < 60) {
          const { length } = blip.document.get();
          blip.submit([{ retain: length - 1 }, { characters: "." }, { retain: 1 }], "reaction");
        }
      });
      return screen;
    });
    for (let n = 0; n < 30; n++) {
      type(n % 2 === 0 ? wave : theirs, String(n % 10));
      if (n % 7 === 3) hub.cut();
      await hub.settle(n % 3 === 0 ? 2_000 : 0);
    }
    await hub.settle(5_000);
    expect(screens[0]!.document.toOp()).toEqual(root(wave).blip(id).document.get().toOp());
    expect(screens[0]!.document.toOp()).toEqual(screens[1]!.document.toOp());
  });

  it("says in words where my changes are", async () => {
    const { hub, alice, wave } = await begin();
    hub.deaf = true;
    type(wave, "x");
    expect(root(wave).saving.get().state).toBe("saved");
    await hub.settle(500);
    expect(root(wave).saving.get()).toEqual({ state: "saving", changes: 1 });
    hub.up = false;
    hub.cut();
    type(wave, "y");
    expect(alice.saving.get()).toEqual({ state: "unsent", changes: 2 });
    expect(alice.connection.get().kind).toBe("reconnecting");
    hub.up = true;
    hub.deaf = false;
    await hub.settle(40_000);
    expect(alice.connection.get().kind).toBe("online");
    expect(alice.saving.get()).toEqual({ state: "saved", changes: 0 });
    expect(text(wave)).toBe("Hixy");
  });

  it("sends what was typed while disconnected once, though another page has started meanwhile", async () => {
    const { hub, wave, browser, theirs } = await begin();
    hub.up = false;
    hub.cut("alice@example.org");
    type(wave, " away");
    await hub.settle(100);
    const second = browser.page();
    await hub.settle(100);
    expect(second.client.saving.get().changes).toBe(0);
    hub.up = true;
    await hub.settle(40_000);
    expect(text(theirs)).toBe("Hi away");
  });

  it("survives a crash of the page with unsent changes and with a lost answer", async () => {
    const hub = new Hub();
    const browser = new Browser(hub, "alice@example.org");
    let page = browser.page();
    await hub.settle();
    const wave = page.client.create({ title: "" });
    await hub.settle(2_000);
    let expected = "";
    for (let n = 0; n < 12; n++) {
      const open = page.client.open(wave.id);
      await hub.settle(2_000);
      hub.deaf = n % 3 === 0;
      if (n % 3 === 1) {
        hub.up = false;
        hub.cut();
      }
      const letter = String.fromCodePoint(0x4e00 + n);
      expected += letter;
      type(open, letter);
      await hub.settle(n % 2 === 0 ? 200 : 0);
      page.crash();
      hub.deaf = false;
      hub.up = true;
      page = browser.page();
      await hub.settle(n % 4 === 0 ? 3_000 : 0);
    }
    await hub.settle(40_000);
    const server = hub.wavelets.get(`${wave.id}/~/conv+root`)!;
    const blip = server.copy.documentIds().find((id) => id.startsWith("b+"))!;
    expect(server.copy.document(blip).text()).toBe(expected);
    const again = page.client.open(wave.id);
    await hub.settle(2_000);
    expect(text(again)).toBe(expected);
    expect(page.client.drafts.get()).toEqual([]);
  });

  it("makes a wave without a connection, and sends it later, also after a reload", async () => {
    const hub = new Hub();
    hub.up = false;
    const browser = new Browser(hub, "alice@example.org");
    const page = browser.page();
    await hub.settle(100);
    const wave = page.client.create({ title: "Made offline" });
    await hub.settle(100);
    expect(wave.status.get()).toBe("open");
    page.crash();
    hub.up = true;
    const again = browser.page();
    await hub.settle(5_000);
    const open = again.client.open(wave.id);
    await hub.settle(5_000);
    expect(text(open)).toBe("Made offline");
    expect(hub.wavelets.get(`${wave.id}/~/conv+root`)!.log.length).toBe(1);
    type(open, "!");
    await hub.settle();
    expect(hub.wavelets.get(`${wave.id}/~/conv+root`)!.log.length).toBe(2);
  });

  it("shows a wave from the storage while there is no connection", async () => {
    const { hub, wave, browser } = await begin();
    type(wave, " cached");
    await hub.settle(3_000);
    hub.up = false;
    hub.cut();
    const page = browser.page();
    await hub.settle(100);
    const open = page.client.open(wave.id);
    await hub.settle(100);
    expect(open.status.get()).toBe("open");
    expect(text(open)).toBe("Hi cached");
    type(open, "!");
    expect(page.client.saving.get()).toEqual({ state: "unsent", changes: 1 });
  });

  it("keeps two tabs of one person apart", async () => {
    const { hub, wave, browser } = await begin();
    const other = browser.page().client;
    const tab = other.open(wave.id);
    await hub.settle(100);
    for (let n = 0; n < 10; n++) {
      type(wave, "a");
      type(tab, "b");
      if (n === 5) hub.cut();
      await hub.settle(n % 2 === 0 ? 300 : 0);
    }
    await hub.settle(10_000);
    expect(text(wave)).toBe(text(tab));
    expect(text(wave)).toMatch(/^Hi[ab]{20}$/);
    expect(text(wave).replaceAll("b", "").length).toBe(12);
  });

  it("sends what is too much for one delta in parts, and counts it as one change", async () => {
    const { hub, alice, wave, theirs } = await begin();
    const server = hub.wavelets.get(`${wave.id}/~/conv+root`)!;
    const deltas = server.log.length;
    type(wave, "日".repeat(40_000));
    expect(alice.saving.get().changes).toBe(1);
    type(wave, "!");
    await hub.settle(1_000);
    expect(alice.drafts.get()).toEqual([]);
    expect(alice.saving.get()).toEqual({ state: "saved", changes: 0 });
    expect(text(wave)).toBe(`Hi${"日".repeat(40_000)}!`);
    expect(text(theirs)).toBe(text(wave));
    expect(server.log.length - deltas).toBe(3);
    for (const { operations } of server.log) expect(new TextEncoder().encode(JSON.stringify(operations)).length).toBeLessThan(65_536);
  });

  it("sends large text in parts while others type and connections break, and after a crash", async () => {
    const { hub, browser, wave, theirs } = await begin();
    const page = browser.page();
    await hub.settle(100);
    const mine = page.client.open(wave.id);
    await hub.settle(1_000);
    const words = Array.from({ length: 30_000 }, (_, n) => String.fromCharCode(0x4e00 + (n % 5_000))).join("");
    // Compared by length first: the texts are too long to be printed.
    const same = (a: string, b: string): void => {
      expect(a.length).toBe(b.length);
      expect(a === b).toBe(true);
    };
    type(mine, words);
    for (let n = 0; n < 8; n++) {
      type(theirs, "b");
      if (n % 3 === 1) hub.cut();
      await hub.settle(n % 2 === 0 ? 0 : 700);
    }
    await hub.settle(20_000);
    same(text(theirs), text(mine));
    same(text(mine).replaceAll("b", ""), `Hi${words}`);
    expect(page.client.drafts.get()).toEqual([]);
    hub.deaf = true;
    type(mine, words);
    await hub.settle(200);
    page.crash();
    hub.deaf = false;
    const again = browser.page().client;
    await hub.settle(40_000);
    const open = again.open(wave.id);
    await hub.settle(1_000);
    same(text(open).replaceAll("b", ""), `Hi${words}${words}`);
    same(text(theirs), text(open));
    expect(again.drafts.get()).toEqual([]);
  });

  it("hands back what is too large and cannot be sent in parts, and goes on", async () => {
    const { hub, alice, wave, theirs } = await begin();
    const id = root(wave).conversation.get().root.blips[0]!.id;
    const { length } = root(wave).blip(id).document.get();
    const value = "x".repeat(1_100_000);
    root(wave)
      .blip(id)
      .submit([{ retain: length - 1 }, { elementStart: { type: "image", attributes: [["data", value]] } }, { elementEnd: true }, { characters: "picture" }, { retain: 1 }]);
    await hub.settle(1_000);
    expect(alice.drafts.get()).toMatchObject([{ reason: "tooLarge" }]);
    type(wave, "?");
    await hub.settle(1_000);
    expect(text(wave)).toContain("Hi");
    expect(text(wave)).toContain("?");
    expect(text(theirs)).toBe(text(wave));
  });

  it("moves others' carets along, and forgets them", async () => {
    const { hub, wave, theirs } = await begin();
    const id = root(wave).conversation.get().root.blips[0]!.id;
    root(theirs).setCaret({ document: id, anchor: 4, focus: 5, typing: true });
    await hub.settle();
    expect(root(wave).carets.get()).toMatchObject([{ address: "bob@example.org", anchor: 4, focus: 5, typing: true }]);
    root(wave).blip(id).submit([{ retain: 3 }, { characters: "😀😀" }, { retain: 3 }]);
    expect(root(wave).carets.get()).toMatchObject([{ anchor: 6, focus: 7 }]);
    root(theirs).setCaret(null);
    await hub.settle(200);
    expect(root(wave).carets.get()).toEqual([]);
  });

  it("counts what others wrote as unread, and what I wrote as read", async () => {
    const { hub, wave, theirs } = await begin();
    const id = root(wave).conversation.get().root.blips[0]!.id;
    const blip = root(theirs).blip(id);
    expect(blip.unread.get()).toBe(true);
    root(theirs).markRead([id]);
    expect(blip.unread.get()).toBe(false);
    type(theirs, "mine");
    await hub.settle(1_000);
    expect(blip.unread.get()).toBe(false);
    type(wave, "theirs");
    await hub.settle(1_000);
    expect(blip.unread.get()).toBe(true);
    expect(blip.meta.get()!.contributors).toEqual(["alice@example.org", "bob@example.org"]);
    expect(hub.reads.filter((r) => r.address === "bob@example.org").at(-1)!.blips).toEqual([id]);
  });

  it("says in words what is wrong between my server and the wave's host, and lets nobody write into a quarantine", async () => {
    const { hub, theirs } = await begin();
    const peer = { domain: "initech.lab", version: 1, pending: 0, since: hub.clock.now, nextTry: null, reason: null, host: true, legacy: false };
    const words = (state: PeerDelivery["state"], host = true) => troubleWords({ ...peer, state, host }, () => "10:15");
    expect(words("delivered")).toBe(null);
    expect(words("quarantined", false)).toBe(null);
    expect(words("stale")).toContain("initech.lab does not give it to your server. You see the copy of 10:15.");
    expect(words("refetching")).toContain("It is being fetched again. You can read on; what you write is kept");
    expect(words("quarantined")).toMatch(/^initech.lab contradicts itself about this wave.*nobody here can write\. Your other waves are not affected\./);
    for (const [state, writable] of [["stale", true], ["refetching", true], ["quarantined", false], ["delivered", true]] as const) {
      for (const line of hub.lines) line.say({ type: "delivery", wavelet: root(theirs).name, peers: [{ ...peer, state }] });
      await hub.settle();
      expect(root(theirs).delivery.get()[0]!.state).toBe(state);
      expect(root(theirs).writable.get()).toBe(writable);
      expect(root(theirs).member.get()).toBe(true);
    }
  });

  it("counts what I wrote with another client as read, and shows an open wave's row as it is here", async () => {
    const { hub, bob, wave, theirs } = await begin();
    const id = root(theirs).conversation.get().root.blips[0]!.id;
    root(theirs).markRead([id]);
    const other = new Browser(hub, "bob@example.org").page().client;
    const tab = other.open(wave.id);
    await hub.settle(1_000);
    type(tab, "by the other client");
    const added = root(tab).appendBlip(null);
    await hub.settle(1_000);
    type(tab, "another", added);
    await hub.settle(1_000);
    expect(root(theirs).blip(id).unread.get()).toBe(false);
    expect(root(theirs).blip(added).unread.get()).toBe(false);
    const row = { wave: wave.id, title: "Hi", snippet: "", people: ["alice@example.org"], unread: 2, blips: 2, lastModified: 1, lastAuthor: "bob@example.org", waitingFor: [] };
    bob.message({ type: "inboxRow", row });
    expect(bob.inbox.get()).toMatchObject([{ unread: 0 }]);
    type(wave, "by alice");
    await hub.settle(1_000);
    expect(bob.inbox.get()).toMatchObject([{ unread: 1 }]);
    root(theirs).markRead([id]);
    expect(bob.inbox.get()).toMatchObject([{ unread: 0 }]);
    theirs.close();
    await hub.settle(1_000);
    bob.message({ type: "inboxRow", row });
    expect(bob.inbox.get()).toMatchObject([{ unread: 2 }]);
  });

  it("says why a wave that is there cannot be shown, and keeps what it has of it", async () => {
    const { hub, alice, bob, wave, theirs } = await begin();
    const before = text(theirs);
    hub.damage = "it is damaged";
    hub.cut();
    await hub.settle(40_000);
    expect(theirs.status.get()).toBe("open");
    expect(theirs.trouble.get()).toBe("it is damaged");
    expect(text(theirs)).toBe(before);
    expect(bob.drafts.get()).toEqual([]);
    wave.close();
    await hub.settle(40_000);
    hub.damage = null;
    hub.cut();
    await hub.settle(40_000);
    expect(theirs.trouble.get()).toBe(null);
    expect(alice.drafts.get()).toEqual([]);
    type(theirs, "and on");
    await hub.settle(1_000);
    expect(text(theirs)).not.toBe(before);
  });

  it("says that a wave is missing when it is, and keeps my words when I was removed", async () => {
    const { hub, alice, bob, wave, theirs } = await begin();
    const nothing = alice.open("example.org/w+nothing");
    await hub.settle();
    expect(nothing.status.get()).toBe("missing");
    hub.up = false;
    hub.cut("bob@example.org");
    type(theirs, "my words");
    root(wave).removeParticipant("bob@example.org");
    await hub.settle();
    hub.up = true;
    await hub.settle(40_000);
    expect(bob.drafts.get()).toMatchObject([{ reason: "removed", texts: [{ text: "my words" }] }]);
    expect(root(theirs).writable.get()).toBe(false);
    bob.dismiss(bob.drafts.get()[0]!.id);
    expect(bob.drafts.get()).toEqual([]);
  });
});

describe("what is not sent yet", () => {
  it("is known by its place, until it is sent", async () => {
    const { hub, wave, theirs } = await begin();
    const blip = root(wave).blip(root(wave).conversation.get().root.blips[0]!.id);
    hub.up = false;
    hub.cut("alice@example.org");
    type(wave, " away");
    expect(blip.unsent.get()).toEqual([[5, 10]]);
    type(theirs, "!");
    type(wave, "?");
    expect(blip.unsent.get()).toEqual([[5, 11]]);
    hub.up = true;
    await hub.settle(40_000);
    expect(blip.unsent.get()).toEqual([]);
    expect(text(wave)).toBe(text(theirs));
  });
});

describe("a large message", () => {
  it("is deleted in parts", async () => {
    const { hub, wave, theirs, alice, bob } = await begin();
    const words = "Many words, 日本 and 😀. ".repeat(5_000);
    const reply = root(theirs).appendBlip(null);
    root(theirs).blip(reply).submit([{ retain: 3 }, { characters: words }, { retain: 1 }]);
    await hub.settle(2_000);
    root(theirs).deleteBlip(reply);
    await hub.settle(2_000);
    expect(bob.saving.get()).toEqual({ state: "saved", changes: 0 });
    expect(root(wave).blip(reply).document.get().length).toBe(0);
    expect(alice.drafts.get().concat(bob.drafts.get())).toEqual([]);
  });
});

describe("a removal", () => {
  it("says who did it, also when it was oneself", async () => {
    const { hub, wave, theirs } = await begin();
    expect(root(theirs).removedBy.get()).toBeNull();
    root(wave).removeParticipant("bob@example.org");
    await hub.settle(1_000);
    expect(root(theirs).removedBy.get()).toBe("alice@example.org");
    expect(root(theirs).writable.get()).toBe(false);
    root(wave).removeParticipant("alice@example.org");
    await hub.settle(1_000);
    expect(root(wave).removedBy.get()).toBe("alice@example.org");
    expect(root(wave).writable.get()).toBe(false);
  });
});

describe("a wave that is left and come back to", () => {
  it("goes on with its numbers: what is typed then is sent, and is not taken for what was sent before", async () => {
    const { hub, alice, wave, bob, theirs } = await begin();
    type(wave, " one");
    await hub.settle(5_000);
    wave.close();
    await hub.settle(5_000);
    const again = alice.open(wave.id);
    await hub.settle(5_000);
    type(again, " two");
    await hub.settle(5_000);
    expect(alice.drafts.get()).toEqual([]);
    expect(text(again)).toBe("Hi one two");
    expect(text(theirs)).toBe("Hi one two");
    expect(new Set(hub.submissions).size).toBe(hub.submissions.length);
    expect(bob.drafts.get()).toEqual([]);
  });
});
