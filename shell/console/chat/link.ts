// The connection on the page: how it is, what is done about it, what was missed, and who one is.

import type { Client, RuncastError, State, TokenReason, Welcome } from "../../clients/js/src/index.js";
import { $, announce, icon, mark, say } from "./dom.js";
import { keepToken, keptTokens, readToken, tokenFromAddress } from "./keep.js";
import { joined } from "./values.js";
import { count, resetSentence, seconds } from "./words.js";

const EXPIRING = "Your token expires soon. Give a new one to stay connected.";

/** What a door tells. */
interface Told {
  /** Each token that is to be used. */
  used(token: string): void;
  /** Somebody has given one. */
  given(): void;
  /** It was opened, or shut. */
  changed(): void;
}

/** Asks for a token when there is none, or none that is any good. */
export class Door {
  readonly #dialog = $<HTMLDialogElement>("door");
  readonly #field = $<HTMLInputElement>("token");
  #waiting: ((token: string) => void)[] = [];
  #token = tokenFromAddress() ?? keptTokens()[0];
  #handed: string | undefined;

  constructor(private readonly told: Told) {
    if (this.#token) this.#use(this.#token);
    $("later").onclick = () => this.#dialog.close();
    this.#dialog.onclose = () => told.changed();
    this.#dialog.querySelector("form")!.onsubmit = (event) => {
      event.preventDefault();
      const token = this.#field.value.trim();
      if (token) this.#give(token);
    };
    // A link with another token was opened in this tab: all begins anew, as that user.
    window.addEventListener("hashchange", () => {
      const token = tokenFromAddress();
      if (!token) return;
      keepToken(token);
      location.reload();
    });
  }

  /** Nobody goes on before somebody gives a token. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** For the client. A token that it has had is no good to it when it asks for another. */
  readonly token = (reason: TokenReason): string | Promise<string> => {
    const known = [this.#token, ...keptTokens().filter((token) => this.#isOfUser(token))];
    const other = known.find((token) => token && (reason === "connect" || token !== this.#handed));
    if (other) return (this.#handed = this.#use(other));
    this.open(reason === "expiring" ? EXPIRING : "");
    return new Promise((given) => this.#waiting.push(given));
  };

  /** `why` is kept when it is empty: the reason was told when the connection ended. */
  open(why = ""): void {
    if (why) say($("why"), why);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.told.changed();
  }

  /** The token that there is was refused. */
  because({ message, hint }: RuncastError): void {
    say($("why"), joined(" ", sentence(message), hint && sentence(hint)));
  }

  /** The newest of another tab may be another user's. */
  #isOfUser(token: string): boolean {
    return !this.#token || readToken(token, 1)["sub"] === readToken(this.#token, 1)["sub"];
  }

  #use(token: string): string {
    if (token === this.#token && token === this.#handed) return token;
    this.#token = token;
    keepToken(token);
    this.told.used(token);
    return token;
  }

  #give(token: string): void {
    this.#field.value = "";
    this.#dialog.close();
    say($("why"), "");
    this.#use(token);
    if (this.#waiting.length) this.#handed = token;
    for (const given of this.#waiting.splice(0)) given(token);
    this.told.given();
    this.told.changed();
  }
}

/** As a sentence: the daemon's words begin small and end without a stop. */
function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** How far a device that was away has come. */
interface CatchUp {
  to: number;
  missed: number;
  /** It had something before. */
  isAgain: boolean;
}

export class LinkView {
  #client: Client | undefined;
  #retryAt = 0;
  #catchUp: CatchUp | undefined;
  #welcomes = 0;
  #isTrimmed = false;
  #drains = false;
  #told = "";
  #toastTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly door: Door,
    private readonly schedule: () => void,
  ) {
    $("now").onclick = () => (this.door.isWaiting ? this.door.open() : this.#client?.reconnect());
    for (const event of ["online", "offline"]) window.addEventListener(event, () => this.schedule());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#client?.state.status === "waiting") this.#client.reconnect();
    });
  }

  /** How often it was welcomed. */
  get welcomes(): number {
    return this.#welcomes;
  }

  /** What there was at the `welcome` has not all come. */
  get isCatchingUp(): boolean {
    return this.#catchUp !== undefined;
  }

  /** Before anything can be shown of the past. */
  get isFirstLoad(): boolean {
    return this.#welcomes < 2 && (this.#welcomes === 0 || this.isCatchingUp) && !this.door.isWaiting;
  }

  get isConnected(): boolean {
    return this.#client?.state.status === "connected";
  }

  /** The oldest that the server keeps is not the first that there was. */
  get isTrimmed(): boolean {
    return this.#isTrimmed;
  }

  watch(client: Client): void {
    this.#client = client;
    client.on("state", (state) => this.#state(state));
    client.on("welcome", (welcome) => this.#welcome(client, welcome));
    client.on("notice", ({ notice, ...rest }) => {
      if (notice === "drain") {
        this.#drains = true;
        this.toast("The server is going down for a moment. Everything is kept.");
      } else if (notice === "backlog" && Number(rest["behind"]) > 0 && !this.isCatchingUp) {
        this.toast(`${count(Number(rest["behind"]), "event")} on the way to this device.`);
      }
    });
  }

  /** The history is another. */
  reset(reason: string): void {
    const node = $("history");
    const dismiss = document.createElement("button");
    dismiss.className = "quiet";
    dismiss.append(icon("close"));
    dismiss.setAttribute("aria-label", "Dismiss");
    dismiss.onclick = () => (node.hidden = true);
    node.replaceChildren(document.createTextNode(resetSentence(reason)), dismiss);
    node.hidden = false;
  }

  /** Says, once, that all that was missed is here. */
  took(seq: number): void {
    if (!this.#catchUp || seq < this.#catchUp.to) return;
    const { missed, isAgain } = this.#catchUp;
    this.#catchUp = undefined;
    if (isAgain) this.toast(missed ? `Back again. Caught up on ${count(missed, "event")}.` : "Back again.");
  }

  toast(text: string): void {
    clearTimeout(this.#toastTimer);
    say($("toast"), text);
    this.#toastTimer = setTimeout(() => say($("toast"), ""), 6000);
  }

  draw(): void {
    const state = this.#client?.state ?? { status: "connecting" as const };
    const isOffline = !navigator.onLine && state.status !== "connected";
    mark($("link"), "data-state", this.#isShut(state) ? "stopped" : state.status);
    say($("link-word"), this.#word(state));
    say($("link-detail"), this.#detail(state));
    mark($("link"), "title", this.#title(state));
    const isLost =
      this.door.isWaiting || state.status === "stopped" || (this.#welcomes > 0 && !this.isConnected);
    $("lost").hidden = !isLost;
    if (!isLost) return;
    say($("lost-text"), this.#sentence(state, isOffline));
    $("lost-kept").hidden = this.door.isWaiting || state.status === "stopped";
    $("now").hidden = state.status === "connecting" && !this.door.isWaiting;
    say(
      $("now"),
      this.door.isWaiting ? "Give a token" : state.status === "stopped" ? "Connect again" : "Try now",
    );
  }

  /** Nothing goes on before somebody gives a token; a connection whose token is about to expire does. */
  #isShut({ status }: State): boolean {
    return this.door.isWaiting && status !== "connected";
  }

  #word({ status }: State): string {
    if (this.#isShut({ status })) return "Not connected";
    if (status === "connected") return this.isCatchingUp ? "Catching up" : "Connected";
    if (status === "stopped") return "Disconnected";
    return this.#welcomes ? "Reconnecting" : "Connecting";
  }

  #detail({ status, transport }: State): string {
    if (status === "connected" && this.#catchUp) {
      const left = this.#catchUp.to - (this.#client?.position()?.seq ?? 0);
      return left > 0 ? `${left.toLocaleString("en")} left` : "";
    }
    return status === "connected" && transport === "sse" ? "without WebSocket" : "";
  }

  #title({ status, transport }: State): string | undefined {
    if (status !== "connected" || transport !== "sse") return undefined;
    return "Something on the way lets no WebSocket through: events come by server-sent events.";
  }

  #sentence({ status, error, code }: State, isOffline: boolean): string {
    if (this.door.isWaiting)
      return status === "connected" ? EXPIRING : "Not connected: a token is needed.";
    if (status === "stopped") {
      const why = error ? sentence(error.message) : "The server wants no more of this connection.";
      return joined(" ", "Disconnected.", why, code ? `(${code})` : "");
    }
    if (isOffline) return "You are offline.";
    const wait = this.#retryAt - Date.now();
    const what = this.#drains ? "The server is being restarted." : "The connection was lost.";
    const when = status === "waiting" && wait > 1000 ? `Trying again in ${seconds(wait)}.` : "Trying again…";
    return `${what} ${when}`;
  }

  #state(state: State): void {
    this.#retryAt = Date.now() + (state.retry_ms ?? 0);
    if (state.status === "connected") this.#drains = false;
    if (state.error && (state.code === 4501 || state.code === 4506)) this.door.because(state.error);
    if (state.status === "stopped" && state.code === 4501) this.door.open();
    const word = state.status === "connecting" ? this.#told : state.status;
    // Said once for each loss, however often it is tried.
    if (word !== this.#told && this.#welcomes > 0)
      announce(word === "connected" ? "Connected again." : "The connection was lost. Trying again.");
    this.#told = word;
    this.schedule();
  }

  #welcome(client: Client, { head, floor, resume }: Welcome): void {
    const at = client.position()?.seq ?? 0;
    this.#welcomes += 1;
    this.#isTrimmed = floor > 1;
    const isAgain = this.#welcomes > 1 && resume.status === "resumed";
    this.#catchUp = { to: head, missed: head - at, isAgain };
    this.took(at);
    this.schedule();
  }
}
