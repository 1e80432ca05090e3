/** A person in small: picture, name, domain. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { useApp } from "./context";
import { domainOf, initials, lookOf, nameOf } from "./people";

/** The looks of the people of the wave around; others look as their address says. */
export const Looks = createContext<ReadonlyMap<string, number>>(new Map());

export function Avatar({ address, small = false }: { address: string; small?: boolean }) {
  const look = useContext(Looks).get(address) ?? lookOf(address);
  return (
    <span class={`avatar look-${look}${small ? " small" : ""}`} aria-hidden="true">
      {initials(address)}
    </span>
  );
}

/** The domain of somebody from elsewhere; nothing for people of this server. */
export function DomainBadge({ address }: { address: string }) {
  const { me } = useApp();
  const domain = domainOf(address);
  if (me.domains.includes(domain)) return null;
  return <span class={`badge look-${lookOf(domain)}`}>{domain}</span>;
}

/** `Bob · acme.lab` */
export function PersonName({ address }: { address: string }) {
  const { me } = useApp();
  return (
    <>
      <span class="name">{address === me.address ? "Me" : nameOf(address)}</span>
      <DomainBadge address={address} />
    </>
  );
}
