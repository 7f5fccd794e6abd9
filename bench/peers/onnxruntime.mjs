// onnxruntime-node, installed only when asked for (bench/README.md), on the logits arrays of this process.
import { createRequire } from 'node:module';
import { requireWithin, valueError } from '../support/float64.mjs';
import { logSoftmaxModel } from './log-softmax-model.mjs';

/**
 * @typedef {import('../support/contenders.mjs').Arrays} Arrays
 * @typedef {import('../support/data.mjs').Problem} Problem
 * @typedef {import('../support/timing.mjs').Contender} Contender
 * @typedef {import('./peers.mjs').Peer} Peer
 */

const NAME = 'onnxruntime-node';
/** It sums in float32. */
const TOLERANCE = 1e-5;

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
    name: NAME,
    version: String(ort.env.versions?.node ?? 'unknown'),
    contenders: async (problem, arrays) => [forward(ort, session, problem, arrays)],
    cpuSeconds: async () => 0, // its threads are this process's
    close: () => session.release(),
  };
}

/**
 * The input tensors wrap our arrays and are made beforehand: timed are the run and its [T, 1] result.
 * @param {any} ort @param {any} session @param {Problem} problem @param {Arrays} arrays @returns {Contender}
 */
function forward(ort, session, { shape: { tokens, vocab }, targets }, { logits, truth }) {
  const ids = new ort.Tensor('int64', BigInt64Array.from(targets, BigInt), [tokens, 1]);
  const feeds = logits.map(({ data }) => ({ x: new ort.Tensor('float32', data, [tokens, vocab]), i: ids }));
  return {
    by: NAME,
    op: 'forward',
    dtype: 'f32',
    bytes: tokens * vocab * 4,
    reads: 1,
    copies: 0,
    async check() {
      const { y } = await session.run(feeds[0]);
      const error = valueError(y.data, truth, 'logProb');
      requireWithin(`${NAME} forward`, error, TOLERANCE);
      return error;
    },
    run: (slot) => session.run(feeds[slot]),
  };
}
