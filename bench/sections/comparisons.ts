// The ratios that a reader asks for first, each of two rows of the same rounds.
import type { Comparison, Row, Section } from '../report/report.js';
import { type Measurement, spreadOf } from '../timing.js';
import { OWN } from './own.js';

type Backend = NonNullable<Row['backend']>;

/** Rows, and what was measured of each. */
export type Measured = ReadonlyMap<Row, Measurement>;

/**
 * Collects claims, and drops those that lack a row. A ratio is taken in every round, and its median is the claim: when the
 * machine is slow for a while, both rows of a round are.
 */
export class Claims {
  readonly list: Comparison[] = [];
  readonly rows: readonly Row[];

  constructor(
    private readonly section: Section,
    private readonly measured: Measured,
  ) {
    this.rows = [...measured.keys()];
  }

  own(op: string, dtype: Row['dtype'], backend: Backend): Row | undefined {
    return this.rows.find((row) => row.by === OWN && row.op === op && row.dtype === dtype && row.backend === backend);
  }

  /** How many times as fast `ours` is as `theirs`. */
  speed(claim: string, ours: Row | undefined, theirs: Row | undefined): void {
    this.ratio(claim, ours, [theirs], (own, their) => their / own);
  }

  /** The time of `row` over that of the others together. */
  cost(claim: string, row: Row | undefined, ...others: (Row | undefined)[]): void {
    this.ratio(claim, row, others, (own, theirs) => own / theirs);
  }

  /** Of the memory bandwidth. */
  share(claim: string, row: Row | undefined): void {
    this.percent(claim, row, row?.ofBandwidth);
  }

  /** Of the arithmetic. */
  peak(claim: string, row: Row): void {
    this.percent(claim, row, row.ofPeak);
  }

  /** How many times as much memory a call by `row` takes as one by the other. */
  memory(claim: string, row: Row, other: Row | undefined): void {
    if (!row.peakBytes || !other?.peakBytes) return;
    const { section } = this;
    this.list.push({ section, claim, shape: row.shape, value: row.peakBytes / other.peakBytes, unit: 'times' });
  }

  private percent(claim: string, row: Row | undefined, share: number | null | undefined): void {
    if (!row || typeof share !== 'number') return;
    const { section } = this;
    this.list.push({ section, claim, shape: row.shape, value: 100 * share, unit: 'percent' });
  }

  /** Of the time of `row` and that of the others together, in the rounds in which all of them took part. */
  ratio(
    claim: string,
    row: Row | undefined,
    others: readonly (Row | undefined)[],
    of: (own: number, others: number) => number,
  ): void {
    const timesOf = (one: Row | undefined) => one && this.measured.get(one)?.rounds;
    const own = timesOf(row);
    const theirs = others.map(timesOf);
    if (!row || !own) return;
    const ratios = [...own].flatMap(([round, time]) => {
      const together = theirs.reduce((sum, rounds) => sum + (rounds?.get(round) ?? Number.NaN), 0);
      const ratio = of(time, together);
      return Number.isNaN(ratio) ? [] : [ratio];
    });
    if (ratios.length === 0) return;
    const { section } = this;
    const [value, interval] = [spreadOf(ratios).median, medianInterval(ratios)];
    this.list.push({ section, claim, shape: row.shape, value, unit: 'times', interval });
  }
}

/** The backends that have rows, in order. */
export function ownBackends(rows: readonly Row[]): Backend[] {
  return [...new Set(rows.flatMap(({ by, backend }) => (by === OWN && backend) || []))];
}

/** Names a backend where it is not the first, which is meant without saying. */
export const suffix = (backend: Backend, of: readonly Backend[]) => (backend === of[0] ? '' : ` (${backend})`);

/** The same work, whoever does it. */
export const workOf = ({ op, dtype, shape }: Pick<Row, 'op' | 'dtype' | 'shape'>) => JSON.stringify([op, dtype, shape]);

/** Of every row that the reference backend has too. */
export function againstReference(section: Section, measured: Measured): Comparison[] {
  const claims = new Claims(section, measured);
  const { rows } = claims;
  const reference = new Map(rows.filter(({ backend }) => backend === 'reference').map((row) => [workOf(row), row]));
  for (const row of rows) {
    if (row.backend === null || row.backend === 'reference') continue;
    claims.speed(`${row.op} ${row.dtype}, ${row.backend} against reference`, row, reference.get(workOf(row)));
  }
  return claims.list;
}

/** The chance that the median lies above an interval, and the same that it lies below: 99.96 % intervals. */
const CHANCE = 2e-4;

/**
 * The interval in which the median of the distribution lies that `samples` were drawn from, whatever that distribution is
 * (sign test): each sample is below the median with a chance of one half, so it is unlikely that all but a few are. From the
 * smallest to the largest sample if there are few.
 */
export function medianInterval(samples: readonly number[]): [low: number, high: number] {
  const sorted = [...samples].sort((a, b) => a - b);
  const count = sorted.length;
  let outside = 0; // samples beyond the interval, on either side
  let logarithm = -count * Math.LN2; // of the chance that exactly `outside` samples are below the median
  let chance = Math.exp(logarithm); // that no more than `outside` are
  while (true) {
    logarithm += Math.log((count - outside) / (outside + 1));
    chance += Math.exp(logarithm);
    if (chance > CHANCE) return [sorted[outside], sorted[count - 1 - outside]];
    outside++;
  }
}
