// Every conformance case of the protocol, against this client.

import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { play } from "./conformance.mjs";

const cases = new URL("../../../../tests/conformance/", import.meta.url);

for (const name of readdirSync(cases)
  .filter((name) => name.endsWith(".json"))
  .sort()) {
  const { about, cases: all } = JSON.parse(readFileSync(new URL(name, cases), "utf8"));
  describe(`${name}: ${about}`, () => {
    for (const script of all) test(`${script.name} (${script.rule})`, () => play(script));
  });
}
