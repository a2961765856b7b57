// How much of a page's load this library is.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

test("the client is smaller than 8 KB, gzipped", (t) => {
  const file = readFileSync(new URL("../dist/runcast.min.js", import.meta.url));
  const { length } = gzipSync(file, { level: 9 });
  t.diagnostic(`${file.length} bytes, ${length} gzipped`);
  assert.ok(length < 8000, `${length} bytes`);
});

test("it brings nothing with it", () => {
  const { dependencies } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  assert.equal(dependencies, undefined);
});
