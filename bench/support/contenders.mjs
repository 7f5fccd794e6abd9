// The ops of this package, through its public functions, and the memory yardsticks of its addon.
import { tokenLogProbsBackwardSync, tokenLogProbsSync } from 'rlvr-kernels';
import { allFinite, bytesPerElement, roundTo, slotCopies, widen } from './data.mjs';
import { gradientError, requireWithin, truthOf, valueError, WrongResult } from './float64.mjs';

/**
 * @typedef {import('./data.mjs').DType} DType
 * @typedef {import('./data.mjs').HostTensor} HostTensor
 * @typedef {import('./data.mjs').Problem} Problem
 * @typedef {import('./float64.mjs').RowTruth} RowTruth
 * @typedef {import('./timing.mjs').Contender} Contender
 * @typedef {import('../../dist/backend/native.js').Addon} Addon
 * @typedef {object} Arrays the [T, V] arrays of one dtype, one per slot
 * @property {DType} dtype
 * @property {RowTruth[]} truth
 * @property {HostTensor[]} logits
 * @property {HostTensor[]} work the logits again; backward in place eats them, `restore` brings them back
 * @property {HostTensor[]} out
 */

/** Spec section 8. */
const TOLERANCE = { value: 1e-6, gradient: { f32: 2e-6, bf16: 4e-3, f16: 5e-4 } };
const BY = 'rlvr-kernels';

/** @param {Problem} problem @param {DType} dtype @returns {Arrays} */
export function createArrays(problem, dtype) {
  const source = roundTo(problem.logits, dtype);
  return {
    dtype,
    truth: truthOf(problem, dtype, source),
    logits: slotCopies(problem, dtype, source),
    work: slotCopies(problem, dtype, source),
    out: slotCopies(problem, dtype, source),
  };
}

/** @param {Problem} problem @param {Arrays} arrays */
function common({ shape: { tokens, vocab } }, { dtype }) {
  return { by: BY, dtype, bytes: tokens * vocab * bytesPerElement(dtype) };
}

/** @param {Problem} problem @param {Arrays} arrays @param {boolean} entropy @returns {Contender} */
function forward(problem, arrays, entropy) {
  const run = (/** @type {number} */ slot) =>
    tokenLogProbsSync({ logits: arrays.logits[slot], targets: problem.targets }, { entropy });
  const op = entropy ? 'forward with entropy' : 'forward';
  return {
    ...common(problem, arrays),
    op,
    reads: 1,
    copies: 0,
    check() {
      const result = run(0);
      const errors = [valueError(result.logProbs, arrays.truth, 'logProb')];
      if (entropy) errors.push(valueError(result.entropy ?? [], arrays.truth, 'entropy'));
      for (const error of errors) requireWithin(`${op} ${arrays.dtype}`, error, TOLERANCE.value);
      return Math.max(...errors);
    },
    run,
  };
}

/** @param {Problem} problem @param {Arrays} arrays @param {HostTensor} gradient */
function checkGradient({ shape: { vocab } }, { dtype, truth }, { data }) {
  if (!allFinite(data, dtype)) throw new WrongResult(`gradient ${dtype}: not finite`);
  const error = gradientError((row) => widen(data, dtype, row * vocab, (row + 1) * vocab), truth);
  requireWithin(`gradient ${dtype}`, error, TOLERANCE.gradient[dtype]);
  return error;
}

/** @param {Problem} problem @param {Arrays} arrays @param {boolean} inPlace @returns {Contender} */
function backward(problem, arrays, inPlace) {
  const { targets, upstream: gradLogProbs } = problem;
  const { logSumExp } = tokenLogProbsSync({ logits: arrays.logits[0], targets });
  const from = inPlace ? arrays.work : arrays.logits;
  const to = inPlace ? arrays.work : arrays.out;
  const run = (/** @type {number} */ slot) =>
    tokenLogProbsBackwardSync(
      { logits: from[slot], targets, logSumExp, gradLogProbs },
      { gradient: inPlace ? 'in-place' : { out: to[slot] } },
    );
  const restore = inPlace ? restoring(arrays) : undefined;
  return {
    ...common(problem, arrays),
    op: inPlace ? 'backward in place' : 'backward, second array',
    reads: 0,
    copies: 1,
    check() {
      run(0);
      const error = checkGradient(problem, arrays, to[0]);
      restore?.(0);
      return error;
    },
    run,
    restore,
  };
}

/** @param {Arrays} arrays @returns {(slot: number) => void} */
function restoring({ work, logits }) {
  return (slot) => work[slot].data.set(logits[slot].data);
}

/** @param {Problem} problem @param {Arrays} arrays @returns {Contender} */
function forwardBackward(problem, arrays) {
  const { targets, upstream: gradLogProbs } = problem;
  const restore = restoring(arrays);
  const run = (/** @type {number} */ slot) => {
    const logits = arrays.work[slot];
    const { logSumExp } = tokenLogProbsSync({ logits, targets });
    tokenLogProbsBackwardSync({ logits, targets, logSumExp, gradLogProbs }, { gradient: 'in-place' });
  };
  return {
    ...common(problem, arrays),
    op: 'forward + backward',
    reads: 1,
    copies: 1,
    check() {
      run(0);
      const error = checkGradient(problem, arrays, arrays.work[0]);
      restore(0);
      return error;
    },
    run,
    restore,
  };
}

/** @param {Problem} problem @param {Arrays} arrays @returns {Contender[]} */
export function ownContenders(problem, arrays) {
  return [
    forward(problem, arrays, false),
    forward(problem, arrays, true),
    backward(problem, arrays, true),
    backward(problem, arrays, false),
    forwardBackward(problem, arrays),
  ];
}

/** @param {HostTensor} tensor */
const asBytes = ({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/**
 * Reading a [T, V] array with all threads, and copying one to another: what no kernel can beat by much.
 * @param {Problem} problem @param {Arrays} arrays @param {Addon} addon @returns {Contender[]}
 */
export function yardsticks(problem, arrays, addon) {
  const shared = { ...common(problem, arrays), by: 'memory', check: () => null };
  const sources = arrays.logits.map(asBytes);
  const destinations = arrays.out.map(asBytes);
  const { bytes } = shared;
  return [
    { ...shared, op: 'read', reads: 1, copies: 0, run: (k) => addon.readMemory({ source: sources[k], bytes }) },
    {
      ...shared,
      op: 'copy',
      reads: 0,
      copies: 1,
      run: (k) => addon.copyMemory({ source: sources[k], destination: destinations[k], bytes }),
    },
  ];
}
