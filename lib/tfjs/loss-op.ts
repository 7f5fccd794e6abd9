// A loss as an operation of TensorFlow.js: from logits to a scalar, with our gradient. On the WebAssembly backend logits and gradient are
// read and written where they are, in its heap; elsewhere they are copied as far as the backend's own functions do.
import {
  type AdapterOptions,
  type AdapterResult,
  type BatchWithoutLogits,
  type BlockingLoss,
  type LogitsLoss,
  logitsLoss,
} from '../adapters/logits-loss.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import { objectArgument, oneOf, optionsArgument, typedArray } from '../validate.js';
import { isDetached } from '../views.js';

/** What is used of the module `@tensorflow/tfjs`, or `@tensorflow/tfjs-core`; `S` is the type of its scalars. */
export interface TensorFlow<S> {
  /** A tensor of one number. */
  scalar(value: number): S;
  /** An operation with a gradient of its own. */
  customGrad(operation: never): unknown;
}

/** What is used of a tensor. */
export interface TensorFlowTensor {
  /** Its dimensions. */
  readonly shape: readonly number[];
  /** `'float32'`. */
  readonly dtype: string;
  /** Its elements. */
  dataSync(): ArrayBufferView;
}

/** Where the gradient goes. */
export interface GradientPlace {
  /**
   * `'new'` (default): another tensor. `'in-place'`: the logits' memory, which saves time and T * V floats. Then nothing else may use the
   * logits, nor a tensor that they are a reshape of, once the operation has run.
   */
  gradient?: 'new' | 'in-place' | undefined;
}

/** A loss as an operation. */
export interface LossOp<S, B> {
  /** The loss of logits, float32 of shape [B * L, V] or [B, L, V]; of a packed batch [T, V] or [1, T, V]. */
  (logits: TensorFlowTensor): S;
  /** What the loss returned when it was last called; undefined before that. */
  readonly result: AdapterResult<B> | undefined;
}

/** The rest of what is used of the module. */
interface Operations<S> {
  scalar(value: number): S;
  customGrad(operation: Operation<S>): (logits: Tensor) => S;
  backend(): Partial<WasmBackend>;
  zerosLike(tensor: Tensor): Tensor;
  tensor(values: Float32Array, shape: readonly number[]): Tensor;
  mul(a: Tensor, b: Tensor): Tensor;
  reshape(tensor: Tensor, shape: readonly number[]): Tensor;
  keep(tensor: Tensor): Tensor;
}

/** `save` keeps tensors until the backward pass has been; without one, not at all. */
type Operation<S> = (logits: Tensor, save: (tensors: Tensor[]) => void) => CustomGradient<S>;

interface CustomGradient<S> {
  value: S;
  gradFunc: (dy: Tensor, saved: Tensor[]) => Tensor;
}

interface Tensor extends TensorFlowTensor {
  readonly isDisposed: boolean;
}

/** The backend whose tensors lie in a WebAssembly heap. */
interface WasmBackend {
  /** The tensor's own memory, until the heap grows. */
  typedArrayFromHeap(tensor: Tensor): ArrayBufferView;
}

const FUNCTIONS = ['scalar', 'customGrad', 'backend', 'zerosLike', 'tensor', 'mul', 'reshape', 'keep'] as const;

/**
 * A blocking loss as an operation of TensorFlow.js, from the logits of a model to its value: for `optimizer.minimize`, `tf.variableGrads`
 * and the like. The gradient of the logits is the loss's, computed with the value.
 *
 * The batch is one without logits, as `fromRollouts` and `microBatches` return it, or a packed one. Options are those of the
 * loss, and {@link GradientPlace}. On the WebAssembly backend nothing is copied: the loss reads the logits in the heap, and writes the
 * gradient there. Other backends give the logits with `dataSync`, and get the gradient with `tf.tensor`. No tensor is left behind.
 *
 * @example
 * ```ts
 * import * as tf from '@tensorflow/tfjs-core';
 * import '@tensorflow/tfjs-backend-cpu'; // or -wasm, in whose heap nothing is copied
 * import { fromRollouts, grpoSync } from 'rlvr-kernels';
 * import { lossAndGrad } from 'rlvr-kernels/tfjs';
 *
 * const rollouts = fromRollouts({ promptIds: [[5, 1]], answers: [[[2, 3], [4]]], rewards: [[1, 0]] });
 * const logits = tf.variable(tf.zeros([2, 4, 6])); // [B, L, V], in place of a model on rollouts.inputIds
 * const loss = lossAndGrad(tf, grpoSync, rollouts, { epsilonHigh: 0.28 });
 * tf.train.sgd(1).minimize(() => loss(logits));
 * console.log(loss.result?.metrics.rewardMean); // => 0.5
 * ```
 *
 * @throws RlvrError `ERR_DTYPE` for what is no TensorFlow.js, no loss, or logits that are not float32; `ERR_SHAPE` for logits of other rows
 * than the batch has; `ERR_DISPOSED` for a disposed tensor; `ERR_OPTION` for a misspelt field or option; and as the loss does.
 */
export function lossAndGrad<S, F extends BlockingLoss, B extends BatchWithoutLogits<F>>(
  tf: TensorFlow<S>,
  loss: F,
  batch: B,
  ...options: AdapterOptions<F, GradientPlace>
): LossOp<S, B> {
  const ops = operationsOf(tf);
  const { gradient: place = 'new', ...own } = optionsArgument(options[0] as GradientPlace | undefined);
  const inPlace = oneOf('gradient', place, ['new', 'in-place']) === 'in-place';
  const evaluate = logitsLoss(loss, batch, own);
  let last: AdapterResult<B> | undefined;
  const operation = ops.customGrad((logits, save) => {
    const { result, gradient } = evaluated(ops, evaluate, logits, inPlace);
    last = result;
    save(shared(ops, gradient));
    return { value: ops.scalar(result.loss), gradFunc: (dy, [saved]) => scaled(ops, saved, dy) };
  });
  const op = (logits: TensorFlowTensor) => operation(checkedLogits(logits));
  return Object.defineProperty(op, 'result', { get: () => last }) as LossOp<S, B>;
}

function operationsOf<S>(tf: TensorFlow<S>): Operations<S> {
  const given = objectArgument('tf', tf) as unknown as Partial<Operations<S>>;
  const missing = FUNCTIONS.find((name) => typeof given[name] !== 'function');
  if (missing === undefined) return given as Operations<S>;
  throw badArgument('ERR_DTYPE', 'tf', 'the module @tensorflow/tfjs, or tfjs-core', `one without ${missing}`);
}

function checkedLogits(logits: unknown): Tensor {
  const { isDisposed, dtype, dataSync } = (logits ?? {}) as Partial<Tensor>;
  if (typeof dataSync !== 'function') throw badArgument('ERR_DTYPE', 'logits', 'a tensor', describe(logits));
  if (isDisposed)
    throw new RlvrError('ERR_DISPOSED', 'logits: expected a tensor that is in use, got one that was disposed');
  if (dtype !== 'float32') throw badArgument('ERR_DTYPE', 'logits.dtype', 'float32', String(dtype));
  return logits as Tensor;
}

/** The loss of logits, and its gradient as a tensor. */
function evaluated<S, B>(ops: Operations<S>, evaluate: LogitsLoss<B>, logits: Tensor, inPlace: boolean) {
  const { shape } = logits;
  const backend = ops.backend();
  if (typeof backend.typedArrayFromHeap === 'function') {
    const gradient = inPlace ? logits : ops.zerosLike(logits); // before the views are taken: the heap may grow
    const [data, out] = [logits, gradient].map((tensor) => heapView(backend as WasmBackend, tensor));
    const { result } = evaluate({ data, shape }, inPlace ? 'in-place' : { out });
    if (!isDetached(out)) return { result, gradient };
    throw badArgument('ERR_DTYPE', 'logits', 'a heap that does not grow while the loss runs', 'one that has grown');
  }
  const data = typedArray('logits', logits.dataSync(), ['Float32Array']);
  const { result, gradLogits } = evaluate({ data, shape }, inPlace ? 'in-place' : 'new');
  return { result, gradient: ops.tensor(gradLogits, shape) };
}

function heapView(backend: WasmBackend, tensor: Tensor): Float32Array {
  return typedArray('logits', backend.typedArrayFromHeap(tensor), ['Float32Array']);
}

/**
 * A tensor to be saved. TensorFlow.js maps what it saves to clones, and those of the WebAssembly backend are copies. This list maps itself
 * to another tensor on the same memory.
 */
function shared<S>(ops: Operations<S>, tensor: Tensor): Tensor[] {
  return Object.assign([tensor], { map: () => [ops.keep(alias(ops, tensor))] });
}

/** Another tensor on the same memory. */
function alias<S>(ops: Operations<S>, tensor: Tensor): Tensor {
  return ops.reshape(tensor, tensor.shape);
}

/** The gradient times that by the loss, which is 1 unless more was done with the loss. */
function scaled<S>(ops: Operations<S>, gradient: Tensor, dy: Tensor): Tensor {
  const [factor] = dy.dataSync() as Float32Array;
  return factor === 1 ? alias(ops, gradient) : ops.mul(gradient, dy);
}
