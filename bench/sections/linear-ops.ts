// What the section `linear` measures of this package from hidden states, in its own process and, for the peak of the memory, in
// another (linear-peak.ts).
import { type BackendName, linearLogProbsBackwardSync, linearLogProbsSync } from '../../lib/index.js';
import type { LinearLayer, LinearProblem, Matrix, WantedGradients } from '../problems/linear.js';

export type LinearInputs = Pick<LinearLayer, 'hidden' | 'weight'> & Pick<LinearProblem, 'targets' | 'upstream'>;

/** Arrays for the gradients; without them they are new. */
export interface LinearGradients {
  readonly hidden: Matrix;
  readonly weight: Matrix;
}

export interface LinearResult {
  readonly logProbs: Float64Array; // [T]
}

export interface LinearOp {
  readonly gradients: WantedGradients;
  run(inputs: LinearInputs, backend: BackendName, gradients?: LinearGradients): LinearResult;
}

const place = (out: Matrix | undefined) => (out ? { out } : 'new');

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
} satisfies Record<string, LinearOp>;

export type LinearOpName = keyof typeof LINEAR_OPS;

export const LINEAR_OP_NAMES = Object.keys(LINEAR_OPS) as LinearOpName[];
