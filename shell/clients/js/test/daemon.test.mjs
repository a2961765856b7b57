// The client against the real daemon, which is killed with SIGKILL in the middle of runs.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { connect } from "../dist/index.js";
import { Daemon, skip } from "./daemon.mjs";
import { eventually } from "./wait.mjs";

const long = (words) => ({ text: "a run that is cut", words, delay_ms: 10 });

describe("the client and the daemon", { skip }, () => {
  const daemon = new Daemon();
  const clients = [];

  before(() => daemon.start());
  after(async () => {
    for (const client of clients) client.close();
    await daemon.end();
  });

  /** A client that remembers all it is handed. */
  function device(options = {}) {
    const client = connect({ url: daemon.url, token: daemon.token, WebSocket, ...options });
    const seen = { client, events: [], resets: [], errors: [] };
    client.on("event", (event) => void seen.events.push(event));
    client.on("reset", (reset) => void seen.resets.push(reset));
    client.on("error", (error) => void seen.errors.push(error));
    clients.push(client);
    return seen;
  }

  /** The whole log, as a viewer of no consequence is sent it. */
  async function log() {
    const viewer = device({ ack: false, from: "oldest" });
    let head;
    viewer.client.on("welcome", (welcome) => (head = welcome.head));
    await eventually("the whole log has come", () => head !== undefined && viewer.events.at(-1)?.seq >= head);
    viewer.client.close();
    return viewer.events;
  }

  test("a run is asked for, followed, and ends", async () => {
    const { client } = device();
    const run = client.run({ agent: "echo", input: "to be or not to be" });
    const { run: id, thread, duplicate } = await run.accepted;
    assert.match(id, new RegExp(`^run_${thread}_[0-9a-f]{8}$`));
    assert.equal(duplicate, false);
    let text = "";
    const names = new Set();
    for await (const event of run) {
      names.add(event.event);
      if (event.event === "agent_output") text = event.data.text ?? text + event.data.delta;
    }
    assert.match(text, /to be or not to be/);
    for (const name of ["run_queued", "agent_started", "agent_output", "agent_completed"])
      assert.ok(names.has(name), name);
    assert.equal((await run.done).status, "ok");
  });

  test("a run is cancelled; another's is not found; the same key runs once", async () => {
    const { client } = device();
    const run = client.run({ agent: "echo", input: long(2000), key: "once" });
    const again = client.run({ agent: "echo", input: long(2000), key: "once" });
    assert.equal((await again.accepted).run, (await run.accepted).run);
    assert.ok((await again.accepted).duplicate);
    for await (const { event } of run) if (event === "agent_started") break;
    assert.equal((await run.cancel()).state, "cancelling");
    assert.equal((await run.done).status, "cancelled");
    assert.equal((await run.cancel()).state, "ended");
    await assert.rejects(client.cancel("run_other_00000001"), { code: "run_not_found" });
    await assert.rejects(client.run({ agent: "nobody", input: 1 }).accepted, { code: "agent_unknown" });
  });

  test("kill -9 in the middle of runs: two devices see every event once and in order", async () => {
    const start = (await log()).length;
    const pair = [device({ from: "oldest" }), device({ from: "oldest" })];
    const runs = [];
    for (let round = 1; round <= 3; round += 1) {
      const before = pair[0].events.length;
      runs.push(pair[0].client.run({ agent: "echo", input: long(300) }));
      const grown = ({ events }) => events.length > before + 60;
      await eventually("both are in the middle of the run", () => pair.every(grown));
      await daemon.kill();
      const offline = ({ client }) => client.state.status !== "connected";
      await eventually("both know that it is gone", () => pair.every(offline));
      runs.push(
        pair[1].client.run({ agent: "echo", input: `asked in round ${round} of a daemon that is down` }),
      );
      await daemon.start();
      await Promise.all(runs.map(({ done }) => done));
    }
    const all = await log();
    assert.deepEqual(
      all.map(({ seq }) => seq),
      all.map((_, at) => at + 1),
    );
    for (const { client, events, resets } of pair) {
      await eventually("the device has all", () => client.position()?.seq === all.length);
      assert.deepEqual(resets, []);
      assert.deepEqual(
        events.flatMap(({ seq, prev = seq - 1 }) =>
          Array.from({ length: seq - prev }, (_, at) => prev + 1 + at),
        ),
        all.map(({ seq }) => seq),
        "every event once and in order",
      );
    }
    const ids = runs.map(({ id }) => id);
    assert.equal(new Set(ids).size, 6, "what was asked while the daemon was down was done once");
    for (const id of ids) {
      const ends = all.filter(({ run, event }) => run === id && event === "agent_completed");
      assert.equal(ends.length, 1, "one end");
    }
    assert.ok(all.length > start);
  });

  test("a program that starts anew goes on where it was", async () => {
    const kept = new Map();
    const storage = {
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => kept.set(name, value),
    };
    const first = device({ storage, from: "oldest" });
    await first.client.run({ agent: "echo", input: "one" }).done;
    first.client.close();
    const { seq } = first.events.at(-1);
    const second = device({ storage, from: "oldest" });
    assert.equal((await second.client.run({ agent: "echo", input: "two" }).done).status, "ok");
    assert.equal(second.client.device, first.client.device);
    assert.equal(second.events[0].seq, seq + 1);
  });

  test("a token that nobody signed ends it", async () => {
    const { client } = device({ token: `${daemon.token.slice(0, -4)}AAAA` });
    await eventually("it has stopped", () => client.state.status === "stopped");
    assert.equal(client.state.code, 4501);
    assert.equal(client.state.error.code, "token_signature");
  });
});
