/** Transformation of wavelet operations, and of lists of them. */

import type { Operation } from "../wire/messages";
import { fail } from "./op";
import { transform } from "./transform";

/** Operations by one author. */
export interface Authored {
  readonly author: string;
  readonly operations: readonly Operation[];
}

/** One pair of operations, each past the other. Throws when they cannot both be. */
export function transformOperation(
  client: Operation,
  clientAuthor: string,
  server: Operation,
): { client: Operation; server: Operation } {
  if ("removeParticipant" in server && server.removeParticipant === clientAuthor) {
    fail("removedAuthor", `${clientAuthor} is no longer a participant`);
  }
  if ("mutateDocument" in client && "mutateDocument" in server) {
    const { documentId, operation } = client.mutateDocument;
    if (documentId !== server.mutateDocument.documentId) return { client, server };
    const result = transform(operation, server.mutateDocument.operation);
    return {
      client: { mutateDocument: { documentId, operation: result.client } },
      server: { mutateDocument: { documentId, operation: result.server } },
    };
  }
  const mine = participantOf(client);
  const theirs = participantOf(server);
  if (mine !== null && mine.address === theirs?.address) {
    if (mine.added !== theirs.added) fail("incompatible", `${mine.address} is both added and removed`);
    return { client: { noOp: true }, server: { noOp: true } };
  }
  return { client, server };
}

/** Two lists of operations that start at one state, each past the other. */
export function transformDelta(
  client: Authored,
  server: readonly Operation[],
): { client: Operation[]; server: Operation[] } {
  const clientOut: Operation[] = [];
  let carried = [...server];
  for (let mine of client.operations) {
    const next: Operation[] = [];
    for (const theirs of carried) {
      const result = transformOperation(mine, client.author, theirs);
      mine = result.client;
      next.push(result.server);
    }
    clientOut.push(mine);
    carried = next;
  }
  return { client: clientOut, server: carried };
}

function participantOf(op: Operation): { address: string; added: boolean } | null {
  if ("addParticipant" in op) return { address: op.addParticipant, added: true };
  if ("removeParticipant" in op) return { address: op.removeParticipant, added: false };
  return null;
}
