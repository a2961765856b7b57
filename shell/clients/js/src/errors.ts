// The one error of this library: a code that stays the same, a message for people, and a hint what to do.

/** Why something was refused or given up. `code` is the protocol's, or one of the library's own:
 *  `closed`, `stopped`, `close_…`, `too_large`, `outbox_full`, `reset`, `user_changed`, `not_read`,
 *  `gap`, `silent`, `handler_failed`, `connect_failed`, `token_failed`, `websocket_required`, `http_…`. */
export class RuncastError extends Error {
  override readonly name = "RuncastError";
  /** What to do about it. */
  readonly hint: string | undefined;
  /** Not before that long does it make sense to ask again. */
  readonly retry_ms: number | undefined;
  /** Whether the same may go well later. */
  readonly temporary: boolean;

  constructor(
    readonly code: string,
    message: string,
    { hint, retry_ms, temporary = false, cause }: Partial<RuncastError> = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.hint = hint;
    this.retry_ms = retry_ms;
    this.temporary = temporary;
  }

  /** From an `error` message, or a problem+json body. */
  static of(message: { [field: string]: unknown }): RuncastError {
    const { code, message: text, detail } = message;
    return new RuncastError(String(code), String(text ?? detail ?? code), message);
  }
}
