/** Undo takes back my own changes and nobody else's. */
import { EditorState } from "prosemirror-state";
import { describe, expect, it } from "vitest";
import { blipOf } from "../../src/editor/codec";
import { operationOf } from "../../src/editor/outgoing";
import { extent, UndoStack } from "../../src/editor/undo";
import { Document } from "../../src/ot/document";
import type { OpComponent } from "../../src/wire/messages";
import { content, edit, type Random, random } from "./random";

const PLAIN: OpComponent[] = [
  { elementStart: { type: "body", attributes: [] } }, { elementStart: { type: "line", attributes: [] } }, { elementEnd: true },
  { characters: "one two three" }, { elementEnd: true },
];

const insert = (document: Document, at: number, text: string): OpComponent[] => {
  const rest = document.length - at;
  return [{ retain: at }, { characters: text }, ...(rest > 0 ? [{ retain: rest }] : [])];
};

/** Operations of a random change to a document. */
function change(r: Random, document: Document): OpComponent[][] {
  const blip = blipOf(document.toOp())!;
  const tr = edit(r, EditorState.create({ doc: blip.doc }));
  return tr.steps.flatMap((step, i) => {
    const op = operationOf(step, tr.docs[i]!, tr.docs[i + 1] ?? tr.doc, blip.frame);
    return op ? [op] : [];
  });
}

describe("undo", () => {
  it("groups what is typed in one go", () => {
    const stack = new UndoStack();
    let document = Document.from(PLAIN);
    for (const [i, letter] of ["a", "b", "c"].entries()) {
      const op = insert(document, 3 + i, letter);
      stack.record(op, extent(op).to, i * 100);
      document = document.apply(op);
    }
    document = document.apply(stack.undo()!);
    expect(document.text()).toBe("one two three");
    expect(stack.canUndo).toBe(false);
    expect(document.apply(stack.redo()!).text()).toBe("abcone two three");
  });

  it("leaves alone what others typed inside my words", () => {
    const stack = new UndoStack();
    let document = Document.from(PLAIN);
    const mine = insert(document, 3, "mine ");
    stack.record(mine, 8, 0);
    document = document.apply(mine);
    const theirs = insert(document, 5, "THEIRS");
    stack.pass(theirs);
    document = document.apply(theirs);
    document = document.apply(stack.undo()!);
    expect(document.text()).toBe("THEIRSone two three");
    expect(document.apply(stack.redo()!).text()).toContain("THEIRS");
  });

  it("brings the document back whatever I did", () => {
    for (let seed = 0; seed < 200; seed++) {
      const r = random(seed + 77);
      const start = Document.from(content(r));
      const stack = new UndoStack();
      let document = start;
      for (let n = 0; n < 6; n++) {
        for (const op of change(r, document)) {
          stack.record(op, extent(op).to, n * 300);
          document = document.apply(op);
        }
      }
      const end = document;
      let undone = 0;
      for (let op = stack.undo(); op; op = stack.undo(), undone++) document = document.apply(op);
      expect(document.toOp(), `seed ${seed}`).toEqual(start.toOp());
      for (; undone > 0; undone--) document = document.apply(stack.redo()!);
      expect(document.toOp(), `seed ${seed}, redo`).toEqual(end.toOp());
    }
  });

  it("fits the document whatever others do in between", () => {
    for (let seed = 0; seed < 200; seed++) {
      const r = random(seed + 7_777);
      const stack = new UndoStack();
      let document = Document.from(content(r));
      for (let n = 0; n < 24; n++) {
        const who = r(4);
        if (who < 2) {
          for (const op of change(r, document)) {
            if (who === 0) stack.record(op, extent(op).to, n * 300);
            else stack.pass(op);
            document = document.apply(op);
          }
        } else {
          const op = who === 2 ? stack.undo() : stack.redo();
          if (op) document = document.apply(op);
        }
      }
    }
  });
});
