/** Debian's chromium, headless, for the tests that need a browser. `BILLOW_CHROMIUM` names another one. */
import { existsSync, readFileSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { chromium } from "playwright-core";

const KINDS = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

/** With `BILLOW_DIST` pages come from that folder, and only the rest from the server: for a program with another build inside. */
export async function serveDist(context) {
  const dist = process.env["BILLOW_DIST"] && resolve(process.env["BILLOW_DIST"]);
  if (!dist) return;
  await context.route(/^http:\/\/[^/]+\/(?!api\/|socket)/, (route) => {
    const { pathname } = new URL(route.request().url());
    const file = join(dist, pathname);
    const found = extname(pathname) && existsSync(file) ? file : join(dist, "index.html");
    return route.fulfill({ body: readFileSync(found), contentType: KINDS[extname(found)] ?? "application/octet-stream" });
  });
}

export async function launch() {
  const browser = await start();
  const newContext = browser.newContext.bind(browser);
  browser.newContext = async (options) => {
    const context = await newContext(options);
    await serveDist(context);
    return context;
  };
  return browser;
}

function start() {
  // Pages from a folder count as coming from elsewhere, and may not open sockets to this machine.
  const local = process.env["BILLOW_DIST"] ? ["--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"] : [];
  return chromium.launch({
    executablePath: process.env["BILLOW_CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...local],
  });
}
