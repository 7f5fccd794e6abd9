// Defines the advantage-weighted objective (spec section 4). See native/ops/advantage_objective.h.
import type { AdvantageObjectiveArguments } from '../kernels.js';
import { type Sliced, slices, total } from '../slices.js';

/** scale * w_i * A_i. Where w_i is beyond the range of a double, the product may be within it. */
function weighted({ scale, perToken }: AdvantageObjectiveArguments, n: number, advantage: number, normalizer: number) {
  const tokens = perToken ? n : 1;
  const gradient = scale * (tokens / normalizer) * advantage;
  return Number.isFinite(gradient) ? gradient : ((scale * advantage) / normalizer) * tokens;
}

export function* advantageObjective(args: AdvantageObjectiveArguments): Sliced<void> {
  const { scores, advantages, tokenCounts, gradScores } = args;
  const divisor = args.normalizer || (yield* total(tokenCounts));
  const normalizer = Number.isFinite(divisor) ? divisor : NaN; // too many tokens must not make weights of 0
  let loss = 0;
  yield* slices(args.sequences, (begin, end) => {
    for (let i = begin; i < end; i++) {
      gradScores[i] = 0;
      const advantage = advantages?.[i] ?? 1;
      if (tokenCounts[i] === 0 || advantage === 0) continue;
      gradScores[i] = weighted(args, tokenCounts[i], advantage, normalizer);
      loss += gradScores[i] * scores[i];
    }
  });
  args.loss[0] = loss;
}
