// A run that this client has asked for: an async iterable of its events, and a promise of its end.

import { RuncastError } from "./errors.js";
import type { Accepted, End, Reset, RunEvent } from "./protocol.js";

/** So many events wait for a loop over the run; then all events wait for it. */
const LIMIT = 1000;

/** What a run needs of its client. */
export interface Requests {
  cancel(run: string): Promise<{ run: string; state: "cancelling" | "ended" }>;
  answer(run: string, request: string, data: unknown): Promise<void>;
  steer(run: string, data: unknown): Promise<void>;
}

export class Run implements AsyncIterable<RunEvent | Reset> {
  /** Its id, when it is known. */
  id: string | undefined;
  /** Resolved when the run is durable, rejected when it was refused. */
  readonly accepted: Promise<Accepted>;
  /** Resolved with the run's end, however it ended; rejected when it was refused, or the client cannot
   *  learn it. */
  readonly done: Promise<End>;

  #resolve!: (end: End) => void;
  #reject!: (error: unknown) => void;
  #buffer: (RunEvent | Reset)[] = [];
  #waiting: (() => void)[] = [];
  #room: (() => void) | undefined;
  #reading = false;
  #over = false;
  #error: unknown;

  constructor(
    readonly key: string,
    accepted: Promise<Accepted>,
    private readonly requests: Requests,
  ) {
    this.accepted = accepted;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {}); // whoever does not look at it is not to be ended by it
    accepted.catch((error) => this.fail(error));
  }

  async cancel(): Promise<{ run: string; state: "cancelling" | "ended" }> {
    return this.requests.cancel(await this.#known());
  }

  /** Answers an `input_required`. The first answer from any device counts. */
  async answer(request: string, data: unknown): Promise<void> {
    return this.requests.answer(await this.#known(), request, data);
  }

  /** Tells the agent something that it did not ask for. */
  async steer(data: unknown): Promise<void> {
    return this.requests.steer(await this.#known(), data);
  }

  /** Its events from the first on, to the end. For one loop; a second one shares them with the first. */
  async *[Symbol.asyncIterator](): AsyncGenerator<RunEvent | Reset, void, undefined> {
    this.#reading = true;
    try {
      for (;;) {
        const event = this.#buffer.shift();
        this.#room?.();
        if (event) yield event;
        else if (this.#error) throw this.#error;
        else if (this.#over) return;
        else await new Promise<void>((wake) => this.#waiting.push(wake));
      }
    } finally {
      this.#reading = false;
      this.#over = true;
      this.#buffer = [];
      this.#room?.();
    }
  }

  /** Takes an event. A promise is returned when a loop is too far behind, resolved when it has caught up. */
  take(event: RunEvent | Reset): void | Promise<void> {
    if (!this.#over) this.#buffer.push(event);
    if (event.event === "agent_completed") {
      this.#over = true;
      this.#resolve(event.data);
    }
    this.#wake();
    if (this.#buffer.length < LIMIT) return;
    if (this.#reading) return new Promise((room) => (this.#room = room));
    this.#over = true;
    this.#buffer = [];
    this.#error = new RuncastError("not_read", `nobody read the run's first ${LIMIT} events`);
  }

  fail(error: unknown): void {
    this.#error ??= error;
    this.#over = true;
    this.#reject(error);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  async #known(): Promise<string> {
    return this.id ?? (await this.accepted).run;
  }
}
