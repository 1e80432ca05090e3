/** What every screen may use. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Client } from "../wave/client";
import type { Me } from "./session";

export type Context = {
  readonly client: Client;
  readonly me: Me & { readonly address: string };
};

export const AppContext = createContext<Context | null>(null);

export function useApp(): Context {
  const context = useContext(AppContext);
  if (!context) throw new Error("outside of the signed-in part of the page");
  return context;
}
