/**
 * The losses as operations of TensorFlow.js, with their gradient by `tf.customGrad`.
 * @module rlvr-kernels/tfjs
 */
export type {
  AdapterOptions,
  AdapterResult,
  BatchWithoutLogits,
  BlockingLoss,
  Layout,
} from '../adapters/logits-loss.js';
export { type GradientPlace, type LossOp, lossAndGrad, type TensorFlow, type TensorFlowTensor } from './loss-op.js';
