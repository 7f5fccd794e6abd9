// What the tests of every loss share.
import { expect } from 'vitest';
import type { BackendName } from '../../lib/index.js';
import { expectClose, expectCloseNumber } from './compare.js';

interface LogitsBatch {
  logits: Float32Array;
}

/** The gradient of `loss` with respect to the logits: Richardson's central differences, in float64, of float32 steps. */
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

/**
 * The gradient of a backend against finite differences of the reference's loss, whose only rounding is that of the
 * float32 logits.
 */
export function expectGradient<B extends LogitsBatch>(
  backend: BackendName,
  batch: B,
  run: (batch: B, backend: BackendName) => { loss: number; gradLogits: Float32Array },
): void {
  const { gradLogits } = run(batch, backend);
  expect(Math.hypot(...gradLogits)).toBeGreaterThan(0);
  const numeric = numericGradient(batch, (moved) => run(moved, 'reference').loss, 2 ** -8);
  expectClose(gradLogits, numeric, 1e-6, 'finite differences');
}

interface OfLogProbs {
  loss: number;
  gradLogProbs: ArrayLike<number>;
}

/** The losses of a batch's parts, and their gradients one after the other, make up those of the whole. */
export function expectSum(parts: readonly OfLogProbs[], whole: OfLogProbs, tolerance: number, floor = 0): void {
  const sum = parts.reduce((all, { loss }) => all + loss, 0);
  expectCloseNumber(sum, whole.loss, tolerance, floor);
  const gradients = parts.flatMap(({ gradLogProbs }) => Array.from(gradLogProbs));
  expectClose(gradients, whole.gradLogProbs, tolerance);
}
