// Builds `dist`: the modules with their types for bundlers and Node, and one small file for a page's
// <script>.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";

const here = import.meta.dirname;
const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");

rmSync(join(here, "dist"), { recursive: true, force: true });
execFileSync(process.execPath, [compiler, "--project", here], { stdio: "inherit" });
await build({
  entryPoints: [join(here, "src/index.ts")],
  outfile: join(here, "dist/runcast.min.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
});
