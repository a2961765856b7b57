// A worker in a process of its own, which a test can kill: its agents do as little as there is to see.
// Arguments: the daemon's port, a token, the worker's name, slots per agent, and the agents' names.

import { Worker } from "./worker.mjs";

const [port, token, name, slots, ...names] = process.argv.slice(2);

const AGENTS = {
  /** Works until it is stopped. */
  async dig(job) {
    job.say("step_started", { step: "dig", name: "Dig", index: 1, of: 2 });
    job.say("agent_output", { delta: "Half a hole." });
    const reason = await job.cancelled;
    job.end("cancelled", { output: { reason } });
  },
  /** Does what it is told at once. */
  async echo(job) {
    job.say("agent_output", { text: String(job.input) });
    job.end("ok", { output: job.input });
  },
  async fail(job) {
    job.end("error", { error: { code: "broken", message: "it does not work" } });
  },
  /** Asks, and waits for the answer. */
  async ask(job) {
    job.say("input_required", { request: "colour", prompt: "Which colour?" });
    const { data } = await job.hear();
    job.end("ok", { output: data });
  },
};

const agents = Object.fromEntries(names.map((agent) => [agent, AGENTS[agent]]));
new Worker(() => Number(port), token, agents, { name, slots: Number(slots) });
