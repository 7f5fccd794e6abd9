// Defines the advantage-weighted objective (spec section 4). See native/ops/advantage_objective.h.
import type { AdvantageObjectiveArguments } from '../kernels.js';
import { type Sliced, slices, total } from '../slices.js';

export function* advantageObjective(args: AdvantageObjectiveArguments): Sliced<void> {
  const { scores, advantages, tokenCounts, gradScores } = args;
  const normalizer = args.normalizer || (yield* total(tokenCounts));
  let loss = 0;
  yield* slices(args.sequences, (begin, end) => {
    for (let i = begin; i < end; i++) {
      gradScores[i] = 0;
      const advantage = advantages?.[i] ?? 1;
      if (tokenCounts[i] === 0 || advantage === 0) continue;
      const weight = (args.perToken ? tokenCounts[i] : 1) / normalizer;
      gradScores[i] = args.scale * weight * advantage;
      loss += gradScores[i] * scores[i];
    }
  });
  args.loss[0] = loss;
}
