// What is special about the wasm backend: its modules, the blocks that long arrays are worked on in, and its memory.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { brotliDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  backends,
  conspo,
  conspoSync,
  grpoSync,
  linearLogProbs,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
  wasmMemory,
} from '../lib/index.js';
import { BACKENDS } from './support/backends.js';
import { expectClose, expectLogProbsClose } from './support/compare.js';
import { rlvrError } from './support/errors.js';

// Node's types have no WebAssembly.
declare const WebAssembly: {
  Module: (new (bytes: Uint8Array) => object) & { imports(module: object): object[] };
  validate(bytes: Uint8Array): boolean;
};

const MODULES = new URL('../prebuilds/wasm/', import.meta.url);
const hasWasm = BACKENDS.includes('wasm');
const backend = 'wasm';

describe.runIf(existsSync(MODULES))('modules', () => {
  const files = existsSync(MODULES) ? readdirSync(MODULES) : [];
  const unpacked = (file: string) => brotliDecompressSync(readFileSync(new URL(file, MODULES)));

  test('there is one for relaxed SIMD and one without, of at most 250 KB', () => {
    expect(files.sort()).toEqual(['rlvr_kernels.relaxed.wasm.br', 'rlvr_kernels.wasm.br']);
    for (const file of files) expect(unpacked(file).length, file).toBeLessThanOrEqual(250_000);
  });

  test('nothing is imported but the memory', () => {
    const bytes = files.map(unpacked).filter((one) => WebAssembly.validate(one)); // Node 20 has no relaxed SIMD
    expect(bytes.length).toBeGreaterThan(0);
    for (const one of bytes) {
      const imports = WebAssembly.Module.imports(new WebAssembly.Module(one));
      expect(imports).toEqual([{ module: 'env', name: 'memory', kind: 'memory' }]);
    }
  });
});

/** Rows of which a block holds 8, in 5 groups of sequences, some of them empty and some longer than a block. */
function longRows(vocab = 32_003) {
  const random = new Random(11);
  const cuSeqlens = Int32Array.of(0, 3, 3, 17, 18, 29, 29, 29, 34, 40, 41);
  const tokens = 41;
  const near = () => Float64Array.from({ length: tokens }, () => -10 + random.normal());
  return {
    logits: Float32Array.from({ length: tokens * vocab }, () => 3 * random.normal()),
    targets: Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab)),
    mask: Uint8Array.from({ length: tokens }, (_, t) => (t % 7 === 5 ? 0 : 1)),
    cuSeqlens,
    cuGroups: Int32Array.of(0, 2, 4, 6, 8, 10),
    rewards: Float32Array.of(1, 0, 0, 1, 1, 0, 1, 0, 0, 1),
    oldLogProbs: near(),
    refLogProbs: near(),
  };
}

describe.runIf(hasWasm)('blocks of rows', () => {
  const batch = longRows();

  test('the terms of a loss, one pass over the logits', () => {
    for (const options of [{ klCoef: 0.1 }, { klCoef: 0, advantages: undefined }]) {
      const expected = grpoSync(batch, { ...options, backend: 'reference' });
      const { loss, gradLogits } = grpoSync({ ...batch, logits: batch.logits.slice() }, { ...options, backend });
      expect(Math.abs(loss - expected.loss)).toBeLessThanOrEqual(2e-6 * Math.abs(expected.loss));
      expectClose(gradLogits, expected.gradLogits, 2e-6);
    }
  });

  test('sampling replay, and the first bad row', () => {
    const { logits, targets } = batch;
    const cuKept = Int32Array.from({ length: 42 }, (_, t) => (t < 12 ? 0 : Math.min(t - 12, 20) * 2));
    const keptIds = Int32Array.from({ length: 40 }, (_, k) =>
      k % 2 ? targets[12 + (k >> 1)] + 1 : targets[12 + (k >> 1)],
    );
    const inputs = { logits, targets, keptIds, cuKept };
    const expected = tokenLogProbsSync(inputs, { backend: 'reference' });
    const actual = tokenLogProbsSync(inputs, { backend });
    expectLogProbsClose(actual.logProbs, expected.logProbs);

    const gradLogProbs = new Float64Array(41).fill(1);
    gradLogProbs[33] = 1e300;
    const out = new Float32Array(logits.length).fill(7);
    const backward = { logits, targets, logSumExp: actual.logSumExp, gradLogProbs };
    expect(() => tokenLogProbsBackwardSync(backward, { backend, gradient: { out } })).toThrow(/33/);
    expect(out.every((x) => x === 7)).toBe(true); // nothing is written, of no block
    const broken = logits.slice();
    broken[30 * 32_003 + 5] = NaN;
    expect(() => tokenLogProbsSync({ logits: broken, targets }, { backend })).toThrow(
      rlvrError('ERR_NONFINITE', /\b30\b/),
    );
  });

  test('the same bits awaited, on copies, and in memory of WebAssembly', async () => {
    const expected = conspoSync(batch, { backend, entropy: true });
    expect(await conspo(batch, { backend, entropy: true })).toEqual(expected);
    const memory = wasmMemory(4 * batch.logits.length + 64);
    const logits = memory.allocate('Float32Array', batch.logits.length);
    expect(logits.every((x) => x === 0)).toBe(true);
    logits.set(batch.logits);
    const there = conspoSync({ ...batch, logits }, { backend, entropy: true, gradient: 'in-place' });
    expect(there).toEqual(expected);
    expect(there.gradLogits).toBe(logits);
  });
});

test.runIf(hasWasm)('blocks of sequences: more tokens than one holds', () => {
  const random = new Random(3);
  const lengths = [10, 70_000, 0, 30_000, 40_000, 1];
  const cuSeqlens = Int32Array.from([0, ...lengths], (_, i) => lengths.slice(0, i).reduce((a, b) => a + b, 0));
  const tokens = cuSeqlens[6];
  const values = () => Float64Array.from({ length: tokens }, () => -1 + 0.2 * random.normal());
  const inputs = { logProbs: values(), oldLogProbs: values(), cuSeqlens, sides: Float64Array.of(1, -1, 1, -1, 1, 1) };
  const run = (on: 'reference' | 'wasm') => {
    const scores = ratioScoresSync(inputs, { score: { kind: 'clippedRatio' }, backend: on });
    const gradScores = Float64Array.of(1, 2, 3, 4, 5, 6);
    const { gradLogProbs } = ratioScoresBackwardSync(
      { gradScores, scoreGrads: scores.scoreGrads, cuSeqlens },
      { backend: on },
    );
    const { scores: means } = sequenceLogProbsSync(inputs, { backend: on });
    return { ...scores, gradLogProbs, means };
  };
  const [expected, actual] = [run('reference'), run('wasm')];
  for (const key of ['scores', 'scoreGrads', 'tokenCounts', 'gradLogProbs', 'means'] as const)
    expectClose(actual[key], expected[key], 1e-12, key);
});

describe.runIf(hasWasm)('its memory', () => {
  test('refuses what does not fit, and types that no argument has', () => {
    const memory = wasmMemory(1024);
    expect(() => memory.allocate('Float64Array', 129)).toThrow(
      rlvrError('ERR_RANGE', /^length: expected at most the 1024 bytes that are left, got 1088 bytes$/),
    );
    expect(memory.allocate('Int32Array', 0).length).toBe(0);
    expect(memory.allocate('Float64Array', 128).length).toBe(128);
    expect(() => memory.allocate('Uint8Array', 1)).toThrow(/^length: expected at most the 0 bytes that are left/);
    expect(() => memory.allocate('BigInt64Array' as 'Uint8Array', 1)).toThrow(
      rlvrError('ERR_DTYPE', /^type: expected 'Float32Array' or .*, got "BigInt64Array"$/),
    );
    for (const bytes of [-1, 1.5, NaN, 2 ** 32, '8'])
      expect(() => wasmMemory(bytes as number)).toThrow(rlvrError('ERR_RANGE', /^bytes: expected a/));
  });

  test('arrays of one memory beside arrays of another, and of none', () => {
    const batch = longRows(301);
    const expected = conspoSync(batch, { backend });
    const placed = () => {
      const logits = wasmMemory(4 * batch.logits.length + 64).allocate('Float32Array', batch.logits.length);
      logits.set(batch.logits);
      return logits;
    };
    for (const [logits, out] of [
      [placed(), placed()],
      [batch.logits, placed()],
      [placed(), batch.logits.slice()],
    ])
      expect(conspoSync({ ...batch, logits }, { backend, gradient: { out } }).gradLogits).toEqual(expected.gradLogits);
  });

  test('is not kept once a call needed much, and calls that are aborted leave the next ones alone', async () => {
    const [tokens, width, vocab] = [400, 256, 3000];
    const random = new Random(2);
    const matrix = (length: number) => Float32Array.from({ length }, () => random.normal() / 16);
    const inputs = {
      hidden: matrix(tokens * width),
      weight: matrix(vocab * width),
      targets: Int32Array.from({ length: tokens }, (_, t) => (t * 7) % vocab),
    };
    const expected = await linearLogProbs(inputs, { backend });
    const controller = new AbortController();
    const aborted = linearLogProbs(inputs, { backend, signal: controller.signal });
    const beside = linearLogProbs(inputs, { backend });
    setImmediate(() => controller.abort());
    await expect(aborted).rejects.toEqual(rlvrError('ERR_ABORTED', /./));
    expect(await beside).toEqual(expected);
    expect(await linearLogProbs(inputs, { backend })).toEqual(expected);
  });
});

test('backends() says which instructions, or why there are none', () => {
  const wasm = backends().find(({ name }) => name === 'wasm');
  if (wasm?.available)
    expect(wasm).toEqual({ name: 'wasm', available: true, simd: expect.any(String), threads: expect.any(Number) });
  else expect(wasm?.reason).toMatch(/WebAssembly.*npm run build:wasm|WebAssembly with SIMD/);
  if (wasm?.simd) expect(['simd128', 'relaxed']).toContain(wasm.simd);
});
