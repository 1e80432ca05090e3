/**
 * All tests that need browsers: the screens with their states (axe, overflow, keys), two people on one real server, and
 * alice and bob on the two servers of the demo. Pictures go to `target/e2e`.
 *
 *   npm run e2e            builds nothing but the screens: `npm run build` and `cargo build` come before
 *   BILLOW_BIN=…           another binary than target/debug/billow
 *   BILLOW_DIST=…          a built client in place of the one that the binary has inside
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const binary = resolve(process.env["BILLOW_BIN"] ?? "../target/debug/billow");
const pictures = (part) => resolve("../target/e2e", part);

/** Runs a program to its end; throws when it fails. */
function run(name, program, args, env = {}) {
  console.log(`-- ${name}`);
  return new Promise((done, failed) => {
    const child = spawn(program, args, { stdio: "inherit", env: { ...process.env, BILLOW_BIN: binary, ...env } });
    child.once("error", failed);
    child.once("exit", (code) => (code === 0 ? done() : failed(new Error(`${name}: ended with ${code}`))));
  });
}

/** Starts the demo; gives the line it prints when it is ready, and how to stop it. */
async function startDemo(folder) {
  const child = spawn(binary, ["demo", "--json", "--dir", folder], { stdio: ["ignore", "pipe", "inherit"] });
  const gone = new Promise((done) => child.once("exit", done));
  const line = await new Promise((ready, failed) => {
    createInterface(child.stdout).once("line", ready);
    child.once("error", failed);
    child.once("exit", (code) => failed(new Error(`the demo ended with ${code}`)));
  });
  return {
    line,
    stop: async () => {
      child.kill("SIGTERM");
      await gone;
    },
  };
}

await run("the screens are built", "npx", ["vite", "build", "-c", "e2e/screens/vite.config.ts", "--logLevel", "error"]);
await run("screens and dialogs: axe, overflow", "node", ["e2e/screens/look.mjs", pictures("screens")], { BILLOW_DIST: "" });
await run("typing", "node", ["e2e/screens/write.mjs", pictures("typing")], { BILLOW_DIST: "" });
await run("one person in several tabs, sessions", "node", ["e2e/sessions.mjs", pictures("sessions")]);
await run("two people on one server", "node", ["e2e/two-people.mjs", pictures("one-server")]);

const folder = mkdtempSync(join(tmpdir(), "billow-demo-"));
const demo = await startDemo(folder);
try {
  await run("two people on two servers", "node", ["e2e/two-people.mjs", pictures("two-servers")], { BILLOW_DEMO: demo.line });
  await run("one server away, then the other", "node", ["e2e/away.mjs", pictures("away")], { BILLOW_DEMO: demo.line });
} finally {
  await demo.stop();
  rmSync(folder, { recursive: true, force: true });
}
console.log("-- all passed");
