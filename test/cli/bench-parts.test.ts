import { describe, expect, test } from 'vitest';
import { type OpenPeer, openPeers, type Peer, usableContenders } from '../../bench/peer.js';
import { createArrays } from '../../bench/problems/arrays.js';
import { createProblem, roundTo, widen } from '../../bench/problems/data.js';
import { normError, requireWithin, valueError, WrongResult } from '../../bench/problems/float64.js';
import {
  checkLinearGradients,
  createLinearProblem,
  layerOf,
  linearRowsTruth,
  linearTruth,
  type Matrix,
  tensorRows,
} from '../../bench/problems/linear.js';
import { rolloutsOfTokens, scoredRollouts } from '../../bench/problems/rollouts.js';
import { formatNumber, formatShortRate, formatSpread } from '../../bench/report/figures.js';
import type { Row } from '../../bench/report/report.js';
import { sweepLines } from '../../bench/report/sweep.js';
import { rowsOf } from '../../bench/rows.js';
import { againstReference, medianInterval } from '../../bench/sections/comparisons.js';
import { sweepExperiments } from '../../bench/sections/sweep.js';
import { tokenComparisons } from '../../bench/sections/token.js';
import { type Contender, type Measurement, measure, spreadOf } from '../../bench/timing.js';
import { renderFinding } from '../../cli/bench/table.js';
import { linearLogProbsBackwardSync, linearLogProbsSync } from '../../lib/index.js';

const shape = { tokens: 4, vocab: 8 };

function contender(op: string, more: Partial<Contender> = {}): Contender {
  const identity = { section: 'token', by: 'a peer', backend: null, threads: 1, dtype: 'f32', shape } as const;
  const moves = { read: 128, copied: 0 };
  return { ...identity, op, moves, memoryBound: true, check: () => 0, run: () => {}, ...more };
}

describe('measure', () => {
  test('each round calls every contender twice, in an order that shifts, between two checks', async () => {
    const log: string[] = [];
    const named = (op: string) =>
      contender(op, {
        check: () => {
          log.push(`?${op}`);
          return null;
        },
        run: () => log.push(op),
        restore: () => log.push('-'),
        prepare: () => log.push('+'),
      });
    await measure([named('a'), named('b')], { repeats: 1, warmup: 1, pauseMs: 0, wakingMs: 0 });
    expect(log.join('')).toBe('+?a+?b+a-a-+b-b-+b-b-+a-a-+?a+?b');
  });

  test('consecutive calls use different slots', async () => {
    const slots: number[] = [];
    const one = contender('a', { slots: 3, run: (slot) => slots.push(slot) });
    await measure([one], { repeats: 3, warmup: 0, pauseMs: 0, wakingMs: 0 });
    expect(slots.every((slot, i) => slot < 3 && slot !== slots[i - 1])).toBe(true);
    expect(new Set(slots).size).toBe(3);
  });

  test("a promised number is the call's own time", async () => {
    const [{ milliseconds }] = await measure([contender('a', { run: async () => 42 })], { repeats: 3, warmup: 0 });
    expect(milliseconds).toEqual({ median: 42, p10: 42, p90: 42, min: 42, max: 42 });
  });

  test('who exceeds the budget sits out rounds, but three count', async () => {
    let calls = 0;
    const slow = contender('slow', {
      run: () => {
        calls++;
        const end = performance.now() + 2;
        while (performance.now() < end);
      },
    });
    await measure([slow], { repeats: 20, warmup: 2, pauseMs: 0, wakingMs: 0, budgetSeconds: 1e-3 });
    expect(calls).toBeGreaterThanOrEqual(2 * 3);
    expect(calls).toBeLessThanOrEqual(2 * 5);
  });

  test('a busy round is thrown away and repeated', async () => {
    let rounds = 0;
    const othersAtWork = async (round: () => Promise<void>) => {
      await round();
      return ++rounds === 2;
    };
    const times = [1, 100, 3, 5];
    const one = contender('a', { run: async () => times[rounds] });
    const [{ milliseconds }] = await measure([one], { repeats: 3, warmup: 0, pauseMs: 0, wakingMs: 0, othersAtWork });
    expect(milliseconds).toEqual(spreadOf([1, 3, 5]));
  });

  test('an abort stops it', async () => {
    const controller = new AbortController();
    const one = contender('a', { run: () => controller.abort(new Error('enough')) });
    await expect(measure([one], { repeats: 9, warmup: 0, signal: controller.signal })).rejects.toThrow('abort');
  });
});

describe('results', () => {
  test('the share of the bandwidth is of the fastest read and the fastest copy', () => {
    const spread = (median: number) => spreadOf([median]);
    const unmeasured = { error: null, rounds: new Map<number, number>() };
    const yardstick = (op: string, moves: Contender['moves'], ms: number) => {
      return { ...unmeasured, contender: contender(op, { by: 'memory', moves }), milliseconds: spread(ms) };
    };
    const both = contender('both', { moves: { read: 1e6, copied: 1e6 } });
    const rows = rowsOf([
      yardstick('read', { read: 1e6, copied: 0 }, 1),
      yardstick('copy', { read: 0, copied: 1e6 }, 4),
      yardstick('copy, streaming', { read: 0, copied: 1e6 }, 3),
      { ...unmeasured, contender: both, milliseconds: spread(8) },
    ]);
    expect(rows.map(({ ofBandwidth }) => ofBandwidth)).toEqual([1, 0.75, 1, 0.5].map((x) => expect.closeTo(x, 12)));
    expect(rows[3]).toMatchObject({ bytes: 3e6, gigabytesPerSecond: 0.375, rowsPerSecond: 500 });
  });

  test('the share of the peak is of multiply-adds in registers', () => {
    const took = (ms: number) => ({ error: null, rounds: new Map<number, number>(), milliseconds: spreadOf([ms]) });
    const rows = rowsOf([
      { ...took(2), contender: contender('multiply-add', { by: 'arithmetic', flops: 4e6 }) },
      { ...took(8), contender: contender('forward', { flops: 12e6 }), peakBytes: 3 },
      { ...took(8), contender: contender('copy') },
    ]);
    expect(rows.map(({ ofPeak }) => ofPeak)).toEqual([1, 0.75, undefined]);
    expect(rows.map(({ peakBytes }) => peakBytes)).toEqual([undefined, 3, undefined]);
  });

  test('a NaN is not within any tolerance', () => {
    expect(() => requireWithin('x', Number.NaN, 1)).toThrow(WrongResult);
    expect(normError([1, Number.NaN], [1, 2])).toBeNaN();
    expect(normError([1], [1, 2])).toBeNaN();
    expect(normError([0, 0], [0, 0])).toBe(0);
  });

  test('numbers as text', () => {
    const rates = [1234567, 39100, 999.6, 999.4, 999.6e3, 0.5, 2.1e9, 5e15].map(formatShortRate);
    expect(rates).toEqual(['1.23 M', '39.1 k', '1.00 k', '999', '1.00 M', '0.500', '2.10 G', '5,000 T']);
    const numbers = [12345, 1.234, 0.00123, 0.000123, 0, Number.NaN].map((value) => formatNumber(value));
    expect(numbers).toEqual(['12,300', '1.23', '0.00123', '0.000123', '0', '–']);
    expect(formatNumber(1.23456, 4)).toBe('1.235');
    expect(formatSpread({ median: 2, p10: 1, p90: 300, min: 1, max: 300 })).toBe('-50% >10x');
    expect(formatSpread({ median: 2, p10: 1.99, p90: 2.01, min: 1, max: 3 }, 1)).toBe('-0.5% +0.5%');
  });

  test('the widest table fits 100 columns', () => {
    const row: Row = {
      section: 'token',
      op: 'backward second array',
      by: 'PyTorch compiled',
      backend: null,
      threads: 2,
      dtype: 'bf16',
      shape,
      milliseconds: { median: 123456, p10: 1, p90: 12345678, min: 1, max: 12345678 },
      rowsPerSecond: 123456789,
      bytes: 1,
      gigabytesPerSecond: 1234.5,
      ofBandwidth: 1.234,
      error: 1.2345e-10,
    };
    const rows = [row, { ...row, op: 'logLikelihood backward' }];
    const text = renderFinding({ title: 'widest', rows, comparisons: [] });
    expect(Math.max(...text.split('\n').map((line) => [...line].length))).toBeLessThanOrEqual(100);
  });
});

describe('data', () => {
  test('is the same for the same seed, and rounds to 16 bits within half a unit', () => {
    const { logits } = createProblem({ tokens: 3, vocab: 101 }, 7);
    expect(createProblem({ tokens: 3, vocab: 101 }, 7).logits).toEqual(logits);
    for (const [dtype, unit] of [['bf16', 2 ** -8] as const, ['f16', 2 ** -11] as const]) {
      widen(roundTo(logits, dtype), dtype, 0, logits.length).forEach((x, i) => {
        expect(Math.abs(x - logits[i])).toBeLessThanOrEqual(unit * Math.abs(logits[i]) + 2 ** -25);
      });
    }
  });

  test('of hidden states are the same in every dtype', () => {
    const problem = createLinearProblem({ tokens: 3, vocab: 50, width: 40 }, 7);
    for (const dtype of ['bf16', 'f16'] as const) {
      const { hidden, weight } = layerOf(problem, dtype);
      expect(widen(hidden.data, dtype)).toEqual(Float64Array.from(problem.hidden));
      expect(widen(weight.data, dtype)).toEqual(Float64Array.from(problem.weight));
    }
  });

  test('the truth of hidden states is what the reference backend computes, and an error in either gradient shows', () => {
    const problem = createLinearProblem({ tokens: 11, vocab: 50, width: 8 }, 7);
    const { hidden, weight } = layerOf(problem, 'f32');
    const { targets, upstream } = problem;
    const layer = { hidden, weight, targets };
    const { logProbs, logSumExp } = linearLogProbsSync(layer, { backend: 'reference' });
    const rows = linearRowsTruth(problem);
    expect(valueError(logProbs, rows, 'logProb')).toBeLessThan(1e-12);
    const truth = linearTruth(problem, rows, logSumExp);
    const arena = {
      problem,
      truth,
      logProbs,
      rollouts: { ...rolloutsOfTokens(11, { min: 2, max: 2 }, 2, 1), oldLogProbs: logProbs },
    };
    const inputs = { ...layer, logSumExp, gradLogProbs: upstream };
    const { gradHidden, gradWeight } = linearLogProbsBackwardSync(inputs, { backend: 'reference' });
    const check = () => {
      const [toHidden, toWeight] = [gradHidden, gradWeight].map((tensor) => tensorRows(tensor as Matrix, 'reference'));
      return checkLinearGradients('reference', { hidden: toHidden, weight: toWeight }, upstream, arena, 1e-6);
    };
    expect(check()).toBeLessThan(1e-6);
    for (const { data } of [gradHidden, gradWeight] as Matrix[]) {
      data[3] += 1e-2;
      expect(check).toThrow(WrongResult);
      data[3] -= 1e-2;
    }
  });

  test('rollouts have the lengths, tokens and groups asked for', () => {
    const { cuSeqlens, cuGroups, rewards } = rolloutsOfTokens(100, { min: 7, max: 9 }, 4, 1);
    expect(cuSeqlens.at(-1)).toBe(100);
    expect(cuGroups.at(-1)).toBe(rewards.length);
    expect(cuSeqlens.length).toBe(rewards.length + 1);
    const scored = scoredRollouts(64, { min: 3, max: 5 }, 8, 1);
    const lengths = Array.from(scored.cuSeqlens.subarray(1), (end, i) => end - scored.cuSeqlens[i]);
    expect(new Set(lengths)).toEqual(new Set([3, 4, 5]));
    expect(scored.cuGroups).toEqual(Int32Array.from({ length: 9 }, (_, g) => 8 * g));
  });
});

describe('peers', () => {
  const arrays = createArrays(createProblem(shape, 1), 'f32');
  const peer = (contenders: Peer['contenders']): Peer => {
    return { version: '1', contenders, cpuSeconds: async () => 0, close: async () => {} };
  };
  const broken = () => {
    throw new Error('no such kernel\n  at …');
  };

  test('one that does not open is absent, with the reason', async () => {
    const providers = [
      { name: 'there', sections: [], open: async () => peer(async () => []) },
      { name: 'gone', sections: [], open: async () => broken() },
    ];
    const { present, absent } = await openPeers(providers, 1);
    expect(present.map(({ name }) => name)).toEqual(['there']);
    expect(absent).toEqual([{ name: 'gone', reason: 'no such kernel' }]);
  });

  test('one that cannot do a shape keeps what it can do', async () => {
    const open: OpenPeer = {
      name: 'half',
      failures: new Map(),
      ...peer(async () => [contender('forward'), contender('backward', { check: broken })]),
    };
    expect((await usableContenders(open, arrays)).map(({ op }) => op)).toEqual(['forward']);
    expect([...open.failures]).toEqual([['backward, T=4, V=8', 'no such kernel']]);
  });

  test('one that answers wrongly ends the run', async () => {
    const wrong = contender('forward', { check: () => requireWithin('forward', 1, 1e-5) as never });
    const open: OpenPeer = { name: 'wrong', failures: new Map(), ...peer(async () => [wrong]) };
    await expect(usableContenders(open, arrays)).rejects.toThrow(WrongResult);
  });
});

describe('comparisons by round', () => {
  test('an interval holds the median of what its samples are drawn from', () => {
    const upTo = (count: number) => Array.from({ length: count }, (_, i) => count - i);
    expect(medianInterval([5])).toEqual([5, 5]);
    expect(medianInterval([3, 1, 2])).toEqual([1, 3]);
    // Of 13 coins, all show the same face once in 2^13 = 8192 throws; of 12, too often.
    expect(medianInterval(upTo(12))).toEqual([1, 12]);
    expect(medianInterval(upTo(13))).toEqual([1, 13]);
    expect(medianInterval(upTo(16))).toEqual([1, 16]);
    expect(medianInterval(upTo(21))).toEqual([3, 19]); // (1 + 21 + 210) / 2^21 = 1.1e-4
    // Of many, 3.54 standard deviations of the normal distribution on each side.
    const [low, high] = medianInterval(upTo(10_000));
    expect(low + high).toBe(10_001);
    expect(high - low).toBeCloseTo(2 * 3.54 * (Math.sqrt(10_000) / 2), -1);
  });

  test('a ratio is of calls of the same round', () => {
    const measured: [Row, Measurement][] = [];
    const add = (backend: 'cpu' | 'reference' | null, op: string, times: Record<number, number>) => {
      const by = backend === null ? 'a peer' : 'rlvr-kernels';
      const rounds = new Map(Object.entries(times).map(([round, time]) => [Number(round), time]));
      const milliseconds = spreadOf([...rounds.values()]);
      const measurement = { contender: contender(op, { backend, by }), error: 0, milliseconds, rounds };
      measured.push([rowsOf([measurement])[0], measurement]);
    };
    add('cpu', 'forward', { 0: 1, 1: 10, 2: 2, 3: 1 });
    add('reference', 'forward', { 0: 3, 1: 20, 2: 8 });
    add('cpu', 'backward in place', { 0: 3, 2: 2, 3: 4 });
    add('cpu', 'forward + backward', { 0: 8, 1: 1, 3: 5, 4: 1 });
    add(null, 'forward', { 0: 5, 3: 5 });
    const of = (value: number, low: number, high: number) => {
      return { section: 'token', shape, value, unit: 'times', interval: [low, high] };
    };
    const reference = { ...of(3, 2, 4), claim: 'forward f32, cpu against reference' };
    expect(againstReference('token', new Map(measured))).toEqual([reference]);
    const claims = tokenComparisons(new Map(measured)).filter(({ unit }) => unit === 'times');
    expect(claims).toEqual([
      { ...of(5, 5, 5), claim: 'forward f32, against a peer' },
      { ...of(1.5, 1, 2), claim: 'forward + backward f32, time over the sum of both' },
      reference,
    ]);
  });

  test('slower in a sweep is what all of the interval says is', () => {
    const shapes = { section: 'sweep', claim: 'forward', shape, unit: 'times' } as const;
    const all = [
      { ...shapes, value: 0.95, interval: [0.8, 1.01] as const },
      { ...shapes, value: 0.97, interval: [0.96, 0.99] as const },
    ];
    expect(sweepLines(all).counts).toBe('2 measured, 1 slower than the reference backend beyond chance');
    expect(sweepLines(all.slice(0, 1)).counts).toBe('1 measured, 0 slower than the reference backend beyond chance');
  });
});

test('the sweep of groups checks out on every shape', async () => {
  const experiments = sweepExperiments({
    ...{ shapes: [], dtypes: [], lossDtypes: [], linearShapes: [], linearDtypes: [], losses: {}, lengths: undefined },
    ...{ sequences: 2, groupSize: 2, seed: 1, backends: ['cpu'] },
  });
  if (!Array.isArray(experiments)) throw new Error('no sweep');
  for (const one of await experiments[1].open()) expect(await one.check(), one.op).toBeLessThan(1e-10);
});
