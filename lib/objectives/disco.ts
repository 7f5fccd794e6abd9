// DisCO (arXiv 2505.12366; spec section 4): per group, the mean positive score against a soft maximum of the negatives,
// J_g = mean s+ - tau * log(mean exp(s- / tau)), or the plain difference of means; optionally a squared hinge on the KL
// to the behaviour policy. A few numbers per sequence: computed on the host.

import type { Groups } from '../groups.js';
import { requireGroups } from '../levels/batch.js';
import type { Term } from '../levels/gradient.js';
import { klTask, scoreTask } from '../levels/scores.js';
import { newArray } from '../memory.js';
import { namesOf } from '../options.js';
import { mapped, raggedSlices, type Sliced, slices, total } from '../slices.js';
import { finiteNumber, objectArgument } from '../validate.js';
import type { Objective } from './objective.js';
import { withParameters } from './objective.js';
import { allSigns } from './sides.js';
import { ownResult, readWholeScores } from './whole-batch.js';

/** Parameters of `discoObjective`. */
export interface DiscoParameters {
  /** Temperature of the soft maximum, > 0; null for the plain difference of means. Default 10. */
  tau?: number | null | undefined;
  /** What the sum over groups is divided by, > 0. Default G. */
  normalizer?: number | undefined;
  /**
   * Adds `beta / 2 * max(KL - delta, 0)^2`, with KL the token mean of oldLogProbs - logProbs. `true` for the paper's beta 1e3
   * and delta 1e-4. Default: no constraint.
   */
  klConstraint?: boolean | { beta?: number | undefined; delta?: number | undefined } | undefined;
}

/** Names of {@link DiscoParameters}. */
export const DISCO_PARAMETERS = namesOf<DiscoParameters>({
  tau: true,
  normalizer: true,
  klConstraint: { beta: true, delta: true },
});

interface Scored {
  scores: Float64Array; // [N]
  tokenCounts: Float64Array; // [N]
}

interface Checked {
  tau: number | null;
  normalizer: number;
}

/**
 * DisCO's objective (arXiv 2505.12366), for {@link defineLoss}: `loss = -(1/G) sum_g (mean s+ - tau * log(mean exp(s- / tau)))` on any
 * score. `tau` defaults to 10, whatever the score.
 *
 * @example
 * ```ts
 * import { defineLoss, discoObjective } from 'rlvr-kernels';
 *
 * const hardest = defineLoss({ score: 'logLikelihood', objective: discoObjective, defaults: { tau: 0.01 } });
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, groupLosses } = await hardest.run(batch);
 * console.log(loss, groupLosses); // => -0.6 Float64Array(1) [ -0.6 ]
 * ```
 */
export const disco: Objective<DiscoParameters> = withParameters(
  DISCO_PARAMETERS,
  function* (score, _batch, checked, options) {
    const tau = options.tau === null ? null : finiteNumber('tau', options.tau ?? 10, { above: 0 });
    const { whole } = checked;
    const graded = requireGroups(whole);
    const groups = Math.max(graded.cuGroups.length - 1, 1);
    const normalizer = finiteNumber('normalizer', options.normalizer ?? groups, { above: 0 });
    const constraint = hinge(options.klConstraint ?? false);
    const { sides, ownSides } = yield* allSigns(graded.rewards, checked);
    return {
      *evaluate(level) {
        const channel = yield* scoreTask(level, score, { sides: ownSides });
        const kl = constraint && (yield* klTask(level, { kind: 'k1' }, checked.oldLogProbs));
        const { scores, tokenCounts, others } = yield* readWholeScores(level, whole, channel, kl && [kl.scores]);
        const contrasts = yield* contrast({ scores, tokenCounts }, graded, sides, { tau, normalizer });
        const { groupLosses } = contrasts;
        const own = yield* ownResult(whole, checked.sequences, contrasts);
        const terms: Term[] = [{ of: 'logProbs', channel, gradScores: own.gradScores }];
        if (!kl || !constraint) return { losses: own.losses, channel, groupLosses, terms };
        const penalties = yield* constraint({ scores: others[0], tokenCounts });
        const penalty = yield* ownResult(whole, checked.sequences, penalties);
        terms.push({ of: 'logProbs', channel: kl, gradScores: penalty.gradScores });
        return { losses: [...own.losses, ...penalty.losses], channel, groupLosses, terms };
      },
    };
  },
);

/** -J of every group, their sum over the normalizer, and its gradient. */
function* contrast({ scores, tokenCounts }: Scored, batch: Groups, sides: Float64Array, options: Checked) {
  const { tau, normalizer } = options;
  const { cuGroups } = batch;
  const order = batch.groupOrder ?? (yield* identity(scores.length));
  const signed = yield* countSigns({ scores, tokenCounts }, cuGroups, order, sides);
  const { positives, negatives, largest } = signed;
  const contrastive = (g: number) => positives[g] > 0 && negatives[g] > 0 && signed.tokens[g] > 0;
  // Until the last pass, the gradient of a negative score is its part of the mean of exponentials (of scores, without tau).
  const [sums, groupLosses] = [
    newArray('gradScores', Float64Array, positives.length),
    newArray('gradScores', Float64Array, positives.length),
  ];
  const gradScores = newArray('gradScores', Float64Array, scores.length);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    if (!contrastive(g)) return;
    for (let k = begin; k < end; k++) {
      const i = order[k];
      if (sides[i] > 0) continue;
      gradScores[i] = tau === null ? 1 : Math.exp((scores[i] - largest[g]) / tau);
      sums[g] += tau === null ? scores[i] / negatives[g] : gradScores[i];
    }
  });
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    if (!contrastive(g)) return;
    // By differences to the largest score, so that no tau overflows.
    const softMaximum = tau === null ? sums[g] : largest[g] + tau * Math.log(sums[g] / negatives[g]);
    const whole = tau === null ? negatives[g] : sums[g];
    if (begin === cuGroups[g]) groupLosses[g] = softMaximum;
    for (let k = begin; k < end; k++) {
      const i = order[k];
      if (sides[i] > 0) groupLosses[g] -= scores[i] / positives[g];
      gradScores[i] = sides[i] > 0 ? -1 / (positives[g] * normalizer) : gradScores[i] / whole / normalizer;
    }
  });
  const loss = Float64Array.of((yield* total(groupLosses)) / normalizer);
  return { loss, groupLosses, gradScores };
}

/** 0, 1, ... n - 1. */
function* identity(n: number): Sliced<Int32Array> {
  const order = newArray('gradScores', Int32Array, n);
  yield* slices(n, (begin, end) => {
    for (let i = begin; i < end; i++) order[i] = i;
  });
  return order;
}

/** Of every group [G]: positive and negative sequences, tokens, and the largest negative score. */
function* countSigns({ scores, tokenCounts }: Scored, cuGroups: Int32Array, order: Int32Array, sides: Float64Array) {
  const groups = cuGroups.length - 1;
  const [positives, negatives] = [
    newArray('gradScores', Int32Array, groups),
    newArray('gradScores', Int32Array, groups),
  ];
  const [tokens, largest] = [
    newArray('gradScores', Float64Array, groups),
    newArray('gradScores', Float64Array, groups).fill(-Infinity),
  ];
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    for (let k = begin; k < end; k++) {
      const i = order[k];
      tokens[g] += tokenCounts[i];
      if (sides[i] > 0) {
        positives[g]++;
      } else {
        negatives[g]++;
        largest[g] = Math.max(largest[g], scores[i]);
      }
    }
  });
  return { positives, negatives, tokens, largest };
}

/** The constraint on k1 scores (means of logProbs - oldLogProbs), checked. */
function hinge(option: boolean | { beta?: number; delta?: number }) {
  if (option === false) return undefined;
  const given = option === true ? {} : objectArgument('klConstraint', option);
  const beta = finiteNumber('klConstraint.beta', given.beta ?? 1e3, { min: 0 });
  const delta = finiteNumber('klConstraint.delta', given.delta ?? 1e-4, { min: 0 });
  return function* ({ scores, tokenCounts }: Scored) {
    const tokens = Math.max(yield* total(tokenCounts), 1);
    const kl = (yield* total(scores, tokenCounts)) / tokens;
    const excess = Math.max(-kl - delta, 0);
    const gradScores = yield* mapped(tokenCounts, (n) => -(beta * excess * n) / tokens + 0); // + 0: never -0
    return { loss: Float64Array.of((beta / 2) * excess ** 2), gradScores };
  };
}
