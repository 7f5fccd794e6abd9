import { mapped, type Sliced } from '../slices.js';

/** [N] +1 for a positive sequence, -1 for a negative one: the sides of a group objective. */
export function signs(rewards: Float64Array, positiveThreshold: number): Sliced<Float64Array> {
  return mapped(rewards, (reward) => (reward > positiveThreshold ? 1 : -1));
}
