// The chat page: a person asks agents, and sees each run wait, think, use tools, ask and answer; on every
// device the same. What is delivered is the client library's care (clients/js); here it becomes a
// conversation (`model.ts`), and the conversation becomes a page, drawn once a frame, however many events
// there were.

import { type Client, connect, RuncastError, type StreamEvent } from "../../clients/js/src/index.js";
import { Composer } from "./composer.js";
import { $, announce, el, icon, say } from "./dom.js";
import { namesOnly, readToken, Unanswered } from "./keep.js";
import { Door, LinkView } from "./link.js";
import { Conversation, isOpen, openQuestions, type Part, type Run, type Thread, titleOf } from "./model.js";
import { type Actions, RunView } from "./run.js";
import { Drawer, ThreadList } from "./threads.js";
import { asText, innerText, joined } from "./values.js";
import { endSentence, queueSentence, retrySentence } from "./words.js";

/** What a person might ask the agents that come with `--dev`. */
const IDEAS = [
  {
    agent: "files",
    text: "Which file under . is the largest?",
    title: "Find the largest file",
    note: "It looks, and tells how",
  },
  {
    agent: "files",
    text: "How many lines of rust?",
    title: "Count the lines of Rust",
    note: "It opens them all",
  },
  {
    agent: "echo",
    text: '{"text": "Kill the daemon now, start it again, and see: nothing is lost.", "words": 400, "delay_ms": 60}',
    title: "Write slowly",
    note: "Kill the daemon meanwhile",
  },
  {
    agent: "echo",
    text: '{"text": "That is what you chose.", "ask": "Which colour?", "choices": ["Red", "Green", "Blue"]}',
    title: "Ask me something",
    note: "Answer here, or in another tab",
  },
];

/** The key that `serve --dev` signs with: its daemon has the built-in agents. */
const DEV_KID = "dev";

const counts = { events: 0, gaps: 0, resets: 0 };
const unanswered = new Unanswered();
const dirty = new Map<Run, Set<Part>>();
const views = new Map<Run, RunView>();
const page = {
  shown: threadInAddress(),
  /** Until the person chooses a thread, the newest is shown. */
  isFollowing: threadInAddress() === undefined,
  drawn: undefined as string | undefined,
  isStuck: true,
  isScheduled: false,
  /** How much later this page's clock is than the daemon's. */
  skew: Number.POSITIVE_INFINITY,
  limit: Number.POSITIVE_INFINITY,
};

const conversation = new Conversation((run, part) => {
  const parts = dirty.get(run) ?? new Set();
  if (part) parts.add(part);
  dirty.set(run, parts);
  schedule();
});

/** The address may have something else behind its `#`: a token. */
function threadInAddress(): string | undefined {
  return /^#([A-Za-z0-9][A-Za-z0-9_.:@-]{0,127})$/.exec(location.hash)?.[1];
}

const randomHex = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );

const now = () => Date.now() - (Number.isFinite(page.skew) ? page.skew : 0);

// ---- What a person does ----------

const actions: Actions = {
  now,
  device: () => client.device,
  isConnected: () => link.isConnected,
  answer: (run, request, data) => client.answer(run.id!, request, data),
  cancel(run) {
    if (run.isCancelling || !isOpen(run)) return;
    run.isCancelling = true;
    changed(run);
    const cancelled = run.id ? client.cancel(run.id) : asked.get(run)?.cancel();
    cancelled?.catch((error) => {
      run.isCancelling = false;
      changed(run);
      link.toast(error.message);
    });
  },
  again: (run) => ask(run.agent, run.input, run.thread),
  // Only a page that came safely may write to the clipboard.
  ...(navigator.clipboard && { copy: (text: string) => navigator.clipboard.writeText(text) }),
};

/** Runs that were asked for here and have no id yet. */
const asked = new Map<Run, ReturnType<Client["run"]>>();

function ask(agent: string, input: unknown, thread = page.shown ?? `thread_${randomHex()}`): void {
  const request = { key: randomHex(), agent, input, thread };
  if (client.user) unanswered.add({ user: client.user, request });
  send(request);
  page.isStuck = true;
  if (thread !== page.shown) choose(thread);
}

function send(request: Parameters<Conversation["draft"]>[0]): void {
  const run = conversation.draft(request);
  const sent = client.run(request);
  asked.set(run, sent);
  const answered = () => {
    unanswered.done(request.key);
    asked.delete(run);
  };
  sent.accepted.then(
    (accepted) => {
      answered();
      conversation.accepted(accepted);
    },
    (error: RuncastError) => {
      if (error.code === "closed") return;
      answered();
      if (!conversation.refused(request.key, error)) return;
      composer.put(innerText(request.input));
      announce(`Not accepted: ${error.message}`, true);
    },
  );
}

function changed(run: Run): void {
  dirty.set(run, new Set([...(dirty.get(run) ?? []), ...run.parts]));
  schedule();
}

const composer = new Composer({
  ask,
  steer: (run, text) => void client.steer(run.id!, text).catch((error) => link.toast(error.message)),
  cancel: actions.cancel,
  problem: (text) => link.toast(text),
  tooLong(input) {
    const bytes = new TextEncoder().encode(JSON.stringify(input)).length;
    const over = bytes + 1024 - page.limit;
    return over > 0 ? `That is too long by ${over.toLocaleString("en")} bytes.` : undefined;
  },
});

const drawer = new Drawer();
const list = new ThreadList((thread) => choose(thread));

function choose(thread: string | undefined): void {
  page.isFollowing = false;
  if (thread !== page.shown)
    history.pushState(null, "", thread ? `#${thread}` : location.pathname + location.search);
  show(thread);
  drawer.close();
  composer.focus();
}

function show(thread: string | undefined): void {
  page.shown = thread;
  page.isStuck = true;
  const known = conversation.threads.get(thread ?? "");
  if (known) known.isUnseen = false;
  schedule();
}

// ---- What is heard ----------

const door = new Door({
  used: (token) => welcomeAgents(token),
  given: () => client.reconnect(),
  changed: () => schedule(),
});
const link = new LinkView(door, () => schedule());
const client = connect({ token: door.token, from: "oldest", storage: namesOnly });
link.watch(client);

client.on("event", (event: StreamEvent) => {
  if (event.topic !== undefined) return;
  counts.events += event.joined ?? 1;
  if (!link.isCatchingUp) page.skew = Math.min(page.skew, Date.now() - event.ts);
  const run = conversation.take(event);
  if (event.event === "run_queued") {
    unanswered.done(asText(event.data.key));
    composer.know(run.agent);
  }
  const isAsked = event.event === "run_queued";
  if (page.isFollowing && (isAsked || page.shown === undefined)) show(run.thread);
  const isLive = !link.isCatchingUp;
  link.took(event.seq);
  if (isLive) tell(event.event, run);
});
client.on("notice", (notice) => {
  const run = conversation.runs.get(notice.run ?? "");
  const before = run?.place?.ahead;
  conversation.notice(notice);
  if (run?.state !== "queued" || run.thread !== page.shown || !run.place || run.place.ahead === before)
    return;
  announce(`Place ${run.place.ahead + 1} in line. ${queueSentence(run.place)}`);
});
client.on("reset", ({ reason, topic }) => {
  if (topic !== undefined) return;
  counts.resets += 1;
  counts.events = 0;
  conversation.clear();
  dirty.clear();
  page.drawn = undefined;
  views.clear();
  $("log").replaceChildren();
  for (const { request } of unanswered.of(client.user ?? "")) conversation.draft(request);
  link.reset(reason);
  schedule();
});
client.on("welcome", ({ user, limits, runs }) => {
  page.limit = limits.message_bytes;
  for (const { run: id, state } of runs) {
    const run = conversation.runs.get(id);
    if (run) run.isCancelling = state === "cancelling";
  }
  // Asked before this page was loaded, and never answered: asked again, by the same key.
  if (link.welcomes === 1)
    for (const { request } of unanswered.of(user))
      if (![...asked.values()].some(({ key }) => key === request.key)) send(request);
});
client.on("error", (error) => {
  if (error.code === "gap") counts.gaps += 1;
  else if (link.isConnected) link.toast(joined(" ", error.message, error.hint));
});

/** For those who do not see it, and for threads that are not shown. */
function tell(event: string, run: Run): void {
  const isShown = run.thread === page.shown && !document.hidden;
  const last = run.parts.at(-1);
  const thread = conversation.threads.get(run.thread)!;
  if (event === "agent_started") announce(`${run.agent} has begun.`);
  else if (event === "run_retrying")
    announce(retrySentence(run.attempt, asText(last && "text" in last && last.text)));
  else if (event === "input_required" && last?.kind === "question")
    announce(`${run.agent} asks: ${last.prompt}`, true);
  else if (event === "agent_completed") {
    const said = run.parts.findLast((part) => part.kind === "output");
    const { tone, text, detail } = endSentence(run);
    announce(
      tone === "ok"
        ? `${run.agent}: ${said && "text" in said ? said.text.slice(0, 400) : text}`
        : joined(" ", text, detail),
    );
  }
  if (!isShown && (event === "input_required" || event === "agent_completed")) thread.isUnseen = true;
}

/** The agents of `serve --dev`, and what they could be asked; who signed a token stands in its head. */
function welcomeAgents(token: string): void {
  const isDev = readToken(token, 0)["kid"] === DEV_KID;
  $("ideas").hidden = !isDev;
  if (isDev) for (const { agent } of IDEAS) composer.know(agent);
}

// ---- What is seen ----------

/** Draws soon, and all at once. A hidden tab has no frames, and a window that is covered may have none
 *  either. */
function schedule(): void {
  if (page.isScheduled) return;
  page.isScheduled = true;
  requestAnimationFrame(draw);
  setTimeout(draw, 250);
}

function draw(): void {
  if (!page.isScheduled) return;
  page.isScheduled = false;
  if (document.hidden) {
    // What nobody looks at is drawn when somebody does; only what shows on the tab is kept.
    drawTitle();
    return;
  }
  const thread = conversation.threads.get(page.shown ?? "");
  drawLog(thread);
  list.draw(conversation.threads, page.shown, link.isTrimmed);
  composer.draw(thread?.runs ?? []);
  link.draw();
  drawTitle();
  const isEmpty = !thread && !link.isFirstLoad;
  $("hello").hidden = !isEmpty || link.welcomes === 0;
  $("loading").hidden = !link.isFirstLoad || Boolean(thread);
  say($("who"), client.user ? `Signed in as ${client.user}` : "");
  if (page.isStuck) $("scroll").scrollTop = $("scroll").scrollHeight;
  $("latest").hidden = page.isStuck || !thread;
}

function drawLog(thread: Thread | undefined): void {
  if (page.drawn !== page.shown) {
    page.drawn = page.shown;
    views.clear();
    $("log").replaceChildren();
  }
  for (const [at, run] of (thread?.runs ?? []).entries()) {
    let view = views.get(run);
    if (!view) {
      view = new RunView(run, actions);
      views.set(run, view);
      view.draw(run.parts);
    } else if (dirty.has(run)) view.draw(dirty.get(run)!);
    const there = $("log").children[at];
    if (there !== view.node) $("log").insertBefore(view.node, there ?? null);
  }
  dirty.clear();
}

function drawTitle(): void {
  const runs = [...conversation.runs.values()];
  const asking = runs.filter((run) => openQuestions(run).length).length;
  const title = titleOf(conversation.threads.get(page.shown ?? ""));
  say($("title"), page.shown ? title : "");
  document.title = joined(
    " ",
    asking ? `(${asking})` : "",
    runs.some(isOpen) ? "●" : "",
    page.shown ? `${title} ·` : "",
    "Runcast",
  );
}

setInterval(() => {
  if (document.hidden) return;
  for (const view of views.values()) view.tick();
  if (client.state.status === "waiting") link.draw();
}, 1000);

// ---- Start ----------

for (const id of ["new", "new-narrow"]) {
  $(id).prepend(icon("new"));
  $(id).onclick = () => choose(undefined);
}
for (const { agent, text, title, note } of IDEAS) {
  const button = el("button", {}, el("b", {}, title), el("span", {}, note), el("small", {}, agent));
  button.onclick = () => composer.offer(agent, text);
  $("ideas").append(el("li", {}, button));
}
$("latest").prepend(icon("down"));
$("latest").onclick = () => {
  page.isStuck = true;
  schedule();
};
$("scroll").onscroll = () => {
  const { scrollTop, scrollHeight, clientHeight } = $("scroll");
  const isStuck = scrollHeight - scrollTop - clientHeight < 60;
  if (isStuck !== page.isStuck) schedule();
  page.isStuck = isStuck;
};
window.onpopstate = () => {
  page.isFollowing = false;
  show(threadInAddress());
};
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) show(page.shown);
});
schedule();
composer.focus();

/** For tests. `events` counts seqs: a joined event counts as what it joins. */
Object.defineProperty(window, "runcast", {
  value: Object.freeze({
    get state() {
      const { state, user, device } = client;
      const { epoch, seq: position = 0 } = client.position() ?? {};
      const each = (run: Run) => [run.id, { status: asText(run.end?.status) || run.state, ends: run.ends }];
      const runs = Object.fromEntries([...conversation.runs.values()].map(each));
      const { status: connection, transport } = state;
      const { welcomes: connections, isCatchingUp } = link;
      const said = {
        connection,
        transport,
        user,
        device,
        epoch,
        position,
        isCatchingUp,
        unanswered: unanswered.size,
      };
      return { ...said, ...counts, connections, runs };
    },
  }),
});
