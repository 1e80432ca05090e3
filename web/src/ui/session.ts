/** Accounts over HTTP: who am I, sign in, register, sign out. */

export type Registration = "open" | "invitation" | "closed";

export type Me = {
  /** Null when not signed in. */
  readonly address: string | null;
  readonly domains: readonly string[];
  readonly registration: Registration;
};

/** What the server said, for the person. */
export class Refusal extends Error {}

async function ask(path: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
  let response: Response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
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
  };
}

async function enter(path: string, body: unknown): Promise<string> {
  const answer = await ask(path, body);
  if (answer.status >= 300) throw new Refusal(sentence(String(answer.body["error"] ?? `The server answered with ${answer.status}.`)));
  return String(answer.body["address"]);
}

export const signIn = (address: string, password: string) => enter("/api/signin", { address, password });

export const register = (address: string, password: string, invitation: string) =>
  enter("/api/register", { address, password, ...(invitation === "" ? {} : { invitation }) });

export async function signOut(): Promise<void> {
  await ask("/api/signout", {});
}

function sentence(text: string): string {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}
