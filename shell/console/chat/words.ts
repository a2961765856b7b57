// How things are said: times, counts, and a sentence for each way in which something can end.

import type { RuncastError } from "../../clients/js/src/index.js";
import type { Place, Run } from "./model.js";
import { asNumber, asObject, asText, joined } from "./values.js";

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${Number((ms / 1000).toFixed(ms < 10_000 ? 1 : 0))} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const seconds = Math.floor((ms % 60_000) / 1000);
  return seconds ? `${minutes} min ${seconds} s` : `${minutes} min`;
}

/** In whole seconds: for what counts while one looks at it. */
export const seconds = (ms: number): string => duration(Math.max(0, Math.round(ms / 1000)) * 1000 || 0);

export const count = (n: number, one: string): string =>
  `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;

export const atTime = (ts: number): string =>
  new Date(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

/** The day of something, as one would say it. */
export function day(ts: number, now = Date.now()): string {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (ts >= midnight) return "Today";
  if (ts >= midnight - 86_400_000) return "Yesterday";
  if (ts >= midnight - 6 * 86_400_000) return "This week";
  return new Date(ts).toLocaleDateString([], { month: "long", year: "numeric" });
}

/** What a run that has not ended does now. */
export function doing(run: Run, now: number, isConnected: boolean): string {
  if (run.isCancelling) return "Stopping…";
  switch (run.state) {
    case "sending":
      return isConnected ? "Sending…" : "Goes out when there is a connection";
    case "queued":
      return "Waiting in line";
    case "starting":
      return "Starting…";
    case "waiting":
      return "Waits for your answer";
    case "retrying":
      return "Will try again";
    case "running":
      // What it does stands where it does it.
      return joined(
        " · ",
        run.parts.at(-1)?.kind === "output" ? "Writing" : "Working",
        run.percent === undefined ? "" : `${Math.round(run.percent)} %`,
        worked(run, now),
      );
    case "refused":
    case "ended":
      return "";
  }
}

/** By what the run wrote last. */
export function atWork({ parts, attempt }: Run): string {
  const tools = parts.filter(
    (part) => part.kind === "tool" && part.state === "open" && part.attempt === attempt,
  );
  if (tools.length > 1) return `Using ${tools.length} tools`;
  const [tool] = tools;
  if (tool?.kind === "tool") return `Using ${tool.name}`;
  const last = parts.findLast((part) => part.attempt === attempt);
  if (last?.kind === "thinking") return "Thinking";
  return last?.kind === "output" ? "Writing" : "Working";
}

function worked({ since, quiet, timeout }: Run, now: number): string {
  const ran = now - since;
  const left = timeout === undefined ? undefined : timeout - ran;
  return joined(
    " · ",
    ran >= 1000 ? seconds(ran) : "",
    quiet === undefined ? "" : `quiet for ${seconds(quiet)}`,
    left === undefined || left < 0 ? "" : `will be stopped in ${seconds(left)}`,
  );
}

/** Why a run waits; the daemon says it in words, and before its first notice only the place is known. */
export function queueSentence({ ahead, message }: Place): string {
  if (message) return message;
  return ahead === 0
    ? "You are next."
    : `${count(ahead, "run")} ${ahead === 1 ? "is" : "are"} ahead of yours.`;
}

export interface Sentence {
  /** How it looks: well, badly, or stopped. */
  tone: "ok" | "bad" | "cut";
  text: string;
  /** What there is to know besides: the agent's or the daemon's own words. */
  detail: string;
  /** The stable name of what happened, where there is one. */
  code: string;
}

const CANCELS: Record<string, string> = {
  __proto__: null as never,
  user: "You stopped this.",
  interrupt: "Stopped to make room for the next message.",
  operator: "An operator stopped this.",
};

const ERRORS: Record<string, string> = {
  __proto__: null as never,
  queue_expired: "It waited in line for too long, and was taken out.",
  not_taken: "It was offered to workers several times, and none of them took it.",
  bad_complete: "The agent ended in a way that cannot be read.",
  output_too_large: "The agent’s answer was too large to be kept.",
};

/** How a run ended, for people. */
export function endSentence(run: Run): Sentence {
  const { status, reason, error } = asObject(run.end) as Record<string, unknown>;
  const { code, message } = asObject(error);
  const said = { detail: asText(message), code: asText(code) };
  const known = ERRORS[asText(code)];
  switch (asText(status)) {
    case "ok":
      return { tone: "ok", text: "Done", ...said };
    case "cancelled": {
      const text = run.attempt === 0 ? "Taken out of the line." : "It was stopped.";
      return { tone: "cut", text: CANCELS[asText(reason)] ?? text, ...said };
    }
    case "timed_out": {
      const limit = run.timeout === undefined ? "it may" : `the ${duration(run.timeout)} that it may`;
      return {
        tone: "bad",
        text: `It ran for longer than ${limit}, and was stopped.`,
        ...said,
        code: "timed_out",
      };
    }
    case "worker_lost": {
      const text = "The worker that ran this went away, and did not come back in time.";
      return { tone: "bad", text: known ?? text, ...said, code: said.code || "worker_lost" };
    }
    case "error":
      return { tone: "bad", text: known ?? "The agent failed.", ...said };
    default: // of a later version of the protocol
      return { tone: "bad", text: `It ended: ${asText(status)}`, ...said };
  }
}

const REFUSALS: Record<string, string> = {
  __proto__: null as never,
  agent_unknown: "There is no such agent.",
  agent_forbidden: "You may not use this agent.",
  agent_unavailable: "This agent is not available at present: it has failed too often.",
  queue_full: "The line is full.",
  user_queue_full: "You have as many runs in line as you may have.",
  rate_limited: "That was too much at once.",
  too_large: "That message is too long.",
  storage_unavailable: "The server’s disk takes nothing at present.",
  overloaded: "The server has more to do than it can.",
  thread_busy: "Something runs in this thread already.",
};

/** Why a run was not taken, for people. */
export function refusalSentence({ code, message, hint }: RuncastError): Sentence {
  const own = REFUSALS[code];
  const detail = joined(" · ", own ? message : "", hint);
  return { tone: "bad", text: own ?? message, detail, code };
}

const RETRIES: Record<string, string> = {
  __proto__: null as never,
  worker_lost: "its worker went away",
  lease_expired: "its worker went away",
};

export const retrySentence = (attempt: number, reason: string): string =>
  `Attempt ${attempt} was cut off: ${RETRIES[reason] ?? reason.replaceAll("_", " ")}`;

/** The facts under an answer. */
export function figures(run: Run): string {
  const end = asObject(run.end);
  const took = (word: string, ms: number | undefined, from: number) =>
    ms === undefined || ms < from ? "" : `${word} ${duration(ms)}`;
  const many = (n: number | undefined, one: string, from: number) =>
    n === undefined || n < from ? "" : count(n, one);
  return joined(
    " · ",
    took("took", asNumber(end["running_ms"]), 0),
    took("waited", asNumber(end["queued_ms"]), 1000),
    many(asNumber(end["tools"]), "tool", 1),
    many(asNumber(end["attempts"]), "attempt", 2),
    atTime(run.ts),
  );
}

const RESETS: Record<string, string> = {
  __proto__: null as never,
  trimmed: "You were away for longer than messages are kept: the oldest are gone, and all since is here.",
  epoch: "The server’s history began anew, as after a restored backup. This is what it has now.",
  ahead: "The server’s history was set back. This is what it has now.",
  user: "You are another user now. These are that user’s threads.",
};

export const resetSentence = (reason: string): string => RESETS[reason] ?? "The history is another now.";
