// TensorFlow.js on one of its backends, from the packages on disk.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import * as wasmBackend from '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';

// The core comes without gradients, which the package @tensorflow/tfjs adds: those that the tests use.
tf.registerGradient({
  kernelName: tf.Multiply, // by a number
  inputsToSave: ['b'],
  gradFunc: (dy, [b]) => ({ a: () => tf.mul(dy as tf.Tensor, b), b: () => tf.zerosLike(b) }),
});
tf.registerGradient({
  kernelName: tf.BatchMatMul,
  inputsToSave: ['a', 'b'],
  gradFunc: (dy, [a, b]) => ({
    a: () => tf.matMul(dy as tf.Tensor, b, false, true),
    b: () => tf.matMul(a, dy as tf.Tensor, true),
  }),
});
tf.registerGradient({
  kernelName: tf.Reshape,
  inputsToSave: ['x'],
  gradFunc: (dy, [x]) => ({ x: () => tf.reshape(dy as tf.Tensor, x.shape) }),
});

/** The module, with that backend. */
export async function openTensorflow(backend: 'wasm' | 'cpu'): Promise<typeof tf> {
  const wasm = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/package.json');
  wasmBackend.setWasmPaths(join(dirname(wasm), 'dist', '/'));
  if (!(await tf.setBackend(backend))) throw new Error(`TensorFlow.js has no backend ${backend}`);
  return tf;
}
