// The way around networks that let no WebSocket through: events by one long HTTP response, the rest by POST
// (PROTOCOL.md §7). It speaks the messages of a WebSocket to the rest of the client.

import type { Message } from "./protocol.js";
import type { Hello, Transport, Wire } from "./transport.js";

const BROKEN = 1006; // what a browser says of a connection that ended without a word

/** Calls `take` with each server-sent event: its name ("" when it has none) and its data. */
async function readEvents(
  body: ReadableStream<Uint8Array>,
  alive: () => void,
  take: (name: string, data: string) => void,
): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let [rest, name, data] = ["", "", ""];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data += line.slice(5);
      else if (line === "") {
        if (data) take(name, data);
        [name, data] = ["", ""];
      }
    }
  }
}

/** Where a request goes by HTTP, and what of it is the body; none for one that only a WebSocket can take. */
function route({ type, id, key, ...body }: Message): { path: string; body: object } | undefined {
  const run = encodeURIComponent(String(body["run"]));
  if (type === "ack") return { path: "v1/ack", body };
  if (type === "run") return { path: "v1/runs", body };
  delete body["run"];
  if (type === "cancel" || type === "input") return { path: `v1/runs/${run}/${type}`, body };
  return undefined;
}

const ANSWERS: Record<string, string> = { run: "accepted" };

class EventStream implements Transport {
  readonly #abort = new AbortController();
  #epoch = "";
  #ack: Message | undefined;
  #acking = false;
  #over = false;

  constructor(
    private readonly base: URL,
    private readonly token: string,
    private readonly hello: Hello,
    private readonly wire: Wire,
  ) {
    this.#read().catch(() => this.#end(BROKEN, "the event stream broke"));
  }

  send(message: Message): void {
    if (message.type === "ack") {
      this.#ack = { ...message, device: this.hello.device, epoch: this.#epoch };
      void this.#sendAcks();
    } else void this.#request(message);
  }

  leave(): void {
    this.#over = true;
    this.#abort.abort();
  }

  #end(code: number, reason: string): void {
    if (this.#over) return;
    this.leave();
    this.wire.closed(code, reason);
  }

  #fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = { authorization: `Bearer ${this.token}`, ...(init.headers as object) };
    return fetch(new URL(path, this.base), { ...init, headers, signal: this.#abort.signal });
  }

  async #read(): Promise<void> {
    const { device, from } = this.hello;
    const url = new URL("v1/stream", this.base);
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (device) url.searchParams.set("device", device);
    if (typeof from === "string") url.searchParams.set("from", from);
    else if (from) headers["last-event-id"] = `${from.epoch}:${from.seq}`;
    const response = await this.#fetch(url.href, { headers });
    if (!response.ok || !response.body) {
      this.wire.message({ type: "error", ...(await problem(response)) });
      return this.#end([401, 403].includes(response.status) ? 4501 : BROKEN, `HTTP ${response.status}`);
    }
    await readEvents(
      response.body,
      () => this.#over || this.wire.alive(),
      (name, data) => this.#take(name, JSON.parse(data)),
    );
    this.#end(BROKEN, "the event stream ended");
  }

  #take(name: string, data: Message & { epoch?: string; code?: number; reason?: string }): void {
    if (this.#over) return;
    if (name === "close") return this.#end(data.code!, data.reason!);
    if (name === "welcome") this.#epoch = data.epoch!;
    this.wire.message({ ...data, type: name || "event" });
  }

  /** One at a time, always the newest. */
  async #sendAcks(): Promise<void> {
    if (this.#acking) return;
    this.#acking = true;
    for (let ack = this.#ack; ack && !this.#over; ack = this.#ack) {
      this.#ack = undefined;
      await this.#request(ack);
    }
    this.#acking = false;
  }

  async #request(message: Message): Promise<void> {
    const { type, id, key } = message;
    const where = route(message);
    if (!where) {
      const text = `${type} needs a WebSocket, and there is none`;
      return this.wire.message({
        type: "error",
        of: type,
        id: id!,
        code: "websocket_required",
        message: text,
      });
    }
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (key) headers["idempotency-key"] = String(key);
    try {
      const response = await this.#fetch(where.path, {
        method: "POST",
        headers,
        body: JSON.stringify(where.body),
      });
      await this.#answer(message, response);
    } catch {
      this.#end(BROKEN, "a request had no answer"); // it is sent again on the next connection
    }
  }

  async #answer({ type, id }: Message, response: Response): Promise<void> {
    if (response.ok) {
      if (type === "ack") return;
      const body = await response.json();
      if (!this.#over) this.wire.message({ ...body, type: ANSWERS[type] ?? "ok", of: type, id });
      return;
    }
    const answer = await problem(response);
    if (this.#over) return;
    // Not the daemon's own words (a proxy's), or the token or device is not known any more: connect anew.
    if (response.status === 401) this.#end(4501, String(answer.code));
    else if (!answer["own"] || (type === "ack" && answer.code !== "ack_ahead")) this.#end(BROKEN, "refused");
    else this.wire.message({ ...answer, type: "error", of: type, ...(id && { id }) });
  }
}

/** What a response says of its failure: problem+json, or only its status. */
async function problem(response: Response): Promise<{ code: string; [field: string]: unknown }> {
  const own = await response.json().catch(() => undefined);
  const seconds = Number(response.headers.get("retry-after")) || 0;
  const said = own?.code ? { ...own, own: true } : { code: `http_${response.status}` };
  return { retry_ms: seconds * 1000 || undefined, message: said.detail ?? response.statusText, ...said };
}

export const openStream = (base: URL, token: string, hello: Hello, wire: Wire): Transport =>
  new EventStream(base, token, hello, wire);
