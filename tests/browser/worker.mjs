// A worker that survives its daemon: it says the words of one run, so many as it may, and what was not acknowledged
// again after each reconnect (PROTOCOL §6).

import WebSocket from "ws";

const SUBPROTOCOLS = ["runcast.v1"];

export class Worker {
  /** How many messages may have been said. */
  allowed = 0;
  isWelcome = false;
  /** What the daemon knew nothing of any more. */
  lost = [];
  #acknowledged = 0;
  #said = 0;
  #isStarted = false;

  /** Says `words` words of the agent's only run. */
  constructor(daemon, token, agent, words) {
    Object.assign(this, { daemon, token, agent, words });
  }

  /** Connects, and again whenever the connection has ended; it finds a daemon that is down out by trying. */
  connect() {
    const headers = { authorization: `Bearer ${this.token}` };
    this.socket = new WebSocket(`ws://127.0.0.1:${this.daemon.port}/worker`, SUBPROTOCOLS, { headers });
    this.socket.on("open", () => {
      const runs = this.#isStarted ? [{ ...this.run, n: this.#acknowledged }] : [];
      this.#say({ type: "hello", worker: "w-1", agents: [{ agent: this.agent, slots: 1 }], runs });
    });
    this.socket.on("message", (data) => this.#hear(JSON.parse(data)));
    this.socket.on("error", () => {}); // `close` follows
    this.socket.on("close", () => (this.timer = setTimeout(() => this.connect(), 20)));
  }

  /** Lets it say more. */
  allow(messages) {
    this.allowed = messages;
    this.#speak();
  }

  end() {
    this.socket.removeAllListeners("close");
    clearTimeout(this.timer);
    this.socket.terminate();
  }

  #say(message) {
    this.socket.send(JSON.stringify(message));
  }

  #hear(message) {
    if (message.type === "heartbeat") this.#say({ type: "beat" });
    if (message.type === "run") {
      this.run = { run: message.run, attempt: message.attempt };
      this.#say({ type: "started", ...this.run });
    }
    if (message.type === "welcome") {
      this.isWelcome = true;
      this.lost.push(...message.runs.filter(({ state }) => state === "gone"));
      this.#said = message.runs[0]?.n ?? 0;
      this.#speak();
    }
    if (message.type === "ack") {
      this.#isStarted = true;
      this.#acknowledged = message.n;
      this.#speak();
    }
  }

  #speak() {
    if (!this.#isStarted || this.socket.readyState !== WebSocket.OPEN) return;
    while (this.#said < Math.min(this.allowed, this.words)) {
      const n = (this.#said += 1);
      this.#say({ type: "event", ...this.run, n, event: "agent_output", data: { delta: `w${n} ` } });
    }
    if (this.#said === this.words && this.allowed > this.words) {
      this.#said += 1;
      this.#say({ type: "complete", ...this.run, n: this.#said, status: "ok" });
    }
  }
}
