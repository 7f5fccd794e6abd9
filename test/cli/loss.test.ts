import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { conspoSync, grpoSync } from '../../lib/index.js';
import { BACKENDS } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { runCli, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();
const example = fileURLToPath(new URL('../../examples/rollouts.jsonl', import.meta.url));

interface Line {
  group: string | number;
  reward: number;
  logprobs: number[];
  old_logprobs?: number[];
  ref_logprobs?: number[];
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
/** Lines in the order of groups b, a, 7. */
const packedOrder = [0, 2, 5, 1, 4, 3, 6];

function packed(field: 'logprobs' | 'old_logprobs' | 'ref_logprobs', of: Line[] = lines): Float64Array {
  return Float64Array.from(packedOrder.flatMap((i) => of[i][field] ?? []));
}

const shape = {
  cuSeqlens: Int32Array.of(0, 3, 4, 6, 8, 8, 10, 11),
  cuGroups: Int32Array.of(0, 3, 5, 7),
  rewards: Float64Array.of(0, 1, 0, 1, 1, 0, 1),
  mask: Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1),
};

/** [T] values by line, in the order of the lines. */
function byLine(values: ArrayLike<number>): number[][] {
  const split = packedOrder.map((_, i) => Array.from(values).slice(shape.cuSeqlens[i], shape.cuSeqlens[i + 1]));
  return lines.map((_, i) => split[packedOrder.indexOf(i)]);
}

const asText = (records: object[]) => records.map((record) => `${JSON.stringify(record)}\n`).join('');

async function lossJson(args: string[], input: string) {
  const { status, stdout, stderr } = await runCli(['loss', '-', '--json', ...args], { input });
  expect({ status, stderr, lines: stdout.split('\n').length }).toEqual({ status: 0, stderr: '', lines: 2 });
  return JSON.parse(stdout);
}

function readLines(path: string): (Line & { score: number; grad_logprobs: number[]; note?: string })[] {
  return readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

describe.each(BACKENDS)('loss on %s', (backend) => {
  test('conspo: the numbers of the library, by group and by line', async () => {
    const out = join(folder, `conspo-${backend}.jsonl`);
    const options = { tau: 0.5, margin: 0.2 };
    const expected = conspoSync({ ...shape, logProbs: packed('logprobs') }, { ...options, backend: 'reference' });
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
      expectClose([score], [expected.scores[packedOrder.indexOf(i)]], 1e-12, `line ${i + 1}: score`);
    });
    expect(expected.gradLogProbs.some((gradient) => gradient !== 0)).toBe(true);
    expect(written.map(({ score: _, grad_logprobs: __, ...line }) => line)).toEqual(lines);
  });

  test('grpo: off-policy, KL, every option handed on', async () => {
    const out = join(folder, `grpo-${backend}.jsonl`);
    const offPolicy = lines.map((line) => ({
      ...line,
      old_logprobs: line.logprobs.map((logProb, t) => logProb + (t % 2 === 0 ? -0.4 : 0.3)),
      ref_logprobs: line.logprobs.map((logProb) => logProb * 1.1),
    }));
    const batch = {
      ...shape,
      logProbs: packed('logprobs'),
      oldLogProbs: packed('old_logprobs', offPolicy),
      refLogProbs: packed('ref_logprobs', offPolicy),
    };
    const expected = grpoSync(batch, {
      epsilonLow: 0.1,
      epsilonHigh: 0.3,
      aggregation: 'constant-length',
      maxLength: 5,
      klCoef: 0.5,
      klEstimator: 'k2',
      backend: 'reference',
    });
    const clip = ['--epsilon-low', '0.1', '--epsilon-high', '0.3'];
    const rest = ['--aggregation', 'constant-length', '--max-length', '5', '--kl-coef', '0.5', '--kl-estimator', 'k2'];
    const args = ['--loss', 'grpo', ...clip, ...rest, '--backend', backend, '--out', out];
    const result = await lossJson(args, asText(offPolicy));
    expect(expected.metrics.clipFractionLow).toBeGreaterThan(0);
    expect(expected.metrics.clipFractionHigh).toBeGreaterThan(0);
    expectClose([result.loss, result.metrics.kl], [expected.loss, expected.metrics.kl ?? NaN], 1e-12);
    const gradients = byLine(expected.gradLogProbs);
    readLines(out).forEach(({ grad_logprobs }, i) => {
      expectClose(grad_logprobs, gradients[i], 1e-12, `line ${i + 1}`);
    });
  });
});

describe('loss', () => {
  test('groups out of order give what sorted ones give', async () => {
    const sorted = packedOrder.map((i) => lines[i]);
    const [mixed, inOrder] = await Promise.all([lossJson([], asText(lines)), lossJson([], asText(sorted))]);
    expect(mixed.loss).toBeGreaterThan(0);
    expect(mixed).toEqual(inOrder);
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

  test.each(['', '\n\n'])('no rollouts (%j): loss 0, an empty output file', async (input) => {
    const out = join(folder, 'empty.jsonl');
    expect(await lossJson(['--out', out], input)).toMatchObject({
      loss: 0,
      groups: [],
      totals: { groups: 0, size: 0 },
    });
    expect(readFileSync(out, 'utf8')).toBe('');
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
    expect(rows[3]).toMatch(/^a +2 +2 +-0\.1500 +– +– +0\.0000$/);
    expect(rows.find((row) => row.startsWith('all'))).toMatch(/^all +7 +4 /);
    expect(stdout).toMatch(/conspo loss 0\.\d+ \(rollouts 7, groups 3, backend \w+\)/);
    expect(Math.max(...rows.map((row) => [...row].length))).toBeLessThanOrEqual(100);
    expect(stdout).not.toContain('\u{1b}');
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

  test('the example, recorded by a demo run, teaches with both losses', async () => {
    expect(statSync(example).size).toBeLessThan(60_000);
    for (const loss of ['conspo', 'grpo']) {
      const out = join(folder, `example-${loss}.jsonl`);
      const { status, stdout } = await runCli(['loss', example, '--loss', loss, '--json', '--out', out]);
      expect(status).toBe(0);
      expect(JSON.parse(stdout).metrics.contrastiveGroups).toBeGreaterThanOrEqual(8);
      for (const { reward, grad_logprobs } of readLines(out)) {
        for (const gradient of grad_logprobs) expect(reward > 0 ? gradient : -gradient).toBeLessThanOrEqual(0);
      }
      expect(readLines(out).some(({ grad_logprobs }) => grad_logprobs.some((gradient) => gradient < 0))).toBe(true);
    }
  });
});
