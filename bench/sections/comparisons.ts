// The ratios that a reader asks for first, each of two rows of the same rounds.
import type { DType } from '../../lib/index.js';
import type { Comparison, Row, Section } from '../report/report.js';
import { type Measurement, spreadOf } from '../timing.js';
import { TOKEN_LEVEL_ALONE } from './losses.js';
import { OWN } from './token-level.js';

type Backend = NonNullable<Row['backend']>;

/** Rows, and what was measured of each. */
export type Measured = ReadonlyMap<Row, Measurement>;

/**
 * Collects claims, and drops those that lack a row. A ratio is taken in every round, and its median is the claim: what the
 * machine does for a while, it does to both of a round.
 */
class Claims {
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

  share(claim: string, row: Row | undefined): void {
    if (!row || row.ofBandwidth === null) return;
    const { section } = this;
    this.list.push({ section, claim, shape: row.shape, value: 100 * row.ofBandwidth, unit: 'percent' });
  }

  /** Of the time of `row` and that of `others` together, of the rounds in which all of them took part. */
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

const unique = <T>(values: readonly T[]): T[] => [...new Set(values)];
const ownBackends = (rows: readonly Row[]) => unique(rows.flatMap(({ by, backend }) => (by === OWN && backend) || []));

/** Named where it is not the one that is meant without saying. */
const suffix = (backend: Backend, of: readonly Backend[]) => (backend === of[0] ? '' : ` (${backend})`);

export function tokenComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('token', measured);
  const { rows } = claims;
  const backends = ownBackends(rows);
  const [main] = backends;
  for (const theirs of rows.filter(({ by }) => by !== OWN && by !== 'memory')) {
    const [op] = theirs.op.split(' by ');
    const variant = theirs.op === op ? '' : ` ${theirs.op.slice(op.length + 1)}`;
    claims.speed(`${op} f32, against ${theirs.by}${variant}`, claims.own(op, 'f32', main), theirs);
  }
  for (const backend of backends) {
    const of = suffix(backend, backends);
    const own = (op: string, dtype: DType) => claims.own(op, dtype, backend);
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      claims.share(`forward ${dtype}, of the read bandwidth${of}`, own('forward', dtype));
      claims.share(`backward in place ${dtype}, of the copy bandwidth${of}`, own('backward in place', dtype));
      if (dtype !== 'f32') {
        claims.speed(`forward ${dtype}, rows/s against f32${of}`, own('forward', dtype), own('forward', 'f32'));
      }
      const plain = own('forward', dtype);
      claims.cost(`forward with entropy ${dtype}, time over forward${of}`, own('forward with entropy', dtype), plain);
      claims.cost(
        `forward + backward ${dtype}, time over the sum of both${of}`,
        own('forward + backward', dtype),
        plain,
        own('backward in place', dtype),
      );
    }
  }
  return [...claims.list, ...againstReference('token', measured)];
}

export function lossComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('losses', measured);
  const { rows } = claims;
  const alone: readonly string[] = ['forward', 'backward in place', TOKEN_LEVEL_ALONE];
  const backends = ownBackends(rows);
  for (const loss of rows.filter(({ by, op }) => by === OWN && !alone.includes(op))) {
    const backend = loss.backend ?? backends[0];
    const of = suffix(backend, backends);
    const own = (op: string) => claims.own(op, loss.dtype, backend);
    const name = `${loss.op} ${loss.dtype}`;
    claims.cost(`${name}, time over its forward and backward${of}`, loss, own('forward'), own('backward in place'));
    if (loss.op !== 'grpo') claims.cost(`${name}, time over grpo${of}`, loss, own('grpo'));
  }
  return [...claims.list, ...againstReference('losses', measured)];
}

/** What several threads gain over one. */
export function threadComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('threads', measured);
  const { rows } = claims;
  for (const row of rows) {
    const one = rows.find(({ op, by, dtype, threads }) => {
      return threads === 1 && op === row.op && by === row.by && dtype === row.dtype;
    });
    if (row.threads !== 1) claims.speed(`${row.op} ${row.dtype}, ${row.threads} threads against 1`, row, one);
  }
  return claims.list;
}

/** Linear in N, whatever the group size: the cost per sequence at the larger N over that at the smaller is 1. */
export function groupComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('groups', measured);
  const { rows } = claims;
  const backends = ownBackends(rows);
  for (const row of rows) {
    const of = suffix(row.backend ?? backends[0], backends);
    const same = rows.filter(({ backend }) => backend === row.backend);
    const smaller = same.find(({ shape }) => {
      return shape.groupSize === row.shape.groupSize && (shape.sequences ?? 0) < (row.shape.sequences ?? 0);
    });
    const { groupSize, sequences } = row.shape;
    if (smaller) {
      const claim = `group size ${groupSize}: cost per sequence at N ${sequences} over N ${smaller.shape.sequences}${of}`;
      const times = (sequences ?? 1) / (smaller.shape.sequences ?? 1);
      claims.ratio(claim, row, [smaller], (larger, small) => larger / small / times);
    }
  }
  return [...claims.list, ...againstReference('groups', measured)];
}

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

/** How often the median lies above an interval, and how often below it. */
const CHANCE = 2e-4;

/**
 * Where the median lies of what `samples` were drawn from, whatever its distribution: each is below that median as likely as
 * not, so that all but a few come out below it too seldom to believe. From the smallest to the largest if they are few.
 */
export function medianInterval(samples: readonly number[]): [low: number, high: number] {
  const sorted = [...samples].sort((a, b) => a - b);
  const count = sorted.length;
  let left = 0; // outside, on either side
  let logarithm = -count * Math.LN2; // of the chance that `left` are below the median
  let chance = Math.exp(logarithm); // that no more than `left` are
  while (true) {
    logarithm += Math.log((count - left) / (left + 1));
    chance += Math.exp(logarithm);
    if (chance > CHANCE) return [sorted[left], sorted[count - 1 - left]];
    left++;
  }
}
