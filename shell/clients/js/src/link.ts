// One connection after another: when to open the next, by which way, and when to give up (PROTOCOL.md §5).

import { RuncastError } from "./errors.js";
import type { Message, Welcome } from "./protocol.js";
import { openStream } from "./sse.js";
import { type Hello, openSocket, type SocketMaker, type Transport } from "./transport.js";

/** What the connection is doing. */
export interface State {
  status: "connecting" | "connected" | "waiting" | "stopped";
  /** `waiting`: how long until the next try. */
  retry_ms?: number;
  /** `waiting`, `stopped`: the close code of the connection before (4501 …; 1000 after `close`). */
  code?: number;
  /** `waiting`, `stopped`: what the server said before it closed. */
  error?: RuncastError;
  /** `connected`: by which way. */
  transport?: "websocket" | "sse";
}

/** Why a token is asked for. With `refused` the same one again is of no use. */
export type TokenReason = "connect" | "expiring" | "refused";
export type Token = string | ((reason: TokenReason) => string | Promise<string>);

export interface LinkOptions {
  base: URL;
  token: Token;
  transport: "auto" | "websocket" | "sse";
  WebSocket: SocketMaker | undefined;
}

export interface Face {
  /** Before a connection is opened; what it returns is the first thing said on it. */
  hello(): Promise<Hello>;
  message(message: Message): void;
  state(state: State): void;
  /** Another connection of this device has taken its place; false when it has no other name to come back
   *  with. */
  replaced(): boolean;
}

const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 10_000;
/** One of the two sides is at fault, and will be again: no hurry. */
const FAULTS = [1002, 1003, 1007, 1008, 1009, 4403];
const FAULT_MS = 60_000;
/** How long a connection may take until `welcome`. */
const OPEN_MS = 10_000;
/** What a browser says of a connection that ended without a word. */
const BROKEN = 1006;

const MALFORMED = new RuncastError("token_malformed", "that is not a token", {
  hint: "A token has letters, digits, - and _, and dots between its parts.",
});

export class Link {
  state: State = { status: "connecting" };
  /** What the server said that answers no request: should it close, then that is why. */
  problem: RuncastError | undefined;
  #transport: Transport | undefined;
  #token = "";
  /** What was told to take its place on this connection; it does when the server says so. */
  #next = "";
  /** A token that is of no use, and the code that it was refused with. */
  #refused: { token: string; code: number } | undefined;
  /** What belongs to an earlier attempt is ignored. */
  #attempt = 0;
  #tries = 0;
  /** How many WebSockets in a row came to nothing, and whether the last attempt was by the other way. */
  #blocked = 0;
  #sse = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silentMs = OPEN_MS;
  #heardAt = 0;
  #welcomedAt: number | undefined;
  #drainMs: number | undefined;

  constructor(
    private readonly options: LinkOptions,
    private readonly face: Face,
  ) {}

  /** Opens a connection now: the first, or the next without waiting. */
  open(): void {
    this.#drop();
    this.#set({ status: "connecting" });
    const attempt = this.#attempt;
    const current = () => attempt === this.#attempt;
    this.#open(current).catch((cause) => {
      if (current())
        this.again(new RuncastError("connect_failed", `it could not begin: ${cause}`, { cause }));
    });
  }

  /** Sends when there is a connection, else drops it. */
  send(message: Message): void {
    if (this.#welcomedAt !== undefined) this.#transport!.send(message);
  }

  /** Something is wrong with this connection: leave it, and ask anew from where we are. */
  again(error: RuncastError): void {
    this.problem = error;
    this.#lost(BROKEN);
  }

  stop(code: number, error?: RuncastError): void {
    this.#drop();
    this.#set({ status: "stopped", code, ...(error && { error }) });
  }

  async #open(current: () => boolean): Promise<void> {
    const { token, base, transport, WebSocket: make } = this.options;
    const refused = this.#refused;
    this.#token = typeof token === "string" ? token : await token(refused ? "refused" : "connect");
    if (!current()) return;
    if (this.#token === refused?.token) return this.stop(refused.code, this.problem);
    if (!/^[\w.-]+$/.test(this.#token)) return this.stop(4501, MALFORMED);
    const hello = await this.face.hello();
    if (!current()) return;
    this.#sse = !make || transport === "sse" || (transport === "auto" && this.#blocked > 1 && !this.#sse);
    this.#drainMs = this.problem = undefined;
    const wire = {
      alive: () => void (this.#heardAt = performance.now()),
      message: (message: Message) => current() && this.#message(message),
      closed: (code: number, reason: string) => current() && this.#lost(code, reason),
    };
    this.#watch(OPEN_MS);
    if (this.#sse) this.#transport = openStream(base, this.#token, hello, wire);
    else this.#transport = openSocket(make!, base, this.#token, hello, wire);
  }

  #message(message: Message): void {
    const attempt = this.#attempt;
    if (message.type === "welcome") {
      this.#welcomedAt = performance.now();
      this.#refused = undefined;
      if (!this.#sse) this.#blocked = 0;
      this.#watch(2.5 * (message as unknown as Welcome).heartbeat_ms);
    } else if (message.id === "refresh" && message.type === "ok") {
      this.#token = this.#next;
    } else if (message["notice"] === "drain") {
      this.#drainMs = message["reconnect_ms"] as number;
    } else if (message["notice"] === "expiring") {
      this.#renew().catch((cause) => {
        this.face.message({
          type: "error",
          code: "token_failed",
          message: `no token was to be had: ${cause}`,
        });
      });
    }
    this.face.message(message);
    if (message.type === "welcome" && attempt === this.#attempt)
      this.#set({ status: "connected", transport: this.#sse ? "sse" : "websocket" });
  }

  /** The token is about to expire: the next one takes its place on the connection, or on the next. */
  async #renew(): Promise<void> {
    if (typeof this.options.token === "string") return;
    const attempt = this.#attempt;
    const token = await this.options.token("expiring");
    if (attempt !== this.#attempt || token === this.#token) return;
    this.#next = token;
    if (!this.#sse) return this.send({ type: "refresh", id: "refresh", token });
    this.#sse = false; // as if it had not been tried: it works
    this.open();
  }

  /** The range of a close code says whether to come back (PROTOCOL.md §5), the code how soon. */
  #lost(code: number, reason = ""): void {
    const welcomed = this.#welcomedAt;
    const told = code >= 4400 && code < 4600;
    if (welcomed !== undefined && performance.now() - welcomed > this.#silentMs) this.#tries = 0;
    if (this.#transport && !this.#sse && welcomed === undefined && !told) this.#blocked += 1;
    this.#drop();
    const error = (this.problem ??= reason ? new RuncastError(`close_${code}`, reason) : undefined);
    if (code >= 4500 && told && !this.#otherwise(code)) return this.stop(code, error);
    const retry_ms = this.#delay(code);
    this.#timer = setTimeout(() => this.open(), retry_ms);
    this.#set({ status: "waiting", retry_ms, code, ...(error && { error }) });
  }

  /** Whether we can come back as somebody else: with another token, or by another name. */
  #otherwise(code: number): boolean {
    if (code === 4510) return this.face.replaced();
    if ((code !== 4501 && code !== 4506) || typeof this.options.token === "string") return false;
    this.#refused = { token: this.#token, code };
    return true;
  }

  /** The server's word, or exponential with full jitter. */
  #delay(code: number): number {
    if (this.#drainMs !== undefined) return this.#drainMs;
    if (code === 4400) return 1000 + Math.random() * 4000;
    const most = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.#tries++);
    const jitter = Math.random() * (FAULTS.includes(code) ? FAULT_MS : most);
    return Math.max(jitter, this.problem?.retry_ms ?? 0);
  }

  /** Leaves when nothing is heard for so long. */
  #watch(silentMs: number): void {
    this.#silentMs = silentMs;
    this.#heardAt = performance.now();
    const look = () => {
      const left = this.#heardAt + silentMs - performance.now();
      if (left <= 0) this.again(new RuncastError("silent", `nothing was heard for ${silentMs} ms`));
      else this.#timer = setTimeout(look, left);
    };
    clearTimeout(this.#timer);
    look();
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#attempt += 1;
    this.#welcomedAt = undefined;
    this.#transport?.leave();
    this.#transport = undefined;
  }

  #set(state: State): void {
    this.state = state;
    this.face.state(state);
  }
}
