// Whole losses from logits on the device: the wall time of a call, from its arguments until the loss is on the host and the
// gradient in place of the logits. token-level.ts checks the token level; here the loss and the gradient are checked,
// against the reference backend's loss of the exact log-probs.
import { conspo, conspoSync, grpo, grpoSync } from '../../lib/index.js';
import { normError, requireWithin } from '../problems/float64.js';
import { evenOffsets } from '../problems/rollouts.js';
import type { Spread } from '../report/report.js';
import { spreadOf } from '../timing.js';
import { type Cuda, timeCopy } from './device.js';
import { type CudaProblem, checkGradient } from './problem.js';
import { timeInRounds } from './rounds.js';

export interface CudaLossRow {
  readonly op: string;
  readonly sequences: number;
  readonly groups: number;
  readonly error: number;
  readonly milliseconds: Spread;
  readonly gigabytesPerSecond: number;
}

const SEQUENCE_TOKENS = 128;
const GROUP = 8;
const TOLERANCE = 1e-6;

/** Half the rollouts of each group are verified; ratios are near 1, so that none is clipped and every row has a gradient. */
function batchOf({ shape: { tokens }, logProbs, targets, work }: CudaProblem) {
  const sequences = Math.max(2, Math.floor(tokens / SEQUENCE_TOKENS));
  const rollouts = {
    cuSeqlens: evenOffsets(tokens, sequences),
    cuGroups: evenOffsets(sequences, Math.max(1, Math.floor(sequences / GROUP))),
    rewards: Float32Array.from({ length: sequences }, (_, i) => (i + 1) % 2),
    oldLogProbs: logProbs.map((logProb, t) => logProb + 0.1 * Math.sin(t)),
  };
  return { rollouts, batch: { ...rollouts, logits: work, targets }, exact: { ...rollouts, logProbs } };
}

function lossContenders(cuda: Cuda, problem: CudaProblem) {
  const { rollouts, batch, exact } = batchOf(problem);
  const { logits, work, bytes } = problem;
  const restore = () => timeCopy(cuda, work, logits, bytes, 1);
  const losses = [
    {
      op: 'conspo',
      moves: 3, // 2R + 1W
      run: () => conspo(batch, { gradient: 'in-place' }),
      reference: () => conspoSync(exact, { backend: 'reference' }),
    },
    {
      op: 'grpo',
      moves: 2, // in one pass 1R + 1W
      run: () => grpo(batch, { gradient: 'in-place' }),
      reference: () => grpoSync(exact, { backend: 'reference' }),
    },
  ];
  return losses.map(({ op, moves, run, reference }) => {
    const call = async () => {
      restore();
      const start = performance.now();
      const { loss } = await run();
      cuda.device.synchronizeSync(); // the gradient is there too
      return { loss, elapsed: performance.now() - start };
    };
    const check = async () => {
      const { loss } = await call();
      const expected = reference();
      if (expected.gradLogProbs.includes(0)) throw new Error(`${op}: rows without a gradient, which are not read`);
      const error = normError([loss], [expected.loss]);
      requireWithin(`${op}: loss`, error, TOLERANCE);
      return Math.max(error, checkGradient(op, problem, work, expected.gradLogProbs));
    };
    const counts = { sequences: rollouts.rewards.length, groups: rollouts.cuGroups.length - 1 };
    return { op, moves, ...counts, check, time: async () => (await call()).elapsed };
  });
}

export async function measureLosses(cuda: Cuda, problem: CudaProblem, repeats: number): Promise<CudaLossRow[]> {
  const contenders = lossContenders(cuda, problem);
  const errors: number[] = [];
  for (const { check } of contenders) errors.push(await check());
  const times = await timeInRounds(contenders, repeats);
  return contenders.map(({ op, moves, sequences, groups }, k) => {
    const milliseconds = spreadOf(times[k]);
    const gigabytesPerSecond = (moves * problem.bytes) / (milliseconds.median / 1e3) / 1e9;
    return { op, sequences, groups, error: errors[k], milliseconds, gigabytesPerSecond };
  });
}
