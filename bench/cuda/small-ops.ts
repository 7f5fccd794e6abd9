// The ops on [T], [N] and [G] arrays, which take microseconds: launched one by one, and replayed from a graph, where no
// launch waits for the host. Their arrays fit in the cache, and in use come from it too: the kernel before just wrote them.
import {
  advantageObjectiveSync,
  groupInfoNCESync,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
} from 'rlvr-kernels';
import { createProblem } from '../../dist/bench/problems/data.js';
import { normError, requireWithin } from '../../dist/bench/problems/float64.js';
import { evenOffsets } from '../../dist/bench/problems/rollouts.js';
import { spreadOf } from '../../dist/bench/timing.js';
import { RATIO_SCORE_CODES } from '../../dist/lib/kernels.js';
import { timeKernel } from './device.mjs';
import { captureOne, timeInRounds } from './token-level.mjs';

/**
 * @typedef {import('./device.mjs').Cuda} Cuda
 * @typedef {import('./device.mjs').KernelCall} KernelCall
 * @typedef {import('../../cli/dev/cuda-options.mjs').SmallShape} SmallShape
 * @typedef {import('../../dist/bench/report/report.js').Spread} Spread
 * @typedef {import('rlvr-kernels').BackendName} BackendName
 * @typedef {'ratio' | 'clippedRatio'} RatioKind
 * @typedef {{ op: string, error: number, launched: Spread, graph: Spread }} SmallRow times in microseconds
 * @typedef {{ op: string, error: number, call: KernelCall }} SmallOp
 */

const GROUP = 8;
const TOLERANCE = 1e-6;

/** Every number of a result, side by side. @param {unknown} value @returns {number[]} */
function numbersOf(value) {
  if (typeof value === 'number') return [value];
  if (ArrayBuffer.isView(value)) return Array.from(/** @type {Float64Array} */ (value));
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(numbersOf) : [];
}

/** The largest error of any array of a result. @param {object} result @param {object} exact */
function resultError(result, exact) {
  const got = Object.values(result).map(numbersOf);
  return Math.max(...Object.values(exact).map((value, k) => normError(got[k], numbersOf(value))));
}

/** @param {SmallShape} shape @param {number} seed */
function smallBatch({ sequences, tokens }, seed) {
  const { upstream } = createProblem({ tokens: 2 * tokens + 2 * sequences, vocab: 1 }, seed);
  const oldLogProbs = upstream.slice(0, tokens).map((x) => -2 - Math.abs(x));
  return {
    cuSeqlens: evenOffsets(tokens, sequences),
    cuGroups: evenOffsets(sequences, Math.max(1, Math.floor(sequences / GROUP))),
    rewards: Float64Array.from({ length: sequences }, (_, i) => (i + 1) % 2),
    oldLogProbs,
    logProbs: oldLogProbs.map((x, t) => x + 0.2 * upstream[tokens + t]), // some ratios are clipped
    advantages: upstream.slice(2 * tokens, 2 * tokens + sequences),
    gradScores: upstream.slice(2 * tokens + sequences),
  };
}

/**
 * Every op, run on the device and checked against the reference backend, which is float64 and written apart.
 * @param {Cuda} cuda @param {SmallShape} shape @param {number} seed @returns {SmallOp[]}
 */
function smallOps(cuda, shape, seed) {
  const batch = smallBatch(shape, seed);
  const { cuSeqlens, cuGroups, rewards, advantages, gradScores, logProbs } = batch;
  const { scores, tokenCounts } = sequenceLogProbsSync({ logProbs, cuSeqlens }, { backend: 'reference' });
  const kinds = /** @type {RatioKind[]} */ (Object.keys(RATIO_SCORE_CODES));
  const sides = advantages;
  const { scoreGrads } = ratioScoresSync({ ...batch, sides }, { score: { kind: 'ratio' }, backend: 'reference' });
  /** @type {[op: string, kernel: string, run: (backend: BackendName) => object][]} */
  const ops = [
    ['sequenceLogProbs', 'sequenceLogProbsForward', (backend) => sequenceLogProbsSync(batch, { backend })],
    [
      'sequenceLogProbsBackward',
      'sequenceLogProbsBackward',
      (backend) => sequenceLogProbsBackwardSync({ gradScores, tokenCounts, cuSeqlens }, { backend }),
    ],
    ...kinds.map((kind) => {
      // Sides clip those kinds that have a clip; the KL estimators take none.
      const inputs = /^k[123]$/.test(kind) ? { ...batch, sides: undefined } : { ...batch, sides };
      const run = (/** @type {BackendName} */ backend) => ratioScoresSync(inputs, { score: { kind }, backend });
      return /** @type {[string, string, typeof run]} */ ([`ratioScores ${kind}`, 'ratioScoresForward', run]);
    }),
    [
      'ratioScoresBackward',
      'ratioScoresBackward',
      (backend) => ratioScoresBackwardSync({ gradScores, scoreGrads, cuSeqlens }, { backend }),
    ],
    ['groupInfoNCE', 'groupInfoNCE', (backend) => groupInfoNCESync({ scores, rewards, cuGroups }, { backend })],
    [
      'advantageObjective',
      'advantageObjective',
      (backend) => advantageObjectiveSync({ scores, advantages, tokenCounts }, { backend }),
    ],
  ];
  return ops.map(([op, kernel, run]) => {
    const { result, call } = captureOne(cuda, kernel, () => run('cuda'));
    const error = resultError(result, run('reference'));
    requireWithin(op, error, TOLERANCE);
    return { op, error, call };
  });
}

/**
 * @param {Cuda} cuda @param {SmallShape} shape
 * @param {{ seed: number, repeats: number, smallInner: number }} options
 * @returns {Promise<{ shape: SmallShape, rows: SmallRow[] }>}
 */
export async function measureSmallOps(cuda, shape, { seed, repeats, smallInner }) {
  const ops = smallOps(cuda, shape, seed);
  const microseconds = (/** @type {KernelCall} */ call, /** @type {boolean} */ asGraph) => () =>
    1e3 * timeKernel(cuda, call, smallInner, asGraph);
  const contenders = ops.flatMap(({ call }) => [
    { time: microseconds(call, false) },
    { time: microseconds(call, true) },
  ]);
  const times = await timeInRounds(contenders, repeats);
  const rows = ops.map(({ op, error }, k) => ({
    op,
    error,
    launched: spreadOf(times[2 * k]),
    graph: spreadOf(times[2 * k + 1]),
  }));
  return { shape, rows };
}
