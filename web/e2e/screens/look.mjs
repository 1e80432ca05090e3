/**
 * Takes a picture of each screen and runs axe on it, in light and dark, wide and narrow. Pictures go to the folder given.
 *
 *   npx vite build -c e2e/screens/vite.config.ts && node e2e/screens/look.mjs OUT
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { preview } from "vite";
import { launch } from "../browser.mjs";

const out = process.argv[2] ?? "screens";
const only = process.argv[3];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WAVE = "/w/initech.lab/w+spring";

const SCREENS = [
  ["sign-in", "/?out"],
  ["inbox", "/"],
  ["inbox-empty", "/?empty"],
  ["inbox-loading", "/?loading"],
  ["inbox-requests", "/?requests"],
  ["wave", WAVE],
  ["wave-loading", `${WAVE}?loading`],
  ["wave-missing", "/w/initech.lab/w+none"],
  ["wave-waiting", `${WAVE}?delivery=waiting&connection=reconnecting&unsent`],
  ["wave-offline", `${WAVE}?connection=offline&unsent`],
  ["wave-refused", `${WAVE}?delivery=refused&draft`],
  ["wave-removed", `${WAVE}?removed`],
  ["wave-quarantined", `${WAVE}?delivery=quarantined&hosted`, async (page) => {
    await page.getByRole("alert").filter({ hasText: /contradicts itself about this wave.*nobody here can write.*other waves are not affected/ }).waitFor({ timeout: 5000 });
    if ((await page.locator(".composer, .blip-tools, [contenteditable=true][aria-readonly=false]").count()) > 0) report("wave-quarantined", "somebody can write");
  }],
  ["account", "/account"],
  ["dialog-add", WAVE, (page) => page.getByRole("button", { name: "Add people" }).click()],
  ["dialog-person", WAVE, (page) => page.locator(".person").nth(1).click()],
  ["dialog-keys", WAVE, (page) => page.evaluate(() => document.dispatchEvent(new KeyboardEvent("keydown", { key: "?" })))],
  ["link-box", WAVE, async (page) => {
    await page.locator(".blip-text").first().click();
    await page.keyboard.press("Control+k");
  }],
];
const SIZES = [
  { name: "wide", width: 1360, height: 860 },
  { name: "400", width: 400, height: 800 },
  { name: "320", width: 320, height: 640 },
];

const server = await preview({ configFile: new URL("vite.config.ts", import.meta.url).pathname });
const browser = await launch();
let faults = 0;
for (const scheme of ["light", "dark"]) {
  for (const { name: size, width, height } of SIZES) {
    const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height }, reducedMotion: "reduce", bypassCSP: true });
    for (const [name, path, act] of SCREENS) {
      if (only && !name.includes(only)) continue;
      if (scheme === "dark" && size === "320") continue;
      const page = await context.newPage();
      if (path.includes("?out")) await context.addCookies([{ name: "out", value: "1", url: "http://127.0.0.1:4179" }]);
      else await context.clearCookies();
      page.on("pageerror", (error) => report(name, `page error: ${error.message}`));
      page.on("console", (message) => message.type() === "error" && !/401/.test(message.text()) && report(name, `console: ${message.text()}`));
      await page.goto(`http://127.0.0.1:4179${path}`);
      await page.waitForTimeout(name.includes("reconnect") || name.includes("waiting") ? 2600 : 700);
      if (name === "wave-waiting") await page.locator(".chip").first().click();
      if (act) {
        await act(page);
        await page.waitForTimeout(200);
      }
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wider > 0) report(name, `${size}: ${wider} px too wide`);
      await page.screenshot({ path: `${out}/${name}-${size}-${scheme}.png` });
      await page.evaluate(axe);
      const violations = await page.evaluate(async () => {
                  return (await globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })).violations;
      });
      for (const { id, help, nodes } of violations) {
        report(name, `${size} ${scheme}: ${id}: ${help}\n    ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)}\n      ${node.failureSummary.split("\n").slice(1, 3).join(" ")}`).join("\n    ")}`);
      }
      await page.close();
    }
    await context.close();
  }
}
await browser.close();
await server.close();
console.log(faults === 0 ? "no faults" : `${faults} faults`);
process.exit(faults === 0 ? 0 : 1);

function report(screen, text) {
  faults++;
  console.log(`${screen}: ${text}`);
}
