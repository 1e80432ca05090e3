/**
 * The editor of one blip.
 *
 * The document's truth is the `BlipSource`; this class shows it, turns what I do into operations for it and follows the
 * operations of others. While a word is being composed (IME), changes of others in my line wait until it is done,
 * and my own are carried past them: the browser's composition is never disturbed and no letter is lost.
 */
import { DOMParser, Fragment, Slice } from "prosemirror-model";
import { type Command, EditorState, TextSelection, type Transaction } from "prosemirror-state";
import { EditorView } from "prosemirror-view";
import { composeAll } from "../ot/compose";
import { transform } from "../ot/transform";
import type { OpComponent } from "../wire/messages";
import { caretsMeta, caretsPlugin, type RemoteCaret } from "./carets";
import { cleanLines, cleanPlugin } from "./clean";
import { blipOf, type Frame } from "./codec";
import { follow } from "./incoming";
import { editorKeys } from "./keys";
import { FOREIGN } from "./origin";
import { operationOf } from "./outgoing";
import { offsetAt, positionNear } from "./positions";
import { schema } from "./schema";
import { AnchorView, type ThreadMark, threadsMeta, threadsPlugin } from "./threads";
import { extent, UndoStack } from "./undo";
import { unsentMeta, unsentPlugin } from "./unsent";

type Op = readonly OpComponent[];

/** The document behind an editor. */
export type BlipSource = {
  /** The document now, my own changes included, as an operation of insertions. */
  content(): Op;
  /** My change to it. */
  edit(op: Op): void;
};

/** A caret in item offsets of the whole document. */
export type Caret = { readonly anchor: number; readonly focus: number };

export type PersonCaret = Caret & { readonly session: string; readonly name: string; readonly look: number };

/** What the editor tells the interface. */
export type EditorEvents = {
  /** Selection, marks or focus are other now: toolbars look again. */
  readonly changed: () => void;
  readonly focused: () => void;
  readonly left: () => void;
  /** My caret moved, or left (null). */
  readonly caret: (caret: Caret | null, typing: boolean) => void;
  readonly link: () => void;
  readonly replyHere: () => void;
  readonly leave: () => void;
  readonly finish: () => void;
  readonly toggleThread: (id: string) => void;
  /** The document can no longer be shown as a blip (deleted). */
  readonly gone: () => void;
};

export class BlipEditor {
  readonly view: EditorView;
  private frame: Frame;
  private readonly undoStack = new UndoStack();
  /** Operations of others that wait for the end of a composition. */
  private held: Op[] = [];
  private marks: ReadonlyMap<string, ThreadMark> = new Map();
  private readonly anchors = new Set<AnchorView>();
  private carets: readonly PersonCaret[] = [];
  private writable = true;

  /** Null when the document is no blip. */
  static mount(place: HTMLElement, source: BlipSource, events: EditorEvents, label: string): BlipEditor | null {
    const blip = blipOf(source.content());
    return blip ? new BlipEditor(place, source, events, label, blip) : null;
  }

  private constructor(place: HTMLElement, private readonly source: BlipSource, private readonly events: EditorEvents, private label: string, blip: NonNullable<ReturnType<typeof blipOf>>) {
    this.frame = blip.frame;
    const keys = editorKeys({
      undo: () => this.undo(),
      redo: () => this.redo(),
      link: events.link,
      replyHere: events.replyHere,
      leave: events.leave,
      finish: events.finish,
    });
    this.view = new EditorView({ mount: place }, {
      state: EditorState.create({ doc: blip.doc, schema, plugins: [...keys, cleanPlugin, caretsPlugin, unsentPlugin, threadsPlugin] }),
      dispatchTransaction: (tr) => this.dispatch(tr),
      editable: () => this.writable,
      attributes: (state) => ({
        role: "textbox",
        "aria-multiline": "true",
        "aria-label": this.label,
        "aria-readonly": String(!this.writable),
        class: state.doc.childCount === 1 && state.doc.firstChild!.content.size === 0 ? "blip-text is-empty" : "blip-text",
        "data-placeholder": "Write here",
        spellcheck: "true",
      }),
      nodeViews: {
        reply: (node) => {
          const id = node.attrs["id"] as string;
          const anchor: AnchorView = new AnchorView(id, this.marks.get(id), events.toggleThread, () => this.anchors.delete(anchor));
          this.anchors.add(anchor);
          return anchor;
        },
      },
      domParser: DOMParser.fromSchema(schema),
      clipboardTextParser: (text, context) => {
        const marks = context.marks();
        const lines = cleanLines(text).map((line) => schema.node("line", null, line === "" ? [] : [schema.text(line, marks)]));
        return new Slice(Fragment.fromArray(lines), 1, 1);
      },
      handleDOMEvents: {
        focus: () => {
          events.focused();
          setTimeout(() => this.tellCaret(false));
        },
        blur: () => {
          this.undoStack.close();
          this.check();
          events.caret(null, false);
          events.left();
        },
        keydown: () => this.readSelection(),
        compositionend: () => this.afterComposition(),
        beforeinput: (_view, event) => this.beforeInput(event),
      },
    });
  }

  /** Somebody else's operation was applied to the document. */
  receive(op: Op): void {
    if (this.held.length > 0 || (this.view.composing && this.touchesMyLine(op))) {
      this.held.push(op);
      return;
    }
    this.apply(op);
  }

  /** The document was replaced; takes it anew. */
  take(): void {
    this.held = [];
    this.undoStack.clear();
    this.rebuild();
  }

  /** Runs a command of the toolbar and gives the text the focus back. */
  run(command: Command): void {
    command(this.view.state, (tr) => this.view.dispatch(tr), this.view);
    this.view.focus();
  }

  undo(): void {
    this.ownHistory(this.undoStack.undo());
  }

  redo(): void {
    this.ownHistory(this.undoStack.redo());
  }

  get canUndo(): boolean {
    return this.undoStack.canUndo;
  }

  get canRedo(): boolean {
    return this.undoStack.canRedo;
  }

  get focused(): boolean {
    return this.view.hasFocus();
  }

  /** Sets the caret: at the end, or at the start. */
  focus(at: "start" | "end" | "same" = "same"): void {
    const { doc } = this.view.state;
    if (at !== "same") {
      const selection = at === "end" ? TextSelection.atEnd(doc) : TextSelection.atStart(doc);
      this.view.dispatch(this.view.state.tr.setSelection(selection));
    }
    this.view.focus();
  }

  /** Where the selection ends, in items of the document: the place for an anchor. */
  selectionEnd(): number {
    const { doc, selection } = this.view.state;
    const { $to, empty } = selection;
    // A selection that takes the end of a line along is of the words before it.
    const spills = !empty && $to.depth > 0 && $to.parentOffset === 0 && $to.pos > 2;
    const end = spills ? $to.pos - 2 : $to.pos;
    return this.frame.before.length + offsetAt(doc, Math.min(Math.max(end, 1), doc.content.size - 1));
  }

  get selecting(): boolean {
    return !this.view.state.selection.empty;
  }

  /** Whether I may write. */
  setWritable(writable: boolean): void {
    if (writable !== this.writable) {
      this.writable = writable;
      this.view.setProps({});
    }
  }

  showCarets(carets: readonly PersonCaret[]): void {
    this.carets = carets;
    this.readSelection();
    const { doc } = this.view.state;
    const at = (offset: number) => positionNear(doc, offset - this.frame.before.length);
    const placed: RemoteCaret[] = carets.map(({ session, name, look, anchor, focus }) => ({ session, name, look, anchor: at(anchor), head: at(focus) }));
    this.view.dispatch(this.view.state.tr.setMeta(...caretsMeta(placed)));
  }

  /** Underlines what is not sent yet, at item offsets of the document. */
  showUnsent(ranges: readonly (readonly [number, number])[]): void {
    // What is being composed is not touched; it comes again with the next change.
    if (this.view.composing || this.held.length > 0) return;
    this.readSelection();
    const { doc } = this.view.state;
    const at = (offset: number) => positionNear(doc, offset - this.frame.before.length);
    this.view.dispatch(this.view.state.tr.setMeta(...unsentMeta(ranges.map(([from, to]) => [at(from), at(to)]))));
  }

  /** What the markers say, and where open threads are rendered. */
  showThreads(marks: ReadonlyMap<string, ThreadMark>, places: ReadonlyMap<string, HTMLElement>): void {
    this.marks = marks;
    for (const anchor of this.anchors) anchor.show(marks.get(anchor.id));
    this.readSelection();
    this.view.dispatch(this.view.state.tr.setMeta(...threadsMeta(places)));
  }

  relabel(label: string): void {
    if (label === this.label) return;
    this.label = label;
    this.view.setProps({});
  }

  destroy(): void {
    this.view.destroy();
  }

  private dispatch(tr: Transaction): void {
    const { state, transactions } = this.view.state.applyTransaction(tr);
    const before = this.view.state;
    this.view.updateState(state);
    if (!tr.getMeta(FOREIGN)) this.publish(transactions);
    if (!state.selection.eq(before.selection) || (state.doc !== before.doc && !tr.getMeta(FOREIGN))) this.tellCaret(tr.docChanged);
    if (state.doc !== before.doc || !state.selection.eq(before.selection) || state.storedMarks !== before.storedMarks) this.events.changed();
  }

  /** Makes one operation of my transactions and hands it to the document. */
  private publish(transactions: readonly Transaction[]): void {
    const ops: Op[] = [];
    for (const tr of transactions) {
      tr.steps.forEach((step, i) => {
        const op = operationOf(step, tr.docs[i]!, tr.docs[i + 1] ?? tr.doc, this.frame);
        if (op) ops.push(op);
      });
    }
    if (ops.length === 0) return;
    const op = ops.length === 1 ? ops[0]! : composeAll(ops);
    this.undoStack.record(op, extent(op).to, Date.now());
    this.submit(op);
  }

  /** Hands my operation to the document. If it does not take it, that is our mistake: the editor shows the document again. */
  private submit(op: Op): boolean {
    try {
      this.source.edit(this.pastHeld(op));
      return true;
    } catch (error) {
      console.error("an editor's operation did not fit its document", error, op);
      this.take();
      return false;
    }
  }

  /** Whether the editor shows its document; if not, that is our mistake, and it shows it again. */
  private check(): void {
    if (this.view.isDestroyed || this.view.composing || this.held.length > 0) return;
    const blip = blipOf(this.source.content());
    if (!blip || blip.doc.eq(this.view.state.doc)) return;
    console.error("an editor did not show its document");
    this.take();
  }

  /** My operation past those of others that wait; they are carried past mine. */
  private pastHeld(op: Op): Op {
    let mine = op;
    this.held = this.held.map((theirs) => {
      const pair = transform(mine, theirs);
      mine = pair.client;
      return pair.server;
    });
    return mine;
  }

  private apply(theirs: Op): void {
    // What I have typed by then is carried past it, as past all that waits.
    this.held.unshift(theirs);
    this.readSelection();
    const op = this.held.shift();
    if (!op) return;
    this.undoStack.pass(op);
    const { state } = this.view;
    const tr = follow(state.tr, op, this.frame);
    if (!tr) {
      this.rebuild();
      return;
    }
    keepSelection(tr, state);
    this.view.dispatch(tr.setMeta(FOREIGN, true));
  }

  /** Applies one of my own undo or redo operations. */
  private ownHistory(op: Op | null): void {
    if (!op) return;
    const tr = follow(this.view.state.tr, op, this.frame);
    if (!this.submit(op)) return;
    if (!tr) {
      this.rebuild();
      return;
    }
    const position = positionNear(tr.doc, extent(op).to - this.frame.before.length);
    tr.setSelection(TextSelection.create(tr.doc, position));
    this.view.dispatch(tr.setMeta(FOREIGN, true).scrollIntoView());
    this.tellCaret(true);
  }

  /** Shows the document as the source has it now; only what differs is replaced. */
  private rebuild(): void {
    const blip = blipOf(this.source.content());
    if (!blip) {
      this.events.gone();
      return;
    }
    this.frame = blip.frame;
    // The document has them already.
    for (const op of this.held) this.undoStack.pass(op);
    this.held = [];
    const { state } = this.view;
    const start = state.doc.content.findDiffStart(blip.doc.content);
    if (start === null) return;
    let { a, b } = state.doc.content.findDiffEnd(blip.doc.content)!;
    const overlap = start - Math.min(a, b);
    if (overlap > 0) {
      a += overlap;
      b += overlap;
    }
    const tr = state.tr;
    const whole = !fits(state, start, a);
    if (whole) tr.replace(0, state.doc.content.size, new Slice(blip.doc.content, 0, 0));
    else tr.replace(start, a, blip.doc.slice(start, b));
    if (!tr.doc.eq(blip.doc)) {
      this.view.updateState(EditorState.create({ doc: blip.doc, plugins: state.plugins }));
      this.showCarets(this.carets);
      return;
    }
    keepSelection(tr, state);
    this.view.dispatch(tr.setMeta(FOREIGN, true));
  }

  /** Says where my caret is. */
  tellCaret(typing: boolean): void {
    if (this.view.isDestroyed || !this.view.hasFocus()) return;
    const { anchor, head } = this.view.state.selection;
    const at = (position: number) => this.frame.before.length + offsetAt(this.view.state.doc, position);
    this.events.caret({ anchor: at(anchor), focus: at(head) }, typing);
    this.events.changed();
  }

  /** Whether an operation changes anything in the line my caret is in. */
  private touchesMyLine(op: Op): boolean {
    const { $from, $to } = this.view.state.selection;
    const doc = this.view.state.doc;
    const from = this.frame.before.length + offsetAt(doc, $from.start(Math.min(1, $from.depth)) - 1);
    const to = this.frame.before.length + offsetAt(doc, $to.end(Math.min(1, $to.depth))) + 2;
    let offset = 0;
    let annotating = false;
    for (const c of op) {
      if ("annotationBoundary" in c) annotating = c.annotationBoundary.change.length > 0;
      const length = "retain" in c ? c.retain : "deleteCharacters" in c ? [...c.deleteCharacters].length : consumesOne(c) ? 1 : 0;
      const changes = annotating || !("retain" in c || "annotationBoundary" in c);
      if (changes && offset <= to && offset + length >= from) return true;
      offset += length;
    }
    return false;
  }

  private afterComposition(): boolean {
    setTimeout(() => {
      if (this.view.isDestroyed || this.held.length === 0) return;
      if (this.view.composing) {
        this.afterComposition();
        return;
      }
      for (let op = this.held.shift(); op; op = this.held.shift()) this.apply(op);
    }, 80);
    return false;
  }

  /**
   * Takes over where the browser has moved the caret. It tells so only a moment later; until then a key would act, and an
   * update would put the caret, where it was before.
   */
  private readSelection(): boolean {
    if (!this.view.composing && this.view.hasFocus()) document.dispatchEvent(new Event("selectionchange"));
    return false;
  }

  /** Undo and redo of the browser's menu and of phones. */
  private beforeInput(event: InputEvent): boolean {
    if (event.inputType !== "historyUndo" && event.inputType !== "historyRedo") return false;
    event.preventDefault();
    if (event.inputType === "historyUndo") this.undo();
    else this.redo();
    return true;
  }
}

const consumesOne = (c: OpComponent) =>
  "deleteElementStart" in c || "deleteElementEnd" in c || "updateAttributes" in c || "replaceAttributes" in c;

const fits = (state: EditorState, from: number, to: number) => state.doc.resolve(from).depth <= 1 && state.doc.resolve(to).depth <= 1;

/** My caret stays left of what others insert at it; a selection does not grow by what they insert at its ends. */
function keepSelection(tr: Transaction, state: EditorState): void {
  const { selection, storedMarks } = state;
  if (selection instanceof TextSelection) {
    const { anchor, head, empty } = selection;
    const left = (position: number) => tr.mapping.map(position, -1);
    const right = (position: number) => tr.mapping.map(position, 1);
    const [a, h] = empty ? [left(anchor), left(head)] : anchor < head ? [right(anchor), left(head)] : [left(anchor), right(head)];
    const next = TextSelection.between(tr.doc.resolve(a), tr.doc.resolve(anchor < head ? Math.max(a, h) : h));
    if (!next.eq(tr.selection)) tr.setSelection(next);
  }
  tr.setStoredMarks(storedMarks);
}
