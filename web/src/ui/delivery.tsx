/** Where my changes are: at my server, and at each other domain of the wave. In words. */
import type { PeerDelivery, Saving, Wavelet } from "../wave/client";
import { stateWords, troubleWords } from "../wave/client";
import { useApp } from "./context";
import { useNow } from "./delay";
import { Icon } from "./icons";
import { useReadable } from "./readable";
import { clockTime, untilWords } from "./time";

const ORDER = ["delivered", "sending", "waiting", "stale", "neverReached", "blocked", "refused", "refetching", "quarantined"] as const;

/** The chips of the wave's header; they open the panel. */
export function StateChips({ wavelet, open }: { wavelet: Wavelet; open: () => void }) {
  const { client } = useApp();
  const saving = useReadable(wavelet.saving);
  const connection = useReadable(client.connection);
  const peers = useReadable(wavelet.delivery);
  const now = useNow(2000);
  const { chip } = stateWords(connection, saving);
  const worst = worstOf(peers, now);
  return (
    <div class="state">
      <button type="button" class={`chip ${saving.state === "saved" ? "ok" : saving.state === "unsent" ? "warn" : ""}`} onClick={open} title="Where my changes are">
        <Icon name={saving.state === "saved" ? "check" : saving.state === "unsent" ? "clock" : "up"} />
        {chip}
      </button>
      {worst && (
        <button type="button" class={`chip ${worst.state === "sending" ? "" : worst.state === "waiting" ? "warn" : "bad"}`} onClick={open}>
          <Icon name={worst.state === "waiting" ? "clock" : worst.state === "sending" ? "up" : "alert"} />
          {chipWords(worst)}
        </button>
      )}
    </div>
  );
}

/** The peer whose state the chip shows; sending counts only after three seconds. */
export function worstOf(peers: readonly PeerDelivery[], now: number): PeerDelivery | null {
  const rank = (peer: PeerDelivery) => (peer.state === "sending" && now - peer.since < 3000 ? 0 : ORDER.indexOf(peer.state));
  const worst = [...peers].sort((a, b) => rank(b) - rank(a))[0];
  return worst && rank(worst) > 0 ? worst : null;
}

export function chipWords({ domain, state, host, since }: PeerDelivery): string {
  switch (state) {
    case "delivered": return `Delivered to ${domain}`;
    case "sending": return `Sending to ${domain}…`;
    case "waiting": return host ? `${domain} is away – you see the copy of ${clockTime(since)}` : `Waiting for ${domain}`;
    case "neverReached": return `Not delivered to ${domain}`;
    case "refused": return `${domain} refused`;
    case "blocked": return `Your server does not talk to ${domain}`;
    case "stale": return `${domain} holds changes back`;
    case "refetching": return `Fetched again from ${domain}`;
    case "quarantined": return `${domain} contradicts itself`;
  }
}

/** The sentences above a wave whose copy here is not what it should be. */
export function Trouble({ wavelet }: { wavelet: Wavelet }) {
  const words = useReadable(wavelet.delivery).map((peer) => troubleWords(peer, clockTime)).find((one) => one !== null);
  return words ? (
    <p class="notice" role="alert">
      {words}
    </p>
  ) : null;
}

const changes = (n: number) => (n === 1 ? "1 change" : `${n} changes`);

/** The line below, in plain words. */
export function detailWords(peer: PeerDelivery, now: number): string[] {
  const { domain, state, pending, since, nextTry, reason, host } = peer;
  const lines: string[] = [];
  if (state === "delivered") lines.push(`${domain} has everything (${clockTime(since)}).`);
  if (state === "sending") lines.push(pending > 0 ? `${changes(pending)} on the way.` : "On the way.");
  if (state === "waiting") {
    const kept = pending > 0 ? ` ${changes(pending)} ${pending === 1 ? "is" : "are"} kept and sent when it is back.` : "";
    lines.push(`Not reachable since ${clockTime(since)}.${host ? ` You can write; it is sent when ${domain} is back.` : ""}${kept}`);
    if (nextTry !== null) lines.push(`Next try ${untilWords(nextTry, now)}.`);
  }
  if (state === "stale" && nextTry !== null) lines.push(`Asked again ${untilWords(nextTry, now)}.`);
  if (state === "neverReached") lines.push(`No wave server was found at ${domain}${reason ? `: ${reason.replace(/\.$/, "")}` : ""}.`);
  else if (reason && state !== "delivered" && state !== "sending") lines.push(reason);
  if (host) lines.push(`This wave is hosted at ${domain}: rules and history are kept there.`);
  if (peer.legacy) lines.push(`${domain} runs an older server: emoji and some other characters cannot be sent to it.`);
  return lines;
}

function ownWords({ state, changes: n }: Saving): string {
  if (state === "saved") return "Has everything you wrote.";
  return state === "saving" ? `${changes(n)} on the way.` : `${changes(n)} not sent yet; kept on this device until we are connected.`;
}

/** The side panel. */
export function DeliveryPanel({ wavelet, close }: { wavelet: Wavelet; close: () => void }) {
  const { client, me } = useApp();
  const saving = useReadable(wavelet.saving);
  const connection = useReadable(client.connection);
  const peers = useReadable(wavelet.delivery);
  const now = useNow(1000);
  const { bar } = stateWords(connection, saving);
  return (
    <section class="side" aria-labelledby="delivery-title">
      <div class="side-head">
        <h2 id="delivery-title">Where my changes are</h2>
        <button type="button" class="button quiet icon" aria-label="Close details" onClick={close}>
          <Icon name="close" />
        </button>
      </div>
      <ul class="delivery">
        <li>
          <span class="domain">{`Your server (${me.domains[0] ?? ""})`}</span>
          <span>{ownWords(saving)}</span>
          {bar && <span class="muted">{bar}</span>}
        </li>
        {peers.map((peer) => (
          <li key={peer.domain}>
            <span class="domain">{peer.domain}</span>
            <span>{chipWords(peer)}</span>
            {detailWords(peer, now).map((line) => (
              <span key={line} class="muted">
                {line}
              </span>
            ))}
          </li>
        ))}
        {peers.length === 0 && <li class="muted">Nobody of another server is in this wave.</li>}
      </ul>
    </section>
  );
}
