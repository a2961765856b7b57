// Elements, and what is said in them. Text is always set as text: nothing here makes markup of a string.

type Attributes = Record<string, string | boolean | undefined>;

/** The element of the page with this id. */
export function $<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  return document.getElementById(id) as Kind;
}

/** An element with attributes (`true` is one without a value) and children; strings become text. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const node = document.createElement(tag);
  if (tag === "button") node.setAttribute("type", "button");
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the page's symbols. It says nothing to a screen reader: words stand beside it. */
export function icon(name: string, state = name): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("data-state", state);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Sets a text only when it differs, so that screen readers are not told twice. */
export function say(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute, or takes it away, only when that changes something. */
export function mark(node: Element, name: string, value: string | undefined): void {
  if (value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Tells a screen reader, whatever is focused. The node is emptied first, so that the same words are heard
 *  again. */
export function announce(text: string, isUrgent = false): void {
  const node = $(isUrgent ? "assertive" : "polite");
  node.replaceChildren();
  setTimeout(() => node.append(el("p", {}, text)), 50);
}
