// The chat page in a real browser, against a scripted daemon: what a person sees, and what the daemon hears.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { eventually, launch, skip, stateOf, until, watch } from "./browser.mjs";
import { FakeDaemon, tokenOf } from "./fake.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const shotsTo = process.env.SCREENSHOTS; // a folder for pictures of what the tests bring the page to

describe("the chat page", { skip }, () => {
  let browser, context, daemon, faults;

  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());

  beforeEach(async () => {
    daemon = new FakeDaemon();
    await daemon.start();
    context = await browser.newContext({ viewport: { width: 1100, height: 760 } });
    faults = [];
  });
  afterEach(async () => {
    await context.close();
    await daemon.kill();
    assert.deepEqual(faults, [], "the page had faults");
  });

  async function open(user = "alice", url = daemon.url(user)) {
    const page = await context.newPage();
    const seen = watch(page);
    page.on("close", () => faults.push(...seen));
    await page.goto(url);
    await until(page, (state) => state.connection === "connected");
    return page;
  }

  async function ask(page, text) {
    await page.fill("#text", text);
    await page.press("#text", "Enter");
  }

  const eventsOf = () => daemon.user("alice").events;

  /** Asks on the page, and waits until the daemon has made a run of it. */
  async function run(page, text) {
    const before = eventsOf().length;
    await ask(page, text);
    const isQueued = ({ event }) => event === "run_queued";
    const queued = await eventually(() => eventsOf().slice(before).find(isQueued), "the run is queued");
    return queued.run;
  }

  /** What an agent does in a run. */
  const agentIn =
    (id) =>
    (event, data, attempt = 1) =>
      daemon.emit("alice", id, event, data, attempt);
  const end = (status, rest) => ({ status, queued_ms: 0, running_ms: 900, attempts: 1, tools: 0, ...rest });
  const viewOf = (page, id) => page.locator(`[data-run="${id}"]`);
  const caughtUp = (page) => until(page, (state) => state.position === eventsOf().length);
  const shot = (page, name) => shotsTo && page.screenshot({ path: `${shotsTo}/${name}.png` });

  test("a run is seen from the queue to its end, and every event is acknowledged", async () => {
    const page = await open();
    const id = await run(page, "Which file is the largest?");
    const view = viewOf(page, id);
    await view.getByText("2 runs are ahead of yours.").waitFor();
    daemon.tell("alice", {
      type: "notice",
      notice: "queue",
      run: id,
      position: 2,
      ahead: 1,
      waiting: 4,
      eta_ms: 9000,
      waited_ms: 500,
      reason: "concurrency",
      message: "1 run is ahead of yours. All places are taken.",
    });
    await view.getByText("1 run is ahead of yours. All places are taken.").waitFor();
    assert.equal(await view.locator(".place").textContent(), "2in line");
    assert.match(
      await view.locator(".times").textContent(),
      /^4 wait in all · waited \d+ s · about [89] s to go$/,
    );
    assert.match(await page.locator("#threads small").textContent(), /^Place 2 in line/);
    await shot(page, "queued");

    const emit = agentIn(id);
    emit("agent_started", { agent: "files", worker: "w", attempt: 1, queued_ms: 1200 });
    for (const delta of ["I should ", "look at ", "the folder."]) emit("agent_thinking", { delta });
    await view.getByText("I should look at the folder.").waitFor();
    await view.getByText("Thinking…").waitFor();
    emit("step_started", { step: "s1", name: "Look around", index: 1, of: 2 });
    emit("tool_executing", { call: "c1", tool: "search", args: { q: "largest", depth: 3 } });
    emit("tool_executing", { call: "c2", tool: "read", args: { path: "core" } });
    emit("tool_progress", { call: "c1", percent: 40, text: "120 files" });
    await view.getByText("120 files").waitFor();
    await view.getByText("Using 2 tools…").waitFor();
    await shot(page, "tools");
    emit("tool_completed", { call: "c1", status: "ok", result: { path: "core/lib.rs" }, duration_ms: 340 });
    emit("tool_completed", { call: "c2", status: "error", error: { message: "not a file" }, duration_ms: 8 });
    emit("step_completed", { step: "s1", status: "ok" });
    await view.locator("summary", { hasText: '"q": "largest", "depth": 3' }).waitFor();
    await view.getByText("340 ms").waitFor();
    await view.getByText("failed · 8 ms").waitFor();
    for (const delta of ["The largest ", "is `core/", "lib.rs`."]) emit("agent_output", { delta });
    await view.getByText("The largest is core/lib.rs.").waitFor();
    assert.equal(await view.locator(".output code").textContent(), "core/lib.rs");
    assert.equal(await view.getAttribute("aria-busy"), "true");
    emit("agent_completed", end("ok", { queued_ms: 1200, running_ms: 2100, tools: 2 }));
    await view.getByText(/Done · took 2\.1 s · waited 1\.2 s · 2 tools/).waitFor();
    assert.equal(await view.getAttribute("aria-busy"), "false");
    const folded = view.locator(".activity > details");
    assert.equal(await folded.getAttribute("open"), null, "what it did is folded when it is over");
    await view.getByText("Thought · used search, read · 1 failed").click();
    await view.locator(".tool").last().locator("summary").click();
    await view.getByText('"message": "not a file"').waitFor();
    await shot(page, "done");

    const state = await caughtUp(page);
    assert.deepEqual(state.runs[id], { status: "ok", ends: 1 });
    assert.equal(state.gaps, 0);
    await eventually(() => daemon.of("alice")[0].acked === state.position, "all is acknowledged");
    assert.equal(page.url().includes("token"), false, "the token is gone from the address");
    await page.close();
  });

  test("text replaces what was streamed, and an answer that comes only with the end is shown", async () => {
    const page = await open();
    const [first, second] = [await run(page, "one"), await run(page, "two")];
    agentIn(first)("agent_started", { attempt: 1 });
    agentIn(first)("agent_output", { delta: "draught" });
    agentIn(first)("agent_output", { text: "fair copy" });
    agentIn(first)("agent_completed", end("ok", { output: "fair copy" }));
    agentIn(second)("agent_started", { attempt: 1 });
    agentIn(second)("agent_completed", end("ok", { output: { text: "only at the end" } }));
    await page.locator(".output", { hasText: "only at the end" }).waitFor();
    assert.deepEqual(await page.locator(".output").allTextContents(), ["fair copy", "only at the end"]);
    await page.close();
  });

  test("a second tab shows the same, as a device of its own, and so does a reload", async () => {
    const one = await open();
    const id = await run(one, "hello");
    const two = await open("alice", `http://127.0.0.1:${daemon.port}/`);
    agentIn(id)("agent_started", { attempt: 1 });
    agentIn(id)("agent_output", { delta: "seen in both" });
    for (const page of [one, two]) await page.getByText("seen in both").waitFor();
    const [first, second] = [await stateOf(one), await stateOf(two)];
    assert.notEqual(first.device, second.device);
    assert.equal(first.events, second.events);

    await two.reload();
    await two.getByText("seen in both").waitFor();
    const again = await stateOf(two);
    assert.equal(again.device, second.device, "a reload is the same device");
    assert.equal(again.events, second.events, "a reload builds all again");
    await Promise.all([one.close(), two.close()]);
  });

  test("a duplicated tab takes a name of its own", async () => {
    const page = await open();
    const [twin] = await Promise.all([
      context.waitForEvent("page"),
      page.evaluate(() => void window.open(location.href)),
    ]);
    await until(twin, (state) => state.connection === "connected");
    assert.notEqual((await stateOf(twin)).device, (await stateOf(page)).device);
    assert.equal((await stateOf(page)).connection, "connected");
    await Promise.all([page.close(), twin.close()]);
  });

  test("after a crash both tabs go on where they were, and what had no answer is asked again", async () => {
    const pages = [await open(), await open()];
    const id = await run(pages[0], "count");
    agentIn(id)("agent_started", { attempt: 1 });
    for (let n = 1; n <= 20; n += 1) agentIn(id)("agent_output", { delta: `${n} ` });
    for (const page of pages) await caughtUp(page);
    daemon.deaf = true;
    await ask(pages[0], "are you there?");
    await eventually(() => daemon.sent("run").length === 2, "the second request has gone out");
    await daemon.kill();
    for (const page of pages) await page.locator("#lost").getByText("The connection was lost.").waitFor();
    await shot(pages[0], "reconnecting");
    for (let n = 21; n <= 32; n += 1) agentIn(id)("agent_output", { delta: `${n} ` });
    daemon.deaf = false;
    await daemon.start();

    await pages[1].getByText(/Back again\. Caught up on 1\d events\./).waitFor();
    for (const page of pages) {
      const isDone = (state) => state.unanswered === 0 && Object.keys(state.runs).length === 2;
      await until(page, isDone);
      const state = await caughtUp(page);
      assert.deepEqual([state.gaps, state.resets], [0, 0]);
      assert.equal(state.events, eventsOf().length, "every event once");
      const counted = Array.from({ length: 32 }, (_, n) => `${n + 1} `).join("");
      const output = viewOf(page, id).locator(".output");
      await eventually(async () => (await output.textContent()) === counted, "the whole answer is shown");
      await page.locator("#lost").waitFor({ state: "hidden" });
    }
    const [lost, again] = daemon.sent("run").slice(1);
    assert.deepEqual(again.message, lost.message, "the same request, with the same key");
    await Promise.all(pages.map((page) => page.close()));
  });

  test("what was asked while there was no connection is asked after a reload, once", async () => {
    const page = await open();
    await run(page, "first");
    daemon.deaf = true;
    await ask(page, "second");
    const { message } = await eventually(() => daemon.sent("run")[1], "the request has gone out");
    daemon.deaf = false;
    await page.reload();
    const again = await eventually(() => daemon.sent("run")[2]?.message, "it is asked again");
    assert.equal(again.key, message.key);
    const state = await until(page, (state) => state.unanswered === 0);
    assert.equal(Object.keys(state.runs).length, 2);
    await page.locator(".said", { hasText: "second" }).waitFor();
    assert.equal(await page.locator(".run").count(), 2);
    await page.close();
  });

  test("a request whose answer was lost is not shown twice", async () => {
    const page = await open();
    const id = await run(page, "first");
    // The events come, the answer does not: as if the connection had broken between the two.
    daemon.deaf = true;
    await ask(page, "second");
    const { message } = await eventually(() => daemon.sent("run")[1], "the request has gone out");
    const second = id.replace(/.{8}$/, "0000beef");
    daemon.user("alice").keys.set(message.key, second);
    const data = { agent: "files", input: "second", position: 1, key: message.key };
    daemon.emit("alice", second, "run_queued", data, 0);
    daemon.deaf = false;
    daemon.close("alice", 1011);
    await until(page, (state) => state.connections === 2 && state.unanswered === 0);
    await viewOf(page, second).waitFor();
    assert.equal(await page.locator(".run").count(), 2);
    await page.close();
  });

  test("a reset is told, and everything is built again", async () => {
    const page = await open();
    await run(page, "of the old world");
    await page.locator(".said", { hasText: "of the old world" }).waitFor();
    daemon.rebuild("alice");
    const data = { agent: "echo", input: "of the new world", position: 1 };
    daemon.emit("alice", "run_thread_n_00000001", "run_queued", data, 0);
    daemon.close("alice", 1012);
    await page.getByText("The server’s history began anew").waitFor();
    await page.locator("#threads").getByText("of the new world").waitFor();
    assert.equal(await page.getByText("of the old world").count(), 0);
    const state = await stateOf(page);
    assert.deepEqual([state.resets, state.events, state.gaps], [1, 1, 0]);
    await page.getByRole("button", { name: "Dismiss" }).click();
    assert.equal(await page.getByText("The server’s history began anew").isVisible(), false);
    await page.close();
  });

  test("what is not kept any more is told", async () => {
    const emit = agentIn("run_old_00000001");
    emit("agent_output", { delta: "gone" });
    emit("agent_output", { delta: "the rest" });
    daemon.user("alice").floor = 2;
    const page = await open();
    await page.getByText("The beginning of this run is not kept any more.").waitFor();
    await page.getByText("Older messages are not kept any more.").waitFor();
    await caughtUp(page);
    // The page is away, and what it has not seen is trimmed meanwhile.
    await daemon.kill();
    await page.locator("#lost").waitFor();
    for (const delta of ["unseen", "seen"]) emit("agent_output", { delta });
    daemon.user("alice").floor = 4;
    await daemon.start();
    await page.getByText("You were away for longer than messages are kept").waitFor();
    await page.locator(".output", { hasText: /^seen$/ }).waitFor();
    await page.close();
  });

  test("what agents write is text, whatever it looks like", async () => {
    const page = await open();
    await page.evaluate(() => {
      window.harm = 0;
    });
    const evil = '<img src=x onerror="harm=1"><script>harm=1</script><svg onload=harm=1>';
    const id = await run(page, evil);
    const emit = agentIn(id);
    const odd = { toString: 1, valueOf: evil, ["__proto__"]: evil };
    emit("agent_started", { attempt: 1, agent: evil });
    emit("agent_thinking", { delta: evil });
    emit("tool_executing", { call: "c", tool: evil, args: odd });
    emit("tool_completed", { call: "c", status: evil, result: odd, error: evil, duration_ms: odd });
    emit("step_started", { step: odd, name: odd, index: odd, of: odd });
    emit("tool_executing", { call: odd, tool: null });
    emit("constructor", { delta: evil });
    emit("input_required", { request: "r", prompt: evil, schema: { enum: [evil, odd] } });
    emit("input_required", { request: "s", prompt: odd, schema: { type: "object", properties: odd } });
    emit("custom", { name: odd, value: evil });
    emit("agent_output", { delta: odd, message: odd });
    emit("agent_output", { delta: evil });
    emit("agent_output", { delta: `[here](javascript:harm=1) ![there](data:text/html,${evil}) <${evil}>` });
    emit("agent_completed", {
      status: odd,
      error: { message: evil },
      output: [evil],
      running_ms: evil,
      tools: odd,
    });
    const other = { agent: evil, input: { text: evil } };
    daemon.emit("alice", "run_javascript:x_00000001", "run_queued", other, 0);
    daemon.tell("alice", { type: "notice", notice: "backlog", behind: 3, message: evil });
    daemon.tell("alice", { type: "error", code: "x", message: evil, hint: odd });
    await caughtUp(page);
    await page.locator("#threads button").last().click();
    await page.locator(".output", { hasText: evil }).first().waitFor();
    assert.equal(await page.locator("img, main script, .output svg, a[href^='javascript']").count(), 0);
    assert.equal(await page.evaluate(() => window.harm), 0);
    await page.close();
  });

  test("Escape stops the run, and a refused request says why and gives the text back", async () => {
    const page = await open();
    const id = await run(page, "long work");
    agentIn(id)("agent_started", { attempt: 1 });
    await page.getByText("Working", { exact: true }).first().waitFor();
    await page.press("#text", "Escape");
    await page.getByText("Stopping…").waitFor();
    await eventually(() => daemon.sent("cancel")[0]?.message.run === id, "the cancel has gone out");
    agentIn(id)("agent_completed", end("cancelled", { reason: "user" }));
    await page.locator("#log").getByText("You stopped this.").waitFor();
    assert.equal(await page.getByText("Stopping…").count(), 0);

    daemon.deaf = true;
    await ask(page, "one more");
    const { message } = await eventually(() => daemon.sent("run")[1], "the request has gone out");
    daemon.deaf = false;
    const problem = { code: "agent_unavailable", message: "echo failed 5 times in a row", retry_ms: 60_000 };
    daemon.tell("alice", { type: "error", of: "run", id: message.id, temporary: true, ...problem });
    await page.getByText("This agent is not available at present").waitFor();
    await page.locator(".detail", { hasText: "echo failed 5 times in a row" }).waitFor();
    await page.getByRole("button", { name: /Try again in \d/ }).waitFor();
    await shot(page, "refused-run");
    assert.equal(await page.inputValue("#text"), "one more", "the text is given back");
    assert.equal((await stateOf(page)).unanswered, 0);
    await page.close();
  });

  test("an agent’s questions have buttons, or fields, and say who answered", async () => {
    const page = await open();
    const id = await run(page, "ask me");
    const emit = agentIn(id);
    const view = viewOf(page, id);
    const answers = () => daemon.sent("input").map(({ message }) => [message.request, message.data]);
    emit("agent_started", { attempt: 1 });
    emit("input_required", {
      request: "r1",
      prompt: "Go on?",
      schema: { type: "boolean" },
      expires_ms: 60_000,
    });
    await view.getByText("Waits for your answer").waitFor();
    await page.locator("#threads").getByText("Needs your answer").waitFor();
    assert.match(await page.title(), /^\(1\)/);
    await view.getByText(/\d+ s left to answer/).waitFor();
    await shot(page, "question");
    await view.getByRole("button", { name: "Yes" }).click();
    await eventually(() => answers().length === 1, "the answer has gone out");
    emit("input_received", { request: "r1", data: true, device: (await stateOf(page)).device });
    await view.getByText("You answered: Yes").waitFor();

    const schema = {
      type: "object",
      properties: { name: { type: "string", title: "Name" }, size: { type: "integer", minimum: 1 } },
      required: ["name"],
    };
    emit("input_required", { request: "r2", prompt: "Which box?", schema });
    await view.getByLabel("Name").fill("blue");
    await view.getByLabel("size (if you like)").fill("3");
    await view.getByRole("button", { name: "Answer" }).click();
    await eventually(() => answers().length === 2, "the answer has gone out");
    emit("input_received", { request: "r2", data: { name: "red" }, device: "a-phone" });
    await view.getByText("Answered on another device").waitFor();

    emit("input_required", { request: "r3", prompt: "Which folder?" });
    const field = view.getByRole("textbox", { name: "Which folder?" });
    await field.fill("src");
    await field.press("Enter");
    await eventually(() => answers().length === 3, "the answer has gone out");
    emit("input_received", { request: "r3", data: null, expired: true });
    await view.getByText("Nobody answered in time.").waitFor();
    assert.deepEqual(answers(), [
      ["r1", true],
      ["r2", { name: "blue", size: 3 }],
      ["r3", "src"],
    ]);
    assert.doesNotMatch(await page.title(), /^\(1\)/);
    await page.close();
  });

  test("an agent at work is told something, and the run says what it was told", async () => {
    const page = await open();
    const id = await run(page, "look");
    agentIn(id)("agent_started", { attempt: 1 });
    await page.getByText("Tell it now").click();
    await ask(page, "only in src");
    const { message } = await eventually(() => daemon.sent("input")[0], "it has gone out");
    assert.deepEqual([message.run, message.request, message.data], [id, undefined, "only in src"]);
    agentIn(id)("input_received", { data: "only in src", device: "another" });
    await viewOf(page, id).locator(".steer", { hasText: "only in src" }).waitFor();
    assert.equal(daemon.sent("run").length, 1, "no other run was asked for");
    await page.close();
  });

  test("a retry folds what came before, and ends say what happened", async () => {
    const page = await open();
    const id = await run(page, "try");
    const view = viewOf(page, id);
    const emit = agentIn(id);
    emit("agent_started", { attempt: 1 });
    emit("agent_output", { delta: "half an ans" });
    emit("run_retrying", { reason: "worker_lost", delay_ms: 500 });
    await view.getByText("Will try again").waitFor();
    emit("agent_started", { attempt: 2 }, 2);
    emit("tool_executing", { call: "c", tool: "search" }, 2);
    emit("agent_output", { delta: "a whole answer" }, 2);
    await view.getByText("a whole answer").waitFor();
    await view.getByText("Attempt 1 was cut off: its worker went away").waitFor();
    assert.equal(await view.getByText("half an ans").isVisible(), false);
    emit("tool_completed", { call: "c", status: "interrupted", duration_ms: 5 }, 2);
    emit("agent_completed", end("worker_lost", { attempts: 2 }), 2);
    await view.getByText("went away, and did not come back in time.").waitFor();
    await view.getByText("1 interrupted").waitFor();
    await shot(page, "worker-lost");
    await view.getByRole("button", { name: "Try again" }).click();
    const again = await eventually(() => daemon.sent("run")[1]?.message, "it is asked for again");
    assert.deepEqual([again.agent, again.input], ["files", "try"]);
    for (const [status, rest, words] of [
      ["timed_out", {}, "It ran for longer than it may, and was stopped."],
      ["error", { error: { code: "no_key", message: "the key is missing" } }, "the key is missing"],
      ["error", { error: { code: "queue_expired", message: "24 h" } }, "It waited in line for too long"],
      ["cancelled", { reason: "interrupt" }, "Stopped to make room for the next message."],
    ]) {
      const other = await run(page, status);
      agentIn(other)("agent_started", { attempt: 1 });
      agentIn(other)("agent_completed", end(status, rest));
      await viewOf(page, other).getByText(words).waitFor();
    }
    await page.close();
  });

  test("the close code says what to do", async () => {
    const page = await context.newPage();
    await page.goto(daemon.url("refused"));
    await page.locator("#why", { hasText: "The token expired 3 s ago. Get a new one." }).waitFor();
    await shot(page, "refused");
    await page.fill("#token", "not a token");
    await page.press("#token", "Enter");
    await page.locator("#why", { hasText: "That is not a token" }).waitFor();
    await page.fill("#token", tokenOf("alice"));
    await page.press("#token", "Enter");
    await until(page, (state) => state.connection === "connected");

    daemon.tell("alice", { type: "notice", notice: "drain", reconnect_ms: 1 });
    daemon.close("alice", 4400);
    await until(page, (state) => state.connections === 2);

    const { device } = await stateOf(page);
    daemon.close("alice", 4510, "replaced");
    await until(page, (state) => state.connections === 3);
    assert.notEqual((await stateOf(page)).device, device, "it comes back by another name");

    daemon.close("alice", 4507, "an operator disconnected you");
    await page.getByText("Disconnected. An operator disconnected you. (4507)").waitFor();
    await page.getByRole("button", { name: "Connect again" }).click();
    await until(page, (state) => state.connections === 4);
    await page.close();
  });

  test("without a token it asks for one, and says so when none is given", async () => {
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${daemon.port}/`);
    await page.getByRole("heading", { name: "Who are you?" }).waitFor();
    await shot(page, "door");
    await page.getByRole("button", { name: "Not now" }).click();
    await page.getByText("Not connected: a token is needed.").waitFor();
    await page.getByRole("button", { name: "Give a token" }).click();
    await page.fill("#token", tokenOf("alice"));
    await page.press("#token", "Enter");
    await until(page, (state) => state.connection === "connected");
    await page.close();
  });

  test("a tab takes no token of the user of another tab", async () => {
    const [alice, bob] = ["alice", "bob"].map((sub) => Buffer.from(`{"sub":"${sub}"}`).toString("base64url"));
    const [page, other] = [await open(alice), await open(bob)];
    daemon.tell(alice, { type: "notice", notice: "expiring", expires_ms: 60_000 });
    await eventually(
      async () => daemon.sent("refresh").length || (await page.locator("#door").getAttribute("open")) !== null,
      "it looks for a new token",
    );
    assert.deepEqual(daemon.sent("refresh"), []);
    await page.fill("#token", `${tokenOf(alice)}2`);
    await page.press("#token", "Enter");
    await eventually(() => daemon.sent("refresh").length, "the new token is told");
    for (const each of [page, other]) await each.close();
  });

  test("a connection whose token expires soon is one until it has", async () => {
    const page = await open();
    await page.locator("#link-word", { hasText: /^Connected$/ }).waitFor();
    daemon.tell("alice", { type: "notice", notice: "expiring", expires_ms: 60_000 });
    await page.locator("#door[open]").getByText("Your token expires soon.").waitFor();
    await page.getByRole("button", { name: "Not now" }).click();
    await page.locator("#lost-text", { hasText: "Your token expires soon." }).waitFor();
    assert.equal(await page.locator("#link-word").textContent(), "Connected");
    assert.equal(await page.locator("#link").getAttribute("data-state"), "connected");
    await page.getByRole("button", { name: "Give a token" }).click();
    await page.fill("#token", `${tokenOf("alice")}2`);
    await page.press("#token", "Enter");
    await eventually(() => daemon.sent("refresh").length, "the new token is told");
    await page.locator("#lost").waitFor({ state: "hidden" });
    await page.close();
  });

  test("threads are apart, runs of several go on at once, and the address says which is shown", async () => {
    const page = await open();
    const first = await run(page, "in the first");
    agentIn(first)("agent_started", { attempt: 1 });
    await page.click("#new");
    await page.locator("#hello").waitFor();
    assert.equal(await page.locator(".run").count(), 0);
    const second = await run(page, "in the second");
    agentIn(second)("agent_started", { attempt: 1 });
    await page.locator(".said").getByText("in the second").waitFor();
    assert.deepEqual(await page.locator(".said").allTextContents(), ["in the second"]);
    assert.deepEqual(await page.locator("#threads b").allTextContents(), ["in the second", "in the first"]);
    assert.equal(await page.locator("#threads [data-state=running]").count(), 2);
    agentIn(first)("agent_output", { delta: "an answer elsewhere" });
    agentIn(first)("agent_completed", end("ok"));
    await page.locator("#threads [data-state=unseen]").getByText("in the first").click();
    await viewOf(page, first).getByText("an answer elsewhere").waitFor();
    assert.deepEqual(await page.locator(".said").allTextContents(), ["in the first"]);
    assert.equal(await page.locator("#threads [data-state=unseen]").count(), 0);
    await page.goBack();
    await page.locator(".said").getByText("in the second").waitFor();
    await page.reload();
    await page.locator(".said").getByText("in the second").waitFor();
    await page.close();
  });

  test("five thousand deltas are shown whole, while a hidden tab goes on acknowledging", async () => {
    const page = await open();
    const hidden = await context.newPage();
    await hidden.addInitScript(() => Object.defineProperty(document, "hidden", { get: () => true }));
    await hidden.addInitScript(() => {
      window.requestAnimationFrame = () => 0;
    }); // a hidden tab has no frames
    await hidden.goto(daemon.url("alice"));
    const id = await run(page, "flood");
    agentIn(id)("agent_started", { attempt: 1 });
    let text = "";
    for (let n = 0; n < 5_000; n += 1) {
      const delta = n % 12 ? `word${n} ` : `word${n}\n`;
      text += delta;
      agentIn(id)("agent_output", { delta });
    }
    agentIn(id)("agent_completed", end("ok"));
    for (const tab of [page, hidden]) {
      const state = await caughtUp(tab);
      assert.deepEqual([state.events, state.gaps], [5_003, 0]);
    }
    await page.getByText("Done").waitFor();
    const words = (text) => text.split(/\s+/).filter(Boolean).join(" ");
    const shown = await page.locator(".output p").allInnerTexts();
    assert.ok(words(shown.join("\n")) === words(text), "the whole text");
    const all = () => daemon.of("alice").every(({ acked }) => acked === 5_003);
    await eventually(all, "both acknowledged everything");
    await Promise.all([page.close(), hidden.close()]);
  });

  test("a second that passes before a frame is drawn does not put a question before what led to it", async () => {
    await context.addInitScript(() => {
      const [later, seconds] = [window.setInterval, []];
      window.setInterval = (pass, ms) => {
        if (ms === 1000) seconds.push(pass);
        return later(pass, ms);
      };
      window.aSecondPasses = () => {
        for (const pass of seconds) pass();
        return seconds.length;
      };
    });
    const page = await open();
    const id = await run(page, "look");
    const emit = agentIn(id);
    emit("agent_started", { attempt: 1 });
    emit("agent_thinking", { delta: "I should look." });
    await page.getByText("I should look.").waitFor();
    await page.evaluate(() => {
      const [soon, frames] = [window.requestAnimationFrame, []];
      window.requestAnimationFrame = (draw) => frames.push(draw);
      window.framesCome = () => {
        window.requestAnimationFrame = soon;
        for (const draw of frames) soon(draw);
      };
    });
    emit("tool_executing", { call: "c", tool: "read" });
    emit("tool_completed", { call: "c", status: "ok", duration_ms: 8 });
    emit("agent_output", { delta: "I have looked." });
    emit("input_required", { request: "q", prompt: "Go on?" });
    await caughtUp(page);
    assert.equal(await page.evaluate(() => window.aSecondPasses()), 1);
    await page.evaluate(() => window.framesCome());
    await viewOf(page, id).getByText("I have looked.").waitFor();
    const blocks = await viewOf(page, id)
      .locator(".blocks > *")
      .evaluateAll((nodes) => nodes.map((node) => node.classList[0]));
    assert.deepEqual(blocks, ["activity", "output", "question"]);
    await page.close();
  });

  test("nothing that axe knows stands in the way of those who do not see, or use no mouse", async () => {
    const page = await open();
    const id = await run(page, "look");
    const emit = agentIn(id);
    const violations = async () => {
      // Nothing is half faded in.
      await page.evaluate(() =>
        Promise.all(document.getAnimations().map((animation) => animation.finish?.())),
      );
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run());
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
    };
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      assert.deepEqual(await violations(), [], `in line, ${colorScheme}`);
    }
    emit("agent_started", { attempt: 1 });
    emit("agent_thinking", { delta: "I should look." });
    emit("tool_executing", { call: "c", tool: "read", args: { path: "core" } });
    emit("tool_completed", { call: "c", status: "error", error: "none", duration_ms: 8 });
    emit("agent_output", { delta: "# Title\n\n- one\n\n```sh\nls\n```\n\n[link](https://example.org)\n" });
    emit("input_required", {
      request: "q",
      prompt: "Go on?",
      schema: { type: "boolean" },
      expires_ms: 60_000,
    });
    emit("input_required", { request: "r", prompt: "Where?" });
    await page.getByRole("button", { name: "Yes" }).waitFor();
    await page.locator(".activity > details > summary").click();
    await page.locator(".tool summary").click();
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await violations(), [], `with questions, ${colorScheme}`);
    }
    emit("agent_completed", end("error", { error: { code: "odd", message: "it is odd" } }));
    await page.locator("#log").getByText("The agent failed.").waitFor();
    assert.deepEqual(await violations(), [], "at its end");
    assert.match(await page.locator("#polite").textContent(), /The agent failed\. it is odd/);
    await daemon.kill();
    await page.locator("#lost").waitFor();
    assert.deepEqual(await violations(), [], "without a connection");
    await page.close();
  });

  test("it can be used by keyboard alone", async () => {
    const page = await open();
    const id = await run(page, "look");
    const focused = () =>
      page.evaluate(() => document.activeElement.textContent || document.activeElement.id);
    agentIn(id)("agent_started", { attempt: 1 });
    const schema = { enum: ["left", "right"] };
    agentIn(id)("input_required", { request: "q", prompt: "Which way?", schema });
    await page.locator("#assertive", { hasText: "files asks: Which way?" }).waitFor({ state: "attached" });
    assert.equal(await focused(), "text", "a question does not take the focus");
    for (let n = 0; n < 20 && (await focused()) !== "left"; n += 1) await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    const { message } = await eventually(() => daemon.sent("input")[0], "the answer has gone out");
    assert.equal(message.data, "left");
    agentIn(id)("input_received", { request: "q", data: "left" });
    await page.locator(".answer", { hasText: "You answered: left" }).waitFor();
    assert.match(await focused(), /Which way\?/, "the focus stays where it was");
    await page.close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`it fits 360 pixels, in ${colorScheme}`, async () => {
      const page = await open();
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width: 360, height: 640 });
      const id = await run(page, "x".repeat(300));
      const emit = agentIn(id);
      emit("agent_started", { attempt: 1 });
      emit("agent_thinking", { delta: "y".repeat(300) });
      emit("tool_executing", { call: "c", tool: "t".repeat(90), args: { path: "p".repeat(400) } });
      emit("tool_completed", { call: "c", status: "error", error: "e".repeat(300), duration_ms: 12_345 });
      emit("step_started", { step: "s", name: "n".repeat(200), index: 1, of: 2 });
      emit("custom", { name: "c".repeat(100), value: "v".repeat(200) });
      emit("agent_output", {
        delta: `${"z".repeat(500)}\n\n| a | b |\n|---|---|\n| ${"w".repeat(90)} | c |\n\n`,
      });
      emit("input_required", {
        request: "q",
        prompt: "p".repeat(120),
        schema: { enum: ["a".repeat(60), "b"] },
      });
      const wide = () =>
        page.evaluate(() =>
          [...document.querySelectorAll("body, header, #scroll, #log, #log *, #foot *")]
            .filter((node) => !node.closest(".table, .visually-hidden, pre, #mode, #hint"))
            .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5)
            .map((node) => `${node.tagName} ${node.className}`),
        );
      await page.getByRole("button", { name: "b", exact: true }).waitFor();
      assert.deepEqual(await wide(), [], "nothing is wider than the window");
      emit("agent_completed", end("error", { error: { message: "m".repeat(200) } }));
      await page.locator("#log").getByText("The agent failed.").waitFor();
      await page.locator(".activity > details > summary").click();
      await page.locator(".tool summary").click();
      assert.deepEqual(await wide(), [], "nothing is wider than the window");
      assert.ok(await page.locator("#send").isVisible());
      await shot(page, `narrow-${colorScheme}`);
      const other = agentIn("run_other_0000000a");
      other("run_queued", { agent: "files", input: "elsewhere", position: 0 }, 0);
      other("input_required", { request: "q", prompt: "Well?" });
      const list = page.getByRole("button", {
        name: "Show the list of threads: 1 of them needs your answer",
      });
      await list.click();
      await page.locator("#side").getByRole("button", { name: "New thread" }).click();
      await page.locator("#hello").waitFor();
      await page.locator("#side").waitFor({ state: "hidden" }); // the list gives way
      await page.close();
    });
  }
});
