// Where entropy falls: the few tokens whose log-prob goes most with their advantage (arXiv 2505.22617, spec section 4). Clip-Cov takes
// some of them, drawn at random, out of the policy term; KL-Cov holds the foremost of them near the old policy.

import { spreadOverTokens } from '../groups.js';
import { mixed } from '../hashes.js';
import { klTask, type Score, scoreTask, tokenTermsTask } from '../levels/scores.js';
import { maskTask, type TokenLevel, type TokensSoFar } from '../levels/token-level.js';
import { newArray } from '../memory.js';
import { type AggregationParameters, aggregationWeights, weightedSumTask } from '../ops/advantage-objective.js';
import { namesOf } from '../options.js';
import type { KlScore } from '../ratio-score.js';
import { read, type Task } from '../run/task.js';
import { mapped, type Sliced, slices } from '../slices.js';
import { finiteNumber, objectArgument } from '../validate.js';
import type { CheckedBatch, ObjectiveResult } from './objective.js';
import { type PolicyFactor, ranked } from './policy-factors.js';
import { gatherColumns, ownPart, type Whole, wholeWeights } from './whole-batch.js';

/**
 * Parameters of what is done with the tokens of the largest covariances (A_t - mean A)(logProbs_t - mean logProbs), with the means of the
 * tokens that count in the batch of the call.
 */
export interface CovarianceParameters {
  /**
   * Clip-Cov: takes tokens out of the policy term, drawn at random from those with a covariance between `low` and `high` that no clip has
   * stopped already (verl's `clip_cov`).
   */
  clipCov?:
    | {
        /** How many, as a share of the tokens that count, in [0, 1]: rounded down, but one at least unless it is 0. Default 2e-4. */
        ratio?: number | undefined;
        /** Their covariance is above this. Default 1. */
        low?: number | undefined;
        /** And below this; Infinity for no bound. Default 5. */
        high?: number | undefined;
        /** Decides which, a whole number in [0, 2^32): give each step another one. Default 0. */
        seed?: number | undefined;
      }
    | undefined;
  /**
   * KL-Cov: adds `coef * |logProbs - oldLogProbs|`, with its gradient, to the policy term of the tokens of the largest covariances (verl's
   * `kl_cov`). Weights and masks on the policy term multiply it, advantages do not.
   */
  klCov?:
    | {
        /** How many, as that of `clipCov`. Default 2e-4. */
        ratio?: number | undefined;
        /** At least 0. Default 1. */
        coef?: number | undefined;
      }
    | undefined;
}

/** Names of {@link CovarianceParameters}. */
export const COVARIANCE_PARAMETERS = namesOf<CovarianceParameters>({
  clipCov: { ratio: true, low: true, high: true, seed: true },
  klCov: { ratio: true, coef: true },
});

const RATIO = 2e-4;

/** The weights that leave out the tokens of Clip-Cov; undefined where there is none. */
export function clipCovWeights(
  score: Score,
  whole: Whole,
  { clipCov: given }: CovarianceParameters,
  perToken: boolean,
): PolicyFactor | undefined {
  if (given === undefined) return undefined;
  const { ratio = RATIO, low = 1, high = 5, seed = 0 } = objectArgument('clipCov', given);
  const share = finiteNumber('clipCov.ratio', ratio, { min: 0, max: 1 });
  const least = finiteNumber('clipCov.low', low);
  const most = finiteNumber('clipCov.high', high, { min: least, unbounded: true });
  const place = shuffled(finiteNumber('clipCov.seed', seed, { min: 0, max: 2 ** 32 - 1, integer: true }));
  return {
    argument: 'clipCov',
    perToken: true,
    late: true,
    *task(tokens, advantages) {
      const isStopped = yield* stoppedTokens(tokens, score, advantages, perToken);
      const own = yield* mapped(newArray('clipCov', Float64Array, tokens.checked.tokens), (_, t) => +isStopped(t));
      const { covariances, count, stopped } = yield* covariancesTask(tokens, whole, advantages, perToken, own);
      const places = yield* mapped(covariances, (covariance, t) =>
        covariance > least && covariance < most && stopped[t] === 0 ? place(t) : Number.NaN,
      );
      const chosen = yield* largest(places, numberOf(share, count));
      return yield* mapped(own, (_, t) => 1 - chosen[whole.firstToken + t]);
    },
  };
}

/** Constants that multiply a term, besides advantages. */
export interface TermWeights {
  ofTokens: Float64Array | undefined; // [T]
  ofSequences: Float64Array | undefined; // [N]
}

/** Adds the penalty of KL-Cov to an objective's result. */
export type CovariancePenalty = (
  level: TokenLevel,
  result: ObjectiveResult,
  advantages: Float64Array,
  weights: TermWeights,
) => Task<ObjectiveResult>;

const ABSOLUTE: KlScore = { kind: 'abs' };

/** That penalty; undefined where there is none. */
export function klCovPenalty(
  { oldLogProbs, cuSeqlens, tokens, whole }: CheckedBatch,
  options: CovarianceParameters & AggregationParameters,
  perToken: boolean,
): CovariancePenalty | undefined {
  if (options.klCov === undefined) return undefined;
  const { ratio = RATIO, coef = 1 } = objectArgument('klCov', options.klCov);
  const share = finiteNumber('klCov.ratio', ratio, { min: 0, max: 1 });
  const coefficient = finiteNumber('klCov.coef', coef, { min: 0 });
  const weights = aggregationWeights(options, whole.sequences);
  return function* (level, result, advantages, { ofTokens, ofSequences }) {
    const { covariances, count } = yield* covariancesTask(level, whole, advantages, perToken);
    const chosen = ownPart(yield* largest(covariances, numberOf(share, count)), whole.firstToken, tokens);
    const tokenWeights = ofTokens ? yield* mapped(chosen, (one, t) => one * ofTokens[t]) : chosen;
    const channel = yield* klTask(level, ABSOLUTE, oldLogProbs, tokenWeights);
    const { scores, tokenCounts } = channel;
    const ofAll = yield* wholeWeights(level, whole, weights);
    const { loss, gradScores } = yield* weightedSumTask(scores, ofSequences, tokenCounts, ofAll, coefficient);
    const terms = [...result.terms, { of: 'logProbs' as const, channel, gradScores }];
    const sum = { ...result, losses: [...result.losses, loss], terms };
    if (!result.tokenLosses) return sum;
    const absolutes = yield* tokenTermsTask(level, ABSOLUTE, { tokenWeights });
    const each = ofSequences && (yield* spreadOverTokens(ofSequences, cuSeqlens, undefined));
    const tokenLosses = yield* mapped(
      result.tokenLosses,
      (own, t) => own + coefficient * absolutes[t] * (each?.[t] ?? 1),
    );
    return { ...sum, tokenLosses };
  };
}

/** How many tokens a share of them is. */
function numberOf(share: number, tokens: number): number {
  return share === 0 ? 0 : Math.max(1, Math.floor(share * tokens));
}

/**
 * Covariances of the tokens of all ranks, NaN for those that do not count; and how many do. Advantages are [T] if `perToken`, else [N]. What
 * is `stopped` [T] is given back for all.
 */
function* covariancesTask(
  tokens: TokensSoFar,
  { ranks }: Whole,
  advantages: Float64Array,
  perToken: boolean,
  stopped?: Float64Array,
): Task<{ covariances: Float64Array; count: number; stopped: Float64Array }> {
  const mask = yield* maskTask(tokens);
  const [ownLogProbs] = yield* read(tokens.logProbs!);
  const spread = perToken ? advantages : yield* spreadOverTokens(advantages, tokens.checked.cuSeqlens, mask);
  const own = [yield* mapped(spread, (A, t) => (mask?.[t] === 0 ? Number.NaN : A)), ownLogProbs];
  if (stopped) own.push(stopped);
  const [each, logProbs, stoppedOfAll = new Float64Array()] = ranks ? yield* gatherColumns(ranks, own) : own;
  let [count, ofAdvantages, ofLogProbs] = [0, 0, 0];
  yield* slices(each.length, (begin, end) => {
    for (let t = begin; t < end; t++) {
      if (Number.isNaN(each[t])) continue;
      count++;
      ofAdvantages += UNIT * each[t];
      ofLogProbs += UNIT * logProbs[t];
    }
  });
  const [advantage, logProb] = [ofAdvantages / count / UNIT, ofLogProbs / count / UNIT]; // their means
  const covariances = yield* mapped(each, (A, t) => (A - advantage) * (logProbs[t] - logProb));
  return { covariances, count, stopped: stoppedOfAll };
}

/** Sums are taken in units of 2^32, which is exact: no sum of so many numbers leaves the range of a double. */
const UNIT = 2 ** -32;

/** Which tokens with an advantage have no gradient of the policy term: those that a clip, or a clamp, has stopped. */
function* stoppedTokens(
  tokens: TokensSoFar,
  score: Score,
  advantages: Float64Array,
  perToken: boolean,
): Task<(t: number) => boolean> {
  const inputs = perToken ? { tokenWeights: yield* mapped(advantages, Math.sign) } : { sides: advantages };
  const { scoreGrads } = yield* scoreTask({ ...tokens, logProbs: tokens.logProbs! }, score, inputs);
  if (!scoreGrads) return () => false; // of a mean
  const [slopes] = yield* read(scoreGrads);
  return (t) => Math.abs(slopes[t]) < NO_SLOPE && !(perToken && advantages[t] === 0);
}

/** Of a gate far out, which one backend rounds to 0 and another does not. */
const NO_SLOPE = 1e-290;

/** [T] 1 for the largest `count` of some values, the first ones of those that are equal, else 0; NaN is none of them. */
function* largest(values: Float64Array, count: number): Sliced<Float64Array> {
  const chosen = newArray('covariances', Float64Array, values.length);
  const found = newArray('covariances', Float64Array, values.length);
  let size = 0;
  yield* slices(values.length, (begin, end) => {
    for (let t = begin; t < end; t++) if (!Number.isNaN(values[t])) found[size++] = values[t];
  });
  if (count === 0 || size === 0) return chosen;
  const least = count < size ? yield* ranked(found.subarray(0, size), size - count) : -Infinity;
  let equal = Math.min(count, size); // how many of those that equal the least
  yield* slices(size, (begin, end) => {
    for (let k = begin; k < end; k++) if (found[k] > least) equal--;
  });
  yield* slices(values.length, (begin, end) => {
    for (let t = begin; t < end; t++) {
      if (values[t] > least || (values[t] === least && equal-- > 0)) chosen[t] = 1;
    }
  });
  return chosen;
}

/** The order of tokens by chance: a place below 2^32 for each, no two alike, that depends on the seed and the token alone. */
function shuffled(seed: number): (t: number) => number {
  const key = mixed(seed ^ 0x9e3779b9);
  return (t) => mixed(t ^ key);
}
