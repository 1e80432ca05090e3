/** The editor's laws: no item is lost between wave documents, ProseMirror and operations, in either direction. */
import { EditorState } from "prosemirror-state";
import { describe, expect, it } from "vitest";
import { type Blip, blipItems, blipOf, contentOf } from "../../src/editor/codec";
import { follow } from "../../src/editor/incoming";
import { type Item, itemsOf } from "../../src/editor/items";
import { operationOf } from "../../src/editor/outgoing";
import { offsetAt, placeAt, totalItems } from "../../src/editor/positions";
import { Document } from "../../src/ot/document";
import { invert } from "../../src/ot/invert";
import { transform } from "../../src/ot/transform";
import type { OpComponent } from "../../src/wire/messages";
import { content, edit, random } from "./random";

const ROUNDS = Number(process.env["BILLOW_ROUNDS"] ?? 150);

function opsOf(blip: Blip, tr: ReturnType<typeof edit>): OpComponent[][] {
  return tr.steps.flatMap((step, i) => {
    const op = operationOf(step, tr.docs[i]!, tr.docs[i + 1] ?? tr.doc, blip.frame);
    return op ? [op] : [];
  });
}

const items = (document: Document): Item[] => itemsOf(document.toOp());

describe("blips", () => {
  it("come through the editor's form unchanged", () => {
    for (let seed = 0; seed < ROUNDS; seed++) {
      const source = content(random(seed));
      const blip = blipOf(source);
      expect(blipItems(blip!), `seed ${seed}`).toEqual(itemsOf(source));
      blip!.doc.check();
    }
  });

  it("have offsets that lead back to their positions", () => {
    for (let seed = 0; seed < ROUNDS; seed++) {
      const { doc } = blipOf(content(random(seed)))!;
      for (let offset = 0; offset <= totalItems(doc); offset++) {
        const place = placeAt(doc, offset)!;
        if (place.kind === "text") expect(offsetAt(doc, place.position), `seed ${seed}, offset ${offset}`).toBe(offset);
      }
    }
  });
});

describe("local changes", () => {
  it("become operations that do to the document what they did to the editor", () => {
    let steps = 0;
    for (let seed = 0; seed < ROUNDS; seed++) {
      const r = random(seed);
      const source = content(r);
      const blip = blipOf(source)!;
      let state = EditorState.create({ doc: blip.doc });
      let document = Document.from(source);
      for (let n = 0; n < 12; n++) {
        const tr = edit(r, state);
        for (const op of opsOf({ ...blip, doc: state.doc }, tr)) {
          const before = document;
          document = document.apply(op);
          expect(items(document.apply(invert(op))), `seed ${seed}, inverse`).toEqual(items(before));
          steps++;
        }
        state = state.apply(tr);
        expect(blipItems({ ...blip, doc: state.doc }), `seed ${seed}, change ${n}`).toEqual(items(document));
        expect(blipOf(document.toOp())!.doc.toJSON()).toEqual(state.doc.toJSON());
      }
    }
    expect(steps).toBeGreaterThan(ROUNDS * 6);
  });
});

describe("operations of others", () => {
  it("do to the editor what they do to the document", () => {
    let followed = 0;
    let taken = 0;
    for (let seed = 0; seed < ROUNDS; seed++) {
      const r = random(seed + 1_000_000);
      const source = content(r);
      const blip = blipOf(source)!;
      let mine = EditorState.create({ doc: blip.doc });
      let theirs = EditorState.create({ doc: blip.doc });
      let document = Document.from(source);
      for (let n = 0; n < 12; n++) {
        const tr = edit(r, theirs);
        for (const op of opsOf({ ...blip, doc: theirs.doc }, tr)) {
          document = document.apply(op);
          const done = follow(mine.tr, op, blip.frame);
          taken++;
          if (done) followed++;
          const doc = blipOf(document.toOp())!.doc;
          mine = done ? mine.apply(done) : EditorState.create({ doc });
          expect(blipItems({ ...blip, doc: mine.doc }), `seed ${seed}, change ${n}`).toEqual(items(document));
          expect(mine.doc.toJSON()).toEqual(doc.toJSON());
          mine.doc.check();
        }
        theirs = theirs.apply(tr);
      }
    }
    // What cannot be followed is taken whole; that must be the rare case.
    expect(followed / taken).toBeGreaterThan(0.97);
  });

  it("meet my own: two editors that type at once end equal", () => {
    for (let seed = 0; seed < ROUNDS; seed++) {
      const r = random(seed + 2_000_000);
      const source = content(r);
      const blip = blipOf(source)!;
      let a = EditorState.create({ doc: blip.doc });
      let b = a;
      for (let n = 0; n < 6; n++) {
        const trA = edit(r, a);
        const trB = edit(r, b);
        let opsA = opsOf({ ...blip, doc: a.doc }, trA);
        const opsB = opsOf({ ...blip, doc: b.doc }, trB);
        a = a.apply(trA);
        b = b.apply(trB);
        const forA: OpComponent[][] = [];
        for (let other of opsB) {
          const next: OpComponent[][] = [];
          for (const own of opsA) {
            const pair = transform(own, other);
            next.push(pair.client);
            other = pair.server;
          }
          opsA = next;
          forA.push(other);
        }
        for (const [ops, side] of [[forA, "a"], [opsA, "b"]] as const) {
          for (const op of ops) {
            const state = side === "a" ? a : b;
            const done = follow(state.tr, op, blip.frame);
            const document = Document.from(contentOf({ ...blip, doc: state.doc })).apply(op);
            const after = done ? state.apply(done) : EditorState.create({ doc: blipOf(document.toOp())!.doc });
            if (side === "a") a = after;
            else b = after;
          }
        }
        expect(a.doc.toJSON(), `seed ${seed}, round ${n}`).toEqual(b.doc.toJSON());
      }
    }
  });
});

