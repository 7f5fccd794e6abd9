// A gradient larger than the caches is written to a second array by stores that bypass them, in whole aligned vectors: the
// same bits as in place, wherever a row starts, and nothing between the rows is touched.
import { expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { type DType, grpoSync, type HostTensor, tokenLogProbsBackwardSync, tokenLogProbsSync } from '../lib/index.js';
import { rlvrError } from './support/errors.js';

const TOKENS = 67;
const VOCAB = 131_077; // odd, and 67 rows of it are more than 2^23 elements
const OUT_STRIDE = VOCAB + 6;

const options = { backend: 'cpu' } as const;
const targets = Int32Array.from({ length: TOKENS }, (_, t) => t * 1900);

/** Elements after an aligned address, of each dtype. */
const PLACES: [DType, number][] = [
  ['f32', 1],
  ['f32', 0],
  ['bf16', 3],
  ['bf16', 0],
  ['f16', 5],
];

const create = (dtype: DType, length: number) => (dtype === 'f32' ? new Float32Array(length) : new Uint16Array(length));

function randomLogits(dtype: DType, random: Random): HostTensor {
  const data = create(dtype, TOKENS * VOCAB);
  const one = dtype === 'bf16' ? 0x3f80 : 0x3c00; // 1 in 16 bits; the bits after it stand for a little more
  for (let i = 0; i < data.length; i++)
    data[i] = dtype === 'f32' ? 8 * random.uniform() : one + Math.floor(256 * random.uniform());
  return { data, shape: [TOKENS, VOCAB], dtype };
}

/** Memory for a gradient with gaps between its rows, full of sevens. */
function sevens(dtype: DType, offset: number) {
  const memory = create(dtype, offset + TOKENS * OUT_STRIDE).fill(7);
  const out: HostTensor = { data: memory.subarray(offset), shape: [TOKENS, VOCAB], rowStride: OUT_STRIDE, dtype };
  return { memory, out };
}

function expectRows(memory: HostTensor['data'], offset: number, data: HostTensor['data']) {
  const bytes = (array: HostTensor['data'], from: number) =>
    Buffer.from(array.buffer, array.byteOffset + from * array.BYTES_PER_ELEMENT, VOCAB * array.BYTES_PER_ELEMENT);
  for (let t = 0; t < TOKENS; t++) {
    const row = offset + t * OUT_STRIDE;
    if (!bytes(memory, row).equals(bytes(data, t * VOCAB))) expect.fail(`row ${t} differs`);
    expect(Array.from(memory.subarray(row + VOCAB, row + OUT_STRIDE)), `after row ${t}`).toEqual(Array(6).fill(7));
  }
  expect(Array.from(memory.subarray(0, offset))).toEqual(Array(offset).fill(7));
}

test.each(PLACES)('%s, %i elements after an aligned address', (dtype, offset) => {
  const random = new Random(5);
  const logits = randomLogits(dtype, random);
  const { data } = logits;
  const { logSumExp } = tokenLogProbsSync({ logits, targets }, options);
  const gradLogProbs = Float64Array.from({ length: TOKENS }, (_, t) => (t % 9 === 4 ? 0 : random.uniform() - 0.5));
  const inputs = { logits, targets, logSumExp, gradLogProbs };

  const { memory, out } = sevens(dtype, offset);
  tokenLogProbsBackwardSync(inputs, { ...options, gradient: { out } });
  tokenLogProbsBackwardSync(inputs, { ...options, gradient: 'in-place' });
  expectRows(memory, offset, data);

  data[41 * VOCAB + 77_777] = dtype === 'f32' ? NaN : 0x7fff;
  const again = () => tokenLogProbsBackwardSync(inputs, { ...options, gradient: { out } });
  expect(again).toThrow(rlvrError('ERR_NONFINITE', /^logits: .* at row 41: /));
});

test.each(PLACES)('in the pass that reads the logits: %s, %i elements after an aligned address', (dtype, offset) => {
  const logits = randomLogits(dtype, new Random(6));
  const rewards = [1, 0, 1, 0];
  const oldLogProbs = new Float64Array(TOKENS).fill(-11);
  const batch = { logits, targets, oldLogProbs, cuSeqlens: [0, 20, 21, 50, TOKENS], cuGroups: [0, 4], rewards };
  const { memory, out } = sevens(dtype, offset);
  grpoSync(batch, { ...options, gradient: { out } });
  grpoSync(batch, { ...options, gradient: 'in-place' });
  expect(logits.data.some((entry) => entry !== 0)).toBe(true);
  expectRows(memory, offset, logits.data);
});
