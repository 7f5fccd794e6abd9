// Ranks that hold different columns of the logits: the loss is that of whole rows, and the gradient of each rank's columns its own (spec
// section 12). Cut at odd places, so that columns begin at any address.
import { describe, expect, it } from 'vitest';
import { forward, type HostTensor, inProcess, RlvrError } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { keeps, randomKept, replaced } from './support/kept.js';
import {
  type AnyOptions,
  byName,
  fullBatch,
  NAMED_LOSSES,
  type NamedLoss,
  POLICY_LOSSES,
} from './support/named-losses.js';
import {
  columnsOf,
  cutsFor,
  joined,
  joinedColumns,
  onGrid,
  onRanks,
  sequencesOf,
  settledRanks,
  withIds,
} from './support/ranks.js';

const VOCAB = 37;
/** Where the columns are cut. */
const CUTS: Record<number, number[]> = { 2: [0, 13, 37], 3: [0, 1, 30, 37], 4: [0, 9, 10, 21, 37] };

interface Result {
  loss: number;
  metrics: Record<string, number>;
  scores: Float64Array;
  logProbs: Float64Array;
  entropy?: Float64Array;
  gradLogits: HostTensor;
}

const call = (run: NamedLoss['run'], batch: object, options: object) =>
  run(batch as never, options as never) as unknown as Promise<Result>;

async function expectAsOne(
  run: NamedLoss['run'],
  batch: ReturnType<typeof fullBatch>,
  options: AnyOptions,
  sizes = [2, 3, 4],
) {
  const wanted = { ...options, logProbs: true };
  const whole = await call(run, { ...batch, logits: columnsOf(batch.logits, VOCAB, 0, VOCAB) }, wanted);
  for (const size of sizes) {
    const cuts = CUTS[size];
    const parts = await onRanks(size, (comm, rank) => {
      const logits = columnsOf(batch.logits, VOCAB, cuts[rank], cuts[rank + 1]);
      return call(run, { ...batch, logits }, { ...wanted, parallel: { vocab: { comm, start: cuts[rank] } } });
    });
    for (const part of parts) {
      expectCloseNumber(part.loss, whole.loss, 2e-6, 1e-2);
      expectClose(part.logProbs, whole.logProbs, 1e-6);
      expectClose(part.scores, whole.scores, 2e-6);
      if (whole.entropy) expectClose(part.entropy!, whole.entropy, 1e-6);
      const { exchanges, exchangedNumbers, ...others } = part.metrics;
      expect(exchanges).toBe(3);
      expect(exchangedNumbers).toBeLessThanOrEqual(4 * batch.targets.length + 5);
      for (const name in others) expectCloseNumber(others[name], whole.metrics[name], 2e-6, 1e-2);
    }
    expectClose(joinedColumns(parts.map((part) => part.gradLogits)), joinedColumns([whole.gradLogits]), 2e-6);
  }
}

const grpo = POLICY_LOSSES.find(({ name }) => name === 'grpo')!;
const conspo = NAMED_LOSSES.find(({ name }) => name === 'conspo')!;
const some = (seed: number) => fullBatch(seed, { vocab: VOCAB });

describeBackends('ranks that share a vocabulary', (backend) => {
  it.each(byName(NAMED_LOSSES))('%s', async (_name, { run, options }) => {
    await expectAsOne(run, some(31), { ...options, backend });
  });

  it('entropies, their bonus and their quantile, at a temperature', async () => {
    const options = { entropyCoef: 0.1, entropyQuantile: 0.3, entropy: true, temperature: 0.7, backend };
    await expectAsOne(grpo.run, some(32), options);
  });

  it('columns that are all banned, and log-probs next to 0', async () => {
    const batch = some(33);
    batch.targets.forEach((target, t) => {
      const row = batch.logits.subarray(t * VOCAB, (t + 1) * VOCAB);
      if (t % 3 === 0) row.fill(-Infinity, 0, 30);
      if (t % 3 === 1) row[target] += 40;
      if (t % 3 === 0) batch.targets[t] = 30 + (target % 7);
    });
    await expectAsOne(
      conspo.run,
      { ...batch, oldLogProbs: batch.oldLogProbs.map(() => -1) },
      { ...conspo.options, backend },
    );
  });

  it.each([0, 5, 12])('NaN at column %i among banned ones is no banned one', async (column) => {
    const batch = some(45);
    batch.targets.forEach((_target, t) => {
      if (t % 3 !== 0) return;
      batch.logits.fill(-Infinity, t * VOCAB, t * VOCAB + 13); // all of a rank's columns but one
      batch.logits[t * VOCAB + column] = Number.NaN;
    });
    await expectAsOne(conspo.run, batch, { ...conspo.options, onNonFinite: 'skip', backend });
  });

  it('rows without a finite log-prob are skipped by all, or an error on all', async () => {
    const batch = some(34);
    const tokens = batch.targets.map((_, t) => t).filter((t) => batch.mask[t] === 1);
    batch.logits[tokens[0] * VOCAB + batch.targets[tokens[0]]] = -Infinity;
    batch.logits[tokens[1] * VOCAB + 20] = Number.NaN;
    batch.logits.fill(-Infinity, tokens[2] * VOCAB, (tokens[2] + 1) * VOCAB);
    await expectAsOne(conspo.run, batch, { ...conspo.options, onNonFinite: 'skip', backend });
    const errors = await settledRanks(2, (comm, rank) => {
      const cuts = CUTS[2];
      const logits = columnsOf(batch.logits, VOCAB, cuts[rank], cuts[rank + 1]);
      return call(conspo.run, { ...batch, logits }, { backend, parallel: { vocab: { comm, start: cuts[rank] } } });
    });
    for (const error of errors) expect(error).toMatchObject({ reason: { code: 'ERR_NONFINITE' } });
  });

  it('ranks that hold other sequences as well', async () => {
    const batch = some(35);
    const options = { ...conspo.options, backend };
    const whole = await call(
      conspo.run,
      withIds({ ...batch, logits: columnsOf(batch.logits, VOCAB, 0, VOCAB) }),
      options,
    );
    const halves = cutsFor(batch.rewards.length, 2);
    const places = await onGrid([2, 2], ([data, comm], [row, column]) => {
      const part = sequencesOf(batch, ...halves[row]);
      const [first, last] = CUTS[2].slice(column, column + 2);
      const logits = columnsOf(part.logits as Float32Array, VOCAB, first, last);
      return call(conspo.run, { ...part, logits }, { ...options, parallel: { data, vocab: { comm, start: first } } });
    });
    const parts = [places.slice(0, 2), places.slice(2)];
    for (const { loss } of places) expectCloseNumber(loss, whole.loss, 2e-6, 1e-2);
    const gradient = parts.flatMap((row) => joinedColumns(row.map((part) => part.gradLogits)));
    expectClose(gradient, joinedColumns([whole.gradLogits]), 2e-6);
    expectClose(joined(parts.map(([first]) => first.scores)), whole.scores, 2e-6);
  });
});

describeBackends('ranks that share a vocabulary of which some is kept', (backend) => {
  it.each(byName(NAMED_LOSSES))('%s', async (_name, { run, options }) => {
    await expectAsOne(run, keptOf(41), { ...options, backend });
  });

  it('entropies and their bonus; other logits are not read', async () => {
    const batch = keptOf(42);
    const logits = replaced(batch.logits, batch, VOCAB, Number.NaN);
    const options = { entropyCoef: 0.1, entropyQuantile: 0.3, entropy: true, temperature: 0.7, backend };
    await expectAsOne(grpo.run, { ...batch, logits }, options);
  });

  it('kept columns that are all banned, and rows without a finite log-prob, skipped', async () => {
    const batch = keptOf(43, 0.3);
    const tokens = batch.targets.map((_, t) => t).filter((t) => batch.mask[t] === 1);
    for (const t of tokens) {
      const row = batch.logits.subarray(t * VOCAB, (t + 1) * VOCAB);
      if (batch.targets[t] >= 13 && t % 2 === 0)
        for (let v = 0; v < 13; v++) if (keeps(batch, t, v)) row[v] = -Infinity;
    }
    batch.logits[tokens[1] * VOCAB + batch.targets[tokens[1]]] = Number.NaN;
    await expectAsOne(conspo.run, batch, { ...conspo.options, onNonFinite: 'skip', backend }, [2]);
  });

  it.each(['in-place', { deferred: true }] as const)('where the gradient goes: %s', async (gradient) => {
    const options = { ...conspo.options, gradient, backend } as AnyOptions;
    await expectAsOne(conspo.run, keptOf(44), options, [3]);
  });
});

/** A batch that keeps its targets and few other ids, so that ranks often have none; of every fifth token all. */
function keptOf(seed: number, share = 0.03) {
  const batch = some(seed);
  return { ...batch, ...randomKept(seed, batch.targets, VOCAB, share) };
}

describe('forward and backward by hand', () => {
  const batch = some(40);
  const slopes = Float64Array.from(batch.rewards, (_, i) => Math.sin(i + 1));
  const columns = (rank: number) => {
    const [start, end] = CUTS[3].slice(rank, rank + 2);
    return { start, logits: columnsOf(batch.logits, VOCAB, start, end) };
  };

  it('score whole rows, as often as backward is called', async () => {
    const whole = await forward({ ...batch, logits: columnsOf(batch.logits, VOCAB, 0, VOCAB) }, 'logLikelihood');
    const { gradLogits } = await whole.backward(slopes);
    const parts = await onRanks(3, async (comm, rank) => {
      const { start, logits } = columns(rank);
      const { scores, backward } = await forward({ ...batch, logits }, 'logLikelihood', {
        parallel: { vocab: { comm, start } },
      });
      expectClose(scores, whole.scores, 2e-6);
      await backward(slopes);
      return backward(slopes);
    });
    expectClose(joinedColumns(parts.map((part) => part.gradLogits)), joinedColumns([gradLogits]), 2e-6);
  });

  it('of what a sampler has kept', async () => {
    const kept = randomKept(40, batch.targets, VOCAB, 0.03);
    const whole = await forward(
      { ...batch, ...kept, logits: columnsOf(batch.logits, VOCAB, 0, VOCAB) },
      'logLikelihood',
    );
    const { gradLogits } = await whole.backward(slopes);
    const parts = await onRanks(3, async (comm, rank) => {
      const { start, logits } = columns(rank);
      const options = { parallel: { vocab: { comm, start } } };
      const { scores, backward } = await forward({ ...batch, ...kept, logits }, 'logLikelihood', options);
      expectClose(scores, whole.scores, 2e-6);
      await backward(slopes);
      return backward(slopes);
    });
    expectClose(joinedColumns(parts.map((part) => part.gradLogits)), joinedColumns([gradLogits]), 2e-6);
  });

  it('fail on all ranks if one cannot go on', async () => {
    const ended = await settledRanks(3, async (comm, rank) => {
      const { start, logits } = columns(rank);
      const { backward } = await forward({ ...batch, logits }, 'logLikelihood', {
        parallel: { vocab: { comm, start } },
      });
      return backward(rank === 1 ? [Number.NaN] : slopes);
    });
    const codes = ended.map((end) => ((end as PromiseRejectedResult).reason as RlvrError).code);
    expect(codes).toEqual(['ERR_RANK', 'ERR_SHAPE', 'ERR_RANK']);
  });

  it('fail on all ranks if one is aborted while they exchange something', async () => {
    const ended = await settledRanks(3, (given, rank) => {
      const { start, logits } = columns(rank);
      const controller = new AbortController();
      const allGather = (values: Float64Array) => {
        if (rank === 1) setImmediate(() => controller.abort());
        return given
          .allGather(values)
          .then((parts) => new Promise<typeof parts>((done) => setTimeout(done, 20, parts)));
      };
      const comm = Object.assign(Object.create(given), { rank, size: 3, allGather, allGatherSync: () => [] });
      return forward({ ...batch, logits }, 'logLikelihood', {
        parallel: { vocab: { comm, start } },
        signal: controller.signal,
      });
    });
    const codes = ended.map((end) => ((end as PromiseRejectedResult).reason as RlvrError).code);
    expect(codes).toEqual(['ERR_RANK', 'ERR_ABORTED', 'ERR_RANK']);
  });

  it('refuse ranks with other sequences', async () => {
    const [data] = inProcess(1);
    const call = forward(batch, 'logLikelihood', { parallel: { data } } as never);
    await expect(call).rejects.toThrow(/parallel.data/);
  });
});

it('an error at one place of a grid reaches all', async () => {
  const batch = some(36);
  const halves = cutsFor(batch.rewards.length, 2);
  const ended = await onGrid([2, 2], async ([data, comm], [row, column]) => {
    const part: Record<string, unknown> = { ...sequencesOf(batch, ...halves[row]) };
    const [first, last] = CUTS[2].slice(column, column + 2);
    part.logits = columnsOf(part.logits as Float32Array, VOCAB, first, last);
    if (row === 1 && column === 0) part.rewards = [Number.NaN];
    return call(conspo.run, part, { parallel: { data, vocab: { comm, start: first } } }).catch((error) => error);
  });
  for (const error of ended) expect(error).toBeInstanceOf(RlvrError);
});

it.each<[string, (rank: number, batch: Record<string, unknown>) => number, RegExp]>([
  ['columns that overlap', (rank) => 12 * rank, /each column on one rank, also 13/],
  ['columns that nobody has', (rank) => 14 * rank, /each column on one rank, also 13/],
  ['columns of no rank', (rank) => 13 * rank - 1, /parallel.vocab.start: expected/],
])('%s are refused', async (_name, startOf, message) => {
  const batch = some(37);
  const ended = await settledRanks(2, (comm, rank) => {
    const logits = columnsOf(batch.logits, VOCAB, CUTS[2][rank], CUTS[2][rank + 1]);
    const own: Record<string, unknown> = { ...batch, logits };
    return call(conspo.run, own, { parallel: { vocab: { comm, start: startOf(rank, own) } } });
  });
  expect(String((ended[0] as PromiseRejectedResult).reason)).toMatch(message);
});

it('log-probs are refused', async () => {
  const batch = { logProbs: Float64Array.of(-1), cuSeqlens: [0, 1], cuGroups: [0, 1], rewards: [1] };
  const [comm] = inProcess(1);
  const message = 'parallel.vocab: expected logits or hidden states, got log-probs';
  await expect(call(conspo.run, batch, { parallel: { vocab: { comm, start: 0 } } })).rejects.toThrow(message);
});

it('a target in no column is refused', async () => {
  const batch = some(38);
  batch.targets[batch.mask.indexOf(1)] = VOCAB;
  const ended = await settledRanks(2, (comm, rank) => {
    const logits = columnsOf(batch.logits, VOCAB, CUTS[2][rank], CUTS[2][rank + 1]);
    return call(conspo.run, { ...batch, logits }, { parallel: { vocab: { comm, start: CUTS[2][rank] } } });
  });
  for (const end of ended)
    expect(String((end as PromiseRejectedResult).reason)).toMatch(/targets: expected ids in \[0, 37\), got 37/);
});

it.each<[string, (part: Record<string, unknown>) => unknown]>([
  ['rewards', (part) => Object.assign(part, { rewards: (part.rewards as Float64Array).map((reward) => reward + 1) })],
  ['targets', (part) => Object.assign(part, { targets: (part.targets as Int32Array).map((id) => (id + 1) % VOCAB) })],
  ['masks', (part) => delete part.mask],
  ['groups', (part) => Object.assign(part, { cuGroups: [0, (part.rewards as Float64Array).length] })],
])('%s that differ between ranks are refused', async (_name, change) => {
  const batch = some(41);
  const ended = await settledRanks(2, (comm, rank) => {
    const start = CUTS[2][rank];
    const part: Record<string, unknown> = {
      ...batch,
      logits: columnsOf(batch.logits, VOCAB, start, CUTS[2][rank + 1]),
    };
    if (rank === 1) change(part);
    return call(conspo.run, part, { parallel: { vocab: { comm, start } } });
  });
  for (const end of ended)
    expect(String((end as PromiseRejectedResult).reason)).toMatch(/the same tokens, kept ids, groups, rew/);
});

describe('kept ids that are refused', () => {
  const batch = keptOf(45);
  const token = batch.mask.findIndex((flag, t) => flag === 1 && batch.cuKept[t + 1] > batch.cuKept[t]);
  const [first, last] = [batch.cuKept[token], batch.cuKept[token + 1] - 1];
  const errorsOf = async (ids: (rank: number) => Int32Array) => {
    const ended = await settledRanks(2, (comm, rank) => {
      const logits = columnsOf(batch.logits, VOCAB, CUTS[2][rank], CUTS[2][rank + 1]);
      const own = { ...batch, logits, keptIds: ids(rank) };
      return call(conspo.run, own, { parallel: { vocab: { comm, start: CUTS[2][rank] } } });
    });
    return ended.map((end) => String((end as PromiseRejectedResult).reason));
  };

  it('those without the target', async () => {
    const other = batch.targets[token] === 0 ? 1 : 0;
    const changed = batch.keptIds.map((id, k) => (k < first || k > last ? id : other + k - first));
    const [left, right] = await errorsOf(() => changed);
    expect(left).toMatch(/keptIds: expected the target \d+ among the ids of token \d+, got others only/);
    expect(right).toMatch(/keptIds: expected the target/);
  });

  it('those of no rank', async () => {
    const wide = keptOf(45);
    wide.targets[token] = VOCAB - 1;
    const ended = await settledRanks(2, (comm, rank) => {
      const logits = columnsOf(batch.logits, VOCAB, CUTS[2][rank], CUTS[2][rank + 1]);
      const counts = Array.from(wide.targets, (_, t) => (t === token ? 2 : 0));
      const cuKept = Int32Array.from([0, ...counts.map((_, t) => (t >= token ? 2 : 0))]);
      const own = { ...wide, logits, keptIds: Int32Array.of(VOCAB - 1, VOCAB), cuKept };
      return call(conspo.run, own, { parallel: { vocab: { comm, start: CUTS[2][rank] } } });
    });
    for (const end of ended)
      expect(String((end as PromiseRejectedResult).reason)).toMatch(
        /keptIds: expected ids in \[0, 37\), got 37 at index 1/,
      );
  });

  it('others than those of the other ranks', async () => {
    const [left, right] = await errorsOf((rank) => {
      const ids = batch.keptIds.slice();
      if (rank === 1 && batch.targets[token] !== ids[last]) ids[last] = VOCAB - 1;
      else if (rank === 1) ids[first] = 0;
      return ids;
    });
    for (const message of [left, right]) expect(message).toMatch(/the same tokens, kept ids, groups/);
  });

  it('those of hidden states', async () => {
    const [comm] = inProcess(1);
    const { logits: _logits, ...rest } = batch;
    const hidden = { ...rest, hidden: new Float32Array(batch.targets.length), weight: new Float32Array(VOCAB) };
    const ended = call(conspo.run, hidden, { parallel: { vocab: { comm, start: 0 } } });
    await expect(ended).rejects.toThrow(/keptIds: expected a batch of logits/);
  });
});
