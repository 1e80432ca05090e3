/** One wave: its states while it loads, and when it is open. */
import { useEffect, useState } from "preact/hooks";
import type { Wave, Wavelet } from "../wave/client";
import { active } from "./active";
import { useApp } from "./context";
import { useDelayed } from "./delay";
import { DeliveryPanel, StateChips, Trouble } from "./delivery";
import { Drafts } from "./drafts";
import { Icon } from "./icons";
import { NextUnread } from "./next-unread";
import { Participants } from "./participants";
import { useMaybe, useReadable } from "./readable";
import { navigate } from "./route";
import { ThreadView } from "./thread";
import { ReplyBubble } from "./reply-bubble";
import { Toolbar } from "./toolbar";
import { useNews } from "./news";

export function WavePane({ id }: { id: string }) {
  const { client } = useApp();
  const [wave, setWave] = useState<Wave | null>(null);
  useEffect(() => {
    const opened = client.open(id);
    setWave(opened);
    return () => {
      active.set(null);
      opened.close();
    };
  }, [client, id]);
  const status = useMaybe(wave?.status) ?? "loading";
  const root = useMaybe(wave?.root) ?? null;
  if (status === "missing") return <Missing />;
  if (!wave || wave.id !== id || !root) return <Loading id={id} />;
  return <OpenWave key={root.name} id={id} wavelet={root} />;
}

function Back() {
  return (
    <button type="button" class="button quiet icon back" aria-label="Back to the list" onClick={() => navigate("/")}>
      <Icon name="back" />
    </button>
  );
}

function OpenWave({ id, wavelet }: { id: string; wavelet: Wavelet }) {
  const { me } = useApp();
  const title = useReadable(wavelet.title) || "New wave";
  const conversation = useReadable(wavelet.conversation);
  const member = useReadable(wavelet.member);
  const writable = useReadable(wavelet.writable);
  const [details, setDetails] = useState(false);
  useNews(wavelet);
  useEffect(() => {
    // On a phone the list is gone; else the focus stays where it is.
    const focus = document.activeElement;
    if (!focus || focus === document.body || (focus instanceof HTMLElement && focus.offsetParent === null)) {
      document.getElementById("wave-title")?.focus({ preventScroll: true });
    }
    document.querySelector("#messages article.blip[data-unread]")?.scrollIntoView({ block: "nearest" });
  }, [wavelet]);
  return (
    <>
      <header class="wave-head">
        {writable && (
          <a class="skip" href="#composer">
            To the composer
          </a>
        )}
        <div class="wave-top">
          <Back />
          <h1 class="wave-title" id="wave-title" tabIndex={-1}>
            {title}
          </h1>
          {!me.domains.includes(wavelet.host) && <span class="badge">{`hosted at ${wavelet.host}`}</span>}
          <StateChips wavelet={wavelet} open={() => setDetails((shown) => !shown)} />
        </div>
        <Participants wavelet={wavelet} />
        {!member && <p class="notice">You are not in this wave any more. You can read what was here, and copy it.</p>}
        <Trouble wavelet={wavelet} />
      </header>
      {writable && <Toolbar />}
      <div class="wave-area">
        <ReplyBubble />
        <div class="wave-scroll" id="messages">
          <div class="wave-body">
            <Drafts wave={id} />
            <ThreadView wavelet={wavelet} thread={conversation.root} />
          </div>
        </div>
        {details && <DeliveryPanel wavelet={wavelet} close={() => setDetails(false)} />}
        <NextUnread wavelet={wavelet} />
      </div>
    </>
  );
}

/** Title and people are known from the list at once; the rest comes. */
function Loading({ id }: { id: string }) {
  const { client } = useApp();
  const row = useReadable(client.inbox)?.find(({ wave }) => wave === id);
  const slow = useDelayed(true, 300);
  return (
    <>
      <header class="wave-head">
        <div class="wave-top">
          <Back />
          <h1 class="wave-title" id="wave-title" tabIndex={-1}>
            {row?.title ?? "Opening…"}
          </h1>
        </div>
      </header>
      {slow && (
        <div class="wave-scroll" aria-busy="true" role="img" aria-label="Loading the wave">
          <div class="wave-body">
            {[80, 95, 60, 90].map((width, n) => (
              <span key={n} class={`skeleton w-${width}`} />
            ))}
          </div>
        </div>
      )}
    </>
  );
}

function Missing() {
  return (
    <div class="empty">
      <h1 id="wave-title" tabIndex={-1}>You are not in this wave</h1>
      <p>Or there is no such wave. Ask somebody who is in it to add you.</p>
      <button type="button" class="button" onClick={() => navigate("/")}>
        Back to the inbox
      </button>
    </div>
  );
}
