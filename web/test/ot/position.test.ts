/** Positions stay beside the text they were beside. */

import { describe, expect, it } from "vitest";
import { movePosition } from "../../src/ot/position";

describe("a position", () => {
  it("moves with what is inserted and deleted before it", () => {
    const op = [{ retain: 2 }, { characters: "😀b" }, { retain: 1 }, { deleteCharacters: "xyz" }, { retain: 4 }];
    expect([0, 1, 2, 3, 4, 5, 6, 7, 10].map((at) => movePosition(op, at))).toEqual([0, 1, 2, 5, 5, 5, 5, 6, 9]);
    expect(movePosition(op, 2, true)).toBe(4);
  });

  it("stays where only others' attributes and annotations change", () => {
    const op = [
      { annotationBoundary: { end: [], change: [{ key: "k", old: null, new: "v" }] } },
      { updateAttributes: [] },
      { retain: 3 },
      { annotationBoundary: { end: ["k"], change: [] } },
    ];
    expect([0, 1, 2, 4].map((at) => movePosition(op, at))).toEqual([0, 1, 2, 4]);
  });
});
