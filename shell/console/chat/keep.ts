// What outlives the page. A token is a tab's own, and tabs that have none begin with the newest; what was
// asked and has no answer yet is asked again, with its key, when the page is loaded anew. Where storage is
// refused, nothing outlives the page, and nothing else changes.

import type { Keep, RunRequest } from "../../clients/js/src/index.js";
import { asObject, type Data } from "./values.js";

const PREFIX = "runcast.";

function read(storage: "localStorage" | "sessionStorage", name: string): string | undefined {
  try {
    return window[storage].getItem(PREFIX + name) ?? undefined;
  } catch {
    return undefined;
  }
}

function write(storage: "localStorage" | "sessionStorage", name: string, value: string): void {
  try {
    window[storage].setItem(PREFIX + name, value);
  } catch {
    // As said above.
  }
}

/** This tab's, then the newest of any. */
export const keptTokens = (): string[] =>
  [read("sessionStorage", "token"), read("localStorage", "token")].filter((token) => token !== undefined);

export function keepToken(token: string): void {
  write("sessionStorage", "token", token);
  write("localStorage", "token", token);
}

/** What stands in the head (0) or the claims (1) of a token, if it can be read. */
export function readToken(token: string, part: 0 | 1): Data {
  try {
    const text = token.split(".")[part]!;
    return asObject(JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/"))));
  } catch {
    return {};
  }
}

/** Takes a token out of the address, where it would be seen and copied. */
export function tokenFromAddress(): string | undefined {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

export const keptText = (): string => read("sessionStorage", "text") ?? "";
export const keepText = (text: string): void => write("sessionStorage", "text", text);
export const keptAgent = (): string | undefined => read("localStorage", "agent");
export const keepAgent = (agent: string): void => write("localStorage", "agent", agent);

/** For the client: the tab's name is kept, its position is not, since the page is built anew from the
 *  oldest event. */
export const namesOnly: Keep = {
  getItem: (name) => read("sessionStorage", name) ?? null,
  setItem(name, value) {
    // It is called with every event; what is kept is seldom another.
    const kept = JSON.stringify({ device: JSON.parse(value).device, at: {} });
    if (kept !== written.get(name)) write("sessionStorage", name, kept);
    written.set(name, kept);
  },
};
const written = new Map<string, string>();

/** A run that was asked for and has no answer, and whose it is: it is never asked as another user. */
export interface Asked {
  user: string;
  request: RunRequest & { key: string; thread: string };
}

export class Unanswered {
  readonly #asked: Map<string, Asked>;

  constructor() {
    let kept: [string, Asked][] = [];
    try {
      kept = JSON.parse(read("sessionStorage", "unanswered") ?? "[]");
    } catch {
      // It was not ours.
    }
    this.#asked = new Map(kept);
  }

  get size(): number {
    return this.#asked.size;
  }

  of(user: string): Asked[] {
    return [...this.#asked.values()].filter((asked) => asked.user === user);
  }

  add(asked: Asked): void {
    this.#asked.set(asked.request.key, asked);
    this.#write();
  }

  done(key: string | undefined): void {
    if (key !== undefined && this.#asked.delete(key)) this.#write();
  }

  #write(): void {
    write("sessionStorage", "unanswered", JSON.stringify([...this.#asked]));
  }
}
