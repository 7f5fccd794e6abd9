// The user's loss of docs/losses.md, to see what a loss of one's own costs next to the package's.
import type { LossFunction } from '../../bench/sections/loss-functions.js';
import { defineLoss, type Objective, scoreObjective } from '../../lib/index.js';

/** Every positive against every negative of its group. */
const everyPair: Objective<{ tau: number }> = scoreObjective(
  ({ scores, sides, cuGroups, groupOrder }, { tau = 0.1 }) => {
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
  },
);

const loss = defineLoss({ score: 'logLikelihood', objective: everyPair });

/** With tau 1 no score is so far ahead that its gradient is 0: such rows are not read. */
export const pairwise: LossFunction = (batch, options) => loss.runSync(batch, { tau: 1, ...options });
