// What has come and is not yet processed: handed to the application one by one, in order, the next when the
// handlers of the one before have returned.

import { RuncastError } from "./errors.js";
import type { Reset, StreamEvent } from "./protocol.js";

/** One stream of events and how far it is; replaced by a new one when its history is. */
export interface Stream {
  /** "" is the user's own. */
  topic: string;
  epoch: string;
  /** Received on this connection up to here. */
  got: number;
  /** Processed by the application up to here: what the next connection resumes from. */
  done: number;
  /** Acknowledged on this connection up to here. */
  acked: number;
}

/** The position that an event continues. */
export const before = (event: StreamEvent): number =>
  (event.topic === undefined ? event.prev : undefined) ?? event.seq - 1;

type Handler = (what: never) => unknown;

export interface Item {
  stream: Stream;
  what: StreamEvent | Reset;
  /** The handlers that have not processed it. */
  todo?: Handler[];
}

export interface Application {
  /** Those who are to be given this, now. */
  handlers(what: StreamEvent | Reset): Handler[];
  /** Whether it is still wanted: it continues its stream, which has not been replaced. */
  wanted(item: Item): boolean;
  processed(item: Item): Promise<void>;
  failed(error: RuncastError): void;
}

/** More than that is never kept: what comes then is fetched again later. (A window is at most 1,024.) */
const LIMIT = 8192;
const RETRY_MAX_MS = 60_000;

export class Inbox {
  #queue: Item[] = [];
  #running = false;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly application: Application) {}

  /** False when it is full. */
  push(item: Item): boolean {
    if (this.#queue.length >= LIMIT) return false;
    this.#queue.push(item);
    if (!this.#running && this.#timer === undefined) void this.#run();
    return true;
  }

  /** The connection is gone: the next one sends again what was not processed. But a reset is told only
   *  once, and so is an event that some of its handlers have processed already. */
  lost(): void {
    this.#queue = this.#queue.filter(({ what, todo }) => what.type === "reset" || todo);
  }

  close(): void {
    this.#queue = [];
    clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let item = this.#queue[0]; item; item = this.#queue[0]) {
      if (this.application.wanted(item) && !(await this.#handOver(item))) break;
      // It may have been dropped meanwhile.
      if (this.#queue[0] === item) this.#queue.shift();
    }
    this.#running = false;
  }

  /** Gives an item to all handlers. One that throws has not processed it: it is given it again after a
   *  while. */
  async #handOver(item: Item): Promise<boolean> {
    const todo = (item.todo ??= this.application.handlers(item.what));
    try {
      for (; todo[0]; todo.shift())
        // One that has ended meanwhile is not asked any more.
        if (this.application.handlers(item.what).includes(todo[0])) await todo[0](item.what as never);
    } catch (cause) {
      const delay = Math.min(RETRY_MAX_MS, 250 * 2 ** this.#failures++);
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        void this.#run();
      }, delay);
      this.application.failed(
        new RuncastError("handler_failed", `a handler threw: ${cause}`, {
          cause,
          hint: "The event is not acknowledged, and is handed over again.",
          retry_ms: delay,
          temporary: true,
        }),
      );
      return false;
    }
    this.#failures = 0;
    await this.application.processed(item);
    return true;
  }
}
