// The peers, as the benchmark opens them; one that is missing says why.
import type { PeerProvider } from '../peer.js';
import { openOnnxruntime } from './onnxruntime.js';
import { openTensorflow } from './tensorflow.js';
import { openTorch } from './torch.js';

export const providers: readonly PeerProvider[] = [
  { name: 'onnxruntime-node', sections: ['token'], open: openOnnxruntime },
  { name: 'PyTorch', sections: ['token', 'linear'], open: (options) => openTorch(options, 'eager') },
  { name: 'PyTorch compiled', sections: ['token', 'linear'], open: (options) => openTorch(options, 'compiled') },
  { name: 'TensorFlow.js', sections: ['token'], open: openTensorflow },
];
