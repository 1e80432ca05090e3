/** A copy of a wavelet: its participants and documents, and who changed what when. */

import { Document } from "../ot/document";
import { type DocOp, fail, type Operation } from "../ot/op";
import type { DeltaMessage, DocumentState, WaveletState } from "../wire/messages";

/** Who wrote a document, and when. */
export interface Meta {
  readonly author: string;
  /** In order of first contribution. */
  readonly contributors: readonly string[];
  readonly lastModifiedVersion: number;
  /** ms since 1970. */
  readonly lastModifiedTime: number;
}

interface Entry {
  readonly document: Document;
  readonly meta: Meta | null;
}

/** A wavelet's state. Documents and lists in it never change; the copy itself does. */
export class WaveletCopy {
  version = 0;
  creator = "";
  created = 0;
  lastModified = 0;
  participants: readonly string[] = [];
  readonly #documents = new Map<string, Entry>();

  constructor(
    readonly name: string,
    readonly host: string,
  ) {}

  /** The copy that a snapshot describes. Throws an `OpError` when a document in it makes no sense. */
  static from(state: WaveletState): WaveletCopy {
    const copy = new WaveletCopy(state.wavelet, state.host);
    copy.version = state.version;
    copy.creator = state.creator;
    copy.created = state.created;
    copy.lastModified = state.lastModified;
    copy.participants = state.participants;
    for (const { id, content, author, contributors, lastModifiedVersion, lastModifiedTime } of state.documents) {
      const meta = author === "" ? null : { author, contributors, lastModifiedVersion, lastModifiedTime };
      copy.#documents.set(id, { document: Document.from(content), meta });
    }
    return copy;
  }

  /** Another copy that can change on its own. */
  clone(): WaveletCopy {
    const copy = new WaveletCopy(this.name, this.host);
    copy.version = this.version;
    copy.creator = this.creator;
    copy.created = this.created;
    copy.lastModified = this.lastModified;
    copy.participants = this.participants;
    for (const [id, entry] of this.#documents) copy.#documents.set(id, entry);
    return copy;
  }

  /** The ids of all documents. */
  documentIds(): string[] {
    return [...this.#documents.keys()];
  }

  /** A document; the empty one when there is none. */
  document(id: string): Document {
    return this.#documents.get(id)?.document ?? Document.empty;
  }

  /** Who wrote a document; null when the server has none of that name. */
  meta(id: string): Meta | null {
    return this.#documents.get(id)?.meta ?? null;
  }

  /** Puts a document in place of the one there. */
  setDocument(id: string, document: Document): void {
    this.#documents.set(id, { document, meta: this.meta(id) });
  }

  /** Takes over who wrote what, of documents of another copy. */
  takeMeta(other: WaveletCopy): void {
    for (const [id, entry] of this.#documents) {
      const meta = other.meta(id);
      if (meta !== entry.meta) this.#documents.set(id, { document: entry.document, meta });
    }
  }

  /** Applies operations, all or none. */
  applyAll(operations: readonly Operation[]): void {
    const participants = this.participants;
    const before = new Map<string, Entry | undefined>();
    try {
      for (const op of operations) {
        if ("mutateDocument" in op) {
          const { documentId, operation } = op.mutateDocument;
          if (!before.has(documentId)) before.set(documentId, this.#documents.get(documentId));
          this.setDocument(documentId, this.document(documentId).apply(operation));
        } else {
          this.#applyToParticipants(op);
        }
      }
    } catch (e) {
      this.participants = participants;
      for (const [id, entry] of before) {
        if (entry === undefined) this.#documents.delete(id);
        else this.#documents.set(id, entry);
      }
      throw e;
    }
  }

  /** Applies a delta that is at this copy's version, all of it or nothing. */
  applyDelta(delta: DeltaMessage): void {
    if (delta.version !== this.version) fail("doesNotFit", `a delta at version ${delta.version}, not ${this.version}`);
    this.applyAll(delta.operations);
    if (this.version === 0) {
      this.creator = delta.author;
      this.created = delta.timestamp;
    }
    for (const op of delta.operations) {
      this.version++;
      if ("mutateDocument" in op) this.#attribute(op.mutateDocument.documentId, op.mutateDocument.operation, delta);
    }
    this.lastModified = delta.timestamp;
  }

  /** The copy as a message, for the storage. */
  toState(): WaveletState {
    return {
      wavelet: this.name,
      host: this.host,
      version: this.version,
      hash: "",
      hashedVersion: 0,
      digest: "",
      participants: [...this.participants],
      creator: this.creator,
      created: this.created,
      lastModified: this.lastModified,
      documents: this.documentIds().map((id) => this.documentState(id)),
    };
  }

  /** A document as a message. */
  documentState(id: string): DocumentState {
    const meta = this.meta(id);
    return {
      id,
      content: contentOf(this.document(id)),
      author: meta?.author ?? "",
      contributors: [...(meta?.contributors ?? [])],
      lastModifiedVersion: meta?.lastModifiedVersion ?? 0,
      lastModifiedTime: meta?.lastModifiedTime ?? 0,
    };
  }

  #applyToParticipants(op: Operation): void {
    if ("addParticipant" in op) {
      if (this.participants.includes(op.addParticipant)) fail("doesNotFit", `${op.addParticipant} is present`);
      this.participants = [...this.participants, op.addParticipant];
    } else if ("removeParticipant" in op) {
      if (!this.participants.includes(op.removeParticipant)) fail("doesNotFit", `${op.removeParticipant} is absent`);
      this.participants = this.participants.filter((address) => address !== op.removeParticipant);
    }
  }

  #attribute(id: string, operation: DocOp, { author, timestamp }: DeltaMessage): void {
    const before = this.meta(id);
    if (before !== null && !isWorthy(id, operation)) return;
    const contributors = before?.contributors ?? [];
    const meta: Meta = {
      author: before?.author ?? author,
      contributors: contributors.includes(author) ? contributors : [...contributors, author],
      lastModifiedVersion: this.version,
      lastModifiedTime: timestamp,
    };
    this.#documents.set(id, { document: this.document(id), meta });
  }
}

const contents = new WeakMap<Document, ReturnType<Document["toOp"]>>();

/** A document's content as an operation; kept, as documents do not change. */
function contentOf(document: Document): ReturnType<Document["toOp"]> {
  let content = contents.get(document);
  if (content === undefined) {
    content = document.toOp();
    contents.set(document, content);
  }
  return content;
}

const UNWORTHY_KEY = /^(user|spell|link|tr|lang)/;

/** Whether an operation makes its author a contributor and the document unread. */
export function isWorthy(document: string, operation: DocOp): boolean {
  if (document.startsWith("attach") || document.startsWith("tr+") || document === "mini") return false;
  // A reply's anchor does not count, neither its start nor its end.
  const reply: boolean[] = [];
  for (const c of operation) {
    if ("annotationBoundary" in c) {
      if (c.annotationBoundary.change.some((a) => a.old !== a.new && !UNWORTHY_KEY.test(a.key))) return true;
    } else if ("elementStart" in c || "deleteElementStart" in c) {
      const element = "elementStart" in c ? c.elementStart : c.deleteElementStart;
      reply.push(element.type === "reply");
      if (element.type !== "reply") return true;
    } else if ("elementEnd" in c || "deleteElementEnd" in c) {
      if (reply.pop() !== true) return true;
    } else if (!("retain" in c)) {
      return true;
    }
  }
  return false;
}
