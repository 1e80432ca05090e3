/** The text of a blip: puts the editor on the page and joins it to the client. */
import { createPortal } from "preact/compat";
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import { BlipEditor } from "../editor/blip-editor";
import { anchored, type ThreadMark } from "../editor/threads";
import type { Thread, Wavelet } from "../wave/client";
import { linesOf } from "../wave/conversation";
import { active, activeChange, isWanted, linkBox, register, servesEditor } from "./active";
import { lookOf, looksOf, nameOf } from "./people";
import { useReadable } from "./readable";
import { dropIfEmpty, replyHere } from "./replies";
import { useThreadMarks } from "./thread-marks";
import { ThreadView } from "./thread";

/** In waves of more messages than this, editors are made when they come near the screen. */
const EAGER = 40;

type Props = {
  readonly wavelet: Wavelet;
  readonly blip: string;
  readonly label: string;
  /** The inline threads of this blip. */
  readonly threads: readonly Thread[];
  readonly closed: ReadonlySet<string>;
  readonly toggle: (thread: string) => void;
  /** Esc: out of the text. */
  readonly leave: () => void;
};

export function BlipText({ wavelet, blip, label, threads, closed, toggle, leave }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const editor = useRef<BlipEditor | null>(null);
  const [, draw] = useReducer((n: number) => n + 1, 0);
  const places = useRef(new Map<string, HTMLElement>());
  const writable = useReadable(wavelet.writable);
  const marks = useThreadMarks(wavelet, threads, closed);
  const latest = useRef({ toggle, leave });
  latest.current = { toggle, leave };

  const [near, setNear] = useState(() => wavelet.conversation.get().blips.size <= EAGER || isWanted(wavelet, blip));
  useEffect(() => {
    if (near) return;
    const observer = new IntersectionObserver(([entry]) => entry?.isIntersecting && setNear(true), { rootMargin: "800px 0px" });
    observer.observe(place.current!);
    return () => observer.disconnect();
  }, [near]);

  useLayoutEffect(() => {
    if (!near) return;
    const source = wavelet.blip(blip);
    const mine = {};
    let mounted: { editor: BlipEditor; forget: () => void } | null = null;
    const carets = () => {
      const here = wavelet.carets.get().filter((caret) => caret.document === blip);
      const looks = looksOf(wavelet.participants.get());
      mounted?.editor.showCarets(here.map(({ session, address, anchor, focus }) => ({ session, name: nameOf(address), look: looks.get(address) ?? lookOf(address), anchor, focus })));
    };
    const unsent = () => {
      if (marked || source.unsent.get().length > 0) mounted?.editor.showUnsent(source.unsent.get());
      marked = source.unsent.get().length > 0;
    };
    let marked = false;
    let drawing = false;
    let rest: ReturnType<typeof setTimeout> | undefined;
    const caretsSoon = () => {
      if (drawing) return;
      drawing = true;
      queueMicrotask(() => {
        drawing = false;
        carets();
        unsent();
      });
    };
    const mount = () => {
      const made = BlipEditor.mount(
        place.current!.appendChild(document.createElement("div")),
        { content: () => source.document.get().toOp(), edit: (op) => source.submit(op, mine) },
        {
          changed: () => activeChange.set(activeChange.get() + 1),
          focused: () => made && active.set({ editor: made, wavelet, blip }),
          left: () => setTimeout(() => left(made)),
          caret: (caret, typing) => {
            clearTimeout(rest);
            wavelet.setCaret(caret && { document: blip, ...caret, typing });
            if (typing) rest = setTimeout(() => made?.tellCaret(false), 2500);
          },
          link: () => linkBox.set(true),
          replyHere: () => made && replyHere({ editor: made, wavelet, blip }),
          leave: () => latest.current.leave(),
          finish: () => latest.current.leave(),
          toggleThread: (id) => latest.current.toggle(id),
          gone: unmount,
        },
        label,
      );
      editor.current = made;
      if (made) mounted = { editor: made, forget: register(wavelet, blip, made) };
      draw(null);
      caretsSoon();
    };
    const left = (gone: BlipEditor | null) => {
      if (!document.hasFocus() || servesEditor(document.activeElement)) return;
      if (active.get()?.editor === gone) active.set(null);
      dropIfEmpty(wavelet, blip);
    };
    const unmount = () => {
      mounted?.forget();
      mounted?.editor.destroy();
      mounted = null;
      editor.current = null;
      draw(null);
    };
    mount();
    const off = [
      source.changes.on((change) => {
        if (change.kind === "operation" && change.source === mine) return;
        if (!mounted) mount();
        else if (change.kind === "operation") mounted.editor.receive(change.operation);
        else mounted.editor.take();
        caretsSoon();
        draw(null);
      }),
      wavelet.carets.subscribe(caretsSoon),
      source.unsent.subscribe(caretsSoon),
    ];
    return () => {
      for (const end of off) end();
      clearTimeout(rest);
      unmount();
    };
  }, [wavelet, blip, near]);

  if (!near) {
    return (
      <div ref={place} class="blip-text">
        {linesOf(wavelet.blip(blip).document.get()).map((line) => (
          <div class="line">{line}</div>
        ))}
      </div>
    );
  }
  const found = editor.current ? new Set(anchored(editor.current.view.state.doc)) : new Set<string>();
  const open = threads.filter((thread) => thread.id !== null && !closed.has(thread.id));
  const held = open.filter((thread) => found.has(thread.id!));
  const loose = threads.filter((thread) => !found.has(thread.id!));
  for (const thread of held) {
    if (places.current.has(thread.id!)) continue;
    const element = document.createElement("div");
    element.contentEditable = "false";
    places.current.set(thread.id!, element);
  }

  const shape = held.map((thread) => thread.id).join(" ");
  useLayoutEffect(() => {
    const shown = new Map(held.map((thread) => [thread.id!, places.current.get(thread.id!)!]));
    editor.current?.showThreads(marks as ReadonlyMap<string, ThreadMark>, shown);
  }, [marks, shape, editor.current]);
  useEffect(() => editor.current?.relabel(label), [label, editor.current]);
  useEffect(() => editor.current?.setWritable(writable), [writable, editor.current]);

  return (
    <>
      <div ref={place} key="editor" />
      {!editor.current && <p class="muted">There is nothing to show here.</p>}
      {held.map((thread) => createPortal(<ThreadView key={thread.id} wavelet={wavelet} thread={thread} close={() => toggle(thread.id!)} />, places.current.get(thread.id!)!))}
      {loose.map((thread) => (
        <ThreadView key={thread.id} wavelet={wavelet} thread={thread} />
      ))}
    </>
  );
}
