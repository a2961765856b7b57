// The list of threads: the one with the newest run first, each with what goes on in it.

import { $, el, icon, mark, say } from "./dom.js";
import { isOpen, openQuestions, type Run, type Thread, titleOf } from "./model.js";
import { joined } from "./values.js";
import { atTime, count, day } from "./words.js";

const newest = ({ runs }: Thread): number => runs.at(-1)?.seq || Infinity;
const touched = ({ runs }: Thread): number => Math.max(0, ...runs.map((run) => run.ts || run.asked));

/** What goes on in a thread, in a word for the eye and a sentence. */
function condition({ runs, isUnseen }: Thread): [state: string, text: string] {
  const open = runs.filter(isOpen);
  if (open.some((run) => openQuestions(run).length)) return ["waiting", "Needs your answer"];
  const more = open.length > 1 ? `${count(open.length, "run")} open` : "";
  const working = open.find(({ state }) => state === "running" || state === "waiting");
  if (working) return ["running", joined(" · ", working.isCancelling ? "Stopping" : "Working", more)];
  const [first] = open;
  if (first) return ["queued", joined(" · ", waits(first), more)];
  const last = runs.at(-1);
  const isBad =
    last?.state === "refused" || ["error", "timed_out", "worker_lost"].includes(last?.end?.status ?? "");
  const agents = [...new Set(runs.map(({ agent }) => agent))].slice(-2).join(", ");
  const facts = joined(" · ", agents, last && atTime(last.ts || last.asked));
  if (isBad) return [isUnseen ? "unseen-bad" : "", joined(" · ", "Did not end well", facts)];
  return [isUnseen ? "unseen" : "", joined(" · ", isUnseen ? "New" : "", facts)];
}

function waits({ state, place }: Run): string {
  if (state === "queued" && place) return `Place ${place.ahead + 1} in line`;
  return state === "retrying" ? "Will try again" : state === "sending" ? "Not sent yet" : "Starting";
}

export class ThreadList {
  readonly #rows = new Map<string, HTMLElement>();
  #groups = new Map<string, HTMLElement>();

  constructor(private readonly choose: (thread: string) => void) {}

  draw(threads: Map<string, Thread>, shown: string | undefined, isTrimmed: boolean): void {
    const order = [...threads.values()].sort((a, b) => newest(b) - newest(a));
    const groups = new Map<string, HTMLElement[]>();
    for (const thread of order) {
      const name = day(touched(thread) || Date.now());
      groups.set(name, [...(groups.get(name) ?? []), this.#row(thread, thread.id === shown)]);
    }
    for (const known of this.#rows.keys()) if (!threads.has(known)) this.#rows.delete(known);
    const lists = [...groups].map(([name, rows]) => this.#group(name, rows));
    const rest = isTrimmed ? [el("p", { class: "trimmed" }, "Older messages are not kept any more.")] : [];
    this.#tellNews(order.filter(({ id }) => id !== shown));
    this.#groups = new Map([...groups.keys()].map((name, at) => [name, lists[at]!]));
    setChildren($("threads"), [...lists, ...rest]);
  }

  /** On a narrow window the list is out of sight: its button says when there is something in it. */
  #tellNews(others: Thread[]): void {
    const asking = others.filter((thread) => condition(thread)[0] === "waiting").length;
    const news = asking + others.filter(({ isUnseen }) => isUnseen).length;
    const said = asking ? `: ${asking} of them ${asking === 1 ? "needs" : "need"} your answer` : "";
    mark($("side-open"), "data-news", news === 0 ? undefined : asking ? "waiting" : "unseen");
    mark($("side-open"), "aria-label", `Show the list of threads${said || (news ? ": there is news" : "")}`);
  }

  #group(name: string, rows: HTMLElement[]): HTMLElement {
    const known = this.#groups.get(name);
    const list = known?.lastElementChild ?? el("ul", { "aria-label": name });
    setChildren(list, rows);
    return known ?? el("section", {}, el("h2", {}, name), list);
  }

  #row(thread: Thread, isShown: boolean): HTMLElement {
    let row = this.#rows.get(thread.id);
    if (!row) {
      const words = el("span", { class: "thread-words" }, el("b"), el("small"));
      const button = el("button", {}, words, el("i", { class: "lamp", "aria-hidden": "true" }));
      button.onclick = () => this.choose(thread.id);
      row = el("li", {}, button);
      this.#rows.set(thread.id, row);
    }
    const button = row.firstElementChild!;
    const [state, text] = condition(thread);
    mark(button, "aria-current", isShown ? "true" : undefined);
    mark(button, "data-state", state || undefined);
    say(button.querySelector("b")!, titleOf(thread));
    say(button.querySelector("small")!, text);
    return row;
  }
}

/** Puts children where they belong and leaves those alone that are there, so that the focus stays. */
function setChildren(parent: Element, children: Element[]): void {
  for (const [at, child] of children.entries())
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  while (parent.children.length > children.length) parent.lastElementChild!.remove();
}

/** The list on a narrow window: a drawer over the conversation. */
export class Drawer {
  readonly #narrow = matchMedia("(max-width: 52rem)");

  constructor() {
    $("side-open").append(icon("menu"));
    $("side-close").append(icon("close"));
    $("side-open").onclick = () => this.#set(true);
    $("side-close").onclick = () => this.close();
    $("shade").onclick = () => this.close();
    $("side").addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#isOpen) {
        event.stopPropagation();
        this.close();
      }
    });
    this.#narrow.onchange = () => this.#set(false, false);
    this.#set(false, false);
  }

  close(): void {
    if (this.#isOpen) this.#set(false);
  }

  get #isOpen(): boolean {
    return document.body.classList.contains("drawer");
  }

  #set(isOpen: boolean, movesFocus = true): void {
    document.body.classList.toggle("drawer", isOpen);
    $("shade").hidden = !isOpen;
    mark($("side-open"), "aria-expanded", String(isOpen));
    // What lies under the drawer, or is the drawer and not there, is out of reach.
    $("side").inert = this.#narrow.matches && !isOpen;
    document.querySelector("main")!.inert = isOpen;
    if (movesFocus) $(isOpen ? "side-close" : "side-open").focus();
  }
}
