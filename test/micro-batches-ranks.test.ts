// Micro-batches of a batch that is spread over ranks, each with parts of its own: losses and gradients add up to those of one process on the
// whole batch, and metrics are its.
import { describe, expect, it } from 'vitest';
import {
  type Communicator,
  grpoSync,
  inProcess,
  type Metrics,
  mergeMetricsOnRanks,
  mergeMetricsOnRanksSync,
  microBatches,
  microBatchesOnRanks,
  microBatchesOnRanksSync,
  type RlvrError,
} from '../lib/index.js';
import type { LossName } from '../lib/losses/list.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import {
  type AnyOptions,
  byName,
  fromLogProbs,
  fullBatch,
  NAMED_LOSSES,
  type NamedLoss,
  POLICY_LOSSES,
} from './support/named-losses.js';
import { columnsOf, joined, joinedColumns, onRanks, sequencesOf, settledRanks } from './support/ranks.js';

const lossOf = (name: string) => name.split(/,| on /)[0] as LossName;

type Grouped = { cuSeqlens: Int32Array; cuGroups: Int32Array };

/** Groups [first, last) of a batch. */
function groupsOf<B extends Grouped>(batch: B, first: number, last: number) {
  const { groupIds: _ids, ...part } = sequencesOf(batch, batch.cuGroups[first], batch.cuGroups[last]);
  return { ...part, cuGroups: batch.cuGroups.slice(first, last + 1).map((end) => end - batch.cuGroups[first]) };
}

/** Where seven groups are cut for so many ranks: of three, one has none. */
const CUTS: Record<number, number[]> = { 1: [0, 7], 2: [0, 2, 7], 3: [0, 2, 2, 7] };

interface Result {
  loss: number;
  metrics: Partial<Metrics>;
  scores: Float64Array;
  gradLogProbs: Float64Array;
}

const call = (run: NamedLoss['run'], batch: object, options: object) =>
  run(batch as never, options as never) as unknown as Promise<Result>;

async function expectAsOne<B extends Grouped & object>({ name, run, options }: NamedLoss, batch: B) {
  const loss = lossOf(name);
  const whole = await call(run, batch, options);
  for (const size of [1, 2, 3]) {
    const cuts = CUTS[size];
    const ranks = await onRanks(size, async (data, rank) => {
      const own = groupsOf(batch, cuts[rank], cuts[rank + 1]);
      const limit = { sequences: 7, loss, options: { ...options, parallel: { data } } };
      const parts = await microBatchesOnRanks(own as never, limit);
      const results = [];
      for (const part of parts) results.push(await call(run, part.batch, part.options));
      return { results, metrics: await mergeMetricsOnRanks(parts, results, { parallel: { data } }) };
    });
    const results = ranks.flatMap((rank) => rank.results);
    expect(new Set(ranks.map((rank) => rank.results.length)).size).toBe(size); // as uneven as can be
    const sum = results.reduce((total, result) => total + result.loss, 0);
    expectCloseNumber(sum, whole.loss, 1e-12, 1e-3);
    expectClose(joined(results.map(({ gradLogProbs }) => gradLogProbs)), whole.gradLogProbs, 1e-12);
    expectClose(joined(results.map(({ scores }) => scores)), whole.scores, 1e-12);
    const { rolloutEffectiveSampleSize: _none, ...expected } = whole.metrics;
    for (const { metrics } of ranks) {
      expect(Object.keys(metrics).sort()).toEqual(Object.keys(expected).sort());
      for (const [key, value] of Object.entries(expected))
        expectCloseNumber((metrics as Metrics)[key as keyof Metrics]!, value, 1e-12, 1e-3);
      expect(metrics).toEqual(ranks[0].metrics);
    }
  }
}

const some = (seed: number) => fullBatch(seed, { groups: 7 });

describe('micro-batches on several ranks', () => {
  it.each(byName(NAMED_LOSSES))('%s', async (name, loss) => {
    const options = name.includes('plain') ? ({ ...loss.options, tau: null } as unknown as AnyOptions) : loss.options;
    for (const seed of [1, 2]) await expectAsOne({ ...loss, options }, fromLogProbs(some(seed)));
  });

  it.each(byName(POLICY_LOSSES))('%s, with a penalty, in each aggregation', async (_name, loss) => {
    for (const aggregation of ['sequence-mean', 'token-mean', 'constant-length'] as const) {
      const options = { ...loss.options, aggregation, maxLength: 9, klCoef: 0.1, positiveThreshold: 0.5 };
      await expectAsOne({ ...loss, options }, fromLogProbs(some(3)));
    }
  });

  it('an entropy bonus as a mean over tokens has a denominator of its own', async () => {
    const options = { entropyCoef: 0.1, entropyAggregation: 'token-mean' } as const;
    const batch = some(4);
    const whole = microBatches(batch, { sequences: 7, loss: 'grpo', options })[0].options;
    const { sequences, tokens } = { sequences: batch.rewards.length, tokens: batch.mask.filter((flag) => flag).length };
    expect(whole).toEqual({ ...options, normalizer: sequences, entropyNormalizer: tokens });
    for (const parts of await partsOnRanks(batch, { ...options }))
      for (const part of parts) expect(part.options).toEqual(whole);
  });

  it('together with ranks that hold other columns', async () => {
    const vocab = 11;
    const batch = fullBatch(5, { groups: 7, vocab });
    const logitsOf = (part: { logits: Float32Array }) => columnsOf(part.logits, vocab, 0, vocab);
    const grpo = POLICY_LOSSES.find(({ name }) => name === 'grpo')!;
    const whole = (await call(grpo.run, { ...batch, logits: logitsOf(batch) }, {})) as unknown as ColumnsResult;
    const [starts, cuts] = [[0, 4, 11], CUTS[2]];
    const data = [inProcess(2), inProcess(2)]; // for each part of the columns
    const comms = [inProcess(2), inProcess(2)]; // for each part of the sequences
    const grid = await Promise.all(
      [0, 1].map((row) =>
        Promise.all(
          [0, 1].map(async (column) => {
            const own = groupsOf(batch, cuts[row], cuts[row + 1]);
            const logits = columnsOf(own.logits as Float32Array, vocab, starts[column], starts[column + 1]);
            const vocabRanks = { comm: comms[row][column], start: starts[column] };
            const parallel = { data: data[column][row], vocab: vocabRanks };
            const limit = { sequences: 7, loss: 'grpo' as const, options: { parallel } };
            const parts = await microBatchesOnRanks({ ...own, logits } as never, limit);
            const results = [];
            for (const part of parts) {
              expect(part.options).toEqual({ parallel: { vocab: vocabRanks }, normalizer: batch.rewards.length });
              results.push((await call(grpo.run, part.batch, part.options)) as unknown as ColumnsResult);
            }
            const { exchanges, exchangedNumbers, ...metrics } = await mergeMetricsOnRanks(parts, results, { parallel });
            expect(exchanges).toBe(3 * 4); // of all parts
            expect(exchangedNumbers).toBeGreaterThan(0);
            return { results, metrics };
          }),
        ),
      ),
    );
    for (const column of [0, 1]) {
      const results = grid.flatMap((row) => row[column].results);
      expect(results).toHaveLength(4);
      expectCloseNumber(
        results.reduce((sum, { loss }) => sum + loss, 0),
        whole.loss,
        2e-6,
        1e-2,
      );
      for (const row of grid) expectCloseNumber(row[column].metrics.rewardMean!, whole.metrics.rewardMean!, 1e-12);
    }
    const gradient = grid.flatMap((row) =>
      row[0].results.flatMap((left, i) => joinedColumns([left.gradLogits, row[1].results[i].gradLogits])),
    );
    expectClose(gradient, joinedColumns([whole.gradLogits]), 2e-6);
  });

  it('without ranks, or with one, blocking too, is what one process has', () => {
    const batch = fromLogProbs(some(6));
    const [data] = inProcess(1);
    const limit = { tokens: 1000, loss: 'grpo' as const };
    const alone = microBatches(batch, limit);
    const results = alone.map((part) => grpoSync(part.batch, part.options));
    for (const options of [{}, { parallel: { data } }]) {
      const parts = microBatchesOnRanksSync(batch, { ...limit, options });
      expect(parts).toEqual(alone);
      expect(mergeMetricsOnRanksSync(parts, results, options)).toEqual(mergeMetricsOnRanksSync(parts, results, {}));
    }
  });

  it('nothing on any rank', async () => {
    const none = { cuSeqlens: [0], cuGroups: [0], rewards: [] };
    const ends = await onRanks(2, async (data) => {
      const parts = await microBatchesOnRanks(none, { tokens: 5, loss: 'grpo', options: { parallel: { data } } });
      return [parts, await mergeMetricsOnRanks(parts, [], { parallel: { data } })];
    });
    for (const end of ends) expect(end).toEqual([[], {}]);
  });
});

type ColumnsResult = Result & { gradLogits: Parameters<typeof joinedColumns>[0][number] };

const partsOnRanks = (batch: ReturnType<typeof some>, options: object) =>
  onRanks(2, (data, rank) => {
    const own = groupsOf(batch, CUTS[2][rank], CUTS[2][rank + 1]);
    return microBatchesOnRanks(own as never, {
      sequences: 7,
      loss: 'grpo',
      options: { ...options, parallel: { data } },
    });
  });

describe('an error on one rank', () => {
  const batch = fromLogProbs(some(7));
  const limit = { sequences: 7, loss: 'grpo' };
  const own = (rank: number): object => groupsOf(batch, CUTS[3][rank], CUTS[3][rank + 1]);
  const cut = (data: Communicator, rank: number, change: object, options: object) =>
    microBatchesOnRanks(
      { ...own(rank), ...change } as never,
      { ...limit, options: { parallel: { data }, ...options } } as never,
    );

  it.each<[string, object, object, RegExp]>([
    ['a group larger than a part', { cuGroups: [0, batch.rewards.length] }, {}, /cuGroups|sequences/],
    ['an array of another length', { rewards: [1] }, {}, /rewards/],
    ['an option that looks at the whole batch', {}, { entropyQuantile: 0.2 }, /options.entropyQuantile: expected none/],
    ['a misspelt field', { old_log_probs: batch.logProbs, oldLogProbs: undefined }, {}, /old_log_probs/],
  ])('%s', async (_name, change, options, message) => {
    const errors = await errorsOf((data, rank) => cut(data, rank, rank === 2 ? change : {}, rank === 2 ? options : {}));
    expect(errors[2]!.message).toMatch(message);
    for (const error of errors.slice(0, 2))
      expect(error).toMatchObject({ code: 'ERR_RANK', message: `rank 2 failed: ${errors[2]!.message}` });
  });

  it.each<[string, object, object]>([
    ['another option', {}, { epsilonHigh: 0.3 }],
    ['other fields', { oldLogProbs: undefined }, {}],
  ])('%s than the others have', async (_name, change, options) => {
    const errors = await errorsOf((data, rank) => cut(data, rank, rank === 2 ? change : {}, rank === 2 ? options : {}));
    for (const error of errors) {
      expect(error).toMatchObject({ code: 'ERR_RANK' });
      expect(error!.message).toMatch('options.parallel.data: expected the same loss, options and fields of the batch');
    }
  });

  it('metrics that are none', async () => {
    const errors = await errorsOf((data, rank) => {
      const kl = rank === 1 ? Number.NaN : 0.1;
      return mergeMetricsOnRanks([{ batch: { cuSeqlens: [0, 1] } }], [{ metrics: { tokens: 1, kl } }], {
        parallel: { data },
      });
    });
    expect(errors.map((error) => error?.code)).toEqual(['ERR_RANK', 'ERR_DTYPE', 'ERR_RANK']);
  });

  it('reaches those that hold other columns', async () => {
    const errors = await errorsOf((comm, rank) => {
      const parallel = { vocab: { comm, start: 0 } };
      const options = rank === 1 ? { parallel, entropyQuantile: 0.1 } : { parallel };
      return microBatchesOnRanks(batch, { tokens: 1000, loss: 'grpo', options });
    });
    expect(errors.map((error) => error?.code)).toEqual(['ERR_RANK', 'ERR_RANGE', 'ERR_RANK']);
  });

  it('ranks that hold other tokens of the same sequences are refused', async () => {
    const [sequence] = inProcess(1);
    const parallel = { sequence };
    await expect(microBatchesOnRanks(batch, { tokens: 1000, loss: 'grpo', options: { parallel } })).rejects.toThrow(
      'options.parallel.sequence: expected none: micro-batches are of whole sequences, got ranks',
    );
    await expect(mergeMetricsOnRanks([], [], { parallel } as never)).rejects.toThrow(
      'parallel.sequence: expected none',
    );
    expect(() => microBatches(batch, { tokens: 1000, loss: 'grpo', options: { parallel } })).toThrow(
      'options.parallel: expected none: microBatchesOnRanks is for batches of several ranks, got ranks',
    );
  });
});

async function errorsOf(work: (comm: Communicator, rank: number) => Promise<unknown>) {
  const settled = await settledRanks(3, work);
  return settled.map((end) => (end.status === 'rejected' ? (end.reason as RlvrError) : undefined));
}
