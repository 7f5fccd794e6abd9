// Whole losses from logits, the gradient in place of the logits, beside the token level alone in the same rounds.
import * as api from '../../lib/index.js';
import { finiteRows, type TokenArrays } from '../problems/arrays.js';
import { exactLogProbs, gradientError, requireWithin, truthOf, WrongResult } from '../problems/float64.js';
import { type Lengths, rolloutsOfTokens } from '../problems/rollouts.js';
import type { Contender } from '../timing.js';
import { ownIdentity, type Setting, TOLERANCE, tokenContenders } from './token-level.js';

export interface LossCallOptions {
  readonly gradient?: 'in-place';
  readonly backend: api.BackendName;
}

/** A loss as the benchmark calls it: a batch with log-probs of the old policy, and rewards in groups. */
export type LossFunction = (
  batch: api.Batch & { oldLogProbs: Float64Array },
  options: LossCallOptions,
) => { loss: number; gradLogProbs?: api.FloatArray };

/** With tau 1 no score is so far ahead that its gradient is 0: such rows are not read. */
export const LOSSES = {
  conspo: (batch, options) => api.conspoSync(batch, { tau: 1, ...options }),
  grpo: (batch, options) => api.grpoSync(batch, options),
  dapo: (batch, options) => api.dapoSync(batch, options),
  bnpo: (batch, options) => api.bnpoSync(batch, options),
  drGrpo: (batch, options) => api.drGrpoSync(batch, { maxLength: 1024, ...options }),
  gspo: (batch, options) => api.gspoSync(batch, options),
  gmpo: (batch, options) => api.gmpoSync(batch, options),
  cispo: (batch, options) => api.cispoSync(batch, options),
  sapo: (batch, options) => api.sapoSync(batch, options),
  disco: (batch, options) => api.discoSync(batch, options),
} satisfies Record<string, LossFunction>;

export const DEFAULT_LOSSES: readonly (keyof typeof LOSSES)[] = ['conspo', 'grpo'];
export const TOKEN_LEVEL_ALONE = 'token level alone';

/** Ratios so near 1 that no loss clips any: a clipped token's row is not read either. */
const STEP = 1e-4;

export interface LossBatchOptions {
  readonly lengths: Lengths;
  readonly groupSize: number;
  readonly seed: number;
}

export function lossContenders(
  arrays: TokenArrays,
  setting: Setting,
  losses: Readonly<Record<string, LossFunction>>,
  { lengths, groupSize, seed }: LossBatchOptions,
): Contender[] {
  const { problem, dtype } = arrays;
  const logProbs = exactLogProbs(problem, dtype, arrays.source);
  const rollouts = {
    ...rolloutsOfTokens(problem.shape.tokens, lengths, groupSize, seed),
    oldLogProbs: logProbs.map((logProb, t) => logProb + STEP * Math.sin(t)),
  };
  const sequences = rollouts.rewards.length;
  const shape = { ...setting.shape, sequences, groupSize: Math.round(sequences / (rollouts.cuGroups.length - 1)) };
  const own = { ...setting, shape };
  return [
    ...tokenContenders(arrays, own, ['forward', 'backward in place']),
    ...tokenContenders(arrays, own, ['forward + backward']).map((one) => ({ ...one, op: TOKEN_LEVEL_ALONE })),
    ...Object.entries(losses).map(([op, loss]) =>
      lossContender(arrays, own, op, loss, { ...rollouts, logProbs, targets: problem.targets }),
    ),
  ];
}

type LossBatch = ReturnType<typeof rolloutsOfTokens> & {
  oldLogProbs: Float64Array;
  logProbs: Float64Array;
  targets: Int32Array;
};

/** Checked against the reference backend's value and token weights on exact log-probs, and against exact logit gradients. */
function lossContender(
  arrays: TokenArrays,
  setting: Setting,
  op: string,
  loss: LossFunction,
  { logProbs, targets, ...rollouts }: LossBatch,
): Contender {
  const { problem, dtype, bytes, slots, restore } = arrays;
  const { backend } = setting;
  const run = (slot: number) => {
    const result = loss({ ...rollouts, logits: arrays.work[slot], targets }, { gradient: 'in-place', backend });
    arrays.settle();
    return result;
  };
  const name = `${op} ${dtype}, ${backend}`;
  const check = () => {
    const expected = loss({ ...rollouts, logProbs }, { backend: 'reference' });
    const upstream = Float64Array.from(expected.gradLogProbs ?? []);
    if (upstream.includes(0)) throw new WrongResult(`${name}: rows without a gradient, which are not read`);
    const { loss: value } = run(0);
    // Near 0 a loss is a difference of larger terms: its error is against them.
    requireWithin(`${name}: loss`, Math.abs(value - expected.loss) / Math.max(1, Math.abs(expected.loss)), 1e-6);
    const truth = truthOf({ ...problem, upstream }, dtype, arrays.source);
    const error = gradientError(finiteRows(arrays, arrays.gradient('work', 0), name), truth);
    requireWithin(`${name}: gradient`, error, TOLERANCE.gradient[dtype]);
    restore(0);
    return error;
  };
  const moves = { read: bytes, copied: bytes };
  return { ...ownIdentity(setting), op, dtype, slots, memoryBound: true, moves, check, run, restore };
}
