// The demo chat in a real browser, against a scripted daemon: what a person sees, and what the daemon hears.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { eventually, launch, skip, stateOf, until, watch } from "./browser.mjs";
import { FakeDaemon } from "./fake.mjs";

const shotsTo = process.env.SCREENSHOTS; // a folder for pictures of what the tests bring the page to

describe("the demo chat", { skip }, () => {
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

  async function ask(page, text, agent = "echo") {
    await page.fill("#agent", agent);
    await page.fill("#text", text);
    await page.press("#text", "Enter");
  }

  /** Asks on the page, and waits until the daemon has made a run of it. */
  async function run(page, text) {
    const before = daemon.user("alice").events.length;
    await ask(page, text);
    const queued = await eventually(
      () =>
        daemon
          .user("alice")
          .events.slice(before)
          .find(({ event }) => event === "run_queued"),
      "the run is queued",
    );
    return queued.run;
  }

  const caughtUp = (page) => until(page, (state) => state.position === daemon.user("alice").events.length);
  const shot = (page, name) => shotsTo && page.screenshot({ path: `${shotsTo}/${name}.png` });

  test("a run is seen from the queue to its end, and every event is acknowledged", async () => {
    const page = await open();
    const id = await run(page, "Which file is the largest?");
    const view = page.locator(`[data-run="${id}"]`);
    await view.getByText("Place 3 in line").waitFor();
    daemon.tell("alice", {
      type: "notice",
      notice: "queue",
      run: id,
      position: 2,
      ahead: 1,
      waiting: 4,
      eta_ms: 8000,
      waited_ms: 500,
      reason: "concurrency",
      message: "1 run is ahead of yours. All places are taken.",
    });
    await view
      .getByText("Place 2 in line · of 4 · about 8 s · 1 run is ahead of yours. All places are taken.")
      .waitFor();
    await shot(page, "queued");

    const emit = (event, data) => daemon.emit("alice", id, event, data);
    emit("agent_started", { agent: "echo", worker: "w", attempt: 1, queued_ms: 1200 });
    for (const delta of ["I should ", "look at ", "the folder."]) emit("agent_thinking", { delta });
    await view.getByText("I should look at the folder.").waitFor();
    await shot(page, "thinking");
    emit("step_started", { step: "s1", name: "Look around", index: 1, of: 2 });
    emit("tool_executing", { call: "c1", tool: "search", args: { q: "largest", depth: 3 } });
    emit("tool_progress", { call: "c1", percent: 40, text: "120 files" });
    await view.getByText("120 files").waitFor();
    await shot(page, "tool");
    emit("tool_completed", {
      call: "c1",
      status: "ok",
      result: { path: "core/src/lib.rs" },
      duration_ms: 340,
    });
    emit("step_completed", { step: "s1", status: "ok" });
    await view.locator("summary", { hasText: '"q": "largest", "depth": 3' }).waitFor();
    await view.getByText("340 ms").waitFor();
    for (const delta of ["The largest ", "is core/src/", "lib.rs."]) emit("agent_output", { delta });
    await view.getByText("The largest is core/src/lib.rs.").waitFor();
    assert.equal(await view.getAttribute("aria-busy"), "true");
    emit("agent_completed", { status: "ok", queued_ms: 1200, running_ms: 2100, attempts: 1, tools: 1 });
    await view.getByText(/waited 1\.2 s · ran 2\.1 s · 1 tool/).waitFor();
    assert.equal(await view.getAttribute("aria-busy"), "false");
    assert.equal(await view.locator(".thinking[open]").count(), 0, "thinking is folded when it is over");
    await shot(page, "done");

    const state = await caughtUp(page);
    assert.deepEqual(state.runs[id], { status: "ok", ends: 1 });
    assert.equal(state.gaps + state.duplicates, 0);
    await eventually(() => daemon.of("alice")[0].acked === state.position, "all is acknowledged");
    assert.equal(new URL(page.url()).hash, "", "the token is gone from the address");
    await page.close();
  });

  test("text replaces what was streamed, and an answer that comes only with the end is shown", async () => {
    const page = await open();
    const first = await run(page, "one");
    daemon.emit("alice", first, "agent_started", { attempt: 1 });
    daemon.emit("alice", first, "agent_output", { delta: "draught" });
    daemon.emit("alice", first, "agent_output", { text: "fair copy" });
    daemon.emit("alice", first, "agent_completed", { status: "ok", output: "fair copy" });
    const second = await run(page, "two");
    daemon.emit("alice", second, "agent_started", { attempt: 1 });
    daemon.emit("alice", second, "agent_completed", { status: "ok", output: { text: "only at the end" } });
    await page.getByText("only at the end").waitFor();
    assert.deepEqual(await page.locator(".output").allTextContents(), ["fair copy", "only at the end"]);
    await page.close();
  });

  test("a second tab shows the same, as a device of its own, and so does a reload", async () => {
    const one = await open();
    const id = await run(one, "hello");
    const two = await open("alice", `http://127.0.0.1:${daemon.port}/`);
    daemon.emit("alice", id, "agent_started", { attempt: 1 });
    daemon.emit("alice", id, "agent_output", { delta: "seen in both" });
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
    daemon.emit("alice", id, "agent_started", { attempt: 1 });
    for (let n = 1; n <= 20; n += 1) daemon.emit("alice", id, "agent_output", { delta: `${n} ` });
    for (const page of pages) await caughtUp(page);
    daemon.deaf = true;
    await ask(pages[0], "are you there?");
    await eventually(() => daemon.sent("run").length === 2, "the second request has gone out");
    await daemon.kill();
    for (const page of pages) await until(page, (state) => state.connection !== "connected");
    await shot(pages[0], "reconnecting");
    const position = (await stateOf(pages[1])).position;
    for (let n = 21; n <= 32; n += 1) daemon.emit("alice", id, "agent_output", { delta: `${n} ` });
    daemon.deaf = false;
    await daemon.start();

    await pages[1].getByText("Caught up: ").waitFor();
    for (const page of pages) {
      const state = await until(
        page,
        (state) => state.unanswered === 0 && Object.keys(state.runs).length === 2,
      );
      assert.deepEqual([state.gaps, state.duplicates, state.resets], [0, 0, 0]);
      assert.equal(state.events, daemon.user("alice").events.length, "every event once");
      const counted = Array.from({ length: 32 }, (_, n) => `${n + 1} `).join("");
      await page.locator(`[data-run="${id}"] .output`).filter({ hasText: counted }).waitFor();
    }
    const [lost, again] = daemon
      .sent("run")
      .slice(1)
      .map(({ message }) => message);
    assert.deepEqual(again, lost, "the same request, with the same key");
    const { epoch } = daemon.user("alice");
    const froms = daemon
      .sent("hello")
      .slice(2)
      .map(({ message }) => message.from);
    assert.ok(
      froms.some((from) => from.epoch === epoch && from.seq === position),
      "it resumed from what it had",
    );
    await Promise.all(pages.map((page) => page.close()));
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
    daemon.emit(
      "alice",
      second,
      "run_queued",
      { agent: "echo", input: "second", position: 1, key: message.key },
      0,
    );
    daemon.deaf = false;
    daemon.close("alice", 1011);
    await until(page, (state) => state.connections === 2 && state.unanswered === 0);
    await page.locator(`[data-run="${second}"]`).waitFor();
    assert.equal(await page.locator(".run").count(), 2);
    await page.close();
  });

  test("a redelivery is dropped, a joined event continues, a gap is never passed over", async () => {
    const page = await open();
    const id = await run(page, "go");
    const { events } = daemon.user("alice");
    daemon.emit("alice", id, "agent_started", { attempt: 1 });
    daemon.emit("alice", id, "agent_output", { delta: "a" });
    await caughtUp(page);
    const acks = daemon.sent("ack").length;
    for (const event of events) daemon.tell("alice", { ...event, redelivery: 1 });
    await until(page, (state) => state.duplicates === 3);
    await eventually(
      () =>
        daemon
          .sent("ack")
          .slice(acks)
          .some(({ message }) => message.seq === 3),
      "it is acknowledged again",
    );

    const joined = (delta, seq) => ({ ...events[2], data: { delta }, seq });
    events.push(joined("b", 4), joined("c", 5), joined("d", 6));
    daemon.tell("alice", { ...joined("bcd", 6), prev: 3, joined: 3 });
    assert.equal((await until(page, (state) => state.position === 6)).events, 6);

    events.push(joined("e", 7), joined("f", 8));
    daemon.tell("alice", events[7]); // 7 was lost
    const state = await until(page, (state) => state.position === 8);
    assert.deepEqual([state.gaps, state.connections], [1, 2]);
    assert.deepEqual(daemon.sent("hello").at(-1).message.from, {
      epoch: daemon.user("alice").epoch,
      seq: 6,
    });
    assert.equal(await page.locator(".output").textContent(), "abcdef");
    await page.close();
  });

  test("a loss that only a heartbeat shows, and a silent server, make it come back", async () => {
    daemon.heartbeatMs = 200;
    const page = await open();
    await until(page, (state) => state.connections >= 2); // nothing was heard for 2.5 heartbeats
    daemon.heartbeatMs = 10_000;
    const before = await stateOf(page);
    const calm = await until(page, (state) => state.connections > before.connections);
    daemon.tell("alice", { type: "heartbeat", ts: Date.now(), head: 5, at: 5 });
    const state = await until(page, (state) => state.connections > calm.connections);
    assert.equal(state.gaps, 1);
    await page.close();
  });

  test("after a reset everything is built again", async () => {
    const page = await open();
    await run(page, "of the old world");
    await page.locator(".said").getByText("of the old world").waitFor();
    daemon.rebuild("alice");
    daemon.emit(
      "alice",
      "run_thread_n_00000001",
      "run_queued",
      { agent: "echo", input: "of the new world", position: 1 },
      0,
    );
    daemon.close("alice", 1012);
    await page.getByText("of a history that began anew").waitFor();
    await page.locator("#threads").getByText("of the new world").waitFor();
    assert.equal(await page.getByText("of the old world").count(), 0);
    const state = await stateOf(page);
    assert.deepEqual([state.resets, state.events, state.gaps], [1, 1, 0]);
    await page.close();
  });

  test("what agents write is text, whatever it looks like", async () => {
    const page = await open();
    await page.evaluate(() => {
      window.harm = 0;
    });
    const evil = '<img src=x onerror="harm=1"><script>harm=1</script><svg onload=harm=1>';
    const id = await run(page, evil);
    const emit = (event, data) => daemon.emit("alice", id, event, data);
    emit("agent_started", { attempt: 1, agent: evil });
    emit("agent_thinking", { delta: evil });
    emit("tool_executing", {
      call: "c",
      tool: evil,
      args: { toString: 1, valueOf: evil, ["__proto__"]: evil },
    });
    emit("tool_completed", {
      call: "c",
      status: evil,
      result: { toString: null },
      error: evil,
      duration_ms: { toString: 1 },
    });
    emit("step_started", {
      step: { toString: 1 },
      name: { toString: 1 },
      index: { valueOf: 1 },
      of: { toString: 1 },
    });
    emit("tool_executing", { call: { toString: 1 }, tool: null });
    emit("constructor", { delta: evil });
    emit("input_required", { request: "r", prompt: evil, schema: { enum: [evil, { toString: 1 }] } });
    emit("custom", { name: { toString: 1 }, value: evil });
    emit("agent_output", { delta: { toString: 1 }, message: { toString: 1 } });
    emit("agent_output", { delta: evil });
    emit("agent_completed", {
      status: { toString: 1 },
      error: { message: evil },
      output: [evil],
      running_ms: evil,
      tools: { valueOf: 1 },
      attempts: { valueOf: 1 },
    });
    daemon.emit(
      "alice",
      "run_javascript:x_00000001",
      "run_queued",
      { agent: evil, input: { text: evil } },
      0,
    );
    daemon.tell("alice", { type: "notice", notice: "backlog", behind: 3, message: evil });
    daemon.tell("alice", { type: "error", code: "x", message: evil, hint: { toString: 1 } });
    await caughtUp(page);
    await page.locator(".output", { hasText: evil }).first().waitFor();
    assert.equal(await page.locator("img, main svg, main script").count(), 0);
    assert.equal(await page.evaluate(() => window.harm), 0);
    await page.close();
  });

  test("Escape cancels the run, and a refused request says why and gives the text back", async () => {
    const page = await open();
    const id = await run(page, "long work");
    daemon.emit("alice", id, "agent_started", { attempt: 1 });
    await page.getByText("Working").waitFor();
    await page.press("#text", "Escape");
    await page.getByText("Cancelling…").waitFor();
    await eventually(() => daemon.sent("cancel")[0]?.message.run === id, "the cancel has gone out");
    daemon.emit("alice", id, "agent_completed", {
      status: "cancelled",
      reason: "user",
      queued_ms: 1,
      running_ms: 900,
      attempts: 1,
    });
    await page.getByText("by user").waitFor();

    daemon.deaf = true;
    await ask(page, "one more");
    const { message } = await eventually(() => daemon.sent("run")[1], "the request has gone out");
    daemon.deaf = false;
    daemon.tell("alice", {
      type: "error",
      of: "run",
      id: message.id,
      code: "queue_full",
      message: "10000 runs are queued",
      hint: "Try again soon.",
      retry_ms: 1200,
      temporary: true,
    });
    await page.getByText("10000 runs are queued · Try again soon.").waitFor();
    assert.equal(await page.inputValue("#text"), "one more", "the text is given back");
    assert.equal((await stateOf(page)).unanswered, 0);
    await page.close();
  });

  test("an agent's question is answered", async () => {
    const page = await open();
    const id = await run(page, "ask me");
    daemon.emit("alice", id, "agent_started", { attempt: 1 });
    daemon.emit("alice", id, "input_required", { request: "r1", prompt: "Which folder?" });
    await page.getByLabel("Your answer").fill("src");
    await shot(page, "question");
    await page.getByLabel("Your answer").press("Enter");
    const { message } = await eventually(() => daemon.sent("input")[0], "the answer has gone out");
    assert.deepEqual([message.run, message.request, message.data], [id, "r1", "src"]);
    daemon.emit("alice", id, "input_received", { request: "r1", data: "src" });
    await page.getByText("Answered: src").waitFor();
    await page.close();
  });

  test("a retry shows that it is one, and keeps what came before apart", async () => {
    const page = await open();
    const id = await run(page, "try");
    daemon.emit("alice", id, "agent_started", { attempt: 1 });
    daemon.emit("alice", id, "agent_output", { delta: "half an ans" });
    daemon.emit("alice", id, "run_retrying", { reason: "worker_lost", delay_ms: 500 });
    daemon.emit("alice", id, "agent_started", { attempt: 2 }, 2);
    daemon.emit("alice", id, "agent_output", { delta: "a whole answer" }, 2);
    await page.getByText("a whole answer").waitFor();
    assert.deepEqual(await page.locator(".output").allTextContents(), ["half an ans", "a whole answer"]);
    assert.equal(await page.locator(".output.earlier").count(), 1);
    await page.close();
  });

  test("the close code says what to do", async () => {
    const page = await context.newPage();
    await page.goto(daemon.url("refused"));
    await page.getByText("the token expired 3 s ago · Get a new one.").waitFor();
    await shot(page, "refused");
    await page.fill("#token", "not a token");
    await page.press("#token", "Enter");
    await page.getByText("That is not a token").waitFor();
    await page.fill("#token", "e30.alice.sig");
    await page.press("#token", "Enter");
    await until(page, (state) => state.connection === "connected");

    daemon.tell("alice", { type: "notice", notice: "drain", reconnect_ms: 1 });
    daemon.close("alice", 4400);
    await until(page, (state) => state.connections === 2);

    const { device } = await stateOf(page);
    daemon.close("alice", 4510, "replaced");
    await page.getByText("replaced · 4510").waitFor();
    assert.equal((await stateOf(page)).connection, "stopped");
    await page.getByRole("button", { name: "Connect" }).click();
    await until(page, (state) => state.connection === "connected");
    assert.notEqual((await stateOf(page)).device, device);
    await page.close();
  });

  test("without a token it asks for one", async () => {
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${daemon.port}/`);
    await page.getByRole("heading", { name: "A token, please" }).waitFor();
    await shot(page, "door");
    await page.close();
  });

  test("threads are apart, and a new one can be begun", async () => {
    const page = await open();
    await run(page, "in the first");
    await page.click("#new");
    await page.locator("#hello").waitFor();
    assert.equal(await page.locator(".run").count(), 0);
    await run(page, "in the second");
    await page.locator(".said").getByText("in the second").waitFor();
    assert.deepEqual(await page.locator(".said").allTextContents(), ["in the second"]);
    assert.deepEqual(await page.locator("#threads b").allTextContents(), ["in the second", "in the first"]);
    await page.locator("#threads").getByText("in the first").click();
    await page.locator(".said").getByText("in the first").waitFor();
    assert.deepEqual(await page.locator(".said").allTextContents(), ["in the first"]);
    await page.close();
  });

  test("twenty thousand deltas are shown whole, while a hidden tab goes on acknowledging", async () => {
    const page = await open();
    const hidden = await context.newPage();
    await hidden.addInitScript(() => Object.defineProperty(document, "hidden", { get: () => true }));
    await hidden.addInitScript(() => {
      window.requestAnimationFrame = () => 0;
    }); // a hidden tab has no frames
    await hidden.goto(daemon.url("alice"));
    const id = await run(page, "flood");
    daemon.emit("alice", id, "agent_started", { attempt: 1 });
    let text = "";
    for (let n = 0; n < 20_000; n += 1) {
      const delta = n % 12 ? `word${n} ` : `word${n}\n`;
      text += delta;
      daemon.emit("alice", id, "agent_output", { delta });
    }
    daemon.emit("alice", id, "agent_completed", {
      status: "ok",
      queued_ms: 0,
      running_ms: 1,
      attempts: 1,
      tools: 0,
    });
    for (const tab of [page, hidden]) {
      const state = await caughtUp(tab);
      assert.deepEqual([state.events, state.gaps, state.duplicates], [20_003, 0, 0]);
    }
    await page.getByText("Done").waitFor();
    assert.ok((await page.locator(".output").textContent()) === text, "the whole text");
    await eventually(
      () => daemon.of("alice").every(({ acked }) => acked === 20_003),
      "both acknowledged everything",
    );
    await Promise.all([page.close(), hidden.close()]);
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`it fits 360 pixels, in ${colorScheme}`, async () => {
      const page = await open();
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width: 360, height: 640 });
      const id = await run(page, "x".repeat(300));
      const emit = (event, data) => daemon.emit("alice", id, event, data);
      emit("agent_started", { attempt: 1 });
      emit("agent_thinking", { delta: "y".repeat(300) });
      emit("tool_executing", { call: "c", tool: "t".repeat(90), args: { path: "p".repeat(400) } });
      emit("tool_completed", { call: "c", status: "error", error: "e".repeat(300), duration_ms: 12_345 });
      emit("step_started", { step: "s", name: "n".repeat(200), index: 1, of: 2 });
      emit("custom", { name: "c".repeat(100), value: "v".repeat(200) });
      emit("agent_output", { delta: "z".repeat(500) });
      emit("agent_completed", {
        status: "error",
        error: { message: "m".repeat(200) },
        queued_ms: 5,
        running_ms: 61_000,
        attempts: 1,
      });
      await page.getByText("Failed").waitFor();
      await page.locator(".tool summary").click();
      const wide = await page.evaluate(() =>
        [...document.querySelectorAll("body, header, #scroll, #log, #log *, #compose, #box")]
          .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5)
          .map((node) => node.className),
      );
      assert.deepEqual(wide, [], "nothing is wider than the window");
      assert.ok(await page.locator("#send").isVisible());
      await shot(page, `narrow-${colorScheme}`);
      await page.close();
    });
  }
});
