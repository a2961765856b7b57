// What an application imports: `import { connect } from "runcast"`.

export { Client, connect } from "./client.js";
export type { Heard, Options } from "./client.js";
export { RuncastError } from "./errors.js";
export type { State, Token, TokenReason } from "./link.js";
export type { Keep } from "./place.js";
export { Run } from "./run.js";
export type * from "./protocol.js";
