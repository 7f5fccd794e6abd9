// float32, float16 and bfloat16 for f32, f16 and bf16: taken wherever an element type is named, and never given back.
import { expect, test } from 'vitest';
import { openDevice } from '../lib/cuda/index.js';
import { conspoSync, forwardSync, grpo, linearLogProbsBackwardSync, microBatches, padded } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { describeDevices } from './support/device.js';
import { rlvrError } from './support/errors.js';
import { fullBatch } from './support/named-losses.js';
import { DTYPES, hostTensor } from './support/tensors.js';

const LONG = { f32: 'float32', bf16: 'bfloat16', f16: 'float16' } as const;

describeBackends('names of element types', (backend) => {
  const batch = fullBatch(5, { vocab: 7 });
  const shape: [number, number] = [batch.targets.length, 7];

  test.each(DTYPES)('%s', async (dtype) => {
    const short = { ...batch, logits: hostTensor(batch.logits, shape, dtype, 2) };
    const long = { ...short, logits: { ...short.logits, dtype: LONG[dtype] } };
    const expected = conspoSync(short, { backend });
    const { gradLogits } = conspoSync(long, { backend });
    expect(gradLogits).toEqual(expected.gradLogits);
    expect(gradLogits.dtype).toBe(dtype);
    expect((await grpo(long, { backend, copyInputs: true })).gradLogits.dtype).toBe(dtype);
    const own = { ...long, logits: { ...long.logits, data: long.logits.data.slice() } };
    expect(conspoSync(own, { backend, gradient: 'in-place' }).gradLogits).toBe(own.logits);
    const out = { ...own.logits, dtype, data: own.logits.data.slice() };
    expect(conspoSync(long, { backend, gradient: { out: out as never } }).gradLogits).toBe(out);
    const { backward } = forwardSync(long, 'logLikelihood', { backend });
    expect(backward(expected.scores).gradLogits.dtype).toBe(dtype);
  });

  test('of matrices, of padded batches and of parts', () => {
    const layer = { hidden: hostTensor([1, 0], [1, 2], 'bf16'), weight: hostTensor([1, 2, 3, 4], [2, 2], 'f16') };
    const upstream = { targets: Int32Array.of(1), logSumExp: Float64Array.of(3.4), gradLogProbs: Float64Array.of(1) };
    const long = {
      hidden: { ...layer.hidden, dtype: 'bfloat16' as const },
      weight: { ...layer.weight, dtype: 'float16' as const },
    };
    const options = backend === 'cuda' ? { backend: 'cpu' as const } : { backend };
    const given = linearLogProbsBackwardSync({ ...long, ...upstream }, options);
    expect(given).toEqual(linearLogProbsBackwardSync({ ...layer, ...upstream }, options));
    const mask = Uint8Array.of(1, 1);
    const tensor = { data: Float32Array.of(1, 0, 0, 1), shape: [1, 2, 2] as const, dtype: 'float32' as const };
    const packed = padded({
      shape: [1, 2],
      mask,
      targets: Int32Array.of(0, 1),
      logits: tensor,
      rewards: [1],
      cuGroups: [0, 1],
    });
    const [part] = microBatches(packed, { sequences: 1, loss: 'grpo' });
    expect(part.batch.logits.dtype).toBe('f32');
    expect(conspoSync(part.batch, { backend }).gradLogits.dtype).toBe('f32');
  });

  test('other names are refused', () => {
    for (const dtype of ['float64', 'Float32', 'toString', '__proto__', 'half', 32]) {
      const logits = { ...hostTensor(batch.logits, shape, 'f32'), dtype: dtype as never };
      const message = "logits.dtype: expected 'f32' or 'bf16' or 'f16' or 'float32' or 'bfloat16' or 'float16', got";
      expect(() => conspoSync({ ...batch, logits }, { backend })).toThrow(rlvrError('ERR_RANGE', message));
    }
    const wrong = { ...hostTensor(batch.logits, shape, 'f32'), dtype: 'bfloat16' as const };
    expect(() => conspoSync({ ...batch, logits: wrong }, { backend })).toThrow(
      rlvrError('ERR_DTYPE', 'logits.data: expected data of dtype bf16'),
    );
  });
});

describeDevices('names of element types of device tensors', () => {
  test('empty, upload, wrap', async () => {
    const device = openDevice(0);
    const tensor = device.empty([2, 3], 'bfloat16');
    const host = { data: new Uint16Array(6), shape: [2, 3] as const, dtype: 'bfloat16' as const };
    expect(await device.upload(host, { out: tensor })).toBe(tensor);
    const view = device.wrap({ pointer: tensor.pointer, shape: [2, 3], dtype: 'bfloat16', owner: tensor });
    expect([tensor.dtype, view.dtype]).toEqual(['bf16', 'bf16']);
    expect(() => device.empty([1, 1], 'float64' as never)).toThrow(rlvrError('ERR_RANGE', "dtype: expected 'f32'"));
    tensor.dispose();
    device.dispose();
  });
});
