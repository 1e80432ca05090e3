// @vitest-environment happy-dom
/** An editor on a page beside others who write: it shows the document, always, and my caret stays at my words. */
import { EditorState, TextSelection } from "prosemirror-state";
import { describe, expect, it } from "vitest";
import { BlipEditor, type EditorEvents } from "../../src/editor/blip-editor";
import { blipOf } from "../../src/editor/codec";
import { operationOf } from "../../src/editor/outgoing";
import { Document } from "../../src/ot/document";
import type { OpComponent } from "../../src/wire/messages";
import { content, edit, type Random, random } from "./random";

const ROUNDS = Number(process.env["BILLOW_ROUNDS"] ?? 30);
const nothing = () => {};
const EVENTS: EditorEvents = {
  changed: nothing, focused: nothing, left: nothing, caret: nothing, link: nothing, replyHere: nothing, leave: nothing, finish: nothing, toggleThread: nothing, gone: nothing,
};

class Place {
  document: Document;
  readonly editor: BlipEditor;
  readonly mine: (readonly OpComponent[])[] = [];

  constructor(start: readonly OpComponent[]) {
    this.document = Document.from(start);
    const source = {
      content: () => this.document.toOp(),
      edit: (op: readonly OpComponent[]) => {
        this.document = this.document.apply(op);
        this.mine.push(op);
      },
    };
    this.editor = BlipEditor.mount(document.body.appendChild(document.createElement("div")), source, EVENTS, "Text")!;
  }

  get state(): EditorState {
    return this.editor.view.state;
  }

  others(op: readonly OpComponent[]): void {
    this.document = this.document.apply(op);
    this.editor.receive(op);
  }

  composing(on: boolean): void {
    (this.editor.view as unknown as { input: { composing: boolean } }).input.composing = on;
  }

  caret(at: number): void {
    this.editor.view.dispatch(this.state.tr.setSelection(TextSelection.create(this.state.doc, at)));
  }

  get shown(): string {
    return this.state.doc.textBetween(0, this.state.doc.content.size, "\n");
  }
}

/** Operations by which somebody else changes the document. */
function change(r: Random, document: Document): OpComponent[] | null {
  const blip = blipOf(document.toOp())!;
  const tr = edit(r, EditorState.create({ doc: blip.doc }));
  const step = tr.steps[0];
  return step ? operationOf(step, tr.docs[0]!, tr.docs[1] ?? tr.doc, blip.frame) : null;
}

const body = (text: string): OpComponent[] => [
  { elementStart: { type: "body", attributes: [] } }, { elementStart: { type: "line", attributes: [] } }, { elementEnd: true }, { characters: text }, { elementEnd: true },
];
const insert = (document: Document, at: number, text: string): OpComponent[] => [{ retain: at }, { characters: text }, { retain: document.length - at }];

describe("an editor", () => {
  it("keeps my caret where I write when others write at the same place", () => {
    const place = new Place(body("one two"));
    place.caret(4);
    place.others(insert(place.document, 6, "XX"));
    place.editor.view.dispatch(place.state.tr.insertText("a"));
    place.editor.view.dispatch(place.state.tr.insertText("b"));
    expect(place.shown).toBe("oneabXX two");
    place.others(insert(place.document, 3, "YY"));
    place.editor.view.dispatch(place.state.tr.insertText("c"));
    expect(place.shown).toBe("YYoneabcXX two");
    expect(place.document.text()).toBe(place.shown);
  });

  it("does not let a selection grow by what others write at its ends", () => {
    const place = new Place(body("one two"));
    place.editor.view.dispatch(place.state.tr.setSelection(TextSelection.create(place.state.doc, 1, 4)));
    place.others(insert(place.document, 3, "A"));
    place.others(insert(place.document, 7, "B"));
    const { from, to } = place.state.selection;
    expect(place.state.doc.textBetween(from, to)).toBe("one");
  });

  it("makes others in my line wait while I compose, and loses nothing", async () => {
    const place = new Place(body("one two"));
    place.caret(4);
    place.composing(true);
    place.others(insert(place.document, 5, "X"));
    expect(place.shown).toBe("one two");
    place.editor.view.dispatch(place.state.tr.insertText("日"));
    expect(place.document.text()).toBe("onXe日 two");
    place.composing(false);
    place.editor.view.dom.dispatchEvent(new Event("compositionend"));
    await new Promise((done) => setTimeout(done, 120));
    expect(place.shown).toBe("onXe日 two");
  });

  it("undoes mine and leaves theirs", () => {
    const place = new Place(body("one two"));
    place.caret(4);
    place.editor.view.dispatch(place.state.tr.insertText(" and"));
    place.others(insert(place.document, 8, "X"));
    place.editor.undo();
    expect(place.shown).toBe("oneX two");
    expect(place.document.text()).toBe(place.shown);
    place.editor.redo();
    expect(place.document.text()).toBe(place.shown);
    expect(place.shown).toBe("one aXnd two");
  });

  it("takes characters out that no blip may hold", () => {
    const place = new Place(body("one"));
    place.caret(4);
    place.editor.view.dispatch(place.state.tr.insertText("a\u202eb\u0007c"));
    expect(place.document.text()).toBe("oneabc");
  });

  it("shows the document whatever I and others do, composing or not", { timeout: 600_000 }, async () => {
    for (let seed = 0; seed < ROUNDS; seed++) {
      const r = random(seed + 424_242);
      const place = new Place(content(r));
      for (let n = 0; n < 20; n++) {
        const kind = r(6);
        if (kind < 2) place.editor.view.dispatch(edit(r, place.state));
        else if (kind < 4) {
          const op = change(r, place.document);
          if (op) place.others(op);
        } else if (kind === 4) r(2) === 0 ? place.editor.undo() : place.editor.redo();
        else place.composing(r(2) === 0);
      }
      place.composing(false);
      place.editor.view.dom.dispatchEvent(new Event("compositionend"));
      await new Promise((done) => setTimeout(done, 90));
      expect(place.state.doc.toJSON(), `seed ${seed}`).toEqual(blipOf(place.document.toOp())!.doc.toJSON());
      place.editor.destroy();
    }
  });
});
