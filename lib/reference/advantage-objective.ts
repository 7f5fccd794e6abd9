// Defines the advantage-weighted objective (spec section 4). See native/ops/advantage_objective.h.
import type { AdvantageObjectiveArguments } from '../kernels.js';
import type { Pauses } from './token-log-probs.js';

export function* advantageObjective(args: AdvantageObjectiveArguments): Pauses {
  const { scores, advantages, tokenCounts, gradScores } = args;
  yield;
  const normalizer = args.normalizer || tokenCounts.reduce((sum, n) => sum + n, 0);
  let loss = 0;
  for (let i = 0; i < args.sequences; i++) {
    gradScores[i] = 0;
    const advantage = advantages?.[i] ?? 1;
    if (tokenCounts[i] === 0 || advantage === 0) continue;
    const weight = (args.perToken ? tokenCounts[i] : 1) / normalizer;
    gradScores[i] = args.scale * weight * advantage;
    loss += gradScores[i] * scores[i];
  }
  args.loss[0] = loss;
}
