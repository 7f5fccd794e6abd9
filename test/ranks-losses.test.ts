// Ranks that hold different sequences: each gets the loss and the metrics of the whole batch, and its own part of the gradient, as one
// rank by itself has them (spec section 12).
import { describe, expect, it } from 'vitest';
import { type Communicator, losses, type Metrics, RlvrError } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import {
  type AnyOptions,
  byName,
  type FullBatch,
  fromLogProbs,
  fullBatch,
  NAMED_LOSSES,
  type NamedLoss,
  POLICY_LOSSES,
  perTokenAdvantages,
} from './support/named-losses.js';
import { cutsFor, joined, onRanks, sequencesOf, settledRanks, withIds } from './support/ranks.js';

/** From log-probs, to rounding of float64. */
const ROUNDING = 1e-12;

interface Run {
  run: NamedLoss['run'];
  options?: AnyOptions;
}

type Grouped = { cuSeqlens: Int32Array; cuGroups: Int32Array };

/** Compares what ranks of different sizes make of a batch with what one rank by itself does. */
async function expectAsOne<B extends Grouped & object>(
  { run, options }: Run,
  batch: B,
  sizes = [2, 3, 4],
  tolerance = ROUNDING,
): Promise<Partial<Metrics>> {
  const sequences = batch.cuSeqlens.length - 1;
  const call = (part: object, more: object = {}) =>
    run(part as never, { ...options, ...more } as never) as Promise<Result>;
  const whole = await call(withIds(batch));
  let metrics: Partial<Metrics> = {};
  for (const size of sizes) {
    const cuts = cutsFor(sequences, size);
    const parts = await onRanks(size, (data, rank) => call(sequencesOf(batch, ...cuts[rank]), { parallel: { data } }));
    for (const part of parts) {
      expectCloseNumber(part.loss, whole.loss, tolerance, 1e-3);
      if (whole.groupLosses) expectClose(part.groupLosses!, whole.groupLosses, tolerance);
      const { exchanges, exchangedNumbers, ...others } = part.metrics;
      expect(Object.keys(others).sort()).toEqual(Object.keys(whole.metrics).sort());
      for (const [name, value] of Object.entries(others))
        expectCloseNumber(value, whole.metrics[name as keyof Metrics]!, tolerance, 1e-3);
      expect(exchanges).toBe(parts[0].metrics.exchanges);
      expect(exchangedNumbers).toBeGreaterThan(0);
      metrics = part.metrics;
    }
    for (const name of ['scores', 'gradLogProbs', 'gradLogits', 'advantages'] as const)
      if (whole[name]) expectClose(joined(parts.map((part) => part[name]!)), whole[name], tolerance, name);
  }
  return metrics;
}

interface Result {
  loss: number;
  metrics: Partial<Metrics>;
  scores: Float64Array;
  groupLosses?: Float64Array;
  advantages?: Float64Array;
  gradLogProbs?: Float64Array;
  gradLogits?: Float32Array;
}

const some = (seed: number, groups = 4) => fullBatch(seed, { groups });

describe.each(byName(NAMED_LOSSES))('%s on several ranks', (_name, { run, options }) => {
  it('is the loss of one, with groups spread over them', async () => {
    for (const seed of [1, 2, 3]) await expectAsOne({ run, options }, fromLogProbs(some(seed)));
  });

  it('takes three exchanges at most', async () => {
    const { exchanges, exchangedNumbers } = await expectAsOne({ run, options }, fromLogProbs(some(4)), [2]);
    expect(exchanges).toBeLessThanOrEqual(3);
    expect(exchangedNumbers).toBeLessThan(200);
  });
});

/** Whatever looks at a whole batch, or divides by a number of it. */
const WHOLE_BATCH: [name: string, options: AnyOptions, exchanges?: number][] = [
  ['token-mean', { aggregation: 'token-mean' }],
  ['constant-length', { aggregation: 'constant-length', maxLength: 9 }],
  ['a normalizer', { aggregation: 'token-mean', normalizer: 17 }],
  ['rloo', { advantage: { estimator: 'rloo' } }],
  ['opo', { advantage: { estimator: 'opo' } }],
  ['gpg', { advantage: { estimator: 'gpg' } }],
  ['passK', { advantage: { estimator: 'passK' } }],
  ['whitened advantages', { advantage: { estimator: 'reinforcePlusPlusBaseline' }, aggregation: 'token-mean' }],
  ['the deviation of the batch', { advantage: { scale: 'batch' } }],
  ['a KL penalty', { klCoef: 0.1, aggregation: 'token-mean' }],
  ['an off-policy mask', { offPolicyMask: { delta: 0.05 } }],
  ['truncated importance weights', { rolloutCorrection: { max: 1.1 } }],
  ['normalized importance weights', { rolloutCorrection: { normalize: true } }, 4],
  [
    'rejected tokens',
    { rolloutCorrection: { reject: { by: 'k1', level: 'token', max: 0.2 } }, aggregation: 'token-mean' },
  ],
  ['KL-Cov', { klCov: { ratio: 0.2 } }],
];

describe.each(WHOLE_BATCH)('%s on several ranks', (_name, options, most = 3) => {
  it.each(byName(POLICY_LOSSES.filter(({ name }) => name === 'grpo' || name === 'gspo')))('%s', async (_, loss) => {
    for (const seed of [5, 6]) {
      const merged = { ...loss.options, ...options };
      const { exchanges } = await expectAsOne({ run: loss.run, options: merged }, fromLogProbs(some(seed)));
      expect(exchanges).toBeLessThanOrEqual(most);
    }
  });
});

const grpo = POLICY_LOSSES.find(({ name }) => name === 'grpo')!;
const conspo = NAMED_LOSSES.find(({ name }) => name === 'conspo')!;
const disco = NAMED_LOSSES.find(({ name }) => name === 'disco')!;

describe('more of a batch on several ranks', () => {
  it('several rewards', async () => {
    const batch = fromLogProbs(some(7));
    const rewards = Float64Array.from({ length: 2 * batch.rewards.length }, (_, i) => (i * 7) % 5);
    await expectAsOne(
      { run: grpo.run, options: { advantage: { estimator: 'gdpo', weights: [1, 0.5] } } },
      { ...batch, rewards },
    );
  });

  it('advantages of sequences and of tokens', async () => {
    const full = some(8);
    const batch = fromLogProbs(full);
    await expectAsOne(grpo, { ...batch, advantages: Float64Array.from(batch.rewards, (r, i) => r - i / 9) });
    await expectAsOne(grpo, { ...batch, advantages: perTokenAdvantages(8, full) });
  });

  it('tokens whose covariance is large', async () => {
    const batch = fromLogProbs(some(9, 6));
    for (const seed of [1, 2])
      await expectAsOne({ run: grpo.run, options: { clipCov: { ratio: 0.2, low: 0, high: 9, seed } } }, batch);
  });

  it('a KL constraint', async () => {
    const options = { klConstraint: { beta: 10, delta: 1e-4 } };
    expect((await expectAsOne({ run: disco.run, options }, fromLogProbs(some(10)))).exchanges).toBe(3);
  });

  it('log-probs that are dropped', async () => {
    const batch = fromLogProbs(some(11));
    batch.logProbs[3] = -Infinity;
    for (const aggregation of ['sequence-mean', 'token-mean'] as const)
      await expectAsOne({ run: grpo.run, options: { onNonFinite: 'skip', aggregation } }, batch);
  });

  it('the check of a first step', async () => {
    const batch = fromLogProbs(some(12));
    await expectAsOne({ run: grpo.run, options: { expectOnPolicy: true } }, { ...batch, oldLogProbs: batch.logProbs });
  });
});

describeBackends('several ranks, from logits', (backend) => {
  // On a device the last bits of a row depend on how many rows there are.
  const tolerance = backend === 'cuda' ? 2e-6 : ROUNDING;
  it.each<[string, NamedLoss, AnyOptions]>([
    ['conspo', conspo, {}],
    ['grpo, in one pass', grpo, { aggregation: 'token-mean' }],
    ['an entropy bonus, as a mean over tokens', grpo, { entropyCoef: 0.1, entropyAggregation: 'token-mean' }],
    ['tokens of high entropy', grpo, { entropyQuantile: 0.4 }],
  ])('%s', async (_name, { run, options }, more) => {
    await expectAsOne({ run, options: { ...options, ...more, backend } }, some(13), [2, 3, 4], tolerance);
  });
});

describe('groups that are not spread', () => {
  it('have offsets, an order, and may be empty', async () => {
    const [a, b] = [17, 18].map((seed) => fromLogProbs(some(seed)));
    const groupOrder = Int32Array.from(b.rewards, (_, i) => i);
    const whole = await conspo.run(joinedBatches([a, b]) as never);
    const parts = await onRanks(2, (data, rank) =>
      conspo.run((rank === 0 ? a : { ...b, groupOrder }) as never, { parallel: { data } } as never),
    );
    for (const { loss, groupLosses } of parts as unknown as Result[]) {
      expectCloseNumber(loss, (whole as unknown as Result).loss, ROUNDING);
      expectClose(groupLosses!, (whole as unknown as Result).groupLosses!, ROUNDING);
    }
  });
});

function joinedBatches(parts: ReturnType<typeof fromLogProbs<FullBatch>>[]) {
  const lengths = (name: 'cuSeqlens' | 'cuGroups') => {
    const all = parts.flatMap((part) => Array.from(part[name].slice(1), (end, i) => end - part[name][i]));
    let end = 0;
    return Int32Array.from([0, ...all.map((length) => (end += length))]);
  };
  const values = (name: 'logProbs' | 'oldLogProbs' | 'rewards') =>
    Float64Array.from(joined(parts.map((part) => part[name])));
  return {
    logProbs: values('logProbs'),
    oldLogProbs: values('oldLogProbs'),
    rewards: values('rewards'),
    mask: Uint8Array.from(joined(parts.map(({ mask }) => mask))),
    cuSeqlens: lengths('cuSeqlens'),
    cuGroups: lengths('cuGroups'),
  };
}

/** Options under which the others of a pair would be the same but for what makes them. */
const TOGETHER = { conspo: { tau: 0.5 }, grpo: { epsilonLow: 0.1, epsilonHigh: 0.1 } };

describe('an error on one rank', () => {
  const batch = fromLogProbs(some(19));
  const cuts = cutsFor(batch.rewards.length, 3);
  const failing = async (change: (part: Record<string, unknown>, options: Record<string, unknown>) => void) => {
    const settled = await settledRanks(3, (data: Communicator, rank) => {
      const part: Record<string, unknown> = { ...sequencesOf(batch, ...cuts[rank]) };
      const options: Record<string, unknown> = { parallel: { data } };
      if (rank === 2) change(part, options);
      return conspo.run(part as never, options as never);
    });
    return settled.map((end) => (end.status === 'rejected' ? (end.reason as RlvrError) : undefined));
  };

  it.each<[string, Parameters<typeof failing>[0], RegExp]>([
    ['a misspelt option', (_, options) => Object.assign(options, { tua: 1 }), /tua/],
    ['an array of another length', (part) => Object.assign(part, { rewards: [1] }), /rewards/],
    [
      'a log-prob above 0',
      (part) => Object.assign(part, { logProbs: (part.logProbs as Float64Array).map(() => 1) }),
      /logProbs/,
    ],
    [
      'a group without an id',
      (part) => Object.assign(part, { groupIds: (part.groupIds as Int32Array).slice(1) }),
      /groupIds/,
    ],
    [
      'a gradient elsewhere',
      (_, options) => Object.assign(options, { gradient: { out: new Float64Array(1) } }),
      /gradient/,
    ],
  ])('%s', async (_name, change, message) => {
    const errors = await failing(change);
    expect(errors[2]).toBeInstanceOf(RlvrError);
    expect(errors[2]!.message).toMatch(message);
    for (const error of errors.slice(0, 2)) {
      expect(error).toMatchObject({ code: 'ERR_RANK' });
      expect(error!.message).toBe(`rank 2 failed: ${errors[2]!.message}`);
    }
  });

  it('an option that differs', async () => {
    const errors = await failing((_, options) => Object.assign(options, { tau: 0.3 }));
    for (const error of errors) expect(error).toMatchObject({ code: 'ERR_RANK' });
    expect(errors[0]!.message).toMatch('the same loss, options and fields of the batch on all ranks');
  });

  it.each([['real'], ['gspo']] as const)('another loss: %s', async (other) => {
    const name = other === 'real' ? 'conspo' : 'grpo'; // apart by their objectives, and by their scores
    const ended = await settledRanks(2, (data, rank) => {
      const part = sequencesOf(batch, ...cutsFor(batch.rewards.length, 2)[rank]);
      return losses[rank === 0 ? name : other](part as never, { ...TOGETHER[name], parallel: { data } } as never);
    });
    for (const end of ended) expect(end).toMatchObject({ reason: { code: 'ERR_RANK' } });
  });

  it('fields that differ', async () => {
    const errors = await failing((part) => delete part.oldLogProbs);
    for (const error of errors) expect(error).toMatchObject({ code: 'ERR_RANK' });
  });

  it('an aborted call', async () => {
    const errors = await failing((_, options) => Object.assign(options, { signal: AbortSignal.abort() }));
    expect(errors.map((error) => error?.code)).toEqual(['ERR_RANK', 'ERR_RANK', 'ERR_ABORTED']);
  });

  it('a communicator that is none', async () => {
    await expect(conspo.run(batch, { parallel: { data: {} } } as never)).rejects.toThrow(
      /parallel.data: expected a Communicator/,
    );
  });
});
