// Which device this is, and where it is kept how far it is. Tabs of one browser are told apart: each takes a
// place of its own in the storage, and holds a lock on its name while it lives.

import { randomHex } from "./outbox.js";
import type { Position } from "./protocol.js";

/** A `localStorage`, `sessionStorage`, or anything like it. */
export interface Keep {
  getItem(name: string): string | null;
  setItem(name: string, value: string): void;
}

/** What is kept: the device's name, and its position in each stream ("" is the user's own). */
interface Kept {
  device: string;
  at: Record<string, Position>;
}

/** More places than a server keeps devices of a user are of no use. */
const PLACES = 64;

const makeName = () => `js-${randomHex()}`;

/** Holds the name until `released`; false when another tab has it. Without locks (plain HTTP) nobody can
 *  know. */
function hold(name: string, released: Promise<void>): Promise<boolean> {
  const { locks } = globalThis.navigator ?? {};
  if (!locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    const keep = (lock: Lock | null) => (resolve(!!lock), lock ? released : undefined);
    locks.request(name, { ifAvailable: true }, keep).catch(() => resolve(true));
  });
}

/** One tab after the other: two that start together would find the same place. */
function inTurn(find: () => Promise<void>): Promise<void> {
  const { locks } = globalThis.navigator ?? {};
  return locks ? locks.request("runcast", find).catch(find) : find();
}

export class Place {
  device = makeName();
  at: Record<string, Position> = {};
  #taken = false;
  #name: string | undefined;
  #release: () => void = () => {};
  readonly #released = new Promise<void>((release) => (this.#release = release));

  constructor(
    private readonly keep: Keep | undefined,
    /** What the application calls this device; such a name is never changed. */
    private readonly given: string | undefined,
  ) {
    this.device = given ?? this.device;
  }

  /** Finds this tab's own place in the storage. */
  async take(): Promise<void> {
    if (!this.keep || this.#taken) return;
    this.#taken = true;
    await inTurn(() => this.#find());
  }

  async #find(): Promise<void> {
    for (let n = 0; n < PLACES; n += 1) {
      const name = `runcast.${this.given ?? n}`;
      const kept = this.#read(name);
      const device = kept?.device ?? this.device;
      if (!this.given && !(await hold(`runcast.${device}`, this.#released))) continue;
      this.device = device;
      this.at = kept?.at ?? {};
      this.#name = name;
      return this.#write();
    }
  }

  /** Says how far a stream is, or that it is no more. */
  move(topic: string, position: Position | undefined): void {
    if (position) this.at[topic] = position;
    else delete this.at[topic];
    this.#write();
  }

  /** Another tab has our name after all. False when the name is not ours to change. */
  rename(): boolean {
    if (this.given) return false;
    this.device = makeName();
    this.#name = undefined;
    return true;
  }

  close(): void {
    this.#release();
  }

  #read(name: string): Kept | undefined {
    try {
      return JSON.parse(this.keep!.getItem(name)!) ?? undefined;
    } catch {
      return undefined; // no storage, or not ours: as if nothing were kept
    }
  }

  #write(): void {
    if (!this.#name) return;
    try {
      this.keep!.setItem(this.#name, JSON.stringify({ device: this.device, at: this.at }));
    } catch {
      // Full or forbidden: then nothing outlives this page.
    }
  }
}
