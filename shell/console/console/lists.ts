// What stands in each list: one function for each kind of thing, from its element to how it is brought up to
// date.

import { el, mark, say } from "../chat/dom.js";
import { duration } from "../chat/words.js";
import type { AgentRow, Connection, News, Run, Undelivered, WorkerRow } from "./daemon.js";
import { cell, Panel, type Row, row } from "./rows.js";

/** What can be done from a row. */
export interface Actions {
  find: (text: string) => void;
  cancel: (run: Run) => void;
  disconnect: (user: string) => void;
}

/** How long something has been so, in few letters. */
export const ago = (ms: number): string => (ms < 1000 ? "now" : `${duration(Math.floor(ms / 1000) * 1000)} ago`);

const words = (text: string): string => text.replaceAll("_", " ");

function pill(): { node: HTMLElement; set: (state: string) => void } {
  const node = el("span", { class: "pill" });
  return {
    node,
    set: (state) => {
      say(node, words(state));
      mark(node, "data-state", state);
    },
  };
}

/** A name that is looked for when it is pressed. */
function link(find: (text: string) => void, className = "link"): { node: HTMLElement; set: (text: string) => void } {
  const node = el("button", { class: className });
  node.onclick = () => find(node.textContent ?? "");
  return {
    node,
    set: (text) => {
      say(node, text);
      mark(node, "title", text);
    },
  };
}

/** Queued, then running: to the scale of the longest in the list. */
class Timeline {
  static scale = 1_000;
  readonly node = el("div", { class: "time" });
  readonly #bar = el("div", { class: "bar", "aria-hidden": "true" }, el("i", { class: "q" }), el("i", { class: "r" }));
  readonly #text = el("span", {});

  constructor() {
    this.node.append(this.#bar, this.#text);
  }

  set(run: Run): void {
    const [queued, running] = this.#bar.children as unknown as [HTMLElement, HTMLElement];
    const width = (ms: number) => `${Math.min(100, (100 * ms) / Timeline.scale).toFixed(1)}%`;
    queued.style.width = width(run.queued_ms);
    running.style.width = width(run.running_ms);
    const waited = `waited ${duration(run.queued_ms)}`;
    say(this.#text, run.attempt > 0 ? `${waited} · ran ${duration(run.running_ms)}` : `${waited} · ${run.state === "ended" ? "never ran" : "has not begun"}`);
  }
}

/** Must be told before a list with timelines is shown. */
export function scaleTo(runs: Run[]): void {
  Timeline.scale = Math.max(1_000, ...runs.map(({ queued_ms, running_ms }) => queued_ms + running_ms));
}

/** A run's id, whose it is, and what executes it. */
function runCell(find: (text: string) => void): { node: HTMLElement; set: (run: Run | Undelivered) => void } {
  const [id, user, agent] = [link(find, "link id"), link(find), link(find)];
  const node = cell("run", id.node, el("small", {}, user.node, " · ", agent.node));
  return {
    node,
    set: (run) => {
      id.set(run.run);
      user.set(run.user);
      agent.set(run.agent);
    },
  };
}

function cancelButton(actions: Actions): { node: HTMLElement; set: (run: Run) => void } {
  const button = el("button", { class: "small" }, "Cancel…");
  let current: Run | undefined;
  button.onclick = () => current && actions.cancel(current);
  return {
    node: cell("act", button),
    set: (run) => {
      current = run;
      mark(button, "aria-label", `Cancel ${run.run}`);
      button.disabled = run.state === "cancelling";
    },
  };
}

/** What a run says of itself besides. */
function progress(run: Run): string {
  const parts = [
    run.attempt > 1 ? `attempt ${run.attempt}` : "",
    run.step ?? "",
    run.percent === undefined ? "" : `${Math.round(run.percent)} %`,
    (run.idle_ms ?? 0) >= 2_000 ? `silent for ${duration(Math.floor(run.idle_ms! / 1000) * 1000)}` : "",
  ];
  return parts.filter(Boolean).join(" · ");
}

export function runs(actions: Actions): Panel<Run> {
  const make = (): Row<Run> => {
    const [state, about, time, act] = [pill(), runCell(actions.find), new Timeline(), cancelButton(actions)];
    const worker = link(actions.find);
    const note = el("small", {});
    const node = row(
      cell("state", state.node),
      about.node,
      cell("when", time.node),
      cell("where", worker.node, note),
      act.node,
    );
    const update = (run: Run) => {
      state.set(run.state);
      about.set(run);
      time.set(run);
      worker.set(run.worker ?? "");
      say(note, progress(run));
      act.set(run);
    };
    return { node, update };
  };
  const columns = ["State", "Run, user and agent", "Time", "Worker", "Action"];
  return new Panel("runs", "Running", columns, "Nothing is running.", (run: Run) => run.run, make);
}

export function queue(actions: Actions): Panel<Run> {
  const make = (): Row<Run> => {
    const place = el("b", {});
    const [about, reason, act] = [runCell(actions.find), pill(), cancelButton(actions)];
    const [message, times] = [el("small", {}), el("small", {})];
    const node = row(
      cell("place", place),
      about.node,
      cell("why", reason.node, message),
      cell("when", times),
      act.node,
    );
    const update = (run: Run) => {
      say(place, String(run.position));
      about.set(run);
      reason.set(run.reason ?? "");
      say(message, run.reason === "user_limit" ? "As many runs of this user as allowed are running." : (run.message ?? ""));
      const isNext = ["concurrency", "no_worker"].includes(run.reason ?? "");
      const eta = run.eta_ms === undefined || !isNext ? "" : `starts in about ${duration(run.eta_ms)}`;
      say(times, [`waits for ${duration(Math.floor((run.waited_ms ?? 0) / 1000) * 1000)}`, eta].filter(Boolean).join(" · "));
      act.set(run);
    };
    return { node, update };
  };
  const columns = ["Place", "Run, user and agent", "Why it waits", "Time", "Action"];
  return new Panel("queue", "Queue", columns, "Nothing is queued.", (run: Run) => run.run, make);
}

export function ended(actions: Actions, now: () => number): Panel<Run> {
  const make = (): Row<Run> => {
    const [status, about, time] = [pill(), runCell(actions.find), new Timeline()];
    const when = el("small", {});
    const node = row(cell("state", status.node), about.node, cell("when", time.node), cell("where", when));
    const update = (run: Run) => {
      status.set(run.status ?? run.state);
      about.set(run);
      time.set(run);
      say(when, run.ended_ts === undefined ? "" : ago(now() - run.ended_ts));
    };
    return { node, update };
  };
  const columns = ["Status", "Run, user and agent", "Time", "When"];
  return new Panel("ended", "Ended lately", columns, "Nothing has ended since the start.", (run: Run) => run.run, make);
}

export function workers(actions: Actions): Panel<WorkerRow> {
  const make = (): Row<WorkerRow> => {
    const [state, name] = [pill(), link(actions.find, "link id")];
    const [sub, load, bar] = [el("small", {}), el("small", {}), el("i", { class: "r" })];
    const full = el("div", { class: "bar", "aria-hidden": "true" }, bar);
    const node = row(cell("state", state.node), cell("run", name.node, sub), cell("when", full, load));
    const update = (worker: WorkerRow) => {
      const slots = worker.agents.reduce((all, { slots }) => all + slots, 0);
      state.set(worker.state);
      name.set(worker.worker);
      say(sub, worker.agents.map(({ agent, slots }) => `${agent} × ${slots}`).join(", "));
      mark(sub, "title", `${sub.textContent} (token of ${worker.sub})`);
      bar.style.width = `${slots ? Math.min(100, (100 * worker.runs.length) / slots) : 0}%`;
      const heard = worker.idle_ms === undefined ? "not connected" : `heard ${ago(worker.idle_ms)}`;
      say(load, `${worker.runs.length} of ${slots} slots · ${heard}`);
    };
    return { node, update };
  };
  const key = ({ sub, worker }: WorkerRow) => `${sub}/${worker}`;
  const columns = ["State", "Worker and agents", "Load"];
  return new Panel("workers", "Workers", columns, "No worker has connected.", key, make);
}

export function agents(actions: Actions): Panel<AgentRow> {
  const make = (): Row<AgentRow> => {
    const [breaker, name] = [pill(), link(actions.find, "link id")];
    const [load, bar] = [el("small", {}), el("i", { class: "r" })];
    const full = el("div", { class: "bar", "aria-hidden": "true" }, bar);
    const node = row(cell("state", breaker.node), cell("run", name.node), cell("when", full, load));
    const update = (agent: AgentRow) => {
      breaker.set(agent.breaker === "closed" && agent.slots === 0 ? "no_worker" : `breaker_${agent.breaker}`);
      name.set(agent.agent);
      const open = agent.open_ms === undefined ? "" : ` · rests for ${duration(Math.ceil(agent.open_ms / 1000) * 1000)}`;
      bar.style.width = `${agent.slots ? (100 * (agent.slots - agent.free)) / agent.slots : 0}%`;
      say(load, `${agent.free} of ${agent.slots} free${open}`);
    };
    return { node, update };
  };
  const columns = ["Breaker", "Agent", "Load"];
  return new Panel("agents", "Agents", columns, "No agent is known.", ({ agent }: AgentRow) => agent, make);
}

export function connectionRow(actions: Actions): Row<Connection> {
  const user = link(actions.find, "link id");
  const [device, lag, bar] = [el("small", {}), el("small", {}), el("i", { class: "r" })];
  const full = el("div", { class: "bar", "aria-hidden": "true" }, bar);
  const button = el("button", { class: "small" }, "Disconnect…");
  const node = row(cell("run", user.node, device), cell("when", full, lag), cell("act", button));
  const update = (it: Connection) => {
    user.set(it.user);
    const kind = it.kind === "websocket" ? "" : it.kind;
    say(device, [it.device, kind, it.address].filter(Boolean).join(" · "));
    mark(device, "title", `heard ${ago(it.idle_ms)}, ${it.output_bytes} bytes wait for its network`);
    bar.style.width = `${Math.min(100, (100 * it.lag) / Math.max(1, it.window))}%`;
    mark(full, "data-tone", it.lag > it.window ? "warn" : undefined);
    const window = it.kind === "websocket" ? ` · window ${it.unacked}/${it.window}` : "";
    const trip = it.round_trip_ms === undefined ? "" : ` · ${it.round_trip_ms} ms away`;
    say(lag, `${it.lag.toLocaleString("en")} behind${window}${trip}`);
    button.onclick = () => actions.disconnect(it.user);
    mark(button, "aria-label", `Disconnect ${it.user}`);
  };
  return { node, update };
}

export function connections(actions: Actions): Panel<Connection> {
  const columns = ["User, device and kind", "Lag, window and round trip", "Action"];
  const none = "Nobody is connected.";
  const key = ({ connection }: Connection) => connection;
  return new Panel("connections", "Connections", columns, none, key, () => connectionRow(actions));
}

export function undelivered(actions: Actions, now: () => number): Panel<Undelivered> {
  const make = (): Row<Undelivered> => {
    const [status, about, told] = [pill(), runCell(actions.find), el("small", {})];
    const node = row(cell("state", status.node), about.node, cell("when", told));
    const update = (it: Undelivered) => {
      status.set(it.status);
      about.set(it);
      say(told, `ended ${ago(now() - it.ended_ts)} · webhook: ${it.webhook}`);
    };
    return { node, update };
  };
  const columns = ["Status", "Run, user and agent", "Webhook"];
  const none = "Every end has reached somebody.";
  return new Panel("undelivered", "Undelivered", columns, none, ({ run }: Undelivered) => run, make);
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** An event of the topics, as a sentence. */
export function sentenceOf({ event, data }: News): string {
  const [worker, agent, alert] = [text(data["worker"]), text(data["agent"]), words(text(data["alert"]))];
  const about = agent ? `${alert} of ${agent}` : alert;
  switch (event) {
    case "worker_joined":
      return `Worker ${worker} has joined.`;
    case "worker_silent":
      return `Worker ${worker} has lost its connection.`;
    case "worker_left":
      return `Worker ${worker} is gone.`;
    case "agent_available":
      return `Agent ${agent} can be run.`;
    case "agent_unavailable":
      return `Agent ${agent} has no worker.`;
    case "breaker_opened":
      return `Agent ${agent} fails too often: its breaker is open.`;
    case "breaker_closed":
      return `Agent ${agent} works again.`;
    case "alert_raised":
      return `Alert: ${about} (${text(data["message"])}).`;
    case "alert_cleared":
      return `Over: ${about}.`;
    default:
      return words(event);
  }
}

/** What stands out, and what is good news. */
const BAD = ["worker_silent", "worker_left", "agent_unavailable", "breaker_opened", "alert_raised"];
export const isBad = ({ event }: News): boolean => BAD.includes(event);

export function activity(now: () => number): Panel<News> {
  const make = (): Row<News> => {
    const [when, what] = [el("small", {}), el("span", {})];
    const node = row(cell("at", when), cell("what", what));
    const update = (news: News) => {
      say(when, ago(now() - news.ts));
      mark(when, "title", new Date(news.ts).toLocaleString());
      say(what, sentenceOf(news));
      mark(node, "data-tone", isBad(news) ? "bad" : "ok");
    };
    return { node, update };
  };
  const key = ({ topic, seq }: News) => `${topic}/${seq}`;
  return new Panel("activity", "What happened", ["When", "What"], "Nothing has happened yet.", key, make);
}
