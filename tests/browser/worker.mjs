// A worker outside the daemon (PROTOCOL.md §6), whose agents are functions of the test. It outlives the
// daemon: what is not acknowledged is kept, and sent on the next connection.

import WebSocket from "ws";

const AGAIN_MS = 20;

/** One run of an agent: what it has to speak with. */
class Job {
  n = 0;
  kept = [];
  i = 0;
  begun = false;
  inputs = [];
  #heard = () => {};

  constructor(worker, { run, attempt, agent, input }) {
    Object.assign(this, { worker, run, attempt, agent, input });
    this.cancelled = new Promise((cancel) => (this.cancel = cancel));
  }

  get of() {
    return { run: this.run, attempt: this.attempt };
  }

  /** Writes an event. */
  say(event, data) {
    this.#keep({ type: "event", event, data });
  }

  end(status, rest = {}) {
    this.#keep({ type: "complete", status, ...rest });
  }

  /** What the user answers to a question, or says unasked. */
  async hear() {
    while (!this.inputs.length) await new Promise((heard) => (this.#heard = heard));
    return this.inputs.shift();
  }

  told(input) {
    this.inputs.push(input);
    this.#heard();
  }

  #keep(message) {
    const numbered = { ...message, ...this.of, n: (this.n += 1) };
    this.kept.push(numbered);
    this.worker.send(numbered);
  }
}

export class Worker {
  #jobs = new Map();
  #over = false;
  #welcome = false;

  /** `agents` are async functions of a job, by name; `port` is the daemon's, at each connection. */
  constructor(port, token, agents, { name = "outside", slots = 4 } = {}) {
    Object.assign(this, { port, token, agents, name, slots });
    this.#connect();
  }

  end() {
    this.#over = true;
    this.socket.terminate();
    clearInterval(this.beating);
  }

  send(message) {
    if (this.#welcome) this.socket.send(JSON.stringify(message));
  }

  #connect() {
    if (this.#over) return;
    const headers = { authorization: `Bearer ${this.token}` };
    const socket = new WebSocket(`ws://127.0.0.1:${this.port()}/worker`, ["runcast.v1"], { headers });
    this.socket = socket;
    socket.on("open", () => {
      const agents = Object.keys(this.agents).map((agent) => ({
        agent,
        slots: this.slots,
        timeout_ms: 600_000,
      }));
      const runs = [...this.#jobs.values()].map(({ of, n }) => ({ ...of, n }));
      socket.send(JSON.stringify({ type: "hello", worker: this.name, agents, runs }));
    });
    socket.on("message", (data) => this.#hear(JSON.parse(data)));
    socket.on("error", () => {}); // a close follows
    socket.on("close", () => {
      this.#welcome = false;
      setTimeout(() => this.#connect(), AGAIN_MS);
    });
  }

  #hear(message) {
    const job = this.#jobs.get(message.run);
    const isOurs = job?.attempt === message.attempt;
    if (message.type === "welcome") this.#welcomed(message);
    else if (message.type === "run") this.#take(message);
    else if (message.type === "ack" && isOurs) this.#acknowledged(job, message.n);
    else if (message.type === "withdraw") this.#jobs.delete(message.run);
    else if (["cancel", "input"].includes(message.type) && isOurs) this.#command(job, message);
  }

  #welcomed({ lease_ms, runs }) {
    this.#welcome = true;
    clearInterval(this.beating);
    this.beating = setInterval(() => this.send({ type: "beat" }), lease_ms / 3);
    const known = new Map(runs.map((run) => [run.run, run]));
    for (const job of this.#jobs.values()) {
      const { state, n } = known.get(job.run) ?? {};
      if (state !== "continue") this.#jobs.delete(job.run);
      else {
        this.#acknowledged(job, n);
        for (const message of job.kept) this.send(message);
      }
    }
  }

  #take(offer) {
    const job = new Job(this, offer);
    this.#jobs.set(offer.run, job);
    this.send({ type: "started", ...job.of });
  }

  #acknowledged(job, n) {
    job.kept = job.kept.filter((message) => message.n > n);
    if (job.begun) return;
    job.begun = true; // only now is it executed: its start is durable
    this.agents[job.agent](job).then(() => {});
  }

  #command(job, message) {
    this.send({ type: "got", ...job.of, i: message.i });
    if (message.i <= job.i) return;
    job.i = message.i;
    if (message.type === "cancel") job.cancel(message.reason);
    else job.told(message);
  }
}
