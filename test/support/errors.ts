// What a call that is refused throws or rejects with.
import { expect } from 'vitest';

/** An RlvrError of this code, whose message contains a text or matches a pattern. */
export function rlvrError(code: string, message: string | RegExp): unknown {
  const matching = typeof message === 'string' ? expect.stringContaining(message) : expect.stringMatching(message);
  return expect.objectContaining({ name: 'RlvrError', code, message: matching });
}

/** What a call throws or rejects with; a call that goes well fails the test. */
export async function failureOf(call: () => unknown, what = 'the call'): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return expect.fail(`${what}: accepted`);
}
