/** The other servers, for administrators: how each is, what waits for it, what went wrong, and trying it now. */
import { useCallback, useEffect, useState } from "preact/hooks";
import { announce } from "./announce";
import { decidePeer, type PeerEntry, peers, Refusal, tryPeerNow } from "./session";
import { fullTime, shortTime } from "./time";

/** How often the table is read again. */
const EVERY_MS = 5000;

const STATES = { well: "well", waiting: "waiting", neverReached: "never reached", untried: "untried" } as const;

export function Peers() {
  const [list, setList] = useState<readonly PeerEntry[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  const load = useCallback(async () => {
    try {
      setList(await peers());
      setError(null);
    } catch (problem) {
      setError(problem instanceof Refusal ? problem.message : "Something went wrong. Try again.");
    }
  }, []);
  useEffect(() => {
    void load();
    const timer = setInterval(() => void load(), EVERY_MS);
    return () => clearInterval(timer);
  }, [load]);

  const act = async (done: string, action: () => Promise<void>) => {
    try {
      await action();
      announce(done);
      await load();
    } catch (problem) {
      setError(problem instanceof Refusal ? problem.message : "Something went wrong. Try again.");
    }
  };
  const tryNow = (domain: string) => act(`${domain} is being tried`, () => tryPeerNow(domain));
  const decide = (domain: string, verdict: "allow" | "block") =>
    act(`${domain} is ${verdict === "block" ? "blocked" : "allowed"}`, () => decidePeer(domain, verdict));
  return (
    <section aria-labelledby="peers-title">
      <h2 id="peers-title" tabIndex={-1}>
        Other servers
      </h2>
      <p class="error" role="alert">{error}</p>
      {list?.length === 0 ? <p class="muted">No other server has been met yet.</p> : null}
      <ul class="sessions">
        {(list ?? []).map((peer) => (
          <li key={peer.domain}>
            <span>
              <strong>{peer.domain}</strong>
              <span class="badge">{stateWords(peer)}</span>
              <span class="muted">{queueWords(peer)}</span>
              {peer.lastGood === null ? null : <span class="muted" title={fullTime(peer.lastGood)}>{` · last reached ${shortTime(peer.lastGood)}`}</span>}
              {peer.state === "well" || peer.lastError === null ? null : (
                <span class="peer-error" title={fullTime(peer.lastError.at)}>{peer.lastError.reason}</span>
              )}
            </span>
            <span class="peer-actions">
              <button type="button" class="button small" onClick={() => tryNow(peer.domain)}>
                Try now<span class="visually-hidden">{`: ${peer.domain}`}</span>
              </button>
              {peer.verdict === "block" ? null : (
                <button type="button" class="button small" onClick={() => decide(peer.domain, "block")}>
                  Block<span class="visually-hidden">{` ${peer.domain}`}</span>
                </button>
              )}
              {peer.verdict === "allow" ? null : (
                <button type="button" class="button small" onClick={() => decide(peer.domain, "allow")}>
                  Allow<span class="visually-hidden">{` ${peer.domain}`}</span>
                </button>
              )}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** What was decided comes before how it is. */
export function stateWords(peer: Pick<PeerEntry, "state" | "verdict">): string {
  if (peer.verdict === "block") return "blocked";
  return peer.verdict === "ask" ? "waits for your decision" : STATES[peer.state];
}

/** ` · 3 changes of 2 waves wait` */
export function queueWords(peer: Pick<PeerEntry, "queue" | "waitingWaves">): string {
  if (peer.queue === 0) return " · nothing waits";
  const count = (number: number, one: string) => `${number} ${one}${number === 1 ? "" : "s"}`;
  return ` · ${count(peer.queue, "change")} of ${count(peer.waitingWaves, "wave")} ${peer.queue === 1 ? "waits" : "wait"}`;
}
