// A run as a person sees it, built event by event: what the React hook shows, and any other interface may.

import type { End, Notice, RunEvent } from "./protocol.js";

export interface ToolView {
  call: string;
  tool: string;
  args: unknown;
  status: "running" | "ok" | "error" | "interrupted";
  progress?: string | number;
  result?: unknown;
  error?: unknown;
}

export interface RunView {
  run: string;
  key?: string;
  thread: string;
  agent: string;
  input: unknown;
  state: "queued" | "running" | "waiting" | "ended";
  /** Its place in the queue, and what the daemon says of it. */
  position?: number;
  message?: string;
  text: string;
  thinking: string;
  tools: ToolView[];
  /** What the agent wants to know. */
  questions: { request: string; prompt: string; schema?: unknown }[];
  end?: End;
}

const written = (before: string, { text, delta = "" }: { text?: string; delta?: string }) =>
  (text ?? before) + delta;

/** What a run looks like after an event; the view before is left as it was. */
export function after(view: RunView, { event, data }: RunEvent): RunView {
  const { tools, questions } = view;
  const tool = (call: string, fields: Partial<ToolView>) =>
    tools.map((one) => (one.call === call ? { ...one, ...fields } : one));
  switch (event) {
    case "run_queued":
      return { ...view, ...pick(data), state: "queued" };
    case "agent_started": // the first attempt, or a new one, of which the earlier text is no part
      return { ...view, state: "running", text: "", thinking: "", tools: [], questions: [] };
    case "agent_thinking":
      return { ...view, thinking: written(view.thinking, data) };
    case "agent_output":
      return { ...view, text: written(view.text, data) };
    case "tool_executing":
      return { ...view, tools: [...tools, { ...data, status: "running" }] };
    case "tool_progress":
      return { ...view, tools: tool(data.call, { progress: data.text ?? data.percent ?? "" }) };
    case "tool_completed":
      return { ...view, tools: tool(data.call, data) };
    case "input_required":
      return { ...view, state: "waiting", questions: [...questions, data] };
    case "input_received": {
      const left = questions.filter(({ request }) => request !== data.request);
      return { ...view, state: left.length ? "waiting" : "running", questions: left };
    }
    case "run_retrying":
      return { ...view, state: "queued", message: data.reason };
    case "agent_completed":
      return { ...view, state: "ended", questions: [], end: data };
    default: // steps, progress, custom events, and what later versions add
      return view;
  }
}

/** What a notice of the queue adds. */
export function noticed(view: RunView, { notice, position, message }: Notice): RunView {
  if (notice !== "queue" || view.state !== "queued") return view;
  return { ...view, position: Number(position), message: message ?? "" };
}

export function begin({ run, thread }: RunEvent): RunView {
  const none = { agent: "", input: undefined, text: "", thinking: "", tools: [], questions: [] };
  return { run, thread, state: "queued", ...none };
}

const pick = ({ agent, input, key, position }: Extract<RunEvent, { event: "run_queued" }>["data"]) => ({
  agent,
  input,
  position,
  ...(key && { key }),
});
