// Requests that have no answer yet. They are sent on every new connection until they have one, with the same
// key: so each is done once, even if its answer was lost, and may be made while there is no connection.

import { RuncastError } from "./errors.js";
import type { Message } from "./protocol.js";

/** As many as a server takes at once by its default limits. */
const LIMIT = 200;

interface Request {
  /** As it was when it was asked: what is sent again must be the same. */
  message: Message;
  bytes: number;
  resolve(answer: Message): void;
  reject(error: RuncastError): void;
}

/** 64 random bits. `crypto.randomUUID` is missing on plain HTTP. */
export const randomHex = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );

function asJson(message: Message): string {
  try {
    return JSON.stringify(message);
  } catch (cause) {
    throw new RuncastError("bad_message", `the request is no JSON: ${cause}`, { cause });
  }
}

export class Outbox {
  #requests = new Map<string, Request>();
  #count = 0;
  /** The longest message that the server takes, in bytes. */
  limit = Infinity;

  /** `send` drops what there is no connection for. */
  constructor(private readonly send: (message: Message) => void) {}

  ask(type: string, fields: object): Promise<Message> {
    return new Promise((resolve, reject) => {
      if (this.#requests.size >= LIMIT) {
        const hint = "Wait for answers before asking for more.";
        return reject(new RuncastError("outbox_full", `${LIMIT} requests wait for answers`, { hint }));
      }
      const id = `${++this.#count}`;
      const text = asJson({ type, id, ...fields });
      const bytes = new TextEncoder().encode(text).length;
      this.#requests.set(id, { message: JSON.parse(text), bytes, resolve, reject });
      this.#try(id);
    });
  }

  /** There is a new connection. */
  sendAll(): void {
    for (const id of this.#requests.keys()) this.#try(id);
  }

  /** Whether this was the answer to a request. */
  answered(answer: Message): boolean {
    const request = this.#requests.get(answer.id!);
    if (!request) return false;
    // This daemon is going down; the next one will take it.
    if (answer["code"] === "draining") return true;
    this.#requests.delete(answer.id!);
    if (answer.type === "error") request.reject(RuncastError.of(answer));
    else request.resolve(answer);
    return true;
  }

  rejectAll(error: RuncastError): void {
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
  }

  #try(id: string): void {
    const { message, bytes, reject } = this.#requests.get(id)!;
    if (bytes > this.limit) {
      this.#requests.delete(id);
      reject(new RuncastError("too_large", `the request has ${bytes} bytes, ${this.limit} are allowed`));
    } else this.send(message);
  }
}
