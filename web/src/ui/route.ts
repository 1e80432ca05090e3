/** Which screen the address bar names. */
import { Value } from "../wave/observable";

export type Route = { readonly kind: "inbox" } | { readonly kind: "account" } | { readonly kind: "wave"; readonly wave: string };

export function routeOf(path: string): Route {
  if (/^\/account\/?$/.test(path)) return { kind: "account" };
  const match = /^\/w\/([^/]+)\/([^/]+)\/?$/.exec(path);
  if (!match) return { kind: "inbox" };
  try {
    return { kind: "wave", wave: `${decodeURIComponent(match[1]!)}/${decodeURIComponent(match[2]!)}` };
  } catch {
    return { kind: "inbox" };
  }
}

/** `example.org/w+abc` → `/w/example.org/w+abc` */
export function waveHref(wave: string): string {
  return `/w/${wave.split("/").map((part) => encodeURIComponent(part).replace(/%2B/g, "+")).join("/")}`;
}

/** The present route. */
export const route = new Value<Route>(routeOf(location.pathname));

export function navigate(href: string, replace = false): void {
  if (href !== location.pathname) history[replace ? "replaceState" : "pushState"](null, "", href);
  route.set(routeOf(location.pathname));
}

/** Follows the back button, and clicks on links of our own without loading the page. */
export function watchLinks(): void {
  addEventListener("popstate", () => route.set(routeOf(location.pathname)));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.origin !== location.origin) return;
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    navigate(link.pathname);
  });
}
