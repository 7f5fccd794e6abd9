// rlvr-kernels/tfjs: losses as operations of TensorFlow.js, with its own autograd around them.
import type { Scalar, Tensor2D } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { crossEntropySync, defineLoss, drGrpoSync, grpoSync, infoNCE, lossesSync, padded } from '../lib/index.js';
import { LOSS_NAMES } from '../lib/losses/list.js';
import { lossAndGrad } from '../lib/tfjs/index.js';
import { logitsOf, plain, rolloutsOf, VOCAB } from './support/adapters.js';
import { rlvrError } from './support/errors.js';
import { openTensorflow } from './support/tfjs.js';

type TensorFlow = Awaited<ReturnType<typeof openTensorflow>>;

const rollouts = rolloutsOf(1);
const [rows, length] = rollouts.shape;
const flat: [number, number] = [rows * length, VOCAB];
const logits = logitsOf(2, rollouts);

describe.each(['wasm', 'cpu'] as const)('on the %s backend', (backend) => {
  let tf: TensorFlow;
  beforeAll(async () => {
    tf = await openTensorflow(backend);
  });

  describe.each(['new', 'in-place'] as const)('gradient %s', (gradient) => {
    test.each(LOSS_NAMES)('%s: the value, result and gradient that it has without the framework', (name) => {
      const own = name === 'drGrpo' ? { maxLength: 4 } : {};
      const { gradLogits, ...expected } = plain(name, rollouts, logits, own);
      const loss = lossAndGrad(tf, lossesSync[name], rollouts, { ...own, gradient });
      tf.tidy(() => {
        const { value, grad } = tf.valueAndGrad((x) => loss(tf.mul(x, 1)))(tf.tensor(logits, flat));
        expect(value.dataSync()[0]).toBe(Math.fround(expected.loss));
        expect(grad.shape).toEqual(flat);
        expect(grad.dataSync()).toEqual(gradLogits);
      });
      expect(loss.result).toEqual(expected);
    });

    test('logits of shape [B, L, V], a weight of the loss, and a layer before it', () => {
      const loss = lossAndGrad(tf, grpoSync, rollouts, { gradient });
      const weight = tf.variable(tf.randomNormal([3, VOCAB], 0, 1, 'float32', 3) as Tensor2D);
      const hidden = tf.randomNormal([rows * length, 3], 0, 1, 'float32', 4) as Tensor2D;
      const f = () => tf.mul<Scalar>(loss(tf.reshape(tf.matMul(hidden, weight), [rows, length, VOCAB])), 0.5);
      const { value, grads } = tf.variableGrads(f);
      const data = tf.matMul(hidden, weight).dataSync<'float32'>();
      const expected = plain('grpo', rollouts, data);
      expect(value.dataSync()[0]).toBeCloseTo(expected.loss / 2, 6);
      const gradient2 = tf.matMul(hidden, tf.mul(tf.tensor2d(expected.gradLogits, flat), 0.5), true);
      expect(tf.max(tf.abs(tf.sub(grads[weight.name], gradient2))).dataSync()[0]).toBeLessThan(1e-6);
      tf.dispose([weight, hidden, value, grads, gradient2]);
    });

    test('leaves no tensor behind, with and without a backward pass', () => {
      const loss = lossAndGrad(tf, grpoSync, rollouts, { gradient });
      const x = tf.variable(tf.tensor(logits, flat));
      const before = tf.memory().numTensors;
      for (let k = 0; k < 3; k++) {
        const { value, grads } = tf.variableGrads(() => loss(tf.mul(x, 1)));
        tf.dispose([value, grads]);
        tf.dispose(loss(x.clone()));
        tf.tidy(() => {
          loss(tf.mul(x, 2));
        });
      }
      expect(tf.memory().numTensors - before).toBe(3); // the clones
      tf.dispose(x);
    });
  });

  test('the logits are as they were, unless the gradient is to be in their place', () => {
    tf.tidy(() => {
      const x = tf.tensor(logits.slice(), flat);
      lossAndGrad(tf, grpoSync, rollouts)(x);
      expect(x.dataSync()).toEqual(logits);
      lossAndGrad(tf, grpoSync, rollouts, { gradient: 'in-place' })(x);
      expect(x.dataSync()).not.toEqual(logits);
    });
  });

  test('packed batches, of either shape, and cross-entropy without rewards', () => {
    const { shape: _shape, inputIds: _ids, attentionMask: _attention, ...rest } = rollouts;
    const { targets, mask, cuSeqlens } = padded({ ...rest, shape: rollouts.shape, logits });
    const expected = crossEntropySync({ logits, targets, mask, cuSeqlens });
    const loss = lossAndGrad(tf, crossEntropySync, { targets, mask, cuSeqlens }, { temperature: 1 });
    for (const shape of [flat, [1, ...flat]]) {
      tf.tidy(() => {
        const grad = tf.grad((x) => loss(x))(tf.tensor(logits, shape));
        expect(grad.dataSync()).toEqual(expected.gradLogits);
      });
    }
    expect(loss.result?.loss).toBe(expected.loss);
  });

  test('an optimizer learns with it', () => {
    const w = tf.variable(tf.zeros(flat));
    const optimizer = tf.train.sgd(5);
    const loss = lossAndGrad(tf, crossEntropySync, rollouts, { gradient: 'in-place' });
    const losses = Array.from({ length: 20 }, () => {
      optimizer.minimize(() => loss(tf.mul(w, 1)));
      return loss.result!.loss;
    });
    expect(losses[0]).toBeCloseTo(Math.log(VOCAB), 6);
    expect(losses[19]).toBeLessThan(losses[0] / 2);
    tf.dispose(w);
  });

  test('bad input is refused by name, and nothing is written', () => {
    const loss = lossAndGrad(tf, grpoSync, rollouts, { gradient: 'in-place' });
    const given = (shape: number[], dtype?: 'int32') => () => tf.tidy(() => loss(tf.zeros(shape, dtype)));
    expect(given([rows * length - 1, VOCAB])).toThrow(
      rlvrError('ERR_SHAPE', `logits.shape: expected [${rows * length}, V]`),
    );
    expect(given([rows, length - 1, VOCAB])).toThrow(rlvrError('ERR_SHAPE', 'logits.shape: expected'));
    expect(given([VOCAB])).toThrow(rlvrError('ERR_SHAPE', 'logits.shape: expected'));
    expect(given(flat, 'int32')).toThrow(rlvrError('ERR_DTYPE', 'logits.dtype: expected float32, got int32'));
    const disposed = tf.zeros(flat);
    disposed.dispose();
    expect(() => loss(disposed)).toThrow(rlvrError('ERR_DISPOSED', 'logits: expected a tensor that is in use'));
    expect(() => loss(logits as never)).toThrow(rlvrError('ERR_DTYPE', 'logits: expected a tensor, got Float32Array'));
    tf.tidy(() => {
      const x = tf.tensor(logits.slice(), flat);
      const wrong = { ...rollouts, rewards: Float32Array.of(1) };
      expect(() => lossAndGrad(tf, grpoSync, wrong, { gradient: 'in-place' })(x)).toThrow(
        rlvrError('ERR_SHAPE', 'rewards'),
      );
      expect(x.dataSync()).toEqual(logits);
    });
  });

  test('arguments are refused by name before there are logits', () => {
    const call =
      (...args: unknown[]) =>
      () =>
        (lossAndGrad as (...args: unknown[]) => unknown)(...args);
    expect(call({}, grpoSync, rollouts)).toThrow(rlvrError('ERR_DTYPE', 'tf: expected the module @tensorflow/tfjs'));
    expect(call(tf, 'grpo', rollouts)).toThrow(rlvrError('ERR_DTYPE', 'loss: expected a blocking loss, got "grpo"'));
    expect(call(tf, grpoSync, undefined)).toThrow(rlvrError('ERR_DTYPE', 'batch: expected an object'));
    expect(call(tf, grpoSync, { ...rollouts, ref_log_probs: [] })).toThrow(rlvrError('ERR_OPTION', 'ref_log_probs'));
    expect(call(tf, grpoSync, { ...rollouts, logits })).toThrow(rlvrError('ERR_RANGE', 'logits: expected none'));
    expect(call(tf, grpoSync, rollouts, { gradient: 'none' })).toThrow(
      rlvrError('ERR_RANGE', "gradient: expected 'new' or 'in-place', got \"none\""),
    );
    expect(() => tf.tidy(() => lossAndGrad(tf, drGrpoSync, rollouts, {} as never)(tf.zeros(flat)))).toThrow(
      rlvrError('ERR_RANGE', 'maxLength'),
    );
  });
});

describe('copies', () => {
  let tf: TensorFlow;
  beforeAll(async () => {
    tf = await openTensorflow('wasm');
  });

  interface Heap {
    readSync(dataId: object): ArrayBufferView;
    move(dataId: object, values: ArrayBufferView | null, shape: number[], dtype: string, refCount: number): void;
  }

  /** Bytes that pass between the heap and arrays of JavaScript, and the sizes of new tensors in the heap, while `work` runs. */
  function traffic(work: () => void): { read: number; written: number; allocated: number[] } {
    const backend = tf.backend() as unknown as Heap;
    const { readSync, move } = backend;
    const seen = { read: 0, written: 0, allocated: [] as number[] };
    const reads = vi.spyOn(backend, 'readSync').mockImplementation((...args) => {
      const values = readSync.apply(backend, args);
      seen.read += values.byteLength;
      return values;
    });
    const moves = vi.spyOn(backend, 'move').mockImplementation((...args) => {
      const [, values, shape] = args;
      seen.written += values?.byteLength ?? 0;
      seen.allocated.push(shape.reduce((product, size) => product * size, 1));
      move.apply(backend, args);
    });
    try {
      work();
    } finally {
      reads.mockRestore();
      moves.mockRestore();
    }
    return seen;
  }

  test.each([
    ['in-place', []],
    ['new', [flat[0] * VOCAB]], // the gradient
  ] as const)('none of logits or gradients on the wasm backend, gradient %s', (gradient, expected) => {
    const loss = lossAndGrad(tf, grpoSync, rollouts, { gradient });
    const x = tf.tensor(logits.slice(), flat);
    const f = tf.valueAndGrad((y) => loss(y));
    const { read, written, allocated } = traffic(() => tf.dispose(Object.values(f(x))));
    // Of numbers alone: the loss goes into the heap, a 1 as its own gradient too, and that comes out again.
    expect({ read, written }).toEqual({ read: 4, written: 8 });
    expect(allocated.filter((size) => size > 1)).toEqual(expected); // no copy within the heap
    tf.dispose(x);
  });

  test('in place, the gradient is the memory of the logits', () => {
    tf.tidy(() => {
      const x = tf.tensor(logits.slice(), flat);
      const grad = tf.grad((y) => lossAndGrad(tf, grpoSync, rollouts, { gradient: 'in-place' })(y))(x);
      expect(grad.dataId).toBe(x.dataId);
    });
  });

  test('a heap that grows between steps, and one that grows during the loss', () => {
    const kept: { dispose(): void }[] = [];
    const { wasm } = tf.backend() as unknown as { wasm: { HEAPU8: Uint8Array } };
    const grow = () => {
      const { buffer } = wasm.HEAPU8;
      while (wasm.HEAPU8.buffer === buffer) kept.push(tf.zeros([1 << 20])); // 4 MiB
    };
    const loss = lossAndGrad(tf, grpoSync, rollouts);
    const expected = plain('grpo', rollouts, logits).gradLogits;
    for (let k = 0; k < 3; k++) {
      const x = tf.tensor(logits, flat);
      const grad = tf.grad((y) => loss(y))(x);
      expect(grad.dataSync()).toEqual(expected);
      grow();
      tf.dispose([x, grad]);
    }
    const own = defineLoss<object>({
      score: 'logLikelihood',
      *objective(...args) {
        grow();
        return yield* infoNCE(...(args as Parameters<typeof infoNCE>));
      },
    });
    const x = tf.tensor(logits, flat);
    expect(() => lossAndGrad(tf, own.runSync, rollouts)(x)).toThrow(rlvrError('ERR_DTYPE', /detached|grow/));
    tf.dispose([x, ...kept] as never);
  });
});
