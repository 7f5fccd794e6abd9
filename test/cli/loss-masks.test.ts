// What multiplies and masks tokens, from the flags and lines of the command `loss`.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cispoSync, dapoSync, fromDense, gmpoSync, grpoSync, sapoSync } from '../../lib/index.js';
import { BACKENDS } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { lossHere } from './loss-here.js';
import { readJsonLines, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();

const groups = ['a', 'b', 'a', 'b', 'a'];
const rewards = [1, 0, 0, 1, 1];
const cuSeqlens = Int32Array.of(0, 3, 5, 6, 9, 11);
const logProbs = Float64Array.of(-0.5, -1.25, -0.1, -2, -0.75, -3, -0.25, -0.3, -1.5, -0.7, -0.9);
const near = (spread: number) => logProbs.map((logProb, t) => logProb + spread * Math.sin(1 + t));
const offPolicyBatch = {
  ...{ logProbs, oldLogProbs: near(0.3), rolloutLogProbs: near(-0.4) },
  ...{ cuSeqlens, ...fromDense(groups), rewards: Float64Array.from(rewards) },
};

/** [T] values by line. */
const byLine = (values: Float64Array) => groups.map((_, i) => [...values.subarray(cuSeqlens[i], cuSeqlens[i + 1])]);

const [teacher, weights] = [near(0.2), logProbs.map((_, t) => (t % 4) / 2)];
const backend = 'reference';

/** `columns` are further keys of the lines. */
const masked = [
  {
    loss: 'grpo',
    flags: '--off-policy-mask 0.01 --clip-cov 0.3 --clip-cov-low 0 --clip-cov-high 2 --clip-cov-seed 5 --kl-cov 0.2',
    columns: { token_weights: weights },
    expected: grpoSync(
      { ...offPolicyBatch, tokenWeights: weights },
      {
        offPolicyMask: { delta: 0.01 },
        clipCov: { ratio: 0.3, low: 0, high: 2, seed: 5 },
        klCov: { ratio: 0.2 },
        backend,
      },
    ),
  },
  {
    loss: 'gmpo',
    flags: '--kl-cov 0.5 --kl-cov-coef 0.3',
    columns: {},
    expected: gmpoSync(offPolicyBatch, { klCov: { ratio: 0.5, coef: 0.3 }, backend }),
  },
  {
    loss: 'cispo',
    flags: '--distillation 0.5',
    columns: { teacher_logprobs: teacher, rollout_weights: weights },
    expected: cispoSync(
      { ...offPolicyBatch, teacherLogProbs: teacher, rolloutWeights: weights },
      { distillation: { coef: 0.5 }, backend },
    ),
  },
  {
    loss: 'dapo',
    flags:
      '--rollout-correction token --rollout-normalize --rollout-sequence-min 0.5 --rollout-sequence-max 9 ' +
      '--rollout-reject sequence-mean-k1 --rollout-reject-min -1 --rollout-reject-max 0.4',
    columns: {},
    expected: dapoSync(offPolicyBatch, {
      rolloutCorrection: {
        normalize: true,
        sequenceMask: { min: 0.5, max: 9 },
        reject: { by: 'k1', level: 'sequence-mean', min: -1, max: 0.4 },
      },
      backend,
    }),
  },
  {
    loss: 'sapo',
    flags: '--rollout-correction none --rollout-reject token-k3 --rollout-reject-max 0.1',
    columns: {},
    expected: sapoSync(offPolicyBatch, {
      rolloutCorrection: { level: 'none', reject: { by: 'k3', level: 'token', max: 0.1 } },
      backend,
    }),
  },
];

describe.each(BACKENDS)('loss on %s', (backend) => {
  test.each(masked)('$loss $flags: the numbers of the library', async ({ loss, flags, columns, expected }) => {
    const [out, file] = [join(folder, `${loss}-${backend}.jsonl`), join(folder, 'masked.jsonl')];
    const { oldLogProbs: old_logprobs, rolloutLogProbs: rollout_logprobs } = offPolicyBatch;
    const keys = Object.entries({ logprobs: logProbs, old_logprobs, rollout_logprobs, ...columns });
    const lines = groups.map((group, i) => {
      const arrays = keys.map(([key, values]) => [key, byLine(values)[i]]);
      return JSON.stringify({ group, reward: rewards[i], ...Object.fromEntries(arrays) });
    });
    writeFileSync(file, lines.join('\n'));
    const result = await lossHere(file, ['--loss', loss, ...flags.split(' '), '--backend', backend, '--out', out]);
    expectClose([result.loss], [expected.loss], 1e-12);
    expect(Object.keys(result.metrics)).toEqual(Object.keys(expected.metrics));
    for (const [name, value] of Object.entries(result.metrics)) {
      if (/^(rejected|clipCov)/.test(name)) expect(value, name).toBeGreaterThan(0);
    }
    expect(expected.loss).not.toBe((await lossHere(file, ['--loss', loss, '--backend', backend])).loss);
    const written = readJsonLines<{ grad_logprobs: number[] }>(out);
    expectClose(
      written.flatMap(({ grad_logprobs }) => grad_logprobs),
      expected.gradLogProbs,
      1e-12,
    );
  });
});
