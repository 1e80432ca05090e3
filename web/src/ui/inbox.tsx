/** The list of waves: real links, live order, arrow keys. */
import { useMemo, useRef, useState } from "preact/hooks";
import type { DeliveryState, InboxRow } from "../wave/client";
import { useApp } from "./context";
import { Icon } from "./icons";
import { fullName, looksOf } from "./people";
import { Avatar, Looks } from "./person";
import { useReadable } from "./readable";
import { route, waveHref } from "./route";
import { fullTime, shortTime } from "./time";
import { useDelayed } from "./delay";

export function Inbox({ create }: { create: () => void }) {
  const { client } = useApp();
  const rows = useReadable(client.inbox);
  const here = useReadable(route);
  const list = useRef<HTMLUListElement>(null);
  const [current, setCurrent] = useState<string | null>(null);
  const slow = useDelayed(rows === null, 300);

  const move = (event: KeyboardEvent) => {
    const by = event.key === "ArrowDown" || event.key === "j" ? 1 : event.key === "ArrowUp" || event.key === "k" ? -1 : 0;
    if (by === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    moveRow(list.current, by);
  };

  if (rows === null) return slow ? <Skeleton /> : null;
  if (rows.length === 0) {
    return (
      <div class="empty">
        <h2>All caught up</h2>
        <p>Waves that you are in appear here.</p>
        <button type="button" class="button primary" onClick={create}>
          New wave
        </button>
      </div>
    );
  }
  const open = here.kind === "wave" ? here.wave : null;
  const stop = rows.some((row) => row.wave === current) ? current : rows.some((row) => row.wave === open) ? open : rows[0]!.wave;
  return (
    <ul ref={list} onKeyDown={move} aria-label="Waves, newest first">
      {rows.map((row) => (
        <Row key={row.wave} row={row} open={row.wave === open} stop={row.wave === stop} focused={() => setCurrent(row.wave)} />
      ))}
    </ul>
  );
}

/** Moves the focus in a list of rows; into the list when it is elsewhere. */
export function moveRow(list: Element | null, by: number): void {
  const links = [...(list?.querySelectorAll<HTMLElement>("a") ?? [])];
  const at = links.findIndex((link) => link === document.activeElement);
  const next = at < 0 ? links.find((link) => link.tabIndex === 0) : links[Math.min(Math.max(at + by, 0), links.length - 1)];
  next?.focus();
}

/** States of a domain that the wave's header shows in red: the list says the same. */
const FAILED: readonly DeliveryState[] = ["neverReached", "refused", "blocked"];

type RowProps = { row: InboxRow; open: boolean; stop: boolean; focused: () => void };

function Row({ row, open, stop, focused }: RowProps) {
  const { client, me } = useApp();
  const states = useReadable(client.domainStates);
  const notDelivered = row.waitingFor.filter((domain) => FAILED.includes(states.get(domain) ?? "waiting"));
  const waiting = row.waitingFor.filter((domain) => !notDelivered.includes(domain));
  const others = row.people.filter((address) => address !== me.address);
  const shown = (others.length > 0 ? others : row.people).slice(0, 2);
  const looks = useMemo(() => looksOf(row.people), [row.people]);
  const title = row.title || "Untitled wave";
  const names = others.map((address) => fullName(address, me.domains)).join(", ");
  return (
    <li class={`row${row.unread > 0 ? " is-unread" : ""}`}>
      <a href={waveHref(row.wave)} aria-current={open ? "page" : undefined} tabIndex={stop ? 0 : -1} onFocus={focused}>
        <span class="row-people" aria-hidden="true">
          <Looks.Provider value={looks}>
            {shown.map((address) => (
              <Avatar key={address} address={address} />
            ))}
          </Looks.Provider>
        </span>
        <span class="row-title">
          {row.unread > 0 && <span class="visually-hidden">Unread: </span>}
          {title}
        </span>
        <time class="row-time" dateTime={new Date(row.lastModified).toISOString()} title={fullTime(row.lastModified)}>
          {shortTime(row.lastModified)}
        </time>
        <span class="row-snippet">
          <span class="visually-hidden">{names ? `with ${names}. ` : ""}</span>
          {row.snippet && row.snippet !== row.title ? row.snippet : names || "Only you"}
        </span>
        {row.unread > 0 ? (
          <span class="count">
            {row.unread}
            <span class="visually-hidden"> unread</span>
          </span>
        ) : (
          <span />
        )}
        {/* Of the open wave the header says it. */}
        {!open && notDelivered.length > 0 && (
          <span class="row-marks bad">
            <Icon name="alert" />
            {`Not delivered to ${notDelivered.join(", ")}`}
          </span>
        )}
        {!open && waiting.length > 0 && (
          <span class="row-marks">
            <Icon name="clock" />
            {`Waiting for ${waiting.join(", ")}`}
          </span>
        )}
      </a>
    </li>
  );
}

function Skeleton() {
  return (
    <div aria-busy="true" aria-label="Loading the inbox" role="img" class="list-skeleton">
      {[1, 2, 3, 4, 5].map((n) => (
        <div key={n} class="skeleton-row">
          <span class="skeleton" />
          <span class="skeleton half" />
        </div>
      ))}
    </div>
  );
}
