// Logits that the forward pass of linear-log-probs leaves to the backward pass: gradients have the same bits with and without them.
import { describe, expect, test } from 'vitest';
import { nativeAddon } from '../lib/backend/addon.js';
import type { HostTensor } from '../lib/index.js';
import { DTYPE_CODES, dtypeNamed, type MatrixArgument } from '../lib/kernels.js';
import { builtFile, childJson } from './boundary/child.js';
import { sameElements } from './support/compare.js';
import { type LinearBatch, linearBatch, logitsOf } from './support/linear-rows.js';

const native = nativeAddon();
const addon = native as Exclude<typeof native, { reason: string }>;

const TILE = 1024; // columns, at widths up to 2048
const UNTOUCHED = 7;

interface Kept {
  keptLogits: Float32Array | undefined;
  keptRows: Int32Array | undefined;
}

const NONE: Kept = { keptLogits: undefined, keptRows: undefined };

function room(tokens: number, length: number): { keptLogits: Float32Array; keptRows: Int32Array } {
  return { keptLogits: new Float32Array(length).fill(UNTOUCHED), keptRows: new Int32Array(tokens).fill(UNTOUCHED) };
}

function matrix({ data, shape, dtype = 'f32', rowStride = shape[1] }: HostTensor): MatrixArgument {
  return { data, dtype: DTYPE_CODES[dtypeNamed(dtype)], rowStride };
}

function layer({ hidden, weight, bias, targets, mask }: LinearBatch) {
  const [[tokens, width], [vocab]] = [hidden.shape, weight.shape];
  const matrices = { hidden: matrix(hidden), weight: matrix(weight), bias: bias && matrix(bias) };
  return { ...matrices, tokens, vocab, width, targets, mask, temperature: 0.8, chunkBytes: 0 };
}

function forward(batch: LinearBatch, kept = NONE) {
  const rows = layer(batch);
  const each = () => new Float64Array(rows.tokens);
  const outputs = {
    ...{ logProbs: each(), logSumExp: each(), entropy: each() },
    ...{ kept: new Uint8Array(rows.tokens), nonFinite: new Int32Array(1) },
  };
  addon.linearLogProbsForward({ ...rows, ...outputs, ...kept });
  return outputs;
}

type Forward = ReturnType<typeof forward>;

function backward(batch: LinearBatch, { logSumExp, entropy }: Pick<Forward, 'logSumExp' | 'entropy'>, kept = NONE) {
  const rows = layer(batch);
  const gradient = (length: number, width: number) => ({
    ...{ data: new Float32Array(length * width), dtype: DTYPE_CODES.f32, rowStride: width, accumulate: false },
  });
  const gradients = {
    gradHidden: gradient(rows.tokens, rows.width),
    gradWeight: gradient(rows.vocab, rows.width),
    gradBias: gradient(1, rows.vocab),
  };
  const badRows = new Int32Array(4);
  const { gradLogProbs, gradEntropy } = batch;
  addon.linearLogProbsBackward({
    ...{ ...rows, ...gradients, ...kept },
    ...{ logSumExp, gradLogProbs, entropy, gradEntropy, badRows },
  });
  expect([...badRows]).toEqual([-1, -1, -1, -1]);
  const [gradHidden, gradWeight, gradBias] = Object.values(gradients).map(({ data }) => data);
  return { gradHidden, gradWeight, gradBias };
}

/** Without a diff, which takes minutes for arrays as long as these. */
function expectBits(actual: object, expected: object, what = ''): void {
  for (const [name, array] of Object.entries(expected)) {
    if (!sameElements((actual as Record<string, unknown>)[name], array)) expect.fail(`${name} differs ${what}`);
  }
}

const unmaskedRows = ({ targets, mask }: LinearBatch) => targets.reduce((rows, _, t) => rows + (mask?.[t] ?? 1), 0);

describe.skipIf('reason' in native)('kept logits', () => {
  // Two whole tiles and the start of a third; more rows than one panel, than one block of panels, and than one chunk of 1024.
  const shapes = { vocab: 2 * TILE + 3, width: 5 };
  const batches: [name: string, batch: LinearBatch][] = [
    ['one row', linearBatch(1, { tokens: 1, ...shapes })],
    ['masked rows, padded', linearBatch(2, { tokens: 150, ...shapes }, { masked: true, padding: 3 })],
    ['no bias', linearBatch(3, { tokens: 37, ...shapes }, { bias: false })],
    ['16 bits, masked', linearBatch(4, { tokens: 40, ...shapes }, { dtypes: ['bf16', 'f16', 'f32'], masked: true })],
    ['a depth of two blocks', linearBatch(5, { tokens: 20, vocab: shapes.vocab, width: 300 })],
    ['two chunks', linearBatch(6, { tokens: 1500, vocab: TILE + 3, width: 3 }, { masked: true })],
    ['less than a tile', linearBatch(7, { tokens: 20, vocab: 9, width: 4 }, { masked: true })],
  ];

  test.each(batches)('%s: the same bits, whatever fits', (_name, batch) => {
    const [tokens, vocab, rows] = [batch.targets.length, batch.weight.shape[0], unmaskedRows(batch)];
    const expected = forward(batch);
    const gradients = backward(batch, expected);
    const tile = Math.min(TILE, vocab);
    for (const length of [0, rows * tile - 1, rows * tile, rows * vocab - 1, rows * vocab, tokens * vocab + 9]) {
      const kept = room(tokens, length);
      expectBits(forward(batch, kept), expected, `with room for ${length}`);
      const keptLogits = kept.keptLogits.slice();
      for (const time of ['once', 'twice']) {
        expectBits(backward(batch, expected, kept), gradients, `with room for ${length}, ${time}`);
      }
      expectBits(kept, { keptLogits });
    }
  });

  test('what is kept: whole tiles of the logits, of rows that are not masked; nothing else is written', () => {
    const batch = linearBatch(8, { tokens: 30, ...shapes }, { masked: true });
    const { vocab } = shapes;
    const rows = unmaskedRows(batch);
    const places = Array.from(batch.mask!, (m, t) => (m ? batch.mask!.subarray(0, t).reduce((n, x) => n + x, 0) : -1));
    const logits = logitsOf(batch);
    for (const [length, columns] of [
      [rows * TILE - 1, 0],
      [rows * TILE, TILE],
      [rows * vocab - 1, 2 * TILE],
      [rows * vocab, vocab],
      [rows * vocab + 5, vocab],
    ]) {
      const { keptLogits, keptRows } = room(batch.targets.length, length);
      forward(batch, { keptLogits, keptRows });
      expect([...keptRows]).toEqual(places);
      expect(keptLogits.subarray(rows * columns).every((x) => x === UNTOUCHED)).toBe(true);
      for (const [t, place] of places.entries()) {
        for (let v = 0; place >= 0 && v < columns; v++) {
          const begin = v - (v % TILE);
          const kept = keptLogits[rows * begin + place * Math.min(TILE, vocab - begin) + (v - begin)];
          if (!(Math.abs(kept - logits[t * vocab + v]) < 1e-5)) expect.fail(`row ${t}, column ${v}: ${kept}`);
        }
      }
    }
  });

  test('the backward pass reads them: another logit moves the gradients of its column', () => {
    const batch = linearBatch(9, { tokens: 30, ...shapes });
    const kept = room(30, 30 * 2 * TILE); // the first two tiles
    const outputs = forward(batch, kept);
    const { gradWeight, gradBias } = backward(batch, outputs, kept);
    kept.keptLogits.subarray(30 * TILE).forEach((x, i, second) => {
      if (i % TILE === 5) second[i] = x + 1;
    });
    const moved = backward(batch, outputs, kept);
    const changed = (a: Float32Array, b: Float32Array) => [...a.keys()].filter((i) => a[i] !== b[i]);
    expect(changed(gradBias, moved.gradBias)).toEqual([TILE + 5]);
    const entries = Array.from({ length: shapes.width }, (_, k) => (TILE + 5) * shapes.width + k);
    expect(changed(gradWeight, moved.gradWeight)).toEqual(entries);
  });

  test('fewer rows than in the forward pass', () => {
    const batch = linearBatch(10, { tokens: 60, ...shapes }, { masked: true });
    batch.hidden.data.fill(NaN, 7 * shapes.width, 8 * shapes.width);
    batch.mask![7] = 1;
    const kept = room(60, 60 * shapes.vocab);
    const outputs = forward(batch, kept);
    expect([...outputs.nonFinite]).toEqual([1]);
    const finite = { ...batch, mask: outputs.kept };
    expectBits(backward(finite, outputs, kept), backward(finite, outputs));
    const single = { ...finite, gradLogProbs: new Float64Array(60), gradEntropy: new Float64Array(60) };
    single.gradLogProbs[finite.mask.lastIndexOf(1)] = 2;
    expectBits(backward(single, outputs, kept), backward(single, outputs));
    const none = { ...single, gradLogProbs: new Float64Array(60) };
    expectBits(backward(none, outputs, kept), backward(none, outputs));
  });

  test.each([-1, 30, 2 ** 31 - 1, -(2 ** 31)])('a row that is not there, %i: logits are computed', (place) => {
    const batch = linearBatch(11, { tokens: 30, ...shapes });
    const outputs = forward(batch);
    const kept = room(30, 30 * shapes.vocab);
    forward(batch, kept);
    kept.keptLogits.fill(NaN);
    kept.keptRows[2] = place;
    expectBits(backward(batch, outputs, kept), backward(batch, outputs));
  });
});

/** A digest of all gradients with nothing, a part, and all of the logits kept. */
const THREADS = `
import { createHash } from 'node:crypto';
const { nativeAddon } = await import(${builtFile('./backend/addon.js')});
const { Random } = await import(${builtFile('../bench/problems/random.js')});
const addon = nativeAddon();
const random = new Random(12);
const [tokens, vocab, width] = [200, 2100, 33];
const normal = (n) => Float32Array.from({ length: n }, () => random.normal());
const matrix = (rows, width) => ({ data: normal(rows * width), dtype: 0, rowStride: width });
const rows = { hidden: matrix(tokens, width), weight: matrix(vocab, width), bias: undefined, tokens, vocab, width, mask: undefined,
  targets: new Int32Array(tokens).fill(3), temperature: 1, logSumExp: new Float64Array(tokens) };
const gradLogProbs = Float64Array.from(normal(tokens));
const digests = [undefined, 0, 1100, 2100].map((columns) => {
  const kept = columns === undefined ? { keptLogits: undefined, keptRows: undefined } :
    { keptLogits: new Float32Array(tokens * columns), keptRows: new Int32Array(tokens) };
  const zero = (rows, width) => ({ data: new Float32Array(rows * width), dtype: 0, rowStride: width, accumulate: false });
  const gradients = { gradHidden: zero(tokens, width), gradWeight: zero(vocab, width), gradBias: zero(1, vocab) };
  addon.linearLogProbsForward({ ...rows, ...kept, logProbs: new Float64Array(tokens), entropy: undefined,
    kept: new Uint8Array(tokens), nonFinite: new Int32Array(1) });
  addon.linearLogProbsBackward({ ...rows, ...kept, ...gradients, gradLogProbs, entropy: undefined, gradEntropy: undefined,
    badRows: new Int32Array(4) });
  const hash = createHash('sha256');
  for (const { data } of Object.values(gradients)) hash.update(data);
  return hash.digest('hex');
});
console.log(JSON.stringify({ threads: addon.cpuInfo().threads, digests }));
`;

test.skipIf('reason' in native)('the same bits on 1, 2 and 3 threads', async () => {
  const all = new Set<string>();
  for (const threads of ['1', '2', '3']) {
    const ran = await childJson<{ threads: number; digests: string[] }>(THREADS, { env: { RLVR_THREADS: threads } });
    expect(ran.threads).toBe(Number(threads));
    expect(ran.digests.length).toBe(4);
    for (const digest of ran.digests) all.add(digest);
  }
  expect(all.size).toBe(1);
});
