/** Watching values of the client from components. */
import { useEffect, useReducer, useRef } from "preact/hooks";
import type { Readable } from "../wave/client";

/** The value now; the component is drawn again when it changes. */
export function useReadable<T>(readable: Readable<T>): T {
  const [, draw] = useReducer((n: number) => n + 1, 0);
  const shown = useRef<T>(undefined as T);
  shown.current = readable.get();
  useEffect(() => {
    if (!Object.is(readable.get(), shown.current)) draw(null);
    return readable.subscribe(() => draw(null));
  }, [readable]);
  return shown.current;
}

const NOTHING: Readable<undefined> = { get: () => undefined, subscribe: () => () => {} };

/** As {@link useReadable}, for a value that may not be there yet. */
export function useMaybe<T>(readable: Readable<T> | null | undefined): T | undefined {
  return useReadable<T | undefined>(readable ?? NOTHING);
}
