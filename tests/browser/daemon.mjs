// The real daemon, with a data directory of its own, which can be killed and started again on the same port.
// RUNCAST_BIN says which binary.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import WebSocket from "ws";
import { eventually, skip as noBrowser } from "./browser.mjs";

const binary = process.env.RUNCAST_BIN;

/** Why these tests cannot run here, or false. */
export const skip =
  noBrowser || (binary ? false : "skipped: no daemon (say where the binary is in RUNCAST_BIN)");

export class Daemon {
  port = 0;
  #said = "";

  /** `settings` are like `server.heartbeat=1s`. */
  constructor(...settings) {
    this.settings = settings.flatMap((setting) => ["--set", setting]);
  }

  async start() {
    this.data ??= await mkdtemp(join(tmpdir(), "runcast-"));
    const args = [
      "serve",
      "--dev",
      "--listen",
      `127.0.0.1:${this.port}`,
      "--data",
      this.data,
      ...this.settings,
    ];
    this.child = spawn(binary, args, { cwd: import.meta.dirname, stdio: ["ignore", "pipe", "pipe"] });
    this.#said = "";
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.on("data", (data) => (this.#said += data));
    const url = await eventually(() => {
      assert.equal(this.child.exitCode, null, `the daemon ended: ${this.#said}`);
      return /http:\/\/127\.0\.0\.1:(\d+)\/#token=(\S+)/.exec(this.#said);
    }, "the daemon prints its URL");
    [this.port, this.token] = [Number(url[1]), url[2]];
  }

  /** The page of the built-in user, with a token; of another port when something stands before the daemon. */
  url(port = this.port) {
    return `http://127.0.0.1:${port}/#token=${this.token}`;
  }

  async kill() {
    const gone = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await gone;
  }

  async end() {
    if (this.child?.exitCode === null && this.child.signalCode === null) await this.kill();
    if (this.data) await rm(this.data, { recursive: true, force: true });
  }

  /** A token for a worker. */
  workerToken() {
    return this.tokenOf("workers", "worker");
  }

  async tokenOf(user, ...scopes) {
    const args = ["token", "--user", user, ...scopes.flatMap((scope) => ["--scope", scope])];
    return (await promisify(execFile)(binary, [...args, "--data", this.data])).stdout.trim();
  }

  /** All events of the user, from the oldest to the head, as a viewer of no consequence is sent them. */
  async log() {
    const socket = new WebSocket(`ws://127.0.0.1:${this.port}/ws`, ["runcast.v1", `jwt.${this.token}`]);
    const events = [];
    let head;
    socket.on("open", () => socket.send(JSON.stringify({ type: "hello", from: "oldest", ack: false })));
    socket.on("message", (data) => {
      const message = JSON.parse(data);
      if (message.type === "welcome") head = message.head;
      if (message.type === "event") events.push(message);
    });
    const isWhole = () => head !== undefined && (events.at(-1)?.seq ?? 0) >= head;
    await eventually(isWhole, "the whole log has come");
    socket.terminate();
    return events;
  }
}
