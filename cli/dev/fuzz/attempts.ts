// A call with its arguments, and what came of it.
import { type Figure, figuresOf, scaledFigures } from './figures.js';
import type { Victim } from './hostile.js';
import { FUZZED_BACKEND } from './job.js';

/** What a call gave, and on which arguments. */
export interface Attempt {
  victim: Victim;
  error?: unknown;
  value?: unknown;
  failed: boolean;
  figures: Figure[];
}

export function attempt(victim: Victim, call: (...args: unknown[]) => unknown, backend: string): Attempt {
  process.env.RLVR_BACKEND = backend;
  try {
    const value = call(...victim.args);
    return { victim, value, failed: false, figures: [] };
  } catch (error) {
    return { victim, error, failed: true, figures: [] };
  }
}

/** `meanwhile` runs as soon as the call has returned its promise. */
export async function attemptAsync(victim: Victim, call: (...args: unknown[]) => unknown, meanwhile = () => {}) {
  process.env.RLVR_BACKEND = FUZZED_BACKEND;
  try {
    const pending = call(...victim.args); // must not throw: async functions reject
    meanwhile();
    return { victim, value: await pending, failed: false, figures: [] };
  } catch (error) {
    return { victim, error, failed: true, figures: [] };
  }
}

export function finished(one: Attempt): Attempt {
  one.figures = scaledFigures(figuresOf(one.value));
  return one;
}
