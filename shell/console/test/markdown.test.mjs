// How answers are set while they grow: at every cut the same as if the text had come at once.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { build } from "esbuild";

/** As much of a document as is needed to see what was made. */
class Node {
  children = [];
  attributes = new Map();
  parentNode = undefined;

  constructor(tag) {
    this.tag = tag;
  }
  setAttribute(name, value) {
    this.attributes.set(name, value);
  }
  append(...children) {
    for (const child of children) {
      if (child instanceof Node) child.parentNode = this;
      this.children.push(child);
    }
  }
  removeChild(child) {
    this.children = this.children.filter((other) => other !== child);
  }
  replaceChildren() {
    this.children = [];
  }
  toString() {
    const within = this.children.map(String).join("");
    return `<${this.tag}>${within}</${this.tag}>`;
  }
}
globalThis.document = { createElement: (tag) => new Node(tag) };

const { outputFiles } = await build({
  entryPoints: [join(import.meta.dirname, "../chat/markdown.ts")],
  bundle: true,
  write: false,
  format: "esm",
});
const source = Buffer.from(outputFiles[0].text).toString("base64");
const { Markdown } = await import(`data:text/javascript;base64,${source}`);

function set(...texts) {
  const markdown = new Markdown(new Node("div"));
  for (const text of texts) markdown.update(text);
  return markdown.node.children.map(String).join("");
}

const CASES = {
  "a **b** _c_ `d*` e\nf\n\ng": "<p>a <strong>b</strong> <em>c</em> <code>d*</code> e\nf</p><p>g</p>",
  "# One\n## Two": "<h4>One</h4><h5>Two</h5>",
  "- a\n- b\n  - c\n\n1. d\n2. e":
    "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><ol><li>d</li><li>e</li></ol>",
  "```rs\nlet a = `1`;\n\n# no\n```\nb":
    "<figure><pre><code>let a = `1`;\n\n# no</code></pre></figure><p>b</p>",
  "> a\n> b\n\nc": "<blockquote><p>a\nb</p></blockquote><p>c</p>",
  "|a|b|\n|--|--|\n|1|`2`|\n\nc":
    "<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><code>2</code></td></tr>" +
    "</tbody></table></div><p>c</p>",
  "a_b_c 2*3*4 __init__ \\*x\\*": "<p>a_b_c 2*3*4 <strong>init</strong> *x*</p>",
  "[a](https://b.c) [d](javascript:e) https://f.g.": "<p><a>a</a> [d](javascript:e) <a>https://f.g</a>.</p>",
  "a\n***\nb": "<p>a</p><hr></hr><p>b</p>",
  "<b>&amp;": "<p><b>&amp;</p>",
};

for (const [text, expected] of Object.entries(CASES))
  test(`it is set as it is meant: ${JSON.stringify(text)}`, () => {
    assert.equal(set(text), expected);
    for (let step = 1; step <= 7; step += 1) {
      const cuts = [];
      for (let end = step; end < text.length + step; end += step) cuts.push(text.slice(0, end));
      assert.equal(set(...cuts), expected, `in pieces of ${step}`);
    }
  });

test("what is long and has no sense takes no long time", () => {
  for (const odd of ["*", "_", "`", "[", "**a ", "- ", "> ", "|", "#", "\\", "a_", "~~"]) {
    const text = odd.repeat(20_000);
    assert.ok(set(text).length > 0, odd);
  }
});

test("what is very long is set whole", () => {
  const count = (text, tag) => set(text).split(`<${tag}>`).length - 1;
  assert.equal(count("a\n\n".repeat(60_000), "p"), 60_000);
  assert.equal(count("- a\n".repeat(50_000), "li"), 50_000);
  assert.equal(count("> a\n>\n".repeat(50_000), "p"), 50_000);
  assert.equal(count(`a|b\n-|-\n${"a|b\n".repeat(150_000)}`, "tr"), 150_001);
  assert.equal(count("# a\n".repeat(50_000), "h4"), 50_000);
});

test("no line is so long that it is looked at for ever", () => {
  const blank = " ".repeat(1_000_000);
  const tails = ["a", "~", "`"].map((sign) => sign.repeat(1_000_000));
  const lines = [`# a${blank}x`, `-${blank}x`, ...tails.map((tail) => `\`\`\`${tail}\``), `${tails[1]}\``];
  for (const line of lines) assert.ok(set(line).length > 0);
  for (const line of [`-${blank}x`, `${blank}x`, `-${blank}`]) assert.ok(set(`a|b\n${line}`).length > 0);
  assert.ok(set(`a|b\n-|-\n|${blank}x|`).length > 0);
});
