// The operators' page: what runs, what waits and why, who is connected and how far behind, which workers are
// there; and the few things that an operator does about it. It asks for everything once in a while, and at
// once when the daemon tells of something on its topics.

import { $, announce, el, mark, say } from "../chat/dom.js";
import {
  type AgentRow,
  type Alert,
  ask,
  type Connection,
  Feed,
  hasToken,
  type News,
  Refusal,
  sentence,
  type Run,
  type Status,
  takeTokenFromAddress,
  type Undelivered,
  useToken,
  type WorkerRow,
} from "./daemon.js";
import { Figures } from "./figures.js";
import * as lists from "./lists.js";
import { Found } from "./found.js";
import { Panel } from "./rows.js";
import { confirm, Door } from "./sure.js";

/** What happens shows within a second, the way to the daemon and back included. */
const EVERY_MS = 900;
/** What the daemon tells of is looked at at once, but for what comes in a rush. */
const RUSH_MS = 250;
const LISTED = 50;
const NEWS_MAX = 100;
/** For how long a worker stands in the list after it has gone. */
const GONE_MS = 60_000;

const state = {
  find: "",
  /** How much later this page's clock is than the daemon's. */
  skew: 0,
  asked: 0,
  answered: 0,
  isAsking: false,
  isStopped: true,
  news: [] as News[],
  gone: new Map<string, { at: number; worker: WorkerRow }>(),
  status: undefined as Status | undefined,
  undelivered: { count: -1, at: 0, items: [] as Undelivered[] },
  failure: "",
};
let timer: ReturnType<typeof setTimeout> | undefined;

const now = (): number => Date.now() - state.skew;

// ---- What an operator does ----------

const find = $<HTMLInputElement>("find");

function look(text: string): void {
  state.find = text.trim();
  if (find.value.trim() !== state.find) find.value = state.find;
  found.look(state.find);
  soon(0);
}

const actions: lists.Actions = {
  find: look,
  cancel: (run: Run) =>
    confirm({
      title: "Cancel this run?",
      text: `${run.run} of ${run.user} is ${run.state}. It ends as cancelled, and its user is told that an operator has ended it.`,
      yes: "Cancel the run",
      act: async () => {
        const path = `/v1/runs/${encodeURIComponent(run.run)}/cancel`;
        const { state: became } = await ask<{ state: string }>(path, "POST");
        soon(0);
        return became === "ended" ? "The run has ended." : "The run is being cancelled.";
      },
    }),
  disconnect: (user: string) =>
    confirm({
      title: `Disconnect ${user}?`,
      text: `All connections of ${user} are closed, on all devices. Runs go on.`,
      yes: "Disconnect",
      option: "Let them reconnect at once",
      act: async (reconnect) => {
        await ask(`/v1/users/${encodeURIComponent(user)}/disconnect`, "POST", { reconnect });
        soon(0);
        return `${user} has been disconnected.`;
      },
    }),
};

$("drain").onclick = () => {
  const { queued = 0, active = 0 } = state.status?.runs ?? {};
  confirm({
    title: "Drain the daemon?",
    text: `It takes nothing new, lets ${active} active runs end for a while, closes all connections and exits. ${queued} queued runs wait in the store for the next start. This cannot be taken back.`,
    yes: "Drain it",
    act: async () => {
      const { deadline_ms } = await ask<{ deadline_ms: number }>("/v1/drain", "POST");
      soon(0);
      return `The daemon goes down within ${Math.ceil(deadline_ms / 1000)} s.`;
    },
  });
};
$("leave").onclick = () => {
  useToken(undefined);
  stop();
  door.open();
};
let typed: ReturnType<typeof setTimeout> | undefined;
find.oninput = () => {
  clearTimeout(typed);
  typed = setTimeout(() => look(find.value), 150);
};
$("search").onsubmit = (event) => {
  event.preventDefault();
  clearTimeout(typed);
  look(find.value);
};
document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement || document.querySelector("dialog[open]");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    find.focus();
  } else if (event.key === "Escape" && event.target === find) look("");
});

// ---- What is shown ----------

const figures = new Figures($("figures"));
const panels = {
  runs: lists.runs(actions),
  queue: lists.queue(actions),
  workers: lists.workers(actions),
  agents: lists.agents(actions),
  connections: lists.connections(actions),
  ended: lists.ended(actions, now),
  undelivered: lists.undelivered(actions, now),
  activity: lists.activity(now),
};
const column = (...all: { node: HTMLElement }[]) => el("div", { class: "column" }, ...all.map(({ node }) => node));
$("panels").append(
  column(panels.runs, panels.queue, panels.ended),
  column(panels.workers, panels.agents, panels.connections, panels.undelivered, panels.activity),
);
const found = new Found(actions);

function show(status: Status): void {
  const { runs, queued, ended, connections, workers } = status.lists;
  Panel.isSearch = state.find !== "";
  figures.add(status, Date.now());
  lists.scaleTo(runs.items);
  panels.runs.show(runs.items, runs.count);
  panels.queue.show(queued.items, queued.count);
  lists.scaleTo(ended.items);
  panels.ended.show(ended.items, ended.count);
  panels.connections.show(stable(connections.items), connections.count);
  showWorkers(workers.items, workers.count);
  panels.agents.show(closedLast(status.agents.filter(({ agent }) => agent.includes(state.find))));
  showNews();
  showUndelivered();
  showAlerts(status);
  const words = [`Runcast ${status.version}`, `store ${status.store}`, `${status.totals.accepted} runs accepted`];
  say($("foot"), words.join(" · "));
  $<HTMLButtonElement>("drain").disabled = status.draining;
  found.show(status);
}

/** The same place for the same lag, whoever came first. */
const stable = (items: Connection[]): Connection[] =>
  items.toSorted((a, b) => b.lag - a.lag || a.user.localeCompare(b.user) || a.connection.localeCompare(b.connection));

/** Agents whose breaker is open stand first. */
const closedLast = (agents: AgentRow[]): AgentRow[] =>
  agents.toSorted((a, b) => Number(a.breaker === "closed") - Number(b.breaker === "closed"));

function showWorkers(items: WorkerRow[], count: number): void {
  const here = new Set(items.map(keyOf));
  for (const [key, { at }] of state.gone) if (here.has(key) || now() - at > GONE_MS) state.gone.delete(key);
  const gone = [...state.gone.values()].map(({ worker }) => worker);
  const matching = gone.filter(({ worker }) => worker.includes(state.find));
  const all = [...items, ...matching].sort((a, b) => keyOf(a).localeCompare(keyOf(b)));
  panels.workers.show(all, count + matching.length);
}

const keyOf = ({ sub, worker }: { sub: string; worker: string }): string => `${sub}/${worker}`;

function showNews(): void {
  const isFound = (news: News) => lists.sentenceOf(news).includes(state.find);
  panels.activity.show(state.news.filter(isFound));
}

const says = (...texts: (string | undefined)[]): string =>
  texts.flatMap((text) => (text ? [sentence(text)] : [])).join(" ");

let drawnAlerts: string | undefined;

function showAlerts({ alerts, store, draining }: Status): void {
  const own: Alert[] = [...alerts];
  if (store === "full") own.push({ alert: "store_full", message: "the store takes nothing", hint: "make room on the disk" });
  if (draining) own.push({ alert: "draining", message: "the daemon is going down", hint: "nothing new is begun" });
  const keys = own.map((alert) => JSON.stringify(alert)).join();
  const node = $("alerts");
  if (drawnAlerts === keys) return;
  drawnAlerts = keys;
  const described = own.map(({ alert, agent, message, hint }) =>
    el(
      "p",
      { class: "alert", title: says(message, hint) },
      el("b", {}, [alert.replaceAll("_", " "), agent].filter(Boolean).join(": ")),
      el("small", {}, says(message, hint)),
    ),
  );
  node.replaceChildren(...(own.length ? described : [el("p", { class: "calm" }, "No alerts")]));
}

function showLink(): void {
  const isLate = state.failure !== "";
  const word = isLate ? "Not reached" : state.answered === 0 ? "Connecting" : feed.isOpen ? "Live" : "Every second";
  mark($("link"), "data-state", isLate ? "lost" : state.answered === 0 ? "connecting" : "live");
  say($("link-word"), word);
  const why = feed.isOpen ? "" : "Without the scope user in the token, or its connection, news come with the next look.";
  mark($("link"), "title", isLate ? state.failure : why);
  document.body.classList.toggle("stale", isLate);
}

// ---- What is heard ----------

const feed = new Feed(
  () => (state.news = []),
  (news) => {
    state.news = [news, ...state.news].sort((a, b) => b.ts - a.ts).slice(0, NEWS_MAX);
    if (!news.isNew) return;
    if (lists.isBad(news)) announce(lists.sentenceOf(news), news.event === "alert_raised");
    if (news.event === "worker_left") left(news);
    showNews();
    soon(RUSH_MS);
  },
  showLink,
);

function left({ data, ts }: News): void {
  const [worker, sub] = [String(data["worker"]), String(data["sub"])];
  const last = state.status?.lists.workers.items.find((it) => keyOf(it) === keyOf({ sub, worker }));
  const { idle_ms: _, ...gone } = last ?? { worker, sub, agents: [], idle_ms: 0 };
  state.gone.set(keyOf({ sub, worker }), { at: ts, worker: { ...gone, state: "gone", runs: [] } });
}

/** Looks at all again, when so much time has passed since the last look. */
function soon(spacing: number): void {
  if (state.isStopped || document.hidden) return;
  clearTimeout(timer);
  timer = setTimeout(() => void poll(), Math.max(0, state.asked + spacing - Date.now()));
}

async function poll(): Promise<void> {
  if (state.isAsking) return void (state.asked = 0);
  state.isAsking = true;
  const asked = (state.asked = Date.now());
  const find = state.find;
  try {
    const query = find ? `&find=${encodeURIComponent(find)}` : "";
    const status = await ask<Status>(`/v1/status?limit=${LISTED}${query}`);
    const isSame = find === state.find && !state.isStopped;
    if (state.answered === 0 && !state.isStopped) feed.open();
    state.failure = "";
    state.answered += 1;
    state.skew = Date.now() - status.ts;
    state.status = status;
    if (isSame) show(status);
    void besides(status);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401 || error.status === 403) {
      stop();
      door.open(error.message);
    } else state.failure = error.message;
  } finally {
    state.isAsking = false;
  }
  showLink();
  // Something came up meanwhile that is to be looked at without delay.
  soon(state.asked === asked ? EVERY_MS : 0);
}

let isAside = false;

/** What is asked besides does not hold up the rest: while a disk is full it may stay unanswered. */
async function besides(status: Status): Promise<void> {
  if (isAside) return;
  isAside = true;
  try {
    await Promise.all([undelivered(status), found.ask()]);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  } finally {
    isAside = false;
  }
}

/** Asked for when there are others, and now and then. */
async function undelivered({ undelivered: count }: Status): Promise<void> {
  const last = state.undelivered;
  if (count === last.count && (count === 0 || Date.now() - last.at < 10_000)) return;
  const list = count ? await ask<{ undelivered: Undelivered[] }>(`/v1/undelivered?limit=${LISTED}`) : { undelivered: [] };
  state.undelivered = { count, at: Date.now(), items: list.undelivered };
  showUndelivered();
}

function showUndelivered(): void {
  const isFound = (run: Undelivered) => [run.user, run.run, run.agent].some((name) => name.includes(state.find));
  const { items, count } = state.undelivered;
  const matching = items.filter(isFound);
  panels.undelivered.show(matching, state.find ? matching.length : Math.max(count, 0));
}

function start(): void {
  state.isStopped = false;
  state.answered = 0;
  state.asked = 0;
  showLink();
  soon(0);
}

function stop(): void {
  state.isStopped = true;
  clearTimeout(timer);
  feed.close();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else soon(0);
});
addEventListener("hashchange", () => {
  if (takeTokenFromAddress()) location.reload();
});

const door = new Door(start);
takeTokenFromAddress();
if (hasToken()) start();
else door.open();
