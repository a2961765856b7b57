// Builds the pages that are embedded in the daemon: `chat/` with the JavaScript client becomes `chat.html`,
// one file that asks for nothing from elsewhere, and `chat.csp`, the policy that lets a browser run that
// script and that style and nothing else; `console/` likewise. All are committed, so that the daemon is built without Node.js and
// without a network; with `--check` nothing is written, and it fails unless what is committed is what would
// be built.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";

const here = import.meta.dirname;
const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
/** What a page may be long. */
const BYTES_MAX = { "console.html": 60_000 };
const isCheck = process.argv.includes("--check");

/** One source and all it imports, as a browser takes it. */
async function bundle(source) {
  const { outputFiles } = await build({
    entryPoints: [join(here, source)],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    charset: "utf8",
    legalComments: "none",
    target: ["es2022", "chrome111", "firefox115", "safari16.4"],
  });
  return outputFiles[0].text.trim();
}

const hashOf = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** A page and its policy, by the names of their files. */
async function page(name) {
  const [style, script] = [await bundle(`${name}/${name}.css`), await bundle(`${name}/main.ts`)];
  // What stands in markup must not end it.
  if (/<\/(style|script)/i.test(style + script)) throw new Error(`${name} would end its own element`);
  const html = readFileSync(join(here, name, "index.html"), "utf8")
    .replace("<!-- style -->", () => `<style>${style}</style>`)
    .replace("<!-- script -->", () => `<script type="module">${script}</script>`);
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ];
  return { [`${name}.html`]: html, [`${name}.csp`]: policy.join("; ") };
}

execFileSync(process.execPath, [compiler, "--project", here], { stdio: "inherit" });
for (const [file, built] of Object.entries({ ...(await page("chat")), ...(await page("console")) })) {
  if (file in BYTES_MAX) {
    const bytes = Buffer.byteLength(built);
    console.log(`${file}: ${bytes.toLocaleString("en")} of ${BYTES_MAX[file].toLocaleString("en")} bytes`);
    if (bytes > BYTES_MAX[file]) process.exitCode = 1;
  }
  const path = join(here, file);
  if (!isCheck) writeFileSync(path, built);
  else if (readFileSync(path, "utf8") !== built) {
    console.error(
      `shell/console/${file} is not what is built from its sources: npm run build, and commit it`,
    );
    process.exitCode = 1;
  }
}
