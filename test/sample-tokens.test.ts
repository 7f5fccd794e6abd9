// Tokens drawn at random: their distribution, what filters keep against a plain sort, and the same draw wherever it is made.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import type { DType, SampledTokens, SampleTokensInputs, SampleTokensOptions } from '../lib/index.js';
import { sampleTokens, sampleTokensSync, tokenLogProbsSync } from '../lib/index.js';
import { philox4x32, uniform } from '../lib/reference/philox.js';
import { builtFile, childJson } from './boundary/child.js';
import { BACKENDS, describeBackends } from './support/backends.js';
import { failureOf, rlvrError } from './support/errors.js';
import { DTYPES, FORMATS, hostTensor } from './support/tensors.js';

type Options = Omit<SampleTokensOptions, 'backend' | 'seed'> & { seed?: number };

const SEED = 2 ** 40 + 12345;

/** Normal logits as numbers of `dtype`, some of them banned. */
function randomLogits(
  seed: number,
  length: number,
  { scale = 2, banned = 0, dtype = 'f32' as DType } = {},
): Float64Array {
  const random = new Random(seed);
  const { toNumber, toBits } = FORMATS[dtype];
  return Float64Array.from({ length }, () =>
    random.uniform() < banned ? -Infinity : toNumber(toBits(scale * random.normal())),
  );
}

/** The masses of a row and the ids that filters keep of it, by sorting. `near`: an edge of top-p is within rounding. */
function oracle(row: Float64Array, { temperature = 1, topK = Infinity, topP = 1, minP = 0 }: Options) {
  const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const greedy = temperature === 0;
  const mass = row.map((x) => Math.exp((x - largest) / (greedy ? 1 : temperature)));
  let order = Array.from(row.keys()).filter((v) => row[v] > -Infinity);
  const finite = order.length;
  order.sort((a, b) => row[b] - row[a] || a - b);
  order = order.slice(0, greedy ? 1 : topK);
  const total = order.reduce((sum, v) => sum + mass[v], 0);
  let near = false;
  if (topP < 1) {
    let sum = 0;
    const count = order.findIndex((v) => {
      sum += mass[v];
      near ||= Math.abs(sum - topP * total) < 1e-6 * total && sum !== topP * total;
      return sum >= topP * total;
    });
    order = order.slice(0, count + 1);
  }
  const least = largest + (greedy ? 1 : temperature) * Math.log(minP);
  const ids = order.filter((v) => row[v] >= least).sort((a, b) => a - b);
  return { mass, ids, dropped: ids.length < finite, near };
}

/** The id that a number falls on, and whether it is within 1e-6 of an edge. */
function drawn({ mass, ids }: { mass: Float64Array; ids: number[] }, share: number) {
  const total = ids.reduce((sum, v) => sum + mass[v], 0);
  let sum = 0;
  for (const id of ids) {
    const before = sum;
    sum += mass[id] / total;
    if (sum > share) return { id, near: share - before < 1e-6 || sum - share < 1e-6 };
  }
  return { id: ids[ids.length - 1], near: true };
}

/** Below, at and above the vector widths and the blocks of 1024, and real vocabularies. */
const VOCABS = [1, 2, 3, 7, 8, 9, 33, 1023, 1024, 1025, 5003];

const FILTERS: Options[] = [
  {},
  { topK: 1 },
  { topK: 3 },
  { topK: 700 },
  { topP: 0.9 },
  { topP: 0.5, temperature: 0.7 },
  { topP: 1e-9 },
  { minP: 0.05 },
  { minP: 1 },
  { topK: 40, topP: 0.8, minP: 0.02 },
  { topK: 900, topP: 0.97, temperature: 1.7 },
  { temperature: 0 },
  { temperature: 0.01, topP: 0.9 },
  { temperature: 1000, topP: 0.5 },
];

const name = (options: Options) => JSON.stringify(options);

describe('philox4x32-10', () => {
  // Random123's kat_vectors.
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as [Parameters<typeof philox4x32>[0], Parameters<typeof philox4x32>[1], number[]][])(
    'counter %j, key %j',
    (counter, key, expected) => {
      expect(philox4x32(counter, key)).toEqual(expected);
    },
  );

  test('uniform numbers have 53 bits, from seeds and counters of as many', () => {
    const words = philox4x32([5, 2 ** 20, 0, 0], [7, 2 ** 19]);
    const expected = Math.floor(words[0] / 2 ** 5) / 2 ** 27 + Math.floor(words[1] / 2 ** 6) / 2 ** 53;
    expect(uniform(7 + 2 ** 51, 5 + 2 ** 52)).toBe(expected);
    expect(uniform(1, 0)).not.toBe(uniform(1 + 2 ** 32, 0));
  });
});

describeBackends('sampleTokens', (backend) => {
  const sample = (inputs: SampleTokensInputs, options: Options = {}): SampledTokens =>
    sampleTokensSync(inputs, { seed: SEED, ...options, backend });

  describe.each(DTYPES)('%s', (dtype) => {
    test.each(FILTERS.map((options) => [name(options), options] as const))(
      '%s: ids, kept ids, log-probs',
      (_, options) => {
        let [rows, equal] = [0, 0];
        for (const vocab of VOCABS) {
          const tokens = vocab > 1000 ? 6 : 12;
          for (const banned of vocab < 3 ? [0] : [0, 0.3]) {
            const values = randomLogits(vocab + 10 * banned, tokens * vocab, { banned, dtype });
            for (let t = 0; t < tokens; t++) values[t * vocab + (t % vocab)] = 0; // never all banned
            const logits = hostTensor(values, [tokens, vocab], dtype, vocab % 5);
            const result = sample({ logits }, { ...options, kept: true, offset: 3 });
            const { ids, logProbs, keptIds = ids, cuKept = ids } = result;
            expect(cuKept.length).toBe(tokens + 1);
            for (let t = 0; t < tokens; t++) {
              const row = oracle(values.slice(t * vocab, (t + 1) * vocab), options);
              if (row.near) continue;
              const kept = Array.from(keptIds.subarray(cuKept[t], cuKept[t + 1]));
              expect(kept, `row ${t} of ${vocab}`).toEqual(row.dropped ? row.ids : []);
              const { id, near } = drawn(row, uniform(SEED, 3 + t));
              if (!near) expect(ids[t], `row ${t} of ${vocab}`).toBe(id);
              expect(row.ids).toContain(ids[t]);
              rows++;
              equal += ids[t] === id ? 1 : 0;
            }
            const temperature = options.temperature || 1;
            const replay = tokenLogProbsSync({ logits, targets: ids, keptIds, cuKept }, { temperature, backend });
            if (backend === 'cuda') expectClose(logProbs, replay.logProbs, 1e-6);
            else expect(logProbs).toEqual(replay.logProbs);
            expect(sample({ logits }, { ...options, offset: 3 })).toEqual({ ids, logProbs });
          }
        }
        expect(rows).toBeGreaterThan(170);
        expect(rows - equal).toBeLessThan(3); // of those near an edge
      },
    );

    test('equal logits at an edge: the lower ids win', () => {
      const values = Float64Array.of(1, 2, 1, 2, 1, 2, 0, 2); // two of each four at the edge
      const logits = hostTensor(values, [1, 8], dtype);
      const kept = (options: Options) => Array.from(sample({ logits }, { ...options, kept: true }).keptIds ?? []);
      expect(kept({ topK: 2 })).toEqual([1, 3]);
      expect(kept({ topK: 5 })).toEqual([0, 1, 3, 5, 7]);
      expect(kept({ topK: 6 })).toEqual([0, 1, 2, 3, 5, 7]);
      expect(kept({ topP: 0.2 })).toEqual([1, 3]);
      expect(kept({ topK: 4, topP: 0.5 })).toEqual([1, 3]);
      expect(kept({ topK: 4, topP: 0.5000001 })).toEqual([1, 3, 5]);
      expect(kept({ minP: 1 })).toEqual([1, 3, 5, 7]);
      expect(kept({ topK: 3, minP: 1 })).toEqual([1, 3, 5]);
      expect(kept({ temperature: 0 })).toEqual([1]);
    });

    test('a vocabulary of equal logits: ids are the first bits of the numbers drawn', () => {
      const vocab = 4096;
      const tokens = 40;
      const logits = hostTensor(new Float64Array(tokens * vocab).fill(-3), [tokens, vocab], dtype);
      for (const [seed, offset] of [
        [0, 0],
        [2 ** 53 - 1, 2 ** 53 - 1 - tokens],
        [2 ** 32, 2 ** 32 - 20],
      ]) {
        const { ids } = sample({ logits }, { seed, offset });
        expect(ids).toEqual(Int32Array.from(ids, (_, t) => Math.floor(uniform(seed, offset + t) * vocab)));
        const filtered = sample({ logits }, { seed, offset, topK: 1024, kept: true });
        expect(filtered.ids).toEqual(Int32Array.from(ids, (_, t) => Math.floor(uniform(seed, offset + t) * 1024)));
        expect(filtered.keptIds).toEqual(Int32Array.from({ length: tokens * 1024 }, (_, i) => i % 1024));
      }
    });
  });

  test.each([
    ['f32', {}],
    ['bf16', {}],
    ['f32', { temperature: 0.5 }],
    ['f32', { temperature: 3 }],
    ['f32', { topK: 5 }],
    ['bf16', { topP: 0.8, temperature: 1.3 }],
    ['f32', { minP: 0.1 }],
    ['f32', { topK: 8, topP: 0.9, minP: 0.05, temperature: 1.5 }],
  ] as [DType, Options][])('%s, %j: the draws are from the distribution (chi squared)', (dtype, options) => {
    const [tokens, vocab] = [backend === 'cuda' ? 2000 : 20000, 13]; // the emulation takes its time
    const row = randomLogits(4, vocab, { scale: 1.5, dtype });
    const values = Float64Array.from({ length: tokens * vocab }, (_, i) => row[i % vocab]);
    const { ids } = sample({ logits: hostTensor(values, [tokens, vocab], dtype) }, options);
    const { mass, ids: kept } = oracle(row, options);
    const total = kept.reduce((sum, v) => sum + mass[v], 0);
    let chi = 0;
    for (const v of kept) {
      const expected = (tokens * mass[v]) / total;
      chi += (ids.filter((id) => id === v).length - expected) ** 2 / expected;
    }
    expect(ids.every((id) => kept.includes(id))).toBe(true);
    const freedom = kept.length - 1; // Wilson and Hilferty: beyond 3.7 standard deviations once in 10,000 times
    const limit = freedom * (1 - 2 / (9 * freedom) + 3.7 * Math.sqrt(2 / (9 * freedom))) ** 3;
    expect(chi).toBeLessThan(limit);
  });

  test('rows drawn in parts, by offset, are those of one call', () => {
    const [tokens, vocab] = [50, 37];
    const logits = Float32Array.from(randomLogits(5, tokens * vocab));
    const whole = sample({ logits, vocab }, { offset: 100, topP: 0.9 });
    for (const half of [1, 25, 49]) {
      const first = sample({ logits: logits.subarray(0, half * vocab), vocab }, { offset: 100, topP: 0.9 });
      const second = sample({ logits: logits.subarray(half * vocab), vocab }, { offset: 100 + half, topP: 0.9 });
      expect([...first.ids, ...second.ids]).toEqual([...whole.ids]);
      expect([...first.logProbs, ...second.logProbs]).toEqual([...whole.logProbs]);
    }
    expect(sample({ logits, vocab }, { seed: 1 }).ids).not.toEqual(sample({ logits, vocab }, { seed: 2 }).ids);
  });

  test('a large vocabulary, flat and peaked', () => {
    const [tokens, vocab] = { reference: [1, 151936], wasm: [2, 151936], cpu: [2, 151936], cuda: [1, 20011] }[backend];
    for (const scale of [0.01, 4]) {
      const values = randomLogits(6, tokens * vocab, { scale });
      const logits = Float32Array.from(values);
      for (const options of [
        {},
        { topK: 50 },
        { topK: 5000 },
        { topP: 0.95 },
        { minP: 1e-3, temperature: 2 },
      ] as Options[]) {
        const { ids, keptIds = ids, cuKept = ids } = sample({ logits, vocab }, { ...options, kept: true });
        for (let t = 0; t < tokens; t++) {
          const row = oracle(values.slice(t * vocab, (t + 1) * vocab), options);
          const kept = keptIds.subarray(cuKept[t], cuKept[t + 1]);
          if (row.near) expect(Math.abs(kept.length - row.ids.length)).toBeLessThan(3);
          else if (row.dropped) expect(Array.from(kept)).toEqual(row.ids);
          if (row.near) continue;
          const { id, near } = drawn(row, uniform(SEED, t));
          if (!near) expect(ids[t]).toBe(id);
        }
      }
    }
  });

  test('a large share of few distant logits', () => {
    const values = Float32Array.of(-1e30, 1e30, 3, -Infinity, 3e38, -3e38, 1e30);
    const { ids, keptIds } = sample({ logits: values, vocab: 7 }, { topK: 3, kept: true });
    expect(ids[0]).toBe(4);
    expect(keptIds).toEqual(Int32Array.of(1, 4, 6));
    expect(sample({ logits: values, vocab: 7 }, { topK: 5, kept: true }).keptIds).toEqual(Int32Array.of(0, 1, 2, 4, 6));
    expect(sample({ logits: values, vocab: 7 }, { topK: 6, kept: true }).cuKept).toEqual(Int32Array.of(0, 0));
  });

  test('zeros of either sign are equal', () => {
    const logits = Float32Array.of(-0, 0, -0, -1);
    expect(sample({ logits, vocab: 4 }, { topK: 2, kept: true }).keptIds).toEqual(Int32Array.of(0, 1));
    expect(sample({ logits, vocab: 4 }, { temperature: 0 }).ids).toEqual(Int32Array.of(0));
  });

  test('one id, or one that is not banned', () => {
    const none = { keptIds: new Int32Array(0), cuKept: Int32Array.of(0, 0) };
    for (const options of [{}, { topK: 1 }, { temperature: 0 }, { topP: 1e-3, minP: 1 }] as Options[]) {
      const only = { ids: Int32Array.of(0), logProbs: Float64Array.of(0), ...none };
      expect(sample({ logits: Float32Array.of(-7), vocab: 1 }, { ...options, kept: true })).toEqual(only);
      const logits = Float32Array.of(-Infinity, -Infinity, 5, -Infinity);
      const third = { ...only, ids: Int32Array.of(2) };
      expect(sample({ logits, vocab: 4 }, { ...options, kept: true })).toEqual(third);
    }
  });

  test('no rows', () => {
    const nothing = { ids: new Int32Array(0), logProbs: new Float64Array(0) };
    expect(sample({ logits: new Float32Array(0), vocab: 5 }, { topK: 2 })).toEqual(nothing);
    const logits = { data: new Uint16Array(0), shape: [0, 7] as [number, number], dtype: 'bf16' as const };
    const kept = { ...nothing, keptIds: new Int32Array(0), cuKept: Int32Array.of(0) };
    expect(sample({ logits }, { kept: true })).toEqual(kept);
  });

  test('views that are not aligned to vectors', () => {
    const [tokens, vocab] = [5, 1031];
    for (const dtype of DTYPES) {
      const values = randomLogits(8, tokens * vocab, { dtype });
      const { data } = hostTensor(values, [tokens, vocab], dtype);
      const options = { topK: 20, kept: true };
      const expected = sample({ logits: { data, shape: [tokens, vocab], dtype } }, options);
      for (const shift of [1, 3]) {
        const moved = new (data.constructor as Uint16ArrayConstructor)(data.length + shift);
        moved.set(data, shift);
        const logits = { data: moved.subarray(shift), shape: [tokens, vocab] as [number, number], dtype };
        expect(sample({ logits }, options)).toEqual(expected);
      }
    }
  });

  test('the asynchronous function gives the same, and is aborted', async () => {
    const logits = Float32Array.from(randomLogits(9, 30 * 100));
    const options = { seed: 3, topP: 0.7, kept: true, backend };
    const expected = sampleTokensSync({ logits, vocab: 100 }, options);
    expect(await sampleTokens({ logits, vocab: 100 }, options)).toEqual(expected);
    expect(await sampleTokens({ logits, vocab: 100 }, { ...options, copyInputs: true })).toEqual(expected);
    const aborted = sampleTokens({ logits, vocab: 100 }, { ...options, signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  test.each([
    ['NaN', [0, NaN, 1]],
    ['Infinity', [0, 1, Infinity]],
    ['only banned ids', [-Infinity, -Infinity, -Infinity]],
  ])('a row with %s is named', async (_, bad) => {
    const logits = Float32Array.of(1, 2, 3, 1, 2, 3, ...bad, 1, 2, 3, ...bad);
    for (const options of [{}, { topK: 1 }, { topP: 0.5 }, { minP: 0.5 }]) {
      expect(await failureOf(() => sample({ logits, vocab: 3 }, options))).toMatchObject({
        code: 'ERR_NONFINITE',
        message:
          'logits: expected rows without NaN and Infinity, and with a finite logit, got 2 other row(s), the first at row 2',
      });
    }
  });

  test.each([
    [{}, { seed: undefined }, 'ERR_RANGE', 'seed: expected a number, got undefined'],
    [{}, { seed: -1 }, 'ERR_RANGE', /^seed: expected a whole number .*, got -1$/],
    [{}, { seed: 2 ** 53 }, 'ERR_RANGE', /^seed: /],
    [{}, { offset: -1 }, 'ERR_RANGE', /^offset: /],
    [{}, { offset: 2 ** 53 - 2 }, 'ERR_RANGE', /^offset: /],
    [{}, { temperature: -1 }, 'ERR_RANGE', /^temperature: /],
    [{}, { temperature: 1e7 }, 'ERR_RANGE', /^temperature: /],
    [{}, { topK: 0 }, 'ERR_RANGE', /^topK: expected a whole number at least 1, got 0$/],
    [{}, { topK: '3' }, 'ERR_RANGE', 'topK: expected a number, got "3"'],
    [{}, { topP: 0 }, 'ERR_RANGE', /^topP: expected a finite number above 0 and at most 1, got 0$/],
    [{}, { minP: -0.1 }, 'ERR_RANGE', /^minP: /],
    [{}, { minP: 2 }, 'ERR_RANGE', /^minP: /],
    [{}, { kept: 1 }, 'ERR_RANGE', 'kept: expected true or false, got 1'],
    [{}, { topk: 3 }, 'ERR_OPTION', /topK/],
    [{ vocab: undefined }, {}, 'ERR_RANGE', 'vocab: expected V, as logits has no shape, got undefined'],
    [{ vocab: 0 }, {}, 'ERR_RANGE', /^vocab: /],
    [{ vocab: 4 }, {}, 'ERR_SHAPE', 'logits: expected a multiple of 4 elements (V), got 6'],
    [{ vocab: 2, logits: { data: new Float32Array(6), shape: [2, 3] } }, {}, 'ERR_SHAPE', /^vocab: expected 3/],
    [{ logits: new Float64Array(6) }, {}, 'ERR_DTYPE', /^logits/],
    [{ logits: [1, 2, 3] }, {}, 'ERR_DTYPE', /^logits: expected a Float32Array or/],
    [{ logits: undefined }, {}, 'ERR_DTYPE', /^logits/],
  ])('%j with %j is refused', async (inputs, options, code, message) => {
    const given = { logits: new Float32Array(6), vocab: 3, ...inputs } as SampleTokensInputs;
    const error = await failureOf(() => sample(given, options as Options));
    expect(error).toEqual(rlvrError(code, message));
  });
});

describe.runIf(BACKENDS.includes('cpu'))('threads', () => {
  const drawnOn = (threads: number) =>
    childJson<string>(
      `const { Random } = await import(${builtFile('../bench/problems/random.js')});
      const random = new Random(3);
      const [tokens, vocab] = [300, 3001];
      const logits = Float32Array.from({ length: tokens * vocab }, () => 2 * random.normal());
      const options = [{}, { topK: 20 }, { topK: 1500 }, { topP: 0.9 }, { minP: 0.01 }, { temperature: 0 }];
      const all = options.map((one) => rlvr.sampleTokensSync({ logits, vocab }, { ...one, seed: 11, kept: true, backend: 'cpu' }));
      console.log(JSON.stringify(JSON.stringify(all)));`,
      { env: { RLVR_THREADS: String(threads) } },
    );

  test('the same draws on 1, 2, 3 and 8', async () => {
    const expected = await drawnOn(1);
    expect(expected.length).toBeGreaterThan(1e5);
    for (const threads of [2, 3, 8]) expect(await drawnOn(threads)).toBe(expected);
  });
});

function expectClose(actual: Float64Array, expected: Float64Array, tolerance: number): void {
  actual.forEach((value, t) => {
    expect(Math.abs(value - expected[t])).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(expected[t])));
  });
}
