// The ratios that a reader asks for first, each of two rows of the same rounds.
import type { DType } from '../../index.js';
import { TOKEN_LEVEL_ALONE } from './losses.js';
import type { Comparison, Row, Section } from './report.js';
import { OWN } from './token-level.js';

type Backend = NonNullable<Row['backend']>;

/** Collects claims, and drops those that lack a row. */
class Claims {
  readonly list: Comparison[] = [];

  constructor(
    private readonly section: Section,
    private readonly rows: readonly Row[],
  ) {}

  own(op: string, dtype: Row['dtype'], backend: Backend): Row | undefined {
    return this.rows.find((row) => row.by === OWN && row.op === op && row.dtype === dtype && row.backend === backend);
  }

  /** How many times as fast `ours` is as `theirs`. */
  speed(claim: string, ours: Row | undefined, theirs: Row | undefined, by: 'median' | 'min' = 'median'): void {
    if (ours && theirs) this.add(claim, ours, theirs.milliseconds[by] / ours.milliseconds[by], 'times');
  }

  /** The time of `row` over that of the others together. */
  cost(claim: string, row: Row | undefined, ...others: (Row | undefined)[]): void {
    if (!row || others.includes(undefined)) return;
    const sum = others.reduce((total, other) => total + (other?.milliseconds.median ?? 0), 0);
    this.add(claim, row, row.milliseconds.median / sum, 'times');
  }

  share(claim: string, row: Row | undefined): void {
    if (row && row.ofBandwidth !== null) this.add(claim, row, 100 * row.ofBandwidth, 'percent');
  }

  add(claim: string, { shape }: Row, value: number, unit: Comparison['unit']): void {
    this.list.push({ section: this.section, claim, shape, value, unit });
  }
}

const unique = <T>(values: readonly T[]): T[] => [...new Set(values)];
const ownBackends = (rows: readonly Row[]) => unique(rows.flatMap(({ by, backend }) => (by === OWN && backend) || []));

/** Named where it is not the one that is meant without saying. */
const suffix = (backend: Backend, of: readonly Backend[]) => (backend === of[0] ? '' : ` (${backend})`);

export function tokenComparisons(rows: readonly Row[]): Comparison[] {
  const claims = new Claims('token', rows);
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
  return [...claims.list, ...againstReference('token', rows)];
}

export function lossComparisons(rows: readonly Row[]): Comparison[] {
  const claims = new Claims('losses', rows);
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
  return [...claims.list, ...againstReference('losses', rows)];
}

/** What several threads gain over one. */
export function threadComparisons(rows: readonly Row[]): Comparison[] {
  const claims = new Claims('threads', rows);
  for (const row of rows) {
    const one = rows.find(({ op, by, dtype, threads }) => {
      return threads === 1 && op === row.op && by === row.by && dtype === row.dtype;
    });
    if (row.threads !== 1) claims.speed(`${row.op} ${row.dtype}, ${row.threads} threads against 1`, row, one);
  }
  return claims.list;
}

/** Linear in N, whatever the group size: the cost per sequence at the larger N over that at the smaller is 1. */
export function groupComparisons(rows: readonly Row[]): Comparison[] {
  const claims = new Claims('groups', rows);
  const perSequence = ({ milliseconds, shape }: Row) => milliseconds.median / (shape.sequences ?? 1);
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
      claims.add(claim, row, perSequence(row) / perSequence(smaller), 'times');
    }
  }
  return [...claims.list, ...againstReference('groups', rows)];
}

/**
 * Of every row that the reference backend has too. The sweep's calls of microseconds are compared by their best rounds:
 * garbage collection falls on either, and moves the medians of the same code by a third.
 */
export function againstReference(section: Section, rows: readonly Row[]): Comparison[] {
  const claims = new Claims(section, rows);
  const key = ({ op, dtype, shape }: Row) => JSON.stringify([op, dtype, shape]);
  const by = section === 'sweep' ? 'min' : 'median';
  const reference = new Map(rows.filter(({ backend }) => backend === 'reference').map((row) => [key(row), row]));
  for (const row of rows) {
    if (row.backend === null || row.backend === 'reference') continue;
    claims.speed(`${row.op} ${row.dtype}, ${row.backend} against reference`, row, reference.get(key(row)), by);
  }
  return claims.list;
}
