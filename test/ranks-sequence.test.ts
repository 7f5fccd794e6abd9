// Ranks that hold different tokens of the same sequences: each gets the loss and the metrics of whole sequences, and the gradient of its own
// tokens (spec section 12).
import { describe, expect, it } from 'vitest';
import { defineLoss, discriminative, forward, type Metrics, RlvrError } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import {
  type AnyOptions,
  byName,
  fromLogProbs,
  fullBatch,
  NAMED_LOSSES,
  type NamedLoss,
  POLICY_LOSSES,
  perTokenAdvantages,
} from './support/named-losses.js';
import {
  columnsOf,
  cutsFor,
  joinedColumns,
  onGrid,
  onRanks,
  pieceOf,
  sequencesOf,
  settledRanks,
  tokensOfRanks,
  withIds,
} from './support/ranks.js';

/** From log-probs, to rounding of float64. */
const ROUNDING = 1e-12;
const VOCAB = 5;

interface Result {
  loss: number;
  metrics: Partial<Metrics>;
  scores: Float64Array;
  groupLosses?: Float64Array;
  advantages?: Float64Array;
  tokenLosses?: Float64Array;
  logProbs?: Float64Array;
  entropy?: Float64Array;
  gradLogProbs?: Float64Array;
  gradLogits?: Float32Array;
  rowScale?: Float64Array;
}

/** What there is for each sequence, and for each token (or row of logits). */
const OF_SEQUENCES = ['scores', 'groupLosses', 'advantages'] as const;
const OF_TOKENS = [
  'gradLogProbs',
  'gradLogits',
  'tokenLosses',
  'logProbs',
  'entropy',
  'advantages',
  'rowScale',
] as const;

interface Run {
  run: NamedLoss['run'];
  options?: AnyOptions & object;
}

/** Compares what ranks of different sizes make of a batch with what one rank by itself does. */
async function expectAsOne<B extends { cuSeqlens: Int32Array } & object>(
  { run, options }: Run,
  batch: B,
  sizes = [2, 3, 4],
  tolerance = ROUNDING,
): Promise<Partial<Metrics>> {
  const call = (part: object, more: object = {}) =>
    run(part as never, { ...options, logProbs: true, ...more } as never) as Promise<Result>;
  const whole = await call(pieceOf(batch, tokensOfRanks(batch, 1)[0])); // a copy: where the scale is deferred it is written over
  const T = batch.cuSeqlens[batch.cuSeqlens.length - 1];
  let metrics: Partial<Metrics> = {};
  for (const size of sizes) {
    const held = tokensOfRanks(batch, size);
    const parts = await onRanks(size, (sequence, rank) => call(pieceOf(batch, held[rank]), { parallel: { sequence } }));
    parts.forEach((part, rank) => {
      expectCloseNumber(part.loss, whole.loss, tolerance, 1e-3);
      const { exchanges, exchangedNumbers, ...others } = part.metrics;
      expect(Object.keys(others).sort()).toEqual(Object.keys(whole.metrics).sort());
      for (const [name, value] of Object.entries(others))
        expectCloseNumber(value, whole.metrics[name as keyof Metrics]!, tolerance, 1e-3);
      expect([exchanges, exchangedNumbers! > 0]).toEqual([3, true]);
      for (const name of OF_SEQUENCES)
        if (whole[name] && whole[name].length !== T) expectClose(part[name]!, whole[name], tolerance, name);
      for (const name of OF_TOKENS) {
        const all = whole[name];
        if (!all || all.length % T !== 0) continue;
        const { [name]: own } = pieceOf({ cuSeqlens: batch.cuSeqlens, [name]: all }, held[rank]) as unknown as Result;
        expectClose(part[name]!, own!, tolerance, name);
      }
      metrics = part.metrics;
    });
  }
  return metrics;
}

const some = (seed: number, groups = 4) => fullBatch(seed, { groups });
const grpo = POLICY_LOSSES.find(({ name }) => name === 'grpo')!;
const gspo = POLICY_LOSSES.find(({ name }) => name === 'gspo')!;
const conspo = NAMED_LOSSES.find(({ name }) => name === 'conspo')!;

describe.each(byName(NAMED_LOSSES))('%s on several ranks', (_name, { run, options }) => {
  it('is the loss of one, in three exchanges', async () => {
    for (const seed of [1, 2, 3]) await expectAsOne({ run, options }, fromLogProbs(some(seed)));
  });
});

/** Whatever looks at more than a token. */
const WHOLE: [name: string, options: AnyOptions & object][] = [
  ['token-mean', { aggregation: 'token-mean' }],
  ['whitened advantages', { advantage: { estimator: 'reinforcePlusPlusBaseline' }, aggregation: 'token-mean' }],
  ['a KL penalty', { klCoef: 0.1 }],
  ['an off-policy mask', { offPolicyMask: { delta: 0.05 } }],
  ['importance weights of sequences', { rolloutCorrection: { level: 'sequence', max: 1.1, normalize: true } }],
  ['rejected sequences', { rolloutCorrection: { reject: { by: 'k1', level: 'sequence-max', max: 0.3 } } }],
  ['the loss of each token', { perToken: true }],
];

describe.each(WHOLE)('%s on several ranks', (_name, options) => {
  it.each(byName([grpo, gspo]))('%s', async (_, loss) => {
    for (const seed of [5, 6])
      await expectAsOne({ run: loss.run, options: { ...loss.options, ...options } }, fromLogProbs(some(seed)));
  });
});

describe('more of sequences on several ranks', () => {
  it('weights of tokens, Clip-Cov and KL-Cov, a teacher', async () => {
    const full = some(7);
    const batch = fromLogProbs(full);
    const tokenWeights = Float64Array.from(batch.logProbs, (_, t) => t % 3);
    await expectAsOne(grpo, { ...batch, tokenWeights });
    await expectAsOne({ run: grpo.run, options: { clipCov: { ratio: 0.2, low: 0, high: 9 } } }, batch);
    await expectAsOne({ run: grpo.run, options: { klCov: { ratio: 0.2 } } }, batch);
    const teacherLogProbs = batch.logProbs.map((l) => l - 0.1);
    await expectAsOne({ run: grpo.run, options: { distillation: { coef: 0.5 } } }, { ...batch, teacherLogProbs });
  });

  it('advantages of sequences and of tokens', async () => {
    const full = some(8);
    const batch = fromLogProbs(full);
    await expectAsOne(grpo, { ...batch, advantages: Float64Array.from(batch.rewards, (r, i) => r - i / 9) });
    await expectAsOne(grpo, { ...batch, advantages: perTokenAdvantages(8, full) });
  });

  it('advantages of tokens on a rank that has as many as sequences', async () => {
    const batch = {
      logProbs: Float64Array.of(-1, -2, -3, -0.5, -0.7),
      advantages: Float64Array.of(1, -1, 0.5, 2, -2),
      cuSeqlens: Int32Array.of(0, 3, 5),
    };
    const whole = (await grpo.run(batch as never)) as unknown as Result;
    const parts = await onRanks(2, (sequence, rank) => {
      const [tokens, cuSeqlens] = rank === 0 ? [[0, 3], Int32Array.of(0, 1, 2)] : [[1, 2, 4], Int32Array.of(0, 2, 3)];
      const part = pieceOf(batch, { tokens: tokens as number[], cuSeqlens: cuSeqlens as Int32Array });
      return grpo.run(part as never, { parallel: { sequence } }) as unknown as Promise<Result>;
    });
    for (const { loss } of parts) expectCloseNumber(loss, whole.loss, ROUNDING);
    expectClose(parts[0].advantages!, [1, 2], 0);
    expectClose(
      parts[1].gradLogProbs!,
      [1, 2, 4].map((t) => whole.gradLogProbs![t]),
      ROUNDING,
    );
  });

  it('an objective of your own', async () => {
    const { run } = defineLoss({ score: { kind: 'sequenceRatio' }, objective: discriminative });
    await expectAsOne({ run: run as never }, fromLogProbs(some(9)));
  });

  it('log-probs that are dropped', async () => {
    const batch = fromLogProbs(some(10));
    for (const t of [3, 4, 9]) batch.logProbs[t] = -Infinity;
    for (const { run, options } of [grpo, conspo, gspo])
      await expectAsOne({ run, options: { ...options, onNonFinite: 'skip' } }, batch);
  });

  it('a mask on some of the ranks only', async () => {
    const batch = fromLogProbs(some(11));
    const held = tokensOfRanks(batch, 2);
    held[0].tokens.forEach((t) => {
      batch.mask[t] = 1;
    });
    const whole = (await conspo.run(batch)) as unknown as Result;
    const parts = await onRanks(2, (sequence, rank) => {
      const { mask, ...part } = pieceOf(batch, held[rank]);
      return conspo.run({ ...part, ...(rank === 1 && { mask }) } as never, { parallel: { sequence } } as never);
    });
    for (const { loss } of parts as unknown as Result[]) expectCloseNumber(loss, whole.loss, ROUNDING);
  });

  it('the check of a first step', async () => {
    const batch = fromLogProbs(some(12));
    await expectAsOne({ run: grpo.run, options: { expectOnPolicy: true } }, { ...batch, oldLogProbs: batch.logProbs });
  });
});

describeBackends('tokens of sequences on several ranks, from logits', (backend) => {
  // On a device the last bits of a row depend on how many rows there are; of float32 gradients they do elsewhere.
  const tolerance = backend === 'cuda' ? 2e-6 : 1e-7;
  it.each<[string, NamedLoss, AnyOptions & object]>([
    ['conspo', conspo, {}],
    ['conspo, with the scale deferred', conspo, { gradient: { deferred: true } } as never],
    ['gspo', gspo, {}],
    ['grpo', grpo, { aggregation: 'token-mean' }],
    ['an entropy bonus', grpo, { entropyCoef: 0.1, entropy: true }],
    ['tokens of high entropy', grpo, { entropyQuantile: 0.4 }],
    ['rejected tokens', grpo, { rolloutCorrection: { reject: { by: 'k3', level: 'token', max: 0.01 } } }],
  ])('%s', async (_name, { run, options }, more) => {
    await expectAsOne({ run, options: { ...options, ...more, backend } }, some(13), [2, 3, 4], tolerance);
  });

  it('rows that are not finite', async () => {
    const batch = some(14);
    const row = batch.mask.indexOf(1);
    batch.logits[row * VOCAB] = Number.NaN;
    await expectAsOne({ run: conspo.run, options: { onNonFinite: 'skip', backend } }, batch, [2], tolerance);
    const held = tokensOfRanks(batch, 2);
    const ended = await settledRanks(2, (sequence, rank) =>
      conspo.run(pieceOf(batch, held[rank]), { backend, parallel: { sequence } } as never),
    );
    const codes = ended.map((end) => ((end as PromiseRejectedResult).reason as RlvrError).code).sort();
    expect(codes).toEqual(['ERR_NONFINITE', 'ERR_RANK']);
  });

  it('from hidden states: gradients of the weight add up', async () => {
    const { logits: _logits, ...batch } = some(18);
    const [tokens, width] = [batch.targets.length, 6];
    const matrix = (rows: number, seed: number) =>
      Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i * seed + seed));
    const full = { ...batch, hidden: matrix(tokens, 1.3) };
    const weight = matrix(VOCAB, 0.7);
    const call = (part: object, more = {}) =>
      conspo.run({ ...part, weight } as never, { ...conspo.options, backend, ...more } as never) as unknown as Promise<
        Result & { gradHidden: Float32Array; gradWeight: Float32Array }
      >;
    const whole = await call(full);
    const held = tokensOfRanks(batch, 3);
    const parts = await onRanks(3, (sequence, rank) => call(pieceOf(full, held[rank]), { parallel: { sequence } }));
    parts.forEach(({ loss, gradHidden }, rank) => {
      expectCloseNumber(loss, whole.loss, 1e-5, 1e-2);
      const own = pieceOf({ cuSeqlens: batch.cuSeqlens, gradHidden: whole.gradHidden }, held[rank]);
      expectClose(gradHidden, own.gradHidden, 1e-5);
    });
    const sums = whole.gradWeight.map((_, i) => parts.reduce((sum, { gradWeight }) => sum + gradWeight[i], 0));
    expectClose(sums, whole.gradWeight, 1e-5);
  });

  it('in a grid with other sequences and other columns', async () => {
    const batch = some(15);
    const options = { ...conspo.options, backend };
    const whole = (await conspo.run(withIds(batch) as never, options as never)) as unknown as Result;
    const halves = cutsFor(batch.rewards.length, 2);
    const edges = [0, 2, VOCAB];
    const parts = await onGrid([2, 2, 2], async ([data, sequence, comm], [half, piece, column]) => {
      const ofRank = sequencesOf(batch, ...halves[half]);
      const own = pieceOf(ofRank, tokensOfRanks(ofRank, 2)[piece]);
      const logits = columnsOf(own.logits as Float32Array, VOCAB, edges[column], edges[column + 1]);
      const parallel = { data, sequence, vocab: { comm, start: edges[column] } };
      return conspo.run({ ...own, logits } as never, { ...options, parallel } as never) as unknown as Promise<
        Omit<Result, 'gradLogits'> & { gradLogits: ReturnType<typeof columnsOf> }
      >;
    });
    for (const { loss, metrics } of parts) {
      expectCloseNumber(loss, whole.loss, 2e-6, 1e-2);
      for (const name of ['tokens', 'scoreGap', 'ratioMean'] as const)
        expectCloseNumber(metrics[name]!, whole.metrics[name]!, 2e-6, 1e-2);
    }
    const halvesOf = [0, 4].map((first) => {
      const ofRank = sequencesOf(batch, ...halves[first / 4]);
      const rows: number[][] = [];
      tokensOfRanks(ofRank, 2).forEach(({ tokens }, piece) => {
        const both = parts.slice(first + 2 * piece, first + 2 * piece + 2).map(({ gradLogits }) => gradLogits);
        const flat = joinedColumns(both);
        tokens.forEach((t, k) => {
          rows[t] = flat.slice(k * VOCAB, (k + 1) * VOCAB);
        });
      });
      return rows.flat();
    });
    expectClose(halvesOf.flat(), whole.gradLogits!, 2e-6);
  });
});

describe('forward and backward by hand', () => {
  const batch = some(16);
  const slopes = Float64Array.from(batch.rewards, (_, i) => Math.sin(i + 1));

  it.each([['logLikelihood'], [{ kind: 'sequenceRatio' }]] as const)('%o', async (score) => {
    const sides = Float64Array.from(batch.rewards, (reward) => (reward > 0 ? 1 : -1));
    const whole = await forward(batch, score, { sides, entropy: true });
    const { gradLogits } = await whole.backward(slopes);
    for (const size of [2, 3]) {
      const held = tokensOfRanks(batch, size);
      await onRanks(size, async (sequence, rank) => {
        const part = pieceOf(batch, held[rank]);
        const { scores, backward, ...own } = await forward(part, score, {
          sides,
          entropy: true,
          parallel: { sequence },
        });
        expectClose(scores, whole.scores, 1e-7);
        expectClose(own.tokenCounts, whole.tokenCounts, 0);
        const { logProbs, entropy } = pieceOf(
          { ...whole, cuSeqlens: batch.cuSeqlens } as never,
          held[rank],
        ) as unknown as Result;
        expectClose(own.logProbs, logProbs!, 1e-7);
        expectClose(own.entropy!, entropy!, 1e-7);
        await backward(slopes);
        const mine = await backward(slopes);
        const wanted = pieceOf({ cuSeqlens: batch.cuSeqlens, gradLogits }, held[rank]);
        expectClose(mine.gradLogits as Float32Array, wanted.gradLogits as Float32Array, 1e-7);
      });
    }
  });
});

describe('what differs between ranks', () => {
  const batch = fromLogProbs(some(17));
  const held = tokensOfRanks(batch, 3);
  const failing = async (change: (part: Record<string, unknown>, options: Record<string, unknown>) => void) => {
    const settled = await settledRanks(3, (sequence, rank) => {
      const part: Record<string, unknown> = { ...pieceOf(batch, held[rank]) };
      const options: Record<string, unknown> = { parallel: { sequence } };
      if (rank === 2) change(part, options);
      return conspo.run(part as never, options as never);
    });
    return settled.map((end) => (end.status === 'rejected' ? (end.reason as RlvrError) : undefined));
  };

  it.each<[string, Parameters<typeof failing>[0]]>([
    ['an option', (_, options) => Object.assign(options, { tau: 0.3 })],
    ['rewards', (part) => Object.assign(part, { rewards: (part.rewards as Float64Array).map((reward) => 1 - reward) })],
    ['groups', (part) => Object.assign(part, { cuGroups: Int32Array.of(0, batch.rewards.length) })],
    ['fields', (part) => delete part.oldLogProbs],
  ])('%s', async (_name, change) => {
    for (const error of await failing(change)) {
      expect(error).toMatchObject({ code: 'ERR_RANK' });
      expect(error!.message).toMatch(/parallel.sequence: expected the same sequences, groups, rewards/);
    }
  });

  it('an argument that is refused', async () => {
    const errors = await failing((part) => Object.assign(part, { logProbs: [0.5] }));
    expect(errors[2]).toBeInstanceOf(RlvrError);
    for (const error of errors.slice(0, 2)) expect(error!.message).toBe(`rank 2 failed: ${errors[2]!.message}`);
  });

  it('advantages of tokens and of sequences', async () => {
    const settled = await settledRanks(2, (sequence, rank) => {
      const part = { logProbs: Float64Array.of(-1, -2, -3), cuSeqlens: [0, 2, 3] };
      const given = { ...part, advantages: rank === 0 ? [1, 2] : [1, 2, 3] };
      return grpo.run(given as never, { parallel: { sequence } });
    });
    for (const end of settled) expect(end).toMatchObject({ reason: { code: 'ERR_RANK' } });
  });
});
