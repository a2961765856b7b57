// The parts of a run on the page: what the agent thought and did, folded into one line when it is over; what
// it wrote; what it asked.

import { el, icon, mark, say } from "./dom.js";
import { Markdown } from "./markdown.js";
import {
  isOpen,
  type Line,
  type Part,
  type Question,
  type Run,
  type Step,
  type Tool,
  type Writing,
} from "./model.js";
import { QuestionView } from "./question.js";
import { asText, inBrief } from "./values.js";
import { atWork, count, duration, retrySentence } from "./words.js";

/** What the parts need to know of the page. */
export interface Surroundings {
  device(): string | undefined;
  now(): number;
  answer(run: Run, request: string, data: unknown): Promise<void>;
}

/** One part, drawn; `draw` is called after each change of it, or of its run. */
interface View {
  node: HTMLElement;
  draw(): void;
}

const ICONS: Record<string, string> = {
  __proto__: null as never,
  ok: "ok",
  interrupted: "cut",
  open: "open",
};
const stateIcon = (state: string) => icon(ICONS[state] ?? "bad", ICONS[state] ? state : "error");
const STATES: Record<string, string> = {
  __proto__: null as never,
  open: "running",
  ok: "done",
  error: "failed",
};

/** Whether anything more can come of what this part is. */
const isLive = (run: Run, part: Part) =>
  isOpen(run) && run.state !== "retrying" && part.attempt === run.attempt;

/** Adds to a node what its text has got since. */
class Pour {
  #replaced = 0;
  readonly #text = document.createTextNode("");

  constructor(readonly node: HTMLElement) {
    node.append(this.#text);
  }

  update({ text, replaced }: Writing): void {
    if (replaced !== this.#replaced) this.#text.data = "";
    this.#replaced = replaced;
    if (text.length > this.#text.length) this.#text.appendData(text.slice(this.#text.length));
  }
}

class Thought implements View {
  readonly node = el("li", { class: "thought" });
  readonly #text = el("div", { class: "text" });
  readonly #pour = new Pour(this.#text);

  constructor(private readonly part: Writing) {
    this.node.append(icon("thought"), this.#text);
  }

  draw(): void {
    this.#pour.update(this.part);
  }
}

class ToolRow implements View {
  readonly node = el("li", { class: "tool" });
  readonly #brief = el("span", { class: "brief" });
  readonly #took = el("span", { class: "took" });
  readonly #bar = el("progress", { max: "100", hidden: true, "aria-label": "Progress of the tool" });
  readonly #more = el("div", { class: "more" });
  readonly #head: HTMLElement;
  #filled = "";

  constructor(
    private readonly run: Run,
    private readonly part: Tool,
  ) {
    const name = el("b", {}, part.name);
    this.#head = el("summary", {}, icon("open"), name, this.#brief, this.#took, icon("chevron"));
    this.node.append(el("details", {}, this.#head, this.#more), this.#bar);
  }

  draw(): void {
    const { args, progress, percent, took } = this.part;
    const isRunning = this.part.state === "open" && isLive(this.run, this.part);
    const state = this.part.state === "open" && !isRunning ? "interrupted" : this.part.state;
    if (this.#head.firstElementChild?.getAttribute("data-state") !== state)
      this.#head.firstElementChild?.replaceWith(stateIcon(state));
    mark(this.node, "data-state", state);
    say(this.#brief, (isRunning && progress) || inBrief(args));
    const word = STATES[state] ?? state;
    say(
      this.#took,
      took === undefined ? word : state === "ok" ? duration(took) : `${word} · ${duration(took)}`,
    );
    this.#bar.hidden = !isRunning || percent === undefined;
    this.#bar.value = percent ?? 0;
    this.#fill();
  }

  #fill(): void {
    const { args, result, error, state } = this.part;
    if (this.#filled === state) return;
    this.#filled = state;
    const shown = [
      ["Given", asText(args)],
      ["Returned", state === "open" ? "" : asText(result)],
      ["Error", asText(error)],
    ].filter(([, text]) => text);
    this.#more.replaceChildren(
      ...shown.flatMap(([title, text]) => [
        el("h4", {}, title!),
        el("pre", { tabindex: "0", "aria-label": `${title} of ${this.part.name}` }, text!),
      ]),
    );
  }
}

class StepRow implements View {
  readonly node = el("li", { class: "step" });

  constructor(
    private readonly run: Run,
    private readonly part: Step,
  ) {}

  draw(): void {
    const isCut = this.part.state === "open" && !isLive(this.run, this.part);
    const state = isCut ? "interrupted" : this.part.state;
    const said = el("span", { class: "visually-hidden" }, ` (${STATES[state] ?? state})`);
    this.node.replaceChildren(stateIcon(state), el("span", {}, this.part.text, said));
  }
}

class CustomRow implements View {
  readonly node: HTMLElement;

  constructor(part: Line) {
    this.node = el("li", { class: "custom" }, icon("line"), el("span", {}, part.text));
  }

  draw(): void {}
}

const ROWS = ["thinking", "tool", "step", "custom"];

/** What an agent does between two pieces of its answer: open while it does, then one line that can be
 *  opened. */
class Activity implements View {
  readonly node: HTMLElement;
  readonly parts: Part[] = [];
  readonly #rows = el("ol");
  readonly #word = el("span", { class: "word" });
  readonly #details: HTMLDetailsElement;
  #isChosen = false;

  constructor(private readonly run: Run) {
    const head = el("summary", {}, this.#word, icon("chevron"));
    head.onclick = () => (this.#isChosen = true);
    this.#details = el("details", {}, head, this.#rows);
    this.node = el("div", { class: "activity" }, this.#details);
  }

  add(part: Part): View {
    this.parts.push(part);
    const view = row(this.run, part);
    this.#rows.append(view.node);
    return view;
  }

  draw(): void {
    const last = this.run.parts.findLast((part) => part.kind !== "said");
    const isNow = isLive(this.run, this.parts[0]!) && this.parts.includes(last!);
    mark(this.node, "data-live", isNow && this.run.state === "running" ? "" : undefined);
    say(this.#word, isNow && this.run.state === "running" ? `${atWork(this.run)}…` : this.#summary());
    if (!this.#isChosen) this.#details.open = isNow;
  }

  #summary(): string {
    const thoughts = this.parts.filter((part): part is Writing => part.kind === "thinking");
    const tools = this.parts.filter((part) => part.kind === "tool");
    const thought = thoughts.reduce((sum, part) => sum + part.until - part.ts, 0);
    const names = [...new Set(tools.map(({ name }) => name))];
    const bad = (state: string, word: string) => {
      const many = tools.filter((tool) => tool.state === state).length;
      return many ? `${many} ${word}` : "";
    };
    const used =
      names.length && names.length <= 3 ? `used ${names.join(", ")}` : `used ${count(tools.length, "tool")}`;
    const said = [
      thoughts.length ? (thought >= 1000 ? `Thought for ${duration(thought)}` : "Thought") : "",
      tools.length ? used : "",
      bad("error", "failed"),
      bad("interrupted", "interrupted"),
    ].filter(Boolean);
    const text = said.join(" · ") || count(this.parts.length, "step");
    return text[0]!.toUpperCase() + text.slice(1);
  }
}

function row(run: Run, part: Part): View {
  if (part.kind === "tool") return new ToolRow(run, part);
  if (part.kind === "step") return new StepRow(run, part);
  if (part.kind === "thinking") return new Thought(part);
  return new CustomRow(part as Line);
}

class Answer implements View {
  readonly node = el("div", { class: "output" });
  readonly #markdown = new Markdown(this.node);
  #replaced = 0;
  #length = -1;

  constructor(private readonly part: Writing) {}

  draw(): void {
    const { text, replaced } = this.part;
    if (replaced !== this.#replaced) this.#markdown.clear();
    if (replaced !== this.#replaced || text.length !== this.#length) this.#markdown.update(text);
    [this.#replaced, this.#length] = [replaced, text.length];
  }
}

class Asked implements View {
  readonly node: HTMLElement;
  readonly #view: QuestionView;

  constructor(
    private readonly run: Run,
    private readonly part: Question,
    private readonly around: Surroundings,
  ) {
    this.#view = new QuestionView(part, (data) => around.answer(run, part.request, data));
    this.node = this.#view.node;
  }

  draw(): void {
    const isOpen = this.run.state === "waiting" && isLive(this.run, this.part) && !this.part.answer;
    this.#view.draw(isOpen && !this.run.isCancelling, this.around.device(), this.around.now());
  }
}

class Told implements View {
  readonly node: HTMLElement;

  constructor(part: Line, around: Surroundings) {
    const isMine = !part.device || part.device === around.device();
    const who = el("small", {}, isMine ? "You added" : "Added on another device");
    this.node = el("div", { class: "steer" }, icon("steer"), el("div", {}, who, el("p", {}, part.text)));
  }

  draw(): void {}
}

/** One attempt: the last stands open, those before it are folded. */
class Attempt {
  readonly node: HTMLDetailsElement;
  readonly #title = el("span");
  readonly #blocks = el("div", { class: "blocks" });
  #activity: Activity | undefined;

  constructor(
    private readonly run: Run,
    private readonly number: number,
  ) {
    const head = el("summary", {}, icon("again"), this.#title, icon("chevron"));
    this.node = el("details", { class: "attempt", open: true }, head, this.#blocks);
  }

  add(part: Part, around: Surroundings): View[] {
    if (ROWS.includes(part.kind)) {
      const isNew = !this.#activity;
      this.#activity ??= new Activity(this.run);
      if (isNew) this.#blocks.append(this.#activity.node);
      return [this.#activity.add(part), this.#activity];
    }
    this.#activity = undefined;
    if (part.kind === "retrying") {
      this.#fold(part as Line);
      return [];
    }
    const view = this.#view(part, around);
    this.#blocks.append(view.node);
    return [view];
  }

  #view(part: Part, around: Surroundings): View {
    if (part.kind === "question") return new Asked(this.run, part, around);
    if (part.kind === "said") return new Told(part, around);
    return new Answer(part as Writing);
  }

  #fold(part: Line): void {
    this.node.classList.add("earlier");
    this.node.open = false;
    say(this.#title, retrySentence(this.number, part.text));
  }
}

/** All parts of a run. */
export class PartsView {
  readonly node = el("div", { class: "attempts" });
  readonly #views = new Map<Part, View[]>();
  #attempt: { number: number; view: Attempt } | undefined;

  constructor(
    private readonly run: Run,
    private readonly around: Surroundings,
  ) {}

  draw(part: Part): void {
    let views = this.#views.get(part);
    if (!views) {
      if (this.#attempt?.number !== part.attempt) {
        this.#attempt = { number: part.attempt, view: new Attempt(this.run, part.attempt) };
        this.node.append(this.#attempt.view.node);
      }
      views = this.#attempt.view.add(part, this.around);
      this.#views.set(part, views);
    }
    for (const view of views) view.draw();
  }

  /** Draws a part again. One that was never drawn waits for its turn: parts take their places in order. */
  redraw(part: Part): void {
    if (this.#views.has(part)) this.draw(part);
  }
}
