// The ops on [T], [N] and [G] arrays, which take microseconds: launched one by one, and replayed from a graph, where no
// launch waits for the host. Their arrays fit in the cache, where they also are in use: the kernel before just wrote them.
import {
  advantageObjectiveSync,
  type BackendName,
  groupInfoNCESync,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
} from '../../lib/index.js';
import { type KernelCall, type KernelName, RATIO_SCORE_KINDS } from '../../lib/kernels.js';
import { createProblem } from '../problems/data.js';
import { normError, requireWithin } from '../problems/float64.js';
import { evenOffsets } from '../problems/rollouts.js';
import type { Spread } from '../report/report.js';
import { spreadOf } from '../timing.js';
import { type Cuda, captureOne, timeKernel } from './device.js';
import { timeInRounds } from './rounds.js';
import type { CudaSettings, SmallShape } from './settings.js';

/** Times in microseconds. */
export interface SmallRow {
  readonly op: string;
  readonly error: number;
  readonly launched: Spread;
  readonly graph: Spread;
}

export interface SmallResult {
  readonly shape: SmallShape;
  readonly rows: SmallRow[];
}

interface SmallOp {
  readonly op: string;
  readonly kernel: KernelName;
  run(backend: BackendName): object;
}

const GROUP = 8;
const TOLERANCE = 1e-6;

/** Every number of a result, side by side. */
function numbersOf(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  if (ArrayBuffer.isView(value)) return Array.from(value as Float64Array);
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(numbersOf) : [];
}

/** The largest error of any array of a result. */
function resultError(result: object, exact: object): number {
  const got = Object.values(result).map(numbersOf);
  return Math.max(...Object.values(exact).map((value, k) => normError(got[k], numbersOf(value))));
}

function smallBatch({ sequences, tokens }: SmallShape, seed: number) {
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

function smallOps(shape: SmallShape, seed: number): SmallOp[] {
  const batch = smallBatch(shape, seed);
  const { cuSeqlens, cuGroups, rewards, advantages, gradScores, logProbs } = batch;
  const { scores, tokenCounts } = sequenceLogProbsSync({ logProbs, cuSeqlens }, { backend: 'reference' });
  const sided = { ...batch, sides: advantages };
  const { scoreGrads } = ratioScoresSync(sided, { score: { kind: 'ratio' }, backend: 'reference' });
  return [
    {
      op: 'sequenceLogProbs',
      kernel: 'sequenceLogProbsForward',
      run: (backend) => sequenceLogProbsSync(batch, { backend }),
    },
    {
      op: 'sequenceLogProbsBackward',
      kernel: 'sequenceLogProbsBackward',
      run: (backend) => sequenceLogProbsBackwardSync({ gradScores, tokenCounts, cuSeqlens }, { backend }),
    },
    ...RATIO_SCORE_KINDS.map((kind): SmallOp => {
      const inputs = /^k[123]$/.test(kind) ? batch : sided; // the KL estimators have no clip, and so take no sides
      const run = (backend: BackendName) => ratioScoresSync(inputs, { score: { kind }, backend });
      return { op: `ratioScores ${kind}`, kernel: 'ratioScoresForward', run };
    }),
    {
      op: 'ratioScoresBackward',
      kernel: 'ratioScoresBackward',
      run: (backend) => ratioScoresBackwardSync({ gradScores, scoreGrads, cuSeqlens }, { backend }),
    },
    {
      op: 'groupInfoNCE',
      kernel: 'groupInfoNCE',
      run: (backend) => groupInfoNCESync({ scores, rewards, cuGroups }, { backend }),
    },
    {
      op: 'advantageObjective',
      kernel: 'advantageObjective',
      run: (backend) => advantageObjectiveSync({ scores, advantages, tokenCounts }, { backend }),
    },
  ];
}

/** Runs an op on the device, and checks it against the reference backend, which is float64 and written independently. */
function checkedCall(cuda: Cuda, { op, kernel, run }: SmallOp): { op: string; error: number; call: KernelCall } {
  const { result, call } = captureOne(cuda, kernel, () => run('cuda'));
  const error = resultError(result, run('reference'));
  requireWithin(op, error, TOLERANCE);
  return { op, error, call };
}

export async function measureSmallOps(
  cuda: Cuda,
  shape: SmallShape,
  { seed, repeats, smallInner }: CudaSettings,
): Promise<SmallResult> {
  const ops = smallOps(shape, seed).map((op) => checkedCall(cuda, op));
  const microseconds = (call: KernelCall, asGraph: boolean) => () => 1e3 * timeKernel(cuda, call, smallInner, asGraph);
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
