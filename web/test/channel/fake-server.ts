/** A wave server in memory: one wavelet, ordered and transformed as a host does it, without sockets. */

import { transformDelta } from "../../src/ot/delta";
import { OpError, type Operation } from "../../src/ot/op";
import { WaveletCopy } from "../../src/wave/wavelet";
import type { DeltaMessage, RefusalReason, WaveletState } from "../../src/wire/messages";

/** A submission as it arrives. */
export interface Submission {
  readonly session: string;
  readonly sequence: number;
  readonly version: number;
  readonly operations: readonly Operation[];
}

/** What the server does with one. */
export type Answer =
  | { readonly kind: "applied"; readonly delta: DeltaMessage; readonly again: boolean }
  | { readonly kind: "refused"; readonly reason: RefusalReason; readonly text: string };

/** See the module's comment. */
export class FakeServer {
  readonly copy: WaveletCopy;
  readonly log: DeltaMessage[] = [];
  /** Deltas before this version are forgotten: nothing is resumed or transformed from there. */
  floor = 0;
  readonly #answers = new Map<string, DeltaMessage>();
  #clock = 1_000;

  constructor(readonly name = "example.org/w+abc/~/conv+root") {
    this.copy = new WaveletCopy(name, "example.org");
  }

  submit(author: string, s: Submission): Answer {
    const key = `${s.session}\n${s.sequence}`;
    const before = this.#answers.get(key);
    if (before !== undefined) return { kind: "applied", delta: before, again: true };
    if (s.version < this.floor || s.version > this.copy.version) return refusal("unknownVersion");
    if (this.copy.version > 0 && !this.copy.participants.includes(author)) return refusal("notParticipant");
    try {
      let operations: Operation[] = [...s.operations];
      for (const delta of this.since(s.version)) {
        operations = transformDelta({ author, operations }, delta.operations).client;
      }
      const version = this.copy.version;
      const own = { session: s.session, sequence: s.sequence };
      const delta = { wavelet: this.name, version, author, timestamp: this.#clock++, operations, own };
      this.copy.applyDelta(delta);
      this.log.push(delta);
      this.#answers.set(key, delta);
      return { kind: "applied", delta, again: false };
    } catch (e) {
      if (!(e instanceof OpError)) throw e;
      return refusal("doesNotApply", e.message);
    }
  }

  /** The deltas from a version on; throws when that is in the middle of one. */
  since(version: number): DeltaMessage[] {
    const at = this.log.findIndex((delta) => delta.version >= version);
    if (at < 0) {
      if (version !== this.copy.version) throw new OpError("doesNotFit", "a version inside a delta");
      return [];
    }
    if (this.log[at]!.version !== version) throw new OpError("doesNotFit", "a version inside a delta");
    return this.log.slice(at);
  }

  /** Whether a client may resume from a version. */
  knows(version: number): boolean {
    return version >= this.floor && version <= this.copy.version;
  }

  /** The state as a message; a copy that shares nothing. */
  snapshot(): WaveletState {
    return JSON.parse(JSON.stringify(this.copy.toState()));
  }

  /** Forgets the deltas up to now. */
  forget(): void {
    this.floor = this.copy.version;
  }
}

function refusal(reason: RefusalReason, text = reason as string): Answer {
  return { kind: "refused", reason, text };
}
