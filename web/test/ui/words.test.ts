/** Words and looks that the screens are made of. */

import { describe, expect, it } from "vitest";
import { cleanLines } from "../../src/editor/clean";
import { linkProblem, withScheme } from "../../src/editor/schema";
import { lookOf, looksOf } from "../../src/ui/people";
import { queueWords, stateWords } from "../../src/ui/peers";

describe("other servers", () => {
  it("have what waits for them told in words", () => {
    expect(queueWords({ queue: 0, waitingWaves: 0 })).toBe(" · nothing waits");
    expect(queueWords({ queue: 1, waitingWaves: 1 })).toBe(" · 1 change of 1 wave waits");
    expect(queueWords({ queue: 7, waitingWaves: 2 })).toBe(" · 7 changes of 2 waves wait");
    expect(stateWords({ state: "well", verdict: "block" })).toBe("blocked");
    expect(stateWords({ state: "neverReached", verdict: "allow" })).toBe("never reached");
  });
});

describe("people", () => {
  it("of one wave have different looks, as long as there are enough", () => {
    const people = ["alice", "carol", "bob", "dave", "erin", "frank", "grace", "heidi"].map((name) => `${name}@localhost`);
    expect(new Set(looksOf(people).values()).size).toBe(8);
    expect(Math.max(...countsOf([...people, ...people.map((p) => `x${p}`)]))).toBe(2);
    expect(looksOf(["alice@localhost"]).get("alice@localhost")).toBe(lookOf("alice@localhost"));
  });

  it("keep their look when others come", () => {
    const people = Array.from({ length: 20 }, (_, n) => `p${n}@example.org`);
    const before = looksOf(people.slice(0, 5));
    for (const [address, look] of before) expect(looksOf(people).get(address)).toBe(look);
  });

  function countsOf(people: readonly string[]): number[] {
    const counts = new Map<number, number>();
    for (const look of looksOf(people).values()) counts.set(look, (counts.get(look) ?? 0) + 1);
    return [...counts.values()];
  }
});

describe("addresses of links", () => {
  it("are refused in words", () => {
    expect(linkProblem("foo bar")).toMatch(/no spaces/);
    expect(linkProblem("https://example.org/a b")).toMatch(/no spaces/);
    expect(linkProblem("javascript:alert(1)")).toMatch(/begins with/);
    expect(linkProblem("  ")).toMatch(/Type/);
    expect(linkProblem("https://")).toMatch(/not the address/);
  });

  it("are taken bare and whole", () => {
    for (const good of ["example.org/plan", " https://example.org/?q=a%20b ", "mailto:bob@acme.lab", "wave://example.org/w+abc", "localhost:8080/x"]) {
      expect(linkProblem(good), good).toBeNull();
    }
    expect(withScheme("localhost:8080/x")).toBe("https://localhost:8080/x");
  });
});

describe("pasted text", () => {
  it("keeps its lines, and no character that a blip may not hold", () => {
    expect(cleanLines("a\r\nb\n\nc\td\u0000")).toEqual(["a", "b", "", "c d"]);
  });
});
