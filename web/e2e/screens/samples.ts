/** Waves to look at. */
import type { Caret } from "../../src/wave/client";
import type { OpComponent } from "../../src/wire/messages";

export const ALICE = "alice@initech.lab";
export const BOB = "bob@acme.lab";
const CAROL = "carol.weiss@initech.lab";

type SampleBlip = { readonly content: readonly OpComponent[]; readonly author: string; readonly time: number; readonly unread: boolean };

export type Sample = {
  readonly wave: string;
  readonly people: readonly string[];
  readonly snippet: string;
  readonly unread: number;
  readonly time: number;
  readonly waiting: string[];
  readonly documents: Record<string, SampleBlip>;
  readonly carets: readonly Caret[];
};

const start = (type: string, ...attributes: [string, string][]): OpComponent => ({ elementStart: { type, attributes } });
const END: OpComponent = { elementEnd: true };
const line = (...attributes: [string, string][]): OpComponent[] => [start("line", ...attributes), END];
const set = (key: string, value: string): OpComponent => ({ annotationBoundary: { end: [], change: [{ key, old: null, new: value }] } });
const unset = (key: string): OpComponent => ({ annotationBoundary: { end: [key], change: [] } });
const text = (characters: string): OpComponent => ({ characters });
const body = (...content: OpComponent[]) => [start("body"), ...content, END];

export function samples(): Sample[] {
  const now = Date.now();
  const blip = (content: OpComponent[], author: string, minutes: number, unread = false): SampleBlip => ({ content, author, time: now - minutes * 60_000, unread });
  const manifest = [
    start("conversation"), start("blip", ["id", "b+1"]),
    start("thread", ["id", "t+in"], ["inline", "true"]), start("blip", ["id", "b+4"]), END, END,
    start("thread", ["id", "t+re"]), start("blip", ["id", "b+2"]), END, start("blip", ["id", "b+5"]), END, END,
    END, start("blip", ["id", "b+3"]), END, END,
  ];
  const spring = body(
    ...line(["t", "h1"]), text("Spring release"),
    ...line(), text("We agreed on "), set("style/fontWeight", "bold"), text("three dates"), unset("style/fontWeight"), start("reply", ["id", "t+in"]), END,
    text(" and one open question. The full list is on "), set("link/manual", "https://example.org/plan"), text("the plan"), unset("link/manual"), text("."),
    ...line(["t", "li"]), text("Feature freeze on the 4th"), ...line(["t", "li"]), text("Candidate on the 11th"),
    ...line(["i", "1"], ["t", "li"]), text("with notes for both organisations"),
    ...line(["listyle", "decimal"], ["t", "li"]), text("Test"), ...line(["listyle", "decimal"], ["t", "li"]), text("Release"),
    ...line(), set("style/fontStyle", "italic"), text("Nothing"), unset("style/fontStyle"), text(" of this is final; "), set("style/textDecoration", "line-through"), text("Monday"), unset("style/textDecoration"), text(" Tuesday we decide."),
  );
  const documents = {
    conversation: blip(manifest, ALICE, 90),
    "b+1": blip(spring, ALICE, 90),
    "b+2": blip(body(...line(), text("The 4th is a holiday here. Could it be the 3rd?")), BOB, 40),
    "b+3": blip(body(...line(), text("I have put the figures in. Have a look when you can, the second table is new.")), BOB, 6, true),
    "b+4": blip(body(...line(), text("Which three? I see only two.")), BOB, 30, true),
    "b+5": blip(body(...line(), text("Fine with us.")), CAROL, 35),
  };
  const carets: Caret[] = [{ address: BOB, session: "s1", document: "b+1", anchor: 20, focus: 26, typing: true }];
  const small = (title: string) => ({
    conversation: blip([start("conversation"), start("blip", ["id", "b+1"]), END, END], ALICE, 900),
    "b+1": blip(body(...line(), text(title)), ALICE, 900),
  });
  const wave = (id: string, title: string, people: string[], minutes: number, more: Partial<Sample> = {}): Sample => ({
    wave: `initech.lab/${id}`, people, snippet: "Shall we talk on Thursday?", unread: 0, time: now - minutes * 60_000, waiting: [], documents: small(title), carets: [], ...more,
  });
  return [
    wave("w+spring", "Spring release", [ALICE, BOB, CAROL], 6, { snippet: "I have put the figures in. Have a look when you can", unread: 2, documents, carets }),
    wave("w+budget", "Budget", [ALICE, BOB], 130, { waiting: ["acme.lab"] }),
    wave("w+lunch", "Lunch on Friday, and where to go with twelve people and a dog", [ALICE, CAROL], 3000),
  ];
}
