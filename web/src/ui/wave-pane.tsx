/** One wave: its states while it loads, and when it is open. */
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Conversation, Wave, Wavelet } from "../wave/client";
import { active } from "./active";
import { useApp } from "./context";
import { useDelayed } from "./delay";
import { DeliveryPanel, StateChips, Trouble } from "./delivery";
import { Drafts } from "./drafts";
import { Icon } from "./icons";
import { NextUnread } from "./next-unread";
import { ShownPart } from "./part";
import { Participants } from "./participants";
import { fullName, looksOf } from "./people";
import { Looks } from "./person";
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
  const removedBy = useMaybe(root?.removedBy) ?? null;
  const trouble = useMaybe(wave?.trouble) ?? null;
  if (status === "missing") return <Missing removedBy={removedBy} trouble={trouble} />;
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
  const removedBy = useReadable(wavelet.removedBy);
  const [details, setDetails] = useState(false);
  const people = useReadable(wavelet.participants);
  const looks = useMemo(() => looksOf(people), [people]);
  const below = useTitleInView(title, conversation);
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
    <Looks.Provider value={looks}>
      <header class={`wave-head${below ? " is-titled-below" : ""}`}>
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
        {!member && <p class="notice">{removalWords(removedBy, me.address, me.domains)} You can read what was here, and copy it.</p>}
        <Trouble wavelet={wavelet} />
      </header>
      {writable && <Toolbar />}
      <div class="wave-area">
        <ReplyBubble />
        <div class="wave-scroll" id="messages">
          <div class="wave-body">
            <Drafts wave={id} />
            <ShownPart conversation={conversation}>
              <ThreadView wavelet={wavelet} thread={conversation.root} />
            </ShownPart>
          </div>
        </div>
        {details && <DeliveryPanel wavelet={wavelet} close={() => setDetails(false)} />}
        <NextUnread wavelet={wavelet} />
      </div>
    </Looks.Provider>
  );
}

/** Whether the first line, which is the title, is in view: then the header does not show it once more. */
function useTitleInView(title: string, conversation: Conversation): boolean {
  const [inView, setInView] = useState(false);
  useEffect(() => {
    const area = document.getElementById("messages");
    const look = () => {
      const line = area?.querySelector("article.blip.is-titled .blip-text > .line");
      setInView(area != null && line != null && line.getBoundingClientRect().bottom > area.getBoundingClientRect().top + 8);
    };
    look();
    area?.addEventListener("scroll", look, { passive: true });
    return () => area?.removeEventListener("scroll", look);
  }, [title, conversation]);
  return inView;
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

/** Why I am not in a wave any more. */
export function removalWords(by: string | null, me: string, domains: readonly string[]): string {
  if (by === null) return "You are not in this wave any more.";
  return by === me ? "You left this wave." : `You were removed from this wave by ${fullName(by, domains)}.`;
}

function Missing({ removedBy, trouble }: { removedBy: string | null; trouble: string | null }) {
  const { me } = useApp();
  const [title, advice] =
    trouble !== null
      ? ["This wave cannot be shown", trouble]
      : removedBy !== null
        ? [removalWords(removedBy, me.address, me.domains), "Ask somebody who is in it if you want to come back."]
        : ["You are not in this wave", "Or there is no such wave. Ask somebody who is in it to add you."];
  return (
    <div class="empty">
      <h1 id="wave-title" tabIndex={-1}>
        {title}
      </h1>
      <p>{advice}</p>
      <button type="button" class="button" onClick={() => navigate("/")}>
        Back to the inbox
      </button>
    </div>
  );
}
