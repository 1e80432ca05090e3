/** Keys that work outside of text. */
import { useEffect } from "preact/hooks";
import { goMessage, goUnread } from "./next-unread";
import { moveRow } from "./inbox";
import { navigate, route } from "./route";

export type Keys = { readonly create: () => void; readonly help: () => void };

const REGIONS = [".rail", ".list", "#messages", ".side", ".text-tools"];

export function useKeyboard({ create, help }: Keys): void {
  useEffect(() => {
    let chord = 0;
    const press = (event: KeyboardEvent) => {
      if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
      const target = event.target instanceof HTMLElement ? event.target : null;
      if (event.key === "F6") return done(event, () => nextRegion(event.shiftKey ? -1 : 1));
      if (event.key === "F10" && event.altKey) return done(event, () => document.querySelector<HTMLElement>(".toolbar button:not(:disabled)")?.focus());
      if (target?.isContentEditable || target?.closest("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
      const inList = target?.closest(".list") != null;
      const afterG = Date.now() - chord < 1000;
      chord = event.key === "g" ? Date.now() : 0;
      if (afterG && event.key === "i") return done(event, () => navigate("/"));
      const act = actionOf(event, inList, target, create, help);
      if (act) done(event, act);
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, [create, help]);
}

function done(event: KeyboardEvent, act: () => void): void {
  event.preventDefault();
  act();
}

function actionOf(event: KeyboardEvent, inList: boolean, target: HTMLElement | null, create: () => void, help: () => void): (() => void) | null {
  const article = target?.closest<HTMLElement>("article.blip") ?? null;
  const onArticle = article !== null && target === article;
  const free = !target || target === document.body || onArticle || target.id === "wave-title" || target.id === "messages";
  const inWave = route.get().kind === "wave";
  switch (event.key) {
    case "?": return help;
    case "c": return create;
    case "j": case "k": {
      const by = event.key === "j" ? 1 : -1;
      return inList || !inWave ? () => moveRow(document.querySelector(".list ul"), by) : () => goMessage(by);
    }
    case "ArrowDown": return free && inWave ? () => goMessage(1) : free ? () => moveRow(document.querySelector(".list ul"), 1) : null;
    case "ArrowUp": return free && inWave ? () => goMessage(-1) : free ? () => moveRow(document.querySelector(".list ul"), -1) : null;
    case "n": return inWave ? () => goUnread(1) : null;
    case "p": return inWave ? () => goUnread(-1) : null;
    case " ": return free && inWave ? () => goUnread(event.shiftKey ? -1 : 1) : null;
    case "Enter": return onArticle ? () => threadComposer(article)?.click() : null;
    case "r": return article ? () => article.querySelector<HTMLElement>(".blip-tools button")?.click() : null;
    case "i": return onArticle ? () => article.querySelector<HTMLElement>(".blip-text")?.focus() : null;
    case "Escape": return inWave && !inList ? () => leaveWave() : null;
    default: return null;
  }
}

function threadComposer(article: HTMLElement): HTMLElement | null {
  return article.closest(".thread")?.querySelector<HTMLElement>(":scope > .composer") ?? null;
}

/** Esc: from the message to the list; on a phone the wave closes. */
function leaveWave(): void {
  const list = document.querySelector<HTMLElement>(".list");
  if (list && getComputedStyle(list).display === "none") navigate("/");
  else list?.querySelector<HTMLElement>('a[aria-current="page"], a[tabindex="0"]')?.focus();
}

function nextRegion(by: 1 | -1): void {
  const regions = REGIONS.map((selector) => document.querySelector<HTMLElement>(selector)).filter((region) => region !== null && region.offsetParent !== null) as HTMLElement[];
  const at = regions.findIndex((region) => region.contains(document.activeElement));
  const start = at < 0 ? (by > 0 ? -1 : 0) : at;
  for (let n = 1; n <= regions.length; n++) {
    const region = regions[(start + by * n + regions.length * 2) % regions.length]!;
    const stop =
      region.id === "messages"
        ? (region.querySelector<HTMLElement>("article.blip[data-unread]") ?? region.querySelector<HTMLElement>("article.blip"))
        : region.querySelector<HTMLElement>('a[aria-current="page"], a[tabindex="0"], a[href], button:not(:disabled)');
    if (!stop) continue;
    stop.focus();
    return;
  }
}
