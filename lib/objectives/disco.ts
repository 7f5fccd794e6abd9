// DisCO (arXiv 2505.12366; spec section 4): per group, the mean positive score against a soft maximum of the negatives,
// J_g = mean s+ - tau * log(mean exp(s- / tau)), or the plain difference of means; optionally a squared hinge on the KL
// to the behaviour policy. A few numbers per sequence: computed on the host.

import type { Groups } from '../groups.js';
import { groupMembers } from '../groups.js';
import { requireGroups } from '../levels/batch.js';
import type { Term } from '../levels/gradient.js';
import { klTask, scoreTask } from '../levels/scores.js';
import { readResults } from '../levels/token-level.js';
import { namesOf } from '../options.js';
import { finiteNumber, objectArgument } from '../validate.js';
import type { Objective } from './objective.js';
import { withParameters } from './objective.js';
import { signs } from './sides.js';

/** Parameters of `discoObjective`. */
export interface DiscoParameters {
  /** Temperature of the soft maximum, > 0; null for the plain difference of means. Default 10. */
  tau?: number | null;
  /** What the sum over groups is divided by, > 0. Default G. */
  normalizer?: number;
  /**
   * Adds `beta / 2 * max(KL - delta, 0)^2`, with KL the token mean of oldLogProbs - logProbs. `true` for the paper's beta 1e3
   * and delta 1e-4. Default: no constraint.
   */
  klConstraint?: boolean | { beta?: number; delta?: number };
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
export const disco: Objective<DiscoParameters> = withParameters(DISCO_PARAMETERS, (score, _batch, checked, options) => {
  const tau = options.tau === null ? null : finiteNumber('tau', options.tau ?? 10, { above: 0 });
  const graded = requireGroups(checked);
  const groups = Math.max(graded.cuGroups.length - 1, 1);
  const normalizer = finiteNumber('normalizer', options.normalizer ?? groups, { above: 0 });
  const constraint = hinge(options.klConstraint ?? false);
  const sides = signs(graded.rewards, checked.positiveThreshold);
  return {
    *evaluate(level) {
      const channel = yield* scoreTask(level, score, { sides });
      const kl = constraint && (yield* klTask(level, 'k1', checked.oldLogProbs));
      const { scores, tokenCounts } = channel;
      const { nonFinite } = level;
      const read = yield* readResults(level, { nonFinite, scores, tokenCounts, klScores: kl?.scores });
      const { loss, groupLosses, gradScores } = contrast(read, graded, sides, { tau, normalizer });
      const terms: Term[] = [{ of: 'logProbs', channel, gradScores }];
      if (!kl || !constraint) return { losses: [loss], channel, groupLosses, terms };
      const penalty = constraint({ scores: read.klScores ?? new Float64Array(), tokenCounts: read.tokenCounts });
      terms.push({ of: 'logProbs', channel: kl, gradScores: penalty.gradScores });
      return { losses: [loss, penalty.loss], channel, groupLosses, terms };
    },
  };
});

/** -J of every group, their sum over the normalizer, and its gradient. */
function contrast({ scores, tokenCounts }: Scored, batch: Groups, sides: Float64Array, options: Checked) {
  const groups = batch.cuGroups.length - 1;
  const groupLosses = new Float64Array(groups);
  const gradScores = new Float64Array(scores.length);
  for (let g = 0; g < groups; g++) {
    const members = groupMembers(batch, g);
    const positives = members.filter((i) => sides[i] > 0);
    const negatives = members.filter((i) => sides[i] < 0);
    if (positives.length === 0 || negatives.length === 0 || members.every((i) => tokenCounts[i] === 0)) continue;
    const shares = softmaxShares(negatives, scores, options.tau);
    groupLosses[g] = shares.value;
    for (const i of positives) {
      groupLosses[g] -= scores[i] / positives.length;
      gradScores[i] = -1 / (positives.length * options.normalizer);
    }
    negatives.forEach((j, k) => {
      gradScores[j] = shares.weights[k] / options.normalizer;
    });
  }
  const loss = Float64Array.of(groupLosses.reduce((sum, value) => sum + value, 0) / options.normalizer);
  return { loss, groupLosses, gradScores };
}

/** tau * log(mean exp(s / tau)) of some scores and its gradient; by differences to the largest, so that no tau overflows. */
function softmaxShares(members: readonly number[], scores: Float64Array, tau: number | null) {
  const n = members.length;
  if (tau === null) {
    return { value: members.reduce((sum, j) => sum + scores[j] / n, 0), weights: members.map(() => 1 / n) };
  }
  const largest = members.reduce((max, j) => Math.max(max, scores[j]), -Infinity);
  const exponentials = members.map((j) => Math.exp((scores[j] - largest) / tau));
  const sum = exponentials.reduce((total, e) => total + e, 0);
  return { value: largest + tau * Math.log(sum / n), weights: exponentials.map((e) => e / sum) };
}

/** The constraint on k1 scores (means of logProbs - oldLogProbs), checked. */
function hinge(option: boolean | { beta?: number; delta?: number }) {
  if (option === false) return undefined;
  const given = option === true ? {} : objectArgument('klConstraint', option);
  const beta = finiteNumber('klConstraint.beta', given.beta ?? 1e3, { min: 0 });
  const delta = finiteNumber('klConstraint.delta', given.delta ?? 1e-4, { min: 0 });
  return ({ scores, tokenCounts }: Scored) => {
    const tokens = Math.max(
      tokenCounts.reduce((sum, n) => sum + n, 0),
      1,
    );
    const excess = Math.max(-scores.reduce((sum, s, i) => sum + s * tokenCounts[i], 0) / tokens - delta, 0);
    const gradScores = tokenCounts.map((n) => -(beta * excess * n) / tokens + 0); // + 0: never -0
    return { loss: Float64Array.of((beta / 2) * excess ** 2), gradScores };
  };
}
