// The conversation, made from events alone (PROTOCOL.md §4): threads, the runs of each, and the parts of a
// run in the order in which they were written. What is shown is drawn from this; nothing is read back from
// the page.

import type {
  Accepted,
  End,
  Notice,
  RunEvent,
  RuncastError,
  RunRequest,
} from "../../clients/js/src/index.js";
import { asNumber, asObject, asText, type Data, innerText, joined } from "./values.js";

interface Written {
  attempt: number;
  ts: number;
}

/** What an agent thinks, or answers. */
export interface Writing extends Written {
  kind: "thinking" | "output";
  message: string;
  text: string;
  /** How often a whole text has taken the place of what was there. */
  replaced: number;
  until: number;
}

export interface Tool extends Written {
  kind: "tool";
  name: string;
  args: unknown;
  /** `open`, or its end: `ok`, `error`, `interrupted`. */
  state: string;
  percent?: number | undefined;
  progress?: string;
  result?: unknown;
  error?: unknown;
  took?: number | undefined;
}

export interface Step extends Written {
  kind: "step";
  text: string;
  state: string;
}

export interface Question extends Written {
  kind: "question";
  request: string;
  prompt: string;
  schema: unknown;
  expires?: number | undefined;
  answer?: { data: unknown; device?: string; expired: boolean };
}

/** A line of its own: what a user told the agent, or an event of another kind. */
export interface Line extends Written {
  kind: "said" | "custom" | "retrying";
  text: string;
  device?: string;
  delay?: number | undefined;
}

export type Part = Writing | Tool | Step | Question | Line;

/** Where a run stands in the queue. */
export interface Place {
  ahead: number;
  waiting?: number | undefined;
  eta?: number | undefined;
  waited?: number | undefined;
  reason?: string;
  message?: string;
  /** When this was said, by the page's clock. */
  at: number;
}

export type RunState =
  "sending" | "refused" | "queued" | "starting" | "running" | "waiting" | "retrying" | "ended";

export interface Run {
  id?: string;
  key?: string;
  thread: string;
  agent: string;
  input: unknown;
  parent?: string;
  state: RunState;
  isCancelling: boolean;
  /** Of its first event; a draft has none. */
  seq: number;
  /** When it was asked for, when it last began, and its newest event: by the daemon's clock. */
  asked: number;
  since: number;
  ts: number;
  attempt: number;
  parts: Part[];
  place?: Place;
  percent?: number | undefined;
  /** How long it has been silent, and when it will be stopped, by the daemon's notices. */
  quiet?: number | undefined;
  timeout?: number | undefined;
  end?: End;
  ends: number;
  refusal?: RuncastError;
  /** Its `run_queued` is not kept any more. */
  isTorn: boolean;
}

export interface Thread {
  id: string;
  runs: Run[];
  /** Something ended or was asked there while another thread was shown. */
  isUnseen: boolean;
}

/** What is needed beside a run to take its next event. */
interface Desk {
  tools: Map<string, Tool>;
  steps: Map<string, Step>;
  questions: Map<string, Question>;
  messages: Map<string, Writing>;
}

export const isOpen = ({ state }: Run): boolean => state !== "ended" && state !== "refused";

/** What can be steered and asks: it has begun, and is not being stopped. */
export const isAtWork = ({ state, isCancelling }: Run): boolean =>
  (state === "running" || state === "waiting") && !isCancelling;

export const openQuestions = (run: Run): Question[] =>
  run.state !== "waiting" ? [] : (run.parts.filter(isUnanswered(run)) as Question[]);

const isUnanswered = (run: Run) => (part: Part) =>
  part.kind === "question" && part.attempt === run.attempt && !part.answer;

/** Asked by the same words: what a thread is called. */
export const titleOf = (thread: Thread | undefined): string => {
  const first = thread?.runs[0];
  return (first && innerText(first.input).replace(/\s+/g, " ").slice(0, 120)) || thread?.id || "New thread";
};

export class Conversation {
  readonly threads = new Map<string, Thread>();
  readonly runs = new Map<string, Run>();
  readonly #drafts = new Map<string, Run>();
  readonly #desks = new WeakMap<Run, Desk>();

  /** `changed` is called with each run that is another than before, and the part of it that is. */
  constructor(private readonly changed: (run: Run, part?: Part) => void) {}

  /** Begins anew. */
  clear(): void {
    for (const known of [this.threads, this.runs, this.#drafts]) known.clear();
  }

  /** Shows what was asked for before anything is known of it. */
  draft({ key, thread, agent, input }: RunRequest & { key: string; thread: string }): Run {
    const known = this.#drafts.get(key);
    if (known) return known;
    const run = this.#make(thread);
    Object.assign(run, { key, agent, input, asked: Date.now() });
    this.#drafts.set(key, run);
    this.changed(run);
    return run;
  }

  accepted({ key, run: id, position, ahead, eta_ms }: Accepted): void {
    const run = this.#drafts.get(key);
    if (!run) return;
    this.#drafts.delete(key);
    this.runs.set(id, Object.assign(run, { id }));
    this.#queue(run, { position, ahead, eta_ms });
    this.changed(run);
  }

  refused(key: string, refusal: RuncastError): Run | undefined {
    const run = this.#drafts.get(key);
    this.#drafts.delete(key);
    if (!run) return undefined;
    Object.assign(run, { state: "refused", refusal });
    this.changed(run);
    return run;
  }

  /** Takes an event that continues what was taken before. */
  take(event: RunEvent): Run {
    const data = asObject(event.data);
    const run = this.#runOf(event, data);
    Object.assign(run, { ts: event.ts, quiet: undefined });
    this.#desk(run, event, data);
    this.changed(run);
    return run;
  }

  notice(notice: Notice): void {
    const run = this.runs.get(notice.run ?? "");
    if (!run || !isOpen(run)) return;
    if (notice.notice === "queue") this.#queue(run, notice);
    else if (notice.notice === "working") run.quiet = asNumber(notice["idle_ms"]);
    else if (notice.notice === "timeout_soon") run.timeout = asNumber(notice["timeout_ms"]);
    this.changed(run);
  }

  #make(thread: string): Run {
    const run: Run = {
      thread,
      agent: "",
      input: undefined,
      state: "sending",
      isCancelling: false,
      seq: 0,
      asked: 0,
      since: 0,
      ts: 0,
      attempt: 0,
      parts: [],
      ends: 0,
      isTorn: false,
    };
    this.#desks.set(run, { tools: new Map(), steps: new Map(), questions: new Map(), messages: new Map() });
    const known = this.threads.get(thread) ?? { id: thread, runs: [], isUnseen: false };
    this.threads.set(thread, known);
    known.runs.push(run);
    return run;
  }

  /** The run that an event is about: one that is known, a draft of ours, or a new one. */
  #runOf(event: RunEvent, data: Data): Run {
    const known = this.runs.get(event.run);
    if (known) return known;
    const key = asText(data["key"]);
    const run = (event.event === "run_queued" && this.#drafts.get(key)) || this.#make(event.thread);
    this.#drafts.delete(key);
    Object.assign(run, {
      id: event.run,
      isTorn: event.event !== "run_queued",
      seq: event.seq,
      asked: event.ts,
    });
    if (run.isTorn) Object.assign(run, { state: "running", since: event.ts, attempt: event.attempt });
    this.runs.set(event.run, run);
    return run;
  }

  /** From `accepted`, `run_queued` or a notice. */
  #queue(run: Run, where: Data): void {
    if (!["sending", "queued", "starting", "retrying"].includes(run.state)) return;
    const position = asNumber(where["position"]) ?? 0;
    run.state = position === 0 ? "starting" : "queued";
    run.place = {
      ahead: asNumber(where["ahead"]) ?? Math.max(0, position - 1),
      waiting: asNumber(where["waiting"]),
      eta: asNumber(where["eta_ms"]),
      waited: asNumber(where["waited_ms"]),
      reason: asText(where["reason"]),
      message: asText(where["message"]),
      at: Date.now(),
    };
  }

  #add<Kind extends Part>(run: Run, part: Omit<Kind, keyof Written>): Kind {
    const before = run.parts.at(-1);
    const made = { attempt: run.attempt, ts: run.ts, ...part } as Kind;
    run.parts.push(made);
    if (before) this.changed(run, before); // it is not the last any more
    this.changed(run, made);
    return made;
  }

  #change<Kind extends Part>(run: Run, part: Kind | undefined, fields: Partial<Kind>): void {
    if (part) this.changed(run, Object.assign(part, fields));
  }

  /** A delta goes to its message, or to the last part if that is of its kind; a text replaces what is
   *  there. */
  #write(run: Run, kind: "thinking" | "output", { delta, text, message }: Data): void {
    const { messages } = this.#desks.get(run)!;
    const id = asText(message) && `${kind} ${asText(message)}`;
    const last = run.parts.at(-1);
    const lastOpen = last?.kind === kind && !last.message && last.attempt === run.attempt ? last : undefined;
    const none = { kind, message: id, text: "", replaced: 0, until: run.ts };
    const part = (id ? messages.get(id) : lastOpen) ?? this.#add<Writing>(run, none);
    if (id) messages.set(id, part);
    const isWhole = text !== undefined;
    this.#change(run, part, {
      text: (isWhole ? asText(text) : part.text) + asText(delta),
      replaced: part.replaced + Number(isWhole),
      until: run.ts,
    });
  }

  /** What each event does to its run. */
  #desk(run: Run, event: RunEvent, data: Data): void {
    const { tools, steps, questions } = this.#desks.get(run)!;
    const name = (field: string) => asText(data[field]);
    switch (event.event) {
      case "run_queued":
        return this.#queued(run, event.seq, data);
      case "agent_started":
        return this.#started(run, event);
      case "agent_thinking":
        return this.#write(run, "thinking", data);
      case "agent_output":
        return this.#write(run, "output", data);
      case "tool_executing": {
        const tool = { kind: "tool", name: name("tool"), args: data["args"], state: "open" } as const;
        tools.set(name("call"), this.#add<Tool>(run, tool));
        return;
      }
      case "tool_progress": {
        const fields = { percent: asNumber(data["percent"]), progress: name("text") };
        return this.#change(run, tools.get(name("call")), fields);
      }
      case "tool_completed": {
        const took = asNumber(data["duration_ms"]);
        const fields = { state: name("status"), result: data["result"], error: data["error"], took };
        return this.#change(run, tools.get(name("call")), fields);
      }
      case "step_started": {
        const [index, of] = [asNumber(data["index"]), asNumber(data["of"])];
        const number = index === undefined ? "" : joined(" of ", `Step ${index}`, of);
        const text = joined(" · ", number, data["name"] ?? data["step"]);
        steps.set(name("step"), this.#add<Step>(run, { kind: "step", text, state: "open" }));
        return;
      }
      case "step_completed":
        return this.#change(run, steps.get(name("step")), { state: name("status") || "ok" });
      case "run_progress":
        run.percent = asNumber(data["percent"]);
        return;
      case "input_required":
        return this.#ask(run, data);
      case "input_received":
        return this.#answered(run, questions.get(name("request")), data);
      case "run_retrying":
        return this.#retrying(run, data);
      case "agent_completed":
        return this.#ended(run, data);
      case "custom":
        this.#add<Line>(run, { kind: "custom", text: joined(": ", data["name"], data["value"]) });
        return;
      default: // of a later version of the protocol
        this.#add<Line>(run, { kind: "custom", text: asText((event as RunEvent).event) });
    }
  }

  #queued(run: Run, seq: number, data: Data): void {
    Object.assign(run, { agent: asText(data["agent"]), input: data["input"], seq, key: asText(data["key"]) });
    run.parent = asText(data["parent"]);
    this.#queue(run, data);
    // Drafts come last: what another device asked for meanwhile lies before them.
    this.threads.get(run.thread)?.runs.sort((a, b) => (a.seq || Infinity) - (b.seq || Infinity) || 0);
  }

  #started(run: Run, { attempt, ts, data }: Extract<RunEvent, { event: "agent_started" }>): void {
    Object.assign(run, { state: "running", attempt, since: ts, agent: asText(data?.agent) || run.agent });
    Object.assign(run, { percent: undefined, timeout: undefined });
    for (const known of Object.values(this.#desks.get(run)!)) known.clear();
    for (const part of run.parts) this.changed(run, part);
  }

  #ask(run: Run, data: Data): void {
    const wait = asNumber(data["expires_ms"]);
    const question = this.#add<Question>(run, {
      kind: "question",
      request: asText(data["request"]),
      prompt: asText(data["prompt"]),
      schema: data["schema"],
      expires: wait === undefined ? undefined : run.ts + wait,
    });
    this.#desks.get(run)!.questions.set(question.request, question);
    run.state = "waiting";
  }

  #answered(run: Run, question: Question | undefined, data: Data): void {
    const device = asText(data["device"]);
    const answer = { data: data["data"], device, expired: data["expired"] === true };
    if (question) this.#change(run, question, { answer });
    else this.#add<Line>(run, { kind: "said", text: innerText(data["data"]), device });
    if (run.state === "waiting" && !run.parts.some(isUnanswered(run))) run.state = "running";
  }

  #retrying(run: Run, { reason, delay_ms }: Data): void {
    this.#add<Line>(run, { kind: "retrying", text: asText(reason), delay: asNumber(delay_ms) });
    Object.assign(run, { state: "retrying", place: undefined });
    for (const part of run.parts) this.changed(run, part);
  }

  #ended(run: Run, data: Data): void {
    // An agent may answer only with its end; what it has written already is not shown twice.
    const ours = run.parts.filter(({ kind, attempt }) => kind === "output" && attempt === run.attempt);
    const written = ours.map((part) => (part as Writing).text).join("");
    const answer = innerText(data["output"]).trim();
    if (!written.includes(answer)) this.#write(run, "output", { text: answer, message: "end" });
    const end = data as unknown as End;
    Object.assign(run, { state: "ended", isCancelling: false, end, ends: run.ends + 1 });
    for (const part of run.parts) this.changed(run, part);
  }
}
