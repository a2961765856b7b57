// The chat page in a real browser, against the real daemon: killed twenty times during a run, behind proxies,
// without a network, in two tabs. What the daemon's own log says is the truth that every tab is held to.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { eventually, launch, stateOf, until, watch } from "./browser.mjs";
import { Daemon, skip } from "./daemon.mjs";
import { Proxy } from "./proxy.mjs";
import { Worker } from "./worker.mjs";

const KILLS = 20;
const EVENTS = 500;
const PORTION = EVENTS / KILLS;

const shotsTo = process.env.SCREENSHOTS;

describe("the chat page and the daemon", { skip }, () => {
  let browser, context, daemon, worker, faults;
  /** How many words the agent `count` may say. */
  let allowed;
  let letOn = () => {};

  const agents = {
    /** Says the numbers up to its input, as far as it is allowed to; with a tool at each portion. */
    async count(job) {
      for (let n = 1; n <= job.input; n += 1) {
        while (n > allowed) await new Promise((on) => (letOn = on));
        if (n % PORTION === 1) job.say("tool_executing", { call: `call-${n}`, tool: "add", args: { to: n } });
        if (n % PORTION === 2)
          job.say("tool_completed", { call: `call-${n - 1}`, status: "ok", duration_ms: 1 });
        job.say("agent_output", { delta: `${n} ` });
        await new Promise((next) => setTimeout(next, 2));
      }
      job.end("ok");
    },
    /** Asks, and says what was answered. */
    async ask(job) {
      const schema = { enum: ["red", "green"] };
      job.say("input_required", { request: "colour", prompt: "Which colour?", schema });
      const { data } = await job.hear();
      job.say("agent_output", { delta: `It is ${data}.` });
      job.end("ok");
    },
    /** Works until it is stopped. */
    async dig(job) {
      job.say("tool_executing", { call: "c", tool: "dig", args: {} });
      job.say("agent_output", { delta: "Half a hole." });
      const reason = await job.cancelled;
      job.say("tool_completed", { call: "c", status: "interrupted", duration_ms: 1 });
      job.end("cancelled", { reason });
    },
  };
  const allow = (upTo) => {
    allowed = upTo;
    letOn();
  };

  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());
  beforeEach(async () => {
    allowed = Number.POSITIVE_INFINITY;
    faults = [];
    context = await browser.newContext();
  });
  afterEach(async () => {
    await context.close();
    worker?.end();
    await daemon.end();
    assert.deepEqual(faults.flat(), [], "a page had faults");
  });

  async function serve(...settings) {
    daemon = new Daemon(...settings);
    await daemon.start();
    worker = new Worker(() => daemon.port, await daemon.workerToken(), agents);
  }

  async function open(port) {
    const page = await context.newPage();
    faults.push(watch(page));
    await page.goto(daemon.url(port));
    await until(page, (state) => state.connection === "connected");
    return page;
  }

  async function ask(page, agent, text) {
    await page.selectOption("#agent", { label: "Another agent…" });
    await page.fill("#agent-other", agent);
    await page.fill("#text", text);
    await page.press("#text", "Enter");
    await page.locator(".run").last().waitFor();
  }

  /** Comes back as a person would who does not like to wait. */
  const comeBack = (page) =>
    eventually(async () => {
      const { connection } = (await stateOf(page)) ?? {};
      if (connection === "connected") return true;
      await page.evaluate(() => {
        const now = document.getElementById("now");
        if (now.offsetParent) now.click();
      });
      return false;
    }, "the page is connected");

  /** A text without what Markdown is made of. */
  const bare = (text) => text.replace(/[`*#\s-]/g, "");

  const numbers = (to) => Array.from({ length: to }, (_, n) => `${n + 1} `).join("");

  /** Both have every event of the log once and in order, and show what it says. */
  async function assertWhole(pages) {
    const log = await daemon.log();
    assert.deepEqual(
      log.map(({ seq }) => seq),
      log.map((_, at) => at + 1),
      "the log itself has no gap",
    );
    const runs = [...new Set(log.map(({ run }) => run))];
    for (const page of pages) {
      const state = await until(page, (state) => state.position === log.length);
      assert.deepEqual([state.gaps, state.resets, state.unanswered], [0, 0, 0]);
      assert.equal(state.events, log.length, "every event once");
      assert.deepEqual(Object.keys(state.runs).sort(), runs.toSorted());
      assert.ok(
        Object.values(state.runs).every(({ ends }) => ends === 1),
        "every run has one end",
      );
      for (const run of runs) {
        const ours = log.filter((event) => event.run === run);
        const last = ours.at(-1);
        assert.equal(last.event, "agent_completed");
        const written = ours.filter((event) => event.event === "agent_output");
        const text = bare(written.map(({ data }) => data.delta).join(""));
        // What is written before and after a tool stands before and after it.
        const output = page.locator(`[data-run="${run}"] .output`);
        const isShown = async () => bare((await output.allTextContents()).join("")) === text;
        await eventually(isShown, `the output of ${run} is shown whole`);
      }
    }
    return log;
  }

  test(`${KILLS} kills in a run of ${EVENTS} events: both tabs have every event once and in order`, async () => {
    await serve();
    const tabs = [await open(), await open()];
    allow(0);
    await ask(tabs[0], "count", String(EVENTS));
    const ready = (state) => Object.values(state.runs)[0]?.status === "running";
    for (const tab of tabs) await until(tab, ready);
    for (let kill = 1; kill <= KILLS; kill += 1) {
      const { position } = await stateOf(tabs[kill % 2]);
      allow(kill * PORTION);
      await until(tabs[kill % 2], (state) => state.position > position + 3);
      await daemon.kill();
      await daemon.start();
      await Promise.all(tabs.map(comeBack));
    }
    for (const tab of tabs) await until(tab, (state) => Object.values(state.runs)[0].status === "ok");
    const log = await assertWhole(tabs);
    assert.ok(log.length > EVENTS);
    assert.equal(log.filter(({ event }) => event === "agent_started").length, 1, "it was executed once");
    for (const tab of tabs) {
      const shown = (await tab.locator(".output").allTextContents()).join("");
      assert.equal(shown, numbers(EVENTS));
      assert.equal(await tab.locator(".tool[data-state=ok]").count(), KILLS);
    }
  });

  test("a daemon that is killed takes its own agents along: their runs are tried again", async () => {
    await serve();
    const tabs = [await open(), await open()];
    const input = { text: "over and over", words: 120, delay_ms: 10 };
    await ask(tabs[0], "echo", JSON.stringify(input));
    const before = await until(tabs[1], (state) => state.position > 30);
    await daemon.kill();
    await tabs[1].locator("#lost").waitFor();
    await ask(tabs[1], "echo", "asked while it was down");
    await daemon.start();
    await Promise.all(tabs.map(comeBack));
    const over = ({ runs }) => Object.values(runs).filter(({ ends }) => ends === 1).length === 2;
    for (const tab of tabs) await until(tab, over);
    const log = await assertWhole(tabs);
    assert.ok(log.length > before.position);
    await tabs[0].getByText("Attempt 1 was cut off: its worker went away").waitFor();
    assert.ok(log.some(({ event, data }) => event === "agent_output" && /asked/.test(data.delta)));
  });

  test("a question is answered in the second tab, and the first shows by whom", async () => {
    await serve();
    const [one, two] = [await open(), await open()];
    await ask(one, "ask", "choose");
    for (const tab of [one, two]) await tab.getByRole("button", { name: "green" }).waitFor();
    if (shotsTo) await one.screenshot({ path: `${shotsTo}/daemon-question.png` });
    // Both answer at once: one of them is the first, for everyone.
    const press = (tab, at) => tab.evaluate((at) => document.querySelectorAll(".choice")[at].click(), at);
    await Promise.all([press(two, 1), press(one, 0)]);
    for (const tab of [one, two])
      await tab.locator(".output", { hasText: /^It is (red|green)\.$/ }).waitFor();
    const log = await assertWhole([one, two]);
    const answers = log.filter(({ event }) => event === "input_received");
    assert.equal(answers.length, 1, "the first answer counts");
    const { data, device } = answers[0].data;
    for (const tab of [one, two]) {
      const mine = (await stateOf(tab)).device === device;
      await tab.getByText(`${mine ? "You answered" : "Answered on another device"}: ${data}`).waitFor();
    }
  });

  test("a run is stopped in the second tab, and both say so", async () => {
    await serve();
    const [one, two] = [await open(), await open()];
    await ask(one, "dig", "a hole");
    await two.locator(".output", { hasText: "Half a hole." }).waitFor();
    await two.locator(".run").getByRole("button", { name: "Stop" }).click();
    for (const tab of [one, two]) {
      await tab.locator("#log").getByText("You stopped this.").waitFor();
      await tab.getByText("Used dig · 1 interrupted").waitFor();
    }
    await assertWhole([one, two]);
  });

  test("without a network it says so, and goes on at once when there is one again", async () => {
    await serve("server.heartbeat=1s");
    const proxy = new Proxy(() => daemon.port);
    await proxy.start();
    const [away, there] = [await open(proxy.port), await open()];
    allow(10);
    await ask(there, "count", "60");
    await away.locator(".output", { hasText: "10" }).waitFor();
    proxy.hold();
    await context.setOffline(true);
    allow(60);
    await away.locator("#lost", { hasText: "You are offline." }).waitFor();
    if (shotsTo) await away.screenshot({ path: `${shotsTo}/offline.png` });
    proxy.release();
    await context.setOffline(false);
    for (const tab of [away, there])
      await until(tab, (state) => Object.values(state.runs)[0]?.status === "ok");
    await away.getByText(/Back again\. Caught up on \d+ events\./).waitFor();
    await assertWhole([away, there]);
    await proxy.end();
  });

  test("behind a proxy that cuts silent connections, runs arrive whole", async () => {
    await serve("server.heartbeat=10s");
    const proxy = new Proxy(() => daemon.port, { silence_ms: 700 });
    await proxy.start();
    const page = await open(proxy.port);
    allow(5);
    await ask(page, "count", "40");
    await page.locator(".output").waitFor();
    await eventually(() => proxy.cuts >= 3, "silence was cut three times");
    allow(40);
    await until(page, (state) => Object.values(state.runs)[0].status === "ok");
    await assertWhole([page]);
    assert.equal((await page.locator(".output").allTextContents()).join(""), numbers(40));
    await proxy.end();
  });

  test("with heartbeats more often than a proxy’s patience nothing is cut", async () => {
    await serve("server.heartbeat=500ms");
    const proxy = new Proxy(() => daemon.port, { silence_ms: 1500 });
    await proxy.start();
    const page = await open(proxy.port);
    const { connections } = await stateOf(page);
    let heartbeats = 0;
    page.on("websocket", () => assert.fail("a second connection"));
    const session = await context.newCDPSession(page);
    await session.send("Network.enable");
    session.on("Network.webSocketFrameReceived", ({ response }) => {
      if (/"heartbeat"/.test(response.payloadData)) heartbeats += 1;
    });
    await eventually(() => heartbeats >= 5, "five heartbeats");
    assert.equal((await stateOf(page)).connections, connections);
    await proxy.end();
  });

  test("where no WebSocket comes through, all goes by server-sent events", async () => {
    await serve();
    const proxy = new Proxy(() => daemon.port, { blocks: true });
    await proxy.start();
    const [blocked, open_] = [await open(proxy.port), await open()];
    assert.equal((await stateOf(blocked)).transport, "sse");
    assert.ok(proxy.refusals >= 2);
    await blocked.locator("#link", { hasText: "without WebSocket" }).waitFor();
    await ask(blocked, "count", "120");
    await until(blocked, (state) => Object.values(state.runs)[0]?.status === "ok");
    await ask(blocked, "ask", "choose");
    await blocked.getByRole("button", { name: "red" }).click();
    await blocked.locator(".output", { hasText: "It is red." }).waitFor();
    await ask(blocked, "dig", "a hole");
    await blocked.getByText("Half a hole.").waitFor();
    await blocked.locator("#stop").click();
    await blocked.locator("#log").getByText("You stopped this.").waitFor();
    await assertWhole([blocked, open_]);
    await proxy.end();
  });

  test("the built-in agents show tools and answers, and ask", async () => {
    await serve();
    const page = await open();
    await page.getByRole("button", { name: /Find the largest file/ }).click();
    const run = page.locator(".run");
    await run.getByText(/Done/).waitFor();
    assert.ok((await run.locator(".tool").count()) > 0, "it used tools");
    assert.ok((await run.locator(".output").textContent()).length > 0, "it answered");
    if (shotsTo) await page.screenshot({ path: `${shotsTo}/files.png` });
    await assertWhole([page]);
    await page.click("#new");
    await page.getByRole("button", { name: /Ask me something/ }).click();
    await page.getByRole("button", { name: "Blue" }).click();
    await page.locator(".output", { hasText: "That is what you chose." }).waitFor();
    await page.getByText("You answered: Blue").waitFor();
  });
});
