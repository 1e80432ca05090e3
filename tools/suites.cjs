// What the runners of suites share: to run a command and keep what it printed, to find in it the figures and the tests,
// and to write tables. A suite is { name, what, command, large?: environment of its large size, figures: [name] }.

"use strict";
const { execFileSync, spawn } = require("node:child_process");
const { createWriteStream } = require("node:fs");
const path = require("node:path");

const root = path.join(__dirname, "..");

/** Runs one suite, in its large size unless it is to be small; what it printed is kept in `logs`. */
function run(suite, { logs, small = false }) {
  return new Promise((done) => {
    const started = Date.now();
    const env = { ...process.env };
    if (!small) for (const [name, size] of Object.entries(suite.large ?? {})) env[name] = String(size);
    const log = createWriteStream(path.join(logs, `${suite.name.replaceAll(/\W/g, "_")}.log`));
    const child = spawn("bash", ["-c", `${suite.command} 2>&1`], { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (part) => {
      text += part;
      log.write(part);
    });
    child.on("close", (code) => {
      log.end();
      const seconds = Math.round((Date.now() - started) / 1000);
      done({ ...suite, code, seconds, text: text.replaceAll(/\x1b\[[0-9;]*m/g, "") });
    });
  });
}

/** The lines `FIGURE a b key=value …` as { name: "a b", values: { key: value } }. */
function figuresOf(text) {
  const figures = [];
  for (const [, line] of text.matchAll(/\bFIGURE (.*)$/gm)) {
    const first = line.search(/\S+=/);
    const name = (first < 0 ? line : line.slice(0, first)).trim();
    const values = {};
    for (const [, key, value] of line.matchAll(/(\w+)=(\{[^}]*\}|\[[^\]]*\]|\S+)/g)) values[key] = value;
    figures.push({ name, values });
  }
  return figures;
}

/** Each test that was run, Rust's and the web's: [name, whether it passed]. */
function testsOf(text) {
  const rust = [...text.matchAll(/^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)/gm)];
  const web = [...text.matchAll(/^\s*([✓×])\s+(.*?)(?:\s+\d+\s*ms)?$/gm)];
  return [
    ...rust.filter(([, , result]) => result !== "ignored").map(([, name, result]) => [name.split("::").pop(), result === "ok"]),
    ...web.map(([, sign, name]) => [name.split(" > ").pop(), sign === "✓"]),
  ];
}

/** What is wrong with a suite's run, in words; nothing if it is good. */
function faultsOf(result) {
  const printed = figuresOf(result.text).map((figure) => figure.name);
  const silent = result.figures.filter((name) => !printed.includes(name));
  return [
    ...(result.code === 0 ? [] : [`${result.name}: ended with ${result.code}`]),
    ...silent.map((name) => `${result.name}: printed no FIGURE ${name}`),
  ];
}

/** A table in Markdown. */
function table(head, lines) {
  const row = (cells) => `| ${cells.join(" | ")} |`;
  return [row(head), row(head.map(() => "---")), ...lines.map(row)].join("\n");
}

/** Text as it may stand in a cell. */
const escape = (text) => String(text).replaceAll("|", "\\|").replaceAll("<", "&lt;");

/** The commit that is run, in short. */
function commit() {
  return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).trim();
}

module.exports = { commit, escape, faultsOf, figuresOf, root, run, table, testsOf };
