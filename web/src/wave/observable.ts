/** Values that change and can be watched: all the state handling the client has. */

/** A value to read and to watch. */
export interface Readable<T> {
  /** The value now. */
  get(): T;
  /** Calls back after each change, until the returned function is called. Not called with the present value. */
  subscribe(listener: (value: T) => void): () => void;
}

/** A value that its owner can change. */
export class Value<T> implements Readable<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get(): T {
    return this.#value;
  }

  /** Changes the value; who watches is told at once, unless it is the same. */
  set(value: T): void {
    if (Object.is(this.#value, value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener(value);
  }

  subscribe(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether anybody watches. */
  get watched(): boolean {
    return this.#listeners.size > 0;
  }
}

/** Events for those who listen. */
export class Emitter<T> {
  readonly #listeners = new Set<(event: T) => void>();

  /** Calls back with each event, until the returned function is called. */
  on(listener: (event: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells all who listen, at once and in order. */
  emit(event: T): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}
