// What an agent asks (`input_required`): buttons where there is a choice, fields where there is none. Which,
// its schema says, as far as it is understood; whatever is not can be answered in words.

import { el, icon, say } from "./dom.js";
import type { Question } from "./model.js";
import { asList, asNumber, asObject, asText, type Data, innerText } from "./values.js";
import { seconds } from "./words.js";

/** More than that are no buttons any more. */
const BUTTONS = 8;

interface Choice {
  label: string;
  value: unknown;
  hint: string;
}

/** The answers that a schema allows, if it names them. */
function choices(schema: unknown): Choice[] {
  const { type, enum: values, enumNames, oneOf, anyOf } = asObject(schema) as Data;
  const names = asList(enumNames);
  if (Array.isArray(values))
    return values.map((value, at) => ({ label: asText(names[at] ?? value), value, hint: "" }));
  const options = asList(oneOf ?? anyOf).map(asObject);
  if (options.length && options.every((option) => "const" in option))
    return options.map(({ const: value, title, description }) => {
      return { label: asText(title ?? value), value, hint: asText(description) };
    });
  if (type !== "boolean") return [];
  return [
    { label: "Yes", value: true, hint: "" },
    { label: "No", value: false, hint: "" },
  ];
}

/** A field for one value, and what is in it: undefined when it is empty. */
interface Field {
  node: HTMLElement;
  control: HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;
  read(): unknown;
}

function selection(found: Choice[], isRequired: boolean, byDefault: unknown): Field {
  const options = found.map(({ label }, at) => el("option", { value: String(at) }, label));
  const control = el("select", { required: isRequired }, el("option", { value: "" }, "Choose…"), ...options);
  const at = found.findIndex(({ value }) => value === byDefault);
  if (at >= 0) control.value = String(at);
  return { node: control, control, read: () => found[Number(control.value || -1)]?.value };
}

function numberField(schema: Data, isRequired: boolean): Field {
  const bound = (name: string) => asNumber(schema[name])?.toString();
  const step = schema["type"] === "integer" ? "1" : "any";
  const [min, max] = [bound("minimum"), bound("maximum")];
  const control = el("input", { type: "number", step, min, max, required: isRequired });
  control.value = asText(schema["default"]);
  return { node: control, control, read: () => (control.value === "" ? undefined : control.valueAsNumber) };
}

/** Any JSON, for what there is no better field for. */
function jsonField(isRequired: boolean): Field {
  const control = el("textarea", {
    rows: "3",
    spellcheck: "false",
    required: isRequired,
    placeholder: "JSON",
  });
  control.oninput = () => control.setCustomValidity("");
  const read = () => {
    try {
      return control.value === "" ? undefined : JSON.parse(control.value);
    } catch {
      control.setCustomValidity("That is not JSON.");
      control.reportValidity();
      throw new Error("not JSON");
    }
  };
  return { node: control, control, read };
}

function field(schema: unknown, isRequired: boolean): Field {
  const known = asObject(schema);
  const found = choices(schema);
  if (found.length) return selection(found, isRequired, known["default"]);
  const type = known["type"];
  if (type === "number" || type === "integer") return numberField(known, isRequired);
  if (type === "object" || type === "array") return jsonField(isRequired);
  const kinds: Data = { __proto__: null, email: "email", uri: "url", date: "date", password: "password" };
  const kind = asText(kinds[asText(known["format"])]) || "text";
  const maxlength = asNumber(known["maxLength"])?.toString();
  const control = el("input", { type: kind, required: isRequired, maxlength, autocomplete: "off" });
  control.value = asText(known["default"]);
  return { node: control, control, read: () => control.value || undefined };
}

/** The fields of an object, where each is a plain value. */
function properties(schema: unknown): [string, Data][] {
  const { type, properties } = asObject(schema);
  const all = Object.entries(asObject(properties)).map(
    ([name, of]) => [name, asObject(of)] as [string, Data],
  );
  const isPlain = ([, { type }]: [string, Data]) => type !== "object" && type !== "array";
  return type === "object" && all.length <= 12 && all.every(isPlain) ? all : [];
}

let count = 0;

/** A question, as it is asked and as it was answered. */
export class QuestionView {
  readonly node: HTMLElement;
  readonly #form: HTMLFormElement;
  readonly #answer = el("p", { class: "answer" });
  readonly #note = el("p", { class: "note", role: "status" });
  #isSent = false;

  constructor(
    private readonly question: Question,
    private readonly send: (data: unknown) => Promise<void>,
  ) {
    const id = `question-${++count}`;
    const head = el(
      "p",
      { class: "prompt", id },
      icon("ask"),
      el("span", {}, question.prompt || "The agent asks."),
    );
    this.#form = el("form", { class: "fields" });
    this.#form.append(...this.#controls(id));
    this.#form.onsubmit = (event) => event.preventDefault();
    const attributes = { class: "question", role: "group", "aria-labelledby": id, tabindex: "-1" };
    this.node = el("section", attributes, head, this.#form, this.#note, this.#answer);
  }

  /** Whether it can be answered, and else by what it was. `mine` is this device's name. */
  draw(isOpen: boolean, mine: string | undefined, now: number): void {
    const { answer, expires } = this.question;
    const hadFocus = this.#form.contains(document.activeElement);
    this.#form.hidden = !isOpen;
    this.node.classList.toggle("open", isOpen);
    if (isOpen) {
      const left = expires === undefined ? Number.NaN : expires - now;
      if (!this.#isSent) say(this.#note, left < 3_600_000 ? `${seconds(left)} left to answer` : "");
      return;
    }
    say(this.#note, "");
    say(this.#answer, "");
    this.#answer.append(...this.#outcome(answer, mine));
    // What had the focus is gone: those who use a keyboard go on from here.
    if (hadFocus) this.node.focus();
  }

  #outcome(answer: Question["answer"], mine: string | undefined): (Node | string)[] {
    if (!answer) return ["It was not answered: the run went on or ended without."];
    if (answer.expired) return ["Nobody answered in time."];
    const found = choices(this.question.schema).find(({ value }) => same(value, answer.data));
    const isMine = answer.device === undefined || answer.device === "" || answer.device === mine;
    const who = isMine ? "You answered" : "Answered on another device";
    return [`${who}: `, el("strong", {}, found?.label ?? innerText(answer.data))];
  }

  async #give(data: unknown): Promise<void> {
    if (this.#isSent) return;
    this.#busy(true);
    say(this.#note, "Sending your answer…");
    try {
      await this.send(data);
    } catch (error) {
      const { code, message } = error as { code?: string; message?: string };
      const isLate = code === "input_already_given";
      say(this.#note, isLate ? "Another device answered first." : (message ?? "It could not be sent."));
      this.#busy(isLate); // who was first is told by the event that is on its way
    }
  }

  #busy(isSent: boolean): void {
    this.#isSent = isSent;
    for (const control of this.#form.elements) (control as HTMLButtonElement).disabled = isSent;
  }

  #controls(labelledBy: string): Node[] {
    const { schema } = this.question;
    const found = choices(schema);
    if (found.length && found.length <= BUTTONS) return [this.#buttons(found)];
    const all = properties(schema);
    return all.length ? this.#several(all) : [this.#single(schema, labelledBy)];
  }

  #buttons(found: Choice[]): HTMLElement {
    const buttons = found.map(({ label, value, hint }) => {
      const button = el(
        "button",
        { class: "choice" },
        el("b", {}, label),
        ...(hint ? [el("small", {}, hint)] : []),
      );
      button.onclick = () => void this.#give(value);
      return button;
    });
    return el("div", { class: "choices" }, ...buttons);
  }

  #single(schema: unknown, labelledBy: string): HTMLElement {
    const { node, control, read } = field(schema, true);
    control.setAttribute("aria-labelledby", labelledBy);
    if (control instanceof HTMLInputElement) control.placeholder ||= "Your answer";
    const button = el("button", { class: "main" }, "Answer");
    button.type = "submit";
    this.#form.addEventListener("submit", () => this.#read(read));
    return el("div", { class: "row" }, node, button);
  }

  #several(all: [string, Data][]): HTMLElement[] {
    const required = asList(asObject(this.question.schema)["required"]);
    const fields = all.map(([name, of]) => ({ name, of, ...field(of, required.includes(name)) }));
    const rows = fields.map(({ name, of, node }) => {
      const hint = asText(of["description"]);
      const label = el(
        "span",
        {},
        asText(of["title"]) || name,
        required.includes(name) ? "" : " (if you like)",
      );
      return el("label", { class: "field" }, label, node, ...(hint ? [el("small", {}, hint)] : []));
    });
    const button = el("button", { class: "main" }, "Answer");
    button.type = "submit";
    const read = () => {
      const values = fields.map(({ name, read }) => [name, read()] as const);
      return Object.fromEntries(values.filter(([, value]) => value !== undefined));
    };
    this.#form.addEventListener("submit", () => this.#read(read));
    return [...rows, el("div", { class: "row end" }, button)];
  }

  #read(read: () => unknown): void {
    try {
      void this.#give(read());
    } catch {
      // The field itself says what is wrong.
    }
  }
}

const same = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);
