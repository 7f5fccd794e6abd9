// The mismatch between the trainer's policy and the inference engine that sampled (spec section 4): importance weights
// rho = exp(oldLogProbs - rolloutLogProbs), constants that multiply the policy term.

import { badArgument, describe } from '../errors.js';
import { countTokens } from '../groups.js';
import type { CheckedSequences } from '../levels/batch.js';
import { maskTask, type TokensSoFar, tokenCountsTask } from '../levels/token-level.js';
import { newArray } from '../memory.js';
import { namesOf } from '../options.js';
import type { Ranks } from '../run/ranks.js';
import { read, type Task } from '../run/task.js';
import { mapped, raggedSlices, type Sliced, slices, total } from '../slices.js';
import { type FloatArray, finiteNumber, objectArgument, oneOf } from '../validate.js';
import type { CheckedBatch } from './objective.js';
import type { PolicyFactor } from './policy-factors.js';
import { sumOverRanks } from './whole-batch.js';

/**
 * Importance weights rho = exp(oldLogProbs - rolloutLogProbs), constants that multiply the policy term (not the KL penalty, nor the
 * entropy bonus); log-ratios are clamped to +-20.
 */
export interface RolloutCorrection {
  /** A weight for each token, exp of the summed log-ratio for each sequence, or (beside masks) none. Default `'token'`. */
  level?: 'token' | 'sequence' | 'none' | undefined;
  /** Clamp weights into [min, max], or drop (weight 0) what is outside. Default `'truncate'`. */
  mode?: 'truncate' | 'mask' | undefined;
  /** Lower bound of a weight, >= 0. Default 0. */
  min?: number | undefined;
  /** Upper bound of a weight, >= min; Infinity for none. Default 2. */
  max?: number | undefined;
  /** Divide the weights, once bounded, by their mean over the tokens that count. Default false. */
  normalize?: boolean | undefined;
  /**
   * Beside weights per token or none: drop (weight 0) the sequences whose exp of the summed log-ratio is outside [min, max], by default
   * [0, Infinity]. The denominators stay as they are.
   */
  sequenceMask?:
    | {
        /** At least 0. */
        min?: number | undefined;
        /** At least min. */
        max?: number | undefined;
      }
    | undefined;
  /** Rejection: tokens or sequences that drop out of the loss as by the batch's `mask`. Needs `oldLogProbs`. */
  reject?: RolloutRejection | undefined;
  /**
   * What NaN in `rolloutLogProbs` means, where the engine could not score a token: `'one'` gives that token the weight 1 (in a
   * sequence's weight, the factor 1) and leaves it out of the metrics. Default `'error'`.
   */
  missing?: 'error' | 'one' | undefined;
}

/**
 * Which tokens are rejected: those whose KL from the inference engine's policy is outside [min, max], one bound at least, or all of a
 * sequence. With d = oldLogProbs - rolloutLogProbs, clamped to +-20.
 */
export interface RolloutRejection {
  /** Its estimate: k1 -d, k3 e^d - 1 - d. */
  by: 'k1' | 'k3';
  /** That of the token itself, or the mean or the maximum over the tokens of a sequence that count. */
  level: 'token' | 'sequence-mean' | 'sequence-max';
  /** Lower bound in nats. Default none. */
  min?: number | undefined;
  /** Upper bound in nats, >= min; Infinity for none. Default none. */
  max?: number | undefined;
}

/** Further field in a batch, instead of a correction. */
export interface RolloutInputs {
  /** [T] the importance weights themselves, >= 0, constants that multiply the policy term; instead of `rolloutCorrection`. */
  rolloutWeights?: FloatArray | undefined;
}

/** Parameters of the correction for the mismatch between trainer and inference engine. */
export interface RolloutParameters {
  /** Correct for the mismatch to the batch's `rolloutLogProbs`. Default: no correction. */
  rolloutCorrection?: RolloutCorrection | undefined;
}

/** Names of {@link RolloutParameters}. */
export const ROLLOUT_PARAMETERS = namesOf<RolloutParameters>({
  rolloutCorrection: namesOf<RolloutCorrection>({
    level: true,
    mode: true,
    min: true,
    max: true,
    normalize: true,
    sequenceMask: { min: true, max: true },
    reject: namesOf<RolloutRejection>({ by: true, level: true, min: true, max: true }),
    missing: true,
  }),
});

const LOG_RATIO_LIMIT = 20;

/** The checked options of a correction. */
type Correction = ReturnType<typeof correctionOf>;

/** The options of the correction, checked; undefined for none. */
function correctionOf({ rolloutLogProbs }: CheckedSequences, given: RolloutCorrection) {
  const options = objectArgument('rolloutCorrection', given);
  const level = oneOf('rolloutCorrection.level', options.level ?? 'token', ['token', 'sequence', 'none']);
  const mode = oneOf('rolloutCorrection.mode', options.mode ?? 'truncate', ['truncate', 'mask']);
  const bounds = boundsOf('rolloutCorrection', options, 2);
  const { sequenceMask, normalize = false } = options;
  oneOf('rolloutCorrection.missing', options.missing ?? 'error', ['error', 'one']);
  if (typeof normalize !== 'boolean')
    throw badArgument('ERR_RANGE', 'rolloutCorrection.normalize', 'true or false', describe(normalize));
  const sequences = sequenceMask && objectArgument('rolloutCorrection.sequenceMask', sequenceMask);
  if (sequences && level === 'sequence') {
    const expected = "none with level 'sequence' (mode: 'mask' does that)";
    throw badArgument('ERR_RANGE', 'rolloutCorrection.sequenceMask', expected, describe(sequenceMask));
  }
  if (!rolloutLogProbs) {
    const expected = 'Float32Array or Float64Array with rolloutCorrection';
    throw badArgument('ERR_DTYPE', 'rolloutLogProbs', expected, 'undefined');
  }
  const sequenceBounds = sequences && boundsOf('rolloutCorrection.sequenceMask', sequences, Infinity);
  return { level, mode, bounds, normalize, sequenceBounds };
}

interface Bounds {
  min: number;
  max: number;
}

function boundsOf(name: string, options: Partial<Bounds>, most: number): Bounds {
  const min = finiteNumber(`${name}.min`, options.min ?? 0, { min: 0 });
  return { min, max: finiteNumber(`${name}.max`, options.max ?? most, { min, unbounded: true }) };
}

/** The factors of the options: importance weights, and a mask. */
export function rolloutCorrection(
  checked: CheckedBatch,
  { rolloutCorrection: given }: RolloutParameters,
  weights: FloatArray | undefined,
): PolicyFactor[] {
  if (given === undefined) return [];
  const correction = correctionOf(checked, given);
  if (weights !== undefined)
    throw badArgument('ERR_RANGE', 'rolloutCorrection', 'none beside rolloutWeights', describe(given));
  const factor = { argument: 'rolloutCorrection', late: !checked.oldLogProbs }; // else against the log-probs themselves
  const { level, sequenceBounds } = correction;
  const factors: PolicyFactor[] = [];
  if (level !== 'none') {
    const task = (tokens: TokensSoFar) => importanceWeights(tokens, correction, checked.whole.ranks);
    factors.push({ ...factor, perToken: level === 'token', task });
  }
  if (sequenceBounds) {
    const { min, max } = sequenceBounds;
    const task = function* (tokens: TokensSoFar) {
      const logRatios = yield* sequenceSums(yield* rolloutDifferences(tokens), checked.cuSeqlens);
      return yield* mapped(logRatios, (d) => (importance(d) >= min && importance(d) <= max ? 1 : 0));
    };
    factors.push({ ...factor, perToken: false, task });
  }
  return factors;
}

/** The weights [T] or [N], bounded, and brought to a mean of 1 if that is asked for. */
function* importanceWeights(tokens: TokensSoFar, correction: Correction, ranks: Ranks | undefined): Task<Float64Array> {
  const { mode, bounds, normalize, level } = correction;
  const { min, max } = bounds;
  const bound = (rho: number) => {
    if (mode === 'truncate') return Math.min(Math.max(rho, min), max);
    return rho >= min && rho <= max ? rho : 0;
  };
  const perToken = level === 'token';
  const differences = yield* rolloutDifferences(tokens);
  const logRatios = perToken ? differences : yield* sequenceSums(differences, tokens.checked.cuSeqlens);
  const weights = yield* mapped(logRatios, (d) => (Number.isNaN(d) ? 1 : bound(importance(d))));
  if (!normalize) return weights;
  const mask = perToken ? yield* maskTask(tokens) : undefined;
  const counts = perToken
    ? yield* mapped(weights, (_, t) => (mask?.[t] === 0 ? 0 : 1))
    : yield* tokenCountsTask(tokens);
  const own = [yield* total(weights, counts), yield* total(counts)];
  const [weight, counted] = yield* sumOverRanks(ranks, own);
  const mean = weight / counted;
  return mean > 0 ? yield* mapped(weights, (rho) => rho / mean) : weights;
}

/** [T] the mask without the tokens that the options reject; undefined where they reject none by rule. */
export function* rejection(
  { rolloutLogProbs, oldLogProbs, cuSeqlens, tokens, mask }: CheckedSequences,
  { rolloutCorrection: correction }: RolloutParameters,
): Sliced<Uint8Array | undefined> {
  if (correction?.reject === undefined) return undefined;
  const { by, level, min, max } = rejectionOf(correction.reject);
  const expected = 'Float32Array or Float64Array with rolloutCorrection.reject';
  if (!oldLogProbs) throw badArgument('ERR_DTYPE', 'oldLogProbs', expected, 'undefined');
  if (!rolloutLogProbs) throw badArgument('ERR_DTYPE', 'rolloutLogProbs', expected, 'undefined');
  const values = newArray('rolloutCorrection', Float64Array, tokens);
  yield* slices(tokens, (begin, end) => {
    for (let t = begin; t < end; t++) {
      const [old, rollout] = [oldLogProbs[t], rolloutLogProbs[t]];
      const d = old === rollout || Number.isNaN(rollout) ? 0 : clamped(old - rollout);
      values[t] = by === 'k1' ? -d : Math.expm1(d) - d;
    }
  });
  if (level !== 'token') yield* ofSequences(values, cuSeqlens, mask, level === 'sequence-max');
  const kept = newArray('rolloutCorrection', Uint8Array, tokens);
  yield* slices(tokens, (begin, end) => {
    for (let t = begin; t < end; t++) kept[t] = mask?.[t] !== 0 && values[t] >= min && values[t] <= max ? 1 : 0;
  });
  return kept;
}

function rejectionOf(given: RolloutRejection) {
  const name = 'rolloutCorrection.reject';
  const reject = objectArgument(name, given);
  const by = oneOf(`${name}.by`, reject.by, ['k1', 'k3']);
  const level = oneOf(`${name}.level`, reject.level, ['token', 'sequence-mean', 'sequence-max']);
  if (reject.min === undefined && reject.max === undefined)
    throw badArgument('ERR_RANGE', name, 'min or max', 'neither');
  const min = reject.min === undefined ? -Infinity : finiteNumber(`${name}.min`, reject.min);
  const max = finiteNumber(`${name}.max`, reject.max ?? Infinity, { min, unbounded: true });
  return { by, level, min, max };
}

/** Replaces [T] values by the mean or the largest of those of their sequence that count. */
function* ofSequences(
  values: Float64Array,
  cuSeqlens: Int32Array,
  mask: Uint8Array | undefined,
  largest: boolean,
): Sliced<void> {
  const whole = newArray('rolloutCorrection', Float64Array, cuSeqlens.length - 1).fill(largest ? -Infinity : 0);
  const counts = yield* countTokens(cuSeqlens, mask);
  yield* raggedSlices(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) {
      if (mask?.[t] === 0) continue;
      whole[i] = largest ? Math.max(whole[i], values[t]) : whole[i] + values[t] / counts[i];
    }
  });
  yield* raggedSlices(cuSeqlens, (i, begin, end) => values.fill(whole[i], begin, end));
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
