// How InfoNCE shares credit out: what ConSPO's paper looks at, and a metric that no loss returns.

import type { AnyLossOptions } from 'rlvr-kernels';

/** Of a group with both signs: its score gap, and the mean credit of its positives. */
export type GroupCredit = [gap: number, credit: number];

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * For each group of scores: mean positive less mean negative score, and the mean over its positives of 1 / (1 + exp(a - b)), where a is the
 * score less the margin, b the soft maximum of the negatives' scores, both over tau. That is how hard the objective pulls: 1 for a positive
 * far below the negatives, 0 for one far above.
 */
export function creditsOf(
  scores: ArrayLike<number>,
  rewards: ArrayLike<number>,
  cuGroups: ArrayLike<number>,
  options: Pick<AnyLossOptions, 'tau' | 'margin'>,
): GroupCredit[] {
  const tau = options.tau ?? 0.1;
  const margin = options.margin ?? 0;
  return Array.from({ length: cuGroups.length - 1 }, (_, g) => {
    const members = Array.from({ length: cuGroups[g + 1]! - cuGroups[g]! }, (_, k) => cuGroups[g]! + k);
    const scoresWhere = (right: boolean) => members.filter((i) => rewards[i]! > 0 === right).map((i) => scores[i]!);
    return [scoresWhere(true), scoresWhere(false)] as const;
  })
    .filter((sides) => sides.every((side) => side.length > 0))
    .map(([positives, negatives]): GroupCredit => {
      const top = Math.max(...negatives);
      const b = top / tau + Math.log(negatives.reduce((sum, s) => sum + Math.exp((s - top) / tau), 0));
      const credits = positives.map((s) => 1 / (1 + Math.exp((s - margin) / tau - b)));
      return [mean(positives) - mean(negatives), mean(credits)];
    });
}
