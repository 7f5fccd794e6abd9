// Constants that multiply the policy term, besides advantages (spec section 9): weights of the caller's own, and masks. The
// denominators, the KL penalty and the entropy bonus know nothing of them.

import { badArgument } from '../errors.js';
import { maskTask, type TokensSoFar, tokenCountsTask } from '../levels/token-level.js';
import { newArray } from '../memory.js';
import { namesOf } from '../options.js';
import { read, type Task } from '../run/task.js';
import { findIndex, mapped, raggedSlices, type Sliced, slices } from '../slices.js';
import { type FloatArray, finiteNumber, maskedFinite, objectArgument } from '../validate.js';
import type { CheckedBatch } from './objective.js';
import { gatherColumns } from './whole-batch.js';

/** Further field in the batch of the advantage-weighted losses. */
export interface TokenWeightInputs {
  /** [T] weights of your own, >= 0, constants that multiply the policy term of each token; denominators stay as they are. */
  tokenWeights?: FloatArray | undefined;
}

/** Parameters of the masks on the policy term. */
export interface MaskParameters {
  /**
   * Drops the policy term of sequences with a negative advantage that have moved far from what sampled them: whose mean over the
   * tokens of (rolloutLogProbs, else oldLogProbs) - logProbs is above `delta`, >= 0. Of advantages per token, the negative ones.
   * (DeepSeek-V3.2; TRL's `off_policy_mask_threshold`.)
   */
  offPolicyMask?:
    | {
        /** In nats. */
        delta: number;
      }
    | undefined;
  /**
   * Drops the policy term of tokens whose entropy is below this quantile, in [0, 1], of the entropies of all tokens that count; from
   * logits or hidden states only. TRL's `top_entropy_quantile` is one minus this.
   */
  entropyQuantile?: number | undefined;
}

/** Names of {@link MaskParameters}. */
export const MASK_PARAMETERS = namesOf<MaskParameters>({ offPolicyMask: { delta: true }, entropyQuantile: true });

/** Constants that multiply the policy term. */
export interface PolicyFactor {
  /** What asked for it. */
  argument: string;
  /** [T], else [N]. */
  perToken: boolean;
  /** Whether it depends on log-probs or entropies that are yet to be computed. */
  late: boolean;
  task(tokens: TokensSoFar, advantages: Float64Array): Task<Float64Array>;
}

/** [T] weights that the batch gives for each token, checked; 0 where masked. */
export function* givenWeights(
  argument: string,
  given: FloatArray | undefined,
  { tokens, mask }: CheckedBatch,
): Sliced<PolicyFactor | undefined> {
  if (given === undefined) return undefined;
  const values = yield* maskedFinite(argument, given, tokens, mask);
  const negative = yield* findIndex(tokens, (t) => mask?.[t] !== 0 && values[t] < 0);
  if (negative !== -1) {
    const got = `${values[negative]} at index ${negative}`;
    throw badArgument('ERR_RANGE', argument, 'weights of at least 0 at unmasked tokens', got);
  }
  const weights = yield* selected(values, mask);
  return {
    argument,
    perToken: true,
    late: false,
    // biome-ignore lint/correctness/useYield: a task without a kernel
    *task() {
      return weights;
    },
  };
}

/** 0 where masked, whatever stands there. */
export function* selected(values: Float64Array, mask: Uint8Array | undefined): Sliced<Float64Array> {
  return mask ? yield* mapped(values, (value, t) => (mask[t] === 0 ? 0 : value)) : values;
}

/** The mask on sequences far from what sampled them; undefined where there is none, or nothing to be far from. */
export function offPolicyMask(
  { rolloutLogProbs, oldLogProbs, cuSeqlens, tokens: length }: CheckedBatch,
  { offPolicyMask: given }: MaskParameters,
  perToken: boolean,
): PolicyFactor | undefined {
  if (given === undefined) return undefined;
  const delta = finiteNumber('offPolicyMask.delta', objectArgument('offPolicyMask', given).delta, { min: 0 });
  const behaviour = rolloutLogProbs ?? oldLogProbs;
  if (!behaviour) return undefined;
  return {
    argument: 'offPolicyMask',
    perToken,
    late: true,
    *task(tokens, advantages) {
      const mask = yield* maskTask(tokens);
      const counts = yield* tokenCountsTask(tokens);
      const [logProbs] = yield* read(tokens.logProbs!);
      const distances = newArray('offPolicyMask', Float64Array, counts.length);
      yield* raggedSlices(cuSeqlens, (i, begin, end) => {
        for (let t = begin; t < end; t++) {
          const unscored = Number.isNaN(behaviour[t]); // tells nothing
          if (mask?.[t] !== 0 && !unscored) distances[i] += behaviour[t] - logProbs[t];
        }
      });
      const isFar = (i: number) => distances[i] / Math.max(counts[i], 1) > delta;
      if (!perToken) return yield* mapped(advantages, (advantage, i) => (advantage < 0 && isFar(i) ? 0 : 1));
      const kept = newArray('offPolicyMask', Float64Array, length);
      yield* raggedSlices(cuSeqlens, (i, begin, end) => {
        for (let t = begin; t < end; t++) kept[t] = advantages[t] < 0 && isFar(i) ? 0 : 1;
      });
      return kept;
    },
  };
}

/** The mask on tokens of low entropy, if there is one. */
export function entropyMask(
  { logProbsSource, tokens: length, whole }: CheckedBatch,
  { entropyQuantile }: MaskParameters,
): PolicyFactor | undefined {
  if (entropyQuantile === undefined) return undefined;
  const q = finiteNumber('entropyQuantile', entropyQuantile, { min: 0, max: 1 });
  if (logProbsSource)
    throw badArgument('ERR_RANGE', 'entropyQuantile', 'none for a batch of log-probs', String(entropyQuantile));
  return {
    argument: 'entropyQuantile',
    perToken: true,
    late: true,
    *task(tokens) {
      const mask = yield* maskTask(tokens);
      const [entropy] = yield* read(tokens.entropy!);
      const counted = newArray('entropyQuantile', Float64Array, length);
      let count = 0;
      yield* slices(length, (begin, end) => {
        for (let t = begin; t < end; t++) if (mask?.[t] !== 0) counted[count++] = entropy[t];
      });
      const own = counted.subarray(0, count);
      const [ofAll] = whole.ranks ? yield* gatherColumns(whole.ranks, [own]) : [own];
      const threshold = yield* quantile(ofAll, q);
      return yield* mapped(entropy, (H, t) => (mask?.[t] !== 0 && H >= threshold ? 1 : 0));
    },
  };
}

/** The q-quantile of values, interpolated linearly between two of them; NaN of none. */
function* quantile(values: Float64Array, q: number): Sliced<number> {
  if (values.length === 0) return Number.NaN;
  const position = q * (values.length - 1);
  const [below, above] = [Math.floor(position), Math.ceil(position)];
  const low = yield* ranked(values, below);
  const high = above === below ? low : yield* ranked(values, above);
  return low + (high - low) * (position - below);
}

/** The value at a place of the sorted order: by parts that are below or above a pivot, of which one goes on. */
export function* ranked(values: Float64Array, place: number): Sliced<number> {
  let [among, rank] = [values, place];
  for (;;) {
    const { length } = among;
    const [a, b, c] = [among[0], among[length >> 1], among[length - 1]];
    const pivot = Math.max(Math.min(a, b), Math.min(Math.max(a, b), c)); // the median of three
    const parts = newArray('values', Float64Array, length);
    let [below, above] = [0, length];
    const given = among;
    yield* slices(length, (begin, end) => {
      for (let i = begin; i < end; i++) {
        if (given[i] < pivot) parts[below++] = given[i];
        else if (given[i] > pivot) parts[--above] = given[i];
      }
    });
    if (rank >= below && rank < above) return pivot;
    among = rank < below ? parts.subarray(0, below) : parts.subarray(above);
    if (rank >= above) rank -= above;
  }
}
