// The built client in a real browser: tabs told apart, WebSockets blocked, React, and a daemon that is
// killed. Chromium is the system's, or where CHROMIUM says.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { Daemon, skip as noDaemon } from "./daemon.mjs";
import { makeEvent, ScriptedServer, welcomeTo } from "./scripted.mjs";
import { eventually } from "./wait.mjs";

const PLACES = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];
const executablePath = PLACES.find((path) => path && existsSync(path));
const noBrowser = executablePath
  ? false
  : "skipped: no chromium (install it, or say where it is in CHROMIUM)";

const PLAIN = `<!doctype html><meta charset=utf-8><title>plain</title><script type=module>
import { connect } from "./runcast.min.js";
window.seen = [];
window.start = (options) => {
  window.client = connect({ token: "t-1", ...options, storage: window[options.storage] });
  client.on("event", ({ seq, prev = seq - 1, run, event }) => {
    while (prev < seq) seen.push((prev += 1));
  });
};
window.ready = true;
</script>`;

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

/** The README's example in a language. */
const example = (language) => readme.split("```" + language + "\n")[1].split("```")[0];

const WITH_REACT = `${example("jsx")}
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
createRoot(document.getElementById("root")).render(<StrictMode><Chat token="t-1" /></StrictMode>);
`;

describe("the client in a browser", { skip: noBrowser }, () => {
  let browser, context, server, faults;

  before(async () => {
    // The pages are put in by the test; the browser takes them for public ones, which may not call local
    // addresses.
    const args = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"];
    browser = await chromium.launch({ executablePath, args });
  });
  after(() => browser?.close());

  beforeEach(async () => {
    server = new ScriptedServer();
    await server.start();
    context = await browser.newContext();
    faults = [];
    context.on("weberror", (error) => faults.push(String(error.error())));
  });
  afterEach(async () => {
    await context.close();
    await server.end();
    assert.deepEqual(faults, [], "the page had faults");
  });

  /** Puts pages where the daemon is: they are of one origin. */
  async function serve(url, pages) {
    for (const [path, [contentType, body]] of Object.entries(pages))
      await context.route(new URL(path, url).href, (route) => route.fulfill({ contentType, body }));
  }
  const servePlain = (url) => {
    const script = readFileSync(new URL("../dist/runcast.min.js", import.meta.url), "utf8");
    return serve(url, { plain: ["text/html", PLAIN], "runcast.min.js": ["text/javascript", script] });
  };

  async function open(url, options) {
    const page = await context.newPage();
    await page.goto(`${url}plain`);
    await page.waitForFunction(() => window.ready);
    await page.evaluate((options) => window.start(options), options);
    return page;
  }

  async function meet(welcome) {
    const arrival = await eventually("a connection", () => server.arrivals.shift());
    const connection = arrival.open();
    server.connections.push(connection);
    const hello = await eventually("a hello", () => connection.heard.shift());
    connection.send(welcomeTo(hello, welcome));
    return Object.assign(connection, { hello, transport: arrival.transport });
  }
  const seen = (page, count) =>
    page
      .waitForFunction((count) => window.seen.length >= count, count)
      .then(() => page.evaluate(() => window.seen));

  for (const storage of ["localStorage", "sessionStorage"])
    test(`tabs are told apart, and each is itself again after a reload (${storage})`, async () => {
      await servePlain(server.url);
      const options = { storage, transport: "websocket" };
      const one = await open(server.url, options);
      const first = await meet();
      const [two] = await Promise.all([
        context.waitForEvent("page"),
        one.evaluate(() => void window.open(location.href)),
      ]);
      await two.waitForFunction(() => window.ready);
      await two.evaluate((options) => window.start(options), options);
      const second = await meet();
      assert.notEqual(first.hello.device, second.hello.device);
      first.send(makeEvent({ seq: 1 }));
      assert.deepEqual(await seen(one, 1), [1]);
      await eventually("it is acknowledged", () => first.acked.get("") === 1);

      await one.reload();
      await one.waitForFunction(() => window.ready);
      await one.evaluate((options) => window.start(options), options);
      const { hello } = await meet({ head: 1 });
      assert.equal(hello.device, first.hello.device);
      assert.deepEqual(hello.from, { epoch: "e-1", seq: 1 });
    });

  test("where no WebSocket opens, events come by server-sent events, and acks go by POST", async () => {
    server.blocked = true;
    await servePlain(server.url);
    const page = await open(server.url, { device: "d" });
    const connection = await meet({ head: 2 });
    assert.equal(connection.transport, "sse");
    assert.equal(connection.token, "t-1");
    for (const seq of [1, 2]) connection.send(makeEvent({ seq }));
    assert.deepEqual(await seen(page, 2), [1, 2]);
    await eventually("both are acknowledged", () => connection.acked.get("") === 2);
  });

  test("a network that comes back is used at once", async () => {
    await servePlain(server.url);
    const page = await open(server.url, { device: "d", transport: "websocket" });
    const connection = await meet();
    connection.send({ type: "notice", notice: "drain", reconnect_ms: 3_600_000 });
    connection.close(4400);
    await page.waitForFunction(() => client.state.status === "waiting");
    await context.setOffline(true);
    await context.setOffline(false);
    const { hello } = await meet();
    assert.equal(hello.device, "d");
  });

  const RUN = "run_chat_00000001";

  /** Takes the page's request, and does the run. */
  async function serveRun(connection) {
    const { id, key, input } = await eventually("the request", () => connection.heard.shift());
    const accepted = { key, run: RUN, thread: "chat", position: 1, ahead: 0, duplicate: false };
    connection.send({ type: "accepted", id, ...accepted });
    const events = [
      ["run_queued", { agent: "echo", input, position: 1, key, priority: "normal" }],
      ["agent_started", { agent: "echo", worker: "w", attempt: 1, queued_ms: 1 }],
      ["tool_executing", { call: "c", tool: "search", args: {} }],
      ["tool_completed", { call: "c", status: "ok", duration_ms: 1 }],
      ["agent_output", { delta: "HEL" }],
      ["agent_output", { delta: "LO" }],
      ["agent_completed", { status: "timed_out" }],
    ];
    for (const [at, [event, data]] of events.entries())
      connection.send(makeEvent({ run: RUN, thread: "chat", seq: at + 1, event, data }));
    await eventually("all is acknowledged", () => connection.acked.get("") === events.length);
  }

  test("the README's plain example is a chat", async () => {
    await servePlain(server.url);
    await serve(server.url, { chat: ["text/html", example("html")], token: ["text/plain", "t-1"] });
    const page = await context.newPage();
    await page.goto(`${server.url}chat`);
    const connection = await meet();
    assert.equal(connection.hello.from, "oldest");
    await page.fill("#text", "hello");
    await page.press("#text", "Enter");
    await serveRun(connection);
    assert.deepEqual(await page.locator("li").allTextContents(), ["hello → HELLO(timed_out)"]);
  });

  test("the README's example with React is a chat", async () => {
    const here = new URL("..", import.meta.url).pathname;
    const { outputFiles } = await build({
      stdin: { contents: WITH_REACT, resolveDir: here, loader: "jsx" },
      jsx: "automatic",
      alias: { "runcast/react": `${here}dist/react.js` },
      bundle: true,
      write: false,
      format: "esm",
      define: { "process.env.NODE_ENV": '"development"' },
    });
    const html =
      "<!doctype html><meta charset=utf-8><div id=root></div><script type=module src=./app.js></script>";
    await serve(server.url, {
      react: ["text/html", html],
      "app.js": ["text/javascript", outputFiles[0].text],
    });
    const page = await context.newPage();
    await page.goto(`${server.url}react`);
    // Strict mode mounts twice; the first client is closed before it connects.
    const connection = await meet();
    await page.getByText("connected", { exact: true }).waitFor();
    await page.fill("input", "hello");
    await page.press("input", "Enter");
    await serveRun(connection);
    const article = page.locator("article");
    await article.getByText("HELLO", { exact: true }).waitFor();
    assert.equal(await article.textContent(), "hellosearch: okHELLO");
  });

  test(
    "kill -9 in the middle of runs: both tabs see every event once and in order",
    { skip: noDaemon },
    async () => {
      const daemon = new Daemon();
      try {
        await daemon.start();
        await servePlain(daemon.url);
        const options = { token: daemon.token, storage: "localStorage", from: "oldest" };
        const tabs = [await open(daemon.url, options), await open(daemon.url, options)];
        for (let round = 1; round <= 3; round += 1) {
          const before = await tabs[0].evaluate(() => seen.length);
          await tabs[0].evaluate(() => {
            const input = { text: "a run that is cut", words: 300, delay_ms: 10 };
            (window.runs ??= []).push(client.run({ agent: "echo", input }));
          });
          await Promise.all(tabs.map((tab) => seen(tab, before + 60)));
          await daemon.kill();
          for (const tab of tabs) await tab.waitForFunction(() => client.state.status !== "connected");
          await daemon.start();
          await tabs[0].evaluate(() => Promise.all(runs.map(({ done }) => done)));
        }
        const head = await tabs[0].evaluate(() => client.position().seq);
        assert.ok(head > 180);
        for (const tab of tabs)
          assert.deepEqual(
            await seen(tab, head),
            Array.from({ length: head }, (_, at) => at + 1),
          );
      } finally {
        await daemon.end();
      }
    },
  );
});
