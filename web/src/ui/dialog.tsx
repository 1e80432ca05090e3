/** A modal dialog on the browser's own element: focus stays inside, Esc closes, focus returns. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

type Props = { readonly title: string; readonly close: () => void; readonly children: ComponentChildren; readonly wide?: boolean };

export function Dialog({ title, close, children, wide = false }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    // To what is to be filled in; else to the title, so that the dialog begins at its beginning.
    const first = dialog.current?.querySelector<HTMLElement>("input, select, textarea") ?? dialog.current?.querySelector("h2");
    first?.focus();
    dialog.current?.scrollTo(0, 0);
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "wide" : undefined}
      aria-labelledby={id}
      onClose={close}
      onCancel={close}
      onMouseDown={(event) => event.target === dialog.current && close()}
    >
      <h2 id={id} tabIndex={-1}>
        {title}
      </h2>
      {children}
    </dialog>
  );
}
