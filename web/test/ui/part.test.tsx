// @vitest-environment happy-dom
/** Conversations that a foreign server has made too long, too deep or in circles. */

import { render } from "preact";
import { act } from "preact/test-utils";
import { beforeAll, describe, expect, it } from "vitest";
import { Document } from "../../src/ot/document";
import type { OpComponent } from "../../src/ot/op";
import { AppContext, type Context } from "../../src/ui/context";
import { countOf, DEPTH, PART, partOf, ShownPart } from "../../src/ui/part";
import { ThreadView } from "../../src/ui/thread";
import { blipsOf } from "../../src/ui/thread-marks";
import type { Wavelet } from "../../src/wave/client";
import { type Conversation, deleteBlip, emptyBlip, readConversation } from "../../src/wave/conversation";
import { Emitter, Value } from "../../src/wave/observable";

const start = (type: string, id?: string): OpComponent => ({ elementStart: { type, attributes: id === undefined ? [] : [["id", id]] } });
const end: OpComponent = { elementEnd: true };
const blip = (id: string, inside: OpComponent[] = []): OpComponent[] => [start("blip", id), ...inside, end];
const manifest = (inside: OpComponent[]): Document => Document.from([start("conversation"), ...inside, end]);

/** Threads within threads, each with one message. */
function deep(levels: number): Document {
  const opening = Array.from({ length: levels }, (_, n) => [start("blip", `b+${n}`), start("thread", `t+${n}`)]).flat();
  return manifest([...opening, ...opening.map(() => end)]);
}

/** A wavelet as far as the page looks at it, with this conversation. */
function wavelet(documents: ReadonlyMap<string, Document>): { wavelet: Wavelet; conversation: Conversation } {
  const conversation = readConversation(documents.get("conversation")!);
  const blips = new Map<string, unknown>();
  const made = (id: string) => ({
    id,
    document: new Value(documents.get(id) ?? Document.empty),
    meta: new Value(null),
    unread: new Value(false),
    unsent: new Value([]),
    changes: new Emitter(),
    submit: () => {},
  });
  const fake = {
    conversation: new Value(conversation),
    title: new Value("Hi"),
    writable: new Value(false),
    carets: new Value([]),
    participants: new Value([]),
    setCaret: () => {},
    markRead: () => {},
    blip: (id: string) => blips.get(id) ?? blips.set(id, made(id)).get(id),
  };
  return { wavelet: fake as unknown as Wavelet, conversation };
}

const app = { me: { address: "alice@example.org", domains: ["example.org"] } } as unknown as Context;

function page(documents: ReadonlyMap<string, Document>): HTMLElement {
  const shown = wavelet(documents);
  const element = document.createElement("div");
  act(() =>
    render(
      <AppContext.Provider value={app}>
        <ShownPart conversation={shown.conversation}>
          <ThreadView wavelet={shown.wavelet} thread={shown.conversation.root} />
        </ShownPart>
      </AppContext.Provider>,
      element,
    ),
  );
  return element;
}

const articles = (element: HTMLElement) => element.querySelectorAll("article.blip").length;
const more = (element: HTMLElement) => [...element.querySelectorAll<HTMLButtonElement>(".show-more")];

beforeAll(() => {
  globalThis.IntersectionObserver ??= class {
    observe(): void {}
    disconnect(): void {}
  } as unknown as typeof IntersectionObserver;
});

describe("b_138_ conversations that no person would make", () => {
  it("b_138_ten_thousand_threads_within_threads_are_shown_so_deep_and_deeper_on_demand", () => {
    const document = deep(10_000);
    const { root } = readConversation(document);
    expect(blipsOf(root).length).toBe(10_000);
    expect(countOf([root])).toBe(10_000);
    expect(partOf(root, PART, new Set()).size).toBe(1 + DEPTH + DEPTH + 1);
    const element = page(new Map([["conversation", document]]));
    expect(articles(element)).toBe(DEPTH + 1);
    const [button, ...others] = more(element);
    expect(others).toEqual([]);
    expect(button!.textContent).toBe(`Show ${9_999 - DEPTH} more replies`);
    act(() => button!.click());
    expect(articles(element)).toBe(2 * (DEPTH + 1));
    // What removes a message looks for its thread as deep as it is.
    const texts = new Map([["conversation", document], ["b+9999", Document.from(emptyBlip("x"))]]);
    expect(deleteBlip((id) => texts.get(id) ?? Document.empty, "b+9999").length).toBeGreaterThan(0);
  });

  it("b_138_a_hundred_thousand_threads_are_shown_in_part", () => {
    const threads = Array.from({ length: 100_000 }, (_, n) => [start("thread", `t+${n}`), ...blip(`b+${n}`), end]).flat();
    const element = page(new Map([["conversation", manifest(blip("b+root", threads))]]));
    expect(articles(element)).toBeLessThanOrEqual(PART);
    expect(more(element).map((button) => button.textContent)).toContain("Show more of over 10,000 replies");
    const before = element.querySelectorAll("*").length;
    expect(before).toBeLessThan(50 * PART);
  });

  it("b_138_a_hundred_thousand_messages_are_shown_in_part", () => {
    const blips = Array.from({ length: 100_000 }, (_, n) => blip(`b+${n}`)).flat();
    const element = page(new Map([["conversation", manifest(blips)]]));
    expect(articles(element)).toBe(PART);
    act(() => more(element)[0]!.click());
    expect(articles(element)).toBe(2 * PART);
  });

  it("b_138_circles_doubles_and_messages_that_are_not_there", () => {
    // A thread below itself and a message below itself, by name; one twice in a thread; one whose document is missing.
    const inner = [start("thread", "t+1"), ...blip("b+1"), ...blip("b+2"), ...blip("b+2"), end];
    const circle = manifest([...blip("b+1", [start("thread", "t+1"), ...blip("b+1", inner), end]), ...blip("b+missing")]);
    const element = page(new Map([["conversation", circle], ["b+1", Document.from(emptyBlip("once"))]]));
    expect(articles(element)).toBe(5);
    expect(more(element)).toEqual([]);
    expect(element.textContent).toContain("There is nothing to show here.");
  });
});
