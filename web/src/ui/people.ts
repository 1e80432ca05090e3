/** People in words and looks: names from addresses, domains, initials, a colour and pattern each. */

export function localPart(address: string): string {
  return address.slice(0, address.lastIndexOf("@"));
}

export function domainOf(address: string): string {
  return address.slice(address.lastIndexOf("@") + 1);
}

/** `bob.smith@acme.lab` → `Bob Smith`. An empty local part is the domain's own address. */
export function nameOf(address: string): string {
  const words = localPart(address).split(/[._-]+/).filter(Boolean);
  if (words.length === 0) return `everybody at ${domainOf(address)}`;
  return words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join(" ");
}

export function initials(address: string): string {
  const words = nameOf(address).split(" ");
  return ((words[0]?.[0] ?? "?") + (words[1]?.[0] ?? "")).toUpperCase();
}

/** 1 to 8, always the same for one text. */
export function lookOf(text: string): number {
  let hash = 7;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) >>> 0;
  return (((hash ^ (hash >>> 15)) >>> 0) % 8) + 1;
}

/** How many looks there are. */
const LOOKS = 8;

/** A look each for the people of a wave, in their order: as many different ones as there are. */
export function looksOf(people: readonly string[]): ReadonlyMap<string, number> {
  const looks = new Map<string, number>();
  const used = new Array<number>(LOOKS + 1).fill(0);
  for (const address of people) {
    if (looks.has(address)) continue;
    const least = Math.min(...used.slice(1));
    let look = lookOf(address);
    while (used[look]! > least) look = (look % LOOKS) + 1;
    used[look]!++;
    looks.set(address, look);
  }
  return looks;
}

/** A name as others see it: with the domain when it is not of this server. */
export function fullName(address: string, domains: readonly string[]): string {
  return domains.includes(domainOf(address)) ? nameOf(address) : `${nameOf(address)} (${domainOf(address)})`;
}

/**
 * An address as typed: a bare name is of my own domain. Null when it cannot be one. A domain in other letters becomes its
 * A-label (UTS #46, as browsers do it), which is also how it is shown: no letter of one script looks like one of another.
 */
export function parseAddress(typed: string, ownDomain: string): string | null {
  const [name, domain, ...more] = (typed.includes("@") ? typed : `${typed}@${ownDomain}`).trim().toLowerCase().split("@");
  if (!name || !domain || more.length > 0 || /[\s,\p{Cc}\p{Cf}]/u.test(name)) return null;
  const canonical = asciiDomain(domain);
  return canonical === null ? null : `${name}@${canonical}`;
}

/** The one form of a domain, or null: letters, digits and hyphens, no address of a machine. */
function asciiDomain(domain: string): string | null {
  // What a URL would take for something else than a host, or quietly drop.
  if (/[\s/\\?#:[\]%@\p{Cc}\p{Cf}]/u.test(domain)) return null;
  try {
    const host = new URL(`http://${domain}/`).hostname;
    const labels = host.split(".");
    const good = labels.every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label));
    return good && !/^\d+$/.test(labels[labels.length - 1]!) && host.length <= 253 ? host : null;
  } catch {
    return null;
  }
}
