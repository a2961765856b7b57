// The messages of PROTOCOL.md §3–§5 as types. Names are the protocol's own. Nothing here is left when it is
// compiled.

/** A position in a stream: everything up to `seq` of the incarnation `epoch`. */
export interface Position {
  epoch: string;
  seq: number;
}

/** Where to begin; `live` is the first event of the oldest run that has not ended. */
export type From = Position | "device" | "oldest" | "head" | "live";

/** A topic to subscribe to; without `from` its events from now on. */
export type Topic = string | { topic: string; from?: From };

/** What every event of the user's own stream carries. */
export interface EventHead {
  type: "event";
  seq: number;
  /** Unix time in milliseconds. */
  ts: number;
  thread: string;
  run: string;
  attempt: number;
  /** The position before a joined event, which stands for `joined` deltas. */
  prev?: number;
  joined?: number;
  topic?: undefined;
}

export interface ErrorInfo {
  code: string;
  message: string;
}

/** The data of each event of a run. Agents may add fields of their own. */
export interface EventData {
  run_queued: {
    agent: string;
    input: unknown;
    position: number;
    key?: string;
    priority: "low" | "normal" | "high";
    parent?: string;
    meta?: unknown;
  };
  agent_started: { agent: string; worker: string; attempt: number; queued_ms: number };
  agent_thinking: { delta?: string; text?: string };
  agent_output: { delta?: string; text?: string; message?: string };
  tool_executing: { call: string; tool: string; args: unknown };
  tool_progress: { call: string; percent?: number; text?: string };
  tool_completed: {
    call: string;
    status: "ok" | "error" | "interrupted";
    result?: unknown;
    error?: unknown;
    duration_ms: number;
  };
  step_started: { step: string; name?: string; index?: number; of?: number };
  step_completed: { step: string; status: string };
  run_progress: { percent: number };
  input_required: { request: string; prompt: string; schema?: unknown; expires_ms?: number };
  input_received: { request?: string; data: unknown; device?: string; expired?: boolean };
  custom: { name: string; value: unknown };
  run_retrying: { reason: string; delay_ms: number };
  agent_completed: End;
}

/** How a run ended; every accepted run does, once. */
export interface End {
  status: "ok" | "error" | "cancelled" | "timed_out" | "worker_lost";
  reason?: "user" | "interrupt" | "operator";
  output?: unknown;
  error?: ErrorInfo;
  usage?: unknown;
  queued_ms: number;
  running_ms: number;
  attempts: number;
  tools: number;
}

/** An event of a run: a union that `event` tells apart. */
export type RunEvent = {
  [Name in keyof EventData]: EventHead & { event: Name; data: EventData[Name] };
}[keyof EventData];

/** An event of a topic, as its publisher made it. */
export interface TopicEvent {
  type: "event";
  topic: string;
  seq: number;
  ts: number;
  event: string;
  data: unknown;
}

export type StreamEvent = RunEvent | TopicEvent;

/** What a stream's history was has been lost: what was built from it must be built anew from what follows. */
export interface Reset {
  type: "reset";
  event: "reset";
  /** `epoch`: another incarnation · `trimmed`: away for too long · `ahead` · `user`: the token names
   *  another. */
  reason: string;
  /** The topic whose history it was; absent for the user's own. */
  topic?: string;
  /** The user's runs that have not ended. */
  runs: RunState[];
}

export interface RunState {
  run: string;
  thread: string;
  agent: string;
  state: "queued" | "dispatched" | "running" | "waiting" | "cancelling" | "ended";
  attempt: number;
  first_seq: number;
  last_seq: number;
}

/** What one asks for with `run`. */
export interface RunRequest {
  agent: string;
  input: unknown;
  /** Absent, the daemon makes one. */
  thread?: string;
  /** Asking twice with one key runs once. Absent, the client makes one. */
  key?: string;
  priority?: "low" | "normal" | "high";
  timeout_ms?: number;
  on_busy?: "enqueue" | "reject" | "interrupt";
  parent?: string;
  meta?: unknown;
}

export interface Accepted {
  key: string;
  run: string;
  thread: string;
  /** 0 when it is dispatched at once, else its place in the queue. */
  position: number;
  ahead: number;
  eta_ms?: number;
  duplicate: boolean;
}

/** What is not in the log, and may be lost: the queue, a sign of life, the end of time or token. */
export interface Notice {
  type: "notice";
  notice: "queue" | "working" | "timeout_soon" | "backlog" | "drain" | "expiring";
  run?: string;
  message?: string;
  [field: string]: unknown;
}

/** Where a stream stands, in `welcome` and `subscribed`. */
export interface StreamState {
  epoch: string;
  floor: number;
  head: number;
  resume: { status: "resumed" | "fresh" | "reset"; reason?: string; from: number };
}

export type TopicState = { topic: string } & (StreamState | { error: ErrorInfo });

export interface Welcome extends StreamState {
  type: "welcome";
  connection: string;
  user: string;
  device?: string;
  heartbeat_ms: number;
  topics?: TopicState[];
  runs: RunState[];
  limits: { window: number; message_bytes: number; event_bytes: number };
}

/** Any message, before it is known what it is. */
export interface Message {
  type: string;
  id?: string;
  [field: string]: unknown;
}
