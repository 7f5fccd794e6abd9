// Defines ConSPO's group InfoNCE (arXiv 2605.12969, eq. 10; spec section 4). See native/ops/group_info_nce.h.
import type { GroupInfoNceArguments } from '../kernels.js';
import { PAUSE, type Sliced } from '../slices.js';

/** (a - b) / tau, also where a - b is beyond the range of a double. */
function scaledDifference(a: number, b: number, tau: number): number {
  const difference = a - b;
  return Number.isFinite(difference) ? difference / tau : ((a / 2 - b / 2) / tau) * 2;
}

/** b - (score - margin) with b = largest + spread, also where one of the two is. */
function lead(largest: number, spread: number, score: number, margin: number): number {
  const gap = largest + spread - (score - margin);
  return Number.isFinite(gap) ? gap : 2 * (largest / 2 - (score / 2 - margin / 2) + spread / 2);
}

/** -J of one group; writes the gradient of loss = sum of -J / normalizer. */
function groupLoss(args: GroupInfoNceArguments, g: number): number {
  const { scores, rewards, cuGroups, groupOrder, tau, gradScores } = args;
  const places = Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, k) => cuGroups[g] + k);
  const members = groupOrder ? places.map((k) => groupOrder[k]) : places;
  const positives = members.filter((i) => rewards[i] > args.positiveThreshold);
  const negatives = members.filter((i) => !(rewards[i] > args.positiveThreshold));
  for (const i of members) gradScores[i] = 0;
  const anyToken = members.some((i) => args.tokenCounts === undefined || args.tokenCounts[i] > 0);
  if (positives.length === 0 || negatives.length === 0 || !anyToken) return 0;

  // b = tau * logsumexp(s_j / tau), by differences from the largest so that no tau overflows
  const largest = negatives.reduce((max, j) => Math.max(max, scores[j]), -Infinity);
  const weights = negatives.map((j) => Math.exp(scaledDifference(scores[j], largest, tau)));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const spread = tau * Math.log(sum);

  let loss = 0;
  let pull = 0; // sum of sigmoid((b - a_i) / tau)
  for (const i of positives) {
    const gap = lead(largest, spread, scores[i], args.margin);
    const small = Math.exp(-Math.abs(gap) / tau);
    const sigmoid = gap >= 0 ? 1 / (1 + small) : small / (1 + small);
    loss += (Math.max(gap, 0) + tau * Math.log1p(small)) / positives.length;
    pull += sigmoid;
    gradScores[i] = -sigmoid / positives.length / args.normalizer;
  }
  negatives.forEach((j, k) => {
    gradScores[j] = ((weights[k] / sum) * pull) / positives.length / args.normalizer;
  });
  return loss;
}

export function* groupInfoNCE(args: GroupInfoNceArguments): Sliced<void> {
  let total = 0;
  let shares = 0; // the same where the sum of the losses is beyond the range of a double
  for (let g = 0; g < args.groups; g++) {
    yield PAUSE;
    args.groupLosses[g] = groupLoss(args, g);
    total += args.groupLosses[g];
    shares += args.groupLosses[g] / args.normalizer;
  }
  args.loss[0] = Number.isFinite(total) ? total / args.normalizer : shares;
}
