// The two dialogs: who one is, and whether one is sure.

import { $, announce, say } from "../chat/dom.js";
import { Refusal, useToken } from "./daemon.js";

/** What is to be confirmed. */
export interface Question {
  title: string;
  text: string;
  /** What the button says that does it. */
  yes: string;
  /** A choice that is left to the operator, unchecked. */
  option?: string;
  /** Does it. What it returns is said when it is done. */
  act: (isOptionSet: boolean) => Promise<string>;
}

const dialog = $<HTMLDialogElement>("sure");
const [yes, no] = [$<HTMLButtonElement>("sure-yes"), $<HTMLButtonElement>("sure-no")];
const check = $<HTMLInputElement>("sure-check");
let question: Question | undefined;

no.onclick = () => dialog.close();
dialog.onclose = () => (question = undefined);
dialog.querySelector("form")!.onsubmit = (event) => {
  event.preventDefault();
  if (question && !yes.disabled) void carryOut(question);
};

/** Asks whether it is meant. What is safe has the focus. */
export function confirm(asked: Question): void {
  question = asked;
  say($("sure-title"), asked.title);
  say($("sure-text"), asked.text);
  say($("sure-why"), "");
  say(yes, asked.yes);
  $("sure-option").hidden = asked.option === undefined;
  say($("sure-option").querySelector("span")!, asked.option ?? "");
  check.checked = false;
  yes.disabled = false;
  dialog.showModal();
  no.focus();
}

async function carryOut(asked: Question): Promise<void> {
  yes.disabled = true;
  try {
    const done = await asked.act(check.checked);
    if (question === asked) dialog.close();
    toast(done);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (question === asked) say($("sure-why"), error.message);
    else toast(error.message);
  } finally {
    if (question === asked) yes.disabled = false;
  }
}

let toastTimer: ReturnType<typeof setTimeout> | undefined;

export function toast(text: string): void {
  clearTimeout(toastTimer);
  say($("toast"), text);
  toastTimer = setTimeout(() => say($("toast"), ""), 6_000);
}

/** Asks for a token. */
export class Door {
  readonly #dialog = $<HTMLDialogElement>("door");
  readonly #field = $<HTMLInputElement>("token");

  constructor(given: () => void) {
    // There is nothing to see without one.
    this.#dialog.oncancel = (event) => event.preventDefault();
    this.#dialog.querySelector("form")!.onsubmit = (event) => {
      event.preventDefault();
      const token = this.#field.value.trim();
      if (!token) return;
      this.#field.value = "";
      useToken(token);
      this.#dialog.close();
      given();
    };
  }

  open(why = ""): void {
    say($("door-why"), why);
    if (why) announce(why, true);
    dialog.close();
    if (!this.#dialog.open) this.#dialog.showModal();
  }
}
