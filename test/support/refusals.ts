// What the tests of refused arguments share: a small batch by parts, and the call that must be refused.
import { expect } from 'vitest';
import { RlvrError } from '../../lib/index.js';
import { failureOf } from './errors.js';

export type Fields = Record<string, unknown>;

/** As a JavaScript user calls it: nothing is known of the arguments' types. */
export type Call = (inputs: unknown, options?: unknown) => unknown;

export interface Callable {
  run: Call;
  runSync: Call;
}

export const rows = (): Fields => ({
  logits: Float32Array.from({ length: 12 }, (_, i) => (i * 7) % 5),
  targets: Int32Array.of(0, 1, 2, 0),
  mask: Uint8Array.of(1, 1, 0, 1),
});

export const logProbs = (): Fields => ({
  logProbs: Float64Array.of(-1, -2, -3, -4),
  mask: Uint8Array.of(1, 1, 0, 1),
});

export const sequences = (): Fields => ({
  cuSeqlens: Int32Array.of(0, 2, 4),
  oldLogProbs: Float64Array.of(-1, -2, -3, -4),
});

export const groups = (): Fields => ({ cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) });

export interface Refusal {
  code: string;
  message: RegExp;
}

/**
 * The async and the sync form refuse the call alike: the error has its code, and a message that names the argument, what
 * was expected and what came; and not a byte of any array that was handed over has changed.
 */
export async function expectRefusal(
  { run, runSync }: Callable,
  inputs: unknown,
  options: unknown,
  refusal: Refusal,
  what: string,
): Promise<void> {
  const before = bytesIn([inputs, options]);
  for (const call of [runSync, run]) {
    const error = await failureOf(() => call(inputs, options), what);
    expect(error, `${what}: ${error}`).toBeInstanceOf(RlvrError);
    expect((error as RlvrError).message, what).toMatch(refusal.message);
    expect((error as RlvrError).code, `${what}: ${error}`).toBe(refusal.code);
  }
  expect(bytesIn([inputs, options]), `${what}: bytes written`).toEqual(before);
}

/** Copies of the bytes of every array in a value. */
export function bytesIn(value: unknown): Uint8Array[] {
  if (ArrayBuffer.isView(value)) return [new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice()];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(bytesIn) : [];
}
