// A page that does not come from the daemon: the browser lets it ask, and read the answers, where the daemon's
// configuration names its origin, and keeps everything from it otherwise.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { launch } from "./browser.mjs";
import { Daemon, skip } from "./daemon.mjs";

/** Asks for a run by POST and reads its events from the stream, as a client without WebSockets does. */
async function runOverHttp({ url, token }) {
  const headers = { Authorization: `Bearer ${token}` };
  const asked = await fetch(`${url}/v1/threads/t/runs`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": "k" },
    body: JSON.stringify({ agent: "echo", input: "hello" }),
  });
  const { run } = await asked.json();
  const stream = await fetch(`${url}/v1/stream?from=oldest`, {
    headers: { ...headers, Accept: "text/event-stream" },
  });
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    text += value ?? "";
    if (done || text.includes('"agent_completed"')) return text.includes(run);
  }
}

describe("a page from elsewhere", { skip }, () => {
  let browser, daemon, pages;

  before(async () => {
    pages = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<p>elsewhere"));
    await once(pages.listen(0, "127.0.0.1"), "listening");
    browser = await launch();
    daemon = new Daemon(`server.origins=["http://chat.localhost:${pages.address().port}"]`);
    await daemon.start();
  });

  after(async () => {
    await browser?.close();
    await daemon?.end();
    pages?.close();
  });

  const at = async (host) => {
    const page = await browser.newPage();
    await page.goto(`http://${host}:${pages.address().port}/`);
    return page.evaluate(runOverHttp, { url: `http://127.0.0.1:${daemon.port}`, token: daemon.token });
  };

  test("has its run without a WebSocket, if its origin is configured", async () => {
    assert.equal(await at("chat.localhost"), true);
  });

  test("is kept out by its browser otherwise", async () => {
    await assert.rejects(at("other.localhost"), /Failed to fetch/);
  });
});
