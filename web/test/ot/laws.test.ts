/** Laws that hold for all documents and operations. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compose } from "../../src/ot/compose";
import { diff } from "../../src/ot/diff";
import { Document } from "../../src/ot/document";
import { invert } from "../../src/ot/invert";
import { itemCount, itemOffset, splitItems, unitOffset } from "../../src/ot/items";
import { normalize } from "../../src/ot/normalize";
import { inputLength, isIdentity, type OpComponent, outputLength } from "../../src/ot/op";
import { sizeOf, split } from "../../src/ot/split";
import { transform } from "../../src/ot/transform";
import { checkWellFormed } from "../../src/ot/wellformed";
import { type Pick, randomDocument, randomOp } from "./generate";

const runs = { numRuns: Number(process.env["BILLOW_RUNS"] ?? 300) };

/** Checks a law with choices that fast-check makes and shrinks. */
function law(name: string, check: (pick: Pick) => void): void {
  it(name, () => {
    fc.assert(
      fc.property(fc.gen(), (g) => check((n) => g(fc.nat, { max: n - 1 }))),
      runs,
    );
  });
}

describe("operations", () => {
  law("a document survives being written as an operation", (pick) => {
    const document = randomDocument(pick);
    expect(Document.from(document.toOp()).toOp()).toEqual(document.toOp());
  });

  law("lengths are those of the documents, in items", (pick) => {
    const document = randomDocument(pick);
    const op = randomOp(pick, document);
    checkWellFormed(op);
    expect(inputLength(op)).toBe(document.length);
    expect(outputLength(op)).toBe(document.apply(op).length);
  });

  law("TP1: both orders give the same document", (pick) => {
    const document = randomDocument(pick);
    const client = randomOp(pick, document);
    const server = randomOp(pick, document);
    const result = transform(client, server);
    const one = document.apply(client).apply(result.server);
    const other = document.apply(server).apply(result.client);
    expect(one.toOp()).toEqual(other.toOp());
  });

  law("a composition does what its parts do one after the other", (pick) => {
    const document = randomDocument(pick);
    const a = randomOp(pick, document);
    const middle = document.apply(a);
    const b = randomOp(pick, middle);
    expect(document.apply(compose(a, b)).toOp()).toEqual(middle.apply(b).toOp());
  });

  law("what is split does the same in two steps, the first within the budget", (pick) => {
    const document = randomDocument(pick);
    const op = randomOp(pick, document, 1 + pick(8));
    const budget = 20 + pick(200);
    const parts = split(document, op, budget);
    if (parts === null) return;
    const [first, second] = parts;
    const middle = document.apply(first);
    expect(isIdentity(first)).toBe(false);
    expect(middle.apply(second).toOp()).toEqual(document.apply(op).toOp());
    expect(document.apply(compose(first, second)).toOp()).toEqual(document.apply(op).toOp());
    // Elements and annotations that the first part closes come on top.
    const closers = first.filter((c) => "elementEnd" in c || "annotationBoundary" in c);
    expect(sizeOf(first)).toBeLessThanOrEqual(budget + sizeOf(closers) + 64);
  });

  it("splits an insertion of any length: text, lines, a whole body, with styles", () => {
    const style: OpComponent = { annotationBoundary: { end: [], change: [{ key: "style/fontWeight", old: null, new: "bold" }] } };
    const plain: OpComponent = { annotationBoundary: { end: ["style/fontWeight"], change: [] } };
    const line: OpComponent[] = [{ elementStart: { type: "line", attributes: [] } }, { elementEnd: true }];
    const lines = Array.from({ length: 60 }, (_, n): OpComponent[] => [...line, { characters: `${n} 日本😀 ` }, style, { characters: "words" }, plain]);
    const op: OpComponent[] = [{ elementStart: { type: "body", attributes: [] } }, ...lines.flat(), { characters: "x".repeat(900) }, { elementEnd: true }];
    for (const budget of [200, 207, 250, 333, 480]) {
      let document = Document.empty;
      let rest: readonly OpComponent[] = op;
      let steps = 0;
      for (let parts = split(document, rest, budget); sizeOf(rest) > budget; parts = split(document, rest, budget)) {
        expect(parts).not.toBeNull();
        document = document.apply(parts![0]);
        rest = parts![1];
        expect(++steps).toBeLessThan(1_000);
      }
      expect(document.apply(rest).toOp()).toEqual(Document.from(op).toOp());
      expect(steps).toBeGreaterThan(5);
    }
  });

  it("splits the deletion of a whole body, with what is in it, styles too", () => {
    const style: OpComponent = { annotationBoundary: { end: [], change: [{ key: "k", old: null, new: "1" }] } };
    const plain: OpComponent = { annotationBoundary: { end: ["k"], change: [] } };
    const line: OpComponent[] = [{ elementStart: { type: "line", attributes: [] } }, { elementEnd: true }];
    const body: OpComponent[] = [{ elementStart: { type: "body", attributes: [] } }, ...line, { characters: "x".repeat(700) }, style, { characters: "y".repeat(700) }, plain, { elementEnd: true }];
    let document = Document.from(body);
    let rest = document.deletion(0, document.length);
    let steps = 0;
    for (; sizeOf(rest) > 300; steps++) {
      const parts = split(document, rest, 300)!;
      document = document.apply(parts[0]);
      rest = parts[1];
      // Servers let nobody take a body's first line away.
      expect(document.item(1)).toMatchObject({ type: "line" });
    }
    expect(document.apply(rest).length).toBe(0);
    expect(steps).toBeGreaterThan(5);
  });

  law("composition is associative in effect", (pick) => {
    const document = randomDocument(pick);
    const a = randomOp(pick, document);
    const b = randomOp(pick, document.apply(a));
    const c = randomOp(pick, document.apply(a).apply(b));
    const left = document.apply(compose(compose(a, b), c));
    expect(left.toOp()).toEqual(document.apply(compose(a, compose(b, c))).toOp());
  });

  law("an inverse takes its operation back, and is its own inverse's inverse", (pick) => {
    const document = randomDocument(pick);
    const op = randomOp(pick, document);
    expect(document.apply(op).apply(invert(op)).toOp()).toEqual(document.toOp());
    expect(invert(invert(op))).toEqual(op);
  });

  law("normal form does the same, and has a normal form of its own", (pick) => {
    const document = randomDocument(pick);
    const op = randomOp(pick, document);
    const normal = normalize(op);
    expect(document.apply(normal).toOp()).toEqual(document.apply(op).toOp());
    expect(normalize(normal)).toEqual(normal);
  });

  law("a difference leads from one document to the other", (pick) => {
    const from = randomDocument(pick);
    const to = pick(2) === 0 ? from.apply(randomOp(pick, from)) : randomDocument(pick);
    const way = diff(from, to);
    if (way === null) expect(from.toOp()).toEqual(to.toOp());
    else expect(from.apply(way).toOp()).toEqual(to.toOp());
  });

  law("what does not fit is refused and changes nothing", (pick) => {
    const document = randomDocument(pick);
    const before = document.toOp();
    const op = randomOp(pick, randomDocument(pick));
    try {
      document.apply(op);
    } catch {
      // refused
    }
    expect(document.toOp()).toEqual(before);
  });
});

describe("items", () => {
  it("are code points, whatever the browser counts", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.nat(), (text, n) => {
        const items = [...text];
        expect(itemCount(text)).toBe(items.length);
        const at = n % (items.length + 1);
        expect(splitItems(text, at)).toEqual([items.slice(0, at).join(""), items.slice(at).join("")]);
        expect(itemOffset(text, unitOffset(text, at))).toBe(at);
      }),
    );
  });
});

describe("names that mean something to JavaScript", () => {
  const keys = ["__proto__", "constructor", "hasOwnProperty", "toString"];

  it("are plain data as annotation keys, attributes and element types", () => {
    let document = Document.empty;
    for (const key of keys) {
      document = document.apply([
        { annotationBoundary: { end: [], change: [{ key, old: null, new: "1" }] } },
        { elementStart: { type: key, attributes: [[key, "2"]] } },
        { elementEnd: true },
        { annotationBoundary: { end: [key], change: [] } },
        ...(document.length > 0 ? [{ retain: document.length }] : []),
      ]);
    }
    expect(document.length).toBe(8);
    expect([...document.annotations(0)]).toEqual([["toString", "1"]]);
    expect(document.item(6)).toEqual({ type: "__proto__", attributes: [["__proto__", "2"]] });
    expect(Document.from(JSON.parse(JSON.stringify(document.toOp()))).toOp()).toEqual(document.toOp());
    const other = transform(
      [{ annotationBoundary: { end: [], change: [{ key: "__proto__", old: null, new: "x" }] } }, { retain: 6 },
       { annotationBoundary: { end: [], change: [{ key: "__proto__", old: "1", new: "x" }] } }, { retain: 2 },
       { annotationBoundary: { end: ["__proto__"], change: [] } }],
      [{ retain: 2 }, { characters: "t" }, { retain: 6 }],
    );
    expect(document.apply(other.client.length > 0 ? [{ retain: 2 }, { characters: "t" }, { retain: 6 }] : []).apply(other.client).annotations(2).get("__proto__")).toBe("x");
    expect(({} as Record<string, unknown>)["1"]).toBeUndefined();
    expect(Object.prototype).not.toHaveProperty("x");
  });
});
