// A loss on logits of jax-js, and its gradient for the way back. jax-js keeps the memory of an array to itself: dataSync copies it out, and
// numpy.array copies into it. Between those two copies the gradient is written over the logits.
import {
  type AdapterOptions,
  type AdapterResult,
  type BatchWithoutLogits,
  type BlockingLoss,
  logitsLoss,
} from '../adapters/logits-loss.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import { objectArgument, typedArray } from '../validate.js';

/** What is used of the module `@jax-js/jax`; `A` is the type of its arrays. */
export interface Jax<A> {
  /** Its numpy. */
  readonly numpy: {
    /** A new array of these values. */
    array(values: Float32Array<ArrayBuffer>, options: { shape: number[] }): A;
  };
}

/** What is used of an array. */
export interface JaxArray {
  /** Its dimensions. */
  readonly shape: readonly number[];
  /** `'float32'`. */
  readonly dtype: unknown;
  /** References to it; each use consumes one. */
  readonly refCount: number;
  /** Its elements. */
  dataSync(): ArrayBufferView;
}

/** What a loss returns, with the gradient as an array. */
export type JaxLossResult<A, B> = AdapterResult<B> & {
  /** The gradient of the logits, of their shape: what `vjp`'s second result takes. Using it consumes it. */
  gradLogits: A;
};

/** A loss of logits, float32 of shape [B * L, V] or [B, L, V]; of a packed batch [T, V] or [1, T, V]. Consumes a reference to them. */
export type JaxLoss<A, B> = (logits: JaxArray) => JaxLossResult<A, B>;

/**
 * A blocking loss of logits in jax-js: for the result of `vjp`, whose way back the gradient then takes. In a function that is differentiated or
 * compiled, arrays have no values: call it between the two halves of `vjp`, as in the example.
 *
 * The batch is one without logits, as `fromRollouts` and `microBatches` return it, or a packed one. Options are those of the
 * loss, but for `gradient`. As every use of an array in jax-js, a call consumes one reference to the logits, unless it throws before it
 * reads them; `logits.ref` keeps them. jax-js gives no access to the memory of an array: the logits are copied out of it once, and the
 * gradient into it once.
 *
 * @example
 * ```ts
 * import * as jax from '@jax-js/jax';
 * import { fromRollouts, grpoSync } from 'rlvr-kernels';
 * import { lossAndGrad } from 'rlvr-kernels/jax';
 *
 * await jax.init('wasm');
 * const rollouts = fromRollouts({ promptIds: [[5, 1]], answers: [[[2, 3], [4]]], rewards: [[1, 0]] });
 * const model = (weight: jax.Array) => jax.numpy.tile(weight, [2, 4, 1]); // [B, L, V], in place of one on rollouts.inputIds
 * const [logits, pullback] = jax.vjp(model, [jax.numpy.zeros([6])]);
 * const { gradLogits, metrics } = lossAndGrad(jax, grpoSync, rollouts, { epsilonHigh: 0.28 })(logits);
 * const [gradWeight] = pullback(gradLogits);
 * pullback.dispose();
 * console.log(metrics.rewardMean, gradWeight.js()); // => 0.5 [ 0, 0, -0.177, -0.177, 0.354, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_DTYPE` for what is no jax-js, no loss, or logits that are not float32 or have no values; `ERR_SHAPE` for logits of other
 * rows than the batch has; `ERR_DISPOSED` for an array without a reference left; `ERR_OPTION` for a misspelt field or option; and as the
 * loss does.
 */
export function lossAndGrad<A, F extends BlockingLoss, B extends BatchWithoutLogits<F>>(
  jax: Jax<A>,
  loss: F,
  batch: B,
  ...options: AdapterOptions<F>
): JaxLoss<A, B> {
  const { numpy } = objectArgument('jax', jax);
  if (typeof numpy?.array !== 'function')
    throw badArgument('ERR_DTYPE', 'jax', 'the module @jax-js/jax', 'one without numpy.array');
  const evaluate = logitsLoss(loss, batch, options[0] as object | undefined);
  return (given) => {
    const logits = checkedLogits(given);
    const shape = [...logits.shape]; // of an array that is gone after the next line
    const data = typedArray('logits', logits.dataSync(), ['Float32Array']);
    const { result, gradLogits } = evaluate({ data, shape }, 'in-place');
    return { ...result, gradLogits: numpy.array(gradLogits as Float32Array<ArrayBuffer>, { shape }) };
  };
}

function checkedLogits(logits: unknown): JaxArray {
  const { dataSync, dtype, refCount = 1 } = (logits ?? {}) as Partial<JaxArray>;
  if (typeof dataSync !== 'function') {
    const got = `${describe(logits)} (a traced array has none: call this outside of jit, grad and vjp)`;
    throw badArgument('ERR_DTYPE', 'logits', 'an array of jax-js with values', got);
  }
  if (refCount <= 0) {
    const message =
      'logits: expected an array that is in use, got one that was used up (.ref keeps one for another use)';
    throw new RlvrError('ERR_DISPOSED', message);
  }
  if (dtype !== 'float32') throw badArgument('ERR_DTYPE', 'logits.dtype', 'float32', describe(dtype));
  return logits as JaxArray;
}
