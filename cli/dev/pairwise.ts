// The user's loss of docs/losses.md, to see what a loss of one's own costs beside those of the package.
import { defineLoss, scoreObjective } from 'rlvr-kernels';

/**
 * Every positive against every negative of its group.
 * @type {import('rlvr-kernels').Objective<{ tau: number }>}
 */
const everyPair = scoreObjective(({ scores, sides, cuGroups, groupOrder }, { tau = 0.1 }) => {
  const gradScores = new Float64Array(scores.length);
  let loss = 0;
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    const places = Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, k) => cuGroups[g] + k);
    const members = places.map((k) => groupOrder?.[k] ?? k);
    const positives = members.filter((i) => sides[i] > 0);
    const negatives = members.filter((j) => sides[j] < 0);
    const weight = 1 / (positives.length * negatives.length * (cuGroups.length - 1));
    for (const i of positives) {
      for (const j of negatives) {
        const gap = (scores[j] - scores[i]) / tau;
        loss += weight * tau * (Math.max(gap, 0) + Math.log1p(Math.exp(-Math.abs(gap))));
        gradScores[i] -= weight / (1 + Math.exp(-gap));
        gradScores[j] += weight / (1 + Math.exp(-gap));
      }
    }
  }
  return { loss, gradScores };
});

/** @type {import('rlvr-kernels').Loss<{ tau: number }, unknown>} */
const loss = defineLoss({ score: 'logLikelihood', objective: everyPair });

/**
 * With tau 1 no score is so far ahead that its gradient is 0: such rows are not read.
 * @type {import('../../dist/bench/sections/losses.js').LossFunction}
 */
export const pairwise = (batch, options) => loss.runSync(batch, { tau: 1, ...options });
