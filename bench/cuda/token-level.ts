// The token-level kernels on one shape, timed in the same rounds as a copy of the same bytes.
import { tokenLogProbsBackwardSync, tokenLogProbsSync } from '../../lib/index.js';
import type { KernelCall } from '../../lib/kernels.js';
import type { Spread } from '../report/report.js';
import { spreadOf } from '../timing.js';
import { type Cuda, captureOne, timeCopy, timeKernel } from './device.js';
import { type CudaProblem, checkGradient, checkValues, requireNonZero } from './problem.js';
import { timeInRounds } from './rounds.js';

/** What takes part in the rounds. */
interface Timed {
  readonly by: string;
  readonly op: string;
  /** It must move these, both ways counted. */
  readonly bytes: number;
  /** Relative, against float64. */
  readonly error: number | null;
  /** Milliseconds. */
  time(): number;
}

export interface CudaRow {
  readonly by: string;
  readonly op: string;
  readonly error: number | null;
  readonly milliseconds: Spread;
  readonly gigabytesPerSecond: number;
  /** Of the copy's bytes per second in the same rounds. */
  readonly percentOfCopy: number;
}

const BY = 'rlvr-kernels';

function forward(
  cuda: Cuda,
  problem: CudaProblem,
  entropy: boolean,
  inner: number,
): { timed: Timed; logSumExp: Float64Array } {
  const { logits, targets, bytes } = problem;
  const op = entropy ? 'forward with entropy' : 'forward';
  const run = () => tokenLogProbsSync({ logits, targets }, { entropy });
  const { result, call } = captureOne(cuda, 'tokenLogProbsForward', run);
  const errors = [checkValues(op, result.logProbs, problem.logProbs)];
  if (entropy) errors.push(checkValues(`${op}: entropy`, result.entropy ?? [], problem.entropy));
  const timed = { by: BY, op, bytes, error: Math.max(...errors), time: () => timeKernel(cuda, call, inner) };
  return { timed, logSumExp: result.logSumExp };
}

function backward(
  cuda: Cuda,
  problem: CudaProblem,
  logSumExp: Float64Array,
  where: 'in place' | 'second array',
  inner: number,
): { timed: Timed; call: KernelCall } {
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

/** The call on the logits of another one. */
function onLogitsOf(other: KernelCall, call: KernelCall): KernelCall {
  if (call.kernel !== 'tokenLogProbsBackward' || other.kernel !== call.kernel) throw new Error('not a backward pass');
  return { ...call, args: { ...call.args, logits: other.args.logits } };
}

/**
 * In place, every run overwrites the gradient of the run before, and the logits cannot be restored between several runs in
 * a row. The gradient of a gradient is finite and, since no upstream gradient is 0, not zero; and the kernel has no branch
 * on a value. What remains is that such values are alike and switch fewer bits. The last contender shows how much that
 * matters: the backward pass to a second array from overwritten logits, which should take as long as from random ones.
 */
export function tokenLevelContenders(cuda: Cuda, problem: CudaProblem, inner: number): Timed[] {
  const { logits, work, out, bytes } = problem;
  const copy = () => timeCopy(cuda, out, logits, bytes, inner);
  const plain = forward(cuda, problem, false, inner);
  const withEntropy = forward(cuda, problem, true, inner);
  const inPlace = backward(cuda, problem, plain.logSumExp, 'in place', inner);
  const second = backward(cuda, problem, plain.logSumExp, 'second array', inner);
  const eaten = onLogitsOf(inPlace.call, second.call);
  timeKernel(cuda, inPlace.call, 2); // from now on `work` holds what in-place runs leave
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

/** The copy comes first among the contenders. */
export async function measureRows(contenders: readonly Timed[], repeats: number): Promise<CudaRow[]> {
  const times = await timeInRounds(contenders, repeats);
  const spreads = times.map(spreadOf);
  const rate = (k: number) => contenders[k].bytes / (spreads[k].median / 1e3) / 1e9;
  return contenders.map(({ by, op, error }, k) => ({
    by,
    op,
    error,
    milliseconds: spreads[k],
    gigabytesPerSecond: rate(k),
    percentOfCopy: (100 * rate(k)) / rate(0),
  }));
}
