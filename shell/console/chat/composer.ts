// Where one writes: a new message to an agent, or a word to the run that is at work.

import { $, el, icon, mark, say } from "./dom.js";
import { keepAgent, keepText, keptAgent, keptText } from "./keep.js";
import { isAtWork, isOpen, type Run } from "./model.js";

/** The agents that `--dev` serves; those that were ever asked join them. */
const BUILT_IN = ["files", "echo"];
const OTHER = "\n"; // no agent is called that
const AGENT = /^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}$/;

export interface Writer {
  ask(agent: string, input: unknown): void;
  steer(run: Run, text: string): void;
  cancel(run: Run): void;
  /** Why this cannot be sent, or nothing. */
  tooLong(input: unknown): string | undefined;
  problem(text: string): void;
}

/** An input may be any JSON: what looks like an object is sent as one. */
export function asInput(text: string): unknown {
  try {
    return text.startsWith("{") ? JSON.parse(text) : text;
  } catch {
    return text;
  }
}

export class Composer {
  readonly #text = $<HTMLTextAreaElement>("text");
  readonly #agent = $<HTMLSelectElement>("agent");
  readonly #other = $<HTMLInputElement>("agent-other");
  readonly #known: string[];
  #run: Run | undefined;

  constructor(private readonly writer: Writer) {
    this.#known = [...new Set([keptAgent() ?? "", ...BUILT_IN])].filter((name) => AGENT.test(name));
    this.#listAgents(this.#known[0]!);
    $("send").append(icon("send"));
    $("stop").append(icon("stop"));
    this.#text.value = keptText();
    $("compose").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    this.#text.oninput = () => this.#changed();
    this.#text.onkeydown = (event) => this.#key(event);
    $("stop").onclick = () => this.#run && this.writer.cancel(this.#run);
    $("mode").onchange = () => this.#changed();
    this.#agent.onchange = () => this.#chooseAgent();
    this.#other.onblur = () => this.#leaveOther();
    this.#changed();
  }

  focus(): void {
    // On a touch screen that would bring up the keyboard, unasked.
    if (matchMedia("(pointer: fine)").matches) this.#text.focus();
  }

  /** An agent that somebody has asked can be asked again. */
  know(agent: string): void {
    if (this.#known.includes(agent) || !AGENT.test(agent)) return;
    this.#known.push(agent);
    this.#listAgents(this.#agent.value);
  }

  /** Puts a text there, for an agent. It takes the place of nothing that was written. */
  put(text: string, agent?: string): void {
    if (this.#text.value.trim() === "") this.#text.value = text;
    if (agent) {
      this.know(agent);
      this.#agent.value = agent;
    }
    this.#changed();
  }

  /** Sends as if it had been written. */
  offer(agent: string, text: string): void {
    this.put("", agent);
    this.writer.ask(agent, asInput(text));
  }

  /** Shows what can be done about the runs of the thread that is shown. */
  draw(runs: Run[]): void {
    this.#run = runs.findLast(isAtWork) ?? runs.find((run) => isOpen(run) && !run.isCancelling);
    const canSteer = this.#run !== undefined && isAtWork(this.#run);
    if ($("mode").hidden !== canSteer && $("stop").hidden !== Boolean(this.#run)) return;
    $("mode").hidden = !canSteer;
    $("stop").hidden = !this.#run;
    if (!canSteer) $("mode").querySelector<HTMLInputElement>("[value=next]")!.checked = true;
    this.#changed();
  }

  get #isSteering(): boolean {
    return !$("mode").hidden && $("mode").querySelector<HTMLInputElement>("[value=steer]")!.checked;
  }

  #changed(): void {
    const steers = this.#isSteering;
    keepText(this.#text.value);
    // Where `field-sizing` is unknown, the field grows by its content all the same.
    if (!CSS.supports("field-sizing", "content")) {
      this.#text.style.height = "auto";
      this.#text.style.height = `${this.#text.scrollHeight}px`;
    }
    mark($("send"), "data-empty", this.#text.value.trim() === "" ? "" : undefined);
    $("agent-chip").hidden = steers;
    this.#text.placeholder = steers ? `Tell ${this.#run?.agent} something…` : "Ask something…";
    say(
      $("hint"),
      steers
        ? "Enter tells the agent"
        : this.#run
          ? "Enter sends · Esc stops the run"
          : "Enter sends · Shift+Enter for a new line",
    );
  }

  #key(event: KeyboardEvent): void {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "Escape" && this.#run) {
      this.writer.cancel(this.#run);
    }
  }

  #send(): void {
    const text = this.#text.value.trim();
    if (!text) return this.#text.focus();
    const agent = this.#agent.value === OTHER ? this.#other.value.trim() : this.#agent.value;
    if (!this.#isSteering && !AGENT.test(agent)) {
      this.writer.problem("An agent’s name has letters, digits and _ . : @ - in it.");
      return this.#other.focus();
    }
    const input = asInput(text);
    const problem = this.writer.tooLong(input);
    if (problem) return this.writer.problem(problem);
    this.#text.value = "";
    if (this.#isSteering && this.#run) this.writer.steer(this.#run, text);
    else this.writer.ask(agent, input);
    this.#changed();
  }

  #listAgents(chosen: string): void {
    const options = this.#known.map((name) => el("option", { value: name }, name));
    this.#agent.replaceChildren(...options, el("option", { value: OTHER }, "Another agent…"));
    this.#agent.value = chosen;
  }

  #chooseAgent(): void {
    const isOther = this.#agent.value === OTHER;
    this.#other.hidden = !isOther;
    if (isOther) this.#other.focus();
    else keepAgent(this.#agent.value);
  }

  /** A name that was typed becomes one to choose; none, and it is as before. */
  #leaveOther(): void {
    const name = this.#other.value.trim();
    this.#other.hidden = true;
    this.#other.value = "";
    if (AGENT.test(name)) {
      this.know(name);
      this.#agent.value = name;
      keepAgent(name);
    } else this.#agent.value = this.#known[0]!;
  }
}
