/**
 * The losses on arrays of jax-js: the gradient of the logits is the cotangent that `vjp` takes.
 * @module rlvr-kernels/jax
 */
export type {
  AdapterOptions,
  AdapterResult,
  BatchWithoutLogits,
  BlockingLoss,
  Layout,
} from '../adapters/logits-loss.js';
export { type Jax, type JaxArray, type JaxLoss, type JaxLossResult, lossAndGrad } from './loss-and-grad.js';
