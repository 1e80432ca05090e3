/** First contact: people of domains that nobody here knows. Who they are, and nothing of what they wrote. */
import { useEffect, useRef } from "preact/hooks";
import type { RequestRow } from "../wire/messages";
import { announce } from "./announce";
import { useApp } from "./context";
import { nameOf } from "./people";
import { Avatar } from "./person";
import { useReadable } from "./readable";
import { navigate, waveHref } from "./route";
import { fullTime, shortTime } from "./time";

export function Requests() {
  const { client } = useApp();
  const { rows, more, blocked } = useReadable(client.requests);
  const section = useRef<HTMLElement>(null);
  const known = useRef<ReadonlySet<string>>(new Set());
  useEffect(() => {
    const fresh = rows.filter((row) => !known.current.has(row.wave));
    for (const row of fresh) announce(`Request from ${requestName(row)}`);
    known.current = new Set(rows.map((row) => row.wave));
  }, [rows]);
  if (rows.length === 0 && blocked.length === 0) return null;

  /** Who has answered one goes on at the next, or in the list. */
  const goOn = (at: number) =>
    setTimeout(() => {
      const left = section.current?.querySelectorAll<HTMLElement>(".request");
      const next = left?.[Math.min(at, left.length - 1)]?.querySelector<HTMLElement>("button");
      (next ?? document.querySelector<HTMLElement>("#list"))?.focus();
    });
  const accept = (row: RequestRow) => {
    client.accept(row.wave);
    announce(`The wave of ${requestName(row)} is in your inbox`);
    navigate(waveHref(row.wave));
  };
  const decline = (row: RequestRow, at: number) => {
    client.decline(row.wave);
    announce(`Declined. ${requestName(row)} is not told`);
    goOn(at);
  };
  const block = (row: RequestRow, at: number) => {
    client.block(row.domain, true);
    announce(`Nobody of ${row.domain} can invite you now`);
    goOn(at);
  };

  return (
    <section ref={section} class="requests" aria-labelledby="requests-title">
      {rows.length > 0 && (
        <>
          <h2 id="requests-title">
            Requests <span class="muted">{rows.length + more}</span>
          </h2>
          <p class="muted">Nobody here knows their domain yet. What they wrote is shown when you accept; if you decline they are not told.</p>
          <ol class="request-list">
            {rows.map((row, at) => (
              <li key={row.wave} class="request">
                <Avatar address={row.from} />
                <span class="request-who">
                  <span class="name">{nameOf(row.from)}</span> <span class="badge">{row.domain}</span>
                  <span class="request-address">{row.from}</span>
                  {row.host !== null && <span class="request-address">{`The wave is hosted at ${row.host}`}</span>}
                </span>
                <time class="row-time" dateTime={new Date(row.since).toISOString()} title={fullTime(row.since)}>
                  {shortTime(row.since)}
                </time>
                <span class="request-actions">
                  <button type="button" class="button small primary" aria-label={`Accept the request of ${requestName(row)}`} onClick={() => accept(row)}>
                    Accept
                  </button>
                  <button type="button" class="button small" aria-label={`Decline the request of ${requestName(row)}`} onClick={() => decline(row, at)}>
                    Decline
                  </button>
                  <button type="button" class="button small quiet" aria-label={`Block ${row.domain} for me`} onClick={() => block(row, at)}>
                    {`Block ${row.domain}`}
                  </button>
                </span>
              </li>
            ))}
          </ol>
          {more > 0 && <p class="muted">{`And ${more} more`}</p>}
        </>
      )}
      {blocked.length > 0 && (
        <details>
          <summary id={rows.length > 0 ? undefined : "requests-title"}>{blocked.length === 1 ? "1 blocked domain" : `${blocked.length} blocked domains`}</summary>
          <ol class="request-list">
            {blocked.map((domain) => (
              <li key={domain} class="request-blocked">
                <span class="badge">{domain}</span>
                <button type="button" class="button small quiet" aria-label={`Unblock ${domain}`} onClick={() => client.block(domain, false)}>
                  Unblock
                </button>
              </li>
            ))}
          </ol>
        </details>
      )}
    </section>
  );
}

/** `Bob (acme.lab)`: always with the domain, which is what is new. */
export function requestName(row: Pick<RequestRow, "from" | "domain">): string {
  return `${nameOf(row.from)} (${row.domain})`;
}
