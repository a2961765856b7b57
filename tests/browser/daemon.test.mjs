// The demo chat in a real browser, against the real daemon: it is killed with SIGKILL in the middle of runs, and
// both tabs go on without loss, without doubles, and with one end of every run. RUNCAST_BIN says which binary.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launch, skip as noBrowser, until, watch } from "./browser.mjs";
import { Daemon, skip as noDaemon } from "./daemon.mjs";

const skip = noBrowser || noDaemon;

/** What the log says that a run's outputs are, one for each attempt that wrote one. */
function outputs(log, run) {
  const written = new Map();
  for (const { run: of, event, attempt, data } of log) {
    if (of === run && event === "agent_output")
      written.set(attempt, (written.get(attempt) ?? "") + data.delta);
  }
  return [...written.values()];
}

describe("the demo chat and the daemon", { skip }, () => {
  const daemon = new Daemon();
  let browser;

  before(async () => {
    browser = await launch();
    await daemon.start();
  });
  after(async () => {
    await browser?.close();
    await daemon.end();
  });

  async function ask(page, agent, input) {
    await page.fill("#agent", agent);
    await page.fill("#text", input);
    await page.press("#text", "Enter");
  }

  /** Two tabs of one browser: the first opens the link that the daemon prints, the second only the page. */
  async function twoTabs() {
    const context = await browser.newContext();
    const tabs = [await context.newPage(), await context.newPage()];
    const faults = tabs.map(watch);
    await tabs[0].goto(daemon.url);
    await until(tabs[0], (state) => state.connection === "connected");
    await tabs[1].goto(`http://127.0.0.1:${daemon.port}/`);
    await until(tabs[1], (state) => state.connection === "connected");
    return { context, tabs, faults };
  }

  /** Both tabs have every event of the log once and in order, and show what it says. */
  async function assertWhole(tabs) {
    const log = await daemon.log();
    assert.deepEqual(
      log.map(({ seq }) => seq),
      log.map((_, at) => at + 1),
      "the log itself has no gap",
    );
    const runs = [...new Set(log.map(({ run }) => run))];
    for (const run of runs) {
      const ends = log.filter((event) => event.run === run && event.event === "agent_completed");
      assert.equal(ends.length, 1, `${run} has one end`);
    }
    for (const tab of tabs) {
      const state = await until(
        tab,
        (state) => state.position === log.length && state.acked === log.length,
      );
      assert.deepEqual([state.gaps, state.resets, state.unanswered], [0, 0, 0]);
      assert.equal(state.events, log.length, "every event once");
      assert.deepEqual(Object.keys(state.runs).sort(), runs.toSorted());
      assert.ok(
        Object.values(state.runs).every(({ ends }) => ends === 1),
        "every run has one end",
      );
      for (const run of runs) {
        const shown = await tab.locator(`[data-run="${run}"] .output`).allTextContents();
        assert.deepEqual(shown, outputs(log, run), `the output of ${run} is shown whole`);
      }
    }
    return log;
  }

  test("kill -9 in the middle of runs: both tabs go on where they were", async () => {
    const { context, tabs, faults } = await twoTabs();
    for (let round = 1; round <= 3; round += 1) {
      const long = { text: `round ${round} of kills and restarts`, words: 600, delay_ms: 10 };
      const before = await until(tabs[0], () => true);
      await ask(tabs[0], "echo", JSON.stringify(long));
      for (const tab of tabs) await until(tab, (state) => state.position > before.position + 60);
      await daemon.kill();
      for (const tab of tabs) await until(tab, (state) => state.connection !== "connected");
      await ask(tabs[1], "echo", `asked in round ${round} of a daemon that was down`);
      assert.equal((await until(tabs[1], () => true)).unanswered, 1);
      await daemon.start();
      for (const tab of tabs) {
        const over = ({ runs }) =>
          Object.values(runs).filter(({ ends }) => ends === 1).length === 2 * round;
        await until(tab, over);
      }
    }
    const log = await assertWhole(tabs);
    const told = log.filter(({ event, data }) => event === "agent_completed" && data.status === "ok");
    assert.ok(told.length >= 3, "what was asked while the daemon was down was answered");

    await tabs[1].reload();
    await until(tabs[1], (state) => state.position === log.length);
    await assertWhole(tabs);
    assert.deepEqual(faults.flat(), []);
    await context.close();
  });

  test("the files agent shows its tools and its answer", async () => {
    const { context, tabs, faults } = await twoTabs();
    await tabs[0].click("#new");
    await tabs[0].locator("#hello").waitFor();
    await ask(tabs[0], "files", "Which file under . is the largest?");
    const run = tabs[0].locator(".run");
    await run.getByText("Done").waitFor();
    assert.ok((await run.locator(".tool").count()) > 0, "it used tools");
    assert.ok((await run.locator(".output").textContent()).length > 0, "it answered");
    assert.deepEqual(faults.flat(), []);
    await context.close();
  });
});
