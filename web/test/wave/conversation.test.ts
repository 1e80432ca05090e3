/** Conversations: the operations are those that the reference's own model makes for the same action. */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { Document } from "../../src/ot/document";
import type { Operation } from "../../src/ot/op";
import * as conversation from "../../src/wave/conversation";
import { isWorthy, WaveletCopy } from "../../src/wave/wavelet";

const here = dirname(fileURLToPath(import.meta.url));
const directory = resolve(process.env["BILLOW_VECTORS"] ?? join(here, "../../../../shared/vectors"));

function lines(file: string): { wavelet: string; action: string; ops: Operation[]; [key: string]: unknown }[] {
  const text = readFileSync(join(directory, file), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

/** The actions of the file that the client has too, by a start of their names; those with null belong to the one before. */
const ACTIONS: Record<string, ((docs: conversation.Documents) => Operation[]) | null> = {
  "append first blip": (docs) => conversation.appendBlip(docs, null, "b+seedA"),
  "append second blip": (docs) => conversation.appendBlip(docs, null, "b+seedB"),
  "add reply thread": (docs) => conversation.replyTo(docs, "b+seedA", "b+seedC"),
  "append blip to reply thread": null,
  "add inline reply thread": (docs) => conversation.replyInlineTo(docs, "b+seedA", 6, "b+seedD"),
  "append blip to inline reply": null,
  "delete items [4,10)": (docs) => [
    { mutateDocument: { documentId: "b+seedA", operation: docs("b+seedA").deletion(4, 10) } },
  ],
  "delete the only blip": (docs) => conversation.deleteBlip(docs, "b+seedC"),
  "delete inline reply thread": (docs) => conversation.deleteBlip(docs, "b+seedD"),
  "delete second blip": (docs) => conversation.deleteBlip(docs, "b+seedB"),
};

describe("a conversation", () => {
  it("is changed by the reference's operations: model_ops.jsonl", (context) => {
    if (!existsSync(join(directory, "model_ops.jsonl")) && existsSync(directory)) return context.skip();
    const copy = new WaveletCopy("example.com/w+1/~/conv+root", "example.com");
    let made: Operation[] = [];
    let compared = 0;
    for (const { wavelet, action, ops } of lines("model_ops.jsonl")) {
      if (wavelet !== "conv+root" || ops === undefined) continue;
      const name = Object.keys(ACTIONS).find((start) => action.startsWith(start));
      if (name !== undefined) {
        made = ACTIONS[name]?.((id) => copy.document(id)) ?? made;
        expect(made.slice(0, ops.length), action).toEqual(ops);
        made = made.slice(ops.length);
        compared++;
      }
      copy.applyAll(ops);
    }
    expect(compared).toBe(Object.keys(ACTIONS).length);
    expect(conversation.linesOf(copy.document("b+seedA"))).toEqual(["H日本ave. More text", "second line"]);
    console.log(`model_ops.jsonl: ${compared} actions compared`);
  });

  it("knows which operations make a blip unread: attribution.jsonl", () => {
    const cases = lines("attribution.jsonl") as unknown as { op: never; worthy: boolean; documentId?: string }[];
    const wrong = cases.filter((c) => isWorthy(c.documentId ?? "b+1", c.op) !== c.worthy);
    console.log(`attribution.jsonl: ${cases.length} cases run, ${cases.length - wrong.length} passed`);
    expect(wrong).toEqual([]);
  });

  it("reads threads, replies and places", () => {
    const docs = new Map<string, Document>();
    const documents = (id: string): Document => docs.get(id) ?? Document.empty;
    const act = (ops: Operation[]): void => {
      for (const op of ops) {
        if (!("mutateDocument" in op)) continue;
        docs.set(op.mutateDocument.documentId, documents(op.mutateDocument.documentId).apply(op.mutateDocument.operation));
      }
    };
    act(conversation.appendBlip(documents, null, "b+1"));
    act(conversation.appendBlip(documents, null, "b+2"));
    act(conversation.replyTo(documents, "b+1", "b+3"));
    act(conversation.replyInlineTo(documents, "b+1", 3, "b+4"));
    act(conversation.appendBlip(documents, "b+3", "b+5"));
    const read = conversation.readConversation(documents("conversation"));
    expect(read.root.blips.map((b) => b.id)).toEqual(["b+1", "b+2"]);
    expect(read.root.blips[0]!.threads.map((t) => [t.id, t.inline, t.blips.map((b) => b.id)])).toEqual([
      ["b+3", false, ["b+3", "b+5"]],
      ["b+4", true, ["b+4"]],
    ]);
    expect([...read.blips.keys()]).toEqual(["b+1", "b+3", "b+5", "b+4", "b+2"]);
    expect(read.parents.get("b+4")).toBe("b+1");
    expect(conversation.anchorOf(documents("b+1"), "b+4")).toBe(3);
    act(conversation.deleteBlip(documents, "b+1"));
    expect(conversation.readConversation(documents("conversation")).root.blips.map((b) => b.id)).toEqual(["b+2"]);
    expect(["b+1", "b+3", "b+4", "b+5"].map((id) => documents(id).length)).toEqual([0, 0, 0, 0]);
  });

  it("takes the title from conv/title, or from the first line with text", () => {
    const plain = Document.from(conversation.emptyBlip("Hello 😀"));
    expect(conversation.titleOf(plain)).toBe("Hello 😀");
    const named = plain.apply([
      { annotationBoundary: { end: [], change: [{ key: "conv/title", old: null, new: "Named" }] } },
      { retain: plain.length },
      { annotationBoundary: { end: ["conv/title"], change: [] } },
    ]);
    expect(conversation.titleOf(named)).toBe("Named");
    expect(conversation.snippetOf(plain, 6)).toBe("Hello ");
    expect(conversation.titleOf(Document.empty)).toBe("");
  });
});
