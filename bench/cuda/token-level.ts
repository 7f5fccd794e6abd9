// The token-level kernels on one shape, beside a copy of the same bytes in the same rounds.
import { tokenLogProbsBackwardSync, tokenLogProbsSync } from 'rlvr-kernels';
import { spreadOf } from '../../dist/bench/timing.js';
import { captureKernels, timeCopy, timeKernel } from './device.mjs';
import { checkGradient, checkValues, requireNonZero } from './problem.mjs';

/**
 * @typedef {import('./device.mjs').Cuda} Cuda
 * @typedef {import('./device.mjs').KernelCall} KernelCall
 * @typedef {import('./problem.mjs').CudaProblem} CudaProblem
 * @typedef {import('../../dist/bench/report/report.js').Spread} Spread
 * @typedef {object} Timed what takes part in the rounds
 * @property {string} by
 * @property {string} op
 * @property {number} bytes it must move, both ways counted
 * @property {number | null} error relative, against float64
 * @property {() => number} time milliseconds
 * @typedef {object} CudaRow
 * @property {string} by
 * @property {string} op
 * @property {number | null} error
 * @property {Spread} milliseconds
 * @property {number} gigabytesPerSecond
 * @property {number} percentOfCopy of the copy's bytes per second in the same rounds
 */

const BY = 'rlvr-kernels';

/** The one kernel that `call` runs. @template T @param {Cuda} cuda @param {string} kernel @param {() => T} call */
export function captureOne(cuda, kernel, call) {
  const { result, calls } = captureKernels(cuda, call);
  const [captured] = calls;
  if (calls.length === 1 && captured.kernel === kernel) return { result, call: captured };
  throw new Error(`expected ${kernel}, got ${calls.map((one) => one.kernel).join(', ') || 'no kernel'}`);
}

/** @param {Cuda} cuda @param {CudaProblem} problem @param {boolean} entropy @param {number} inner */
function forward(cuda, problem, entropy, inner) {
  const { logits, targets, bytes } = problem;
  const op = entropy ? 'forward with entropy' : 'forward';
  const run = () => tokenLogProbsSync({ logits, targets }, { entropy });
  const { result, call } = captureOne(cuda, 'tokenLogProbsForward', run);
  const errors = [checkValues(op, result.logProbs, problem.logProbs)];
  if (entropy) errors.push(checkValues(`${op}: entropy`, result.entropy ?? [], problem.entropy));
  /** @type {Timed} */
  const timed = { by: BY, op, bytes, error: Math.max(...errors), time: () => timeKernel(cuda, call, inner) };
  return { timed, logSumExp: result.logSumExp };
}

/**
 * @param {Cuda} cuda @param {CudaProblem} problem @param {Float64Array} logSumExp
 * @param {'in place' | 'second array'} where @param {number} inner
 * @returns {{ timed: Timed, call: KernelCall }}
 */
function backward(cuda, problem, logSumExp, where, inner) {
  const { logits, work, out, targets, upstream, bytes } = problem;
  const [from, to] = where === 'in place' ? [work, work] : [logits, out];
  const op = where === 'in place' ? 'backward in place' : 'backward, second array';
  const run = () =>
    tokenLogProbsBackwardSync(
      { logits: from, targets, logSumExp, gradLogProbs: upstream },
      { gradient: where === 'in place' ? 'in-place' : { out: to } },
    );
  const { call } = captureOne(cuda, 'tokenLogProbsBackward', run);
  const error = checkGradient(op, problem, to, upstream);
  return { timed: { by: BY, op, bytes: 2 * bytes, error, time: () => timeKernel(cuda, call, inner) }, call };
}

/**
 * In place, every run eats the last one's gradient, and several runs in a row cannot be restored between. The gradient of
 * a gradient is finite and, since no upstream gradient is 0, not zero; and the kernel has no branch on a value. What
 * remains is that such values are alike and switch fewer bits. The last contender shows how much that does: the backward
 * pass to a second array from eaten logits, which should take as long as from random ones.
 * @param {Cuda} cuda @param {CudaProblem} problem @param {number} inner @returns {Timed[]}
 */
export function tokenLevelContenders(cuda, problem, inner) {
  const { logits, work, out, bytes } = problem;
  const copy = () => timeCopy(cuda, out, logits, bytes, inner);
  const plain = forward(cuda, problem, false, inner);
  const withEntropy = forward(cuda, problem, true, inner);
  const inPlace = backward(cuda, problem, plain.logSumExp, 'in place', inner);
  const second = backward(cuda, problem, plain.logSumExp, 'second array', inner);
  const eatenLogits = /** @type {{ logits: unknown }} */ (inPlace.call.args).logits;
  const eaten = /** @type {KernelCall} */ ({ ...second.call, args: { ...second.call.args, logits: eatenLogits } });
  timeKernel(cuda, inPlace.call, 2); // `work` holds from now on what in-place runs leave
  requireNonZero('in place, again and again', work);
  return [
    { by: 'device', op: 'copy', bytes: 2 * bytes, error: null, time: copy },
    plain.timed,
    withEntropy.timed,
    inPlace.timed,
    second.timed,
    { ...second.timed, op: 'the same, from eaten logits', time: () => timeKernel(cuda, eaten, inner) },
  ];
}

/**
 * Rounds in which each contender has a turn, in an order that shifts from round to round.
 * @param {readonly { time(): number | Promise<number> }[]} contenders @param {number} repeats
 * @returns {Promise<number[][]>} the times of each contender
 */
export async function timeInRounds(contenders, repeats) {
  /** @type {number[][]} */
  const times = contenders.map(() => []);
  for (let round = -1; round < repeats; ++round) {
    for (let k = 0; k < contenders.length; ++k) {
      const who = (k + round + 1) % contenders.length;
      const time = await contenders[who].time();
      if (round >= 0) times[who].push(time); // the first round warms up
    }
  }
  return times;
}

/** @param {Timed[]} contenders the copy first @param {number} repeats @returns {Promise<CudaRow[]>} */
export async function measureRows(contenders, repeats) {
  const times = await timeInRounds(contenders, repeats);
  const spreads = times.map(spreadOf);
  const rate = (/** @type {number} */ k) => contenders[k].bytes / (spreads[k].median / 1e3) / 1e9;
  return contenders.map(({ by, op, error }, k) => ({
    by,
    op,
    error,
    milliseconds: spreads[k],
    gigabytesPerSecond: rate(k),
    percentOfCopy: (100 * rate(k)) / rate(0),
  }));
}
