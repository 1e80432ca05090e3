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

/** Why, in a sentence for people; the server's own words where they are such. */
export function reasonWords({ reason, text }: Pick<KeptDraft, "reason" | "text">): string {
  switch (reason) {
    case "tooLarge": return "It is larger than what a message may take at once. Put it in again in smaller pieces.";
    case "doesNotApply":
    case "unknownVersion": return "Too much had changed around it in the meantime.";
    case "schema":
    case "badRequest": return "Your server does not take something in it. Put it in again as plain text.";
    case "notParticipant":
    case "removed": return "You are not in this wave any more.";
    default: return text;
  }
}

function Draft({ draft, dismiss }: { draft: KeptDraft; dismiss: () => void }) {
  const [copied, setCopied] = useState(false);
  const text = draft.texts.map((part) => part.text).join("\n\n");
  return (
    <section class="notice" aria-label="Words that could not be sent">
      <p>
        <strong>Not sent: </strong>
        {reasonWords(draft)}
      </p>
      <blockquote class="draft-text" tabIndex={0} aria-label="What you had written">
        {text}
      </blockquote>
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
