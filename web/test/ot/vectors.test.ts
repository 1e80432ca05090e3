/**
 * The golden vectors, made by the Java reference: the same files that the Rust side runs. Outputs are compared to the
 * letter. The directory is `BILLOW_VECTORS`, or `shared/vectors` beside the checkout; without it the tests fail.
 */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { compose, composeAll } from "../../src/ot/compose";
import { transformDelta, transformOperation } from "../../src/ot/delta";
import { Document } from "../../src/ot/document";
import { invert } from "../../src/ot/invert";
import { normalize } from "../../src/ot/normalize";
import { type DocOp, inputLength, OpError, outputLength } from "../../src/ot/op";
import { transform } from "../../src/ot/transform";
import { checkWellFormed } from "../../src/ot/wellformed";

const here = dirname(fileURLToPath(import.meta.url));
const directory = resolve(process.env["BILLOW_VECTORS"] ?? join(here, "../../../../shared/vectors"));

// biome-ignore lint/suspicious/noExplicitAny: a vector is what its file says
type Case = any;

/**
 * Validity vectors whose verdict we deliberately do not share: the reference counts UTF-16 units and so refuses text
 * beyond U+FFFF; an item of ours is a code point and such text is allowed. These are the cases of the usual set; in a set
 * made from another seed they are found by {@link refusedForSurrogates} alone.
 */
const BEYOND_BMP = new Set([
  // biome-ignore format: a table
  "v154", "v293", "v324", "v631", "v729", "v748", "v1481", "v1498", "v1540", "v1554", "v1556", "v2224", "v2296",
  "v2429", "v2625", "v2654", "v2664", "v2704", "v2874", "v2877", "v2926", "v3102", "v3180", "v3271", "v3414",
  "v5087", "v5400", "v5406", "v5412", "v5430", "v5436", "v5448", "v5454", "v5460",
]);

/** Whether the reference refuses a case for nothing but text beyond U+FFFF. */
function refusedForSurrogates(c: Case): boolean {
  if (c.verdict !== "ILL_FORMED" || !c.violation.includes("contains surrogate")) return false;
  try {
    checkWellFormed(c.op);
    return true;
  } catch {
    return false;
  }
}

/** Whether the directory holds the set that the ids above are of. */
const usualSet = existsSync(join(directory, "README.md")) && /\b20091109\b/.test(readFileSync(join(directory, "README.md"), "utf8"));

/** Files that sets made from another seed do not have. */
const ONLY_IN_USUAL_SET = new Set(["transform_named.jsonl"]);

const counts: string[] = [];
afterAll(() => console.log(counts.join("\n")));

function cases(file: string): Case[] {
  const plain = join(directory, file);
  const lines = existsSync(plain) ? readFileSync(plain, "utf8") : gunzipSync(readFileSync(`${plain}.gz`)).toString("utf8");
  return lines
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

/**
 * Runs every case of a file; `check` throws where one fails. Where `excepted` is true, the case is a listed exception:
 * `check` is not run, `otherwise` says what we do instead.
 */
function run(
  file: string,
  check: (c: Case) => void,
  excepted: (c: Case) => boolean = () => false,
  otherwise: (c: Case) => void = () => {},
): void {
  it(file, (context) => {
    if (ONLY_IN_USUAL_SET.has(file) && !usualSet && !existsSync(join(directory, file))) return context.skip();
    const all = cases(file);
    const failures: string[] = [];
    let exceptions = 0;
    for (const [i, c] of all.entries()) {
      try {
        if (!excepted(c)) check(c);
        else if (++exceptions) otherwise(c);
      } catch (e) {
        failures.push(`${c.id ?? c.name ?? i}: ${e instanceof Error ? e.message.slice(0, 600) : e}`);
      }
    }
    const noted = exceptions > 0 ? `, ${exceptions} of them as listed exceptions` : "";
    counts.push(`${file}: ${all.length} cases run, ${all.length - failures.length} passed${noted}`);
    expect(all.length).toBeGreaterThan(0);
    expect(failures.slice(0, 5), `${failures.length} of ${all.length} fail`).toEqual([]);
  });
}

/** Equality to the letter, fast where it holds. */
function same(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) expect(actual).toEqual(expected);
}

function refuses(action: () => unknown): void {
  try {
    action();
  } catch (e) {
    if (e instanceof OpError) return;
    throw e;
  }
  throw new Error("was accepted");
}

describe("golden vectors", () => {
  it("are there", () => expect(existsSync(directory), `${directory} is missing`).toBe(true));

  run("apply.jsonl", (c) => {
    const doc = Document.from(c.doc);
    same(doc.toOp(), c.doc);
    const result = doc.apply(c.op);
    same(result.toOp(), c.result);
    expect(result.length).toBe(c.length);
    expect(outputLength(c.op)).toBe(c.length);
    expect(inputLength(c.op)).toBe(doc.length);
  });

  run("normalize.jsonl", (c) => same(normalize(c.op), c.normalized));

  run("invert.jsonl", (c) => {
    same(invert(c.op), c.inverse);
    const result = Document.from(c.doc).apply(c.op);
    same(result.toOp(), c.result);
    same(result.apply(invert(c.op)).toOp(), c.doc);
  });

  run("compose.jsonl", (c) => {
    same(compose(c.a, c.b), c.composed);
    const doc = Document.from(c.doc);
    same(doc.apply(c.composed).toOp(), c.result);
    same(doc.apply(c.a).apply(c.b).toOp(), c.result);
  });

  run("compose_chain.jsonl", (c) => {
    const ops: DocOp[] = c.ops;
    same(composeAll(ops), c.left_fold);
    same(
      ops.reduceRight((sum, op) => compose(op, sum)),
      c.right_fold,
    );
    same(balanced(ops), c.collector);
    same(Document.from(c.doc).apply(composeAll(ops)).toOp(), c.result);
  });

  run("compose_errors.jsonl", (c) => {
    if (c.error !== undefined) refuses(() => compose(c.a, c.b));
    else same(compose(c.a, c.b), c.composed);
  });

  for (const file of [
    "transform_named.jsonl",
    "transform_micro.jsonl",
    "transform_annotations.jsonl",
    "transform_attributes.jsonl",
    "transform_generic.jsonl",
    "transform_blip.jsonl",
    "transform_manifest.jsonl",
    "transform_reference.jsonl",
    "transform_large.jsonl",
  ]) {
    run(file, (c) => {
      const result = transform(c.client, c.server);
      same(result.client, c.client_t);
      same(result.server, c.server_t);
      const doc = Document.from(c.doc);
      same(doc.apply(c.client).apply(result.server).toOp(), c.result);
      same(doc.apply(c.server).apply(result.client).toOp(), c.result);
    });
  }

  run("transform_errors.jsonl", (c) => refuses(() => transform(c.client, c.server)));

  run("transform_quirks.jsonl", (c) => {
    const result = transform(c.client, c.server);
    same(result.client, c.client_t);
    same(result.server, c.server_t);
  });

  run(
    "validity.jsonl",
    (c) => {
      // Java threw, and in two ways: positions that overflow we refuse, a schema's value that does not parse we let be.
      const overflows = c.verdict === "EXCEPTION" && c.violation.startsWith("IndexOutOfBounds");
      if (!overflows && c.well_formed) checkWellFormed(c.op);
      else if (!overflows) refuses(() => checkWellFormed(c.op));
      // Schemas are the server's to enforce: what breaks only a schema fits here.
      const fits = c.verdict === "VALID" || c.verdict === "INVALID_SCHEMA" || (c.verdict === "EXCEPTION" && !overflows);
      if (fits) Document.from(c.doc).apply(c.op);
      else refuses(() => Document.from(c.doc).apply(c.op));
    },
    (c) => {
      if (usualSet) expect(refusedForSurrogates(c), "is listed").toBe(BEYOND_BMP.has(c.id));
      return refusedForSurrogates(c);
    },
    (c) => checkWellFormed(c.op),
  );

  run("wavelet_transform.jsonl", (c) => {
    const act = () => transformOperation(c.client, c.client_author, c.server);
    if (c.error !== undefined) return refuses(act);
    const result = act();
    same(result.client, c.client_t);
    same(result.server, c.server_t);
  });

  run(
    "delta_transform.jsonl",
    (c) => {
      const act = () => transformDelta({ author: c.client_author, operations: c.client }, c.server);
      if (c.delta_pair.error !== undefined) return refuses(act);
      const result = act();
      same(result.client, c.delta_pair.client_t);
      same(result.server, c.delta_pair.server_t);
    },
    // The reference takes equal operations of one author for a resend. Ours is known by session and sequence, and two
    // equal edits from two devices both count.
    (c) => c.duplicate,
    (c) => {
      const result = transformDelta({ author: c.client_author, operations: c.client }, c.server);
      expect(result.client.length).toBe(c.client.length);
      expect(result.server.length).toBe(c.server.length);
    },
  );
});

/** The order of the reference's collector: pairs of equal weight first, as in a binary counter. */
function balanced(ops: readonly DocOp[]): DocOp {
  const levels: (DocOp | null)[] = [];
  for (let op of ops) {
    let level = 0;
    for (; levels[level] != null; level++) {
      op = compose(levels[level]!, op);
      levels[level] = null;
    }
    levels[level] = op;
  }
  return levels.reduce<DocOp | null>((sum, op) => (op === null ? sum : sum === null ? op : compose(op, sum)), null)!;
}
