/**
 * Operational transformation of document operations, with exactly the reference's results: split each operation into
 * its insertions and the rest, transform the four parts pairwise, compose. Ties go to the client.
 */

import type { OpComponent } from "../wire/messages";
import { compose, cut } from "./compose";
import { OpWriter } from "./normalize";
import { type Change, consumed, type DocOp, fail, produced, updateAttributes, type ValueUpdate } from "./op";
import { checkStructure } from "./wellformed";

/** Two operations, each past the other. */
export interface Transformed {
  /** The client's, on the result of the server's. */
  readonly client: OpComponent[];
  /** The server's, on the result of the client's. */
  readonly server: OpComponent[];
}

/** `server` and then the new client operation do what `client` and then the new server operation do. */
export function transform(client: DocOp, server: DocOp): Transformed {
  const c = decompose(client);
  const s = decompose(server);
  const [ci1, si1] = transformInsertions(c.insertions, s.insertions);
  const [ci2, sn1] = transformInsertionsPast(ci1, s.rest);
  const [si2, cn1] = transformInsertionsPast(si1, c.rest);
  const [cn2, sn2] = new RestTransform().run(cn1, sn1);
  return { client: compose(ci2, cn2), server: compose(si2, sn2) };
}

function finish(writer: OpWriter): OpComponent[] {
  const op = writer.finish();
  checkStructure(op);
  return op;
}

/** The insertions alone, and the rest as it applies after them. */
function decompose(op: DocOp): { insertions: OpComponent[]; rest: OpComponent[] } {
  const insertions = new OpWriter();
  const rest = new OpWriter();
  for (const c of op) {
    if ("annotationBoundary" in c) {
      rest.push(c);
    } else if (consumed(c) === 0) {
      insertions.push(c);
      rest.retain(produced(c));
    } else {
      insertions.retain(consumed(c));
      rest.push(c);
    }
  }
  return { insertions: finish(insertions), rest: finish(rest) };
}

function ranOut(): never {
  fail("incompatible", "the client's operation is longer than the server's document");
}

/** Two operations of insertions and retains only. */
function transformInsertions(client: DocOp, server: DocOp): [OpComponent[], OpComponent[]] {
  const clientOut = new OpWriter();
  const serverOut = new OpWriter();
  /** Items the client is past the server. */
  let ahead = 0;
  const retainBoth = (items: number): void => {
    clientOut.retain(items);
    serverOut.retain(items);
  };
  const takeServer = (c: OpComponent): void => {
    if ("retain" in c) {
      retainBoth(Math.min(c.retain, Math.max(ahead, 0)));
      ahead -= c.retain;
    } else {
      serverOut.push(c);
      clientOut.retain(produced(c));
    }
  };
  let next = 0;
  for (const c of client) {
    if ("retain" in c) {
      retainBoth(Math.min(c.retain, Math.max(-ahead, 0)));
      ahead += c.retain;
    } else {
      clientOut.push(c);
      serverOut.retain(produced(c));
    }
    while (ahead > 0) takeServer(server[next++] ?? ranOut());
  }
  for (; next < server.length; next++) takeServer(server[next]!);
  return [finish(clientOut), finish(serverOut)];
}

/** An operation of insertions past one without: what is inserted inside a deleted element is deleted with it. */
function transformInsertionsPast(insertions: DocOp, rest: DocOp): [OpComponent[], OpComponent[]] {
  const insertionsOut = new OpWriter();
  const restOut = new OpWriter();
  let ahead = 0;
  let depth = 0;
  let held: OpComponent | null = null;
  let next = 0;
  const resolve = (c: OpComponent, items: number): OpComponent | null => {
    const [piece, remains] = cut(c, items);
    restOut.push(piece);
    if ("deleteElementStart" in piece) depth++;
    else if ("deleteElementEnd" in piece) depth--;
    else if (!("deleteCharacters" in piece)) insertionsOut.retain(items);
    return remains;
  };
  for (const c of insertions) {
    if (!("retain" in c)) {
      if (depth > 0) {
        restOut.push(asDeletion(c));
      } else {
        insertionsOut.push(c);
        restOut.retain(produced(c));
      }
      continue;
    }
    ahead += c.retain;
    let left = c.retain;
    while (left > 0) {
      const other: OpComponent = held ?? rest[next++] ?? ranOut();
      if ("annotationBoundary" in other) {
        restOut.push(other);
        continue;
      }
      const items = Math.min(left, consumed(other));
      held = resolve(other, items);
      left -= items;
    }
  }
  for (; next < rest.length; next++) {
    const c = rest[next]!;
    if ("annotationBoundary" in c) restOut.push(c);
  }
  return [finish(insertionsOut), finish(restOut)];
}

function asDeletion(c: OpComponent): OpComponent {
  if ("characters" in c) return { deleteCharacters: c.characters };
  if ("elementStart" in c) return { deleteElementStart: c.elementStart };
  return { deleteElementEnd: true };
}

/** One side of {@link RestTransform}. */
class Side {
  readonly out = new OpWriter();
  /** The side's own open update as given. */
  readonly tracked = new Map<string, ValueUpdate>();
  /** The update open in its output. */
  readonly active = new Map<string, ValueUpdate>();
  /** Keys whose active entry has changed since both sides last kept an item, with the entry before that. */
  readonly propagating = new Map<string, ValueUpdate | null>();

  track(end: readonly string[], change: readonly Change[]): void {
    for (const key of end) this.tracked.delete(key);
    for (const c of change) this.tracked.set(c.key, c);
  }

  /** Writes a boundary and remembers what it really changes. */
  boundary(end: readonly string[], change: readonly Change[]): void {
    this.out.boundary(end, change);
    for (const key of end) this.#record(key, null);
    for (const c of change) this.#record(c.key, c);
  }

  #record(key: string, entry: ValueUpdate | null): void {
    const before = this.active.get(key) ?? null;
    if (before === entry) return;
    if (before !== null && entry !== null && before.old === entry.old && before.new === entry.new) return;
    if (!this.propagating.has(key)) this.propagating.set(key, before);
    if (entry === null) this.active.delete(key);
    else this.active.set(key, { old: entry.old, new: entry.new });
  }
}

/** Two operations without insertions. */
class RestTransform {
  readonly #client = new Side();
  readonly #server = new Side();

  run(client: DocOp, server: DocOp): [OpComponent[], OpComponent[]] {
    let held: OpComponent | null = null;
    let next = 0;
    for (const component of client) {
      if ("annotationBoundary" in component) {
        this.#clientBoundary(component.annotationBoundary.end, component.annotationBoundary.change);
        continue;
      }
      let mine: OpComponent | null = component;
      while (mine !== null) {
        const theirs: OpComponent = held ?? server[next++] ?? ranOut();
        if ("annotationBoundary" in theirs) {
          this.#serverBoundary(theirs.annotationBoundary.end, theirs.annotationBoundary.change);
          continue;
        }
        const items = Math.min(consumed(mine), consumed(theirs));
        const [c, mineRest] = cut(mine, items);
        const [s, theirsRest] = cut(theirs, items);
        this.#pair(c, s, items);
        mine = mineRest;
        held = theirsRest;
      }
    }
    for (; next < server.length; next++) {
      const c = server[next]!;
      if ("annotationBoundary" in c) this.#serverBoundary(c.annotationBoundary.end, c.annotationBoundary.change);
    }
    return [finish(this.#client.out), finish(this.#server.out)];
  }

  #pair(c: OpComponent, s: OpComponent, items: number): void {
    const clientDeletes = isDeletion(c);
    const serverDeletes = isDeletion(s);
    if (clientDeletes && serverDeletes) {
      if (kind(c) !== kind(s)) incompatible();
    } else if (clientDeletes) {
      this.#delete(this.#client, this.#server, deletionPast(c, s));
    } else if (serverDeletes) {
      this.#delete(this.#server, this.#client, deletionPast(s, c));
    } else {
      const [clientPiece, serverPiece] = keepBoth(c, s, items);
      this.#client.propagating.clear();
      this.#server.propagating.clear();
      this.#client.out.push(clientPiece);
      this.#server.out.push(serverPiece);
    }
  }

  #clientBoundary(end: readonly string[], change: readonly Change[]): void {
    const server = this.#server.tracked;
    this.#client.track(end, change);
    const reopened: Change[] = [];
    const closed: string[] = [];
    for (const key of end) {
      const theirs = server.get(key);
      if (theirs !== undefined) reopened.push({ key, old: theirs.old, new: theirs.new });
    }
    const mine = change.map((c) => {
      const theirs = server.get(c.key);
      if (theirs === undefined) return c;
      closed.push(c.key);
      return { key: c.key, old: theirs.new, new: c.new };
    });
    this.#client.boundary(end, mine);
    this.#server.boundary(closed, reopened);
  }

  #serverBoundary(end: readonly string[], change: readonly Change[]): void {
    const client = this.#client.tracked;
    this.#server.track(end, change);
    const reopened: Change[] = [];
    const closed: string[] = [];
    const theirs: Change[] = [];
    for (const key of end) {
      const mine = client.get(key);
      if (mine === undefined) closed.push(key);
      else reopened.push({ key, old: mine.old, new: mine.new });
    }
    for (const c of change) {
      const mine = client.get(c.key);
      if (mine === undefined) theirs.push(c);
      else reopened.push({ key: c.key, old: c.new, new: mine.new });
    }
    this.#client.boundary([], reopened);
    this.#server.boundary(closed, theirs);
  }

  /** Writes a deletion of one side alone, with the annotation changes that a deletion must bring. */
  #delete(own: Side, other: Side, deletion: OpComponent): void {
    const change: Change[] = [];
    for (const [key, before] of other.propagating) {
      const mine = own.active.get(key);
      const theirs = other.active.get(key);
      if (before !== null) {
        const old = mine !== undefined ? mine.old : theirs !== undefined ? theirs.new : before.old;
        change.push({ key, old, new: before.new });
      } else if (theirs !== undefined) {
        change.push({ key, old: theirs.new, new: mine !== undefined ? mine.new : theirs.old });
      }
    }
    const end: string[] = [];
    const restored: Change[] = [];
    for (const { key } of change) {
      const mine = own.active.get(key);
      if (mine === undefined) end.push(key);
      else restored.push({ key, old: mine.old, new: mine.new });
    }
    own.boundary([], change);
    own.out.push(deletion);
    own.propagating.clear();
    own.boundary(end, restored);
  }
}

function isDeletion(c: OpComponent): boolean {
  return "deleteCharacters" in c || "deleteElementStart" in c || "deleteElementEnd" in c;
}

function kind(c: OpComponent): string {
  return Object.keys(c)[0] ?? "";
}

function incompatible(): never {
  fail("incompatible", "the two operations are not of one document");
}

/** A deletion of what the other side kept, perhaps with new attributes. */
function deletionPast(deletion: OpComponent, kept: OpComponent): OpComponent {
  if ("retain" in kept) return deletion;
  if (!("deleteElementStart" in deletion)) incompatible();
  const { type, attributes } = deletion.deleteElementStart;
  if ("replaceAttributes" in kept) return { deleteElementStart: { type, attributes: kept.replaceAttributes.new } };
  if ("updateAttributes" in kept) {
    return { deleteElementStart: { type, attributes: updateAttributes(attributes, kept.updateAttributes) } };
  }
  return incompatible();
}

/** An item that both keep: a retain, or a change of its attributes. */
function keepBoth(c: OpComponent, s: OpComponent, items: number): [OpComponent, OpComponent] {
  if ("retain" in c || "retain" in s) return ["retain" in c ? { retain: items } : c, "retain" in s ? { retain: items } : s];
  if ("replaceAttributes" in c) {
    const { old, new: value } = c.replaceAttributes;
    if ("replaceAttributes" in s) {
      return [{ replaceAttributes: { old: s.replaceAttributes.new, new: value } }, { retain: 1 }];
    }
    if ("updateAttributes" in s) {
      return [{ replaceAttributes: { old: updateAttributes(old, s.updateAttributes), new: value } }, { retain: 1 }];
    }
  }
  if ("updateAttributes" in c) {
    if ("replaceAttributes" in s) {
      const { old, new: value } = s.replaceAttributes;
      return [{ retain: 1 }, { replaceAttributes: { old: updateAttributes(old, c.updateAttributes), new: value } }];
    }
    if ("updateAttributes" in s) return transformUpdates(c.updateAttributes, s.updateAttributes);
  }
  return incompatible();
}

function transformUpdates(client: readonly Change[], server: readonly Change[]): [OpComponent, OpComponent] {
  const theirs = new Map(server.map((c) => [c.key, c]));
  const mine = new Set(client.map((c) => c.key));
  const past = client.map((c) => {
    const other = theirs.get(c.key);
    return { key: c.key, old: other === undefined ? c.old : other.new, new: c.new };
  });
  return [{ updateAttributes: past }, { updateAttributes: server.filter((c) => !mine.has(c.key)) }];
}
