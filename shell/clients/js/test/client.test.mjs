// What this client has beyond the protocol's conformance cases: loops over runs, limits, names of its own.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { WebSocket } from "ws";
import { connect } from "../dist/index.js";
import { makeEvent, ScriptedServer, welcomeTo } from "./scripted.mjs";
import { eventually } from "./wait.mjs";

const RUN = "run_t_00000001";

describe("the client", () => {
  let server, client;

  beforeEach(async () => {
    server = new ScriptedServer();
    await server.start();
  });
  afterEach(async () => {
    client?.close();
    await server.end();
  });

  const open = (options = {}) =>
    (client = connect({ url: server.url, token: "t-1", WebSocket, transport: "websocket", ...options }));

  /** Welcomes the next connection. */
  async function meet(welcome) {
    const arrival = await eventually("a connection", () => {
      if (client.state.status === "waiting") client.reconnect();
      return server.arrivals.shift();
    });
    const connection = arrival.open();
    server.connections.push(connection);
    const hello = await eventually("a hello", () => connection.heard.shift());
    connection.send(welcomeTo(hello, welcome));
    return Object.assign(connection, { hello, transport: arrival.transport, url: arrival.url });
  }
  const heard = (connection) => eventually("a message", () => connection.heard.shift());
  const event = (seq, fields) => server.current.send(makeEvent({ seq, ...fields }));
  const end = (seq) => event(seq, { event: "agent_completed", data: { status: "ok" } });

  /** Asks for a run, and has it accepted. */
  async function ask(connection) {
    const run = client.run({ agent: "echo", input: 1 });
    const { id, key } = await heard(connection);
    connection.send({
      type: "accepted",
      id,
      key,
      run: RUN,
      thread: "t",
      position: 0,
      ahead: 0,
      duplicate: false,
    });
    await run.accepted;
    return run;
  }

  test("a loop over a run has its events, and ends with it", async () => {
    open();
    const run = await ask(await meet());
    event(1, { event: "run_queued", data: { agent: "echo", input: 1 } });
    event(2);
    event(3, { run: "run_t_0000000f" });
    end(4);
    const seqs = [];
    for await (const { seq } of run) seqs.push(seq);
    assert.deepEqual(seqs, [1, 2, 4]);
    assert.equal((await run.done).status, "ok");
  });

  test("a loop that is left early lets the run go on", async () => {
    open();
    const run = await ask(await meet());
    event(1);
    for await (const { seq } of run) if (seq === 1) break;
    event(2);
    end(3);
    assert.equal((await run.done).status, "ok");
    assert.equal(client.position().seq, 3);
  });

  test("a loop hears of a reset where it happens", async () => {
    open();
    const connection = await meet();
    const run = await ask(connection);
    event(1);
    await eventually("it is processed", () => client.position().seq === 1);
    connection.cut();
    const resume = { status: "reset", reason: "epoch", from: 0 };
    await meet({ epoch: "e-2", resume, runs: [{ run: RUN, state: "running" }] });
    event(1);
    end(2);
    const names = [];
    for await (const { event } of run) names.push(event);
    assert.deepEqual(names, ["agent_output", "reset", "agent_output", "agent_completed"]);
  });

  test("a loop that is far behind holds the events up, and loses none", async () => {
    open();
    const run = await ask(await meet());
    const loop = run[Symbol.asyncIterator]();
    const first = loop.next();
    for (let seq = 1; seq <= 1500; seq += 1) event(seq);
    assert.equal((await first).value.seq, 1);
    await eventually("the loop's buffer is full", () => client.position().seq > 1000);
    await server.current.settled();
    assert.equal(client.position().seq, 1001);
    end(1501);
    let seq = 1;
    for await (const event of loop) assert.equal(event.seq, (seq += 1));
    assert.equal(seq, 1501);
  });

  test("a run that nobody reads holds nothing up, and a late loop is told", async () => {
    open();
    const run = await ask(await meet());
    for (let seq = 1; seq <= 1100; seq += 1) event(seq);
    end(1101);
    assert.equal((await run.done).status, "ok");
    await assert.rejects(
      async () => {
        for await (const _ of run);
      },
      { code: "not_read" },
    );
  });

  test("deltas are acknowledged together", async () => {
    open();
    const connection = await meet();
    for (let seq = 1; seq <= 200; seq += 1) event(seq);
    await eventually("all is acknowledged", () => connection.acked.get("") === 200);
    assert.ok(connection.acks < 100, `${connection.acks} acknowledgements`);
  });

  test("another tab that has taken our name is not fought: we come back with a new one", async () => {
    open();
    const connection = await meet();
    event(1);
    await eventually("it is processed", () => client.position()?.seq === 1);
    connection.close(4510);
    const { hello } = await meet({ head: 1 });
    assert.notEqual(hello.device, connection.hello.device);
    assert.deepEqual(hello.from, { epoch: "e-1", seq: 1 });
  });

  test("what a draining daemon refuses is asked of the next one", async () => {
    open();
    const connection = await meet();
    const run = client.run({ agent: "echo", input: 1 });
    const { id, key } = await heard(connection);
    connection.send({
      type: "error",
      of: "run",
      id,
      code: "draining",
      message: "going down",
      temporary: true,
    });
    connection.close(4400);
    const next = await meet();
    const again = await heard(next);
    assert.equal(again.key, key);
    next.send({ type: "accepted", id: again.id, key, run: RUN, thread: "t", position: 0, duplicate: false });
    assert.equal((await run.accepted).run, RUN);
  });

  test("no more is kept for a connection than a server takes at once", async () => {
    open();
    for (let n = 0; n < 200; n += 1) client.cancel(RUN).catch(() => {});
    await assert.rejects(client.cancel(RUN), { code: "outbox_full" });
  });

  test("a handler may go, and one that throws stops nobody else", async (t) => {
    const said = t.mock.method(console, "error", () => {});
    open();
    const notices = [];
    client.on("notice", () => notices.push("gone"))();
    client.on("notice", () => {
      throw new Error("a fault of the application");
    });
    client.on("notice", ({ notice }) => notices.push(notice));
    const connection = await meet();
    connection.send({ type: "notice", notice: "working", run: RUN });
    await eventually("the notice is told", () => notices.length);
    assert.deepEqual(notices, ["working"]);
    assert.match(String(said.mock.calls[0].arguments[0]), /fault of the application/);
  });

  test("what is no token is not sent anywhere", async () => {
    open({ token: "no token, is it" });
    await eventually("it has stopped", () => client.state.status === "stopped");
    assert.equal(client.state.error.code, "token_malformed");
    await assert.rejects(client.cancel(RUN), { code: "token_malformed" });
  });

  test("a token that is not to be had now is asked for again", async () => {
    let asked = 0;
    open({
      token() {
        if ((asked += 1) === 1) throw new Error("the identity provider is down");
        return "t-2";
      },
    });
    assert.equal((await meet()).token, "t-2");
  });

  test("a daemon may live under a path", async () => {
    open({ url: `${server.url}agents` });
    assert.equal((await meet()).url, "/agents/ws");
  });

  test("where WebSockets are blocked they are tried again, and used when they are not", async () => {
    server.blocked = true;
    open({ transport: "auto" });
    const stream = await meet();
    assert.equal(stream.transport, "sse");
    event(1);
    await eventually("it is processed", () => client.position()?.seq === 1);
    server.blocked = false;
    stream.cut();
    const socket = await meet({ head: 1 });
    assert.equal(socket.transport, "websocket");
    assert.deepEqual(socket.hello.from, { epoch: "e-1", seq: 1 });
    await eventually("the state says so", () => client.state.transport === "websocket");
  });

  test("topics need a WebSocket, and that is said", async () => {
    open({ transport: "sse" });
    await meet();
    await assert.rejects(client.subscribe(["news"]), { code: "websocket_required" });
  });

  test("what is no JSON is refused, and stands in nobody's way", async () => {
    open();
    const connection = await meet();
    await assert.rejects(client.run({ agent: "echo", input: 1n }).accepted, { code: "bad_message" });
    connection.cut();
    await meet();
    await eventually("it is connected again", () => client.state.status === "connected");
  });

  test("what is changed after it was asked for is asked again as it was", async () => {
    open();
    const input = { text: "as it was" };
    const connection = await meet();
    client.run({ agent: "echo", input });
    const first = await heard(connection);
    input.text = "changed";
    connection.cut();
    assert.deepEqual(await heard(await meet()), first);
  });

  test("a new token that could not be told on the connection is good for the next", async (t) => {
    t.mock.method(console, "error", () => {});
    open({ token: (reason) => (reason === "connect" ? "t-1" : "t-2") });
    const connection = await meet();
    connection.send({ type: "notice", notice: "expiring", expires_ms: 60_000 });
    assert.deepEqual(await heard(connection), { type: "refresh", id: "refresh", token: "t-2" });
    const error = { type: "error", of: "refresh", id: "refresh", code: "rate_limited", message: "too many" };
    connection.send(error);
    connection.close(4506);
    await eventually("it is over", () => client.state.status !== "connected");
    assert.notEqual(client.state.status, "stopped");
    assert.equal((await meet()).token, "t-2");
  });

  test("who has processed an event is not given it again because another has failed", async (t) => {
    t.mock.method(console, "error", () => {});
    open();
    const [shown, kept] = [[], []];
    let isFull = true;
    client.on("event", ({ seq }) => void shown.push(seq));
    client.on("event", ({ seq }) => {
      if (isFull) throw new Error("the disk is full");
      kept.push(seq);
    });
    const connection = await meet();
    event(1);
    await eventually("the first handler has it", () => shown.length);
    connection.close(4403);
    await meet();
    isFull = false;
    event(1);
    event(2);
    await eventually("both have all", () => kept.length === 2 && shown.length >= 2);
    assert.deepEqual([shown, kept], [[1, 2], [1, 2]]);
  });

  test("a handler that has ended is not tried again", async (t) => {
    t.mock.method(console, "error", () => {});
    open();
    let tried = 0;
    const off = client.on("event", () => {
      tried += 1;
      throw new Error("a fault of the application");
    });
    const connection = await meet();
    event(1);
    await eventually("it is tried", () => tried);
    off();
    await eventually("the event is acknowledged", () => connection.acked.get("") === 1);
    assert.equal(tried, 1);
  });

  test("a topic that was subscribed to before this page goes on where it was", async () => {
    const kept = new Map();
    const storage = { getItem: (name) => kept.get(name) ?? null, setItem: (n, value) => kept.set(n, value) };
    const news = { type: "event", topic: "news", event: "flash", data: {} };
    const stream = { topic: "news", epoch: "n-1", floor: 1, head: 9 };
    const at = (from, status) => ({ ...stream, resume: { status, from } });
    open({ storage });
    const connection = await meet();
    const first = client.subscribe(["news"]);
    connection.send({ type: "subscribed", id: (await heard(connection)).id, topics: [at(4, "fresh")] });
    await first;
    connection.send({ ...news, seq: 5, ts: 1 });
    await eventually("it is processed", () => client.position("news").seq === 5);
    client.close();
    open({ storage });
    const next = await meet();
    const again = client.subscribe(["news"]);
    const { id, topics } = await heard(next);
    assert.deepEqual(topics, [{ topic: "news", from: { epoch: "n-1", seq: 5 } }]);
    next.send({ type: "subscribed", id, topics: [at(5, "resumed")] });
    await again;
    next.send({ ...news, seq: 6, ts: 1 });
    await eventually("it is processed", () => client.position("news").seq === 6);
    assert.equal(client.state.status, "connected");
  });

  test("two loops over a run share its events, and both end", async () => {
    open();
    const run = await ask(await meet());
    const seqs = [];
    const loop = async () => {
      for await (const { seq } of run) seqs.push(seq);
    };
    const loops = [loop(), loop()];
    event(1);
    end(2);
    await Promise.all(loops);
    assert.deepEqual(seqs.sort(), [1, 2]);
  });

  test("two tabs that start together have a place each", async (t) => {
    const [held, kept] = [new Map(), new Map()];
    /** The locks of a browser. */
    async function request(name, ...rest) {
      const [options, take] = rest.length > 1 ? rest : [{}, ...rest];
      await null;
      if (options.ifAvailable && held.has(name)) return take(null);
      while (held.has(name)) await held.get(name);
      const taken = (async () => take({ name }))();
      const over = taken.then(() => held.delete(name));
      held.set(name, over);
      await over;
      return taken;
    }
    const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
    Object.defineProperty(globalThis, "navigator", { value: { locks: { request } }, configurable: true });
    t.after(() => {
      delete globalThis.navigator;
      if (before) Object.defineProperty(globalThis, "navigator", before);
    });
    const storage = { getItem: (name) => kept.get(name) ?? null, setItem: (n, value) => kept.set(n, value) };
    const tabs = [open({ storage }), open({ storage })];
    t.after(() => tabs[0].close());
    await eventually("both have called", () => server.arrivals.length === 2);
    assert.equal(kept.size, 2);
    assert.notEqual(tabs[0].device, tabs[1].device);
  });

  test("who is closed asks for nothing more", async () => {
    open();
    await meet();
    client.close();
    await assert.rejects(client.run({ agent: "echo", input: 1 }).accepted, { code: "closed" });
    assert.equal(client.state.status, "stopped");
  });
});
