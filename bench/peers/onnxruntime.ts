// onnxruntime-node, installed only when asked for (bench/README.md), on the logits arrays of this process.
import { createRequire } from 'node:module';
import { forwardContender } from './contender.mjs';
import { logSoftmaxModel } from './log-softmax-model.mjs';

/**
 * @typedef {import('./contender.mjs').Contender} Contender
 * @typedef {import('./contender.mjs').Peer} Peer
 * @typedef {import('./contender.mjs').HostArrays} HostArrays
 */

const NAME = 'onnxruntime-node';

/** @param {{ threads: number }} options @returns {Promise<Peer>} */
export async function openOnnxruntime({ threads }) {
  const require = createRequire(import.meta.url);
  const ort = require(NAME); // throws where it is not installed
  const session = await ort.InferenceSession.create(logSoftmaxModel(), {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
  });
  return {
    version: String(ort.env.versions?.node ?? 'unknown'),
    contenders: async (arrays) => [forward(ort, session, arrays, threads)],
    cpuSeconds: async () => 0, // its threads are this process's
    close: () => session.release(),
  };
}

/**
 * The input tensors wrap our arrays and are made beforehand: timed are the run and its [T, 1] result.
 * @param {any} ort @param {any} session @param {HostArrays} arrays @param {number} threads @returns {Contender}
 */
function forward(ort, session, arrays, threads) {
  const { tokens, vocab } = arrays.problem.shape;
  const ids = new ort.Tensor('int64', BigInt64Array.from(arrays.problem.targets, BigInt), [tokens, 1]);
  const feeds = arrays.logits.map(({ data }) => ({ x: new ort.Tensor('float32', data, [tokens, vocab]), i: ids }));
  const run = (/** @type {number} */ slot) => session.run(feeds[slot]);
  return forwardContender(arrays, { by: NAME, op: 'forward', threads, run }, async () => (await run(0)).y.data);
}
