import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { TOKEN_TOLERANCE } from '../bench/problems/tolerances.js';
import {
  type HostTensor,
  tokenLogProbs,
  tokenLogProbsBackward,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectLogProbsClose } from './support/compare.js';
import { goldenBatch, goldenCases } from './support/golden.js';
import { numericGradient } from './support/losses.js';
import { DTYPES, FORMATS, nanArray, numbers, unpadded } from './support/tensors.js';
import { oracleRow, oracleRows, randomRows } from './support/token-rows.js';

// Below, at and above the vector width (8) and its unrolling (32), odd, at and around the block of 1024, real vocabularies.
const VOCABS = [1, 2, 7, 8, 9, 31, 32, 33, 63, 1000, 1023, 1024, 1025, 2049, 5000, 32000];

/** The rows of a gradient tensor without its padding, as numbers. */
const gradientOf = (tensor: HostTensor) => numbers(unpadded(tensor), tensor.dtype ?? 'f32');

describeBackends('token-log-probs', (backend) => {
  describe('golden cases', () => {
    test.each(goldenCases('tokenLogProbs'))('%s', async (_name, golden) => {
      const { logits, targets } = goldenBatch(golden);
      const { temperature } = golden.options;
      const result = await tokenLogProbs({ logits, targets }, { temperature, entropy: true, backend });
      expectClose(result.logProbs, golden.expected.logProbs, 1e-6);
      expectLogProbsClose(result.logProbs, golden.expected.logProbs);
      expectClose(result.logSumExp, golden.expected.logSumExp, 1e-6);
      expectClose(result.entropy!, golden.expected.entropy, 1e-6);
      const gradLogProbs = Float64Array.from(golden.gradLogProbs);
      const upstream = { logits, targets, logSumExp: result.logSumExp, gradLogProbs };
      const policy = await tokenLogProbsBackward(upstream, { temperature, backend });
      expectClose(policy.gradLogits, golden.expected.gradLogits, 2e-6);
      const gradEntropy = Float64Array.from(golden.gradEntropy);
      const both = { ...upstream, entropy: result.entropy, gradEntropy };
      const withEntropy = await tokenLogProbsBackward(both, { temperature, backend });
      expectClose(withEntropy.gradLogits, golden.expected.gradLogitsWithEntropy, 2e-6);
    });
  });

  describe.each(DTYPES)('%s against an independent float64 oracle', (dtype) => {
    const tolerance = TOKEN_TOLERANCE.gradient[dtype];

    test.each(VOCABS)('V = %i, odd row stride, temperature', (vocab) => {
      const tokens = vocab > 10_000 ? 3 : 9;
      const rows = randomRows(vocab, tokens, vocab, { dtype, padding: 3 });
      const { logits, targets, gradLogProbs, gradEntropy } = rows;
      for (const temperature of [1, 0.7]) {
        const forward = tokenLogProbsSync({ logits, targets }, { temperature, entropy: true, backend });
        const expected = oracleRows(rows, temperature);
        expectClose(forward.logProbs, expected.logProbs, 1e-6, 'logProbs');
        expectLogProbsClose(forward.logProbs, expected.logProbs);
        expectClose(forward.logSumExp, expected.logSumExp, 1e-6, 'logSumExp');
        expectClose(forward.entropy!, expected.entropy, 1e-6, 'entropy');
        const upstream = { logits, targets, logSumExp: forward.logSumExp, gradLogProbs };
        const policy = tokenLogProbsBackwardSync(upstream, { temperature, backend });
        expectClose(gradientOf(policy.gradLogits), expected.gradLogits, tolerance, 'gradLogits');
        const both = { ...upstream, entropy: forward.entropy, gradEntropy };
        const withEntropy = tokenLogProbsBackwardSync(both, { temperature, backend });
        expectClose(gradientOf(withEntropy.gradLogits), expected.gradLogitsWithEntropy, tolerance, 'with entropy');
      }
    });

    test('in place equals out of place, padding and target rows included', () => {
      const { logits, targets, gradLogProbs } = randomRows(5, 12, 77, { dtype, padding: 5 });
      const { logSumExp } = tokenLogProbsSync({ logits, targets }, { backend });
      const inputs = { logits, targets, logSumExp, gradLogProbs };
      const fresh = tokenLogProbsBackwardSync(inputs, { backend });
      const out: HostTensor = { ...logits, data: logits.data.slice() };
      expect(tokenLogProbsBackwardSync(inputs, { backend, gradient: { out } }).gradLogits).toBe(out);
      const inPlace = tokenLogProbsBackwardSync(inputs, { backend, gradient: 'in-place' });
      expect(inPlace.gradLogits).toBe(logits);
      expect(unpadded(logits)).toEqual(unpadded(fresh.gradLogits));
      expect(Array.from(out.data)).toEqual(Array.from(logits.data)); // the padding too: it was not written
    });

    // Many short rows, most of whose entries are outside the vector loop: one element further on, other ones are.
    test('a gradient has the same bits wherever in memory it is written', () => {
      const [tokens, vocab] = [backend === 'cuda' ? 200 : 20_000, 24]; // an emulated block takes milliseconds
      const rows = randomRows(9, tokens, vocab, { dtype });
      const { logSumExp } = tokenLogProbsSync(rows, { backend });
      const inputs = { ...rows, gradEntropy: undefined, logSumExp };
      const written = [0, 1, 5].map((offset) => {
        const out: HostTensor = { ...rows.logits, data: nanArray(dtype, offset + tokens * vocab).subarray(offset) };
        return gradientOf(tokenLogProbsBackwardSync(inputs, { backend, gradient: { out } }).gradLogits);
      });
      for (const other of written) expect(other.findIndex((value, i) => !Object.is(value, written[0][i]))).toBe(-1);
    });

    test('gradients are the nearest representable ones', () => {
      const rows = randomRows(8, 4, 50, { dtype });
      const { logSumExp } = tokenLogProbsSync(rows, { backend });
      const { gradLogits } = tokenLogProbsBackwardSync({ ...rows, gradEntropy: undefined, logSumExp }, { backend });
      const expected = oracleRows(rows, 1).gradLogits;
      const { toBits, toNumber, ulp } = FORMATS[dtype];
      gradientOf(gradLogits).forEach((value, i) => {
        const rounded = toNumber(toBits(expected[i]));
        expectCloseNumber(value, rounded, 2 * ulp + 2e-6, 1e-6);
      });
    });
  });

  test('peaked rows keep their precision: p -> 1', () => {
    const vocab = 1500;
    const gaps = [1, 5, 12, 18, 25];
    const logits = new Float32Array(gaps.length * vocab);
    for (const [t, gap] of gaps.entries())
      logits.fill(20 - gap, t * vocab, (t + 1) * vocab).set([20], t * vocab + 1100);
    const targets = new Int32Array(gaps.length).fill(1100);
    const { logProbs, logSumExp, entropy } = tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
    const gradLogProbs = new Float64Array(gaps.length).fill(1);
    const { gradLogits } = tokenLogProbsBackwardSync({ logits, targets, logSumExp, gradLogProbs }, { backend });
    gaps.forEach((gap, t) => {
      const rest = (vocab - 1) * Math.exp(-gap);
      expectCloseNumber(logProbs[t], -Math.log1p(rest), 1e-6);
      expectCloseNumber(entropy![t], Math.log1p(rest) + (gap * rest) / (1 + rest), 1e-6);
      expectCloseNumber(gradLogits[t * vocab + 1100], rest / (1 + rest), 2e-6);
      expectCloseNumber(gradLogits[t * vocab], -Math.exp(-gap) / (1 + rest), 2e-6);
    });
  });

  test('a peak far into the row, however high above what came before', () => {
    const vocab = 9001;
    const gaps = [0.5, 1.3, 1.5, 5, 12, 25, 41, 41.5, 41.7, 43, 60, 90, 300];
    for (const temperature of [1, 0.7]) {
      const logits = new Float32Array(gaps.length * vocab).fill(-3);
      for (const [t, gap] of gaps.entries()) logits[t * vocab + 7000] = -3 + gap * temperature;
      const exact = gaps.map((_, t) => (logits[t * vocab + 7000] + 3) / temperature);
      const targets = new Int32Array(gaps.length).fill(7000);
      const { logProbs, entropy } = tokenLogProbsSync({ logits, targets }, { entropy: true, temperature, backend });
      exact.forEach((gap, t) => {
        const rest = (vocab - 1) * Math.exp(-gap);
        expectCloseNumber(logProbs[t], -Math.log1p(rest), 1e-6, 1e-28); // floats end at 1e-38
        expectCloseNumber(entropy![t], Math.log1p(rest) + (gap * rest) / (1 + rest), 1e-6, 1e-26);
      });
    }
  });

  test('adding a constant to a row changes nothing', () => {
    const random = new Random(3);
    const [tokens, vocab] = [4, 300];
    const logits = Float32Array.from({ length: tokens * vocab }, () => Math.round(random.normal() * 256) / 256);
    const shifted = logits.map((x) => x + 8192); // exact in float32
    const targets = Int32Array.from([0, 299, 5, 17]);
    const gradLogProbs = Float64Array.from([1, -2, 0.5, 3]);
    const run = (data: Float32Array) => {
      const forward = tokenLogProbsSync({ logits: data, targets }, { entropy: true, backend });
      const inputs = { logits: data, targets, logSumExp: forward.logSumExp, gradLogProbs };
      return { ...forward, ...tokenLogProbsBackwardSync(inputs, { backend }) };
    };
    const [plain, moved] = [run(logits), run(shifted)];
    expectLogProbsClose(moved.logProbs, plain.logProbs);
    expectClose(moved.entropy!, plain.entropy!, 1e-6);
    expectClose(moved.gradLogits, plain.gradLogits, 2e-6);
  });

  test.each(DTYPES)('%s rows however far from 0, at any temperature', (dtype) => {
    for (const temperature of [0.02, 0.7, 1, 30])
      for (const center of [0, 20, -45, 61, 64, -66, 87, -89, 118, -122, 200, -3000, 40000]) {
        const rows = randomRows(13, 2, 3001, { dtype, padding: 1, scale: 2 * temperature, center });
        const expected = oracleRows(rows, temperature);
        const { logProbs, entropy } = tokenLogProbsSync(rows, { entropy: true, temperature, backend });
        expectLogProbsClose(logProbs, expected.logProbs);
        expectClose(entropy!, expected.entropy, 1e-6);
      }
  });

  test('log-probs have the same bits with entropy as without', () => {
    for (const dtype of DTYPES)
      for (const temperature of [1, 0.6]) {
        const rows = randomRows(16, 3, 9000, { dtype, padding: 1, scale: 12 * temperature });
        const plain = tokenLogProbsSync(rows, { temperature, backend });
        const { logProbs, logSumExp } = tokenLogProbsSync(rows, { entropy: true, temperature, backend });
        expect({ logProbs, logSumExp }).toEqual({ logProbs: plain.logProbs, logSumExp: plain.logSumExp });
      }
  });

  test('first elements far below the rest, above it, banned or not finite', () => {
    const vocab = 3000;
    for (const first of [-1e30, -500, -40, 60, -Infinity]) {
      const rows = randomRows(14, 1, vocab);
      rows.logits.data.fill(first, 0, 200);
      rows.values.set(rows.logits.data);
      rows.targets[0] = first === 60 ? 7 : 2000;
      const expected = oracleRows(rows, 1);
      const { logProbs, entropy } = tokenLogProbsSync(rows, { entropy: true, backend });
      expectLogProbsClose(logProbs, expected.logProbs);
      expectClose(entropy!, expected.entropy, 1e-6);
    }
    for (const [bad, sign] of [
      [NaN, 0],
      [NaN, 0x80000000],
      [Infinity, 0],
    ])
      for (const at of [0, 70, 2100, 2999]) {
        const { logits, targets } = randomRows(15, 1, vocab);
        logits.data[at] = bad;
        new Uint32Array(logits.data.buffer)[at] |= sign;
        expect(() => tokenLogProbsSync({ logits, targets }, { backend })).toThrow(/non-finite|finite/);
      }
  });

  test('permuting the vocabulary permutes the gradient', () => {
    const [tokens, vocab] = [3, 1111];
    const rows = randomRows(11, tokens, vocab);
    const order = Array.from({ length: vocab }, (_, v) => (v * 7 + 3) % vocab);
    const data = Float32Array.from(
      { length: tokens * vocab },
      (_, i) => rows.logits.data[Math.floor(i / vocab) * vocab + order[i % vocab]],
    );
    const targets = rows.targets.map((y) => order.indexOf(y));
    const { logProbs, logSumExp } = tokenLogProbsSync(rows, { backend });
    const permuted = tokenLogProbsSync({ logits: data, targets }, { backend });
    expectClose(permuted.logProbs, logProbs, 1e-6);
    const { gradLogits } = tokenLogProbsBackwardSync({ ...rows, gradEntropy: undefined, logSumExp }, { backend });
    const other = tokenLogProbsBackwardSync(
      { logits: data, targets, logSumExp: permuted.logSumExp, gradLogProbs: rows.gradLogProbs },
      { backend },
    );
    const original = gradientOf(gradLogits);
    expectClose(
      other.gradLogits,
      Array.from(data, (_, i) => original[Math.floor(i / vocab) * vocab + order[i % vocab]]),
      2e-6,
    );
  });

  test('gradient rows sum to zero', () => {
    const rows = randomRows(21, 5, 900);
    const { logSumExp, entropy } = tokenLogProbsSync(rows, { entropy: true, backend });
    const { gradLogits } = tokenLogProbsBackwardSync({ ...rows, logSumExp, entropy }, { backend });
    for (let t = 0; t < 5; t++) {
      const row = Array.from(gradLogits.data.subarray(t * 900, (t + 1) * 900));
      expect(Math.abs(row.reduce((a, b) => a + b, 0))).toBeLessThan(1e-5);
    }
  });

  test('finite differences of the log-prob and the entropy', () => {
    const [vocab, step] = [9, 2 ** -8]; // a power of two: logits +- step are exact in float32
    const random = new Random(31);
    const logits = Float32Array.from({ length: vocab }, () => Math.round(random.normal() * 1024) / 1024);
    const targets = Int32Array.of(4);
    const value = (data: Float32Array) => {
      const { logProbs, entropy } = tokenLogProbsSync(
        { logits: data, targets },
        { temperature: 0.8, entropy: true, backend },
      );
      return 1.5 * logProbs[0] - 0.7 * entropy![0];
    };
    const { logSumExp, entropy } = tokenLogProbsSync({ logits, targets }, { temperature: 0.8, entropy: true, backend });
    const upstream = { gradLogProbs: Float64Array.of(1.5), gradEntropy: Float64Array.of(-0.7) };
    const { gradLogits } = tokenLogProbsBackwardSync(
      { logits, targets, logSumExp, entropy, ...upstream },
      { temperature: 0.8, backend },
    );
    const numeric = numericGradient({ logits }, (moved) => value(moved.logits), step);
    expectClose(gradLogits, numeric, 5e-5);
  });

  test.each([6, 33, 2100])('banned tokens among %i: p = 0 and gradient exactly 0', (vocab) => {
    const logits = Float32Array.from({ length: vocab }, (_, v) => (v % 3 === 0 ? -Infinity : (v % 7) / 7));
    const targets = Int32Array.of(1);
    const { logProbs, logSumExp, entropy } = tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
    const expected = oracleRow(Float64Array.from(logits), 1, 1, 1, 0.5);
    expectCloseNumber(logProbs[0], expected.logProb, 1e-6);
    expectCloseNumber(entropy![0], expected.entropy, 1e-6);
    const upstream = { gradLogProbs: Float64Array.of(1), gradEntropy: Float64Array.of(0.5) };
    const { gradLogits } = tokenLogProbsBackwardSync({ logits, targets, logSumExp, entropy, ...upstream }, { backend });
    expectClose(gradLogits, expected.withEntropy, 2e-6);
    expect(Array.from(gradLogits).filter((_, v) => v % 3 === 0)).toEqual(new Array(vocab / 3).fill(0));
  });

  test('whole blocks of -Infinity before the first finite logit', () => {
    const logits = new Float32Array(5000).fill(-Infinity);
    logits.set([1, 2, 3], 4500);
    const { logProbs } = tokenLogProbsSync({ logits, targets: Int32Array.of(4502) }, { backend });
    expectCloseNumber(logProbs[0], -Math.log(1 + Math.exp(-1) + Math.exp(-2)), 1e-6);
  });

  test('a rising row: every block has a new maximum', () => {
    const rows = randomRows(41, 1, 6000);
    for (let v = 0; v < 6000; v++) {
      rows.logits.data[v] = v / 100;
      rows.values[v] = rows.logits.data[v];
    }
    const forward = tokenLogProbsSync(rows, { entropy: true, backend });
    const expected = oracleRows(rows, 1);
    expectClose(forward.logSumExp, expected.logSumExp, 1e-6);
    expectClose(forward.entropy!, expected.entropy, 1e-6);
  });

  test('random shapes, scales and temperatures', () => {
    const shapes = fc.record({
      seed: fc.integer(),
      tokens: fc.integer({ min: 1, max: 6 }),
      vocab: fc.integer({ min: 1, max: 2500 }),
      padding: fc.integer({ min: 0, max: 9 }),
      scale: fc.constantFrom(0.01, 1, 10, 60),
      temperature: fc.constantFrom(0.5, 1, 1.7),
    });
    fc.assert(
      fc.property(shapes, ({ seed, tokens, vocab, padding, scale, temperature }) => {
        const rows = randomRows(seed, tokens, vocab, { padding, scale });
        const expected = oracleRows(rows, temperature);
        const { logProbs, logSumExp } = tokenLogProbsSync(rows, { temperature, backend });
        expectLogProbsClose(logProbs, expected.logProbs);
        const { gradLogits } = tokenLogProbsBackwardSync(
          { ...rows, gradEntropy: undefined, logSumExp },
          { temperature, backend },
        );
        const absolute = rows.gradLogProbs.reduce((sum, g) => sum + g * g, 0) ** 0.5 * 1e-9; // p -> 1: the oracle cancels
        const norm = Math.hypot(...expected.gradLogits);
        expectClose(gradientOf(gradLogits), expected.gradLogits, 2e-6 + absolute / Math.max(norm, 1e-300));
      }),
      { numRuns: 60 },
    );
  });

  test('the same bits on every run, async or sync', async () => {
    const rows = randomRows(51, 40, 3000, { dtype: 'bf16' });
    const first = tokenLogProbsSync(rows, { entropy: true, backend });
    const again = await tokenLogProbs(rows, { entropy: true, backend });
    expect(again.logProbs).toEqual(first.logProbs);
    expect(again.entropy).toEqual(first.entropy);
    const inputs = { ...rows, logSumExp: first.logSumExp, entropy: first.entropy };
    const gradients = [
      tokenLogProbsBackwardSync(inputs, { backend }),
      await tokenLogProbsBackward(inputs, { backend }),
    ];
    expect(gradients[1].gradLogits.data).toEqual(gradients[0].gradLogits.data);
  });

  test('a row has the same bits whatever rows are beside it', () => {
    // More rows than the emulated device holds blocks; one row is one block. The split of a row into vectors depends on
    // its alignment, so all have the same.
    const [tokens, vocab] = [40, 704];
    const rows = randomRows(52, tokens, vocab, { dtype: 'bf16' });
    const data = rows.logits.data as Uint16Array;
    const together = tokenLogProbsSync(rows, { entropy: true, backend });
    const upstream = { logSumExp: together.logSumExp, gradLogProbs: rows.gradLogProbs };
    const { gradLogits } = tokenLogProbsBackwardSync({ ...rows, gradEntropy: undefined, ...upstream }, { backend });
    for (const t of [0, 31, 32, 39]) {
      const of = [t * vocab, (t + 1) * vocab] as const;
      const logits: HostTensor = { data: data.slice(...of), shape: [1, vocab], dtype: 'bf16' };
      const targets = rows.targets.slice(t, t + 1);
      const alone = tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
      expect([alone.logProbs[0], alone.entropy![0]]).toEqual([together.logProbs[t], together.entropy![t]]);
      const gradLogProbs = rows.gradLogProbs.slice(t, t + 1);
      const gradient = tokenLogProbsBackwardSync(
        { logits, targets, logSumExp: alone.logSumExp, gradLogProbs },
        { backend },
      );
      expect(gradient.gradLogits.data).toEqual(gradLogits.data.slice(...of));
    }
  });

  test('logits so large that only equal ones share the probability', () => {
    const vocab = 2500;
    for (const largest of [3e9, -3e9, 1e30]) {
      const below = Math.fround(largest - Math.abs(largest) * 2 ** -22); // a few floats less
      const logits = new Float32Array(vocab).fill(below);
      for (const v of [3, 1300, 2499]) logits[v] = largest;
      const targets = Int32Array.of(1300);
      const { logProbs, logSumExp, entropy } = tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
      expectCloseNumber(logProbs[0], -Math.log(3), 1e-6);
      expectCloseNumber(entropy![0], Math.log(3), 1e-6);
      if (largest === 1e30) continue; // a logsumexp of 1e30 + log(3) has lost it
      const gradLogProbs = Float64Array.of(3);
      const { gradLogits } = tokenLogProbsBackwardSync({ logits, targets, logSumExp, gradLogProbs }, { backend });
      expectClose(
        gradLogits,
        Float64Array.from(logits, (x, v) => (v === 1300 ? 2 : x === logits[3] ? -1 : 0)),
        2e-6,
      );
    }
  });

  test('the entry of a target fits where its probability times the gradient would not', () => {
    const { toBits, toNumber } = FORMATS.f16;
    const vocab = 50;
    const data = new Uint16Array(vocab).fill(toBits(0));
    data[20] = toBits(20);
    const inputs = { logits: { data, shape: [1, vocab], dtype: 'f16' } as const, targets: Int32Array.of(20) };
    const { logProbs, logSumExp } = tokenLogProbsSync(inputs, { backend });
    const gradLogProbs = Float64Array.of(1e5); // beyond f16
    const { gradLogits } = tokenLogProbsBackwardSync({ ...inputs, logSumExp, gradLogProbs }, { backend });
    expectCloseNumber(toNumber(gradLogits.data[20]), -1e5 * Math.expm1(logProbs[0]), 5e-4);
  });

  test('masked rows give zeros; rows without gradient are zero-filled', () => {
    const rows = randomRows(61, 4, 40);
    const mask = Uint8Array.of(1, 0, 1, 1);
    const { logProbs, logSumExp, entropy } = tokenLogProbsSync({ ...rows, mask }, { entropy: true, backend });
    expect([logProbs[1], logSumExp[1], entropy![1]]).toEqual([0, 0, 0]);
    const gradLogProbs = Float64Array.of(1, 1, 0, 1);
    const inputs = { logits: rows.logits, targets: rows.targets, logSumExp, gradLogProbs, mask };
    const { gradLogits } = tokenLogProbsBackwardSync(inputs, { backend });
    expect(Array.from(gradLogits.data.subarray(40, 120))).toEqual(new Array(80).fill(0));
    expect(Math.abs(gradLogits.data[0])).toBeGreaterThan(0);
  });
});
