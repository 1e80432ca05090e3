/** Debian's chromium, headless, for the tests that need a browser. `BILLOW_CHROMIUM` names another one. */
import { chromium } from "playwright-core";

export function launch() {
  return chromium.launch({
    executablePath: process.env["BILLOW_CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}
