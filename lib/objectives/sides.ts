import { mapped, type Sliced } from '../slices.js';
import type { CheckedBatch } from './objective.js';
import { ownPart } from './whole-batch.js';

/** [N] +1 for a positive sequence, -1 for a negative one: the sides of a group objective. */
function signs(rewards: Float64Array, positiveThreshold: number): Sliced<Float64Array> {
  return mapped(rewards, (reward) => (reward > positiveThreshold ? 1 : -1));
}

/** Those of the `rewards` of all ranks, and this rank's own. */
export function* allSigns(rewards: Float64Array, { whole, sequences, positiveThreshold }: CheckedBatch) {
  const sides = yield* signs(rewards, positiveThreshold);
  return { sides, ownSides: ownPart(sides, whole.first, sequences) };
}
