/** Who is in the wave; adding and removing people. */
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Wavelet } from "../wave/client";
import { useApp } from "./context";
import { Dialog } from "./dialog";
import { Icon } from "./icons";
import { domainOf, fullName, nameOf, parseAddress } from "./people";
import { Avatar, DomainBadge, PersonName } from "./person";
import { useReadable } from "./readable";

/** How long a removal can be undone by a button, ms. */
const UNDO_FOR = 30_000;

export function Participants({ wavelet }: { wavelet: Wavelet }) {
  const people = useReadable(wavelet.participants);
  const writable = useReadable(wavelet.writable);
  const [card, setCard] = useState<string | null>(null);
  const [adding, setAdding] = useState(false);
  const [removed, setRemoved] = useState<string | null>(null);
  const undo = useRef<HTMLButtonElement>(null);
  const { me } = useApp();
  useEffect(() => {
    if (removed === null) return;
    undo.current?.focus();
    const timer = setTimeout(() => setRemoved(null), UNDO_FOR);
    return () => clearTimeout(timer);
  }, [removed]);
  const bringBack = () => {
    if (removed !== null) wavelet.addParticipant(removed);
    setRemoved(null);
  };
  return (
    <section class="people" aria-label="People in this wave">
      <ul>
        {people.map((address) => (
          <li key={address}>
            <button type="button" class="person" title={address} onClick={() => setCard(address)}>
              <Avatar address={address} small />
              <PersonName address={address} />
            </button>
          </li>
        ))}
      </ul>
      {writable && (
        <button type="button" class="button small add-people" onClick={() => setAdding(true)}>
          <Icon name="plus" /> <span>Add people</span>
        </button>
      )}
      {removed && !people.includes(removed) && (
        <span class="undo">
          <span role="status">{`${fullName(removed, me.domains)} was removed.`}</span>
          <button ref={undo} type="button" class="button small" onClick={bringBack}>
            Undo
          </button>
        </span>
      )}
      {card && <PersonCard wavelet={wavelet} address={card} close={() => setCard(null)} removed={() => setRemoved(card)} />}
      {adding && <AddPeople wavelet={wavelet} close={() => setAdding(false)} />}
    </section>
  );
}

type CardProps = { readonly wavelet: Wavelet; readonly address: string; readonly close: () => void; readonly removed: () => void };

function PersonCard({ wavelet, address, close, removed }: CardProps) {
  const { me } = useApp();
  const delivery = useReadable(wavelet.delivery).find(({ domain }) => domain === domainOf(address));
  const mine = address === me.address;
  const writable = useReadable(wavelet.writable);
  const [asked, setAsked] = useState(false);
  const remove = () => {
    // Who has left cannot undo it.
    if (mine && !asked) return setAsked(true);
    wavelet.removeParticipant(address);
    close();
    if (!mine) removed();
  };
  return (
    <Dialog title={mine ? "Me" : nameOf(address)} close={close}>
      <p>
        {address} <DomainBadge address={address} />
      </p>
      {delivery && <p class="muted">{`${delivery.domain}: ${delivery.state === "delivered" ? "has everything" : "does not have everything yet"}`}</p>}
      {asked && <p role="alert">You can come back only when somebody who is in this wave adds you.</p>}
      <div class="dialog-actions">
        {writable && (
          <button type="button" class="button bad" onClick={remove}>
            {mine ? "Leave this wave" : "Remove from this wave"}
          </button>
        )}
        <button type="button" class="button" onClick={close}>
          Close
        </button>
      </div>
    </Dialog>
  );
}

function AddPeople({ wavelet, close }: { wavelet: Wavelet; close: () => void }) {
  const { me } = useApp();
  const id = useId();
  const [typed, setTyped] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [asked, setAsked] = useState<readonly string[] | null>(null);
  const present = useReadable(wavelet.participants);

  const add = (addresses: readonly string[]) => {
    for (const address of addresses) wavelet.addParticipant(address);
    close();
  };
  const submit = (event: Event) => {
    event.preventDefault();
    const words = typed.split(/[\s,;]+/).filter(Boolean);
    const addresses = words.map((word) => parseAddress(word, me.domains[0] ?? domainOf(me.address)));
    const wrong = words.find((_, i) => addresses[i] === null);
    if (words.length === 0 || wrong !== undefined) {
      setError(wrong === undefined ? "Type an address." : `“${wrong}” is not an address. It looks like name@domain.`);
      return;
    }
    const wanted = (addresses as string[]).filter((address) => !present.includes(address));
    if (wanted.length === 0) {
      setError("They are in this wave already.");
      return;
    }
    const known = new Set([...me.domains, ...present.map(domainOf)]);
    if (wanted.some((address) => !known.has(domainOf(address)))) setAsked(wanted);
    else add(wanted);
  };

  if (asked) {
    const known = new Set([...me.domains, ...present.map(domainOf)]);
    const domains = [...new Set(asked.map(domainOf))].filter((domain) => !known.has(domain)).join(" and ");
    return (
      <Dialog title={`Add ${asked.map((address) => fullName(address, me.domains)).join(", ")}?`} close={close}>
        <p>{`This wave will also be stored at ${domains}. What is sent cannot be fully called back.`}</p>
        <div class="dialog-actions">
          <button type="button" class="button" onClick={close}>
            Cancel
          </button>
          <button type="button" class="button primary" onClick={() => add(asked)}>
            Add
          </button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title="Add people" close={close}>
      <form onSubmit={submit}>
        <div class="field">
          <label for={id}>Address</label>
          <input
            id={id} value={typed} autocomplete="off" autocapitalize="none" spellcheck={false} aria-describedby={`${id}-hint ${id}-error`}
            onInput={(event) => {
              setTyped(event.currentTarget.value);
              setError(null);
            }}
          />
          <span class="hint" id={`${id}-hint`}>
            People of any server: bob, or bob@acme.lab. Several with commas.
          </span>
          <span class="error" id={`${id}-error`} role="alert">
            {error}
          </span>
        </div>
        <div class="dialog-actions">
          <button type="button" class="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="button primary">
            Add
          </button>
        </div>
      </form>
    </Dialog>
  );
}
