import { groupMembers } from '../../lib/groups.js';
import { type Column, renderTable } from '../table.js';
import type { PackedRollouts } from './pack.js';
import type { LossOutcome } from './recipes.js';

/** One line of the table; a mean over nothing is null. */
export interface GroupReport {
  readonly group: string;
  readonly size: number;
  readonly positives: number;
  readonly positiveScoreMean: number | null;
  readonly negativeScoreMean: number | null;
  readonly scoreGap: number | null;
  readonly loss: number | null;
}

export function reportGroups(packed: PackedRollouts, outcome: LossOutcome, positiveThreshold: number): GroupReport[] {
  const { groupNames, batch } = packed;
  return groupNames.map((group, g) => {
    const members = groupMembers(batch, g);
    const scores = Float64Array.from(members, (i) => outcome.scores[i]);
    const rewards = Float64Array.from(members, (i) => batch.rewards[i]);
    return { group, ...summarize(scores, rewards, positiveThreshold), loss: outcome.groupLosses?.[g] ?? null };
  });
}

/** The same over all sequences, whatever their group. */
export function reportTotals({ groupNames, batch }: PackedRollouts, { scores }: LossOutcome, threshold: number) {
  return { groups: groupNames.length, ...summarize(scores, batch.rewards, threshold) };
}

function summarize(scores: Float64Array, rewards: Float64Array, positiveThreshold: number) {
  const positive = scores.filter((_, i) => rewards[i] > positiveThreshold);
  const negative = scores.filter((_, i) => !(rewards[i] > positiveThreshold));
  const positiveScoreMean = mean(positive);
  const negativeScoreMean = mean(negative);
  const scoreGap =
    positiveScoreMean === null || negativeScoreMean === null ? null : positiveScoreMean - negativeScoreMean;
  return { size: scores.length, positives: positive.length, positiveScoreMean, negativeScoreMean, scoreGap };
}

function mean(values: Float64Array): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** `withLoss`: whether the objective gives each group a loss of its own. */
export function renderGroups(
  groups: readonly GroupReport[],
  totals: Omit<GroupReport, 'group'>,
  withLoss: boolean,
): string {
  const columns: Column[] = [
    { header: 'group', align: 'left' },
    ...['size', 'positives', 'score +', 'score -', 'gap', ...(withLoss ? ['loss'] : [])].map(
      (header): Column => ({ header, align: 'right' }),
    ),
  ];
  const cells = ({ group, size, positives, positiveScoreMean, negativeScoreMean, scoreGap, loss }: GroupReport) => [
    group,
    String(size),
    String(positives),
    ...[positiveScoreMean, negativeScoreMean, scoreGap, ...(withLoss ? [loss] : [])].map(formatCell),
  ];
  return renderTable(columns, groups.map(cells), cells({ group: 'all', ...totals }));
}

/** An empty cell is a dash: no positives (or no negatives) is not a mean of 0. */
function formatCell(value: number | null): string {
  return value === null ? '–' : tableNumber(value);
}

const SINGLE = 7; // significant digits of float32
const DOUBLE = 15; // and of float64

/** Seven significant digits at most, and six decimals, below one another; never more than 12 characters. */
function tableNumber(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e6)) return value.toExponential(4);
  const whole = String(Math.trunc(magnitude)).length;
  return value.toFixed(SINGLE - whole);
}

/** A loss with as many digits as its log-probs have: those of float32 if all are such numbers, or have no more than those do. */
export function lossText(loss: number, logProbs: Float64Array): string {
  const single = logProbs.every((value) => Math.fround(value) === value || Number(value.toPrecision(9)) === value);
  return String(Number(loss.toPrecision(single ? SINGLE : DOUBLE)));
}
