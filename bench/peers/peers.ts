// The peers, as the benchmark opens them; those that are not there say why.
import { openOnnxruntime } from './onnxruntime.mjs';
import { openTensorflow } from './tensorflow.mjs';
import { openTorch } from './torch.mjs';

/** @type {import('../../dist/bench/peer.js').PeerProvider[]} */
export const providers = [
  { name: 'onnxruntime-node', open: openOnnxruntime },
  { name: 'PyTorch', open: (options) => openTorch(options, 'eager') },
  { name: 'PyTorch compiled', open: (options) => openTorch(options, 'compiled') },
  { name: 'TensorFlow.js', open: openTensorflow },
];
