/** Words of mine that could not be merged: kept, with the reason, until I throw them away. */
import { useState } from "preact/hooks";
import type { KeptDraft } from "../wave/client";
import { useApp } from "./context";
import { useReadable } from "./readable";

export function Drafts({ wave }: { wave: string }) {
  const { client } = useApp();
  const drafts = useReadable(client.drafts).filter((draft) => draft.wavelet.startsWith(`${wave}/`));
  return (
    <>
      {drafts.map((draft) => (
        <Draft key={draft.id} draft={draft} dismiss={() => client.dismiss(draft.id)} />
      ))}
    </>
  );
}

function Draft({ draft, dismiss }: { draft: KeptDraft; dismiss: () => void }) {
  const [copied, setCopied] = useState(false);
  const text = draft.texts.map((part) => part.text).join("\n\n");
  return (
    <section class="notice" aria-label="Words that could not be sent">
      <p>
        <strong>Not sent: </strong>
        {draft.text}
      </p>
      <blockquote class="draft-text">{text}</blockquote>
      <div class="dialog-actions">
        <button type="button" class="button small" onClick={() => navigator.clipboard.writeText(text).then(() => setCopied(true))}>
          {copied ? "Copied" : "Copy"}
        </button>
        <button type="button" class="button small" onClick={dismiss}>
          Throw away
        </button>
      </div>
    </section>
  );
}
