// What is known of the one thing that is looked for: a user, with all connections and devices, or a run that
// has ended and is in no list any more.

import { $, el, say } from "../chat/dom.js";
import { duration } from "../chat/words.js";
import { ask, Refusal, type Run, type Status, type User } from "./daemon.js";
import { type Actions, ago } from "./lists.js";

export class Found {
  #find = "";
  /** The last that was asked about and answered, or is being asked about. */
  #asked = "";
  #isKnown = false;

  constructor(actions: Actions) {
    $("found-disconnect").onclick = () => actions.disconnect(this.#find);
  }

  look(find: string): void {
    if (find === this.#find) return;
    this.#find = find;
    this.#isKnown = false;
    this.#asked = "";
    $("found").hidden = true;
  }

  /** What was nothing before may be listed now: a run, or a user who has one or has connected. */
  show({ lists }: Status): void {
    const all = [lists.runs, lists.queued, lists.ended, lists.connections].flatMap<{ user: string; run?: string }>(
      ({ items }) => items,
    );
    if (!this.#isKnown && all.some(({ user, run }) => [user, run].includes(this.#find))) this.#asked = "";
  }

  /** Asks what is known of it. Of most of what is typed nothing is. */
  async ask(): Promise<void> {
    const find = this.#find;
    if (!find) return;
    const isRun = find.startsWith("run_");
    const path = isRun ? `/v1/runs/${encodeURIComponent(find)}` : `/v1/users/${encodeURIComponent(find)}`;
    if (!this.#isKnown && this.#asked === find) return;
    this.#asked = find;
    try {
      const answer = await ask<User | Run>(path);
      if (find !== this.#find) return;
      if (isRun) this.#showRun(answer as Run);
      else this.#showUser(answer as User);
      this.#isKnown = true;
      $("found").hidden = false;
    } catch (error) {
      if (!(error instanceof Refusal) || ![400, 404].includes(error.status)) {
        // That was no answer: the next look asks again.
        this.#asked = "";
        throw error;
      }
      // It is no user and no run, or only the beginning of one.
      if (find !== this.#find) return;
      this.#isKnown = false;
      $("found").hidden = true;
    }
  }

  #showUser(user: User): void {
    say($("found-title"), `User ${user.user}`);
    $("found-disconnect").hidden = user.connections.length === 0;
    const devices = user.devices.map(({ device, lag, heard_ts }) => {
      const heard = heard_ts ? `heard ${ago(Date.now() - heard_ts)}` : "not heard of";
      return el("li", {}, el("b", {}, device), ` ${lag.toLocaleString("en")} behind · ${heard}`);
    });
    const facts = facets({
      Events: user.head.toLocaleString("en"),
      "Open runs": user.runs.length,
      Connections: user.connections.length,
      Devices: user.devices.length,
      Undelivered: user.undelivered,
    });
    $("found-body").replaceChildren(facts, el("ul", { class: "devices", "aria-label": "Devices" }, ...devices));
  }

  #showRun(run: Run): void {
    say($("found-title"), `Run ${run.run}`);
    $("found-disconnect").hidden = true;
    const when = run.ended_ts === undefined ? "" : `ended ${ago(Date.now() - run.ended_ts)}`;
    const facts = facets({
      State: run.status ?? run.state,
      User: run.user,
      Thread: run.thread,
      Agent: run.agent,
      Attempt: run.attempt,
      Queued: duration(run.queued_ms),
      Ran: duration(run.running_ms),
      When: when || "not ended",
    });
    $("found-body").replaceChildren(facts);
  }
}

function facets(facts: Record<string, string | number>): HTMLElement {
  const pairs = Object.entries(facts).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, String(value))),
  );
  return el("dl", { class: "facts" }, ...pairs);
}
