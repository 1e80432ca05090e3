/** Who am I? Then the frame, or the sign-in card. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { Client } from "../wave/client";
import { AppContext } from "./context";
import { type Me, Refusal, signOut, whoAmI } from "./session";
import { Shell } from "./shell";
import { SignIn } from "./sign-in";
import { tellTabs, watchTabs } from "./tabs";
import { useDelayed } from "./delay";

export function App({ makeClient }: { makeClient: (who: { address: string }) => Client }) {
  const [me, setMe] = useState<Me | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [client, setClient] = useState<Client | null>(null);
  const [again, setAgain] = useState(false);
  const slow = useDelayed(me === null && problem === null, 300);

  const look = useCallback(async (quietly = false) => {
    if (!quietly) setProblem(null);
    try {
      const found = await whoAmI();
      setProblem(null);
      setMe(found);
      return found.address;
    } catch (error) {
      if (!quietly) setProblem(error instanceof Refusal ? error.message : "Something went wrong.");
      return null;
    }
  }, []);
  useEffect(() => void look(), [look]);

  const address = me?.address ?? null;
  useEffect(() => {
    if (address === null) return;
    const made = makeClient({ address });
    made.start();
    setClient(made);
    const keep = () => void made.flush();
    document.addEventListener("visibilitychange", keep);
    return () => {
      document.removeEventListener("visibilitychange", keep);
      setClient(null);
      void made.stop();
    };
  }, [address, makeClient]);

  // What is unsent is stored by `stop`, and sent when the same person signs in again.
  const now = useRef({ client, address });
  now.current = { client, address };
  useEffect(
    () =>
      watchTabs(async (news) => {
        const { address: mine, client: running } = now.current;
        if (news.kind === "out") {
          // At once, whether the server can be asked or not.
          if (news.address === mine) setMe((old) => old && { ...old, address: null });
          return;
        }
        const found = await look(true);
        if (found === null) return;
        setAgain(false);
        if (found === mine) running?.start();
      }),
    [look],
  );

  const leave = async () => {
    await client?.flush();
    await signOut();
    if (address !== null) tellTabs({ kind: "out", address });
    await look();
  };

  if (problem !== null) {
    return (
      <main class="empty">
        <h1>Billow</h1>
        <p>{problem}</p>
        <button type="button" class="button" onClick={() => void look()}>
          Try again
        </button>
      </main>
    );
  }
  if (me === null) return slow ? <main class="empty"><h1>Billow</h1><p>Loading…</p></main> : null;
  if (me.address === null || again) {
    const entered = async () => {
      const found = await look();
      setAgain(false);
      if (found === null) return;
      // Somebody else has a client of their own.
      if (found === address) client?.start();
      tellTabs({ kind: "in", address: found });
    };
    return <SignIn me={me} entered={entered} />;
  }
  if (client === null) return null;
  return (
    <AppContext.Provider value={{ client, me: { ...me, address: me.address } }}>
      <Shell leave={leave} signIn={() => setAgain(true)} />
    </AppContext.Provider>
  );
}
