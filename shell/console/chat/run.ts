// One run on the page: what was asked, where it waits, what the agent does, and how it ended.

import { el, icon, mark, say } from "./dom.js";
import { isOpen, type Part, type Run, type Writing } from "./model.js";
import { PartsView, type Surroundings } from "./parts.js";
import { innerText, joined } from "./values.js";
import {
  doing,
  endSentence,
  figures,
  queueSentence,
  refusalSentence,
  seconds,
  type Sentence,
} from "./words.js";

/** What one can do with a run. */
export interface Actions extends Surroundings {
  isConnected(): boolean;
  cancel(run: Run): void;
  again(run: Run): void;
  copy?(text: string): Promise<void>;
}

/** So many people ahead are drawn; more are only counted. */
const DOTS = 12;

/** A colour for each agent, always the same. */
function hue(name: string): number {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)!) % 360;
  return sum;
}

/** The place in line: a number, a row of those before, and the daemon's words. */
class QueueView {
  readonly node = el("div", { class: "queue" });
  readonly #number = el("b");
  readonly #sentence = el("p");
  readonly #times = el("p", { class: "times" });
  readonly #dots = el("div", { class: "dots", "aria-hidden": "true" });

  constructor() {
    const place = el("div", { class: "place" }, this.#number, el("span", {}, "in line"));
    this.node.append(place, el("div", { class: "why" }, this.#sentence, this.#dots, this.#times));
  }

  draw({ place, state }: Run): void {
    this.node.hidden = state !== "queued" || !place;
    if (this.node.hidden || !place) return;
    say(this.#number, String(place.ahead + 1));
    say(this.#sentence, queueSentence(place));
    mark(this.node, "data-reason", place.reason || undefined);
    const passed = Date.now() - place.at;
    const left = place.eta === undefined ? undefined : place.eta - passed;
    this.#times.replaceChildren();
    say(
      this.#times,
      joined(
        " · ",
        place.waiting && place.waiting > 1 ? `${place.waiting} wait in all` : "",
        place.waited === undefined ? "" : `waited ${seconds(place.waited + passed)}`,
        left === undefined ? "" : left < 1000 ? "any moment now" : `about ${seconds(left)} to go`,
      ),
    );
    const dots = Math.min(place.ahead, DOTS);
    this.#dots.hidden = dots === 0;
    if (this.#dots.childElementCount !== dots + 1)
      this.#dots.replaceChildren(...Array.from({ length: dots }, () => el("i")), el("i", { class: "me" }));
  }
}

export class RunView {
  readonly node: HTMLElement;
  readonly #said = el("div", { class: "said" });
  readonly #from = el("p", { class: "from", hidden: true });
  readonly #face = el("span", { class: "face", "aria-hidden": "true" });
  readonly #agent = el("b", { class: "agent" });
  readonly #doing = el("span", { class: "doing" });
  readonly #cancel = el("button", { class: "quiet small" }, icon("stop"), "Stop");
  readonly #bar = el("progress", { max: "100", hidden: true, "aria-label": "Progress of the run" });
  readonly #queue = new QueueView();
  readonly #parts: PartsView;
  readonly #end = el("footer", { class: "end" });
  #ended = "";

  constructor(
    private readonly run: Run,
    private readonly actions: Actions,
  ) {
    this.#parts = new PartsView(run, actions);
    const head = el("header", {}, this.#face, this.#agent, this.#doing, this.#cancel);
    const turn = el("div", { class: "turn" }, head, this.#bar, this.#queue.node, this.#parts.node, this.#end);
    const heading = el("h3", { class: "visually-hidden" }, "You asked");
    this.node = el("article", { class: "run" }, this.#from, heading, this.#said, turn);
    this.#cancel.onclick = () => actions.cancel(run);
  }

  /** Draws what is another than before, and what goes on by itself. */
  draw(changed: Iterable<Part>): void {
    const { run } = this;
    mark(this.node, "data-run", run.id);
    mark(this.node, "data-state", run.state);
    mark(this.node, "aria-busy", String(isOpen(run)));
    this.#drawHead();
    this.#queue.draw(run);
    for (const part of changed) this.#parts.draw(part);
    this.#drawEnd();
  }

  /** Once a second: what counts. */
  tick(): void {
    if (!isOpen(this.run)) return;
    this.#drawHead();
    this.#queue.draw(this.run);
    for (const part of this.run.parts) if (part.kind === "question") this.#parts.redraw(part);
  }

  #drawHead(): void {
    const { run } = this;
    const text = innerText(run.input);
    say(this.#said, text);
    this.#said.hidden = text === "";
    // What can be scrolled can be reached by keyboard.
    mark(this.#said, "tabindex", text.length > 1200 ? "0" : undefined);
    const from = run.isTorn ? "The beginning of this run is not kept any more." : "";
    say(this.#from, run.parent ? joined(" ", "Asked by another run.", from) : from);
    this.#from.hidden = !this.#from.textContent;
    say(this.#agent, run.agent || "agent");
    say(this.#face, (run.agent || "?").slice(0, 1).toUpperCase());
    this.#face.style.setProperty("--hue", String(hue(run.agent)));
    say(this.#doing, doing(run, this.actions.now(), this.actions.isConnected()));
    this.#cancel.hidden = !isOpen(run);
    this.#cancel.disabled = run.isCancelling;
    mark(this.#cancel, "aria-label", `Stop: ${text.slice(0, 60)}`);
    this.#bar.hidden = run.state !== "running" || run.percent === undefined;
    this.#bar.value = run.percent ?? 0;
  }

  #drawEnd(): void {
    const { run } = this;
    const state = isOpen(run) ? "" : run.state;
    if (this.#ended === state) return;
    this.#ended = state;
    this.#end.replaceChildren();
    if (state === "refused" && run.refusal) this.#end.append(this.#notice(refusalSentence(run.refusal)));
    if (state !== "ended") return;
    const sentence = endSentence(run);
    if (sentence.tone === "ok") this.#end.append(this.#row(icon("ok"), ` ${sentence.text} · `));
    else this.#end.append(this.#notice(sentence), this.#row());
  }

  /** Something that did not end well: what, why, by which code, and the way on. */
  #notice({ tone, text, detail, code }: Sentence): HTMLElement {
    const again = el("button", { class: "small" }, icon("again"), "Try again");
    again.onclick = () => this.actions.again(this.run);
    const wait = this.run.refusal?.retry_ms ?? 0;
    if (wait > 0) countdown(again, wait);
    const words = el("div", { class: "words" }, el("p", {}, el("b", {}, text)));
    if (detail && detail !== text) words.append(el("p", { class: "detail" }, detail));
    if (code) words.append(el("code", {}, code));
    const kind = tone === "cut" ? "cut" : "bad";
    return el(
      "div",
      { class: "notice", "data-tone": tone },
      icon(kind),
      words,
      ...(this.run.agent ? [again] : []),
    );
  }

  #row(...before: (Node | string)[]): HTMLElement {
    const facts = el("span", { class: "figures" }, ...before, figures(this.run));
    const outputs = this.run.parts.filter(
      (part) => part.kind === "output" && part.attempt === this.run.attempt,
    );
    const text = outputs.map((part) => (part as Writing).text).join("\n\n");
    const row = el("div", { class: "row" }, facts);
    const { copy } = this.actions;
    if (!copy || !text) return row;
    const button = el("button", { class: "quiet small" }, icon("copy"), "Copy");
    button.onclick = async () => {
      await copy(text);
      say(button.lastChild!, "Copied");
      setTimeout(() => say(button.lastChild!, "Copy"), 2000);
    };
    row.append(button);
    return row;
  }
}

/** A button that waits for as long as the server asked. */
function countdown(button: HTMLButtonElement, ms: number): void {
  const end = Date.now() + ms;
  const word = button.lastChild!;
  const count = () => {
    const left = end - Date.now();
    button.disabled = left > 0;
    say(word, left > 0 ? `Try again in ${seconds(Math.max(1000, left))}` : "Try again");
    if (left > 0) setTimeout(count, Math.min(left, 1000));
  };
  count();
}
