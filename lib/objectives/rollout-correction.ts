// The mismatch between the trainer's policy and the inference engine that sampled (spec section 4): importance weights
// rho = exp(oldLogProbs - rolloutLogProbs), constants that multiply the policy term.

import { badArgument } from '../errors.js';
import type { CheckedSequences } from '../levels/batch.js';
import { maskTask, type TokensSoFar } from '../levels/token-level.js';
import { namesOf } from '../options.js';
import { read, type Task } from '../run/task.js';
import { mapped, raggedSlices, type Sliced, slices } from '../slices.js';
import { finiteNumber, objectArgument, oneOf } from '../validate.js';
import type { PolicyFactor } from './policy-factors.js';

/**
 * Importance weights rho = exp(oldLogProbs - rolloutLogProbs), constants that multiply the policy term (not the KL penalty, nor the
 * entropy bonus); log-ratios are clamped to +-20.
 */
export interface RolloutCorrection {
  /** A weight for each token, or exp of the summed log-ratio for each sequence. Default `'token'`. */
  level?: 'token' | 'sequence';
  /** Clamp weights into [min, max], or drop (weight 0) what is outside. Default `'truncate'`. */
  mode?: 'truncate' | 'mask';
  /** Lower bound of a weight, >= 0. Default 0. */
  min?: number;
  /** Upper bound of a weight, >= min; Infinity for none. Default 2. */
  max?: number;
  /**
   * What NaN in `rolloutLogProbs` means, where the engine could not score a token: `'one'` gives that token the weight 1 (in a
   * sequence's weight, the factor 1) and leaves it out of the metrics. Default `'error'`.
   */
  missing?: 'error' | 'one';
}

/** Parameters of the correction for the mismatch between trainer and inference engine. */
export interface RolloutParameters {
  /** Correct for the mismatch to the batch's `rolloutLogProbs`. Default: no correction. */
  rolloutCorrection?: RolloutCorrection;
}

/** Names of {@link RolloutParameters}. */
export const ROLLOUT_PARAMETERS = namesOf<RolloutParameters>({
  rolloutCorrection: namesOf<RolloutCorrection>({ level: true, mode: true, min: true, max: true, missing: true }),
});

const LOG_RATIO_LIMIT = 20;

/** The correction of the options, checked; undefined for none. */
export function rolloutCorrection(
  { rolloutLogProbs, oldLogProbs }: CheckedSequences,
  { rolloutCorrection: given }: RolloutParameters,
): PolicyFactor | undefined {
  if (given === undefined) return undefined;
  const options = objectArgument('rolloutCorrection', given);
  const level = oneOf('rolloutCorrection.level', options.level ?? 'token', ['token', 'sequence']);
  const mode = oneOf('rolloutCorrection.mode', options.mode ?? 'truncate', ['truncate', 'mask']);
  const min = finiteNumber('rolloutCorrection.min', options.min ?? 0, { min: 0 });
  const max = finiteNumber('rolloutCorrection.max', options.max ?? 2, { min, unbounded: true });
  oneOf('rolloutCorrection.missing', options.missing ?? 'error', ['error', 'one']);
  if (!rolloutLogProbs) {
    throw badArgument(
      'ERR_DTYPE',
      'rolloutLogProbs',
      'Float32Array or Float64Array with rolloutCorrection',
      'undefined',
    );
  }
  const bound = (rho: number) => {
    if (mode === 'truncate') return Math.min(Math.max(rho, min), max);
    return rho >= min && rho <= max ? rho : 0;
  };
  const perToken = level === 'token';
  return {
    argument: 'rolloutCorrection',
    perToken,
    late: !oldLogProbs, // the weights are against the log-probs themselves
    *task(tokens) {
      const differences = yield* rolloutDifferences(tokens);
      const logRatios = perToken ? differences : yield* sequenceSums(differences, tokens.checked.cuSeqlens);
      return yield* mapped(logRatios, (d) => (Number.isNaN(d) ? 1 : bound(importance(d))));
    },
  };
}

/** A log-ratio, clamped as every other (spec section 6). */
export function clamped(logRatio: number): number {
  return Math.min(Math.max(logRatio, -LOG_RATIO_LIMIT), LOG_RATIO_LIMIT);
}

/** The ratio of a log-ratio. */
export function importance(logRatio: number): number {
  return Math.exp(clamped(logRatio));
}

/**
 * oldLogProbs (on-policy: the current ones) - rolloutLogProbs, 0 for tokens that do not count, NaN for those that the engine
 * could not score. [T]
 */
export function* rolloutDifferences(level: TokensSoFar): Task<Float64Array> {
  const { oldLogProbs, rolloutLogProbs, tokens } = level.checked;
  const mask = yield* maskTask(level);
  const [old] = oldLogProbs ? [oldLogProbs] : yield* read(level.logProbs!);
  const differences = new Float64Array(tokens);
  yield* slices(tokens, (begin, end) => {
    for (let t = begin; t < end; t++) {
      // Selected, not multiplied: masked entries may be infinite or NaN. Equal infinities are no difference.
      if (mask?.[t] !== 0 && old[t] !== rolloutLogProbs![t]) differences[t] = old[t] - rolloutLogProbs![t];
    }
  });
  return differences;
}

function* sequenceSums(values: Float64Array, cuSeqlens: Int32Array): Sliced<Float64Array> {
  const sums = new Float64Array(cuSeqlens.length - 1);
  yield* raggedSlices(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) sums[i] += Number.isNaN(values[t]) ? 0 : values[t];
  });
  return sums;
}
