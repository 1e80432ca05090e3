/**
 * Two people in two browsers: on one real server that this starts, or, when `BILLOW_DEMO` holds the line that
 * `billow demo --json` printed, alice and bob on its two servers. They register (or sign in), make a wave, add, type at once, reply inline, carets, unread,
 * a break of the connection (not with the demo), a reload.
 *
 *   BILLOW_BIN=../target/debug/billow node e2e/two-people.mjs [FOLDER FOR PICTURES]
 *
 * The server shows `web/dist`: run `npm run build` before.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { launch } from "./browser.mjs";

const pictures = process.argv[2] ?? mkdtempSync(join(tmpdir(), "billow-pictures-"));
mkdirSync(pictures, { recursive: true });
const folder = mkdtempSync(join(tmpdir(), "billow-"));
const port = await new Promise((done) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});
writeFileSync(
  join(folder, "billow.toml"),
  `domain = "localhost"\ndata_dir = ${JSON.stringify(join(folder, "data"))}\n[http]\nlisten = "127.0.0.1:${port}"\n[accounts]\nregistration = "open"\n`,
);
const demo = process.env["BILLOW_DEMO"] ? JSON.parse(process.env["BILLOW_DEMO"]) : null;
let server = demo ? null : await serve();
const browser = await launch();
const faults = [];
const step = (name) => console.log(`ok ${name}`);
const PASSWORD = "correct horse battery";
const users = (demo?.servers ?? []).flatMap(({ domain, url, users }) => users.map((user) => ({ ...user, domain, url })));

/** Where a person is, and whether there is an account already. */
function account(name) {
  const user = users.find(({ address }) => address.startsWith(`${name}@`));
  return user ?? { url: `http://127.0.0.1:${port}`, address: `${name}@localhost`, domain: "localhost", password: PASSWORD, isNew: true };
}

async function serve() {
  const child = spawn(resolve(process.env["BILLOW_BIN"] ?? "../target/debug/billow"), ["serve", "--config", join(folder, "billow.toml")], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((ready, failed) => {
    child.stdout.once("data", ready);
    child.once("exit", (code) => failed(new Error(`the server ended with ${code}`)));
  });
  return child;
}

async function stop() {
  if (!server) return;
  const gone = new Promise((done) => server.once("exit", done));
  server.kill("SIGTERM");
  await gone;
}

async function person(name) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error.message}`));
  page.on("console", (message) => {
    // A server that is away is what this test is about; the browser notes it as an error.
    if (message.type() === "error" && !/ERR_CONNECTION|WebSocket|401|net::/.test(message.text())) faults.push(`${name}: ${message.text()}`);
  });
  const { url, password, isNew } = account(name);
  await page.goto(url);
  if (isNew) await page.getByRole("button", { name: "New here: register" }).click();
  await page.getByLabel("Address").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: isNew ? "Register" : "Sign in", exact: true }).click();
  await page.getByRole("heading", { name: "Inbox" }).waitFor();
  return page;
}

/** The text of the first message, as its document has it: no names of carets, no markers, no threads. */
const texts = (page) =>
  page.locator(".blip-text").first().evaluate((text) => {
    const lines = [...text.children].filter((child) => child.classList.contains("line"));
    return lines
      .map((line) => {
        const copy = line.cloneNode(true);
        for (const extra of copy.querySelectorAll(".remote-caret, .reply-anchor")) extra.remove();
        return copy.textContent;
      })
      .join("\n");
  });
async function until(what, condition, ms = 10_000) {
  const end = Date.now() + ms;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

let alice;
let bob;
try {
  [alice, bob] = [await person("alice"), await person("bob")];
  step("two people come in");

  await alice.getByRole("button", { name: "New wave" }).first().click();
  await alice.locator(".blip-text.ProseMirror-focused").waitFor();
  await alice.keyboard.type("Spring release");
  await alice.keyboard.press("Enter");
  await alice.keyboard.type("Three dates.");
  await until("it is saved", async () => (await alice.locator(".chip").first().innerText()).includes("Saved"));
  step("alice makes a wave");

  await alice.getByRole("button", { name: "Add people" }).click();
  await alice.getByLabel("Address").fill(account("bob").address);
  await alice.getByRole("button", { name: "Add", exact: true }).click();
  if (account("alice").domain !== account("bob").domain) {
    assert.match(await alice.locator("dialog").innerText(), /will also be stored at/);
    await alice.getByRole("button", { name: "Add", exact: true }).click();
  }
  const row = bob.locator(".row a", { hasText: "Spring release" });
  await row.waitFor();
  assert.ok((await row.innerText()).includes("unread"));
  await row.click();
  await bob.locator("article.blip").waitFor();
  await until("bob has the text", async () => (await texts(bob)).includes("Three dates."));
  await until("bob has read it", async () => (await bob.locator(".row", { hasText: "Spring release" }).locator(".count").count()) === 0);
  step("bob sees it in his inbox, opens it, has read it");

  await bob.locator(".blip-text").first().click();
  await bob.keyboard.press("Control+End");
  await alice.locator(".blip-text").first().click();
  await alice.keyboard.press("Control+Home");
  await Promise.all([alice.keyboard.type("Draft: ", { delay: 15 }), bob.keyboard.type(" And a fourth one.", { delay: 15 })]);
  await until("both have the same", async () => (await texts(alice)) === (await texts(bob)) && (await texts(alice)).includes("fourth one."));
  assert.equal(await texts(alice), "Draft: Spring release\nThree dates. And a fourth one.");
  await alice.locator(".remote-caret").waitFor({ state: "attached" });
  assert.equal(await alice.locator(".remote-flag").first().textContent(), "Bob");
  const beforeCaret = (page) =>
    page.evaluate(() => {
      const caret = document.querySelector(".remote-caret");
      const range = document.createRange();
      range.setStart(caret.closest(".line"), 0);
      range.setEndBefore(caret);
      return range.toString();
    });
  await until("bob's caret is at the end of what he wrote", async () => (await beforeCaret(alice)) === "Three dates. And a fourth one.");
  await until("alice's caret is at the end of what she wrote", async () => (await beforeCaret(bob)) === "Draft: ");
  await bob.screenshot({ path: join(pictures, "together.png") });
  step("both type in one message at once; texts and carets agree");

  const [left, right] = ["abcdefghijklmnopqrst", "ABCDEFGHIJKLMNOPQRST"];
  const before = (await texts(alice)).length;
  await alice.keyboard.press("Control+End");
  await bob.keyboard.press("Control+End");
  await Promise.all([alice.keyboard.type(left, { delay: 8 }), bob.keyboard.type(right, { delay: 8 })]);
  await until("both have all", async () => (await texts(alice)) === (await texts(bob)) && (await texts(alice)).length >= before + left.length + right.length);
  const end = (await texts(alice)).slice("Draft: Spring release\nThree dates. And a fourth one.".length);
  assert.ok(end.includes(left) && end.includes(right), `words stay whole: ${end}`);
  step("at one and the same place the words of each stay whole");

  await bob.locator(".blip-text .line").first().dblclick();
  await bob.locator(".reply-bubble").click();
  await bob.locator(".inline-thread .blip-text.ProseMirror-focused").waitFor();
  await bob.keyboard.type("Which one?");
  await until("alice sees the inline reply", async () => (await alice.locator(".inline-thread").innerText()).includes("Which one?"));
  assert.equal(await alice.locator(".reply-marker").innerText(), "1");
  await alice.screenshot({ path: join(pictures, "inline.png") });
  step("bob replies inline");

  await alice.locator("#composer").click();
  await alice.locator("article.blip:last-of-type .blip-text.ProseMirror-focused").last().waitFor();
  await stop();
  await alice.keyboard.type("Written while the server is away", { delay: 5 });
  if (server) {
    await until("alice is told", async () => (await alice.locator(".chip").first().innerText()).includes("not sent"));
    await alice.locator(".connection-bar").waitFor();
    await alice.screenshot({ path: join(pictures, "away.png") });
    server = await serve();
  }
  await until("it is sent", async () => (await alice.locator(".chip").first().innerText()).includes("Saved"), 30_000);
  await until("bob has it", async () => (await bob.locator("article.blip").last().innerText()).includes("Written while the server is away"), 30_000);
  step("what is written while the server is away is kept and sent");

  const shown = await texts(alice);
  await alice.reload();
  await until("it is there again", async () => (await alice.locator(".blip-text").count()) >= 3 && (await texts(alice)) === shown);
  step("a reload shows the same");

  assert.deepEqual(faults, []);
  step("no error in the console");
} catch (error) {
  for (const [name, page] of [["alice", alice], ["bob", bob]]) await page?.screenshot({ path: join(pictures, `failed-${name}.png`) });
  console.log(faults, `pictures in ${pictures}`);
  throw error;
} finally {
  await browser.close();
  await stop();
  rmSync(folder, { recursive: true, force: true });
}
