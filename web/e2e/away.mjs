/**
 * Alice and bob on the two servers of a demo; one server is killed and started again, then the other. Their clients say
 * in words what is the case, keep what is typed, and send it.
 *
 *   BILLOW_DEMO='<the line of demo --json>' BILLOW_BIN=… node e2e/away.mjs [FOLDER FOR PICTURES]
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { launch } from "./browser.mjs";

const demo = JSON.parse(process.env["BILLOW_DEMO"]);
const binary = resolve(process.env["BILLOW_BIN"] ?? "../target/debug/billow");
const pictures = process.argv[2] ?? "../target/e2e/away";
mkdirSync(pictures, { recursive: true });
const [initech, acme] = demo.servers;
const browser = await launch();
const started = [];
const step = (name) => console.log(`ok ${name}`);

async function until(what, condition, ms = 30_000) {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function person({ url, users }) {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  await page.goto(url);
  await page.getByLabel("Address").fill(users[0].address);
  await page.getByLabel("Password").fill(users[0].password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.locator(".row a", { hasText: "Welcome to Billow" }).click();
  await page.locator(".blip-text").first().click();
  await page.keyboard.press("Control+End");
  return page;
}

/** Ends a server as a power cut would. */
function kill(server) {
  process.kill(server.pid, "SIGKILL");
}

/** Starts it again with what it had on disk. */
async function restart(server) {
  const child = spawn(binary, ["serve", "--config", server.config], { stdio: ["ignore", "pipe", "ignore"] });
  started.push(child);
  server.pid = child.pid;
  await new Promise((ready, failed) => {
    child.stdout.once("data", ready);
    child.once("exit", (code) => failed(new Error(`${server.domain} ended with ${code}`)));
  });
}

const text = (page) => page.locator(".blip-text").first().innerText();
const header = (page) => page.locator("main").first().innerText();
const has = (page, words) => async () => (await text(page)).includes(words);

let alice;
let bob;
try {
  [alice, bob] = [await person(initech), await person(acme)];
  await alice.keyboard.type(" One.");
  await until("bob reads on", has(bob, "One."));
  step("both have the welcome wave open");

  kill(acme);
  await alice.keyboard.type(" Two, while acme is away.");
  await until("alice is told whom is waited for", async () => (await header(alice)).includes(`Waiting for ${acme.domain}`), 60_000);
  await alice.screenshot({ path: join(pictures, "waiting.png") });
  const back = Date.now();
  await restart(acme);
  await until("bob has it without anybody typing", has(bob, "Two, while acme is away."));
  step(`the remote was away: alice's client said so, bob had everything ${Date.now() - back} ms after its start`);

  await until("alice sees that it was delivered", async () => !(await header(alice)).includes("Waiting for"));
  kill(initech);
  await bob.keyboard.press("Control+End");
  await bob.keyboard.type(" Three, while the host is away.");
  await until("bob is told", async () => /not sent|is away|Waiting/.test(await header(bob)), 60_000);
  await bob.screenshot({ path: join(pictures, "host-away.png") });
  await bob.reload();
  await until("his words are kept over a reload", has(bob, "Three, while the host is away."));
  await restart(initech);
  await until("alice has them", has(alice, "Three, while the host is away."), 60_000);
  await until("both have the same", async () => (await text(alice)) === (await text(bob)));
  assert.equal((await text(alice)).split("Three, while").length, 2, "once");
  step("the host was away: bob's words were kept, also over a reload, and sent once");
} catch (error) {
  for (const [name, page] of [["alice", alice], ["bob", bob]]) await page?.screenshot({ path: join(pictures, `failed-${name}.png`) });
  console.log(`pictures in ${pictures}`);
  throw error;
} finally {
  await browser.close();
  for (const child of started) child.kill("SIGTERM");
}
