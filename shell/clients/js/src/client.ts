// A user's connection to a Runcast daemon: asks for runs, and hands over every event of every stream, in
// order, once.

import { RuncastError } from "./errors.js";
import { before, Inbox, type Item, type Stream } from "./inbox.js";
import { Link, type State, type Token } from "./link.js";
import { Outbox, randomHex } from "./outbox.js";
import { type Keep, Place } from "./place.js";
import { type Requests, Run } from "./run.js";
import type { Hello, SocketMaker } from "./transport.js";
import type {
  Accepted,
  ErrorInfo,
  From,
  Message,
  Notice,
  Reset,
  RunRequest,
  StreamEvent,
  StreamState,
  Topic,
  TopicState,
  Welcome,
} from "./protocol.js";

export interface Options {
  /** Where the daemon is, `https://host/` or `wss://host/`; absent, where the page came from. */
  url?: string | URL;
  /** The user's token, or who gives one whenever a connection needs it. */
  token: Token;
  /** The name of this device. Absent, it gets one; with `storage` always the same. */
  device?: string;
  /** Where to begin when no position is known. Absent: at the oldest run that has not ended. */
  from?: From;
  topics?: Topic[];
  /** How many events may be unacknowledged, 1–1024 (256). */
  window?: number;
  /** `false`: only looks, acknowledges nothing, and counts for nothing. */
  ack?: false;
  /** Where to keep the device's name and positions: `localStorage`, `sessionStorage`, or the like. */
  storage?: Keep;
  /** `auto` tries a WebSocket first, and server-sent events where those are blocked. */
  transport?: "auto" | "websocket" | "sse";
  /** The class to use; Node 20 has none: `import { WebSocket } from "ws"`. Without one, server-sent
   *  events. */
  WebSocket?: SocketMaker;
}

/** What there is to hear of. */
export interface Heard {
  /** Each event, once and in order. It is acknowledged when all handlers have returned, or what they
   *  return has  resolved. One that throws is given the event again, later, and the events after it wait. */
  event: StreamEvent;
  /** The history is another: what was built from events must be built anew. In order with the events. */
  reset: Reset;
  notice: Notice;
  state: State;
  welcome: Welcome;
  /** A topic that may not be read. */
  topic: { topic: string; error: ErrorInfo };
  /** What went wrong without being the answer to a request. */
  error: RuncastError;
}

type Handler<Kind extends keyof Heard> = (what: Heard[Kind]) => unknown;

/** Deltas are acknowledged together: after so long, or so many. What matters more is acknowledged at once. */
const ACK_MS = 100;
const ACK_EVENTS = 32;
const DELTA = /^agent_(thinking|output)$|_progress$/;

const nameOf = (topic: Topic) => (typeof topic === "string" ? topic : topic.topic);

export class Client implements Requests {
  readonly #handlers = new Map<keyof Heard, Set<Handler<never>>>();
  readonly #streams = new Map<string, Stream>();
  /** What was asked for and has not ended; until its acceptance such a run is known by its key only. */
  readonly #runs = new Set<Run>();
  /** Runs that have ended, and up to where their ends are in what follows, or else lost. */
  readonly #ended = new Map<Run, number>();
  readonly #self = randomHex();
  #calls = 0;
  readonly #place: Place;
  readonly #link: Link;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  #topics: Topic[];
  #welcome: Welcome | undefined;
  #ackTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: Options) {
    this.#topics = options.topics ?? [];
    this.#place = new Place(options.storage, options.device);
    this.#outbox = new Outbox((message) => this.#link.send(message));
    this.#inbox = new Inbox({
      handlers: (what) => [...(this.#handlers.get(what.type) ?? [])],
      wanted: (item) => this.#wanted(item),
      processed: (item) => this.#processed(item),
      failed: (error) => this.#emit("error", error),
    });
    const base = new URL(options.url ?? globalThis.location.origin);
    base.protocol = base.protocol.replace("ws", "http");
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    const { token, transport = "auto", WebSocket = globalThis.WebSocket as unknown as SocketMaker } = options;
    this.#link = new Link(
      { base, token, transport, WebSocket },
      {
        hello: () => this.#hello(),
        message: (message) => this.#receive(message),
        state: (state) => this.#state(state),
        replaced: () => this.#place.rename(),
      },
    );
    globalThis.addEventListener?.("online", this.#online);
    this.#link.open();
  }

  get state(): State {
    return this.#link.state;
  }

  /** Who the token names, when a connection has been welcomed. */
  get user(): string | undefined {
    return this.#welcome?.user;
  }

  get device(): string | undefined {
    return this.#place.device;
  }

  /** Up to where the events of a stream (the user's own) have been processed. */
  position(topic = ""): { epoch: string; seq: number } | undefined {
    const stream = this.#streams.get(topic);
    return stream && { epoch: stream.epoch, seq: stream.done };
  }

  /** Calls `handler` with all that is heard of one kind, until the function that is returned is called. */
  on<Kind extends keyof Heard>(kind: Kind, handler: Handler<Kind>): () => void {
    const handlers = this.#handlers.get(kind) ?? new Set();
    this.#handlers.set(kind, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  /** Asks for a run. It is asked again on each new connection until there is an answer, and done once. */
  run(request: RunRequest): Run {
    const key = request.key ?? randomHex();
    const answer = this.#ask("run", { ...request, key }) as Promise<unknown> as Promise<Accepted>;
    const run = new Run(key, answer, this);
    this.#runs.add(run);
    answer.catch(() => this.#runs.delete(run));
    return run;
  }

  async cancel(run: string): Promise<{ run: string; state: "cancelling" | "ended" }> {
    return (await this.#ask("cancel", { run })) as never;
  }

  async answer(run: string, request: string, data: unknown): Promise<void> {
    await this.#ask("input", { run, request, data, key: randomHex() });
  }

  async steer(run: string, data: unknown): Promise<void> {
    await this.#ask("input", { run, data, key: randomHex() });
  }

  /** Replaces the topics that are subscribed to; one that is kept goes on where it is. */
  async subscribe(topics: Topic[]): Promise<TopicState[]> {
    const answer = await this.#ask("subscribe", { topics: topics.map((topic) => this.#from(topic)) });
    return answer["topics"] as TopicState[];
  }

  /** Tries now, when it waits to try again or has stopped. */
  reconnect(): void {
    if (this.state.status === "waiting" || this.state.status === "stopped") this.#link.open();
  }

  /** Ends it all: what has no answer, and runs that have not ended, are rejected with `closed`. */
  close(): void {
    this.#acknowledge();
    globalThis.removeEventListener?.("online", this.#online);
    this.#link.stop(1000, new RuncastError("closed", "the client was closed"));
    this.#inbox.close();
    this.#place.close();
  }

  readonly #online = () => this.state.status === "waiting" && this.#link.open();

  #emit<Kind extends keyof Heard>(kind: Kind, what: Heard[Kind]): void {
    const handlers = this.#handlers.get(kind);
    if (kind === "error" && !handlers?.size) console.error(what);
    for (const handler of handlers ?? [])
      try {
        handler(what as never);
      } catch (fault) {
        console.error(fault); // the application's, and none of the connection's business
      }
  }

  #state(state: State): void {
    if (state.status === "stopped")
      this.#giveUp(state.error ?? new RuncastError("stopped", `closed: ${state.code}`));
    this.#emit("state", state);
  }

  /** Nothing that was asked will be answered. */
  #giveUp(error: RuncastError): void {
    this.#outbox.rejectAll(error);
    for (const run of this.#runs) run.fail(error);
    this.#runs.clear();
    this.#ended.clear();
  }

  #ask(type: string, fields: object): Promise<Message> {
    const { status, error } = this.state;
    if (status !== "stopped") return this.#outbox.ask(type, fields);
    return Promise.reject(
      error ?? new RuncastError("stopped", "there is no connection, and none will be made"),
    );
  }

  async #hello(): Promise<Hello> {
    await this.#place.take();
    if (!this.#streams.size)
      for (const [topic, { epoch, seq }] of Object.entries(this.#place.at))
        this.#streams.set(topic, { topic, epoch, got: seq, done: seq, acked: seq });
    this.#inbox.lost();
    const { window, ack, from } = this.options;
    const topics = this.#topics.map((topic) => this.#from(topic));
    const start = this.position() ?? from;
    return {
      call: { by: this.#self, n: ++this.#calls },
      ...(ack === false ? { ack } : { device: this.#place.device }),
      ...(start && { from: start }),
      ...(topics.length && { topics }),
      ...(window && { window }),
    };
  }

  /** A topic that has a position goes on from there. */
  #from(topic: Topic): Topic {
    const at = this.position(nameOf(topic));
    return at ? { topic: nameOf(topic), from: at } : topic;
  }

  #receive(message: Message): void {
    const what = message as unknown;
    if (message.type === "event") this.#event(what as StreamEvent);
    else if (message.type === "welcome") this.#welcomed(what as Welcome);
    else if (message.type === "notice") this.#emit("notice", what as Notice);
    else if (message.type === "heartbeat") this.#heartbeat(message["at"] as number);
    else if (message.id === "refresh") this.#refreshed(message);
    else this.#answer(message);
  }

  #welcomed(welcome: Welcome): void {
    const changed = this.#welcome && this.#welcome.user !== welcome.user;
    if (changed) this.#giveUp(new RuncastError("user_changed", "the token names another user"));
    this.#welcome = welcome;
    this.#begin("", welcome, changed ? "user" : undefined);
    for (const topic of welcome.topics ?? []) this.#beginTopic(topic);
    for (const run of this.#runs)
      if (run.id && !welcome.runs.some((open) => open.run === run.id)) this.#ended.set(run, welcome.head);
    this.#outbox.limit = welcome.limits.message_bytes;
    this.#outbox.sendAll();
    this.#acknowledge();
    this.#failLost();
    this.#emit("welcome", welcome);
  }

  /** Begins or continues a stream where the server says, and tells the application when its history is
   *  another. */
  #begin(topic: string, { epoch, resume }: StreamState, reason = resume.reason ?? "epoch"): void {
    let stream = this.#streams.get(topic);
    const anew =
      resume.status === "reset" || (stream && (resume.status === "fresh" || stream.epoch !== epoch));
    if (!stream || anew) stream = { topic, epoch, got: 0, done: resume.from, acked: 0 };
    stream.got = stream.acked = resume.from;
    this.#streams.set(topic, stream);
    this.#place.move(topic, { epoch, seq: stream.done });
    const runs = this.#welcome!.runs;
    const reset: Reset = { type: "reset", event: "reset", reason, runs, ...(topic && { topic }) };
    if (anew) this.#inbox.push({ stream, what: reset });
  }

  #beginTopic(state: TopicState): void {
    if (!("error" in state)) return this.#begin(state.topic, state);
    this.#forget(state.topic);
    this.#emit("topic", state);
  }

  #forget(topic: string): void {
    this.#streams.delete(topic);
    this.#place.move(topic, undefined);
  }

  #event(event: StreamEvent): void {
    const stream = this.#streams.get(event.topic ?? "");
    if (!stream) return;
    // We have it: its acknowledgement was late.
    if (event.seq <= stream.got) return this.#acknowledge();
    if (before(event) !== stream.got) return this.#gap(stream.got, `event ${event.seq} follows`);
    stream.got = event.seq;
    if (!this.#inbox.push({ stream, what: event }))
      this.#gap(stream.got, "the application is too far behind");
  }

  #heartbeat(at: number): void {
    const got = this.#streams.get("")?.got ?? 0;
    if (at > got) this.#gap(got, `${at} was sent`);
  }

  /** Something is missing: it is asked for again from where the application is. */
  #gap(got: number, found: string): void {
    const error = new RuncastError("gap", `the position is ${got}, but ${found}`, { temporary: true });
    this.#link.again(error);
    this.#emit("error", error);
  }

  #answer(message: Message): void {
    if (message.type === "accepted") {
      for (const run of this.#bind(message["key"] as string, message["run"] as string))
        if (message["duplicate"] && !message["state"]) this.#ended.set(run, message["head"] as number);
    } else if (message.type === "subscribed") this.#subscribed(message["topics"] as TopicState[]);
    if (!this.#outbox.answered(message) && message.type === "error")
      this.#emit("error", (this.#link.problem = RuncastError.of(message)));
    this.#failLost();
  }

  #subscribed(topics: TopicState[]): void {
    const before = this.#topics.map(nameOf);
    this.#topics = topics.map(nameOf);
    for (const topic of this.#streams.keys()) if (topic && !this.#topics.includes(topic)) this.#forget(topic);
    // A position alone, kept from an earlier page, is not yet a topic that goes on.
    for (const state of topics)
      if (!before.includes(state.topic) || "error" in state) this.#beginTopic(state);
  }

  #refreshed(message: Message): void {
    if (message.type === "error") this.#emit("error", RuncastError.of(message));
    const error = { code: "topic_forbidden", message: "the new token may not read it" };
    for (const topic of (message["ended"] as string[]) ?? []) this.#beginTopic({ topic, error });
  }

  /** Gives its id to what was asked for with this key, and says what that is. */
  #bind(key: string | undefined, id: string): Run[] {
    const asked = [...this.#runs].filter((run) => !run.id && run.key === key);
    for (const run of asked) run.id = id;
    return asked;
  }

  /** Once all that there was when a run had ended has been processed, an end that was not in it will not
   *  come. */
  #failLost(): void {
    for (const [run, head] of this.#ended) {
      if (this.#streams.get("")!.done < head) continue;
      run.fail(new RuncastError("reset", "the run ended, and its history is not kept any more"));
      this.#runs.delete(run);
      this.#ended.delete(run);
    }
  }

  #wanted({ stream, what }: Item): boolean {
    if (what.type === "reset") return true;
    if (this.#streams.get(stream.topic) !== stream) return false;
    if (what.seq <= stream.done) this.#acknowledge();
    else if (before(what) === stream.done) return true;
    else {
      this.#inbox.lost();
      this.#gap(stream.done, `event ${what.seq} follows`);
    }
    return false;
  }

  async #processed({ stream, what }: Item): Promise<void> {
    if (what.type === "reset") {
      if (!what.topic) for (const run of this.#runs) if (run.id) void run.take(what);
      return;
    }
    stream.done = what.seq;
    if (this.#streams.get(stream.topic) !== stream) return;
    this.#place.move(stream.topic, { epoch: stream.epoch, seq: what.seq });
    this.#acknowledgeSoon(stream, what);
    if (what.topic !== undefined) return;
    if (what.event === "run_queued") this.#bind(what.data.key, what.run);
    const rooms: (void | Promise<void>)[] = [];
    for (const run of this.#runs) {
      if (run.id !== what.run) continue;
      rooms.push(run.take(what));
      if (what.event === "agent_completed" && this.#runs.delete(run)) this.#ended.delete(run);
    }
    this.#failLost();
    await Promise.all(rooms);
  }

  #acknowledgeSoon({ done, acked }: Stream, { event }: StreamEvent): void {
    const many = Math.min(ACK_EVENTS, (this.options.window ?? 256) / 2);
    if (!DELTA.test(event) || done - acked >= many) this.#acknowledge();
    else this.#ackTimer ??= setTimeout(() => this.#acknowledge(), ACK_MS);
  }

  #acknowledge(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.options.ack === false) return;
    for (const stream of this.#streams.values()) {
      const { topic, done, got, acked } = stream;
      // What this connection has not sent yet cannot be acknowledged on it, though it may be processed.
      if (done <= acked || done > got) continue;
      this.#link.send({ type: "ack", seq: done, ...(topic && { topic }) });
      stream.acked = done;
    }
  }
}

/** Connects, and stays connected until `close`. */
export const connect = (options: Options): Client => new Client(options);
