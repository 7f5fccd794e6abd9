/**
 * Losses for a model on a server that computes its backward pass itself: log-probs come, a weight for each token goes.
 * @module rlvr-kernels/remote
 */
export type { AdapterOptions, AdapterResult, Layout } from '../adapters/logits-loss.js';
export {
  type AsyncLoss,
  type RemoteBatch,
  type RemoteClient,
  type RemoteResult,
  type RemoteSequence,
  remoteStep,
  type WeightedSequence,
} from './remote-step.js';
