/**
 * Wave document ⇄ ProseMirror document, without loss.
 *
 * The editor shows the content of the first `<body>`; what stands before and after it is kept aside in a `Frame`.
 * A body that does not begin with a line (no client of ours makes one) cannot be edited here.
 */
import { Fragment, type Node } from "prosemirror-model";
import type { OpComponent } from "../wire/messages";
import { type Annotations, byKey, endOf, type Item, itemsOf, type Pair } from "./items";
import { annotationsOf, LINE_ATTRIBUTES, marksOf, schema } from "./schema";
import { OpWriter } from "./writer";

/** What stands around the body's content: items up to and with `<body>`, and from `</body>` on. */
export type Frame = { readonly before: readonly Item[]; readonly after: readonly Item[] };

export type Blip = { readonly doc: Node; readonly frame: Frame };

/** Null when there is no body that begins with a line (a deleted blip, or something foreign). */
export function blipOf(content: readonly OpComponent[]): Blip | null {
  const items = itemsOf(content);
  let start = 0;
  for (; start < items.length; start++) {
    const item = items[start]!;
    if (item.kind !== "start") continue;
    if (item.type === "body") break;
    start = endOf(items, start);
  }
  if (start === items.length) return null;
  const end = endOf(items, start);
  const first = items[start + 1]!;
  if (first.kind !== "start" || first.type !== "line") return null;
  const frame = { before: items.slice(0, start + 1), after: items.slice(end) };
  return { doc: schema.node("doc", null, linesOf(items.slice(start + 1, end))), frame };
}

/** Lines of a run of body items that begins with a line. */
export function linesOf(items: readonly Item[]): Node[] {
  const lines: Node[] = [];
  let attrs: Record<string, unknown> = {};
  let inline: Node[] = [];
  const flush = () => lines.push(schema.node("line", attrs, Fragment.fromArray(inline)));
  let open = false;
  for (let at = 0; at < items.length; at++) {
    const item = items[at]!;
    if (item.kind === "char") {
      let text = item.char;
      while (at + 1 < items.length) {
        const next = items[at + 1]!;
        if (next.kind !== "char" || next.annotations !== item.annotations) break;
        text += next.char;
        at++;
      }
      inline.push(schema.text(text, marksOf(item.annotations)));
      continue;
    }
    const end = endOf(items, at);
    if (item.kind === "start" && item.type === "line" && end === at + 1) {
      if (open) flush();
      open = true;
      inline = [];
      attrs = lineAttrs(item.attributes, item.annotations, items[end]!.annotations);
    } else {
      inline.push(elementNode(items.slice(at, end + 1)));
    }
    at = end;
  }
  if (open) flush();
  return lines;
}

/** Attributes of a line node. */
export function lineAttrs(attributes: readonly Pair[], annotations: Annotations, end: Annotations): Record<string, unknown> {
  const attrs: Record<string, unknown> = { annotations, endAnnotations: end === annotations ? null : end };
  const more: Pair[] = [];
  for (const [name, value] of attributes) {
    if ((LINE_ATTRIBUTES as readonly string[]).includes(name)) attrs[name] = value;
    else more.push([name, value]);
  }
  attrs["more"] = more.length > 0 ? JSON.stringify(more) : "";
  return attrs;
}

/** The node of an inline element, given all its items. */
export function elementNode(items: readonly Item[]): Node {
  const first = items[0]!;
  if (first.kind !== "start") throw new Error("expected an element");
  const marks = marksOf(first.annotations);
  const id = first.attributes.find(([name]) => name === "id");
  if (first.type === "reply" && items.length === 2 && id) {
    const more = first.attributes.filter(([name]) => name !== "id");
    const end = items[1]!.annotations;
    const attrs = { id: id[1], more: more.length > 0 ? JSON.stringify(more) : "", endAnnotations: end === first.annotations ? null : end };
    return schema.node("reply", attrs, Fragment.empty, marks);
  }
  const attributes = first.attributes.length > 0 ? JSON.stringify(first.attributes) : "";
  return schema.node("unknown", { type: first.type, attributes, inner: JSON.stringify(items.slice(1)) }, Fragment.empty, marks);
}

const pairs = (json: string): Pair[] => (json === "" ? [] : (JSON.parse(json) as Pair[]));

/** The two items of a line node. */
export function lineItems(line: Node): [Item, Item] {
  const attributes = pairs(line.attrs["more"]);
  for (const name of LINE_ATTRIBUTES) if (line.attrs[name] !== null) attributes.push([name, line.attrs[name]]);
  attributes.sort(byKey);
  const annotations: Annotations = line.attrs["annotations"];
  return [
    { kind: "start", type: "line", attributes, annotations },
    { kind: "end", annotations: line.attrs["endAnnotations"] ?? annotations },
  ];
}

/** The items of an inline element's node. */
export function elementItems(node: Node): Item[] {
  const annotations = annotationsOf(node.marks);
  if (node.type.name === "reply") {
    const attributes = [...pairs(node.attrs["more"]), ["id", node.attrs["id"]] as Pair].sort(byKey);
    return [
      { kind: "start", type: "reply", attributes, annotations },
      { kind: "end", annotations: node.attrs["endAnnotations"] ?? annotations },
    ];
  }
  const { type, attributes, inner } = node.attrs;
  return [{ kind: "start", type, attributes: pairs(attributes), annotations }, ...(JSON.parse(inner) as Item[])];
}

/** The items of the text of one line node between two offsets into its content. */
export function inlineItems(line: Node, from = 0, to = line.content.size): Item[] {
  const items: Item[] = [];
  line.forEach((node, offset) => {
    if (offset + node.nodeSize <= from || offset >= to) return;
    if (!node.isText) {
      items.push(...elementItems(node));
      return;
    }
    const annotations = annotationsOf(node.marks);
    const text = node.text!.slice(Math.max(0, from - offset), to - offset);
    for (const char of text) items.push({ kind: "char", char, annotations });
  });
  return items;
}

/** All items of a blip. */
export function blipItems(blip: Blip): Item[] {
  const items = [...blip.frame.before];
  blip.doc.forEach((line) => items.push(...lineItems(line), ...inlineItems(line)));
  return [...items, ...blip.frame.after];
}

/** A blip as an operation of insertions. */
export function contentOf(blip: Blip): OpComponent[] {
  const writer = new OpWriter();
  for (const item of blipItems(blip)) writer.insert(item);
  return writer.finish();
}
