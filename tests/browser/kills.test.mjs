// One run of 500 events, and 20 kills of the daemon while it lasts: both tabs show every event once and in order.
//
// A kill comes when both tabs have seen a given number of events, and the worker may have said more by then: there
// is something in flight at each of them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually, launch, skip as noBrowser, until, watch } from "./browser.mjs";
import { Daemon, skip as noDaemon } from "./daemon.mjs";
import { Worker } from "./worker.mjs";

const EVENTS = 500;
const WORDS = EVENTS - 3; // with run_queued, agent_started and agent_completed
const KILLS = 20;
const STEP = 24; // messages between two kills

describe("a daemon that is killed 20 times", { skip: noBrowser || noDaemon }, () => {
  const daemon = new Daemon();
  let browser, worker;

  before(async () => {
    browser = await launch();
    await daemon.start();
    worker = new Worker(daemon, await daemon.tokenOf("crew", "worker"), "count", WORDS);
    worker.connect();
    await eventually(() => worker.isWelcome, "the worker is welcome");
  });
  after(async () => {
    worker?.end();
    await browser?.close();
    await daemon.end();
  });

  /** A tab of the user's browser, and what goes wrong in it. */
  async function tab(context) {
    const page = await context.newPage();
    const faults = watch(page);
    await page.goto(daemon.url);
    await until(page, (state) => state.connection === "connected");
    return { page, faults };
  }

  /** Asks for the run, as a program would; the answer is awaited, not the run. */
  async function ask() {
    const response = await fetch(`http://127.0.0.1:${daemon.port}/v1/threads/t1/runs`, {
      method: "POST",
      headers: { authorization: `Bearer ${daemon.token}` },
      body: JSON.stringify({ agent: "count", input: "count", timeout_ms: 600_000 }),
    });
    assert.equal(response.status, 201);
    return (await response.json()).run;
  }

  test("both tabs show every event of a run once and in order", async () => {
    const context = await browser.newContext();
    const tabs = [await tab(context), await tab(context)];
    const run = await ask();
    for (let kill = 1; kill <= KILLS; kill += 1) {
      worker.allow(STEP * kill);
      // Not all that was said has been seen.
      for (const { page } of tabs) await until(page, ({ position }) => position > STEP * kill - 12);
      await daemon.kill();
      worker.allow(STEP * kill + 6);
      await daemon.start();
      // They would come by themselves, a little later each time.
      for (const { page } of tabs) await page.evaluate(() => dispatchEvent(new Event("online")));
    }
    worker.allow(EVENTS);
    const wanted = Array.from({ length: WORDS }, (_, at) => `w${at + 1}`);
    for (const { page, faults } of tabs) {
      const state = await until(page, ({ position }) => position === EVENTS);
      assert.deepEqual([state.events, state.resets, state.runs[run].ends], [EVENTS, 0, 1]);
      const output = page.locator(`[data-run="${run}"] .output`);
      await output.getByText(`w${WORDS}`).waitFor();
      assert.deepEqual((await output.textContent()).trim().split(/\s+/), wanted);
      assert.deepEqual(faults, []);
    }
    assert.deepEqual(worker.lost, [], "the worker's run was never lost");
    const log = await daemon.log();
    assert.deepEqual(
      log.map(({ seq }) => seq),
      Array.from({ length: EVENTS }, (_, at) => at + 1),
    );
    await context.close();
  });
});
