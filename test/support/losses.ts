// What the tests of every loss share.
import { expect } from 'vitest';
import { expectClose } from './compare.js';

interface LogitsBatch {
  logits: Float32Array;
}

/** The gradient of `loss` to the logits by Richardson-extrapolated central differences, in float64 of the float32 steps. */
export function numericGradient<B extends LogitsBatch>(
  batch: B,
  loss: (batch: B) => number,
  step: number,
): Float64Array {
  return Float64Array.from(batch.logits, (_, k) => {
    const at = (delta: number) => {
      const logits = batch.logits.slice();
      logits[k] += delta;
      return { value: loss({ ...batch, logits }), moved: logits[k] };
    };
    const central = (h: number) => {
      const [up, down] = [at(h), at(-h)];
      return (up.value - down.value) / (up.moved - down.moved);
    };
    return (4 * central(step) - central(2 * step)) / 3;
  });
}

/** Finite differences on the reference, whose only rounding is that of the float32 logits. */
export function expectGradient<B extends LogitsBatch>(
  batch: B,
  run: (batch: B) => { loss: number; gradLogits: Float32Array },
  tolerance: number,
): void {
  const { gradLogits } = run(batch);
  expect(Math.hypot(...gradLogits)).toBeGreaterThan(0);
  expectClose(
    gradLogits,
    numericGradient(batch, (moved) => run(moved).loss, 2 ** -8),
    tolerance,
    'finite differences',
  );
}
