// The parts of the conformance run that need neither Python nor other projects: frames, settings, and the document.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { conformanceDocument } from '../bench/conformance/document.js';
import { decodeFrame, encodeFrame, FrameReader, type Message } from '../bench/conformance/frames.js';
import { type LigerCall, type LigerTest, ligerOutcomes, ligerRows } from '../bench/conformance/liger.js';
import { type ConformanceResult, type ConformanceRow, checkConformance, outcome } from '../bench/conformance/result.js';
import { answer } from '../bench/conformance/server.js';
import { settingText } from '../bench/conformance/text.js';
import { TRL_SETTINGS } from '../bench/conformance/trl-settings.js';
import { VERL_SETTINGS } from '../bench/conformance/verl-settings.js';
import { problemWithConformance } from '../cli/dev/conformance.js';

const root = fileURLToPath(new URL('..', import.meta.url));

const message: Message = {
  call: 'grpoSync',
  arguments: [
    { logProbs: Float64Array.of(-0.1, Number.NaN, 3), mask: Uint8Array.of(1, 0, 1), text: 'ü', none: null },
    {
      max: Infinity,
      min: -Infinity,
      odd: [Number.NaN, 1.5, 'a', { deep: new Float32Array(0) }],
      bits: Uint16Array.of(9),
    },
  ],
};

describe('frames', () => {
  test('bring back what was put into them', () => {
    expect(decodeFrame(encodeFrame(message))).toEqual(message);
    expect(decodeFrame(encodeFrame({ left: undefined, out: () => 1, n: -0 }))).toEqual({ n: 0 });
  });

  test('hold arrays that are part of larger ones', () => {
    const part = Int32Array.of(1, 2, 3, 4).subarray(1, 3);
    expect(decodeFrame(encodeFrame({ part }))).toEqual({ part: Int32Array.of(2, 3) });
  });

  test('refuse arrays that have no name', () => {
    expect(() => encodeFrame({ ids: BigInt64Array.of(1n) })).toThrow('a frame has no BigInt64Array');
  });

  test('are put together from any chunks of a stream', () => {
    const messages = [message, { n: 1 }, { a: Float32Array.of(1, 2) }];
    const stream = Buffer.concat(messages.map(encodeFrame));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }), (sizes) => {
        const reader = new FrameReader();
        const found: Message[] = [];
        for (let at = 0, k = 0; at < stream.length; k++) {
          const end = at + sizes[k % sizes.length];
          found.push(...reader.push(Uint8Array.from(stream.subarray(at, end))));
          at = end;
        }
        expect(found).toEqual(messages);
        expect(reader.pending).toBe(0);
      }),
      { numRuns: 50 },
    );
  });
});

describe('the server', () => {
  test('calls what the package exports', async () => {
    const given = { rewards: Float64Array.of(1, 0), cuGroups: Int32Array.of(0, 2) };
    expect(await answer({ call: 'advantages', arguments: [given, { estimator: 'drGrpo' }] })).toEqual({
      value: Float64Array.of(0.5, -0.5),
    });
  });

  test('says what the package refuses, and what it has not', async () => {
    const { error } = await answer({ call: 'grpoSync', arguments: [{}, { klWeigth: 1 }] });
    expect(error).toMatchObject({ code: 'ERR_OPTION', message: expect.stringContaining('klWeigth') });
    for (const call of ['nothingSync', 'constructor', 'RLVR', undefined]) {
      expect(await answer({ call, arguments: [] })).toMatchObject({ error: { code: 'ERR_OPTION' } });
    }
  });

  test('answers frames on its stdin until that ends', async () => {
    const path = `${root}dist/bench/conformance/server.js`;
    expect(existsSync(path), 'npm run build:ts').toBe(true);
    const child = spawn(process.execPath, [path], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const ids = Int32Array.of(5, 7, 5);
    child.stdin.end(Buffer.concat([1, 2].map(() => encodeFrame({ call: 'fromDense', arguments: [ids] }))));
    const reader = new FrameReader();
    const replies: Message[] = [];
    for await (const chunk of child.stdout) replies.push(...reader.push(chunk));
    const value = { cuGroups: Int32Array.of(0, 2, 3), groupOrder: Int32Array.of(0, 2, 1) };
    expect(replies).toEqual([{ value }, { value }]);
    expect(await ended).toBe(0);
  });
});

test.each([
  ['TRL', TRL_SETTINGS, 90],
  ['verl', VERL_SETTINGS, 58],
] as const)('settings of %s are many, and no two the same', (_trainer, settings, least) => {
  const rows = settings.map((setting) => JSON.stringify(setting));
  expect(rows.length).toBeGreaterThanOrEqual(least);
  expect(new Set(rows).size).toBe(rows.length);
});

test('settings are written as Python has them', () => {
  expect(settingText({ loss_type: 'grpo', delta: null, use_vllm: true })).toBe(
    'loss_type="grpo", delta=None, use_vllm=True',
  );
});

/** A call from logits, or what else is given. */
const call = (rest: Partial<LigerCall>): LigerCall => ({
  ...{
    by: 'logits',
    dtype: 'f32',
    settings: { loss_type: 'grpo', delta: 2, beta: 0.1, use_bias_correction_kl: false },
  },
  ...{ more: [], call: 'grpo', options: { delta: 2, klCoef: 0.1 }, fields: [] },
  ...rest,
});
const ligerTests: readonly LigerTest[] = [
  { test: 'a[1]', outcome: 'passed', reasons: [], calls: [call({})] },
  // The same setting on other numbers, twice in one test.
  {
    ...{ test: 'a[2]', outcome: 'failed', reasons: ['another number'] },
    calls: [call({ by: 'each token' }), call({ by: 'each token', dtype: 'bf16', options: { temperature: 2 } })],
  },
  {
    ...{ test: 'b', outcome: 'theirs', reasons: ['a reason'] },
    calls: [
      call({
        settings: { loss_type: 'sapo' },
        more: ['vllm_is_ratio'],
        call: 'sapo',
        options: {},
        fields: ['weights'],
      }),
      call({ settings: { function: 'log_softmax' }, call: 'tokenLogProbs', options: { ratioLevel: 'sequence' } }),
    ],
  },
  { test: 'c', outcome: 'theirs', reasons: ['a reason'], calls: [] },
  { test: 'd', outcome: 'refused', reasons: ['no such option'], calls: [] },
  { test: 'e', outcome: 'skipped', reasons: ['not supported'], calls: [] },
  { test: 'f', outcome: 'left out', reasons: [], calls: [] },
];

describe("Liger's tests", () => {
  test('are gathered by setting, whatever its numbers', () => {
    expect(ligerRows(ligerTests)).toEqual([
      {
        ...{
          part: 'Losses',
          setting: 'loss_type="grpo", delta=…',
          call: 'grpo(batch, { delta, klCoef, temperature })',
        },
        ...{ tests: { logits: 1, 'each token': 1 }, dtypes: ['f32', 'bf16'], notPassed: { failed: 1 } },
      },
      {
        ...{ part: 'Losses', setting: 'loss_type="sapo", vllm_is_ratio=…', call: 'sapo({ ...batch, weights })' },
        ...{ tests: { logits: 1 }, dtypes: ['f32'], notPassed: { theirs: 1 } },
      },
      {
        ...{ part: 'Log-probs and means', setting: 'log_softmax(…)' },
        call: "tokenLogProbs(batch, { ratioLevel: 'sequence' })",
        ...{ tests: { logits: 1 }, dtypes: ['f32'], notPassed: { theirs: 1 } },
      },
    ]);
  });

  test('are counted by their outcome, and by the reason of those that do not pass', () => {
    expect(ligerOutcomes(ligerTests)).toEqual({
      outcomes: { passed: 1, theirs: 2, refused: 1, failed: 1, skipped: 1, 'left out': 1 },
      reasons: [
        { outcome: 'failed', reason: 'another number', tests: 1, first: 'a[2]' },
        { outcome: 'theirs', reason: 'a reason', tests: 2, first: 'b' },
        { outcome: 'refused', reason: 'no such option', tests: 1, first: 'd' },
      ],
    });
  });
});

describe('the document', () => {
  const row = (rest: Partial<ConformanceRow>): ConformanceRow => ({
    ...{ trainer: 'TRL', part: 'A part', setting: 'loss_type="grpo"', call: 'grpo(batch)', without: [] },
    ...rest,
  });
  const rows = [
    row({ loss: 1e-7, gradient: 1e-6 }),
    row({ loss: 1e-7, gradient: 1.1e-6, without: ['beta: a reason'] }),
    row({ refused: 'delta: no such option' }),
    row({ trainer: 'verl', loss: 1e-8, gradient: 0, nearly: 'a constant' }),
    row({ trainer: 'verl', loss: 1e-8, gradient: 0 }),
  ];
  const accuracy = [
    ...(['rlvr-kernels', 'TRL'] as const).map((by) => ({
      ...{ by, how: 'f', dtype: 'bf16' as const, logits: 'N(0, 1)' },
      ...{ logProb: 3e-8, gradient: 2e-3, target: 1 },
    })),
  ];
  const result: ConformanceResult = {
    measurement: 'rlvr-kernels conformance',
    date: '2026-11-30T00:00:00.000Z',
    git: { commit: '0123456789abcdef', dirty: true },
    versions: { 'rlvr-kernels': '0.2.0', TRL: '1.13.0', verl: '0.10' },
    rows,
    accuracy,
    liger: {
      date: '2026-12-01T00:00:00.000Z',
      git: { commit: 'fedcba9876543210', dirty: false },
      versions: { 'Liger-Kernel': '0.8.2' },
      ...ligerOutcomes(ligerTests),
      rows: ligerRows(ligerTests),
    },
  };
  const text = conformanceDocument(checkConformance(JSON.parse(JSON.stringify(result))), 'bench/results/x.json');

  test('tells agreement by the tolerance', () => {
    expect(rows.map(outcome)).toEqual(['agrees', 'differs', 'refused', 'nearly', 'differs']);
    expect(text).toContain('Of 3 settings 1 agrees to 1e-6, 1 differs, and 1 cannot be expressed.');
  });

  test('has every row, and the reasons of those that do not agree', () => {
    expect(text.match(/^\| `loss_type="grpo"` \|/gm)).toHaveLength(rows.length);
    expect(text).toContain('beta: a reason');
    expect(text).toContain('delta: no such option');
    expect(text).toContain('not explained');
    expect(text).toContain('| bf16, N(0, 1) | TRL `f` | 3e-8 | 2e-3 | 1e+0 |');
  });

  test("has Liger's tests, with when they ran, and the reasons of those that do not pass", () => {
    expect(text).toContain('## Liger-Kernel 0.8.2');
    expect(text).toContain('2026-12-01, commit fedcba987654,');
    expect(text).toContain('Of 7 tests Liger skips 1,');
    expect(text).toContain('Of the 5 that were run 1 passes,');
    expect(text).toContain('| 1 | 1 | f32, bf16 | **fails** in 1 |');
    expect(text).toContain('- Liger differs in 2, as in `b`: a reason');
    const { liger, ...without } = result;
    expect(conformanceDocument(without, 'x.json')).not.toContain('Liger');
  });

  test('is made from a result of that form only', () => {
    expect(() => checkConformance({ ...result, rows: [{ ...rows[0], trainer: 'x' }] })).toThrow('rows.0.trainer');
    expect(() => checkConformance({ ...result, rows: [{ ...rows[0], loss: -1 }] })).toThrow('rows.0.loss');
  });

  test('is committed as the committed result gives it', () => {
    expect(problemWithConformance(root)).toBeUndefined();
  });
});
