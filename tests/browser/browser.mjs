// The browser that the tests drive, and how they wait: always for a condition, never for a time.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PLACES = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];
const executablePath = PLACES.find((path) => path && existsSync(path));

/** Why the browser tests cannot run here, or false. */
export const skip = executablePath
  ? false
  : "skipped: no chromium (install it, or say where it is in CHROMIUM)";

/** A browser; `--no-sandbox` because tests often run as root in a container. */
export function launch() {
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}

/** What the page says of itself: position, counts and runs. */
export const stateOf = (page) => page.evaluate(() => window.runcast?.state);

/** Waits until `condition` holds for the page's state, and returns that state. */
export function until(page, condition) {
  const look = async () => {
    const state = await stateOf(page).catch(() => undefined); // between two documents there is none
    return state && condition(state) && state;
  };
  return eventually(look, `the page's state fulfils ${condition}`);
}

/** Waits until `condition` returns something true, and returns that. */
export async function eventually(condition, what) {
  for (let turn = 0; turn < 2000; turn += 1) {
    const value = await condition();
    if (value) return value;
    await new Promise((next) => setTimeout(next, 10));
  }
  throw new Error(`it never came to be: ${what}`);
}

/** Fails the test on an exception in a page, or on a request to anywhere but its own daemon. */
export function watch(page) {
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (line) => {
    // That there is no daemon, or no network, is what some tests are about.
    if (line.type() === "error" && !/WebSocket connection|net::ERR_/.test(line.text()))
      faults.push(line.text());
  });
  page.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol !== "data:" && hostname !== "127.0.0.1") faults.push(`asked for ${request.url()}`);
  });
  return faults;
}
