/** +1 for a positive sequence, -1 for a negative one: the sides of a group objective. */
export function signs(rewards: Float64Array, positiveThreshold: number): Float64Array {
  return rewards.map((reward) => (reward > positiveThreshold ? 1 : -1));
}
