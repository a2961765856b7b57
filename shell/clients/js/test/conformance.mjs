// Plays a conformance case (tests/conformance/README.md) against this client.

import assert from "node:assert/strict";
import { WebSocket } from "ws";
import { connect } from "../dist/index.js";
import { makeEvent, ScriptedServer, welcomeTo } from "./scripted.mjs";

const PATIENCE_MS = 20_000;

class Script {
  server = new ScriptedServer();
  client;
  storage = new Map();
  variables = new Map();
  asked = new Map(); // name → { answer, run? }
  seen = [];
  told = [];
  handling = [];
  processed = new Map(); // topic → up to where the handler has returned
  failures = 0;
  waiting; // how the client waits for the connection that no step has taken yet
  gate; // while the handler is held: { open, opened }
  viewer = false;
  faults = [];

  async play({ steps, needs = [] }) {
    this.transport = needs.includes("sse") ? "auto" : "websocket";
    await this.server.start();
    this.server.onAck = (ack) => this.#checkAck(ack);
    const { random } = Math;
    try {
      for (const [at, step] of steps.entries())
        await this.#step(step).catch((cause) => {
          throw new Error(`step ${at + 1}, ${JSON.stringify(step)}: ${cause.message}`, { cause });
        });
      await this.#atTheEnd();
    } finally {
      Math.random = random;
      this.client?.close();
      await this.server.end();
    }
  }

  async #step(step) {
    const [verb] = Object.keys(step);
    assert.ok(verb in this.verbs, `no such step: ${verb}`);
    await this.verbs[verb].call(this, step[verb], step);
  }

  async #until(what, condition) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      assert.deepEqual(this.faults, []);
      const value = condition();
      if (value) return value;
      if (Date.now() > end) throw new Error(`it never came to be: ${what}; ${this.#situation()}`);
      await new Promise((next) => setTimeout(next, 2));
    }
  }

  #situation() {
    const { state } = this.client ?? {};
    return JSON.stringify({
      state,
      heard: this.server.current?.heard,
      seen: this.seen,
      handling: this.handling,
    });
  }

  async #atTheEnd() {
    const { current } = this.server;
    if (current && !current.over) await current.settled();
    await new Promise((next) => setTimeout(next, 0));
    assert.deepEqual(this.faults, []);
    assert.deepEqual(this.seen, [], "handed over, and not named by any `seen`");
    for (const { heard } of this.server.connections) assert.deepEqual(heard, [], "sent, and not expected");
    assert.equal(this.server.arrivals.length, 0, "a connection was opened that no step waited for");
  }

  #checkAck({ seq, topic = "" }) {
    if (this.viewer) this.faults.push("a viewer acknowledged");
    if (seq > (this.server.current.sent.get(topic) ?? 0)) this.faults.push(`${seq} was not sent`);
    if (seq > (this.processed.get(topic) ?? 0))
      this.faults.push(`${seq} was acknowledged before it was processed`);
  }

  /** Expected objects match those with at least their fields; see the README. */
  #matches(expected, found) {
    if (expected === "$any") return found !== undefined;
    if (expected === "$none") return found === undefined;
    if (typeof expected === "string" && expected.startsWith("$")) {
      if (!this.variables.has(expected)) this.variables.set(expected, found);
      return found !== undefined && this.variables.get(expected) === found;
    }
    if (typeof expected !== "object" || expected === null) return expected === found;
    if (typeof found !== "object" || found === null) return false;
    if (Array.isArray(expected) && expected.length !== found.length) return false;
    return Object.entries(expected).every(([field, value]) => this.#matches(value, found[field]));
  }

  #match(expected, found, what) {
    assert.ok(
      this.#matches(expected, found),
      `${what}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`,
    );
  }

  /** Puts variables into what the server sends. */
  #fill(value) {
    if (typeof value === "string" && this.variables.has(value)) return this.variables.get(value);
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map((item) => this.#fill(item));
    return Object.fromEntries(Object.entries(value).map(([field, item]) => [field, this.#fill(item)]));
  }

  async #arrival() {
    const before = this.server.current;
    const arrival = await this.#until("a new connection", () => {
      if (this.client.state.status === "waiting") this.client.reconnect();
      return this.server.arrivals.shift();
    });
    if (before) await this.#until("the connection before is over", () => before.over);
    this.waiting = undefined;
    assert.doesNotMatch(arrival.url, /token|t-\d/, "the token is in the URL");
    return arrival;
  }

  #handle(event) {
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error("the case says that the handler fails");
    }
    if (!this.gate) return this.#handled(event);
    this.handling.push(event.seq);
    return this.gate.opened.then(() => this.#handled(event));
  }

  #handled(event) {
    this.seen.push(event);
    this.processed.set(event.topic ?? "", event.seq);
  }

  #welcome(connection, hello, fields) {
    const welcome = welcomeTo(hello, this.#fill(fields));
    this.variables.set("$device", welcome.device);
    connection.epoch = welcome.epoch;
    for (const { topic = "", resume } of [welcome, ...welcome.topics]) {
      if (!resume) continue;
      connection.sent.set(topic, resume.from);
      const before = resume.status === "resumed" ? (this.processed.get(topic) ?? 0) : 0;
      this.processed.set(topic, Math.max(before, resume.from));
    }
    connection.send(welcome);
  }

  verbs = {
    client({ storage, token = "t-1", ...options }) {
      this.#vanish();
      this.viewer = options.ack === false;
      const tokens = [token].flat();
      const keep = { getItem: (n) => this.storage.get(n) ?? null, setItem: (n, v) => this.storage.set(n, v) };
      this.client = connect({
        url: this.server.url,
        transport: this.transport,
        WebSocket,
        token: Array.isArray(token) ? () => (tokens.length > 1 ? tokens.shift() : tokens[0]) : token,
        ...(storage && { storage: keep }),
        ...options,
      });
      for (const kind of ["notice", "error", "topic", "state"])
        this.client.on(kind, (what) => this.told.push({ ...what, kind, message: what.message }));
      this.client.on("state", (state) => state.status === "waiting" && (this.waiting = state));
      this.client.on("event", (event) => this.#handle(event));
      this.client.on("reset", (reset) => void this.seen.push(reset));
    },

    async connect({ token, hello = {}, welcome = {}, transport = "websocket" }) {
      const arrival = await this.#arrival();
      assert.equal(arrival.transport, transport);
      const connection = arrival.open();
      this.server.connections.push(connection);
      const first = await this.#until("a hello", () => connection.heard.shift());
      this.#match({ type: "hello", ...hello }, first, "hello");
      if (token) assert.equal(first.token ?? connection.token, token);
      if (welcome) this.#welcome(connection, first, welcome);
    },

    async refuse(status) {
      (await this.#arrival()).refuse(status);
    },
    block() {
      this.server.blocked = true;
    },
    send(message) {
      this.server.current.send(this.#fill(message));
    },
    text(text) {
      this.server.current.text(text);
    },
    event(fields) {
      this.server.current.sent.set(fields.topic ?? "", fields.seq);
      this.server.current.send(this.#fill(makeEvent(fields)));
    },
    async expect(expected) {
      const found = await this.#until("a message", () => this.server.current.heard.shift());
      this.#match(expected, found, "the client's message");
    },
    async acked(seq, { topic = "" }) {
      await this.#until(`${seq} is acknowledged`, () => this.server.current.acked.get(topic) === seq);
    },
    close(code) {
      this.server.current.close(code);
    },
    cut() {
      this.server.current.cut();
    },
    respond({ status, body }) {
      const type = status < 400 ? "application/json" : "application/problem+json";
      const response = this.server.current.posts.shift();
      response.writeHead(status, { "content-type": type }).end(JSON.stringify(this.#fill(body)));
    },

    do(action, { as, args = {} }) {
      const { run, request, data, topics } = this.#fill(args);
      const { client } = this;
      const made = {
        run: () => client.run(this.#fill(args)),
        cancel: () => client.cancel(run),
        answer: () => client.answer(run, request, data),
        steer: () => client.steer(run, data),
        subscribe: () => client.subscribe(topics),
        close: () => client.close(),
      }[action]();
      const answer = made?.accepted ?? made;
      answer?.catch(() => {});
      this.asked.set(as, { answer, run: made });
    },
    hold(on) {
      this.gate?.open();
      this.gate = undefined;
      this.handling = [];
      if (!on) return;
      let open;
      const opened = new Promise((resolve) => (open = resolve));
      this.gate = { open, opened };
    },
    fail(times) {
      this.failures = times;
    },
    random(value) {
      Math.random = () => value;
    },

    async seen(items) {
      const count = items.length;
      const what = `${count} are handed over`;
      await this.#until(what, () => this.seen.length >= count);
      const found = this.seen.splice(0);
      const expected = items.map((item) => (typeof item === "number" ? { type: "event", seq: item } : item));
      this.#match(expected, found, "handed over");
    },
    async handling(seq) {
      await this.#until(`the handler has ${seq}`, () => this.handling.includes(seq));
    },
    async result(name, expected) {
      await this.#settled(this.asked.get(name).answer, expected);
    },
    async end(name, expected) {
      await this.#settled(this.asked.get(name).run.done, expected);
    },
    async told(expected) {
      await this.#until(JSON.stringify(expected), () =>
        this.told.find((told) => this.#matches(expected, told)),
      );
    },
    async waiting({ min_ms, max_ms }) {
      const { retry_ms } = await this.#until("the client waits", () => this.waiting);
      assert.ok(retry_ms >= min_ms && retry_ms <= max_ms, `it waits ${retry_ms} ms`);
    },
    async stopped(expected) {
      await this.#until("the client has stopped", () => this.client.state.status === "stopped");
      this.#match(expected, this.client.state, "why it stopped");
    },
  };

  async #settled(promise, { is, fails }) {
    let found;
    promise.then(
      (value) => (found = { is: value ?? {} }),
      (error) => (found = { fails: error }),
    );
    await this.#until("an answer", () => found);
    this.#match(is ? { is } : { fails }, found, "the answer");
  }

  /** The program is gone, without a word; what it had asked for is nobody's any more. */
  #vanish() {
    if (!this.client) return;
    this.server.current?.cut();
    this.client.close();
  }
}

export const play = (script) => new Script().play(script);
