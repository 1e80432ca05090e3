/**
 * One person in several tabs and browsers, on a real server that this starts: signing out elsewhere and in again, a session
 * that is ended, a large paste, the password, removing and being removed, and what the sign-in page says.
 *
 *   BILLOW_BIN=../target/debug/billow node e2e/sessions.mjs [FOLDER FOR PICTURES]
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
const server = spawn(resolve(process.env["BILLOW_BIN"] ?? "../target/debug/billow"), ["serve", "--config", join(folder, "billow.toml")], { stdio: ["ignore", "pipe", "inherit"] });
await new Promise((ready, failed) => {
  server.stdout.once("data", ready);
  server.once("exit", (code) => failed(new Error(`the server ended with ${code}`)));
});
const browser = await launch();
const url = `http://127.0.0.1:${port}`;
const PASSWORD = "correct horse battery";
const step = (name) => console.log(`ok ${name}`);
const faults = [];

function watch(page, name) {
  page.on("pageerror", (error) => faults.push(`${name}: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/WebSocket|40[01]|net::/.test(message.text())) faults.push(`${name}: ${message.text()}`);
  });
  return page;
}

async function until(what, condition, ms = 15_000) {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function signIn(page, password = PASSWORD) {
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

async function register(page, name) {
  await page.goto(url);
  await page.getByRole("button", { name: "New here: register" }).click();
  await page.getByLabel("Address").fill(name);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Register", exact: true }).click();
  await page.getByRole("heading", { name: "Inbox" }).waitFor();
}

/** The text of the first message, without the names at carets of others. */
const text = (page) =>
  page.locator(".blip-text").first().evaluate((text) => {
    const copy = text.cloneNode(true);
    for (const extra of copy.querySelectorAll(".remote-caret")) extra.remove();
    return [...copy.children].map((line) => line.textContent).join("\n");
  });
const saved = (page) => until("it is saved", async () => (await page.locator(".chip").first().innerText()).includes("Saved"));
const heading = (page, name) => page.getByRole("heading", { name });

let one;
let two;
let away;
let bob;
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  one = watch(await context.newPage(), "one");
  await one.goto(url);
  await until("the address has the focus", () => one.evaluate(() => document.activeElement?.name === "username"));
  await one.getByRole("button", { name: "Sign in", exact: true }).click();
  assert.match(await one.getByRole("alert").innerText(), /your address and your password/);
  await one.getByLabel("Address").fill("alice");
  await one.keyboard.press("Enter");
  assert.match(await one.getByRole("alert").innerText(), /your password/);
  assert.equal(await one.evaluate(() => document.activeElement?.name), "password");
  step("the sign-in page has the focus where one types, and says what is missing");

  await register(one, "alice");
  await one.getByRole("button", { name: "New wave" }).first().click();
  await one.locator(".blip-text.ProseMirror-focused").waitFor();
  await one.keyboard.type("Plan");
  await one.keyboard.press("Enter");
  await one.keyboard.type("first");
  await saved(one);
  const wave = one.url();

  await one.getByRole("link", { name: /Inbox/ }).click();
  await one.locator(".row a", { hasText: "Plan" }).click();
  await one.locator(".blip-text").first().click();
  await one.keyboard.press("Control+End");
  await one.keyboard.type(" second");
  await until("there is nothing unsent", async () => (await one.locator(".chip").first().innerText()).includes("Saved"));
  await one.waitForTimeout(500);
  assert.equal(await one.locator(".notice").count(), 0);
  assert.match(await text(one), /first second/);
  step("a wave that is come back to takes what is typed");

  for (let n = 0; n < 20; n++) {
    await one.locator("#wave-title").evaluate((title) => title.focus());
    await one.locator(".blip-text .line").first().click();
    await one.keyboard.press("Control+End");
    await one.keyboard.press("Enter");
    await one.keyboard.type(String.fromCharCode(97 + n));
  }
  assert.equal(await text(one), `Plan\nfirst second\n${[..."abcdefghijklmnopqrst"].join("\n")}`);
  step("what is typed at once after a click goes where the caret was moved");
  await one.keyboard.press("Control+a");
  await one.keyboard.type("Plan");
  await saved(one);

  two = watch(await context.newPage(), "two");
  await two.goto(url);
  await heading(two, "Inbox").waitFor();
  await one.locator(".blip-text").first().click();
  await one.keyboard.press("Control+End");
  // What is typed while this tab has no network is not sent before the sign-out.
  const network = await context.newCDPSession(one);
  const offline = (on) => network.send("Network.emulateNetworkConditions", { offline: on, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await network.send("Network.enable");
  await offline(true);
  await one.evaluate(() => dispatchEvent(new Event("offline")));
  await one.keyboard.type(" unsent");
  await until("it is not sent", async () => (await one.locator(".chip").first().innerText()).includes("not sent"), 40_000);
  assert.equal(await one.locator(".unsent").innerText(), " unsent");
  await two.getByRole("button", { name: "Sign out", exact: true }).click();
  await heading(one, "Sign in to Billow").waitFor();
  assert.equal(await one.locator(".blip-text").count(), 0);
  assert.equal(await one.locator(".row").count(), 0);
  assert.equal(await one.title(), "Billow");
  await offline(false);
  step("who signs out in one tab has no wave open in another");

  await two.getByLabel("Address").fill("alice");
  await signIn(two);
  await heading(two, "Inbox").waitFor();
  await one.locator(".blip-text").first().click();
  assert.equal(one.url(), wave);
  await one.keyboard.press("Control+End");
  await one.keyboard.type(" AAA");
  await saved(one);
  assert.equal(await one.locator(".notice").count(), 0);
  assert.match(await text(one), /^Plan unsent AAA$/);
  await one.keyboard.press("Control+Shift+Home");
  await one.keyboard.type("Plan AAA");
  await saved(one);
  step("who signs in again in one tab goes on in the other");

  const other = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  away = watch(await other.newPage(), "away");
  await away.goto(url);
  await away.getByLabel("Address").fill("alice");
  await signIn(away);
  await away.getByRole("link", { name: "Account" }).click();
  await away.getByRole("heading", { name: "Where I am signed in" }).waitFor();
  await until("both places are listed", async () => (await away.locator(".sessions li").count()) === 2);
  await away.screenshot({ path: join(pictures, "account.png") });
  await away.locator(".sessions button").click();
  await until("one is left", async () => (await away.locator(".sessions li").count()) === 1);
  await one.getByRole("button", { name: "Sign in", exact: true }).waitFor();
  assert.match(await one.locator(".connection-bar").innerText(), /You are signed out/);
  await one.locator(".blip-text").first().click();
  await one.keyboard.press("Control+End");
  await one.keyboard.type(" kept");
  await until("it is said what is kept", async () => (await one.locator(".connection-bar").innerText()).includes("Sign in to send"));
  await one.getByRole("button", { name: "Sign in", exact: true }).click();
  assert.equal(await one.getByLabel("Address").inputValue(), "alice@localhost");
  await signIn(one);
  await one.locator(".blip-text").first().click();
  await one.keyboard.press("Control+End");
  await one.keyboard.type(" BBB");
  await saved(one);
  await one.waitForTimeout(500);
  assert.equal(await text(one), "Plan AAA kept BBB");
  assert.equal(await one.locator(".notice").count(), 0);
  assert.ok(!(await one.locator("[role=status]").allInnerTexts()).join().includes("signed out"));
  step("after a session was ended elsewhere, signing in again sends what was kept and takes what is typed");

  await away.getByLabel("Present password").fill(PASSWORD);
  await away.getByLabel("New password", { exact: true }).fill("another horse battery");
  await away.getByLabel("New password, once more").fill("another horse");
  await away.getByRole("button", { name: "Change the password" }).click();
  await away.getByText("The two new passwords are not the same.").waitFor();
  await away.getByLabel("New password, once more").fill("another horse battery");
  await away.getByRole("button", { name: "Change the password" }).click();
  await away.getByText("The password is changed.").waitFor();
  await one.getByRole("button", { name: "Sign in", exact: true }).click();
  await signIn(one, "another horse battery");
  await one.locator(".blip-text").first().waitFor();
  step("the password is changed, and the other places have to sign in anew");

  const words = Array.from({ length: 1600 }, (_, n) => `Line ${n} with some words in it, and a few more of them to be long.`).join("\n");
  await one.locator(".blip-text").first().click();
  await one.keyboard.press("Control+End");
  await one.keyboard.press("Enter");
  await one.evaluate((words) => {
    const data = new DataTransfer();
    data.setData("text/plain", words);
    document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  }, words);
  await until("the paste is shown", async () => (await text(one)).includes("Line 1599"));
  await until("it is all sent", async () => (await one.locator(".chip").first().innerText()).includes("Saved"), 30_000);
  await one.waitForTimeout(500);
  assert.equal(await one.locator(".notice").count(), 0);
  await away.goto(wave);
  await until("it is there elsewhere", async () => (await away.locator(".blip-text").count()) > 0 && (await text(away)) === (await text(one)), 30_000);
  assert.equal((await text(one)).split("\n").length, 1601, "each line is one");
  step(`a paste of ${words.length} letters is sent`);
  await one.keyboard.press("Control+z");
  await until("it is taken back", async () => !(await text(one)).includes("Line"));
  await until("elsewhere too", async () => !(await text(away)).includes("Line"), 30_000);
  assert.equal(await one.locator(".notice").count(), 0);
  step("and taken back");

  await one.locator(".blip-text .line").first().dblclick();
  await one.keyboard.press("Control+k");
  await one.getByLabel("Address of the link").fill("foo bar");
  await one.keyboard.press("Enter");
  assert.match(await one.locator(".link-box [role=alert]").innerText(), /no spaces/);
  assert.equal(await one.locator(".blip-text a").count(), 0);
  await one.getByRole("button", { name: "Cancel" }).click();
  step("an address with a space is no link");

  const third = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  bob = watch(await third.newPage(), "bob");
  await register(bob, "bob");
  await one.getByRole("button", { name: "Add people" }).click();
  await one.getByLabel("Address").fill("bob");
  await one.getByRole("button", { name: "Add", exact: true }).click();
  await bob.locator(".row a", { hasText: "Plan" }).click();
  await bob.locator("article.blip").waitFor();
  await one.locator(".person", { hasText: "Bob" }).click();
  await one.getByRole("button", { name: "Remove from this wave" }).click();
  await one.getByText("Bob was removed.").waitFor();
  await bob.getByText("You were removed from this wave by Alice.").waitFor();
  await one.screenshot({ path: join(pictures, "removed.png") });
  await one.getByRole("button", { name: "Undo", exact: true }).click();
  await one.locator(".person", { hasText: "Bob" }).waitFor();
  await bob.locator(".row a", { hasText: "Plan" }).waitFor();
  step("a removal is told with who did it, and can be undone");

  await one.setViewportSize({ width: 1280, height: 800 });
  await one.getByRole("button", { name: "Help" }).click();
  await one.locator("dialog").waitFor();
  await one.waitForTimeout(100);
  assert.equal(await one.locator("dialog").evaluate((dialog) => dialog.scrollTop), 0);
  const box = await one.locator("dialog h2").boundingBox();
  assert.ok(box.y > 0 && box.y < 200);
  await one.screenshot({ path: join(pictures, "help.png") });
  await one.keyboard.press("Escape");
  step("the help begins at its beginning");

  assert.deepEqual(faults, []);
  step("no error in the console");
} catch (error) {
  for (const [name, page] of [["one", one], ["two", two], ["away", away], ["bob", bob]]) await page?.screenshot({ path: join(pictures, `failed-${name}.png`) });
  console.log(faults, `pictures in ${pictures}`);
  throw error;
} finally {
  await browser.close();
  const gone = new Promise((done) => server.once("exit", done));
  server.kill("SIGTERM");
  await gone;
  rmSync(folder, { recursive: true, force: true });
}
