// Rows that the CUDA kernels cut into pieces of 64 KiB (native/cuda/row_sums.h). One block reads all of a row, or, where there
// are few rows, several blocks read a piece each: the bits are the same. The emulation pretends to be devices of any size.
import { afterEach, describe, expect, test } from 'vitest';
import { captureOne, openCuda } from '../bench/cuda/device.js';
import { type DType, grpoSync, tokenLogProbsBackwardSync, tokenLogProbsSync } from '../lib/index.js';
import { expectClose, expectCloseNumber, expectLogProbsClose } from './support/compare.js';
import { DEVICES, emulation } from './support/device.js';
import { rlvrError } from './support/errors.js';
import { DTYPES, FORMATS, unpadded } from './support/tensors.js';
import { oracleRows, randomRows } from './support/token-rows.js';

const backend = 'cuda';
/** Elements of a piece. */
const PIECE: Record<DType, number> = { f32: 16384, bf16: 32768, f16: 32768 };
/** An emulated multiprocessor has room for eight blocks: one of them is too few for five rows to be shared. */
const TOKENS = 5;
const WAYS: [name: string, processors: number][] = [
  ['a block per row', 1],
  ['a block per piece', 16],
];

describe.runIf(emulation && DEVICES > 0)('rows in pieces', () => {
  afterEach(() => {
    emulation!.pretend('processors', -1);
    expect(emulation!.misuses()).toBeUndefined();
  });

  const on = <T>(processors: number, call: () => T): T => {
    emulation!.pretend('processors', processors);
    return call();
  };
  /** Of its kernels. */
  const blocksOf = (call: () => unknown): number => {
    const before = emulation!.operations().blocks;
    call();
    return emulation!.operations().blocks - before;
  };

  test.each(DTYPES)('%s: the same bits on devices of any size', (dtype) => {
    const vocab = 2 * PIECE[dtype] + 4321;
    const rows = randomRows(vocab, 3, vocab, { dtype, padding: 1, scale: 6 });
    const temperature = 0.8;
    const bothPasses = () => {
      const forward = tokenLogProbsSync(rows, { entropy: true, temperature, backend });
      const plain = tokenLogProbsSync(rows, { temperature, backend });
      const { logSumExp, entropy } = forward;
      const { gradLogits } = tokenLogProbsBackwardSync({ ...rows, logSumExp, entropy }, { temperature, backend });
      return { forward, plain, gradient: Buffer.from(gradLogits.data.buffer) };
    };
    const expected = on(64, bothPasses);
    expect(expected.plain.logProbs).toEqual(expected.forward.logProbs);
    // Eight blocks for three rows of three pieces; with five rows more, each row is a block's.
    expect(on(1, bothPasses)).toEqual(expected);
    const more = randomRows(9, TOKENS, vocab, { dtype, padding: 1 });
    more.logits.data.set(rows.logits.data);
    more.targets.set(rows.targets);
    const among = on(1, () => tokenLogProbsSync(more, { entropy: true, temperature, backend }));
    const three = { logProbs: among.logProbs.slice(0, 3), entropy: among.entropy!.slice(0, 3) };
    expect(three).toEqual({ logProbs: expected.forward.logProbs, entropy: expected.forward.entropy });
  });

  test('few rows are shared by blocks', () => {
    const blocks = (tokens: number, vocab: number, processors: number) => {
      const rows = randomRows(2, tokens, vocab);
      return on(processors, () => blocksOf(() => tokenLogProbsSync(rows, { backend })));
    };
    const vocab = 2 * PIECE.f32 + 100;
    expect(blocks(TOKENS, vocab, 16) - blocks(TOKENS, vocab, 1)).toBe(2 * TOKENS);
    // Of a single row; one block more clears the count of those that are done.
    expect(blocks(1, vocab, 16) - blocks(1, PIECE.f32, 16)).toBe(2 + 1);
  });

  test('of the backward pass too', () => {
    const blocks = (vocab: number) => {
      const rows = randomRows(2, 1, vocab);
      const { logSumExp } = tokenLogProbsSync(rows, { backend });
      const inputs = { ...rows, gradEntropy: undefined, logSumExp };
      return blocksOf(() => tokenLogProbsBackwardSync(inputs, { backend }));
    };
    expect(blocks(2 * PIECE.f32 + 100) - blocks(PIECE.f32)).toBe(2);
  });

  test('the same memory serves again', () => {
    const cuda = openCuda();
    const timers = cuda.native as unknown as Record<string, (...args: unknown[]) => number>;
    const [rows, others] = [3, 4].map((seed) => randomRows(seed, 2, PIECE.f32 + 100));
    const logits = cuda.device.uploadSync(rows.logits);
    const { targets } = rows;
    const { call } = captureOne(cuda, 'tokenLogProbsForward', () => tokenLogProbsSync({ logits, targets }));
    if (call.kernel !== 'tokenLogProbsForward') throw new Error(call.kernel);
    const session = cuda.timing.session();
    for (const { logits: host } of [rows, others]) {
      cuda.device.uploadSync(host, { out: logits });
      timers.tokenLogProbsForwardTime(session, call.args, 1, false);
      session.read([call.args.logProbs]);
      expect(call.args.logProbs).toEqual(tokenLogProbsSync({ logits: host, targets }, { backend }).logProbs);
    }
    session.close();
    logits.dispose();
  });

  test.each(DTYPES)('%s: one pass, or two over few rows: the same bits', (dtype) => {
    const vocab = PIECE[dtype] + 999;
    const rows = randomRows(8, TOKENS, vocab, { dtype, padding: 1 });
    const batch = {
      ...rows,
      mask: Uint8Array.of(1, 1, 0, 1, 1),
      oldLogProbs: Float64Array.from(rows.targets, (_, t) => -12 + t / 7),
      cuSeqlens: Int32Array.of(0, 2, 5),
      cuGroups: Int32Array.of(0, 2),
      rewards: Float32Array.of(1, 0),
    };
    for (const gradient of ['new', { deferred: true }] as const) {
      const run = () => {
        const logits = { ...batch.logits, data: batch.logits.data.slice() };
        return grpoSync({ ...batch, logits }, { backend, gradient, entropy: true, logProbs: true });
      };
      const launches = (processors: number) => {
        const before = emulation!.operations().launches;
        const { gradLogits, ...values } = on(processors, run);
        return { values, bits: unpadded(gradLogits), launches: emulation!.operations().launches - before };
      };
      const [one, two] = [launches(1), launches(16)];
      expect(one.values).toEqual(two.values);
      expect(one.bits).toEqual(two.bits);
      expect(two.launches - one.launches).toBe(3); // the forward pass, dL/dlog-probs and the backward pass, of two kernels
      expect(one.bits.subarray(2 * vocab, 3 * vocab).some((bits) => bits !== 0)).toBe(false);
      expect(one.values.metrics.clipFraction).toBeGreaterThan(0);
    }
  });

  describe.each(WAYS)('%s', (_, processors) => {
    /** Just below, at and above one piece, where the vectors of a row that is not aligned are fewer, and in the third piece. */
    const around = (piece: number) => [piece - 1, piece, piece + 8, 2 * piece + 8201];

    test.each(DTYPES)('%s, against the oracle', (dtype) => {
      for (const [i, vocab] of around(PIECE[dtype]).entries()) {
        if (dtype === 'f16' && i < 3) continue; // as bf16, but for how an element is read
        const rows = randomRows(vocab, TOKENS, vocab, { dtype, padding: i % 2 });
        rows.targets.set([0, vocab - 1, vocab >> 1, Math.min(PIECE[dtype], vocab - 1)]);
        const expected = oracleRows(rows, 1);
        const { logProbs, logSumExp, entropy } = on(processors, () =>
          tokenLogProbsSync(rows, { entropy: true, backend }),
        );
        expectLogProbsClose(logProbs, expected.logProbs);
        expectClose(logSumExp, expected.logSumExp, 1e-6);
        expectClose(entropy!, expected.entropy, 1e-6);
      }
    });

    /** Rows whose pieces lie far apart: element v of the row that has token t, of three pieces. */
    const LOGITS: [name: string, logit: (v: number, t: number) => number][] = [
      ['a piece above the others', (v, t) => (Math.floor(v / PIECE.f32) === t % 3 ? 70 : -60) + (v % 7)],
      ['a piece far above the others', (v, t) => (Math.floor(v / PIECE.f32) === t % 3 ? 3e9 : 5) + (v % 7)],
      ['far from 0', (v) => -3000 + (v % 11)],
      ['banned pieces', (v, t) => (Math.floor(v / PIECE.f32) === t % 3 ? (v % 13) / 3 : -Infinity)],
      ['a piece banned', (v, t) => (Math.floor(v / PIECE.f32) === t % 3 ? -Infinity : -900 + (v % 13) / 3)],
      ['rising', (v) => v / 100],
      ['falling', (v) => -v / 100],
    ];
    test.each(LOGITS)('%s', (_name, logit) => {
      const vocab = 3 * PIECE.f32 - 5;
      const rows = randomRows(4, TOKENS, vocab);
      for (let t = 0; t < TOKENS; t++) for (let v = 0; v < vocab; v++) rows.logits.data[t * vocab + v] = logit(v, t);
      rows.values.set(rows.logits.data);
      for (let t = 0; t < TOKENS; t++) {
        const row = rows.values.subarray(t * vocab, (t + 1) * vocab);
        rows.targets[t] = row.indexOf(row.reduce((a, b) => Math.max(a, b), -Infinity));
      }
      const expected = oracleRows(rows, 1);
      const { logProbs, entropy } = on(processors, () => tokenLogProbsSync(rows, { entropy: true, backend }));
      expectLogProbsClose(logProbs, expected.logProbs);
      expectClose(entropy!, expected.entropy, 1e-6);
    });

    test('p -> 1, with the peak in any piece', () => {
      const vocab = 2 * PIECE.f32 + 999;
      const gaps = [1, 12, 25, 41, 90];
      const peaks = [17, PIECE.f32 + 3, 2 * PIECE.f32 + 7, vocab - 1, PIECE.f32 - 1];
      const logits = new Float32Array(TOKENS * vocab).fill(-3);
      for (let t = 0; t < TOKENS; t++) logits[t * vocab + peaks[t]] = -3 + gaps[t];
      const inputs = { logits, targets: Int32Array.from(peaks) };
      const { logProbs, entropy } = on(processors, () => tokenLogProbsSync(inputs, { entropy: true, backend }));
      gaps.forEach((gap, t) => {
        const rest = (vocab - 1) * Math.exp(-gap);
        expectCloseNumber(logProbs[t], -Math.log1p(rest), 1e-6, 1e-28);
        expectCloseNumber(entropy![t], Math.log1p(rest) + (gap * rest) / (1 + rest), 1e-6, 1e-26);
      });
    });

    test.each(DTYPES)('%s: what is not finite is found in any piece, and masked rows are left out', (dtype) => {
      const vocab = 2 * PIECE[dtype] + 77;
      const rows = randomRows(6, TOKENS, vocab, { dtype });
      const { toBits, nan } = FORMATS[dtype];
      rows.logits.data[0 * vocab + 5] = nan;
      rows.logits.data[1 * vocab + PIECE[dtype] + 5] = toBits(Infinity);
      rows.logits.data[2 * vocab + vocab - 1] = nan;
      rows.logits.data.fill(nan, 3 * vocab, 4 * vocab);
      const given = { ...rows, mask: Uint8Array.of(1, 1, 1, 0, 1) };
      const skipped = on(processors, () => tokenLogProbsSync(given, { entropy: true, onNonFinite: 'skip', backend }));
      expect([skipped.nonFiniteTokens, skipped.mask]).toEqual([3, Uint8Array.of(0, 0, 0, 0, 1)]);
      expect([...skipped.logProbs.subarray(0, 4), ...skipped.entropy!.subarray(0, 4)]).toEqual(Array(8).fill(0));
      expectCloseNumber(skipped.logProbs[4], oracleRows(rows, 1).logProbs[4], 1e-6);
      const first = rlvrError('ERR_NONFINITE', /3 non-finite row\(s\), the first at row 0$/);
      expect(() => on(processors, () => tokenLogProbsSync(given, { backend }))).toThrow(first);
    });

    test('the first row with a gradient that is not finite', () => {
      const vocab = 2 * PIECE.f32 + 77;
      const rows = randomRows(7, TOKENS, vocab);
      const { logSumExp } = tokenLogProbsSync(rows, { backend });
      const inputs = { ...rows, gradEntropy: undefined, logSumExp };
      for (const at of [5, PIECE.f32 + 5, vocab - 1]) {
        rows.logits.data[3 * vocab + at] = NaN;
        rows.logits.data[4 * vocab + vocab - 1 - at] = NaN;
        const third = rlvrError('ERR_NONFINITE', /row 3/);
        expect(() => on(processors, () => tokenLogProbsBackwardSync(inputs, { backend }))).toThrow(third);
        rows.logits.data[3 * vocab + at] = rows.logits.data[4 * vocab + vocab - 1 - at] = 0;
      }
    });
  });
});
