// A scripted daemon: as much of PROTOCOL.md §3–§5 as the page can see, in memory, with every fault at hand.
//
// It keeps a log of events per user and sends it to whoever connects; what agents do is said by the test,
// event by event. `kill` cuts all connections at once, `start` on the same port goes on with the same log, as
// a store would.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const built = (file) => readFileSync(new URL(`../../shell/console/${file}`, import.meta.url), "utf8");

/** As `serve --dev` signs: the page offers the built-in agents to such. */
const HEAD = Buffer.from('{"kid":"dev"}').toString("base64url");

export const tokenOf = (user) => `${HEAD}.${user}.sig`;

export class FakeDaemon {
  users = new Map(); // user → { epoch, events, keys }
  connections = new Set();
  received = []; // every message of every client, oldest first: { user, device, message }
  heartbeatMs = 10_000;
  deaf = false; // takes requests and answers none
  port = 0;
  #epochs = 0;
  #runs = 0;

  async start() {
    this.server = createServer((request, response) => {
      if (request.url.startsWith("/v1/")) return request.socket.destroy(); // it has WebSockets only
      response.setHeader("content-security-policy", built("chat.csp"));
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.statusCode = request.url === "/" ? 200 : 404;
      response.end(request.url === "/" ? built("chat.html") : "");
    });
    const sockets = new WebSocketServer({
      server: this.server,
      path: "/ws",
      handleProtocols: () => "runcast.v1",
    });
    sockets.on("connection", (socket, request) =>
      this.#meet(socket, request.headers["sec-websocket-protocol"]),
    );
    await new Promise((ready) => this.server.listen(this.port, "127.0.0.1", ready));
    this.port = this.server.address().port;
  }

  /** Everything is cut at once, as by SIGKILL; only the log stays. */
  async kill() {
    for (const { socket } of this.connections) socket.terminate();
    this.connections.clear();
    this.server.closeAllConnections();
    await new Promise((gone) => this.server.close(gone));
  }

  url(user) {
    return `http://127.0.0.1:${this.port}/#token=${tokenOf(user)}`;
  }

  #anew() {
    return { epoch: `e-${++this.#epochs}`, floor: 1, events: [], keys: new Map() };
  }

  user(name) {
    if (!this.users.has(name)) this.users.set(name, this.#anew());
    return this.users.get(name);
  }

  /** The stream begins anew, as after a restore: nothing of before is in it. */
  rebuild(name) {
    this.users.set(name, this.#anew());
  }

  of(name) {
    return [...this.connections].filter((connection) => connection.user === name);
  }

  /** What clients sent of one type. */
  sent(type) {
    return this.received.filter(({ message }) => message.type === type);
  }

  /** Makes an event durable, and sends it to all devices of its user. */
  emit(name, run, event, data = {}, attempt = 1) {
    const { events } = this.user(name);
    const thread = run.split("_").slice(1, -1).join("_");
    const made = {
      type: "event",
      seq: events.length + 1,
      ts: Date.now(),
      thread,
      run,
      attempt,
      event,
      data,
    };
    events.push(made);
    for (const connection of this.of(name)) connection.send(made);
    return made;
  }

  /** Sends something that is not in the log. */
  tell(name, message) {
    for (const connection of this.of(name)) connection.send(message);
  }

  close(name, code, reason = "") {
    for (const { socket } of this.of(name)) socket.close(code, reason);
  }

  /** A token comes as PROTOCOL.md §3 says. */
  #meet(socket, offered) {
    const user = /^runcast\.v1, ?jwt\.\w+\.(\w+)\.sig$/.exec(offered)?.[1] ?? "refused";
    const connection = {
      socket,
      user,
      device: null,
      acked: 0,
      send: (message) => socket.send(JSON.stringify(message)),
    };
    socket.on("message", (data) => this.#hear(connection, JSON.parse(data)));
    socket.on("close", () => this.connections.delete(connection));
  }

  #hear(connection, message) {
    this.received.push({ user: connection.user, device: connection.device, message });
    if (message.type === "hello") return this.#welcome(connection, message);
    if (message.type === "ack") connection.acked = Math.max(connection.acked, message.seq);
    if (this.deaf) return;
    if (message.type === "run") this.#run(connection, message);
    if (message.type === "cancel")
      connection.send({ type: "ok", of: "cancel", id: message.id, run: message.run, state: "cancelling" });
    if (message.type === "input") connection.send({ type: "ok", of: "input", id: message.id });
  }

  #welcome(connection, { device, from }) {
    const { user, socket } = connection;
    if (user === "refused") {
      connection.send({
        type: "error",
        code: "token_expired",
        message: "the token expired 3 s ago",
        hint: "Get a new one.",
      });
      return socket.close(4501, "token_expired");
    }
    const { epoch, events, floor } = this.user(user);
    const head = events.length;
    let resume = { status: "fresh", from: floor - 1 };
    if (from.epoch && from.epoch !== epoch) resume = { status: "reset", reason: "epoch", from: floor - 1 };
    else if (from.seq < floor - 1) resume = { status: "reset", reason: "trimmed", from: floor - 1 };
    else if (from.epoch) resume = { status: "resumed", from: from.seq };
    connection.device = device;
    connection.acked = resume.from;
    this.connections.add(connection);
    const heartbeat_ms = this.heartbeatMs;
    const limits = {
      window: 256,
      message_bytes: 65536,
      event_bytes: 1052672,
      runs_active: 3,
      runs_queued: 20,
    };
    connection.send({
      type: "welcome",
      connection: "c-1",
      user,
      device,
      epoch,
      floor,
      head,
      resume,
      heartbeat_ms,
      runs: [],
      limits,
    });
    for (const event of events.slice(resume.from)) connection.send(event);
  }

  #run(connection, { id, key, thread, agent, input }) {
    const { keys } = this.user(connection.user);
    const known = keys.get(key);
    const run = known ?? `run_${thread}_${(++this.#runs).toString(16).padStart(8, "0")}`;
    keys.set(key, run);
    connection.send({
      type: "accepted",
      id,
      key,
      run,
      thread,
      position: 3,
      ahead: 2,
      duplicate: Boolean(known),
    });
    const data = { agent, input, position: 3, key, priority: "normal" };
    if (!known) this.emit(connection.user, run, "run_queued", data, 0);
  }
}
