// Spec section 7, the rows that have an answer: nothing to learn from. The others have files of their own, all named
// degenerate-*.test.ts.
import { describe, expect, test } from 'vitest';
import {
  advantageObjectiveSync,
  advantages,
  type BackendName,
  type ConspoOptions,
  conspo,
  conspoSync,
  type DType,
  type GrpoOptions,
  groupInfoNCESync,
  grpo,
  grpoSync,
  type HostTensor,
  type Logits,
  type PolicyBatch,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { RATIO_SCORE_KINDS } from '../lib/kernels.js';
import { describeBackends } from './support/backends.js';
import { expectFinite } from './support/compare.js';
import { AGGREGATIONS } from './support/named-losses.js';
import { randomBatch } from './support/random.js';
import { DTYPES, hostTensor } from './support/tensors.js';

const ints = (...values: number[]) => Int32Array.from(values);

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

/** With a KL penalty: a batch without tokens still teaches nothing. */
const KL_LOSSES = AGGREGATIONS.flatMap((aggregation) =>
  (['k1', 'k2', 'k3', 'k3+', 'abs'] as const).map((klEstimator) =>
    grpoRun({ ...aggregation, klCoef: 0.5, klEstimator }),
  ),
);

async function expectNothingLearnt({ run }: LossRun, batch: PolicyBatch, backend: BackendName): Promise<void> {
  for (const pending of run(batch, backend)) {
    const result = await pending;
    expect(result.loss).toBe(0); // and not -0
    const gradient = result.gradLogits === undefined ? result.gradLogProbs! : dataOf(result.gradLogits);
    const { length } = gradient;
    expect(length).toBe(batch.logProbs ? batch.logProbs.length : dataOf(batch.logits!).length);
    expect(Array.from(gradient)).toEqual(new Array(length).fill(0));
    if (result.groupLosses)
      expect(Array.from(result.groupLosses)).toEqual(new Array(result.groupLosses.length).fill(0));
    expectFinite(result);
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
    logits: hostTensor(new Float64Array(tokens * 5).fill(NaN), [tokens, 5], dtype),
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

    test.each(DTYPES)('all masked, %s', async (dtype) => {
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

  test.each(RATIO_SCORE_KINDS)('%s of empty and masked sequences', (kind) => {
    const inputs = {
      logProbs: Float64Array.of(NaN, -Infinity, Infinity),
      oldLogProbs: Float64Array.of(-1, NaN, NaN),
      mask: new Uint8Array(3),
      cuSeqlens: ints(0, 0, 2, 3, 3),
      sides: Float64Array.of(1, -1, 0, 1),
    };
    const result = ratioScoresSync(inputs, { score: { kind }, backend });
    expectFinite(result);
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
