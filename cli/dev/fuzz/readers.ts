// The third subject: the readers of files that users hand over, of rollouts and of reports. Whatever a file holds, it is read
// or refused by the command line's own error.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { Random } from '../../../bench/problems/random.js';
import type { BenchReport } from '../../../bench/report/report.js';
import { packageRoot } from '../../../lib/package-root.js';
import { readReport, renderChanges } from '../../bench/compare.js';
import { UsageError } from '../../errors.js';
import { type Rollout, readRollouts } from '../../loss/rollout-lines.js';
import { below } from './data.js';
import type { Subject, Verdict } from './job.js';

interface Mutation {
  how: string;
  at: number;
  by: number;
}

interface ReaderPlan {
  target: 'rollouts' | 'report';
  /** Lines, or rows. */
  length: number;
  seed: number;
  mutations: Mutation[];
  /** Bytes that come at once. */
  chunk: number;
}

const ODD_TEXTS = [
  'null',
  'true',
  '""',
  '{}',
  '[]',
  '1e999',
  '-0',
  '5e-324',
  '12345678901234567890123456789',
  '0.1e-999',
  '"\\ud800"',
  '"__proto__"',
  '{"__proto__":1}',
  '\n',
  '\r\n',
  '\u2028',
  '\ufeff',
  '\u0000',
  '\u001b[2J',
  ',',
  '\\',
  '"',
  '[[[[[[',
  ']}',
  'NaN',
  'Infinity',
  '01',
  '// comment',
  '{"logprobs":[-1],"group":1,"reward":1}',
];

type Mutate = (bytes: Buffer, at: number, by: number) => Buffer;

/** Replaces `length` bytes from `at` on. */
function spliced(bytes: Buffer, at: number, length: number, text: string | Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(text as string), bytes.subarray(at + length)]);
}

const MUTATIONS: Readonly<Record<string, Mutate>> = {
  'flip a bit': (bytes, at, by) => {
    const flipped = Buffer.from(bytes);
    if (at < flipped.length) flipped[at] ^= 1 << (by % 8);
    return flipped;
  },
  'any byte': (bytes, at, by) => spliced(bytes, at, 1, Buffer.from([by % 256])),
  truncate: (bytes, at) => bytes.subarray(0, at),
  remove: (bytes, at, by) => spliced(bytes, at, by % 20, ''),
  repeat: (bytes, at, by) => spliced(bytes, at, 0, bytes.subarray(at, at + (by % 200))),
  insert: (bytes, at, by) => spliced(bytes, at, 0, ODD_TEXTS[by % ODD_TEXTS.length]),
  nest: (bytes, at, by) => spliced(bytes, at, 0, '[{"a":'.slice(by % 2).repeat(by * 20)),
  'huge number': (bytes, at, by) => spliced(bytes, at, 1, '9'.repeat(by * 3)),
  'replace a value': (bytes, at, by) => {
    const text = bytes.toString('latin1');
    const values = [...text.matchAll(/(?<=[:[,])\s*("[^"]*"|-?[\d.e+-]+|null|true|false)/g)];
    if (values.length === 0) return bytes;
    const { index, 0: value } = values[at % values.length];
    return spliced(bytes, index, value.length, ODD_TEXTS[by % ODD_TEXTS.length]);
  },
};

function rollout(random: Random): string {
  const length = below(random, 5);
  const logProbs = () => Array.from({ length }, () => -random.uniform());
  return JSON.stringify({
    group: below(random, 2) === 0 ? below(random, 3) : `prompt ${below(random, 3)}`,
    reward: below(random, 2),
    logprobs: logProbs(),
    old_logprobs: logProbs(),
    ...(random.uniform() < 0.5 && { mask: Array.from({ length }, () => below(random, 2)) }),
  });
}

let measured: BenchReport | undefined;

/** A report that was recorded. */
function recorded(): BenchReport {
  const folder = join(packageRoot(), 'bench/results');
  const reports = readdirSync(folder).map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
  return reports.find(({ benchmark }) => benchmark === 'rlvr-kernels bench');
}

/** A report with few rows. */
function report(rows: number, seed: number): BenchReport {
  measured ??= recorded();
  const from = seed % measured.rows.length;
  return {
    ...measured,
    rows: measured.rows.slice(from, from + rows),
    comparisons: measured.comparisons.slice(0, rows),
  };
}

function bytesOf({ target, length, seed, mutations }: ReaderPlan): Buffer {
  const random = new Random(seed);
  const lines = Array.from({ length }, () => rollout(random)).join('\n');
  const start = Buffer.from(target === 'rollouts' ? lines : JSON.stringify(report(length, seed)));
  let bytes: Buffer = start;
  for (const { how, at, by } of mutations) bytes = MUTATIONS[how](bytes, at % (bytes.length + 1), by);
  return bytes;
}

function* chunks(bytes: Buffer, size: number): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

function problemOf({ logProbs, mask, reward, ...rest }: Rollout): string | undefined {
  const others = [rest.oldLogProbs, rest.refLogProbs, rest.rolloutLogProbs].filter((array) => array !== undefined);
  const whole = [logProbs, ...others];
  if (whole.some((array) => array.length !== logProbs.length)) return 'arrays of several lengths';
  if (whole.some((array) => !array.every(Number.isFinite)) || !Number.isFinite(reward)) return 'a number not finite';
  return mask && (mask.length !== logProbs.length || mask.some((flag) => flag > 1)) ? 'a bad mask' : undefined;
}

async function read(plan: ReaderPlan): Promise<string | undefined> {
  const input = chunks(bytesOf(plan), plan.chunk);
  if (plan.target === 'rollouts') {
    const rollouts = await readRollouts(input, 'stdin');
    return rollouts.map(problemOf).find((problem) => problem !== undefined);
  }
  const parsed = await readReport(input, '--compare', 'old.json');
  const shown = renderChanges(report(plan.length, plan.seed), parsed);
  return /[^\P{C}\n]/u.test(shown) ? 'control characters are shown' : undefined;
}

async function judge(plan: ReaderPlan): Promise<Verdict> {
  try {
    return { end: 'result', fault: await read(plan) };
  } catch (error) {
    if (error instanceof UsageError) return { end: 'refused' };
    return { end: 'refused', fault: `threw ${error instanceof Error ? `${error.name}: ${error.message}` : error}` };
  }
}

export const readers: Subject<ReaderPlan> = {
  plans: fc.record({
    target: fc.constantFrom('rollouts', 'report'),
    length: fc.nat(4),
    seed: fc.nat(),
    mutations: fc.array(fc.record({ how: fc.constantFrom(...Object.keys(MUTATIONS)), at: fc.nat(), by: fc.nat(400) }), {
      maxLength: 3,
    }),
    chunk: fc.oneof(fc.constant(65_536), fc.integer({ min: 1, max: 100 })),
  }),
  judge,
  describe: (plan) =>
    `${plan.target} in pieces of ${plan.chunk} bytes:\n${JSON.stringify(bytesOf(plan).toString('latin1').slice(0, 4000))}`,
};
