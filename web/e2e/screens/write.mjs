/** Writes in the client on samples with a real browser: typing, styles, lists, IME, inline replies, undo. */
import assert from "node:assert/strict";
import { preview } from "vite";
import { launch } from "../browser.mjs";

const server = await preview({ configFile: new URL("vite.config.ts", import.meta.url).pathname });
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1360, height: 860 } });
const page = await context.newPage();
const faults = [];
page.on("pageerror", (error) => faults.push(error.message));
page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
const step = (name) => console.log(`ok ${name}`);
try {
  await page.goto("http://127.0.0.1:4179/w/initech.lab/w+budget");
  const first = page.locator(".blip-text").first();
  await first.click();
  await page.keyboard.press("End");
  await page.keyboard.type(" for 2027");
  assert.equal(await first.innerText(), "Budget for 2027");
  assert.equal(await page.locator("h1").first().innerText(), "Budget for 2027");
  step("typing by clicking the text");

  await page.keyboard.press("Enter");
  await page.keyboard.type("some ");
  await page.keyboard.press("Control+b");
  await page.keyboard.type("bold");
  await page.keyboard.press("Control+b");
  await page.keyboard.press("Control+i");
  await page.keyboard.type(" slanted");
  await page.keyboard.press("Control+i");
  assert.equal(await first.locator("strong").innerText(), "bold");
  assert.equal(await first.locator("em").innerText(), " slanted");
  assert.equal(await page.getByRole("button", { name: "Bold" }).getAttribute("aria-pressed"), "false");
  step("styles by keys");

  await page.keyboard.press("Enter");
  await page.keyboard.press("Control+Shift+8");
  await page.keyboard.type("one");
  await page.keyboard.press("Enter");
  await page.keyboard.type("two");
  assert.equal(await first.locator(".line-bullet").count(), 2);
  await page.keyboard.press("Tab");
  assert.equal(await first.locator(".line-indent-1").innerText(), "two");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Control+Alt+2");
  await page.keyboard.type("Heading");
  assert.equal(await first.locator("h4").innerText(), "Heading");
  step("lists and headings");

  await page.keyboard.press("Enter");
  const client = await context.newCDPSession(page);
  for (const text of ["に", "にほ", "日本"]) await client.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
  await client.send("Input.insertText", { text: "日本" });
  await page.keyboard.type(" 👍");
  assert.equal((await first.innerText()).trim().split("\n").at(-1), "日本 👍");
  step("an input method, and characters beyond the first plane");

  await page.keyboard.press("Control+k");
  await page.keyboard.type("example.org/plan");
  await page.keyboard.press("Enter");
  assert.equal(await first.locator("a").getAttribute("href"), "https://example.org/plan");
  step("a link");

  await page.waitForTimeout(600);
  await page.keyboard.type("x");
  await page.keyboard.press("Control+z");
  assert.ok(!(await first.innerText()).endsWith("x"));
  await page.keyboard.press("Control+z");
  assert.equal(await first.locator("a").count(), 0);
  await page.keyboard.press("Control+Shift+z");
  assert.equal(await first.locator("a").count(), 1);
  step("undo and redo");

  await page.keyboard.press("Control+Home");
  await page.keyboard.press("Control+Shift+ArrowRight");
  await page.locator(".reply-bubble").click();
  await page.waitForTimeout(50);
  await page.keyboard.type("Which one?");
  const thread = page.locator(".inline-thread");
  assert.equal(await thread.locator(".blip-text").innerText(), "Which one?");
  assert.equal(await first.locator(".reply-marker").first().innerText(), "1");
  assert.equal(await page.locator("h1").first().innerText(), "Budget for 2027");
  step("an inline reply at words");

  await page.keyboard.press("Enter");
  await page.keyboard.type("second line");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.className.split(" ")[0]), "blip");
  await page.locator(".reply-marker").first().click();
  assert.equal(await thread.count(), 0);
  await page.locator(".reply-marker").first().click();
  assert.equal(await thread.locator(".blip-text").innerText(), "Which one?\nsecond line");
  step("a thread closes and opens in its place");

  await first.locator("em").click();
  await page.keyboard.press("End");
  await page.keyboard.type(" more");
  assert.ok((await first.innerText()).includes("slanted more"));
  step("the text around a thread goes on");

  await page.locator("#composer").click();
  await page.keyboard.type("An answer");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("article.blip").count(), 3);
  await page.keyboard.press("Enter");
  await page.waitForTimeout(100);
  await page.keyboard.press("Escape");
  await page.locator("h1").first().click();
  await page.waitForTimeout(100);
  assert.equal(await page.locator("article.blip").count(), 3, "an empty answer is taken away");
  step("the composer, and nothing left of an empty answer");

  await page.locator("body").click({ position: { x: 5, y: 400 } });
  await page.keyboard.press("c");
  await page.waitForTimeout(200);
  await page.keyboard.type("A new wave");
  assert.equal(await page.locator("h1").first().innerText(), "A new wave");
  assert.match(page.url(), /\/w\/initech\.lab\/w\+new/);
  step("a new wave by key");
  await page.screenshot({ path: `${process.argv[2] ?? "."}/write.png` });
  await page.goto("http://127.0.0.1:4179/w/initech.lab/w+spring");
  await page.locator("article.blip").first().waitFor();
  const here = () => page.evaluate(() => document.activeElement.closest("[data-blip], .row a, .rail, .text-tools, dialog")?.className.split(" ")[0] || document.activeElement.tagName);
  for (let n = 0; n < 6 && (await here()) !== "blip"; n++) await page.keyboard.press("F6");
  const focused = () => page.evaluate(() => document.activeElement.dataset.blip);
  const first2 = await focused();
  await page.keyboard.press("j");
  assert.notEqual(await focused(), first2);
  await page.keyboard.press("k");
  assert.equal(await focused(), first2);
  await page.keyboard.press("n");
  await page.keyboard.press("?");
  assert.equal(await page.locator("dialog h2").innerText(), "Keys");
  // As a person would: not before the dialog has taken the focus.
  await page.waitForFunction(() => document.activeElement.closest("dialog") !== null);
  await page.waitForTimeout(100);
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached", timeout: 3000 });
  await page.keyboard.press("i");
  assert.equal(await page.evaluate(() => document.activeElement.classList.contains("blip-text")), true);
  await page.keyboard.press("Alt+F10");
  assert.equal(await page.evaluate(() => document.activeElement.closest(".toolbar") !== null), true);
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.closest(".row") !== null), true);
  step("regions, messages, help, tools and the way back by keys");
  await page.screenshot({ path: `${process.argv[2] ?? "."}/write-2.png` });
  assert.deepEqual(faults, []);
  step("no error in the console");
} catch (error) {
  await page.screenshot({ path: `${process.argv[2] ?? "."}/write-failed.png` });
  console.log(faults);
  throw error;
} finally {
  await browser.close();
  await server.close();
}
