// What agents write, set as they mean it: the part of Markdown that they use. It is made of elements and
// text, never of markup, so nothing that an agent writes can become more than is said here. Text that grows
// is set again only from the block that is not finished.

import { el } from "./dom.js";

/** A block that has no end is cut here, so that setting it again stays cheap. */
const BLOCK_MAX = 4_000;

/** What there is within a line, in the order in which it is looked for. */
const INLINE = new RegExp(
  [
    /(`+)(.+?)\1(?!`)/, // code
    /\*\*(?=\S)(.+?\S?)\*\*/,
    /__(?=\S)(.+?\S?)__(?!\w)/,
    /(?<![\w*])\*(?=[^\s*])([^*]*?[^\s*])\*(?!\w)/,
    /(?<![\w_])_(?=[^\s_])([^_]*?[^\s_])_(?!\w)/,
    /~~(?=\S)(.+?)~~/,
    /!?\[([^\][]*)\]\((\S+?)(?:\s+"[^"]*")?\)/, // a link, or a picture, which becomes one
    /(https?:\/\/[^\s<>()"']+[^\s<>()"'.,;:!?])/,
    /\\([\\`*_{}[\]()#+\-.!~|>])/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "gs",
);

/** Where a link may lead; anything else stays text. */
const SAFE = /^(https?:\/\/|mailto:)/i;

function link(href: string, ...children: (Node | string)[]): HTMLElement {
  return el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}

/** Lists and quotes in one another; what is deeper stays text. */
const DEPTH_MAX = 8;

/** Longer than that it is no prose, and looking for emphasis in it would take long. */
const INLINE_MAX = 4 * BLOCK_MAX;

/** Text with its emphasis, code and links. */
export function inline(text: string, depth = 0): (Node | string)[] {
  if (text.length > INLINE_MAX) return [text];
  const nodes: (Node | string)[] = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, , code, strong, strong2, em, em2, struck, label, href, bare, escaped] = match;
    const deeper = (inner: string) => (depth < 4 ? inline(inner, depth + 1) : [inner]);
    if (match.index > at) nodes.push(text.slice(at, match.index));
    at = match.index + whole.length;
    const bold = strong ?? strong2;
    const slanted = em ?? em2;
    if (code !== undefined) nodes.push(el("code", {}, code.replace(/^ (.*[^ ].*) $/s, "$1")));
    else if (bold !== undefined) nodes.push(el("strong", {}, ...deeper(bold)));
    else if (slanted !== undefined) nodes.push(el("em", {}, ...deeper(slanted)));
    else if (struck !== undefined) nodes.push(el("s", {}, ...deeper(struck)));
    else if (href !== undefined) nodes.push(SAFE.test(href) ? link(href, ...deeper(label || href)) : whole);
    else if (bare !== undefined) nodes.push(link(bare, bare));
    else nodes.push(escaped ?? whole);
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

// A line may be as long as a message: none of these looks at a part of it twice.
const FENCE = /^ {0,3}(`{3,}(?!`)|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+)(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const DELIMITER = /^:?-+:?$/;

/** A block, how many lines it took, and whether nothing that follows can change it. The last line may
 *  still grow, so it neither is whole nor ends what is before it. */
interface Block {
  node: HTMLElement | undefined;
  lines: number;
  isWhole: boolean;
}

function fence(lines: string[], [, mark, rest]: RegExpExecArray): Block {
  const language = rest!.trim().split(/\s/, 1)[0];
  const isEnd = (line: string) => line.trim().startsWith(mark!) && !line.trim().replaceAll(mark![0]!, "");
  const length = lines.slice(1).findIndex(isEnd);
  const inside = length < 0 ? lines.slice(1) : lines.slice(1, length + 1);
  const code = el("code", {}, inside.join("\n"));
  const pre = el("pre", { tabindex: "0", "aria-label": language ? `${language} code` : "code" }, code);
  const node = el("figure", { class: "code", "data-language": language || undefined }, pre);
  const taken = inside.length + 1 + Number(length >= 0);
  return { node, lines: taken, isWhole: length >= 0 && taken < lines.length };
}

/** What stands in a heading, without the signs that may close it. */
function headed(text: string): string {
  let end = text.trimEnd().length;
  while (text[end - 1] === "#") end -= 1;
  return text.slice(0, end).trim();
}

function cells(line: string): string[] {
  const row = line.trim();
  const [from, to] = [Number(row.startsWith("|")), row.length - Number(row.endsWith("|"))];
  return row
    .slice(from, Math.max(from, to))
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** One by one: a call takes only so many. */
function holding(node: HTMLElement, children: HTMLElement[]): HTMLElement {
  for (const child of children) node.append(child);
  return node;
}

const isDelimiters = (line: string) =>
  line.includes("-") && cells(line).every((cell) => DELIMITER.test(cell));

function table(lines: string[]): Block {
  const end = lines.findIndex((line, at) => at > 1 && !line.includes("|"));
  const rows = lines.slice(2, end < 0 ? undefined : end);
  const width = cells(lines[0]!).length;
  const row = (tag: "th" | "td") => (line: string) =>
    el(
      "tr",
      {},
      ...cells(line)
        .slice(0, width)
        .map((cell) => el(tag, {}, ...inline(cell))),
    );
  const body = holding(el("tbody"), rows.map(row("td")));
  const node = el("table", {}, el("thead", {}, row("th")(lines[0]!)), body);
  const frame = el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, node);
  return { node: frame, lines: rows.length + 2, isWhole: end >= 0 && end < lines.length - 1 };
}

/** The list that begins here, with what is indented below its items. */
function list(lines: string[], depth: number): Block {
  const [, indent, first] = ITEM.exec(lines[0]!)!;
  const isOrdered = /\d/.test(first!);
  const node = isOrdered ? el("ol", { start: String(Number.parseInt(first!, 10)) }) : el("ul");
  const own = (line: string) => {
    const item = ITEM.exec(line);
    return item && item[1]!.length <= indent!.length && /\d/.test(item[2]!) === isOrdered ? item : undefined;
  };
  let at = 0;
  while (at < lines.length) {
    const item = own(lines[at]!);
    if (!item) break;
    const inner = item[1]!.length + item[2]!.length + 1;
    const isOver = (line: string) => own(line) !== undefined || !(/^\s{2,}\S/.test(line) || line === "");
    let end = at + 1;
    while (end < lines.length && !isOver(lines[end]!)) end += 1;
    let more = lines.slice(at + 1, end);
    while (more.at(-1) === "") more = more.slice(0, -1); // an empty line at its end is not the item's
    const below = more.map((line) => line.replace(new RegExp(`^\\s{0,${inner}}`), ""));
    node.append(holding(el("li", {}, ...inline(item[4]!)), nodes(below, depth + 1)));
    at += 1 + more.length;
    if (lines[at] === "" && lines[at + 1] !== undefined && own(lines[at + 1]!)) at += 1;
  }
  return { node, lines: at, isWhole: at < lines.length - 1 };
}

const begins = (line: string) =>
  FENCE.test(line) || HEADING.test(line) || ITEM.test(line) || RULE.test(line) || QUOTE.test(line);

function paragraph(lines: string[]): Block {
  let bytes = 0;
  let at = 0;
  for (; at < lines.length; at += 1) {
    const line = lines[at]!;
    bytes += line.length + 1;
    if (at > 0 && (line.trim() === "" || begins(line) || bytes > BLOCK_MAX)) break;
  }
  const node = el("p", {}, ...inline(lines.slice(0, at).join("\n")));
  return { node, lines: at, isWhole: at < lines.length - 1 };
}

function quote(lines: string[], depth: number): Block {
  const end = lines.findIndex((line) => !QUOTE.test(line));
  const inside = (end < 0 ? lines : lines.slice(0, end)).map((line) => line.replace(QUOTE, ""));
  const node = holding(el("blockquote"), nodes(inside, depth + 1));
  return { node, lines: inside.length, isWhole: end >= 0 && end < lines.length - 1 };
}

function block(lines: string[], depth = 0): Block {
  const line = lines[0]!;
  const isLast = lines.length === 1;
  if (line.trim() === "") return { node: undefined, lines: 1, isWhole: !isLast };
  const fenced = FENCE.exec(line);
  if (fenced) return fence(lines, fenced);
  const heading = HEADING.exec(line);
  if (heading) {
    const level = Math.min(6, heading[1]!.length + 3) as 4 | 5 | 6; // below those of the page
    return { node: el(`h${level}`, {}, ...inline(headed(heading[2]!))), lines: 1, isWhole: !isLast };
  }
  if (RULE.test(line)) return { node: el("hr"), lines: 1, isWhole: !isLast };
  if (QUOTE.test(line) && depth < DEPTH_MAX) return quote(lines, depth);
  if (ITEM.test(line) && depth < DEPTH_MAX) return list(lines, depth);
  if (line.includes("|") && isDelimiters(lines[1] ?? "")) return table(lines);
  return paragraph(lines);
}

/** The block that begins at a line. It is looked for in a few lines first: most blocks are short, and there
 *  may be very many of them. */
function blockAt(lines: string[], at: number, depth = 0): Block {
  for (let size = 64; ; size *= 4) {
    const found = block(lines.slice(at, at + size), depth);
    if (found.isWhole || at + size >= lines.length) return found;
  }
}

function nodes(lines: string[], depth: number): HTMLElement[] {
  const found: HTMLElement[] = [];
  for (let at = 0; at < lines.length;) {
    const next = blockAt(lines, at, depth);
    if (next.node) found.push(next.node);
    at += Math.max(1, next.lines);
  }
  return found;
}

/** A text that grows, in a node. */
export class Markdown {
  /** Up to here it is set for good. */
  #set = 0;
  #last: Node[] = [];

  constructor(readonly node: HTMLElement) {}

  /** Sets the text, of which only the end may be another than before. */
  update(text: string): void {
    for (const node of this.#last) node.parentNode?.removeChild(node);
    this.#last = [];
    const lines = text.slice(this.#set).split("\n");
    for (let at = 0; at < lines.length;) {
      const next = blockAt(lines, at);
      const taken = Math.max(1, next.lines);
      if (next.node) this.node.append(next.node);
      if (next.isWhole && !this.#last.length) {
        this.#set += lines.slice(at, at + taken).reduce((sum, line) => sum + line.length + 1, 0);
      } else if (next.node) this.#last.push(next.node);
      at += taken;
    }
  }

  /** Begins anew. */
  clear(): void {
    this.#set = 0;
    this.#last = [];
    this.node.replaceChildren();
  }
}
