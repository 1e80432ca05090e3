/**
 * A client without a server, for looking at screens: a few waves in memory, everything at once "sent". Which state the
 * screens show is chosen by the address bar's query (`?connection=offline&delivery=waiting`).
 */
import type { BlipMeta, Caret, Client, ConnectionState, InboxRow, KeptDraft, PeerDelivery, RequestList, Saving, Wave, Wavelet } from "../../src/wave/client";
import { appendBlip, deleteBlip, MANIFEST, readConversation, replyInlineTo, replyTo, titleOf } from "../../src/wave/conversation";
import type { BlipChange } from "../../src/wave/client";
import { Emitter, Value } from "../../src/wave/observable";
import { Document } from "../../src/ot/document";
import type { DocOp, Operation } from "../../src/ot/op";
import { ALICE, BOB, type Sample, samples } from "./samples";

const query = new URLSearchParams(location.search);
const SAVED: Saving = { state: "saved", changes: 0 };
const saving = new Value<Saving>(query.has("unsent") ? { state: "unsent", changes: 3 } : SAVED);

class FakeWavelet implements Wavelet {
  readonly name: string;
  readonly host: string;
  readonly creator = ALICE;
  readonly participants: Value<readonly string[]>;
  readonly conversation;
  readonly title: Value<string>;
  readonly saving = saving;
  readonly delivery: Value<readonly PeerDelivery[]>;
  readonly carets: Value<readonly Caret[]>;
  readonly member = new Value(!query.has("removed"));
  readonly writable = new Value(!query.has("removed") && query.get("delivery") !== "quarantined");
  readonly removedBy = new Value<string | null>(query.has("removed") ? BOB : null);
  private readonly blips = new Map<string, ReturnType<FakeWavelet["make"]>>();
  private next = 100;

  constructor(sample: Sample) {
    this.name = `${sample.wave}/~/conv+root`;
    this.host = sample.wave.split("/")[0]!;
    this.participants = new Value<readonly string[]>(sample.people);
    this.title = new Value("");
    this.delivery = new Value<readonly PeerDelivery[]>(query.has("delivery") ? [peer(query.get("delivery") as PeerDelivery["state"])] : sample.people.includes(BOB) ? [peer("delivered")] : []);
    this.conversation = new Value(readConversation(Document.empty));
    for (const [id, { content, author, time, unread }] of Object.entries(sample.documents)) {
      const blip = this.blip(id);
      blip.document.set(Document.from(content));
      blip.meta.set({ author, contributors: [author], lastModifiedVersion: 1, lastModifiedTime: time });
      blip.unread.set(unread);
    }
    this.refresh();
    this.carets = new Value<readonly Caret[]>(sample.carets);
  }

  private make(id: string) {
    const changes = new Emitter<BlipChange>();
    const document = new Value(Document.empty);
    const submit = (operation: DocOp, source?: unknown) => {
      document.set(document.get().apply(operation));
      changes.emit({ kind: "operation", operation, document: document.get(), author: ALICE, source: source ?? null });
      this.refresh();
    };
    return { id, document, meta: new Value<BlipMeta | null>(null), changes, unread: new Value(false), unsent: new Value(query.has("unsent") ? [[2, 8]] as const : []), submit };
  }

  blip(id: string) {
    let blip = this.blips.get(id);
    if (!blip) this.blips.set(id, (blip = this.make(id)));
    return blip;
  }

  private refresh(): void {
    if (this.blip(MANIFEST).document.get() !== this.shown) {
      this.shown = this.blip(MANIFEST).document.get();
      this.conversation.set(readConversation(this.shown));
    }
    const first = this.conversation.get().root.blips[0];
    if (first) this.title.set(titleOf(this.blip(first.id).document.get()));
  }
  private shown: Document | null = null;

  private run(operations: readonly Operation[]): void {
    for (const operation of operations) if ("mutateDocument" in operation) this.blip(operation.mutateDocument.documentId).submit(operation.mutateDocument.operation);
  }
  private begin(make: (documents: (id: string) => Document, id: string) => Operation[]): string {
    const id = `b+${this.next++}`;
    this.blip(id).meta.set({ author: ALICE, contributors: [ALICE], lastModifiedVersion: 1, lastModifiedTime: Date.now() });
    this.run(make((name) => this.blip(name).document.get(), id));
    return id;
  }
  appendBlip = (thread: string | null) => this.begin((documents, id) => appendBlip(documents, thread, id));
  reply = (blip: string) => this.begin((documents, id) => replyTo(documents, blip, id));
  replyInline = (blip: string, at: number) => this.begin((documents, id) => replyInlineTo(documents, blip, at, id));
  deleteBlip(blip: string): void {
    this.run(deleteBlip((name) => this.blip(name).document.get(), blip));
  }
  addParticipant(address: string): void {
    this.participants.set([...this.participants.get(), address]);
  }
  removeParticipant(address: string): void {
    this.participants.set(this.participants.get().filter((present) => present !== address));
  }
  setCaret(): void {}
  markRead(blips: readonly string[]): void {
    for (const id of blips) this.blip(id).unread.set(false);
  }
}

function peer(state: PeerDelivery["state"]): PeerDelivery {
  const now = Date.now();
  const waiting = state === "waiting";
  return {
    domain: "acme.lab", state, version: 12, pending: state === "delivered" ? 0 : 14, since: now - 22 * 60_000, nextTry: waiting ? now + 120_000 : null,
    reason: state === "refused" ? "acme.lab does not accept waves from initech.lab. Its administrators can change that." : null, host: query.has("hosted"), legacy: false,
  };
}

const CONNECTIONS: Record<string, ConnectionState> = {
  offline: { kind: "offline", since: Date.now() - 600_000 },
  reconnecting: { kind: "reconnecting", since: Date.now() - 6000 },
  signedOut: { kind: "signedOut" },
};

/** Stands in for `createClient` of `wave/start.ts`. */
export function createClient(): Client {
  const all = new Map(samples().map((sample) => [sample.wave, { sample, wavelet: new FakeWavelet(sample) }]));
  const row = ({ sample, wavelet }: { sample: Sample; wavelet: FakeWavelet }): InboxRow => ({
    wave: sample.wave, title: wavelet.title.get(), snippet: sample.snippet, people: [...wavelet.participants.get()], unread: sample.unread,
    blips: 3, lastModified: sample.time, lastAuthor: BOB, waitingFor: sample.waiting,
  });
  const inbox = new Value<readonly InboxRow[] | null>(query.has("loading") ? null : query.has("empty") ? [] : [...all.values()].map(row));
  const open = (id: string): Wave => {
    const found = all.get(id);
    const root = found && !query.has("loading") ? found.wavelet : null;
    return {
      id, status: new Value(query.has("loading") ? "loading" : root ? "open" : "missing"),
      wavelets: new Value(root ? [root] : []), root: new Value(root), close: () => {},
    };
  };
  const drafts: readonly KeptDraft[] = query.has("draft")
    ? [{ id: "d", wavelet: `${samples()[0]!.wave}/~/conv+root`, texts: [{ document: "b+1", text: "What I had written about the figures." }], reason: "conflict", text: "The message was deleted while you were away.", time: Date.now() }]
    : [];
  const requests = new Value<RequestList>({
    rows: query.has("requests") ? [{ wave: "globex.example/w+1", from: "hank@globex.example", domain: "globex.example", host: null, since: Date.now() - 60_000 }] : [],
    more: 0, blocked: query.has("requests") ? ["spam.example"] : [],
  });
  const answered = (wave: string) => requests.set({ ...requests.get(), rows: requests.get().rows.filter((row) => row.wave !== wave) });
  return {
    requests, accept: answered, decline: answered, block: (domain) => requests.set({ rows: [], more: 0, blocked: [domain] }),
    connection: new Value<ConnectionState>(CONNECTIONS[query.get("connection") ?? ""] ?? { kind: "online" }),
    address: new Value(ALICE), domains: new Value(["initech.lab"]), inbox, saving, domainStates: new Value(new Map()), drafts: new Value(drafts), errors: new Emitter<string>(),
    start: () => {}, stop: async () => {}, retry: () => {}, flush: async () => {}, dismiss: () => {}, open,
    create() {
      const wave = `initech.lab/w+new${all.size}`;
      const sample: Sample = { ...samples()[2]!, wave, people: [ALICE], documents: {}, carets: [], unread: 0 };
      const made = { sample, wavelet: new FakeWavelet(sample) };
      all.set(wave, made);
      made.wavelet.appendBlip(null);
      inbox.set([row(made), ...(inbox.get() ?? [])]);
      return open(wave);
    },
  };
}
