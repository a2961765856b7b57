// Reading what agents write. The protocol says what an event holds, but an agent may put anything there: each
// value is looked at before it is used, and ends as text, a number, or nothing.

export type Data = Record<string, unknown>;

/** Anything as text; an object as JSON. */
export function asText(value: unknown): string {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return "";
  return JSON.stringify(value, null, 2) ?? "";
}

export const asNumber = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isFinite(value) ? value : undefined;

export const asObject = (value: unknown): Data =>
  typeof value === "object" && value !== null ? (value as Data) : {};

export const asList = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** The text in an input or output: many agents wrap it in an object. */
export function innerText(value: unknown): string {
  const { text, answer, message } = asObject(value);
  return asText(text ?? answer ?? message ?? value);
}

/** Something in one line: the arguments of a tool beside its name. */
export function inBrief(value: unknown): string {
  const { length, 0: only } = Object.values(asObject(value));
  const text =
    length === 1 && typeof only === "string" ? only : asText(value).slice(0, 600).replace(/^{|}$/g, "");
  return text.slice(0, 300).replace(/\s+/g, " ").trim();
}

/** What is there, joined. */
export const joined = (between: string, ...values: unknown[]): string =>
  values.map(asText).filter(Boolean).join(between);
