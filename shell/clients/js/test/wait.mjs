// How tests wait: always for a condition, never for a time.

/** Waits until `condition` returns something true, and returns that. */
export async function eventually(what, condition) {
  const end = Date.now() + 60_000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`it never came to be: ${what}`);
    await new Promise((next) => setTimeout(next, 5));
  }
}
