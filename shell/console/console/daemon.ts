// The daemon as an operator asks it: by HTTP, with a token that this tab alone keeps, and by a WebSocket on
// which it tells of workers and alerts the moment something happens (core/PROTOCOL.md, §3 and §7).

/** A run in a list. Which fields there are depends on the list. */
export interface Run {
  run: string;
  thread: string;
  agent: string;
  user: string;
  state: string;
  status?: string;
  attempt: number;
  queued_ms: number;
  running_ms: number;
  idle_ms?: number;
  step?: string;
  percent?: number;
  worker?: string;
  position?: number;
  waited_ms?: number;
  eta_ms?: number;
  reason?: string;
  message?: string;
  ended_ts?: number;
}

export interface Connection {
  connection: string;
  kind: string;
  user: string;
  device?: string;
  address: string;
  lag: number;
  unacked: number;
  window: number;
  idle_ms: number;
  round_trip_ms?: number;
  output_bytes: number;
}

export interface WorkerRow {
  worker: string;
  sub: string;
  state: string;
  idle_ms?: number;
  agents: { agent: string; slots: number; retryable: boolean }[];
  runs: { run: string; user: string }[];
}

export interface AgentRow {
  agent: string;
  breaker: string;
  open_ms?: number;
  active: number;
  slots: number;
  free: number;
}

export interface Alert {
  alert: string;
  agent?: string;
  message?: string;
  hint?: string;
}

export interface List<Item> {
  count: number;
  items: Item[];
}

interface Durations {
  count: number;
  sum_ms: number;
}

/** `GET /v1/status?limit=`. */
export interface Status {
  version: string;
  ts: number;
  store: string;
  draining: boolean;
  users: number;
  workers: number;
  runs: { queued: number; active: number; at_workers: number };
  undelivered: number;
  limits: { connections: number; queued: number; active: number };
  delivery: { behind: number; lagging: number; output_bytes: number; connections: Record<string, number> };
  totals: {
    accepted: number;
    retried: number;
    ended: Record<string, number>;
    acknowledged: Durations;
  };
  alerts: Alert[];
  agents: AgentRow[];
  lists: {
    runs: List<Run>;
    queued: List<Run>;
    ended: List<Run>;
    connections: List<Connection>;
    workers: List<WorkerRow>;
  };
}

export interface Undelivered {
  user: string;
  run: string;
  thread: string;
  agent: string;
  status: string;
  ended_ts: number;
  webhook: string;
}

/** `GET /v1/users/{user}`. */
export interface User {
  user: string;
  head: number;
  undelivered: number;
  connections: Connection[];
  runs: Run[];
  devices: { device: string; acked: number; lag: number; heard_ts: number }[];
}

/** What the daemon has refused, or that it could not be reached (`status` 0). */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const KEPT = "runcast.console.token";
/** Time for an answer. */
const PATIENCE_MS = 5_000;

/** The token is kept where it ends with the tab, or nowhere at all when the browser forbids it. */
function kept(): string | undefined {
  try {
    return sessionStorage.getItem(KEPT) ?? undefined;
  } catch {
    return undefined;
  }
}

let token = kept();

export const hasToken = (): boolean => token !== undefined;

export function useToken(other: string | undefined): void {
  token = other;
  try {
    if (other === undefined) sessionStorage.removeItem(KEPT);
    else sessionStorage.setItem(KEPT, other);
  } catch {
    // It is in this page's memory, and that must do.
  }
}

/** Takes a token out of the address, where it would be seen and copied. */
export function takeTokenFromAddress(): boolean {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  history.replaceState(null, "", location.pathname + location.search);
  useToken(given);
  return true;
}

/** Asks, and returns what is answered. */
export async function ask<Answer>(path: string, method = "GET", body?: object): Promise<Answer> {
  const request: RequestInit = {
    method,
    cache: "no-store",
    headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
    signal: AbortSignal.timeout(PATIENCE_MS),
    ...(body && { body: JSON.stringify(body) }),
  };
  let response: Response;
  let answer;
  try {
    response = await fetch(path, request);
    answer = response.status === 204 ? undefined : await response.json();
  } catch {
    throw new Refusal(0, "unreachable", "The daemon does not answer.");
  }
  if (response.ok) return answer;
  const words = [answer.message, answer.hint].filter(Boolean).map(sentence).join(" ");
  throw new Refusal(response.status, answer.code, words || `It answers ${response.status}.`);
}

/** As a sentence: the daemon's words begin small and end without a stop. */
export function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** An event of the topics `agents` and `alerts`. */
export interface News {
  topic: string;
  seq: number;
  ts: number;
  event: string;
  data: Record<string, unknown>;
  /** It has happened just now, and is not only told again. */
  isNew: boolean;
}

const TOPICS = ["agents", "alerts"];
/** Refused, expired, revoked. */
const TOKEN_REFUSED = [4501, 4506, 4507];
const BACKOFF_MS = 1_000;
const BACKOFF_MAX_MS = 20_000;

/** The WebSocket. It comes back by itself; without it the page is a second late, and nothing else. */
export class Feed {
  #socket: WebSocket | undefined;
  #wait = BACKOFF_MS;
  #silent: ReturnType<typeof setTimeout> | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  isOpen = false;

  /** `begin` is told when all that there is will be told again. */
  constructor(
    private readonly begin: () => void,
    private readonly told: (news: News) => void,
    private readonly changed: () => void,
  ) {}

  open(): void {
    this.close();
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, ["runcast.v1", `jwt.${token}`]);
    const heads = new Map<string, number>();
    this.#socket = socket;
    socket.onopen = () => {
      // A viewer: it is nobody's device, and what it is sent counts for no delivery.
      const topics = TOPICS.map((topic) => ({ topic, from: "oldest" }));
      socket.send(JSON.stringify({ type: "hello", ack: false, from: "head", topics }));
    };
    socket.onmessage = ({ data }) => {
      this.#heard(socket);
      const message = JSON.parse(data);
      if (message.type === "welcome") {
        this.#wait = BACKOFF_MS;
        this.isOpen = true;
        this.begin();
        for (const { topic, head } of message.topics ?? []) heads.set(topic, head ?? 0);
        this.changed();
      } else if (message.type === "event" && message.topic !== undefined)
        this.told({ ...message, isNew: message.seq > (heads.get(message.topic) ?? 0) });
    };
    socket.onclose = ({ code }) => {
      if (this.#socket !== socket) return;
      this.close();
      this.changed();
      // It comes back, but for what the token lacks: that the requests tell.
      if (TOKEN_REFUSED.includes(code)) return;
      this.#again = setTimeout(() => this.open(), this.#wait * (0.5 + Math.random()));
      this.#wait = Math.min(this.#wait * 2, BACKOFF_MAX_MS);
    };
    this.#heard(socket);
  }

  close(): void {
    clearTimeout(this.#silent);
    clearTimeout(this.#again);
    const socket = this.#socket;
    this.#socket = undefined;
    this.isOpen = false;
    socket?.close();
  }

  /** A connection on which nothing is heard for two and a half heartbeats is dead. */
  #heard(socket: WebSocket): void {
    clearTimeout(this.#silent);
    this.#silent = setTimeout(() => {
      if (this.#socket !== socket) return;
      this.changed();
      this.open();
    }, 25_000);
  }
}
