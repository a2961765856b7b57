// Lists that stay where they are while what they show changes: a row is found again by its key, only what
// differs is set anew, and whoever is at a button there stays at it.

import { el, say } from "../chat/dom.js";

/** A row: its element, and how it is brought up to date. */
export interface Row<Item> {
  node: HTMLElement;
  update: (item: Item) => void;
}

/** A list of things of one kind in a panel of its own. */
export class Panel<Item> {
  /** Something is looked for: what is not shown may be there. */
  static isSearch = false;
  readonly node: HTMLElement;
  readonly #count = el("span", { class: "count" }, "0");
  readonly #note = el("p", { class: "none" });
  readonly #body: HTMLElement;
  readonly #box: HTMLElement;
  readonly #rows = new Map<string, Row<Item>>();

  /** `columns` names what stands in each row, for those who do not see it. */
  constructor(
    id: string,
    title: string,
    columns: string[],
    private readonly none: string,
    private readonly key: (item: Item) => string,
    private readonly make: (item: Item) => Row<Item>,
  ) {
    const heading = el("h2", { id: `${id}-title` }, title);
    const names = columns.map((name) => el("span", { role: "columnheader" }, name));
    const head = el("div", { role: "row", class: "cols visually-hidden" }, ...names);
    this.#body = el("div", { role: "rowgroup", class: "rows" });
    const table = el("div", { role: "table", "aria-labelledby": `${id}-title` }, head, this.#body);
    const box = { class: "box", tabindex: "0", role: "region", "aria-labelledby": `${id}-title` };
    this.#box = el("div", box, table, this.#note);
    this.node = el("section", { class: "panel", id }, el("header", {}, heading, this.#count), this.#box);
  }

  show(items: Item[], count = items.length): void {
    say(this.#count, count > items.length ? `${items.length} of ${count.toLocaleString("en")}` : `${count}`);
    say(this.#note, items.length ? "" : Panel.isSearch ? "Nothing here matches." : this.none);
    const focused = document.activeElement;
    const wasHere = focused instanceof HTMLElement && this.#body.contains(focused);
    const keys = new Set(items.map(this.key));
    for (const [key, row] of this.#rows) {
      if (keys.has(key)) continue;
      row.node.remove();
      this.#rows.delete(key);
    }
    let at = this.#body.firstElementChild;
    for (const item of items) {
      const key = this.key(item);
      const row = this.#rows.get(key) ?? this.make(item);
      this.#rows.set(key, row);
      row.update(item);
      if (row.node === at) at = at.nextElementSibling;
      else this.#body.insertBefore(row.node, at);
    }
    // What was moved has lost it; what is gone leaves it to its list.
    if (wasHere && document.activeElement !== focused) (focused.isConnected ? focused : this.#box).focus();
  }
}

/** A cell with these in it. */
export const cell = (name: string, ...children: (Node | string)[]): HTMLElement =>
  el("div", { role: "cell", class: name }, ...children);

export const row = (...cells: HTMLElement[]): HTMLElement => el("div", { role: "row", class: "row-of" }, ...cells);
