/**
 * Counting text: a wave counts items, one per Unicode code point; the browser counts UTF-16 units. Every conversion
 * between the two is in this file.
 */

const SURROGATE = /[\ud800-\udfff]/;

/** How many items a text is. */
export function itemCount(text: string): number {
  if (!SURROGATE.test(text)) return text.length;
  let count = 0;
  for (let i = 0; i < text.length; i += unitsAt(text, i)) count++;
  return count;
}

/** The UTF-16 offset in `text` after `items` items; the text's end when it has fewer. */
export function unitOffset(text: string, items: number): number {
  if (!SURROGATE.test(text)) return Math.min(items, text.length);
  let at = 0;
  for (let n = 0; n < items && at < text.length; n++) at += unitsAt(text, at);
  return at;
}

/** How many items lie before a UTF-16 offset; an offset inside a pair counts the whole pair. */
export function itemOffset(text: string, units: number): number {
  return itemCount(text.slice(0, isInsidePair(text, units) ? units + 1 : units));
}

/** `text` cut after `items` items. */
export function splitItems(text: string, items: number): [string, string] {
  const at = unitOffset(text, items);
  return [text.slice(0, at), text.slice(at)];
}

/** The items of a text, each a string of one code point. */
export function itemsOf(text: string): string[] {
  return SURROGATE.test(text) ? Array.from(text) : text.split("");
}

/** The order of keys everywhere in an operation: by UTF-16 code units, which is how JavaScript compares strings. */
export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function unitsAt(text: string, at: number): number {
  const high = text.charCodeAt(at);
  if (high < 0xd800 || high > 0xdbff || at + 1 >= text.length) return 1;
  const low = text.charCodeAt(at + 1);
  return low >= 0xdc00 && low <= 0xdfff ? 2 : 1;
}

function isInsidePair(text: string, at: number): boolean {
  return at > 0 && at < text.length && unitsAt(text, at - 1) === 2;
}
