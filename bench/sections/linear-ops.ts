// What the section `linear` measures of this package from hidden states, in its own process and, for the peak of the memory, in
// another (linear-peak.ts).
import { type BackendName, linearLogProbsBackwardSync, linearLogProbsSync } from '../../lib/index.js';
import type { LossName } from '../../lib/losses/list.js';
import type { LinearLayer, LossRollouts, Matrix, WantedGradients } from '../problems/linear.js';
import { LOSSES } from './loss-functions.js';

export interface LinearInputs extends Pick<LinearLayer, 'hidden' | 'weight'> {
  readonly targets: Int32Array;
  readonly upstream: Float64Array; // [T]
  readonly rollouts: LossRollouts;
}

/** Arrays for the gradients; without them they are new. */
export interface LinearGradients {
  readonly hidden: Matrix;
  readonly weight: Matrix;
}

interface LinearResult {
  readonly logProbs?: ArrayLike<number>; // [T]
  readonly loss?: number;
}

export interface LinearOp {
  readonly gradients: WantedGradients;
  /** Whose gradients to log-probs they begin with; else they are given. */
  readonly loss?: LossName;
  run(inputs: LinearInputs, backend: BackendName, gradients?: LinearGradients): LinearResult;
}

const place = (out: Matrix | undefined): 'new' | { out: Matrix } => (out ? { out } : 'new');

function backward(
  { hidden, weight, targets, upstream: gradLogProbs }: LinearInputs,
  backend: BackendName,
  gradients: LinearGradients | undefined,
  frozen: boolean,
): LinearResult {
  const layer = { hidden, weight, targets };
  const { logProbs, logSumExp } = linearLogProbsSync(layer, { backend });
  const inputs = { ...layer, logSumExp, gradLogProbs };
  const gradHidden = place(gradients?.hidden);
  const gradWeight = frozen ? 'none' : place(gradients?.weight);
  return { logProbs, ...linearLogProbsBackwardSync(inputs, { gradHidden, gradWeight, backend }) };
}

/** More than there are. */
const ALL_LOGITS = 2 ** 40;

function lossOp(loss: LossName, chunkBytes?: number): LinearOp {
  return {
    gradients: ['hidden', 'weight'],
    loss,
    run({ hidden, weight, targets, rollouts }, backend, gradients) {
      const places = { gradHidden: place(gradients?.hidden), gradWeight: place(gradients?.weight) };
      const batch = { hidden, weight, targets, ...rollouts };
      return LOSSES[loss](batch, { ...places, backend, ...(chunkBytes !== undefined && { chunkBytes }) });
    },
  };
}

export const LINEAR_OPS = {
  forward: {
    gradients: [],
    run: ({ hidden, weight, targets }, backend) => linearLogProbsSync({ hidden, weight, targets }, { backend }),
  },
  'forward + backward': {
    gradients: ['hidden', 'weight'],
    run: (inputs, backend, gradients) => backward(inputs, backend, gradients, false),
  },
  'the same, frozen head': {
    gradients: ['hidden'],
    run: (inputs, backend, gradients) => backward(inputs, backend, gradients, true),
  },
  conspo: lossOp('conspo'),
  'conspo, logits kept': lossOp('conspo', ALL_LOGITS),
  grpo: lossOp('grpo'),
  'grpo, logits kept': lossOp('grpo', ALL_LOGITS),
} satisfies Record<string, LinearOp>;

export type LinearOpName = keyof typeof LINEAR_OPS;

export const LINEAR_OP_NAMES = Object.keys(LINEAR_OPS) as LinearOpName[];
