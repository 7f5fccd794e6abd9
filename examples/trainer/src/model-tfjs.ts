// The transformer in TensorFlow.js, on its WebAssembly backend: the loss works in the heap where the logits lie.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { lossAndGrad } from 'rlvr-kernels/tfjs';
import { ADAM, causalMask, firstWeights, type MakeModel } from './model.js';

export const makeModel: MakeModel = async (shape, random) => {
  const packageFile = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/package.json');
  setWasmPaths(join(dirname(packageFile), 'dist', '/'));
  await tf.setBackend('wasm');
  const { vocab, width, layers, heads } = shape;
  const weights = new Map<string, tf.Variable>();
  for (const { name, shape: dimensions, values } of firstWeights(shape, random)) {
    weights.set(name, tf.variable(tf.tensor(values, dimensions)));
  }
  const weight = (name: string) => weights.get(name) as tf.Tensor2D;

  const norm = (x: tf.Tensor2D, gain: string) =>
    tf.mul<tf.Tensor2D>(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-5))), weight(gain));

  function attention(x: tf.Tensor2D, layer: number, rows: number, length: number, mask: tf.Tensor): tf.Tensor2D {
    const [q, k, v] = tf
      .split(tf.matMul(x, weight(`queryKeyValue${layer}`)), 3, 1)
      .map((part) => tf.transpose(tf.reshape(part, [rows, length, heads, width / heads]), [0, 2, 1, 3]));
    const scores = tf.mul(tf.matMul(q!, k!, false, true), Math.sqrt(heads / width));
    const mixed = tf.transpose(tf.matMul(tf.softmax(tf.add(scores, mask)), v!), [0, 2, 1, 3]);
    return tf.matMul(tf.reshape(mixed, [rows * length, width]), weight(`out${layer}`));
  }

  /** Hidden states [rows * length, width]. */
  function hidden(ids: Int32Array, rows: number, length: number): tf.Tensor2D {
    // By a product with one-hot rows: on this backend the gradient of tf.gather has no kernel.
    const embedded = tf.matMul(tf.oneHot(tf.tensor1d(ids, 'int32'), vocab).toFloat() as tf.Tensor2D, weight('embed'));
    const mask = tf.tensor(causalMask(length), [length, length]);
    let x = tf.add<tf.Tensor2D>(embedded, tf.tile(tf.slice(weight('position'), 0, length), [rows, 1]));
    for (let layer = 0; layer < layers; layer++) {
      x = tf.add(x, attention(norm(x, `attentionGain${layer}`), layer, rows, length, mask));
      const up = tf.relu(tf.matMul(norm(x, `mlpGain${layer}`), weight(`up${layer}`)));
      x = tf.add(x, tf.matMul(up, weight(`down${layer}`)));
    }
    return norm(x, 'gain');
  }

  const variables = [...weights.values()];
  const optimizer = tf.train.adam(0, ADAM.beta1, ADAM.beta2, ADAM.epsilon);
  return {
    shape,
    parameters: variables.reduce((sum, { size }) => sum + size, 0),
    next: (ids, rows, length) =>
      tf.tidy(() => {
        const last = tf.slice(tf.reshape(hidden(ids, rows, length), [rows, length, width]), [0, length - 1], [rows, 1]);
        return tf.matMul(tf.reshape<tf.Rank.R2>(last, [rows, width]), weight('head')).dataSync<'float32'>();
      }),
    step(loss, parts, learningRate) {
      const ops = parts.map(({ batch, options }) => lossAndGrad(tf, loss, batch, { ...options, gradient: 'in-place' }));
      tf.tidy(() => {
        const sum = new Map<string, tf.Tensor>();
        parts.forEach(({ batch }, i) => {
          const logits = () => tf.matMul(hidden(batch.inputIds, ...batch.shape), weight('head'));
          for (const [name, tensor] of Object.entries(tf.variableGrads(() => ops[i]!(logits()), variables).grads)) {
            const before = sum.get(name);
            sum.set(name, before ? tf.add(before, tensor) : tensor);
          }
        });
        Object.assign(optimizer, { learningRate }); // which its type keeps to itself
        optimizer.applyGradients([...sum].map(([name, tensor]) => ({ name, tensor })));
      });
      return ops.map(({ result }) => result!);
    },
  };
};
