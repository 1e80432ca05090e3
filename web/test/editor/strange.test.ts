// @vitest-environment happy-dom
/** Documents that break the schema, as a foreign host may have them: what is shown of them does nothing. */

import { beforeAll, describe, expect, it } from "vitest";
import { BlipEditor } from "../../src/editor/blip-editor";
import { Document } from "../../src/ot/document";
import type { OpComponent } from "../../src/ot/op";

const start = (type: string, attributes: [string, string][] = []): OpComponent => ({ elementStart: { type, attributes } });
const end: OpComponent = { elementEnd: true };
const line = (attributes: [string, string][] = []): OpComponent[] => [start("line", attributes), end];
const text = (characters: string): OpComponent => ({ characters });

beforeAll(() => {
  document.elementFromPoint ??= () => null;
});

/** What is on the page for a document. */
function shown(components: OpComponent[]): HTMLElement {
  const place = document.body.appendChild(document.createElement("div"));
  const content = Document.from(components);
  const nothing = () => {};
  BlipEditor.mount(
    place.appendChild(document.createElement("div")),
    { content: () => content.toOp(), edit: nothing },
    { changed: nothing, focused: nothing, left: nothing, caret: nothing, link: nothing, replyHere: nothing, leave: nothing, finish: nothing, toggleThread: nothing, gone: nothing },
    "Text",
  );
  return place;
}

const HANDLERS = "[onclick], [onerror], [onload], [onmouseover], [style*='url']";

describe("documents that break the schema", () => {
  const breaks: [string, string, OpComponent[]][] = [
    ["text outside of the body", "in", [text("<img src=x onerror=alert(1)>"), start("body"), ...line(), text("in"), end, text("bare")]],
    ["an unknown element", "after", [start("body"), ...line(), start("script"), text("alert(1)"), end, text("after"), end]],
    ["an unknown element with a source", "after", [start("body"), ...line(), start("img", [["onerror", "alert(1)"], ["src", "x"]]), end, start("iframe", [["src", "javascript:alert(1)"]]), end, text("after"), end]],
    ["attributes that are not allowed", "after", [start("body"), ...line([["onclick", "alert(1)"], ["style", "background:url(x)"], ["t", "\"><script>"]]), text("after"), end]],
    ["a second body", "first", [start("body"), ...line(), text("first"), end, start("body"), ...line(), text("second"), end]],
    ["a body within", "", [start("body", [["onload", "alert(1)"]]), ...line(), start("body"), ...line(), text("inner"), end, end]],
    ["no body at all", "", [start("html"), start("script"), text("alert(1)"), end, end]],
  ];

  for (const [what, seen, components] of breaks) {
    it(`b_137_${what.replaceAll(" ", "_")}`, () => {
      const page = shown(components);
      expect(page.querySelectorAll("script, iframe, object, embed, img[src='x'], html, body").length).toBe(0);
      expect(page.querySelectorAll(HANDLERS).length).toBe(0);
      expect(page.textContent).toBe(seen);
    });
  }

  it("b_137_links_that_are_programs_are_no_links", () => {
    const link = (value: string): OpComponent => ({ annotationBoundary: { end: [], change: [{ key: "link/manual", old: null, new: value }] } });
    const over: OpComponent = { annotationBoundary: { end: ["link/manual"], change: [] } };
    for (const value of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,<script>alert(1)</script>", "vbscript:x"]) {
      const page = shown([start("body"), ...line(), link(value), text("click"), over, end]);
      for (const anchor of page.querySelectorAll("a")) expect(anchor.getAttribute("href") ?? "").not.toMatch(/^\s*(javascript|data|vbscript):/i);
    }
  });
});
