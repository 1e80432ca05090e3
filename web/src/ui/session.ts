/** Accounts over HTTP: who am I, sign in, register, sign out. */

export type Registration = "open" | "invitation" | "closed";

export type Me = {
  /** Null when not signed in. */
  readonly address: string | null;
  readonly domains: readonly string[];
  readonly registration: Registration;
  /** Whether I may see and change how the server runs. */
  readonly administrator: boolean;
};

/** What the server said, for the person. */
export class Refusal extends Error {}

async function ask(path: string, body?: unknown, method = body === undefined ? "GET" : "POST"): Promise<{ status: number; body: Record<string, unknown> }> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: { "X-Billow": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      credentials: "same-origin",
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new Refusal("The server cannot be reached. Try again in a moment.");
  }
  const text = await response.text();
  let parsed: Record<string, unknown> = {};
  try {
    parsed = text === "" ? {} : (JSON.parse(text) as Record<string, unknown>);
  } catch {
    throw new Refusal(`The server answered with ${response.status} and something that is not for this page.`);
  }
  return { status: response.status, body: parsed };
}

export async function whoAmI(): Promise<Me> {
  const { status, body } = await ask("/api/me");
  if (status !== 200 && status !== 401) throw new Refusal(String(body["error"] ?? `The server answered with ${status}.`));
  return {
    address: status === 200 ? String(body["address"]) : null,
    domains: Array.isArray(body["domains"]) ? body["domains"].map(String) : [],
    registration: (["open", "invitation", "closed"] as const).find((word) => word === body["registration"]) ?? "closed",
    administrator: body["administrator"] === true,
  };
}

async function enter(path: string, body: unknown): Promise<string> {
  return String((await demand(path, body))["address"]);
}

export const signIn = (address: string, password: string) => enter("/api/signin", { address, password });

export const register = (address: string, password: string, invitation: string) =>
  enter("/api/register", { address, password, ...(invitation === "" ? {} : { invitation }) });

export async function signOut(): Promise<void> {
  await ask("/api/signout", {});
}

/** Somewhere I am signed in. */
export type SessionEntry = {
  readonly id: number;
  /** How the program names itself. */
  readonly label: string;
  /** ms since 1970. */
  readonly created: number;
  readonly lastSeen: number;
  readonly current: boolean;
};

async function demand(path: string, body?: unknown, method?: string): Promise<Record<string, unknown>> {
  const answer = await ask(path, body, method);
  if (answer.status >= 300) throw new Refusal(sentence(String(answer.body["error"] ?? `The server answered with ${answer.status}.`)));
  return answer.body;
}

/** Where I am signed in, the present place first, then the one last seen. */
export async function sessions(): Promise<SessionEntry[]> {
  const { sessions: list } = await demand("/api/sessions");
  const entries = (Array.isArray(list) ? list : []) as SessionEntry[];
  return [...entries].sort((a, b) => Number(b.current) - Number(a.current) || b.lastSeen - a.lastSeen);
}

export async function endSession(id: number): Promise<void> {
  await demand(`/api/sessions/${id}`, undefined, "DELETE");
}

/** Another server, as ours sees it. */
export type PeerEntry = {
  readonly domain: string;
  readonly state: "well" | "waiting" | "neverReached" | "untried";
  readonly verdict: "allow" | "block" | "ask";
  /** Operations that it lacks, and in how many waves. */
  readonly queue: number;
  readonly waitingWaves: number;
  /** ms since 1970. */
  readonly lastGood: number | null;
  readonly lastError: { readonly at: number; readonly reason: string; readonly nextTry: number } | null;
};

/** The other servers; for administrators. */
export async function peers(): Promise<readonly PeerEntry[]> {
  const { peers: list } = await demand("/api/admin/peers");
  return (Array.isArray(list) ? list : []) as PeerEntry[];
}

export async function tryPeerNow(domain: string): Promise<void> {
  await demand(`/api/admin/peers/${encodeURIComponent(domain)}/now`, {});
}

/** Talk with a server, or do not. */
export async function decidePeer(domain: string, verdict: "allow" | "block"): Promise<void> {
  await demand(`/api/admin/policy/${encodeURIComponent(domain)}`, { verdict });
}

/** All other sessions end. */
export async function changePassword(old: string, next: string): Promise<void> {
  await demand("/api/password", { old, new: next });
}

function sentence(text: string): string {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}
