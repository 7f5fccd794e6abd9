// The transformer in jax-js, on its WebAssembly backend: the gradient of the logits is the cotangent of vjp. Each use of an array consumes a
// reference to it.
import * as jax from '@jax-js/jax';
import { lossAndGrad } from 'rlvr-kernels/jax';
import { ADAM, causalMask, firstWeights, type MakeModel, type ModelShape } from './model.js';

const { defaultDevice, init, jit, nn, numpy: np, tree, vjp } = jax;
type JaxArray = jax.Array;
type Weights = Record<string, JaxArray>;

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
  return (weights: Weights, ids: JaxArray): JaxArray => {
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
    next: jit((weights: Weights, ids: JaxArray) => logitsOf(weights, ids).slice([], length - 1)),
    logits: jit(logitsOf),
    // Runs the model again: the second half of a vjp cannot be kept from one compiled function to the next.
    pullback: jit((weights: Weights, ids: JaxArray, gradLogits: JaxArray): Weights => {
      const [logits, pullback] = vjp((w: Weights) => logitsOf(w, ids), [weights]);
      logits.dispose();
      return pullback(gradLogits)[0];
    }),
  };
}

/** Adam on one weight: the weight and its two moments, before and after. */
const adam = jit(
  (w: JaxArray, m: JaxArray, v: JaxArray, g: JaxArray, rate: JaxArray, bias1: JaxArray, bias2: JaxArray) => {
    const m2 = m.mul(ADAM.beta1).add(g.ref.mul(1 - ADAM.beta1));
    const v2 = v.mul(ADAM.beta2).add(np.square(g).mul(1 - ADAM.beta2));
    const size = np.sqrt(v2.ref.div(bias2)).add(ADAM.epsilon);
    return [w.sub(rate.mul(m2.ref.div(bias1)).div(size)), m2, v2] as [JaxArray, JaxArray, JaxArray];
  },
);

export const makeModel: MakeModel = async (shape, random) => {
  await init('wasm'); // without a name it asks for navigator.gpu, which Node 20 does not have
  defaultDevice('wasm');
  const weights: Weights = {};
  const moments = new Map<string, [JaxArray, JaxArray]>();
  let parameters = 0;
  for (const { name, shape: dimensions, values } of firstWeights(shape, random)) {
    parameters += values.length;
    weights[name] = np.array(values, { shape: dimensions });
    moments.set(name, [np.zeros(dimensions), np.zeros(dimensions)]);
  }

  const compiled = new Map<string, ReturnType<typeof compile>>();
  const of = (rows: number, length: number) => {
    const key = `${rows},${length}`;
    const functions = compiled.get(key) ?? compile(shape, rows, length);
    compiled.set(key, functions);
    return functions;
  };
  const arrayOf = (ids: Int32Array) => np.array(ids.slice());

  let updates = 0;
  function update(gradients: Weights, learningRate: number): void {
    updates++;
    const numbers = [learningRate, 1 - ADAM.beta1 ** updates, 1 - ADAM.beta2 ** updates] as const;
    for (const [name, [m, v]] of moments) {
      const [rate, bias1, bias2] = numbers.map((value) => np.array(value, { dtype: np.float32 }));
      const [w2, m2, v2] = adam(weights[name]!, m, v, gradients[name]!, rate!, bias1!, bias2!);
      weights[name] = w2;
      moments.set(name, [m2, v2]);
    }
  }

  return {
    shape,
    parameters,
    next: (ids, rows, length) => of(rows, length).next(tree.ref(weights), arrayOf(ids)).dataSync() as Float32Array,
    step(loss, parts, learningRate) {
      let sum: Weights | undefined;
      const results = parts.map(({ batch, options }) => {
        const { logits, pullback } = of(...batch.shape);
        const evaluate = lossAndGrad(jax, loss, batch, options);
        const { gradLogits, ...result } = evaluate(logits(tree.ref(weights), arrayOf(batch.inputIds)));
        const gradients = pullback(tree.ref(weights), arrayOf(batch.inputIds), gradLogits) as Weights;
        sum = sum ? (tree.map((a: JaxArray, b: JaxArray) => a.add(b), sum, gradients) as Weights) : gradients;
        return result;
      });
      if (sum) update(sum, learningRate);
      return results;
    },
  };
};
