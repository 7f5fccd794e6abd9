// rlvr-kernels/jax: losses on arrays of jax-js, between the two halves of its vjp.
import * as jax from '@jax-js/jax';
import { beforeAll, describe, expect, test } from 'vitest';
import { crossEntropySync, grpoSync, lossesSync, padded } from '../lib/index.js';
import { lossAndGrad } from '../lib/jax/index.js';
import { LOSS_NAMES } from '../lib/losses/list.js';
import { logitsOf, plain, rolloutsOf, VOCAB } from './support/adapters.js';
import { rlvrError } from './support/errors.js';

const { numpy: np } = jax;
const rollouts = rolloutsOf(1);
const [rows, length] = rollouts.shape;
const flat: [number, number] = [rows * length, VOCAB];
const logits = logitsOf(2, rollouts) as Float32Array<ArrayBuffer>;
const array = (shape: number[] = flat, values = logits) => np.array(values, { shape });

describe.each(['wasm', 'cpu'] as const)('on the %s backend', (device) => {
  beforeAll(async () => {
    await jax.init(device);
    jax.defaultDevice(device);
  });

  test.each(LOSS_NAMES)('%s: the result and gradient that it has without the framework', (name) => {
    const own = name === 'drGrpo' ? { maxLength: 4 } : {};
    const { gradLogits: expected, ...rest } = plain(name, rollouts, logits, own);
    const { gradLogits, ...result } = lossAndGrad(jax, lossesSync[name], rollouts, own)(array());
    expect(result).toEqual(rest);
    expect(gradLogits.shape).toEqual(flat);
    expect(gradLogits.dataSync()).toEqual(expected);
  });

  test('logits of shape [B, L, V], between the halves of vjp', () => {
    const hidden = np.array(
      Float32Array.from({ length: rows * length * 3 }, (_, i) => Math.sin(i)),
      { shape: [rows, length, 3] },
    );
    const weight = np.array(
      Float32Array.from({ length: 3 * VOCAB }, (_, i) => Math.cos(i)),
      { shape: [3, VOCAB] },
    );
    const model = (w: jax.Array) => np.matmul(hidden.ref, w);
    const data = model(weight.ref).dataSync() as Float32Array;
    const expected = plain('grpo', rollouts, data).gradLogits as Float32Array<ArrayBuffer>;
    const [out, pullback] = jax.vjp(model, [weight]);
    const { gradLogits } = lossAndGrad(jax, grpoSync, rollouts)(out);
    const [ours] = pullback(gradLogits) as [jax.Array];
    pullback.dispose();
    const wanted = np.matmul(hidden.reshape(flat.with(1, 3)).transpose(), array(flat, expected));
    expect(np.max(np.abs(ours.sub(wanted))).item()).toBeLessThan(1e-6);
  });

  test('references: one of the logits is consumed, and the gradient is the only new array', () => {
    const loss = lossAndGrad(jax, grpoSync, rollouts);
    const x = array();
    const { gradLogits } = loss(x.ref);
    expect(x.refCount).toBe(1);
    expect(gradLogits.refCount).toBe(1);
    expect(x.ref.dataSync()).toEqual(logits); // not written over
    loss(x).gradLogits.dispose();
    expect(x.refCount).toBe(0);
  });

  test('packed batches, of either shape, and cross-entropy without rewards', () => {
    const { shape, inputIds: _ids, attentionMask: _attention, ...rest } = rollouts;
    const { targets, mask, cuSeqlens } = padded({ ...rest, shape, logits });
    const expected = crossEntropySync({ logits, targets, mask, cuSeqlens });
    const loss = lossAndGrad(jax, crossEntropySync, { targets, mask, cuSeqlens });
    for (const given of [flat, [1, ...flat]]) {
      const { gradLogits, ...result } = loss(array(given));
      expect(result.loss).toBe(expected.loss);
      expect(gradLogits.shape).toEqual(given);
      expect(gradLogits.dataSync()).toEqual(expected.gradLogits);
    }
  });

  test('bad input is refused by name; what was not read is not used up', () => {
    const loss = lossAndGrad(jax, grpoSync, rollouts);
    const wrongRows = (shape: number[]) => () => loss(np.zeros(shape));
    expect(wrongRows([rows * length - 1, VOCAB])).toThrow(
      rlvrError('ERR_SHAPE', `logits.shape: expected [${rows * length}, V]`),
    );
    expect(wrongRows([rows, length - 1, VOCAB])).toThrow(rlvrError('ERR_SHAPE', 'logits.shape: expected'));
    const ints = np.zeros(flat, { dtype: np.int32 });
    expect(() => loss(ints)).toThrow(rlvrError('ERR_DTYPE', 'logits.dtype: expected float32, got "int32"'));
    expect(ints.refCount).toBe(1);
    ints.dispose();
    expect(() => loss(ints)).toThrow(rlvrError('ERR_DISPOSED', 'logits: expected an array that is in use'));
    expect(() => loss([1, 2] as never)).toThrow(
      rlvrError('ERR_DTYPE', 'logits: expected an array of jax-js with values'),
    );
    const traced = (x: jax.Array) => loss(x).gradLogits;
    expect(() => jax.jit(traced)(array())).toThrow(rlvrError('ERR_DTYPE', 'call this outside of jit, grad and vjp'));
  });
});

test('arguments are refused by name before there are logits', () => {
  const call =
    (...args: unknown[]) =>
    () =>
      (lossAndGrad as (...args: unknown[]) => unknown)(...args);
  expect(call({}, grpoSync, rollouts)).toThrow(rlvrError('ERR_DTYPE', 'jax: expected the module @jax-js/jax'));
  expect(call(jax, undefined, rollouts)).toThrow(rlvrError('ERR_DTYPE', 'loss: expected a blocking loss'));
  expect(call(jax, grpoSync, { ...rollouts, ref_log_probs: [] })).toThrow(rlvrError('ERR_OPTION', 'ref_log_probs'));
  expect(call(jax, grpoSync, rollouts, { gradient: 'new' })).toThrow(rlvrError('ERR_RANGE', 'gradient: expected none'));
});

test('copies: the logits out of jax-js once, the gradient into it once, which is what it can', () => {
  const bytes = { out: 0, in: 0 };
  const x = array();
  const counted = {
    shape: x.shape,
    dtype: x.dtype,
    refCount: 1,
    dataSync: () => {
      const data = x.dataSync();
      bytes.out += data.byteLength;
      return data;
    },
  };
  let given: Float32Array | undefined;
  const numpy = {
    array: (values: Float32Array<ArrayBuffer>, options: { shape: number[] }) => {
      given = values;
      bytes.in += values.byteLength;
      return np.array(values, options);
    },
  };
  lossAndGrad({ numpy }, grpoSync, rollouts)(counted).gradLogits.dispose();
  expect(bytes).toEqual({ out: logits.byteLength, in: logits.byteLength });
  expect(given?.buffer.byteLength).toBe(logits.byteLength); // no view of something larger
});
