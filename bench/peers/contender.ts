// What the contenders of all peers have in common.
import { gradientError, requireWithin, valueError } from '../../dist/bench/problems/float64.js';

/**
 * @typedef {import('../../dist/bench/problems/arrays.js').HostArrays} HostArrays
 * @typedef {import('../../dist/bench/peer.js').Peer} Peer
 * @typedef {import('../../dist/bench/timing.js').Contender} Contender
 * @typedef {{ by: string, op: string, threads: number, run: Contender['run'] }} Call
 */

/** They sum in float32. */
const TOLERANCE = 1e-5;

/** @param {HostArrays} arrays @param {Call} call @returns {Omit<Contender, 'moves' | 'check'>} */
function common({ problem: { shape }, slots }, call) {
  return { section: 'token', backend: null, dtype: 'f32', shape, memoryBound: true, slots, ...call };
}

/**
 * @param {HostArrays} arrays @param {Call} call
 * @param {() => Promise<ArrayLike<number>>} logProbs of all rows, from the first slot
 * @param {number} [tolerance]
 * @returns {Contender}
 */
export function forwardContender(arrays, call, logProbs, tolerance = TOLERANCE) {
  return {
    ...common(arrays, call),
    moves: { read: arrays.bytes, copied: 0 },
    async check() {
      const error = valueError(await logProbs(), arrays.truth, 'logProb');
      requireWithin(`${call.by} ${call.op}`, error, tolerance);
      return error;
    },
  };
}

/**
 * @param {HostArrays} arrays @param {Call} call
 * @param {(rows: number[]) => Promise<ArrayLike<number>[]>} gradientRows from the first slot; throws if any is not finite
 * @returns {Contender}
 */
export function forwardBackwardContender(arrays, call, gradientRows) {
  return {
    ...common(arrays, call),
    moves: { read: arrays.bytes, copied: arrays.bytes },
    async check() {
      const rows = arrays.truth.map(({ row }) => row);
      const gradients = await gradientRows(rows);
      const error = gradientError((row) => gradients[rows.indexOf(row)], arrays.truth);
      requireWithin(`${call.by} ${call.op}`, error, TOLERANCE);
      return error;
    },
  };
}
