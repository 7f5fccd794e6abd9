// REAL (arXiv 2602.05630; spec section 4): rewards as labels. Per group, log(1 + sum over positives of e^(-s / tau)) +
// log(1 + sum over negatives of e^(s / tau)). A few numbers per sequence: computed on the host.

import type { Groups } from '../groups.js';
import { requireGroups } from '../levels/batch.js';
import { scoreTask } from '../levels/scores.js';
import { newArray } from '../memory.js';
import { namesOf } from '../options.js';
import { mapped, raggedSlices, type Sliced, total } from '../slices.js';
import { finiteNumber } from '../validate.js';
import type { Objective } from './objective.js';
import { withParameters } from './objective.js';
import { allSigns } from './sides.js';
import { ownResult, readWholeScores } from './whole-batch.js';

/** Parameters of `realObjective`. */
export interface RealParameters {
  /** Temperature of the scores, > 0. Default 0.5. */
  tau?: number | undefined;
  /** What the sum over groups is divided by, > 0. Default G. */
  normalizer?: number | undefined;
}

/** Names of {@link RealParameters}. */
export const REAL_PARAMETERS = namesOf<RealParameters>({ tau: true, normalizer: true });

/**
 * REAL's objective (arXiv 2602.05630), for {@link defineLoss}: `loss = (1/G) sum_g (log(1 + sum exp(-s+ / tau)) + log(1 + sum exp(s- / tau)))` on any
 * score, over the positives and the negatives of group g. A group without both signs adds 0.
 *
 * @example
 * ```ts
 * import { defineLoss, realObjective } from 'rlvr-kernels';
 *
 * const onRatios = defineLoss({ score: { kind: 'sequenceRatio', epsilonLow: 1, epsilonHigh: 1 }, objective: realObjective });
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, groupLosses } = await onRatios.run(batch, { tau: 1 });
 * console.log(loss, groupLosses); // => 1.444 Float64Array(1) [ 1.444 ]
 * ```
 */
export const real: Objective<RealParameters> = withParameters(
  REAL_PARAMETERS,
  function* (score, _batch, checked, options) {
    const tau = finiteNumber('tau', options.tau ?? 0.5, { above: 0 });
    const { whole } = checked;
    const { rewards, ...groups } = requireGroups(whole);
    const count = Math.max(groups.cuGroups.length - 1, 1);
    const normalizer = finiteNumber('normalizer', options.normalizer ?? count, { above: 0 });
    const { sides, ownSides } = yield* allSigns(rewards, checked);
    return {
      *evaluate(level) {
        const channel = yield* scoreTask(level, score, { sides: ownSides });
        const { scores, tokenCounts } = yield* readWholeScores(level, whole, channel);
        // By sign, how wrong each sequence is: -s / tau of a positive, s / tau of a negative.
        const wrong = yield* mapped(scores, (s, i) => (sides[i] > 0 ? -s : s) / tau);
        const { loss, groupLosses, parts } = yield* sums(wrong, sides, tokenCounts, groups, normalizer);
        const ofAll = yield* mapped(parts, (part, i) => (sides[i] > 0 ? -part : part) / tau);
        const { losses, gradScores } = yield* ownResult(whole, checked.sequences, { loss, gradScores: ofAll });
        return { losses, channel, groupLosses, terms: [{ of: 'logProbs', channel, gradScores }] };
      },
    };
  },
);

/** log(1 + sum e^x) of each sign, of every group; their sum over the normalizer, and its derivative by each x. */
function* sums(
  x: Float64Array,
  sides: Float64Array,
  tokenCounts: Float64Array,
  { cuGroups, groupOrder }: Groups,
  normalizer: number,
): Sliced<{ loss: Float64Array; groupLosses: Float64Array; parts: Float64Array }> {
  const groups = cuGroups.length - 1;
  const newGroups = () => newArray('groupLosses', Float64Array, groups);
  const [tokens, groupLosses] = [newGroups(), newGroups()];
  // Of the positives and the negatives: their number, the largest of 0 and their x, and the sum of e^(x - largest).
  const of = () => ({ count: newGroups(), largest: newGroups(), sum: newGroups() });
  const [positives, negatives] = [of(), of()];
  const each = (work: (g: number, i: number, sign: typeof positives) => void) =>
    raggedSlices(cuGroups, (g, begin, end) => {
      for (let k = begin; k < end; k++) {
        const i = groupOrder?.[k] ?? k;
        work(g, i, sides[i] > 0 ? positives : negatives);
      }
    });
  yield* each((g, i, { count, largest }) => {
    tokens[g] += tokenCounts[i];
    count[g]++;
    largest[g] = Math.max(largest[g], x[i]);
  });
  yield* each((g, i, { largest, sum }) => {
    sum[g] += Math.exp(x[i] - largest[g]);
  });
  const taught = (g: number) => positives.count[g] > 0 && negatives.count[g] > 0 && tokens[g] > 0;
  const logSum = ({ largest, sum }: typeof positives, g: number) =>
    largest[g] + (largest[g] === 0 ? Math.log1p(sum[g]) : Math.log(Math.exp(-largest[g]) + sum[g]));
  const parts = newArray('gradScores', Float64Array, x.length);
  yield* each((g, i, sign) => {
    if (taught(g))
      parts[i] = Math.exp(x[i] - sign.largest[g]) / (Math.exp(-sign.largest[g]) + sign.sum[g]) / normalizer;
  });
  yield* raggedSlices(cuGroups, (g, begin) => {
    if (begin === cuGroups[g] && taught(g)) groupLosses[g] = logSum(positives, g) + logSum(negatives, g);
  });
  return { loss: Float64Array.of((yield* total(groupLosses)) / normalizer), groupLosses, parts };
}
