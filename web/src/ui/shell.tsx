/** The frame around list and wave. */
import { useCallback, useEffect, useState } from "preact/hooks";
import { Account } from "./account";
import { LiveRegion } from "./announce";
import { write } from "./active";
import { ConnectionBar } from "./connection-bar";
import { useApp } from "./context";
import { ErrorCard } from "./error-card";
import { Help } from "./help";
import { Icon } from "./icons";
import { Inbox } from "./inbox";
import { useKeyboard } from "./keyboard";
import { Avatar } from "./person";
import { Requests } from "./requests";
import { useReadable } from "./readable";
import { navigate, route, waveHref } from "./route";
import { WavePane } from "./wave-pane";

export function Shell({ leave, signIn }: { leave: () => void; signIn: () => void }) {
  const { client, me } = useApp();
  const here = useReadable(route);
  const inbox = useReadable(client.inbox);
  const [help, setHelp] = useState(false);
  const wave = here.kind === "wave" ? here.wave : null;
  const account = here.kind === "account";
  const unread = (inbox ?? []).reduce((sum, row) => sum + row.unread, 0);

  const create = useCallback(() => {
    const made = client.create({});
    navigate(waveHref(made.id));
    const root = made.root.get();
    const first = root?.conversation.get().root.blips[0];
    if (root && first) write(root, first.id);
    // The pane opens it for itself; two opens, two closes.
    setTimeout(() => made.close(), 1000);
  }, [client]);
  useKeyboard({ create, help: () => setHelp(true) });

  const title = inbox?.find((row) => row.wave === wave)?.title;
  useEffect(() => {
    const parts = [wave ? title || "Wave" : account ? "Account" : "", "Inbox", "Billow"].filter(Boolean);
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${parts.join(" – ")}`;
  }, [unread, wave, account, title]);

  return (
    <div class={`shell ${wave || account ? "shows-wave" : "shows-list"}`}>
      <nav class="skip-links" aria-label="Skip">
        <a href="#list">To the list</a>
        {wave && <a href="#wave-title">To the wave</a>}
      </nav>
      <ConnectionBar signIn={signIn} />
      <nav class="rail" aria-label="Billow">
        <a class="rail-item" href="/" aria-current={wave || account ? undefined : "page"}>
          <Icon name="inbox" />
          Inbox
        </a>
        <button type="button" class="rail-item" onClick={create} title="New wave (c)">
          <Icon name="plus" />
          New wave
        </button>
        <span class="rail-space" />
        <button type="button" class="rail-item" onClick={() => setHelp(true)} title="Keys (?)">
          <Icon name="help" />
          Help
        </button>
        <a class="rail-item" href="/account" aria-current={account ? "page" : undefined} title={`Account of ${me.address}`}>
          <Avatar address={me.address} small />
          Account
        </a>
        <button type="button" class="rail-item" onClick={leave} title={`Sign out ${me.address}`}>
          <Icon name="out" />
          Sign out
        </button>
      </nav>
      <main class="panes" aria-label={wave ? "Inbox and wave" : account ? "Inbox and account" : "Inbox"}>
      <section class="list" id="list" aria-labelledby="list-title" tabIndex={-1}>
        <div class="list-head">
          {wave || account ? <h2 id="list-title">Inbox</h2> : <h1 class="list-title" id="list-title">Inbox</h1>}
          <span class="muted">{unread > 0 ? `${unread} unread` : ""}</span>
        </div>
        <div class="list-body">
          <ErrorCard what="the inbox">
            <Requests />
            <Inbox create={create} />
          </ErrorCard>
        </div>
      </section>
      <section class="main" aria-label={wave ? "Wave" : account ? "Account" : "No wave is open"}>
        {wave ? (
          <ErrorCard key={wave} what="this wave">
            <WavePane key={wave} id={wave} />
          </ErrorCard>
        ) : account ? (
          <ErrorCard key="account" what="your account">
            <Account leave={leave} />
          </ErrorCard>
        ) : (
          <div class="empty">
            <p>Choose a wave from the list, or begin one.</p>
            <button type="button" class="button primary" onClick={create}>
              New wave
            </button>
          </div>
        )}
      </section>
      </main>
      {help && <Help close={() => setHelp(false)} />}
      <LiveRegion />
    </div>
  );
}
