/** My account: the password, and where I am signed in. */
import { useCallback, useEffect, useId, useState } from "preact/hooks";
import { announce } from "./announce";
import { useApp } from "./context";
import { Icon } from "./icons";
import { Peers } from "./peers";
import { Avatar } from "./person";
import { navigate } from "./route";
import { changePassword, endSession, Refusal, type SessionEntry, sessions } from "./session";
import { fullTime, shortTime } from "./time";

export function Account({ leave }: { leave: () => void }) {
  const { me } = useApp();
  return (
    <>
      <header class="wave-head">
        <div class="wave-top">
          <button type="button" class="button quiet icon back" aria-label="Back to the list" onClick={() => navigate("/")}>
            <Icon name="back" />
          </button>
          <h1 class="wave-title" id="account-title" tabIndex={-1}>
            Account
          </h1>
        </div>
      </header>
      <div class="wave-scroll">
        <div class="account">
          <p class="account-me">
            <Avatar address={me.address} /> <span>{me.address}</span>
          </p>
          <Password />
          <Sessions />
          {me.administrator ? <Peers /> : null}
          <button type="button" class="button" onClick={leave}>
            Sign out here
          </button>
        </div>
      </div>
    </>
  );
}

const wordsOf = (problem: unknown) => (problem instanceof Refusal ? problem.message : "Something went wrong. Try again.");

function Password() {
  const { me } = useApp();
  const id = useId();
  const [error, setError] = useState<string | null>(null);
  const [done, setDone] = useState(false);
  const [busy, setBusy] = useState(false);

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const data = new FormData(form);
    const [old, next, again] = ["old", "new", "again"].map((name) => String(data.get(name) ?? ""));
    setDone(false);
    const missing = !old ? "Type the password that you have now." : !next ? "Type a new password." : next !== again ? "The two new passwords are not the same." : null;
    setError(missing);
    if (missing !== null) {
      form.querySelector<HTMLInputElement>(`[name="${!old ? "old" : !next ? "new" : "again"}"]`)?.focus();
      return;
    }
    setBusy(true);
    try {
      await changePassword(old!, next!);
      form.reset();
      setDone(true);
    } catch (problem) {
      setError(wordsOf(problem));
    }
    setBusy(false);
  };

  const field = (name: string, label: string, autocomplete: "current-password" | "new-password") => (
    <div class="field">
      <label for={`${id}-${name}`}>{label}</label>
      <input id={`${id}-${name}`} name={name} type="password" autocomplete={autocomplete} />
    </div>
  );
  return (
    <form onSubmit={submit} noValidate aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>Password</h2>
      <input type="text" name="username" value={me.address} autocomplete="username" hidden readOnly />
      {field("old", "Present password", "current-password")}
      {field("new", "New password", "new-password")}
      {field("again", "New password, once more", "new-password")}
      <p class="error" role="alert">{error}</p>
      <p role="status">{done ? "The password is changed. All other places are signed out." : ""}</p>
      <button type="submit" class="button primary" disabled={busy}>
        Change the password
      </button>
    </form>
  );
}

function Sessions() {
  const [list, setList] = useState<readonly SessionEntry[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  const load = useCallback(async () => {
    try {
      setList(await sessions());
      setError(null);
    } catch (problem) {
      setError(wordsOf(problem));
    }
  }, []);
  useEffect(() => void load(), [load]);

  const end = async (entry: SessionEntry) => {
    try {
      await endSession(entry.id);
      announce(`${deviceWords(entry.label)} is signed out`);
      document.getElementById("sessions-title")?.focus();
      await load();
    } catch (problem) {
      setError(wordsOf(problem));
    }
  };
  return (
    <section aria-labelledby="sessions-title">
      <h2 id="sessions-title" tabIndex={-1}>
        Where I am signed in
      </h2>
      <p class="error" role="alert">{error}</p>
      <ul class="sessions">
        {(list ?? []).map((entry) => (
          <li key={entry.id}>
            <span>
              <strong title={entry.label}>{deviceWords(entry.label)}</strong>
              <span class="muted" title={fullTime(entry.lastSeen)}>{` · since ${shortTime(entry.created)}, last seen ${shortTime(entry.lastSeen)}`}</span>
            </span>
            {entry.current ? (
              <span class="badge">this one</span>
            ) : (
              <button type="button" class="button small" onClick={() => end(entry)}>
                End<span class="visually-hidden">{` the session of ${deviceWords(entry.label)}, last seen ${shortTime(entry.lastSeen)}`}</span>
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

const PROGRAMS: readonly (readonly [RegExp, string])[] = [
  [/Edg\//, "Edge"], [/OPR\//, "Opera"], [/Firefox\//, "Firefox"], [/Chrome\//, "Chrome"], [/Safari\//, "Safari"],
];
const SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Windows/, "Windows"], [/Mac OS X/, "macOS"], [/Linux/, "Linux"],
];

/** `Firefox on Linux`; a program of another kind as it names itself. */
export function deviceWords(label: string): string {
  const find = (list: typeof PROGRAMS) => list.find(([pattern]) => pattern.test(label))?.[1];
  const program = find(PROGRAMS);
  if (!program) return label.slice(0, 60) || "Something unnamed";
  const system = find(SYSTEMS);
  return system ? `${program} on ${system}` : program;
}
