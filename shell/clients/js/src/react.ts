// The React hook: `import { useRuncast } from "runcast/react"`.

import { useCallback, useEffect, useState, useSyncExternalStore } from "react";
import { type Client, connect, type Options } from "./client.js";
import { RuncastError } from "./errors.js";
import type { State } from "./link.js";
import type { Run } from "./run.js";
import type { RunRequest } from "./protocol.js";
import { after, begin, noticed, type RunView } from "./view.js";

export type { RunView, ToolView } from "./view.js";

export interface Runcast {
  /** What the connection is doing. */
  state: State;
  /** The user's runs, those of other devices too, oldest first. */
  runs: RunView[];
  /** Asks for a run. */
  run(request: RunRequest): Run;
  /** For all else: `cancel`, `answer`, `steer`, `subscribe`. Absent until the component is mounted. */
  client: Client | undefined;
}

interface Seen {
  state: State;
  runs: RunView[];
}

/** React is told at most so often: a burst of deltas is one change. */
const TELL_MS = 16;
const NOTHING: Seen = { state: { status: "connecting" }, runs: [] };

/** What a client has seen, for `useSyncExternalStore`. */
class Store {
  #views = new Map<string, RunView>();
  #seen = NOTHING;
  #listeners = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly client: Client) {
    client.on("event", (event) => {
      if (event.topic !== undefined) return;
      this.#views.set(event.run, after(this.#views.get(event.run) ?? begin(event), event));
      this.#change();
    });
    client.on("notice", (notice) => {
      const view = this.#views.get(notice.run ?? "");
      if (!view) return;
      this.#views.set(view.run, noticed(view, notice));
      this.#change();
    });
    client.on("reset", ({ topic }) => {
      if (topic === undefined) this.#views.clear();
      this.#change();
    });
    client.on("state", () => this.#change());
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly seen = (): Seen => this.#seen;

  #change(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#seen = { state: this.client.state, runs: [...this.#views.values()] };
      for (const listener of this.#listeners) listener();
    }, TELL_MS);
  }
}

const never = () => () => {};
const nothing = () => NOTHING;

/** Connects while the component is mounted, and shows every run, from the oldest that is kept unless
 *  `from` says  otherwise. A new connection is made when `url` or `device` changes; a token that changes
 *  belongs in a callback. */
export function useRuncast(options: Options): Runcast {
  const [made, setMade] = useState<{ client: Client; store: Store }>();
  useEffect(() => {
    const client = connect({ from: "oldest", ...options });
    setMade({ client, store: new Store(client) });
    return () => client.close();
  }, [String(options.url), options.device]);
  const { state, runs } = useSyncExternalStore(
    made?.store.subscribe ?? never,
    made?.store.seen ?? nothing,
    nothing,
  );
  const client = made?.client;
  const run = useCallback(
    (request: RunRequest) => {
      if (!client) throw new RuncastError("stopped", "the component is not mounted");
      return client.run(request);
    },
    [client],
  );
  return { state, runs, run, client };
}
