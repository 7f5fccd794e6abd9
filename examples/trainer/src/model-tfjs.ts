// The transformer in TensorFlow.js, on its WebAssembly backend: the loss works in the heap where the logits lie.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { lossAndGrad } from 'rlvr-kernels/tfjs';
import type { Gradients } from './adam.js';
import { causalMask, type Generation, type MakeModel, type Part, type Pass } from './model.js';
import type { ModelShape } from './weights.js';

/** A B, whose gradient transposes first: this backend multiplies by a transposed matrix eight times slower. */
const product = tf.customGrad((a, b, save) => {
  (save as tf.GradSaveFunc)([a as tf.Tensor, b as tf.Tensor]);
  const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => [
    tf.matMul(dy, tf.transpose(saved[1]!)),
    tf.matMul(tf.transpose(saved[0]!), dy),
  ];
  return { value: tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D), gradFunc };
}) as (a: tf.Tensor2D, b: tf.Tensor2D) => tf.Tensor2D;

type Weight = (name: string) => tf.Tensor2D;
/** What attention remembers of each layer: keys and values, [rows, heads, length, width / heads]. */
type Memory = [keys: tf.Tensor4D, values: tf.Tensor4D][];

function norm(x: tf.Tensor2D, gain: tf.Tensor): tf.Tensor2D {
  return tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-5))), gain);
}

/** Hidden states [rows * length, width] of ids that follow those in `memory`, which is replaced by a longer one. */
function hiddenOf(
  { vocab, width, layers, heads }: ModelShape,
  weight: Weight,
  ids: Int32Array,
  rows: number,
  memory: Memory,
) {
  const length = ids.length / rows;
  const before = memory[0]?.[0].shape[2] ?? 0;
  const all = before + length;
  const mask = tf.slice(tf.tensor2d(causalMask(all), [all, all]), [before, 0]);

  function attention(x: tf.Tensor2D, layer: number): tf.Tensor2D {
    const [q, k, v] = tf
      .split(product(x, weight(`queryKeyValue${layer}`)), 3, 1)
      .map((part) =>
        tf.transpose(tf.reshape(part, [rows, length, heads, width / heads]), [0, 2, 1, 3]),
      ) as tf.Tensor4D[];
    const earlier = memory[layer];
    const keys = earlier ? tf.concat([earlier[0], k!], 2) : k!;
    const values = earlier ? tf.concat([earlier[1], v!], 2) : v!;
    memory[layer] = [keys, values];
    const scores = tf.mul(tf.matMul(q!, keys, false, true), Math.sqrt(heads / width));
    const mixed = tf.transpose(tf.matMul(tf.softmax(tf.add(scores, mask)), values), [0, 2, 1, 3]);
    return product(tf.reshape<tf.Rank.R2>(mixed, [rows * length, width]), weight(`out${layer}`));
  }

  // By a product with one-hot rows: on this backend the gradient of tf.gather has no kernel.
  const oneHot = tf.cast(tf.oneHot(tf.tensor1d(ids, 'int32'), vocab), 'float32') as tf.Tensor2D;
  const embedded = tf.reshape(product(oneHot, weight('embed')), [rows, length, width]);
  const positions = tf.slice(weight('position'), before, length);
  let x = tf.reshape<tf.Rank.R2>(tf.add(embedded, positions), [rows * length, width]);
  for (let layer = 0; layer < layers; layer++) {
    x = tf.add(x, attention(norm(x, weight(`attentionGain${layer}`)), layer));
    const up = tf.relu(product(norm(x, weight(`mlpGain${layer}`)), weight(`up${layer}`)));
    x = tf.add(x, product(up, weight(`down${layer}`)));
  }
  return norm(x, weight('gain'));
}

function generation(shape: ModelShape, weight: Weight, rows: number): Generation {
  let memory: Memory = [];
  return {
    feed(ids, count) {
      const before = memory.flat();
      let logits: Float32Array = new Float32Array(0);
      tf.tidy(() => {
        const next = [...memory];
        const hidden = hiddenOf(shape, weight, ids, rows, next);
        for (const tensor of next.flat()) tf.keep(tensor);
        memory = next;
        const last = tf.slice(tf.reshape(hidden, [rows, count, shape.width]), [0, count - 1], [rows, 1]);
        logits = product(tf.reshape<tf.Rank.R2>(last, [rows, shape.width]), weight('head')).dataSync<'float32'>();
      });
      tf.dispose(before);
      return logits;
    },
    end() {
      tf.dispose(memory.flat());
    },
  };
}

export const makeModel: MakeModel = async (shape) => {
  const packageFile = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/package.json');
  setWasmPaths(join(dirname(packageFile), 'dist', '/'));
  await tf.setBackend('wasm');
  const variables = new Map<string, tf.Variable>();
  const weight: Weight = (name) => variables.get(name) as tf.Tensor as tf.Tensor2D;

  const gradientsOf = (batch: Part['batch'], loss: (logits: tf.Tensor) => tf.Scalar) => {
    const logits = () => product(hiddenOf(shape, weight, batch.inputIds, batch.shape[0], []), weight('head'));
    const { grads } = tf.variableGrads(() => loss(logits()), [...variables.values()]);
    return [...variables].map(([name, variable]) => [name, grads[variable.name]!] as const);
  };
  return {
    shape,
    setWeights(weights) {
      for (const [name, { shape: dimensions, values }] of Object.entries(weights)) {
        const tensor = tf.tensor(values, dimensions);
        const variable = variables.get(name);
        if (variable) variable.assign(tensor);
        else variables.set(name, tf.variable(tensor));
        tensor.dispose();
      }
    },
    generate: (rows) => generation(shape, weight, rows),
    pass(loss, parts): Pass {
      const ops = parts.map(({ batch, options }) => lossAndGrad(tf, loss, batch, { ...options, gradient: 'in-place' }));
      const gradients: Gradients = {}; // not what tidy returns: it would look for tensors in each number
      tf.tidy(() => {
        const sum = new Map<string, tf.Tensor>();
        parts.forEach(({ batch }, i) => {
          for (const [name, tensor] of gradientsOf(batch, ops[i]!)) {
            const before = sum.get(name);
            sum.set(name, before ? tf.add(before, tensor) : tensor);
          }
        });
        for (const [name, tensor] of sum) gradients[name] = tensor.dataSync<'float32'>();
      });
      return { results: ops.map(({ result }) => result!), gradients };
    },
    dispose() {
      tf.dispose([...variables.values()]);
    },
  };
};
