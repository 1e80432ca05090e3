/** Signing in and registering: one card. */
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";
import { parseAddress } from "./people";
import { type Me, Refusal, register, signIn } from "./session";

export function SignIn({ me, entered }: { me: Me; entered: () => void }) {
  const [mode, setMode] = useState<"signin" | "register">("signin");
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const id = useId();
  const domain = me.domains[0] ?? location.hostname;
  const registering = mode === "register";
  const form = useRef<HTMLFormElement>(null);
  const focus = (name: string) => form.current?.querySelector<HTMLInputElement>(`[name="${name}"]`)?.focus();

  useEffect(() => {
    document.title = "Billow";
    // Who was signed out only has to type the password.
    focus(me.address ? "password" : "username");
  }, []);

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const missing = missingWords((name) => String(data.get(name) ?? "").trim(), registering && me.registration === "invitation");
    if (missing) {
      setError(missing.words);
      focus(missing.name);
      return;
    }
    const address = parseAddress(String(data.get("username")), domain);
    if (!address) {
      setError(`An address looks like name@${domain}.`);
      focus("username");
      return;
    }
    setBusy(true);
    setError(null);
    try {
      const password = String(data.get("password"));
      await (registering ? register(address, password, String(data.get("invitation") ?? "").trim()) : signIn(address, password));
      entered();
    } catch (problem) {
      setError(problem instanceof Refusal ? problem.message : "Something went wrong. Try again.");
      setBusy(false);
    }
  };

  return (
    <main class="sign-in">
      <div class="card">
        <div class="brand">
          <Icon name="wave" />
          <h1>{registering ? "Register at Billow" : "Sign in to Billow"}</h1>
        </div>
        <form ref={form} onSubmit={submit} noValidate aria-describedby={error ? `${id}-error` : undefined}>
          <div class="field">
            <label for={`${id}-address`}>Address</label>
            <input
              id={`${id}-address`} name="username" required autocomplete="username" autocapitalize="none" spellcheck={false}
              aria-describedby={`${id}-hint`} defaultValue={me.address ?? ""}
            />
            <span class="hint" id={`${id}-hint`}>
              {`For example alice, or alice@${domain}`}
            </span>
          </div>
          <div class="field">
            <label for={`${id}-password`}>Password</label>
            <input
              id={`${id}-password`} name="password" type="password" required
              autocomplete={registering ? "new-password" : "current-password"}
            />
          </div>
          {registering && me.registration === "invitation" && (
            <div class="field">
              <label for={`${id}-invitation`}>Invitation</label>
              <input id={`${id}-invitation`} name="invitation" required autocomplete="off" spellcheck={false} />
            </div>
          )}
          <p class="error" id={`${id}-error`} role="alert">
            {error}
          </p>
          <button type="submit" class="button primary" disabled={busy}>
            {busy ? "One moment…" : registering ? "Register" : "Sign in"}
          </button>
        </form>
        {me.registration === "closed" ? (
          <p class="muted">{`New accounts at ${domain} are made by its administrators.`}</p>
        ) : (
          <button
            type="button" class="button quiet"
            onClick={() => {
              setMode(registering ? "signin" : "register");
              setError(null);
              focus("username");
            }}
          >
            {registering ? "I have an account: sign in" : "New here: register"}
          </button>
        )}
      </div>
    </main>
  );
}

/** What was left empty first, in words. */
export function missingWords(value: (name: string) => string, invited: boolean): { name: string; words: string } | null {
  const [address, password] = [value("username"), value("password")];
  if (address === "" && password === "") return { name: "username", words: "Type your address and your password." };
  if (address === "") return { name: "username", words: "Type your address." };
  if (password === "") return { name: "password", words: "Type your password." };
  if (invited && value("invitation") === "") return { name: "invitation", words: "Type the invitation that you were given." };
  return null;
}
