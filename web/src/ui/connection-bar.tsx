/** The thin bar while we are not connected: never a modal, and writing goes on. */
import { useEffect, useRef, useState } from "preact/hooks";
import { stateWords } from "../wave/client";
import { announce } from "./announce";
import { useApp } from "./context";
import { useDelayed } from "./delay";
import { useReadable } from "./readable";

export function ConnectionBar({ signIn }: { signIn: () => void }) {
  const { client } = useApp();
  const connection = useReadable(client.connection);
  const saving = useReadable(client.saving);
  const { bar } = stateWords(connection, saving);
  const lasting = useDelayed(bar !== null, connection.kind === "reconnecting" ? 2000 : 0);
  const sent = useSent(connection.kind, saving.changes);
  const shown = lasting ? bar : null;
  const told = useRef(false);
  useEffect(() => {
    if (shown) announce(shown);
    else if (told.current && connection.kind === "online") announce("Connected again");
    told.current = shown !== null || (told.current && connection.kind !== "online");
  }, [connection.kind, shown !== null]);
  if (shown === null && sent === null) return <div class="connection" />;
  return (
    <div class="connection">
      <section class={`connection-bar${shown === null ? " good" : ""}`} aria-label="Connection">
        <span>{shown ?? sent}</span>
        {connection.kind === "signedOut" && (
          <button type="button" class="button small" onClick={signIn}>
            Sign in
          </button>
        )}
        {(connection.kind === "offline" || connection.kind === "reconnecting") && shown && (
          <button type="button" class="button small" onClick={() => client.retry()}>
            Try now
          </button>
        )}
      </section>
    </div>
  );
}

/** "Sent 3 changes", for three seconds after a break. */
function useSent(kind: string, changes: number): string | null {
  const [waiting, setWaiting] = useState(0);
  const [words, setWords] = useState<string | null>(null);
  useEffect(() => {
    if (kind !== "online") {
      if (kind === "reconnecting" || kind === "offline") setWaiting(changes);
      return;
    }
    if (waiting === 0 || changes > 0) return;
    setWaiting(0);
    setWords(`Sent ${waiting} ${waiting === 1 ? "change" : "changes"}`);
  }, [kind, changes, waiting]);
  useEffect(() => {
    if (words === null) return;
    announce(words);
    const timer = setTimeout(() => setWords(null), 3000);
    return () => clearTimeout(timer);
  }, [words]);
  return words;
}
