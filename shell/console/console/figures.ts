// The figures at the top: each a number, what it is measured by, and what it was in the last two minutes.

import { el, mark, say } from "../chat/dom.js";
import { duration } from "../chat/words.js";
import type { Status } from "./daemon.js";

const SPAN_MS = 120_000;
const MINUTE_MS = 60_000;
const [WIDTH, HEIGHT] = [160, 36];

interface Sample {
  at: number;
  status: Status;
}

/** One figure: what it says, and the lines of its chart. A value that is not known leaves a gap. */
interface Figure {
  name: string;
  value: (status: Status, before: Status | undefined) => string;
  note: (status: Status, before: Status | undefined) => string;
  lines: { class: string; of: (status: Status, before: Status) => number | undefined }[];
  tone?: (status: Status) => string | undefined;
}

const whole = (n: number): string => n.toLocaleString("en");
const sum = (counts: Record<string, number>): number => Object.values(counts).reduce((a, b) => a + b, 0);
const ended = ({ totals }: Status): number => sum(totals.ended);
const failed = ({ totals }: Status): number =>
  (totals.ended["error"] ?? 0) + (totals.ended["timed_out"] ?? 0) + (totals.ended["worker_lost"] ?? 0);
const people = ({ delivery: { connections } }: Status): number =>
  sum(connections) - (connections["http"] ?? 0) - (connections["worker"] ?? 0);

/** The mean time to an acknowledgement between two looks. */
function acknowledged(status: Status, before: Status | undefined): number | undefined {
  const [now, then] = [status.totals.acknowledged, before?.totals.acknowledged];
  const count = now.count - (then?.count ?? 0);
  return count > 0 ? (now.sum_ms - (then?.sum_ms ?? 0)) / count : undefined;
}

/** In the words of the protocol, those that are not 0. */
function endings(status: Status, before: Status | undefined): string {
  const parts = Object.entries(status.totals.ended)
    .map(([word, count]) => [word, count - (before?.totals.ended[word] ?? 0)] as const)
    .filter(([, count]) => count > 0)
    .map(([word, count]) => `${whole(count)} ${word.replace("_", " ")}`);
  return parts.join(" · ") || "none in the last minute";
}

const high = (now: number, limit: number): string | undefined => (now >= limit * 0.8 ? "bad" : undefined);

const FIGURES: Figure[] = [
  {
    name: "Queued",
    value: ({ runs }) => whole(runs.queued),
    note: ({ limits }) => `of ${whole(limits.queued)}`,
    lines: [{ class: "line", of: ({ runs }) => runs.queued }],
    tone: ({ runs, limits }) => high(runs.queued, limits.queued),
  },
  {
    name: "Running",
    value: ({ runs }) => whole(runs.at_workers),
    note: ({ runs, limits }) => `${whole(runs.active)} of ${whole(limits.active)} places taken`,
    lines: [{ class: "line", of: ({ runs }) => runs.at_workers }],
  },
  {
    name: "Ended / min",
    value: (status, before) => whole(ended(status) - (before ? ended(before) : 0)),
    note: endings,
    lines: [
      { class: "line", of: (status, before) => ended(status) - ended(before) },
      { class: "line bad", of: (status, before) => failed(status) - failed(before) },
    ],
  },
  {
    name: "Connections",
    value: (status) => whole(people(status)),
    note: ({ users, delivery }) =>
      `${whole(users)} ${users === 1 ? "user" : "users"} · ${whole(delivery.connections["worker"] ?? 0)} of workers`,
    lines: [{ class: "line", of: people }],
    tone: (status) => high(sum(status.delivery.connections), status.limits.connections),
  },
  {
    name: "Delivery lag",
    value: ({ delivery }) => whole(delivery.behind),
    note: ({ delivery }) =>
      delivery.lagging > 0
        ? `events · ${whole(delivery.lagging)} over a window behind`
        : "events not acknowledged",
    lines: [{ class: "line", of: ({ delivery }) => delivery.behind }],
    tone: ({ delivery }) => (delivery.lagging > 0 ? "warn" : undefined),
  },
  {
    name: "Time to ack",
    value: (status, before) => {
      const mean = acknowledged(status, before);
      return mean === undefined ? "–" : mean < 10 ? `${mean.toFixed(1)} ms` : duration(mean);
    },
    note: () => "mean of the last minute",
    lines: [{ class: "line", of: acknowledged }],
  },
  {
    name: "Undelivered",
    value: ({ undelivered }) => whole(undelivered),
    note: ({ undelivered }) => (undelivered ? "ends that nobody has heard" : "every end was heard"),
    lines: [{ class: "line bad", of: ({ undelivered }) => undelivered }],
    tone: ({ undelivered }) => (undelivered ? "warn" : undefined),
  },
];

const SVG = "http://www.w3.org/2000/svg";

function svg(name: string, attributes: Record<string, string>): SVGElement {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** A figure on the page. */
class Tile {
  readonly node: HTMLElement;
  readonly #value = el("b", {}, "–");
  readonly #note = el("small", {}, "");
  readonly #chart = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": "no figures yet",
  });
  readonly #area = svg("path", { class: "area" });
  readonly #lines: SVGElement[];

  constructor(private readonly figure: Figure) {
    this.#lines = figure.lines.map((line) => svg("path", { class: line.class }));
    this.#chart.append(this.#area, ...this.#lines);
    const words = el("p", {}, el("span", { class: "name" }, figure.name), this.#value, this.#note);
    this.node = el("article", { class: "tile" }, words, this.#chart as unknown as HTMLElement);
  }

  draw(samples: Sample[]): void {
    const last = samples.at(-1);
    if (!last) return;
    const minuteAgo = samples.find(({ at }) => last.at - at <= MINUTE_MS) ?? last;
    say(this.#value, this.figure.value(last.status, minuteAgo.status));
    say(this.#note, this.figure.note(last.status, minuteAgo.status));
    mark(this.node, "data-tone", this.figure.tone?.(last.status));
    const lines = this.figure.lines.map(({ of }) => points(samples, of, last.at));
    const most = Math.max(1, ...lines.flat().map(({ y }) => y));
    lines.forEach((line, at) => mark(this.#lines[at]!, "d", path(line, most)));
    mark(this.#area, "d", area(lines[0]!, most));
    const values = lines[0]!.map(({ y }) => y);
    const [least, top] = [Math.min(...values), Math.max(...values)].map((n) => whole(Math.round(n * 10) / 10));
    mark(this.#chart, "aria-label", values.length ? `between ${least} and ${top}` : "no figures yet");
  }
}

interface Point {
  x: number;
  y: number;
}

function points(samples: Sample[], of: Figure["lines"][0]["of"], now: number): Point[] {
  const line: Point[] = [];
  samples.forEach(({ at, status }, index) => {
    const y = of(status, samples[index - 1]?.status ?? status);
    if (y !== undefined) line.push({ x: WIDTH * (1 - (now - at) / SPAN_MS), y });
  });
  return line;
}

const place = ({ x, y }: Point, most: number): string =>
  `${x.toFixed(1)} ${(HEIGHT - 2 - ((HEIGHT - 5) * y) / most).toFixed(1)}`;

const path = (line: Point[], most: number): string =>
  line.map((point, at) => `${at ? "L" : "M"}${place(point, most)}`).join("");

function area(line: Point[], most: number): string {
  const [first, last] = [line[0], line.at(-1)];
  if (!first || !last) return "";
  return `${path(line, most)}L${last.x.toFixed(1)} ${HEIGHT}L${first.x.toFixed(1)} ${HEIGHT}Z`;
}

export class Figures {
  #samples: Sample[] = [];
  readonly #tiles = FIGURES.map((figure) => new Tile(figure));

  constructor(at: HTMLElement) {
    at.append(...this.#tiles.map(({ node }) => node));
  }

  /** What is known by now. A daemon that was started anew counts from 0, and so does this. */
  add(status: Status, at: number): void {
    const last = this.#samples.at(-1);
    if (last && status.totals.accepted < last.status.totals.accepted) this.#samples = [];
    // The lists are of the moment: keeping them would keep them all.
    this.#samples.push({ at, status: { ...status, lists: undefined as never } });
    this.#samples = this.#samples.filter((sample) => at - sample.at <= SPAN_MS);
    for (const tile of this.#tiles) tile.draw(this.#samples);
  }
}
