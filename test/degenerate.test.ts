// Spec section 7, the rows that have an answer: nothing to learn from, non-finite rows, huge vocabularies and batches; and
// section 6, ratios that would overflow. Refused arguments are in degenerate-arguments.test.ts.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  type Aggregation,
  advantageObjectiveSync,
  advantages,
  type BackendName,
  type ConspoOptions,
  conspo,
  conspoSync,
  type DType,
  forwardSync,
  type GrpoOptions,
  groupInfoNCESync,
  grpo,
  grpoSync,
  type HostTensor,
  type Logits,
  type PolicyBatch,
  type RatioScoreKind,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { numberToBf16, numberToF16 } from '../lib/reference/float16.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { randomBatch } from './support/random.js';

const TO_BITS: Record<DType, (x: number) => number> = { f32: Math.fround, bf16: numberToBf16, f16: numberToF16 };
const KINDS: RatioScoreKind[] = [
  'ratio',
  'clippedRatio',
  'sequenceRatio',
  'geometricRatio',
  'stoppedRatio',
  'softGate',
  'k1',
  'k2',
  'k3',
];
const ints = (...values: number[]) => Int32Array.from(values);

/** A tensor of the given values, [T, V]. */
function tensor(values: ArrayLike<number>, vocab: number, dtype: DType): HostTensor {
  const bits = Array.from(values, TO_BITS[dtype]);
  const data = dtype === 'f32' ? Float32Array.from(bits) : Uint16Array.from(bits);
  return { data, shape: [bits.length / vocab, vocab], dtype };
}

const dataOf = (logits: Logits): Float32Array | Uint16Array =>
  ArrayBuffer.isView(logits) ? logits : (logits as HostTensor).data;

interface LossRun {
  name: string;
  run(batch: PolicyBatch, backend: BackendName): Promise<ReturnType<typeof grpoSync>>[];
}

const conspoRun = (options: ConspoOptions): LossRun => ({
  name: `conspo ${JSON.stringify(options)}`,
  run: (batch, backend) => [
    conspo(batch, { ...options, backend }),
    Promise.resolve().then(() => conspoSync(batch, { ...options, backend })),
  ],
});

const grpoRun = (options: GrpoOptions): LossRun => ({
  name: `grpo ${JSON.stringify(options)}`,
  run: (batch, backend) => [
    grpo(batch, { ...options, backend }),
    Promise.resolve().then(() => grpoSync(batch, { ...options, backend })),
  ],
});

const AGGREGATIONS: { aggregation: Aggregation; maxLength?: number }[] = [
  { aggregation: 'sequence-mean' },
  { aggregation: 'token-mean' },
  { aggregation: 'constant-length', maxLength: 7 },
];

/** Without a KL penalty: a batch without contrast teaches nothing. */
const POLICY_LOSSES = [
  conspoRun({}),
  conspoRun({ tau: 1e-6, margin: 0.2 }),
  conspoRun({ tau: 10, entropy: true, normalizer: 3 }),
  grpoRun({ form: 'discriminative' }),
  grpoRun({ form: 'discriminative', normalizer: 3, entropy: true }),
  ...AGGREGATIONS.map(grpoRun),
  ...AGGREGATIONS.map((aggregation) => grpoRun({ ...aggregation, normalizer: 3 })),
  ...(['grpo', 'drGrpo', 'rloo', 'opo'] as const).map((estimator) => grpoRun({ advantage: { estimator } })),
  grpoRun({ advantage: { ddof: 0, eps: 0 } }),
];

/** With one: a batch without tokens still teaches nothing. */
const KL_LOSSES = AGGREGATIONS.flatMap((aggregation) =>
  (['k1', 'k2', 'k3'] as const).map((klEstimator) => grpoRun({ ...aggregation, klCoef: 0.5, klEstimator })),
);

function allNumbers(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  if (ArrayBuffer.isView(value)) return Array.from(value as Float64Array);
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(allNumbers) : [];
}

async function expectNothingLearnt({ run }: LossRun, batch: PolicyBatch, backend: BackendName): Promise<void> {
  for (const pending of run(batch, backend)) {
    const result = await pending;
    expect(result.loss).toBe(0); // not -0 either
    const gradient = result.gradLogits === undefined ? result.gradLogProbs! : dataOf(result.gradLogits);
    const { length } = gradient;
    expect(length).toBe(batch.logProbs ? batch.logProbs.length : dataOf(batch.logits!).length);
    expect(Array.from(gradient)).toEqual(new Array(length).fill(0));
    if (result.groupLosses)
      expect(Array.from(result.groupLosses)).toEqual(new Array(result.groupLosses.length).fill(0));
    expect(allNumbers(result).filter((x) => !Number.isFinite(x))).toEqual([]);
  }
}

const NOTHING = { targets: ints(), oldLogProbs: new Float64Array(0), refLogProbs: new Float64Array(0) };
const NO_SEQUENCES = { cuSeqlens: ints(0), cuGroups: ints(0), rewards: new Float32Array(0) };
const EMPTY_SEQUENCES = { cuSeqlens: ints(0, 0, 0), cuGroups: ints(0, 2), rewards: Float32Array.of(1, 0) };

const NO_ROWS: HostTensor = { data: new Float32Array(0), shape: [0, 9] };
const NO_BF16_ROWS: HostTensor = { data: new Uint16Array(0), shape: [0, 9], dtype: 'bf16' };

const EMPTY_BATCHES: [name: string, batch: PolicyBatch][] = [
  ['T = N = G = 0', { logits: new Float32Array(0), ...NOTHING, ...NO_SEQUENCES }],
  ['T = N = G = 0, V known', { logits: NO_ROWS, ...NOTHING, ...NO_SEQUENCES }],
  ['T = N = 0, empty groups', { logits: new Float32Array(0), ...NOTHING, ...NO_SEQUENCES, cuGroups: ints(0, 0, 0) }],
  ['T = 0, empty sequences of both signs', { logits: new Float32Array(0), ...NOTHING, ...EMPTY_SEQUENCES }],
  ['T = 0 of bf16', { logits: NO_BF16_ROWS, ...NOTHING, ...EMPTY_SEQUENCES }],
  [
    'no log-probs',
    { logProbs: new Float64Array(0), ...EMPTY_SEQUENCES, refLogProbs: new Float64Array(0), mask: new Uint8Array(0) },
  ],
];

/** Two groups of both signs; every token masked, its row all NaN and its target out of range. */
function maskedBatch(dtype: DType): PolicyBatch {
  const tokens = 6;
  return {
    logits: tensor(new Float64Array(tokens * 5).fill(NaN), 5, dtype),
    targets: ints(-1, 5, 2 ** 31 - 1, -(2 ** 31), 1, 2),
    mask: new Uint8Array(tokens),
    cuSeqlens: ints(0, 2, 2, 5, 6),
    cuGroups: ints(0, 2, 4),
    rewards: Float64Array.of(1, 0, 0, 1),
    oldLogProbs: new Float64Array(tokens).fill(NaN),
    refLogProbs: new Float64Array(tokens).fill(NaN),
  };
}

function oneSigned(reward: number, logProbs: boolean): PolicyBatch {
  const { mask: _, refLogProbs: __, logits, targets, ...rest } = randomBatch(5, { vocab: 11, groups: 4 });
  const rewards = rest.rewards.map(() => reward);
  return logProbs
    ? { ...rest, rewards, logProbs: Float32Array.from(targets, (_y, t) => -1 - t / 8) }
    : { ...rest, rewards, logits, targets };
}

describeBackends('nothing to learn from', (backend) => {
  describe.each([...POLICY_LOSSES, ...KL_LOSSES])('$name', (loss) => {
    test.each(EMPTY_BATCHES)('%s', async (_name, batch) => {
      await expectNothingLearnt(loss, batch, backend);
    });

    test.each(['f32', 'bf16', 'f16'] as const)('all masked, %s', async (dtype) => {
      await expectNothingLearnt(loss, maskedBatch(dtype), backend);
    });

    test('all masked, log-probs', async () => {
      const { logits: _, targets: __, ...rest } = maskedBatch('f32');
      await expectNothingLearnt(loss, { ...rest, logProbs: new Float64Array(6).fill(NaN) } as PolicyBatch, backend);
    });
  });

  test.each(POLICY_LOSSES)('one-signed groups: $name', async (loss) => {
    for (const reward of [0, 1, -1, 0.1]) {
      await expectNothingLearnt(loss, oneSigned(reward, false), backend);
      await expectNothingLearnt(loss, oneSigned(reward, true), backend);
    }
  });

  test('ops on nothing give nothing', () => {
    const none = new Float64Array(0);
    const { logProbs, logSumExp, entropy } = tokenLogProbsSync(
      { logits: new Float32Array(0), targets: ints() },
      { entropy: true, backend },
    );
    expect([logProbs.length, logSumExp.length, entropy?.length]).toEqual([0, 0, 0]);
    const upstream = { logSumExp: none, gradLogProbs: none, entropy: none, gradEntropy: none };
    const logits: HostTensor = { data: new Uint16Array(0), shape: [0, 4], dtype: 'f16' };
    const { gradLogits } = tokenLogProbsBackwardSync({ logits, targets: ints(), ...upstream }, { backend });
    expect(gradLogits.shape).toEqual([0, 4]);
    expect(sequenceLogProbsSync({ logProbs: none, cuSeqlens: ints(0) }, { backend }).scores.length).toBe(0);
    const noSequences = { gradScores: none, cuSeqlens: ints(0) };
    expect(sequenceLogProbsBackwardSync({ ...noSequences, tokenCounts: none }, { backend }).gradLogProbs.length).toBe(
      0,
    );
    expect(ratioScoresBackwardSync({ ...noSequences, scoreGrads: none }, { backend }).gradLogProbs.length).toBe(0);
    const infoNCE = groupInfoNCESync({ scores: none, rewards: none, cuGroups: ints(0) }, { backend });
    expect([infoNCE.loss, infoNCE.groupLosses.length, infoNCE.gradScores.length]).toEqual([0, 0, 0]);
    for (const aggregation of AGGREGATIONS) {
      const weighted = advantageObjectiveSync(
        { scores: none, advantages: none, tokenCounts: none },
        { ...aggregation, backend },
      );
      expect([weighted.loss, weighted.gradScores.length]).toEqual([0, 0]);
    }
    expect(advantages({ rewards: none, cuGroups: ints(0) }).length).toBe(0);
  });

  test.each(KINDS)('%s of empty and masked sequences', (kind) => {
    const inputs = {
      logProbs: Float64Array.of(NaN, -Infinity, Infinity),
      oldLogProbs: Float64Array.of(-1, NaN, NaN),
      mask: new Uint8Array(3),
      cuSeqlens: ints(0, 0, 2, 3, 3),
      sides: Float64Array.of(1, -1, 0, 1),
    };
    const result = ratioScoresSync(inputs, { score: { kind }, backend });
    expect(allNumbers(result).filter((x) => !Number.isFinite(x))).toEqual([]);
    expect(Array.from(result.tokenCounts)).toEqual([0, 0, 0, 0]);
    expect(Array.from(result.scoreGrads)).toEqual([0, 0, 0]);
    expect([...result.clippedLow, ...result.clippedHigh]).toEqual(new Array(8).fill(0));
  });

  test('sequence scores of empty and masked sequences are 0, and nothing flows back', () => {
    const packed = { cuSeqlens: ints(0, 0, 2, 3), mask: Uint8Array.of(0, 0, 1) };
    const logProbs = Float64Array.of(NaN, -Infinity, -2);
    const { scores, tokenCounts } = sequenceLogProbsSync({ logProbs, ...packed }, { backend });
    expect([Array.from(scores), Array.from(tokenCounts)]).toEqual([
      [0, 0, -2],
      [0, 0, 1],
    ]);
    const gradScores = Float64Array.of(5, 6, 7);
    const { gradLogProbs } = sequenceLogProbsBackwardSync({ gradScores, tokenCounts, ...packed }, { backend });
    expect(Array.from(gradLogProbs)).toEqual([0, 0, 7]);
  });
});

// What makes a row non-finite whose target is the third from its end: at its start, in its vector part, in its tail.
const SPOILED: [name: string, spoil: (row: Float64Array) => void][] = [
  ['NaN first', (row) => row.fill(NaN, 0, 1)],
  ['NaN at the target', (row) => row.fill(NaN, -3, -2)],
  ['NaN in the middle', (row) => row.fill(NaN, row.length >> 1, (row.length >> 1) + 1)],
  ['NaN last', (row) => row.fill(NaN, -1)],
  ['NaN everywhere', (row) => row.fill(NaN)],
  ['+Infinity first', (row) => row.fill(Infinity, 0, 1)],
  ['+Infinity last', (row) => row.fill(Infinity, -1)],
  ['+Infinity at the target', (row) => row.fill(Infinity, -3, -2)],
  ['all -Infinity', (row) => row.fill(-Infinity)],
  ['-Infinity at the target', (row) => row.fill(-Infinity, -3, -2)],
  ['-Infinity and one NaN', (row) => row.fill(-Infinity).fill(NaN, -1)],
  ['NaN among -Infinity, before finite logits', (row) => row.fill(-Infinity, 0, row.length >> 1).fill(NaN, 2, 3)],
  ['NaN and +Infinity', (row) => row.fill(NaN, 0, 1).fill(Infinity, -1)],
];

/** Six tokens in three sequences of one group; rows 2 and 4 are spoiled. */
function spoiledBatch(spoil: (row: Float64Array) => void, vocab: number, dtype: DType) {
  const random = new Random(vocab);
  const values = Float64Array.from({ length: 6 * vocab }, () => 2 * random.normal());
  for (const t of [2, 4]) spoil(values.subarray(t * vocab, (t + 1) * vocab));
  return {
    logits: tensor(values, vocab, dtype),
    targets: new Int32Array(6).fill(vocab - 3),
    cuSeqlens: ints(0, 3, 5, 6),
    cuGroups: ints(0, 3),
    rewards: Float32Array.of(1, 0, 0),
    oldLogProbs: Float64Array.of(-3, -3, -3, -3, -3, -3),
    refLogProbs: Float64Array.of(-3, -3.5, -3, -3, -3, -3),
  };
}

const HAND_MASK = Uint8Array.of(1, 1, 0, 1, 0, 1);

describeBackends('non-finite rows', (backend) => {
  describe.each(SPOILED)('%s', (_name, spoil) => {
    // In one vector's tail, in one block, over three blocks of 1024.
    test.each([
      ['f32', 7],
      ['f32', 50],
      ['f32', 2101],
      ['bf16', 50],
      ['bf16', 2101],
      ['f16', 50],
      ['f16', 2101],
    ] as const)('%s, V = %i', async (dtype, vocab) => {
      const batch = spoiledBatch(spoil, vocab, dtype);
      const message = { code: 'ERR_NONFINITE', message: expect.stringMatching(/^logits: .*2 non-finite.*row 2$/) };
      const before = batch.logits.data.slice();
      const out = tensor(new Float64Array(6 * vocab).fill(3), vocab, dtype);
      const untouched = out.data.slice();
      for (const entropy of [false, true]) {
        expect(() => tokenLogProbsSync(batch, { entropy, backend })).toThrow(expect.objectContaining(message));
      }
      await expect(conspo(batch, { gradient: 'in-place', backend })).rejects.toMatchObject(message);
      await expect(grpo(batch, { gradient: { out }, klCoef: 0.1, backend })).rejects.toMatchObject(message);
      expect(() => forwardSync(batch, 'logLikelihood', { backend })).toThrow(expect.objectContaining(message));
      expect([batch.logits.data, out.data]).toEqual([before, untouched]);

      const skip = { onNonFinite: 'skip', backend, entropy: true } as const;
      const skipped = tokenLogProbsSync(batch, skip);
      const byHand = tokenLogProbsSync({ ...batch, mask: HAND_MASK }, { entropy: true, backend });
      expect(skipped).toEqual({ ...byHand, mask: HAND_MASK, nonFiniteTokens: 2 });
      expect(allNumbers(skipped).every(Number.isFinite)).toBe(true);
    });
  });

  test.each(['f32', 'bf16', 'f16'] as const)('%s: skipping in a loss is masking by hand', (dtype) => {
    const batch = spoiledBatch((row) => row.fill(NaN, -2), 300, dtype);
    const masked = { ...batch, mask: HAND_MASK };
    const options = { onNonFinite: 'skip', backend, entropy: true, logProbs: true } as const;
    const pairs = [
      [conspoSync(batch, options), conspoSync(masked, options)],
      [grpoSync(batch, { ...options, klCoef: 0.1 }), grpoSync(masked, { ...options, klCoef: 0.1 })],
      [
        grpoSync(batch, { ...options, advantage: { estimator: 'opo' }, aggregation: 'token-mean' }),
        grpoSync(masked, { ...options, advantage: { estimator: 'opo' }, aggregation: 'token-mean' }),
      ],
      [
        grpoSync(batch, { ...options, form: 'discriminative' }),
        grpoSync(masked, { ...options, form: 'discriminative' }),
      ],
    ];
    for (const [skipped, byHand] of pairs) {
      expect(skipped.metrics.nonFiniteTokens).toBe(2);
      expect(byHand.metrics.nonFiniteTokens).toBe(0);
      expect({ ...skipped, metrics: { ...skipped.metrics, nonFiniteTokens: 0 } }).toEqual(byHand);
      const { data } = skipped.gradLogits as HostTensor;
      for (const t of [2, 4]) expect(Array.from(data.subarray(t * 300, (t + 1) * 300))).toEqual(new Array(300).fill(0));
      expect(skipped.loss).not.toBe(0);
      expect(allNumbers(skipped).every(Number.isFinite)).toBe(true);
    }
    const inPlace = conspoSync(batch, { ...options, gradient: 'in-place' });
    expect(inPlace.gradLogits.data).toBe(batch.logits.data);
    expect(Array.from(batch.logits.data)).toEqual(Array.from(dataOf(pairs[0][0].gradLogits!)));
    const { scores, nonFiniteTokens, backward } = forwardSync(
      spoiledBatch((row) => row.fill(NaN), 300, dtype),
      'logLikelihood',
      {
        onNonFinite: 'skip',
        backend,
      },
    );
    expect([nonFiniteTokens, scores]).toEqual([2, pairs[0][1].scores]);
    const { gradLogits } = backward(Float64Array.of(1, 1, 1));
    expect(allNumbers(gradLogits.data).every(Number.isFinite)).toBe(true);
  });

  test('a batch of nothing but non-finite rows is skipped whole', () => {
    const batch = spoiledBatch(() => {}, 9, 'f32');
    batch.logits.data.fill(NaN);
    for (const result of [
      conspoSync(batch, { onNonFinite: 'skip', backend }),
      grpoSync(batch, { onNonFinite: 'skip', klCoef: 1, backend }),
    ]) {
      expect([result.loss, result.metrics.nonFiniteTokens, result.metrics.tokens]).toEqual([0, 6, 0]);
      expect(Array.from(result.gradLogits.data)).toEqual(new Array(54).fill(0));
    }
  });

  test.each([NaN, Infinity, -Infinity])('log-probs of %d', (value) => {
    const { logits: _, targets: __, ...rest } = spoiledBatch(() => {}, 3, 'f32');
    const logProbs = Float64Array.of(-1, -2, value, -1.5, value, -0.5);
    const message = { code: 'ERR_NONFINITE', message: expect.stringMatching(/^logProbs: .*2 non-finite.*token 2$/) };
    const before = logProbs.slice();
    for (const gradient of ['new', 'in-place'] as const) {
      expect(() => conspoSync({ ...rest, logProbs }, { gradient, backend })).toThrow(expect.objectContaining(message));
      expect(() => grpoSync({ ...rest, logProbs }, { gradient, backend })).toThrow(expect.objectContaining(message));
    }
    expect(logProbs).toEqual(before);
    const clean = { ...rest, logProbs: logProbs.map((x) => (Number.isFinite(x) ? x : -7)), mask: HAND_MASK };
    const skip = { onNonFinite: 'skip', backend } as const;
    const skipped = [conspoSync({ ...rest, logProbs }, skip), grpoSync({ ...rest, logProbs }, skip)];
    const byHand = [conspoSync(clean, { backend }), grpoSync(clean, { backend })];
    skipped.forEach((result, i) => {
      expect(result.metrics.nonFiniteTokens).toBe(2);
      expect({ ...result, metrics: { ...result.metrics, nonFiniteTokens: 0 } }).toEqual(byHand[i]);
      expect([result.gradLogProbs![2], result.gradLogProbs![4]]).toEqual([0, 0]);
    });
    const op = {
      code: 'ERR_NONFINITE',
      message: expect.stringMatching(new RegExp(`^logProbs: .*${value} at index 2$`)),
    };
    expect(() => sequenceLogProbsSync({ logProbs, cuSeqlens: ints(0, 6) }, { backend })).toThrow(
      expect.objectContaining(op),
    );
    expect(() => ratioScoresSync({ logProbs, cuSeqlens: ints(0, 6) }, { backend })).toThrow(
      expect.objectContaining(op),
    );
  });

  test('returned log-probs hold 0, not NaN, where a token does not count', () => {
    const { logits: _, targets: __, ...rest } = spoiledBatch(() => {}, 3, 'f32');
    const logProbs = Float64Array.of(NaN, -2, NaN, -1.5, -1, -0.5);
    const batch = { ...rest, logProbs, mask: Uint8Array.of(0, 1, 1, 1, 1, 1) };
    const options = { onNonFinite: 'skip', backend } as const;
    const expected = Float64Array.of(0, -2, 0, -1.5, -1, -0.5);
    expect(conspoSync(batch, { ...options, logProbs: true }).logProbs).toEqual(expected);
    expect(forwardSync(batch, 'logLikelihood', options).logProbs).toEqual(expected);
  });

  test('masked rows are never read', () => {
    const batch = randomBatch(17, { vocab: 37, groups: 5 });
    const spoiled = { ...batch, logits: batch.logits.slice(), targets: batch.targets.slice() };
    spoiled.oldLogProbs = batch.oldLogProbs.slice();
    spoiled.refLogProbs = batch.refLogProbs.slice();
    const outside = [-1, 37, 2 ** 31 - 1, -(2 ** 31)];
    batch.mask.forEach((flag, t) => {
      if (flag !== 0) return;
      spoiled.logits.fill([NaN, Infinity, -Infinity][t % 3], t * 37, (t + 1) * 37);
      spoiled.targets[t] = outside[t % 4];
      spoiled.oldLogProbs[t] = NaN;
      spoiled.refLogProbs[t] = NaN;
    });
    expect(batch.mask.filter((flag) => flag === 0).length).toBeGreaterThan(3);
    const options = { backend, entropy: true, logProbs: true };
    expect(conspoSync(spoiled, options)).toEqual(conspoSync(batch, options));
    expect(grpoSync(spoiled, { ...options, klCoef: 0.1 })).toEqual(grpoSync(batch, { ...options, klCoef: 0.1 }));
    const forward = tokenLogProbsSync(spoiled, options);
    expect(forward).toEqual(tokenLogProbsSync(batch, options));
    const upstream = { logSumExp: forward.logSumExp, gradLogProbs: forward.logProbs.map(() => 1) };
    expect(tokenLogProbsBackwardSync({ ...spoiled, ...upstream }, { backend })).toEqual(
      tokenLogProbsBackwardSync({ ...batch, ...upstream }, { backend }),
    );
  });

  test.each(['f32', 'bf16', 'f16'] as const)('banned tokens of %s logits: legal, with gradient exactly 0', (dtype) => {
    const batch = spoiledBatch((row) => row.fill(-Infinity).fill(1, 296, 299), 300, dtype);
    for (const result of [conspoSync(batch, { backend }), grpoSync(batch, { klCoef: 0.1, backend })]) {
      expect(result.metrics.nonFiniteTokens).toBe(0);
      for (const t of [2, 4]) {
        const row = result.gradLogits.data.subarray(t * 300, (t + 1) * 300);
        expect(Array.from(row, (g, v) => (v >= 296 && v < 299 ? 0 : g))).toEqual(new Array(300).fill(0)); // +0, bits 0
        expect(row[297]).not.toBe(0);
      }
    }
    const { logProbs } = tokenLogProbsSync(batch, { backend });
    expectCloseNumber(logProbs[2], -Math.log(3), 1e-6);
  });
});

describeBackends('huge shapes', (backend) => {
  test.each(['f32', 'bf16', 'f16'] as const)('V = 2^20, %s', (dtype) => {
    const vocab = 2 ** 20;
    const data = dtype === 'f32' ? new Float32Array(2 * vocab) : new Uint16Array(2 * vocab); // +0 in every dtype
    data[2 * vocab - 1] = TO_BITS[dtype](8);
    const logits: HostTensor = { data, shape: [2, vocab], dtype };
    const targets = ints(vocab - 1, vocab - 1);
    const { logProbs, logSumExp, entropy } = tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
    const sum = vocab - 1 + Math.exp(8);
    expectCloseNumber(logProbs[0], -Math.log(vocab), 1e-6);
    expectCloseNumber(logProbs[1], 8 - Math.log(sum), 1e-6);
    expectCloseNumber(entropy![0], Math.log(vocab), 1e-6);
    expectCloseNumber(entropy![1], Math.log(sum) - (8 * Math.exp(8)) / sum, 1e-6);
    const inputs = { logits, targets, logSumExp, gradLogProbs: Float64Array.of(0, vocab) };
    const { gradLogits } = tokenLogProbsBackwardSync(inputs, { gradient: 'in-place', backend });
    const bits = [-vocab / sum, vocab * (1 - Math.exp(8) / sum)].map(TO_BITS[dtype]);
    if (dtype === 'f32') expectClose([gradLogits.data[vocab], gradLogits.data[2 * vocab - 1]], bits, 2e-6);
    else if (dtype === 'bf16') expect([gradLogits.data[vocab], gradLogits.data[2 * vocab - 1]]).toEqual(bits);
    expect(gradLogits.data[vocab - 1]).toBe(0);
    expect(gradLogits.data[vocab]).toBe(gradLogits.data[2 * vocab - 2]);
  });

  const sequences = 2 ** 20;

  test('N = 2^20 sequences in groups of 8', () => {
    // Every group is the same, so every number of the batch is that of one group.
    const one = {
      logProbs: Float64Array.from({ length: 8 }, (_, i) => -(i + 1) / 4),
      oldLogProbs: new Float64Array(8).fill(-1),
      refLogProbs: new Float64Array(8).fill(-1.2),
      cuSeqlens: Int32Array.from({ length: 9 }, (_, i) => i),
      cuGroups: ints(0, 8),
      rewards: Float32Array.of(1, 0, 0, 1, 1, 0, 0, 1),
    };
    const groups = sequences / 8;
    const all = {
      logProbs: Float64Array.from({ length: sequences }, (_, i) => one.logProbs[i % 8]),
      oldLogProbs: new Float64Array(sequences).fill(-1),
      refLogProbs: new Float64Array(sequences).fill(-1.2),
      cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, i) => i),
      cuGroups: Int32Array.from({ length: groups + 1 }, (_, g) => 8 * g),
      rewards: Float32Array.from({ length: sequences }, (_, i) => one.rewards[i % 8]),
    };
    const options = { backend, klCoef: 0.1 };
    const pairs = [
      [conspoSync(all, { backend }), conspoSync(one, { backend })],
      [grpoSync(all, options), grpoSync(one, options)],
      [grpoSync(all, { backend, form: 'discriminative' }), grpoSync(one, { backend, form: 'discriminative' })],
    ] as const;
    for (const [whole, part] of pairs) {
      expectCloseNumber(whole.loss, part.loss, 1e-9);
      expect([whole.metrics.contrastiveGroups, whole.metrics.tokens]).toEqual([groups, sequences]);
      for (const first of [0, sequences - 8]) {
        const gradient = whole.gradLogProbs.slice(first, first + 8);
        expectClose(
          gradient,
          part.gradLogProbs.map((g) => g / groups),
          1e-9,
        );
      }
    }
  });

  test('one group of 2^20 sequences', () => {
    const scores = new Float64Array(sequences).fill(-1);
    const rewards = Float32Array.from(scores, (_, i) => i & 1);
    const { loss, gradScores } = groupInfoNCESync({ scores, rewards, cuGroups: ints(0, sequences) }, { backend });
    expectCloseNumber(loss, 0.1 * Math.log1p(sequences / 2), 1e-9);
    const sigmoid = sequences / 2 / (1 + sequences / 2);
    expectCloseNumber(gradScores[sequences - 1], -sigmoid / (sequences / 2), 1e-9);
    expectCloseNumber(gradScores[sequences - 2], sigmoid / (sequences / 2), 1e-9);
  });
});

describeBackends('ratios that would overflow', (backend) => {
  // The log-ratio, far inside and outside of +-20; the old log-probs may be infinite.
  const D = [0, 19.5, -19.5, 20.5, -20.5, 700, -700, 1000, -1000, Infinity, -Infinity];
  const logProbs = Float64Array.from(D, () => -1.5);
  const oldLogProbs = Float64Array.from(D, (d) => -1.5 - d);
  const cuSeqlens = Int32Array.from({ length: D.length + 1 }, (_, i) => i); // a sequence per token

  test.each(KINDS)('%s', (kind) => {
    for (const side of [-1, 0, 1]) {
      const sides = new Float64Array(D.length).fill(side);
      const options = { score: { kind, epsilonHigh: 1e9, epsilonLow: 25 }, backend }; // clips that hold nothing back
      const result = ratioScoresSync({ logProbs, oldLogProbs, cuSeqlens, sides }, options);
      expect(allNumbers(result).filter((x) => !Number.isFinite(x))).toEqual([]);
      const clamped = oldLogProbs.map((_old, t) => -1.5 - Math.min(Math.max(D[t], -20), 20));
      const atLimit = ratioScoresSync({ logProbs, oldLogProbs: clamped, cuSeqlens, sides }, options);
      expectClose(result.scores, atLimit.scores, 1e-12);
      if (kind === 'stoppedRatio') continue; // its weight is a constant: the gradient is the clipped weight itself
      D.forEach((d, t) => {
        if (Math.abs(d) > 20)
          expect(result.scoreGrads[t] + 0, `d = ${d}`).toBe(0); // -0 will do
        else if (d !== 0 && !(kind === 'softGate' && d > 0)) expect(result.scoreGrads[t], `d = ${d}`).not.toBe(0);
      });
    }
  });

  test.each(['new', 'in-place'] as const)('in grpo, with KL to a far reference, gradient %s', async (gradient) => {
    const batch = {
      logProbs: logProbs.slice(),
      oldLogProbs,
      refLogProbs: oldLogProbs.slice().reverse(),
      cuSeqlens,
      cuGroups: ints(0, 5, D.length),
      rewards: Float32Array.from(D, (_, i) => i % 2),
    };
    for (const klEstimator of ['k1', 'k2', 'k3'] as const) {
      const inputs = { ...batch, logProbs: logProbs.slice() };
      const result = await grpo(inputs, { klCoef: 0.1, klEstimator, gradient, backend });
      expect(allNumbers(result).filter((x) => !Number.isFinite(x))).toEqual([]);
      const reversed = [...D].reverse();
      D.forEach((d, t) => {
        if (Math.abs(d) > 20 && Math.abs(reversed[t]) > 20) expect(result.gradLogProbs[t]).toBe(0);
      });
    }
  });

  test('InfoNCE of scores thousands of temperatures apart', () => {
    const scores = Float64Array.of(-1e6, 1e6, -1e6, 0);
    const inputs = { scores, rewards: Float32Array.of(1, 0, 0, 1), cuGroups: ints(0, 4) };
    const { loss, gradScores } = groupInfoNCESync(inputs, { tau: 1e-3, backend });
    expectCloseNumber(loss, 1.5e6, 1e-12);
    expectClose(gradScores, [-0.5, 1, 0, -0.5], 1e-12);
  });

  test('a gradient beyond float32 is infinite, never NaN, and banned tokens keep 0', () => {
    const logits = Float32Array.of(0, 1, -Infinity, 2);
    const targets = ints(0);
    const { logSumExp } = tokenLogProbsSync({ logits, targets }, { backend });
    const inputs = { logits, targets, logSumExp, gradLogProbs: Float64Array.of(1e39) };
    const { gradLogits } = tokenLogProbsBackwardSync(inputs, { backend });
    expect(Array.from(gradLogits).some(Number.isNaN)).toBe(false);
    expect(gradLogits[2]).toBe(0);
  });
});
