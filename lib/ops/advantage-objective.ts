import { badArgument } from '../errors.js';
import { newArray } from '../memory.js';
import type { Numbers } from '../number-lists.js';
import { namesOf, takeFields } from '../options.js';
import { finiteResults } from '../overflow.js';
import {
  type AsyncOptions,
  type BackendOptions,
  kernel,
  type MaybePending,
  optionsOf,
  type Pending,
  pending,
  readAll,
  runAsync,
  runSync,
  type Task,
} from '../run/task.js';
import { finiteFloats, finiteNumber, oneOf, tokenCounts, typedArray } from '../validate.js';

/**
 * How sequences are weighted: `sequence-mean` 1/N (GRPO), `token-mean` n_i/sum n (DAPO), `constant-length`
 * n_i/(N * maxLength) (Dr. GRPO).
 */
export type Aggregation = 'sequence-mean' | 'token-mean' | 'constant-length';

/** Parameters of the weights. */
export interface AggregationParameters {
  /** Default `'sequence-mean'`. */
  aggregation?: Aggregation | undefined;
  /** Tokens; required with `constant-length`. */
  maxLength?: number | undefined;
  /** Replaces the whole denominator (N, sum n, or N * maxLength), > 0, so that micro-batches add up to the batch. */
  normalizer?: number | undefined;
}

/** Names of {@link AggregationParameters}. */
export const AGGREGATION_PARAMETERS = namesOf<AggregationParameters>({
  aggregation: true,
  maxLength: true,
  normalizer: true,
});

/** Inputs of {@link advantageObjective}. */
export interface AdvantageObjectiveInputs {
  /** [N] sequence scores, finite. */
  scores: Numbers;
  /** [N] advantages, constants. */
  advantages: Numbers;
  /** [N] unmasked tokens of each sequence; a sequence with 0 adds nothing. */
  tokenCounts: Numbers;
}

/** Options of {@link advantageObjective}. */
export interface AdvantageObjectiveOptions extends BackendOptions, AggregationParameters {}

/** Result of {@link advantageObjective}. */
export interface AdvantageObjective {
  /** -sum_i w_i A_i s_i. */
  loss: number;
  /** [N] dloss/dscores = -w_i * A_i. */
  gradScores: Float64Array;
}

/** w_i = (n_i if perToken, else 1) / normalizer, where 0 stands for the sum of all n_i. */
export interface Weights {
  perToken: boolean;
  normalizer: number;
}

/** The options filled in and checked. */
function aggregationParameters(options: AggregationParameters) {
  const { maxLength, normalizer } = options;
  const words = ['sequence-mean', 'token-mean', 'constant-length'] as const;
  const aggregation = oneOf('aggregation', options.aggregation ?? 'sequence-mean', words);
  if (aggregation === 'constant-length' || maxLength !== undefined) finiteNumber('maxLength', maxLength, { above: 0 });
  if (normalizer !== undefined) finiteNumber('normalizer', normalizer, { above: 0 });
  return { aggregation, maxLength: maxLength ?? 1, normalizer };
}

/** The weights that an aggregation means for N sequences. */
export function aggregationWeights(options: AggregationParameters, sequences: number): Weights {
  const { aggregation, maxLength, normalizer } = aggregationParameters(options);
  const denominators = {
    'sequence-mean': sequences,
    'token-mean': 0,
    'constant-length': sequences * maxLength,
  };
  const denominator = normalizer ?? denominators[aggregation];
  if (!Number.isFinite(denominator)) {
    throw badArgument('ERR_RANGE', 'maxLength', `a finite N * maxLength with N = ${sequences}`, String(maxLength));
  }
  return { perToken: aggregation !== 'sequence-mean', normalizer: denominator };
}

/** What the objective leaves. */
interface WeightedSum {
  loss: Pending<Float64Array>; // [1]
  gradScores: Pending<Float64Array>; // [N]
}

/** scale * sum_i w_i A_i s_i on validated arrays; without advantages A_i = 1. */
export function* weightedSumTask(
  scores: MaybePending<Float64Array>,
  advantages: Float64Array | undefined,
  tokenCounts: MaybePending<Float64Array>,
  weights: Weights,
  scale: number,
): Task<WeightedSum> {
  const sequences = scores.length;
  const gradScores = newArray('gradScores', Float64Array, sequences);
  const loss = new Float64Array(1);
  const args = { scores, advantages, tokenCounts, sequences, ...weights, scale, gradScores, loss };
  yield kernel('advantageObjective', args);
  return pending({ loss, gradScores });
}

/** The gradient of that by each score, which does not depend on the scores. [N] */
export function* weightedSumGradient(
  advantages: Float64Array | undefined,
  tokenCounts: Float64Array,
  weights: Weights,
  scale: number,
): Task<Pending<Float64Array>> {
  const anyScores = newArray('scores', Float64Array, tokenCounts.length);
  const { gradScores } = yield* weightedSumTask(anyScores, advantages, tokenCounts, weights, scale);
  return gradScores;
}

const opOptions = optionsOf<AdvantageObjectiveOptions>('advantageObjective', AGGREGATION_PARAMETERS);

function* op(inputs: AdvantageObjectiveInputs, options: Partial<AdvantageObjectiveOptions>): Task<AdvantageObjective> {
  const sequences = typedArray('scores', inputs.scores, ['Float32Array', 'Float64Array']).length;
  const scores = yield* finiteFloats('scores', inputs.scores, sequences, 'N');
  const advantages = yield* finiteFloats('advantages', inputs.advantages, sequences, 'N, one advantage per score');
  const counts = yield* tokenCounts(inputs.tokenCounts, sequences);
  const weights = aggregationWeights(options, sequences);
  const sum = yield* weightedSumTask(scores, advantages, counts, weights, -1);
  const { loss, gradScores } = yield* readAll(sum);
  const causes = 'scores, advantages or tokenCounts are too large, or normalizer or maxLength too small';
  yield* finiteResults({ loss, gradScores }, causes);
  return { loss: loss[0], gradScores };
}

/**
 * The objective of the GRPO family: `loss = -sum_i w_i * A_i * s_i`, with the weights of the chosen aggregation.
 *
 * @example
 * ```ts
 * import { advantageObjective } from 'rlvr-kernels';
 *
 * const { loss, gradScores } = await advantageObjective(
 *   {
 *     scores: Float64Array.of(1.2, 0.9), // [N] of two sequences
 *     advantages: Float64Array.of(0.7, -0.7), // [N]
 *     tokenCounts: Float64Array.of(1, 2), // [N]
 *   },
 *   { aggregation: 'token-mean' },
 * );
 * console.log(loss, gradScores); // => 0.14 Float64Array(2) [ -0.233, 0.467 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function advantageObjective(
  inputs: AdvantageObjectiveInputs,
  options?: AdvantageObjectiveOptions & AsyncOptions,
): Promise<AdvantageObjective> {
  const own = opOptions.async(options);
  return runAsync(op, takeFields('inputs', inputs), own);
}

/** {@link advantageObjective}, blocking. */
export function advantageObjectiveSync(
  inputs: AdvantageObjectiveInputs,
  options?: AdvantageObjectiveOptions,
): AdvantageObjective {
  const own = opOptions.sync(options);
  return runSync(op, takeFields('inputs', inputs), own);
}
