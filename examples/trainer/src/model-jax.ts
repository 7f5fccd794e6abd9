// The transformer in jax-js, on its WebAssembly backend: the gradient of the logits is the cotangent of vjp. Each use of an array consumes a
// reference to it.
import * as jax from '@jax-js/jax';
import { lossAndGrad } from 'rlvr-kernels/jax';
import type { Gradients } from './adam.js';
import { causalMask, type Generation, type MakeModel, type Pass } from './model.js';
import type { ModelShape } from './weights.js';

const { defaultDevice, init, jit, nn, numpy: np, tree, vjp } = jax;
type JaxArray = jax.Array;
type Arrays = Record<string, JaxArray>;

/** Logits [rows, length, V] of ids [rows * length]. */
function transformer({ vocab, width, layers, heads }: ModelShape, rows: number, length: number) {
  const norm = (x: JaxArray, gain: JaxArray) => {
    const size = np.sqrt(np.mean(np.square(x.ref), -1, { keepdims: true }).add(1e-5));
    return x.mul(np.reciprocal(size)).mul(gain);
  };
  const attention = (x: JaxArray, queryKeyValue: JaxArray, out: JaxArray) => {
    const [q, k, v] = np
      .split(np.matmul(x, queryKeyValue), 3, 1)
      .map((part) => part.reshape([rows, length, heads, width / heads]).transpose([0, 2, 1, 3]));
    // nn.dotProductAttention uses helpers of iterators, which Node 20 does not have.
    const scores = np.matmul(q!, k!.transpose([0, 1, 3, 2])).mul(Math.sqrt(heads / width));
    const mask = np.array(causalMask(length), { shape: [length, length] });
    const mixed = np.matmul(nn.softmax(scores.add(mask), -1), v!).transpose([0, 2, 1, 3]);
    return np.matmul(mixed.reshape([rows * length, width]), out);
  };
  return (weights: Arrays, ids: JaxArray): JaxArray => {
    const weight = (name: string) => weights[name]!;
    const position = np.tile(weight('position').slice([0, length]), [rows, 1]);
    let x = np.matmul(nn.oneHot(ids, vocab), weight('embed')).add(position);
    for (let layer = 0; layer < layers; layer++) {
      const normed = norm(x.ref, weight(`attentionGain${layer}`));
      x = x.add(attention(normed, weight(`queryKeyValue${layer}`), weight(`out${layer}`)));
      const up = nn.relu(np.matmul(norm(x.ref, weight(`mlpGain${layer}`)), weight(`up${layer}`)));
      x = x.add(np.matmul(up, weight(`down${layer}`)));
    }
    return np.matmul(norm(x, weight('gain')), weight('head')).reshape([rows, length, vocab]);
  };
}

/** Compiled for one shape. */
function compile(shape: ModelShape, rows: number, length: number) {
  const logitsOf = transformer(shape, rows, length);
  return {
    next: jit((weights: Arrays, ids: JaxArray) => logitsOf(weights, ids).slice([], length - 1)),
    logits: jit(logitsOf),
    // Runs the model again: the second half of a vjp cannot be kept from one compiled function to the next.
    pullback: jit((weights: Arrays, ids: JaxArray, gradLogits: JaxArray): Arrays => {
      const [logits, pullback] = vjp((w: Arrays) => logitsOf(w, ids), [weights]);
      logits.dispose();
      return pullback(gradLogits)[0];
    }),
  };
}

const arrayOf = (ids: Int32Array) => np.array(ids.slice());

export const makeModel: MakeModel = async (shape) => {
  await init('wasm'); // without a name it asks for navigator.gpu, which Node 20 does not have
  defaultDevice('wasm');
  let weights: Arrays = {};

  const compiled = new Map<string, ReturnType<typeof compile>>();
  const of = (rows: number, length: number) => {
    const key = `${rows},${length}`;
    const functions = compiled.get(key) ?? compile(shape, rows, length);
    compiled.set(key, functions);
    return functions;
  };

  /** Runs the model on all of the rows each time: a shape of its own for each length, which is compiled once. */
  function generate(rows: number): Generation {
    let fed = new Int32Array(0);
    return {
      feed(ids, count) {
        const [before, length] = [fed.length / rows, fed.length / rows + count];
        const all = new Int32Array(rows * length);
        for (let row = 0; row < rows; row++) {
          all.set(fed.subarray(row * before, (row + 1) * before), row * length);
          all.set(ids.subarray(row * count, (row + 1) * count), row * length + before);
        }
        fed = all;
        return of(rows, length).next(tree.ref(weights), arrayOf(all)).dataSync() as Float32Array;
      },
      end() {},
    };
  }

  return {
    shape,
    setWeights(values) {
      tree.dispose(weights);
      const arrays = Object.entries(values).map(([name, weight]) => {
        return [name, np.array(weight.values.slice(), { shape: weight.shape })] as const;
      });
      weights = Object.fromEntries(arrays);
    },
    generate,
    pass(loss, parts): Pass {
      let sum: Arrays | undefined;
      const results = parts.map(({ batch, options }) => {
        const { logits, pullback } = of(...batch.shape);
        const evaluate = lossAndGrad(jax, loss, batch, options);
        const { gradLogits, ...result } = evaluate(logits(tree.ref(weights), arrayOf(batch.inputIds)));
        const gradients = pullback(tree.ref(weights), arrayOf(batch.inputIds), gradLogits) as Arrays;
        sum = sum ? (tree.map((a: JaxArray, b: JaxArray) => a.add(b), sum, gradients) as Arrays) : gradients;
        return result;
      });
      const read = Object.entries(sum ?? {}).map(([name, array]) => [name, array.dataSync() as Float32Array] as const);
      return { results, gradients: Object.fromEntries(read) as Gradients };
    },
    dispose() {
      tree.dispose(weights);
      weights = {};
    },
  };
};
