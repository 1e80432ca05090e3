/** The socket: back-off, hope, silence. */

import { describe, expect, it } from "vitest";
import { backOff, type RawSocket, Socket } from "../src/wire/socket";
import { stateWords } from "../src/wave/words";
import { Clock } from "./wave/hub";

function setUp() {
  const clock = new Clock();
  const raws: (RawSocket & { sent: string[]; closed: boolean })[] = [];
  const log: string[] = [];
  let hope = (): void => {};
  const socket = new Socket(
    "ws://fake",
    {
      connected: () => log.push("connected"),
      message: (m) => log.push(m.type),
      disconnected: (tries) => log.push(`disconnected ${tries}`),
      nonsense: (text) => log.push(`nonsense ${text}`),
    },
    {
      open: () => {
        const raw = {
          onopen: null,
          onmessage: null,
          onclose: null,
          onerror: null,
          sent: [] as string[],
          closed: false,
          send: (text: string) => raw.sent.push(text),
          close: () => {
            raw.closed = true;
          },
        };
        raws.push(raw as never);
        return raw as never;
      },
      setTimeout: (action, ms) => clock.setTimeout(action, ms),
      clearTimeout: (timer) => clock.clearTimeout(timer),
      random: () => 0,
      onHope: (action) => {
        hope = action;
        return () => {};
      },
    },
  );
  return { clock, raws, log, socket, hope: () => hope() };
}

describe("the socket", () => {
  it("waits 1, 2, 4 … 30 s between tries, with jitter", () => {
    expect([0, 1, 2, 3, 4, 5, 50].map((n) => backOff(n, 0))).toEqual([1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    expect(backOff(2, 1)).toBe(2000);
  });

  it("is connected with the first message, and tries again when it is lost", () => {
    const { clock, raws, log, socket } = setUp();
    socket.start();
    expect(socket.send({ type: "ping" })).toBe(false);
    raws[0]!.onmessage!({ data: '{"type":"pong"}' });
    expect(socket.send({ type: "watchInbox" })).toBe(true);
    expect(raws[0]!.sent).toEqual(['{"type":"watchInbox"}']);
    raws[0]!.onclose!();
    clock.advance(999);
    expect(raws.length).toBe(1);
    clock.advance(1);
    expect(raws.length).toBe(2);
    raws[1]!.onclose!();
    clock.advance(2_000);
    expect(raws.length).toBe(3);
    expect(log).toEqual(["connected", "pong", "disconnected 1", "disconnected 2"]);
  });

  it("tries at once when there is hope", () => {
    const { raws, socket, hope } = setUp();
    socket.start();
    raws[0]!.onclose!();
    hope();
    expect(raws.length).toBe(2);
    hope();
    expect(raws.length).toBe(2);
  });

  it("takes silence for death", () => {
    const { clock, raws, log, socket } = setUp();
    socket.start();
    raws[0]!.onmessage!({ data: '{"type":"pong"}' });
    clock.advance(20_000);
    expect(raws[0]!.sent).toEqual(['{"type":"ping"}']);
    clock.advance(10_000);
    expect(raws[0]!.closed).toBe(true);
    expect(log).toEqual(["connected", "pong", "disconnected 1"]);
  });

  it("does not stumble over nonsense", () => {
    const { raws, log, socket } = setUp();
    socket.start();
    for (const data of ["", "null", "[]", "{}", '{"type":1}', "\u0000"]) raws[0]!.onmessage!({ data });
    expect(log.every((line) => line.startsWith("nonsense"))).toBe(true);
    socket.stop();
    expect(raws[0]!.closed).toBe(true);
  });
});

describe("words", () => {
  it("say where my changes are", () => {
    const since = new Date(2026, 0, 1, 14, 2).getTime();
    expect(stateWords({ kind: "online" }, { state: "saved", changes: 0 })).toEqual({ chip: "Saved", bar: null });
    expect(stateWords({ kind: "online" }, { state: "saving", changes: 2 }).chip).toBe("Saving…");
    expect(stateWords({ kind: "reconnecting", since }, { state: "unsent", changes: 1 })).toEqual({
      chip: "1 change not sent",
      bar: "Reconnecting… you can keep writing",
    });
    expect(stateWords({ kind: "offline", since }, { state: "unsent", changes: 3 })).toEqual({
      chip: "3 changes not sent",
      bar: "Offline since 14:02. 3 changes will be sent",
    });
    expect(stateWords({ kind: "signedOut" }, { state: "unsent", changes: 3 }).bar).toBe("Sign in to send 3 changes");
  });
});
