// TensorFlow.js on its wasm backend (SIMD; in Node it runs on one thread), in this process. Its tensors live in the memory of
// the wasm module: the logits are copied there beforehand, untimed.
import { createRequire } from 'node:module';
import { forwardContender } from './contender.mjs';

/**
 * @typedef {import('./contender.mjs').Contender} Contender
 * @typedef {import('./contender.mjs').Peer} Peer
 * @typedef {import('./contender.mjs').HostArrays} HostArrays
 */

const NAME = 'TensorFlow.js';
const PACKAGES = { core: '@tensorflow/tfjs-core', wasm: '@tensorflow/tfjs-backend-wasm' };
const THREADS = 1;
/** It sums a row in float32 term after term: at 151936 of them its error is just above 1e-5. */
const TOLERANCE = 1e-4;

/** @returns {Promise<Peer>} */
export async function openTensorflow() {
  const require = createRequire(import.meta.url);
  const tf = require(PACKAGES.core); // throws where it is not installed
  require(PACKAGES.wasm);
  await tf.setBackend('wasm');
  await tf.ready();
  /** @type {any[]} */
  let tensors = [];
  const release = () => {
    for (const tensor of tensors) tensor.dispose();
    tensors = [];
  };
  return {
    version: `${tf.version_core} wasm`,
    async contenders(arrays) {
      release();
      const { tokens, vocab } = arrays.problem.shape;
      const logits = arrays.logits.map(({ data }) => tf.tensor2d(/** @type {Float32Array} */ (data), [tokens, vocab]));
      const places = Int32Array.from({ length: 2 * tokens }, (_, k) =>
        k % 2 ? arrays.problem.targets[k >> 1] : k >> 1,
      );
      const targets = tf.tensor2d(places, [tokens, 2], 'int32'); // its gather with batch dimensions fails on large arrays
      for (const tensor of logits) tensor.dataSync(); // it is there, not only promised
      tensors = [...logits, targets];
      return contendersOf(tf, arrays, logits, targets);
    },
    cpuSeconds: async () => 0, // in this process
    close: async () => release(),
  };
}

/** @param {any} tf @param {HostArrays} arrays @param {any[]} logits @param {any} targets @returns {Contender[]} */
function contendersOf(tf, arrays, logits, targets) {
  const gather = (/** @type {any} */ x) => tf.gatherND(x, targets);
  /** @type {Record<string, (x: any) => any>} */
  const ops = {
    forward: (x) => gather(tf.logSoftmax(x, -1)),
    'forward by logsumexp': (x) => tf.sub(gather(x), tf.logSumExp(x, -1)),
  };
  return Object.entries(ops).map(([op, f]) => {
    const run = (/** @type {number} */ slot) => tf.tidy(() => f(logits[slot]).dataSync());
    return forwardContender(arrays, { by: NAME, op, threads: THREADS, run }, async () => run(0), TOLERANCE);
  });
}
