import { existsSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { lossNames } from '../../cli/loss/recipes.js';
import { lossText, renderGroups } from '../../cli/loss/report.js';
import {
  bnpoSync,
  cispoSync,
  conspoSync,
  dapoSync,
  discoSync,
  dppoSync,
  drGrpoSync,
  fromDense,
  gmpoSync,
  grpoSync,
  gspoSync,
  luspoSync,
  realSync,
  sapoSync,
  vespoSync,
} from '../../lib/index.js';
import { BACKENDS } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { lossHere } from './loss-here.js';
import { readJsonLines, runCli, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();
const example = fileURLToPath(new URL('../../examples/rollouts.jsonl', import.meta.url));

interface Line {
  group: string | number;
  reward: number;
  logprobs: number[];
  old_logprobs?: number[];
  ref_logprobs?: number[];
  rollout_logprobs?: number[];
  mask?: number[];
}

// Two groups interleaved, one of them one-signed, an empty sequence, masks on some lines, extra keys.
const lines: (Line & { note?: string })[] = [
  { group: 'b', reward: 0, logprobs: [-0.5, -1.5, -0.25], note: 'kept' },
  { group: 'a', reward: 1, logprobs: [-0.3, -0.9], mask: [1, 0] },
  { group: 'b', reward: 1, logprobs: [-1.25] },
  { group: 7, reward: 0, logprobs: [-2, -0.1] },
  { group: 'a', reward: 1, logprobs: [] },
  { group: 'b', reward: 0, logprobs: [-0.75, -0.125] },
  { group: '7', reward: 1, logprobs: [-3] },
];
const shape = {
  cuSeqlens: Int32Array.of(0, 3, 5, 6, 8, 8, 10, 11),
  ...fromDense(lines.map(({ group }) => String(group))),
  rewards: Float64Array.from(lines, ({ reward }) => reward),
  mask: Uint8Array.of(1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1),
};

const logProbs = Float64Array.from(lines.flatMap(({ logprobs }) => logprobs));

/** [T] values by line. */
function byLine(values: ArrayLike<number>): number[][] {
  return lines.map((_, i) => Array.from(values).slice(shape.cuSeqlens[i], shape.cuSeqlens[i + 1]));
}

/** The lines as an off-policy step would record them. */
const offPolicy = lines.map((line) => ({
  ...line,
  old_logprobs: line.logprobs.map((logProb, t) => logProb + (t % 2 === 0 ? -0.4 : 0.3)),
  ref_logprobs: line.logprobs.map((logProb) => logProb * 1.1),
  rollout_logprobs: line.logprobs.map((logProb, t) => logProb - 0.2 - 0.5 * t),
}));

const offPolicyBatch = {
  ...shape,
  logProbs,
  oldLogProbs: Float64Array.from(offPolicy.flatMap((line) => line.old_logprobs)),
  refLogProbs: Float64Array.from(offPolicy.flatMap((line) => line.ref_logprobs)),
  rolloutLogProbs: Float64Array.from(offPolicy.flatMap((line) => line.rollout_logprobs)),
};

const asText = (records: object[]) => records.map((record) => `${JSON.stringify(record)}\n`).join('');

async function lossJson(args: string[], input: string) {
  const { status, stdout, stderr } = await runCli(['loss', '-', '--json', ...args], { input });
  expect({ status, stderr, lines: stdout.split('\n').length }).toEqual({ status: 0, stderr: '', lines: 2 });
  return JSON.parse(stdout);
}

type OutputLine = Line & { score: number; grad_logprobs: number[]; note?: string };
const readLines = (path: string) => readJsonLines<OutputLine>(path);

const backend = 'reference';
/** Every loss with its defaults; every flag at least once. */
const namedLosses = [
  { loss: 'conspo', flags: '--normalizer 5', expected: conspoSync(offPolicyBatch, { normalizer: 5, backend }) },
  { loss: 'grpo', flags: '', expected: grpoSync(offPolicyBatch, { backend }) },
  {
    loss: 'grpo',
    flags:
      '--epsilon-low 0.1 --epsilon-high 0.3 --aggregation constant-length --max-length 5 --kl-coef 0.5 --kl-estimator k2',
    expected: grpoSync(offPolicyBatch, {
      epsilonLow: 0.1,
      epsilonHigh: 0.3,
      aggregation: 'constant-length',
      maxLength: 5,
      klCoef: 0.5,
      klEstimator: 'k2',
      backend,
    }),
  },
  {
    loss: 'grpo',
    flags: '--form discriminative --epsilon-high 0.6 --delta 1.45',
    expected: grpoSync(offPolicyBatch, { form: 'discriminative', epsilonHigh: 0.6, delta: 1.45, backend }),
  },
  { loss: 'dapo', flags: '', expected: dapoSync(offPolicyBatch, { backend }) },
  {
    loss: 'dapo',
    flags: '--epsilon-high 0.6 --dual-clip 1.1 --rollout-correction token --rollout-min 0.9 --rollout-max 1.5',
    expected: dapoSync(offPolicyBatch, {
      epsilonHigh: 0.6,
      dualClip: 1.1,
      rolloutCorrection: { level: 'token', min: 0.9, max: 1.5 },
      backend,
    }),
  },
  {
    loss: 'bnpo',
    flags: '--advantage opo',
    expected: bnpoSync(offPolicyBatch, { advantage: { estimator: 'opo' }, backend }),
  },
  { loss: 'drGrpo', flags: '--max-length 5', expected: drGrpoSync(offPolicyBatch, { maxLength: 5, backend }) },
  {
    loss: 'drGrpo',
    flags: '--max-length 5 --advantage grpo --ddof 0 --advantage-eps 0.01',
    expected: drGrpoSync(offPolicyBatch, { maxLength: 5, advantage: { ddof: 0, eps: 0.01 }, backend }),
  },
  { loss: 'gspo', flags: '--epsilon-low 0.1', expected: gspoSync(offPolicyBatch, { epsilonLow: 0.1, backend }) },
  {
    loss: 'gspo',
    flags: '--ratio-level sum --dual-clip 1.1 --kl-coef 0.5 --kl-estimator k3+ --kl-max 0.01',
    expected: gspoSync(offPolicyBatch, {
      ratioLevel: 'sum',
      dualClip: 1.1,
      klCoef: 0.5,
      klEstimator: 'k3+',
      klMax: 0.01,
      backend,
    }),
  },
  {
    loss: 'luspo',
    flags: '--kl-coef 0.5 --kl-weight ratio',
    expected: luspoSync(offPolicyBatch, { klCoef: 0.5, klWeight: 'ratio', backend }),
  },
  {
    loss: 'dppo',
    flags: '--divergence kl --epsilon-low 0.01 --epsilon-high 0.01 --ratio-max 1.1 --kl-coef 0.1 --kl-reference old',
    expected: dppoSync(offPolicyBatch, {
      divergence: 'kl',
      epsilonLow: 0.01,
      epsilonHigh: 0.01,
      ratioMax: 1.1,
      klCoef: 0.1,
      klReference: 'old',
      backend,
    }),
  },
  {
    loss: 'vespo',
    flags: '--k-pos 1 --lambda-pos 2 --k-neg 2 --lambda-neg 1',
    expected: vespoSync(offPolicyBatch, { kPos: 1, lambdaPos: 2, kNeg: 2, lambdaNeg: 1, backend }),
  },
  { loss: 'real', flags: '--tau 0.3', expected: realSync(offPolicyBatch, { tau: 0.3, backend }) },
  {
    loss: 'gmpo',
    flags: '--rollout-correction sequence --rollout-mode mask --rollout-max 5',
    expected: gmpoSync(offPolicyBatch, { rolloutCorrection: { level: 'sequence', mode: 'mask', max: 5 }, backend }),
  },
  {
    loss: 'cispo',
    flags: '--ratio-min 0.8 --ratio-max 1.2 --advantage rloo',
    expected: cispoSync(offPolicyBatch, { ratioMin: 0.8, ratioMax: 1.2, advantage: { estimator: 'rloo' }, backend }),
  },
  {
    loss: 'sapo',
    flags: '--tau-pos 2 --tau-neg 3',
    expected: sapoSync(offPolicyBatch, { tauPos: 2, tauNeg: 3, backend }),
  },
  { loss: 'disco', flags: '', expected: discoSync(offPolicyBatch, { backend }) },
  {
    loss: 'disco',
    flags: '--score ratio --tau none --kl-constraint',
    expected: discoSync(offPolicyBatch, { score: 'ratio', tau: null, klConstraint: true, backend }),
  },
  {
    loss: 'disco',
    flags: '--tau 2 --kl-constraint --kl-beta 3 --kl-delta 0.01',
    expected: discoSync(offPolicyBatch, { tau: 2, klConstraint: { beta: 3, delta: 0.01 }, backend }),
  },
];

describe.each(BACKENDS)('loss on %s', (backend) => {
  test('conspo: the numbers of the library, by group and by line', async () => {
    const out = join(folder, `conspo-${backend}.jsonl`);
    const options = { tau: 0.5, margin: 0.2 };
    const expected = conspoSync({ ...shape, logProbs }, { ...options, backend: 'reference' });
    const args = ['--tau', '0.5', '--margin', '0.2', '--backend', backend, '--out', out];
    const result = await lossJson(args, asText(lines));
    expect(result).toMatchObject({ name: 'conspo', backend, options });
    expect(
      result.groups.map(({ group, size, positives }: Record<string, unknown>) => [group, size, positives]),
    ).toEqual([
      ['b', 3, 1],
      ['a', 2, 2],
      ['7', 2, 1],
    ]);
    expectClose([result.loss], [expected.loss], 1e-12);
    expectClose(
      result.groups.map(({ loss }: { loss: number }) => loss),
      expected.groupLosses,
      1e-12,
    );
    expect(result.groups[1]).toMatchObject({ negativeScoreMean: null, scoreGap: null, loss: 0 });
    expect(result.totals).toMatchObject({ groups: 3, size: 7, positives: 4 });
    expect(result.metrics).toMatchObject({ tokens: 10, contrastiveGroups: 2, degenerateGroups: 1 });
    const written = readLines(out);
    const gradients = byLine(expected.gradLogProbs);
    written.forEach(({ grad_logprobs, score }, i) => {
      expectClose(grad_logprobs, gradients[i], 1e-12, `line ${i + 1}`);
      expectClose([score], [expected.scores[i]], 1e-12, `line ${i + 1}: score`);
    });
    expect(expected.gradLogProbs.some((gradient) => gradient !== 0)).toBe(true);
    expect(written.map(({ score: _, grad_logprobs: __, ...line }) => line)).toEqual(lines);
  });

  test.each(namedLosses)('$loss $flags: the numbers of the library', async ({ loss, flags, expected }) => {
    const { loss: value, metrics, gradLogProbs, scores } = expected;
    const out = join(folder, `${loss}-${backend}.jsonl`);
    const file = join(folder, 'off-policy.jsonl');
    writeFileSync(file, asText(offPolicy));
    const args = ['--loss', loss, ...flags.split(' ').filter(Boolean), '--backend', backend, '--out', out];
    const result = await lossHere(file, args);
    expectClose([result.loss], [value], 1e-12);
    expect(Object.keys(result.metrics)).toEqual(Object.keys(metrics));
    expectClose(Object.values(result.metrics), Object.values(metrics), 1e-12);
    const gradients = byLine(gradLogProbs);
    readLines(out).forEach(({ grad_logprobs, score }, i) => {
      expectClose(grad_logprobs, gradients[i], 1e-12, `line ${i + 1}`);
      expectClose([score], [scores[i]], 1e-12, `line ${i + 1}: score`);
    });
    expect(gradLogProbs.some((gradient) => gradient !== 0)).toBe(true);
  });
});

describe('loss', () => {
  test('groups out of order give what sorted ones give', async () => {
    const sorted = [0, 2, 5, 1, 4, 3, 6].map((i) => lines[i]);
    const [mixed, inOrder] = await Promise.all([lossJson([], asText(lines)), lossJson([], asText(sorted))]);
    expect(mixed.loss).toBeGreaterThan(0);
    const [numbers, others] = [[mixed, inOrder].map(leafNumbers), [mixed, inOrder].map(withoutNumbers)];
    expectClose(numbers[0], numbers[1], 1e-12);
    expect(others[0]).toEqual(others[1]);
  });

  test("a line's advantage replaces the estimator's, for the losses that have one", async () => {
    const values = [0.5, -1, 2, 0, 3, -0.25, 1];
    const graded = offPolicy.map((line, i) => ({ ...line, advantage: values[i] }));
    const expected = gspoSync({ ...offPolicyBatch, advantages: Float64Array.from(values) }, { backend: 'reference' });
    const [result, contrast] = await Promise.all([
      lossJson(['--loss', 'gspo'], asText(graded)),
      lossJson([], asText(graded)),
    ]);
    expectClose([result.loss], [expected.loss], 1e-12);
    expect(contrast).toEqual(await lossJson([], asText(offPolicy)));
    const { status, stderr } = await runCli(['loss', '-', '--loss', 'gspo', '--advantage', 'rloo'], {
      input: asText(graded),
    });
    expect(status).toBe(2);
    expect(stderr).toBe('error: --advantage: expected only with lines that have no "advantage"\n');
  });

  test('a file, standard input, blank lines, CRLF, a byte order mark, no last line end: all the same', async () => {
    const file = join(folder, 'rollouts.jsonl');
    writeFileSync(file, asText(lines));
    const fromFile = await runCli(['loss', file, '--json']);
    const odd = `\u{feff}${asText(lines).replaceAll('\n', '\r\n\r\n').trimEnd()}`;
    expect(fromFile.status).toBe(0);
    expect(await lossJson([], odd)).toEqual(JSON.parse(fromFile.stdout));
  });

  test('a line separator inside a string does not end the line', async () => {
    const input = asText(lines).replaceAll('"b"', '"b\u{2028}"');
    expect((await lossJson([], input)).groups[0]).toMatchObject({ group: 'b\u{2028}', size: 3 });
  });

  test('--positive-threshold decides who is positive, at float64', async () => {
    const graded = [0.3, 0.31, 0.29].map((reward) => ({ group: 'q', reward, logprobs: [-1] }));
    const { groups } = await lossJson(['--positive-threshold', '0.3'], asText(graded));
    expect(groups[0]).toMatchObject({ size: 3, positives: 1 });
  });

  test.each(['', '\n\n'])('no rollouts (%j) are an error, and no output file', async (input) => {
    const out = join(folder, 'empty.jsonl');
    const { status, stderr } = await runCli(['loss', '-', '--out', out], { input });
    expect(status).toBe(2);
    expect(stderr).toBe('error: stdin: expected a rollout on each line, got no lines\n');
    expect(existsSync(out)).toBe(false);
  });

  test('the table names every group, totals the rest, and fits 100 columns', async () => {
    const named = lines.map((line) => ({
      ...line,
      group: line.group === 'b' ? `\u{1b}[2J${'long '.repeat(40)}` : line.group,
    }));
    const { status, stdout } = await runCli(['loss', '-'], { input: asText(named) });
    expect(status).toBe(0);
    const rows = stdout.split('\n');
    expect(rows[0].trim().split(/ {2,}/)).toEqual(['group', 'size', 'positives', 'score +', 'score -', 'gap', 'loss']);
    expect(rows[3]).toMatch(/^a +2 +2 +-0\.150000 +– +– +0\.000000$/);
    expect(rows.find((row) => row.startsWith('all'))).toMatch(/^all +7 +4 /);
    expect(stdout).toMatch(/conspo loss 0\.\d{7} \(rollouts 7, groups 3, backend \w+\)/);
    expect(Math.max(...rows.map((row) => [...row].length))).toBeLessThanOrEqual(100);
    expect(stdout).not.toContain('\u{1b}');
  });

  test('as many digits of the loss as the log-probs have', () => {
    const loss = 1 / 3;
    expect(lossText(loss, Float64Array.of(-0.1, -2.3))).toBe('0.3333333');
    expect(lossText(loss, Float64Array.of(Math.fround(-0.1), -2))).toBe('0.3333333');
    expect(lossText(loss, Float64Array.of(-0.1, -1 / 7))).toBe('0.333333333333333');
    expect(lossText(-123456.789012345, Float64Array.of(-1e-30))).toBe('-123456.8');
    expect(lossText(-0, Float64Array.of())).toBe('0');
    expect(lossText(2 / 3e9, Float64Array.of(-1))).toBe('6.666667e-10');
  });

  test('numbers of the table have seven digits at most', () => {
    const none = { size: 2, positives: 1, positiveScoreMean: null, negativeScoreMean: -1234567.8, scoreGap: 0 };
    const group = { ...none, group: 'a', positiveScoreMean: -0.1234567890123, scoreGap: 123.4567891, loss: 1e-5 / 3 };
    const rows = renderGroups([group], { ...none, loss: 999999.96 }, true).split('\n');
    expect(rows[2].split(/ +/)).toEqual(['a', '2', '1', '-0.123457', '-1.2346e+6', '123.4568', '3.3333e-6']);
    expect(rows[4].split(/ +/)).toEqual(['all', '2', '1', '–', '-1.2346e+6', '0.000000', '1000000.0']);
  });

  test('the output replaces what a link points to, not the link, and may be the input', async () => {
    const file = join(folder, 'data.jsonl');
    const link = join(folder, 'link.jsonl');
    writeFileSync(file, asText(lines), { mode: 0o600 });
    symlinkSync(file, link);
    expect((await runCli(['loss', file, '--out', link])).status).toBe(0);
    expect(readLines(file)[0]).toMatchObject({ note: 'kept', score: expect.any(Number) });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('--out /dev/stdout comes before the table', async () => {
    const { status, stdout } = await runCli(['loss', '-', '--out', '/dev/stdout'], { input: asText(lines) });
    expect(status).toBe(0);
    expect(JSON.parse(stdout.split('\n')[0])).toMatchObject({ group: 'b', score: expect.any(Number) });
    expect(stdout.split('\n')[lines.length]).toMatch(/^group +size/);
  });

  test.each(lossNames)('the example, recorded by a demo run, teaches with %s', async (loss) => {
    expect(statSync(example).size).toBeLessThan(60_000);
    const out = join(folder, `example-${loss}.jsonl`);
    const length = loss === 'drGrpo' ? ['--max-length', '4'] : [];
    const { metrics } = await lossHere(example, ['--loss', loss, ...length, '--out', out]);
    expect(metrics.contrastiveGroups).toBeGreaterThanOrEqual(8);
    for (const { reward, grad_logprobs } of readLines(out)) {
      for (const gradient of grad_logprobs) expect(reward > 0 ? gradient : -gradient).toBeLessThanOrEqual(0);
    }
    expect(readLines(out).some(({ grad_logprobs }) => grad_logprobs.some((gradient) => gradient < 0))).toBe(true);
  });
});

/** The numbers in a JSON value, in order. */
function leafNumbers(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(leafNumbers) : [];
}

/** A JSON value with every number as 0. */
function withoutNumbers(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_, part) => (typeof part === 'number' ? 0 : part)));
}
