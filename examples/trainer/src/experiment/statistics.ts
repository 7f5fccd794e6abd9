// Means with intervals, by the bootstrap over seeds (Efron 1979): the runs are drawn again, with replacement, many times.
import { below, randomOf } from '../random.js';

export interface Interval {
  mean: number;
  low: number;
  high: number;
}

const DRAWS = 10_000;
const CONFIDENCE = 0.95;

export const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** The mean of values, one a seed, and its percentile interval. The same values give the same interval. */
export function bootstrap(values: readonly number[]): Interval {
  const random = randomOf(values.length);
  const means = Array.from({ length: DRAWS }, () => meanOf(values.map(() => values[below(values.length, random)]!)));
  means.sort((a, b) => a - b);
  const at = (share: number) => means[Math.min(DRAWS - 1, Math.floor(share * DRAWS))]!;
  return { mean: meanOf(values), low: at((1 - CONFIDENCE) / 2), high: at((1 + CONFIDENCE) / 2) };
}

/** Of two lists of the same seeds in the same order: the mean difference, seed by seed. */
export const paired = (a: readonly number[], b: readonly number[]): Interval =>
  bootstrap(a.map((value, i) => value - b[i]!));
