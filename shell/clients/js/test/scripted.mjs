// The server of the conformance cases: it does what the script says and nothing else, and keeps what it
// hears.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const TOKEN = /^runcast\.v1, ?jwt\.([\w.-]+)$/;

const EVENT = { type: "event", seq: 1, ts: 1789000000000, event: "agent_output", data: { delta: "x" } };
const OF_RUN = { thread: "t", run: "run_t_00000001", attempt: 1 };
const LIMITS = { window: 256, message_bytes: 65536, event_bytes: 1052672, runs_active: 3, runs_queued: 20 };

/** An event, with the fields that matter. */
export const makeEvent = (fields) => ({ ...EVENT, ...(!fields.topic && OF_RUN), ...fields });

/** The answer to a `hello`, with the fields that matter. */
export function welcomeTo(hello, fields = {}) {
  const from = hello.from?.seq ?? Number(hello.last_event_id?.split(":")[1] ?? NaN);
  const resume = Number.isNaN(from) ? { status: "fresh", from: 0 } : { status: "resumed", from };
  const device = hello.device ?? "made";
  const stream = { epoch: "e-1", floor: 1, head: 0, resume };
  const rest = { heartbeat_ms: 10_000, topics: [], runs: [], limits: LIMITS };
  return { type: "welcome", connection: "c-1", user: "alice", device, ...stream, ...rest, ...fields };
}

/** What a client opened: a WebSocket or an event stream. */
class Connection {
  heard = []; // messages that no step has taken
  posts = []; // responses of requests that have no answer yet
  acked = new Map(); // topic ("" is the user's stream) → seq
  acks = 0;
  sent = new Map(); // topic → up to where events were sent
  over = false;

  constructor(transport, token, server) {
    Object.assign(this, { transport, token, server });
  }

  take(message) {
    if (message.type === "ping") return;
    if (message.type !== "ack") return void this.heard.push(message);
    this.acks += 1;
    this.acked.set(message.topic ?? "", message.seq);
    this.server.onAck(message);
  }
}

export class ScriptedServer {
  arrivals = []; // { transport, url, open(): Connection, refuse(status) }
  connections = [];
  blocked = false;
  onAck = () => {};
  #http = createServer((request, response) => this.#request(request, response));
  #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "runcast.v1" });

  #tcp = new Set();

  async start() {
    this.#http.on("connection", (socket) => {
      this.#tcp.add(socket);
      socket.on("close", () => this.#tcp.delete(socket)).on("error", () => {});
    });
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    await new Promise((ready) => this.#http.listen(0, "127.0.0.1", ready));
    this.url = `http://127.0.0.1:${this.#http.address().port}/`;
  }

  async end() {
    for (const socket of this.#tcp) socket.destroy();
    await new Promise((gone) => this.#http.close(gone));
  }

  get current() {
    return this.connections.at(-1);
  }

  #upgrade(request, socket, head) {
    const refuse = (status) => socket.end(`HTTP/1.1 ${status} Refused\r\ncontent-length: 0\r\n\r\n`);
    if (this.blocked) return refuse(403);
    const open = () => {
      const token = TOKEN.exec(request.headers["sec-websocket-protocol"])?.[1];
      const connection = new Connection("websocket", token, this);
      this.#sockets.handleUpgrade(request, socket, head, (ws) => {
        ws.on("message", (data) => connection.take(JSON.parse(data)));
        ws.on("close", () => (connection.over = true));
        Object.assign(connection, {
          send: (message) => ws.send(JSON.stringify(message)),
          text: (text) => ws.send(text),
          close: (code) => ws.close(code),
          cut: () => ws.terminate(),
          settled: () => new Promise((pong) => (ws.once("pong", pong), ws.once("close", pong), ws.ping())),
        });
      });
      return connection;
    };
    this.arrivals.push({ transport: "websocket", url: request.url, open, refuse });
  }

  #request(request, response) {
    const url = new URL(request.url, this.url);
    const token = /^Bearer (.+)$/.exec(request.headers.authorization)?.[1];
    const refuse = (status) => response.writeHead(status).end();
    if (request.method === "POST") return void this.#post(request, response, url.pathname);
    if (url.pathname !== "/v1/stream") return refuse(404);
    const open = () => {
      const connection = new Connection("sse", token, this);
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.on("close", () => (connection.over = true));
      const write = (name, data, id) =>
        response.write(
          `${name ? `event: ${name}\n` : ""}${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`,
        );
      connection.heard.push({
        type: "hello",
        ...Object.fromEntries(url.searchParams),
        ...(request.headers["last-event-id"] && { last_event_id: request.headers["last-event-id"] }),
      });
      return Object.assign(connection, {
        send: (message) =>
          message.type === "event"
            ? write("", message, `${connection.epoch}:${message.seq}`)
            : write(message.type, message),
        text: (text) => response.write(text),
        close: (code) => (write("close", { code, reason: "" }), response.end()),
        cut: () => response.destroy(),
        settled: async () => {},
      });
    };
    this.arrivals.push({ transport: "sse", url: request.url, open, refuse });
  }

  async #post(request, response, path) {
    let text = "";
    for await (const part of request) text += part;
    const body = JSON.parse(text);
    if (path === "/v1/ack") {
      this.current.take({ type: "ack", ...body });
      return response.writeHead(204).end();
    }
    const key = request.headers["idempotency-key"];
    this.current.posts.push(response);
    this.current.take({ type: "post", path, ...(key && { key }), body });
  }
}
