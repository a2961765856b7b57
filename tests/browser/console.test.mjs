// The operators' page in a real browser, against the real daemon and workers in processes of their own: a
// queue that builds, a worker that is killed, what an operator looks for and does about it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import WebSocket from "ws";
import { eventually, launch, watch } from "./browser.mjs";
import { Daemon, skip } from "./daemon.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const shotsTo = process.env.SCREENSHOTS; // a folder for pictures of what the tests bring the page to

describe("the operators' page", { skip }, () => {
  let browser, context, daemon, tokens, faults, expected;
  let processes = [];
  let sockets = [];

  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());
  beforeEach(async () => {
    faults = [];
    // That there is no such user is told by 404, which browsers write down as an error.
    expected = /status of 40[34]/;
    context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  });
  afterEach(async () => {
    await context.close();
    for (const socket of sockets.splice(0)) socket.terminate();
    for (const child of processes.splice(0)) child.kill("SIGKILL");
    await daemon?.end();
    const real = faults.flat().filter((fault) => !expected.test(fault));
    assert.deepEqual(real, [], "the page had faults");
  });

  async function serve(...settings) {
    daemon = new Daemon(...settings);
    await daemon.start();
    tokens = {
      operator: await daemon.tokenOf("olga", "operate", "user"),
      shop: await daemon.tokenOf("shop", "publish"),
      workers: await daemon.workerToken(),
    };
  }

  /** As many runs at once. */
  const places = (count) => [`runs.active=${count}`, `runs.active_per_user=${count}`];

  const url = (path) => `http://127.0.0.1:${daemon.port}${path}`;

  /** A worker in a process of its own. */
  function work(name, slots, ...agents) {
    const script = new URL("worker-process.mjs", import.meta.url).pathname;
    const args = [script, String(daemon.port), tokens.workers, name, String(slots), ...agents];
    const child = spawn(process.execPath, args, { stdio: "ignore" });
    processes.push(child);
    return child;
  }

  async function ask(token, path, method = "GET", body = undefined) {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const response = await fetch(url(path), { method, headers, body: body && JSON.stringify(body) });
    return { status: response.status, body: response.status === 204 ? null : await response.json() };
  }

  /** A run, for a user who need not be there, once a worker has said that it serves the agent. */
  async function run(user, agent, thread, input = "hello") {
    const asked = await eventually(async () => {
      const { body } = await ask(tokens.shop, "/v1/runs", "POST", { user, agent, thread, input });
      return body.code === "agent_unknown" ? null : body;
    }, `a worker for ${agent}`);
    assert.ok(asked.run, JSON.stringify(asked));
    return asked.run;
  }

  /** A device of a user; one that does not acknowledge falls behind. */
  async function connect(user, device, acknowledges = true) {
    const token = await daemon.tokenOf(user, "user");
    const socket = new WebSocket(`ws://127.0.0.1:${daemon.port}/ws`, ["runcast.v1", `jwt.${token}`]);
    sockets.push(socket);
    const events = [];
    const welcome = new Promise((welcomed) =>
      socket.on("message", (data) => {
        const message = JSON.parse(data);
        if (message.type === "welcome") welcomed();
        if (message.type !== "event") return;
        events.push(message);
        if (acknowledges) socket.send(JSON.stringify({ type: "ack", seq: message.seq }));
      }),
    );
    socket.on("open", () => socket.send(JSON.stringify({ type: "hello", device })));
    await welcome;
    return { events, socket };
  }

  async function open(token = tokens.operator) {
    const page = await context.newPage();
    faults.push(watch(page));
    await page.goto(url("/console"));
    await page.locator("#door[open]").waitFor();
    await page.fill("#token", token);
    await page.press("#token", "Enter");
    return page;
  }

  async function openLive() {
    const page = await open();
    await page.locator("#link", { hasText: "Live" }).waitFor();
    return page;
  }

  const rowsOf = (page, panel) => page.locator(`#${panel} .row-of`);
  const rowOf = (page, panel, text) => rowsOf(page, panel).filter({ hasText: text });
  const hasRows = (page, panel, count) =>
    eventually(async () => (await rowsOf(page, panel).count()) === count, `${panel} has ${count} rows`);
  const tile = (page, name) =>
    page.locator(".tile", { has: page.getByText(name, { exact: true }) }).locator("b");
  const shot = (page, name) => shotsTo && page.screenshot({ path: `${shotsTo}/console-${name}.png` });
  const status = async () => (await ask(tokens.operator, "/v1/status")).body;

  test("a queue is seen building, with places and reasons", async (t) => {
    await serve(...places(2));
    work("digger", 4, "dig");
    const page = await openLive();
    await rowOf(page, "workers", "digger").waitFor();
    await page.getByText("Nothing is queued.").waitFor();
    const ids = [];
    for (let n = 0; n < 6; n += 1) ids.push(await run(`user-${n}`, "dig", "t"));
    const since = Date.now();
    await hasRows(page, "queue", 4);
    t.diagnostic(`shown after ${Date.now() - since} ms`);
    await hasRows(page, "runs", 2);
    assert.equal(await tile(page, "Queued").textContent(), "4");
    assert.deepEqual(await rowsOf(page, "queue").locator(".place").allTextContents(), ["1", "2", "3", "4"]);
    const listed = await rowsOf(page, "queue").locator(".id").allTextContents();
    assert.deepEqual(listed, ids.slice(2), "in the order in which they start");
    await rowOf(page, "queue", ids[2]).getByText("concurrency").waitFor();
    await rowOf(page, "runs", ids[0]).locator("small", { hasText: /^dig\b/ }).waitFor();
    await shot(page, "queue");
  });

  test("a worker that is killed is seen silent, and then gone with its runs", async (t) => {
    await serve("runs.lease=3s");
    const child = work("victim", 2, "dig");
    work("survivor", 2, "echo");
    const page = await openLive();
    await rowOf(page, "workers", "victim").getByText("idle").waitFor();
    const id = await run("alice", "dig", "t");
    await rowOf(page, "workers", "victim").getByText("busy").waitFor();
    await rowOf(page, "runs", id).getByText("running").waitFor();
    child.kill("SIGKILL");
    await once(child, "exit");
    const since = Date.now();
    await rowOf(page, "workers", "victim").getByText("silent").waitFor();
    t.diagnostic(`shown after ${Date.now() - since} ms`);
    await page.getByText("Worker victim has lost its connection.").first().waitFor();
    await rowOf(page, "workers", "victim").getByText("gone").waitFor();
    await rowOf(page, "ended", id).getByText("worker lost").waitFor();
    await rowOf(page, "workers", "survivor").getByText("idle").waitFor();
    await hasRows(page, "runs", 0);
    await shot(page, "worker");
  });

  test("a run is cancelled when that is confirmed, and not before", async () => {
    await serve(...places(1));
    work("digger", 2, "dig");
    const alice = await connect("alice", "laptop");
    const page = await openLive();
    const [running, queued] = [await run("alice", "dig", "one"), await run("alice", "dig", "two")];
    await rowOf(page, "runs", running).waitFor();
    await rowOf(page, "queue", queued).getByRole("button", { name: `Cancel ${queued}` }).click();
    const dialog = page.locator("#sure");
    await dialog.getByText(`${queued} of alice is queued.`).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "sure-no", "what is safe has the focus");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    assert.equal((await status()).runs.queued, 1, "it was not meant");

    for (const [panel, id] of [["queue", queued], ["runs", running]]) {
      await rowOf(page, panel, id).getByRole("button", { name: `Cancel ${id}` }).click();
      await dialog.getByRole("button", { name: "Cancel the run" }).click();
      await rowOf(page, "ended", id).getByText("cancelled").waitFor();
    }
    const ends = () => alice.events.filter(({ event }) => event === "agent_completed");
    await eventually(() => ends().length === 2, "alice has heard of both ends");
    for (const { data } of ends()) assert.deepEqual([data.status, data.reason], ["cancelled", "operator"]);
    await hasRows(page, "runs", 0);
  });

  test("a user is disconnected when that is confirmed", async () => {
    await serve();
    const { socket } = await connect("alice", "laptop");
    await connect("bob", "desk");
    const page = await openLive();
    const closed = once(socket, "close");
    await page.getByRole("button", { name: "Disconnect alice" }).click();
    await page.locator("#sure").getByLabel("Let them reconnect at once").check();
    await page.getByRole("button", { name: "Disconnect", exact: true }).click();
    assert.equal((await closed)[0], 4400);
    await page.getByText("alice has been disconnected.").waitFor();
    await hasRows(page, "connections", 2); // bob, and the page itself
    await rowOf(page, "connections", "bob").waitFor();
    const { socket: again } = await connect("alice", "laptop");
    const closedAgain = once(again, "close");
    await page.getByRole("button", { name: "Disconnect alice" }).click();
    await page.getByRole("button", { name: "Disconnect", exact: true }).click();
    assert.equal((await closedAgain)[0], 4507);
  });

  test("a user, a run and a thread are found", async () => {
    await serve(...places(2));
    work("helper", 4, "dig", "echo");
    await connect("alice", "laptop");
    await connect("bob", "desk");
    const page = await openLive();
    const done = await run("alice", "echo", "shopping");
    await rowOf(page, "ended", done).waitFor();
    const ids = [await run("alice", "dig", "garden"), await run("bob", "dig", "cellar")];
    await hasRows(page, "runs", 2);
    await page.fill("#find", "alice");
    await hasRows(page, "runs", 1);
    await hasRows(page, "connections", 1);
    const found = page.locator("#found");
    await found.getByText("User alice").waitFor();
    await found.getByText("laptop").waitFor();
    await shot(page, "found");
    await page.fill("#find", "cellar");
    await rowOf(page, "runs", ids[1]).waitFor();
    await hasRows(page, "runs", 1);
    await found.waitFor({ state: "hidden" });
    await page.fill("#find", done);
    await found.getByText(`Run ${done}`).waitFor();
    await found.getByText("alice").waitFor();
    await hasRows(page, "runs", 0);
    await page.locator("#runs").getByText("Nothing here matches.").waitFor();
    await page.press("#find", "Escape");
    await hasRows(page, "runs", 2);
    // A name in a row is looked for when it is pressed.
    await rowOf(page, "runs", ids[1]).getByRole("button", { name: "bob" }).click();
    await found.getByText("User bob").waitFor();
    assert.equal(await page.inputValue("#find"), "bob");
  });

  test("what could not be looked up at first is looked up again", async () => {
    await serve();
    const worker = work("helper", 4, "echo", "dig");
    (await connect("alice", "laptop")).socket.terminate();
    const done = await run("bob", "echo", "shopping");
    await eventually(async () => (await ask(tokens.operator, `/v1/runs/${done}`)).body.state === "ended", "an end");
    // After a restart neither is in any list.
    worker.kill("SIGKILL");
    await daemon.kill();
    await daemon.start();
    expected = /status of (404|503)/;
    const page = await openLive();
    const found = page.locator("#found");
    const firstOf = (path, answer) => page.route(url(path), answer, { times: 1 });
    const status = (code) => (route) => route.fulfill({ status: code, json: { code: "made_up", message: "no" } });

    await firstOf("/v1/users/alice", (route) => route.abort("timedout"));
    await page.fill("#find", "alice");
    await found.getByText("User alice").waitFor();
    await firstOf(`/v1/runs/${done}`, status(503));
    await page.fill("#find", done);
    await found.getByText(`Run ${done}`).waitFor();

    // What is said to be nothing is asked about again when it is listed.
    work("digger", 4, "dig");
    const running = await run("carol", "dig", "garden");
    await firstOf(`/v1/runs/${running}`, status(404));
    await page.fill("#find", running);
    await rowOf(page, "runs", running).waitFor();
    await found.getByText(`Run ${running}`).waitFor();
  });

  test("news come also when something is looked for before the first answer", async () => {
    await serve();
    const page = await context.newPage();
    faults.push(watch(page));
    let answer;
    const looked = new Promise((goOn) => (answer = goOn));
    const late = (route) => looked.then(() => route.continue());
    await page.route(/v1\/status/, late, { times: 1 });
    await page.goto(url("/console"));
    await page.fill("#token", tokens.operator);
    const asked = page.waitForRequest(/v1\/status/);
    await page.press("#token", "Enter");
    await asked;
    await page.fill("#find", "digger");
    await page.press("#find", "Enter");
    answer();
    await page.locator("#link", { hasText: "Live" }).waitFor();
    work("digger", 1, "dig");
    await page.locator("#activity").getByText(/digger/).first().waitFor();
  });

  test("how far away a device is can be seen when it has answered a ping", async () => {
    await serve("server.heartbeat=1s");
    await connect("alice", "laptop");
    const page = await openLive();
    await rowOf(page, "connections", "alice").getByText(/\d+ ms away/).waitFor();
    await shot(page, "away");
  });

  test("who falls behind comes first, and what nobody has heard is listed", async () => {
    await serve("delivery.undelivered_after=1s", "breaker.failures=1");
    work("helper", 4, "dig", "fail");
    await connect("alice", "laptop");
    await connect("bob", "desk", false);
    const page = await openLive();
    await rowOf(page, "workers", "helper").waitFor();
    for (const user of ["alice", "bob"]) await run(user, "dig", "t");
    await rowOf(page, "connections", "bob").getByText("4 behind").waitFor();
    await rowOf(page, "connections", "alice").getByText("0 behind").waitFor();
    assert.match(await rowsOf(page, "connections").first().textContent(), /bob/);
    const lost = await run("carol", "fail", "t");
    await rowOf(page, "agents", "fail").getByText("breaker open").waitFor();
    await rowOf(page, "undelivered", lost).waitFor();
    await page.locator("#alerts").getByText("breaker open: fail").waitFor();
    await page.getByText("Alert: breaker open of fail").first().waitFor();
  });

  test("a token is asked for, kept in the tab alone, and refused with the reason", async () => {
    await serve();
    const page = await open(await daemon.tokenOf("alice", "user"));
    const dialog = page.locator("#door");
    await dialog.getByText(/scope/).first().waitFor();
    await dialog.getByText(/operate/).first().waitFor();
    await page.locator("#door[open]").waitFor();
    await page.fill("#token", tokens.operator);
    await page.press("#token", "Enter");
    await page.locator("#link", { hasText: "Live" }).waitFor();
    assert.equal(await page.evaluate(() => localStorage.length), 0);
    await page.reload();
    await page.locator("#link", { hasText: "Live" }).waitFor();
    await page.getByRole("button", { name: "Forget the token" }).click();
    await page.locator("#door[open]").waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    // Without the scope `user` there are no news, and everything else.
    await page.fill("#token", await daemon.tokenOf("olga", "operate"));
    await page.press("#token", "Enter");
    await page.locator("#link", { hasText: "Every second" }).waitFor();
    await rowOf(page, "workers", "built-in").waitFor();
  });

  test("nothing is asked while nobody looks", async () => {
    await serve();
    const page = await openLive();
    let asked = 0;
    page.on("request", (request) => (asked += request.url().includes("/v1/status") ? 1 : 0));
    await eventually(() => asked > 0, "it asks");
    const hide = (isHidden) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
      }, isHidden);
    await hide(true);
    const before = asked;
    // Something happens of which the page is told.
    work("late", 1, "echo");
    await page.getByText("Worker late has joined.").first().waitFor();
    assert.ok(asked - before <= 1, "but for what was on its way");
    await hide(false);
    await rowOf(page, "workers", "late").waitFor();
  });

  test("a daemon that is gone is said to be, and found again", async () => {
    await serve();
    const page = await openLive();
    await daemon.kill();
    await page.locator("#link", { hasText: "Not reached" }).waitFor();
    await daemon.start();
    await page.locator("#link", { hasText: "Live" }).waitFor();
  });

  test("the daemon is drained when that is confirmed", async () => {
    await serve("server.drain=1s");
    const page = await openLive();
    await page.getByRole("button", { name: "Drain…" }).click();
    const gone = once(daemon.child, "exit");
    await page.locator("#sure").getByText("closes all connections and exits").waitFor();
    await shot(page, "drain");
    await page.getByRole("button", { name: "Drain it" }).click();
    assert.deepEqual((await gone)[0], 0);
  });

  test("what users call themselves stays text", async () => {
    await serve(...places(1));
    work("digger", 2, "dig");
    const page = await openLive();
    const evil = `<img src=x onerror="document.title='owned'">`;
    await run(evil, "dig", "t");
    await run(evil, "dig", "u");
    await rowOf(page, "runs", evil).waitFor();
    await rowOf(page, "queue", evil).waitFor();
    await page.fill("#find", evil);
    const title = page.locator("#found-title");
    await eventually(async () => (await title.textContent()) === `User ${evil}`, "the user is found");
    assert.equal(await page.title(), "Runcast console");
    assert.equal(await page.locator("img").count(), 0);
  });

  test("it can be used without a mouse, without sight, and on a telephone", async () => {
    await serve(...places(1));
    work("digger", 2, "dig");
    await connect("alice", "laptop");
    const page = await openLive();
    const ids = [await run("alice", "dig", "one"), await run("alice", "dig", "two")];
    await rowOf(page, "queue", ids[1]).waitFor();
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.id), "find");
    for (const colorScheme of ["light", "dark"])
      for (const viewport of [
        { width: 1400, height: 900 },
        { width: 360, height: 740 },
        { width: 320, height: 256 }, // a window of 1280 at 400 %
      ]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize(viewport);
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => window.axe.run());
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
        assert.deepEqual(found, [], `${colorScheme}, ${viewport.width} wide`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= viewport.width, `${wide} wide in a window of ${viewport.width}`);
        const isCut = await page.evaluate(() => {
          const name = document.querySelector("#top h1");
          return name.scrollWidth > name.clientWidth;
        });
        assert.ok(!isCut, `the name has room in a window of ${viewport.width}`);
        await shot(page, `${colorScheme}-${viewport.width}`);
      }
  });

  test("nothing moves when something happens", async () => {
    await serve(...places(1));
    const page = await openLive();
    const boxes = () =>
      page.evaluate(() =>
        [...document.querySelectorAll(".panel:not(#found), .tile")].map((node) => {
          const { x, y, width, height } = node.getBoundingClientRect();
          return [x, y, width, height].map(Math.round).join();
        }),
      );
    const before = await boxes();
    work("digger", 2, "dig");
    await rowOf(page, "workers", "digger").waitFor();
    for (let n = 0; n < 8; n += 1) await run(`user-${n}`, "dig", "t");
    await hasRows(page, "queue", 7);
    assert.deepEqual(await boxes(), before);
  });
});
