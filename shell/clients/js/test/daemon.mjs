// The real daemon, with a data directory of its own, which can be killed and started again on the same port.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { eventually } from "./wait.mjs";

const binary = process.env.RUNCAST_BIN && resolve(process.env.RUNCAST_BIN);

/** Why there is none to test against, or false. */
export const skip = binary ? false : "skipped: no daemon (say where the binary is in RUNCAST_BIN)";

export class Daemon {
  port = 0;
  #said = "";

  async start() {
    this.data ??= await mkdtemp(join(tmpdir(), "runcast-"));
    const args = ["serve", "--dev", "--listen", `127.0.0.1:${this.port}`, "--data", this.data];
    this.child = spawn(binary, args, { cwd: this.data, stdio: ["ignore", "pipe", "pipe"] });
    this.#said = "";
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.on("data", (data) => (this.#said += data));
    const found = await eventually("the daemon prints its URL", () => {
      assert.equal(this.child.exitCode, null, `the daemon ended: ${this.#said}`);
      return /http:\/\/127\.0\.0\.1:(\d+)\/#token=(\S+)/.exec(this.#said);
    });
    [this.port, this.token] = [Number(found[1]), found[2]];
    this.url = `http://127.0.0.1:${this.port}/`;
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
}
