// What `verify` runs on every backend: each op and loss once per dtype, as arrays to compare with the reference's.

import { type Elements, widen } from '../../bench/problems/data.js';
import { createLinearProblem, layerOf } from '../../bench/problems/linear.js';
import { LINEAR_TOLERANCE, TOKEN_TOLERANCE } from '../../bench/problems/tolerances.js';
import { openDevice } from '../../lib/cuda/index.js';
import * as api from '../../lib/index.js';
import { RATIO_SCORE_KINDS } from '../../lib/kernels.js';
import { LOSS_NAMES, LOSSES, type LossName } from '../../lib/losses/list.js';
import { type Problem, problem } from './problem.js';

/** Results by name. */
export type Arrays = Record<string, ArrayLike<number>>;

export interface Check {
  readonly name: string;
  /** Element type of the logits; null where there are none and everything is float64. */
  readonly dtype: api.DType | null;
  /** Bound on the relative error. */
  readonly tolerance: number;
  /** What is missing may be a library of the system's: an `ERR_BACKEND` is no failure. */
  readonly needsLibrary?: true;
  /** Only on this backend; the reference then runs `expected`. */
  readonly only?: api.BackendName;
  run(backend: api.BackendName): Arrays;
  expected?(): Arrays;
}

const DTYPES: readonly api.DType[] = ['f32', 'bf16', 'f16'];
const FLOAT64 = 1e-12;
const WIDTH = 67; // of hidden states: beyond a vector or two, and odd

/** Every check, in the order of the levels. */
export function checks(seed: number): Check[] {
  return [
    ...DTYPES.flatMap((dtype) => tokenLevel(dtype, problem(dtype, seed))),
    ...sequenceLevel(problem('f32', seed)),
    ...groupLevel(problem('f32', seed)),
    ...DTYPES.flatMap((dtype) => losses(dtype, problem(dtype, seed))),
    ...DTYPES.map((dtype) => fromHiddenStates(dtype, seed)),
    onDevice(problem('bf16', seed)),
  ];
}

function tokenLevel(dtype: api.DType, batch: Problem): Check[] {
  const gradLogProbs = Float64Array.from(batch.targets, (_, t) => Math.sin(t + 1));
  const gradEntropy = Float64Array.from(batch.targets, (_, t) => Math.cos(t + 1));
  return [
    {
      name: 'tokenLogProbs',
      dtype,
      tolerance: TOKEN_TOLERANCE.value,
      run(backend) {
        const { logProbs, logSumExp, entropy } = api.tokenLogProbsSync(batch, { entropy: true, backend });
        return { logProbs, logSumExp, entropy: entropy ?? [] };
      },
    },
    {
      name: 'tokenLogProbsBackward',
      dtype,
      tolerance: TOKEN_TOLERANCE.gradient[dtype],
      run(backend) {
        const { logSumExp, entropy } = api.tokenLogProbsSync(batch, { entropy: true, backend: 'reference' });
        const inputs = { ...batch, logSumExp, entropy, gradLogProbs, gradEntropy };
        const { gradLogits } = api.tokenLogProbsBackwardSync(inputs, { backend });
        return { gradLogits: widen(gradLogits.data, dtype) };
      },
    },
  ];
}

function sequenceLevel(batch: Problem): Check[] {
  const { logProbs } = api.tokenLogProbsSync(batch, { backend: 'reference' });
  const inputs = { ...batch, logProbs, sides: Float64Array.from(batch.rewards, (reward) => reward - 0.5) };
  const mean: Check = {
    name: 'sequenceLogProbs',
    dtype: null,
    tolerance: FLOAT64,
    run(backend) {
      const { scores, tokenCounts } = api.sequenceLogProbsSync(inputs, { backend });
      const gradScores = Float64Array.from(scores, (_, i) => i - 2);
      const gradients = api.sequenceLogProbsBackwardSync({ ...inputs, gradScores, tokenCounts }, { backend });
      return { scores, tokenCounts, ...gradients };
    },
  };
  const ratios = RATIO_SCORE_KINDS.map(
    (kind): Check => ({
      name: `score ${kind}`,
      dtype: null,
      tolerance: FLOAT64,
      run: (backend) => ({ ...api.ratioScoresSync(inputs, { score: { kind }, backend }) }),
    }),
  );
  return [mean, ...ratios];
}

function groupLevel({ cuGroups, rewards }: Problem): Check[] {
  const scores = Float64Array.from(rewards, (_, i) => -1 - Math.sin(i));
  const tokenCounts = Float64Array.from(rewards, (_, i) => i);
  return [
    {
      name: 'groupInfoNCE',
      dtype: null,
      tolerance: FLOAT64,
      run(backend) {
        const inputs = { scores, rewards, cuGroups, tokenCounts };
        const { loss, groupLosses, gradScores } = api.groupInfoNCESync(inputs, { tau: 0.1, margin: 0.1, backend });
        return { loss: [loss], groupLosses, gradScores };
      },
    },
    {
      name: 'advantageObjective',
      dtype: null,
      tolerance: FLOAT64,
      run(backend) {
        const inputs = { scores, advantages: rewards, tokenCounts };
        const { loss, gradScores } = api.advantageObjectiveSync(inputs, { aggregation: 'token-mean', backend });
        return { loss: [loss], gradScores };
      },
    },
  ];
}

interface Outcome {
  loss: number;
  scores: Float64Array;
  gradLogits: Problem['logits'];
}

type RunLoss = (batch: Problem, options: object) => Outcome;

/** Options that make losses use all they have; the others have their defaults. */
const OPTIONS: Partial<Record<LossName, object>> = {
  conspo: { tau: 1, margin: 0.1 },
  grpo: { klCoef: 0.1, entropyCoef: 0.01 },
  drGrpo: { maxLength: 8 },
  gspo: { epsilonLow: 0.1, epsilonHigh: 0.1 },
  luspo: { epsilonLow: 0.1, epsilonHigh: 0.1, klCoef: 0.1, klWeight: 'ratio' },
  dppo: { divergence: 'kl', klCoef: 0.1, klReference: 'old', klEstimator: 'k2' },
  cispo: { ratioMax: 1.2 },
};

function losses(dtype: api.DType, batch: Problem): Check[] {
  return LOSS_NAMES.map((name) => ({
    name,
    dtype,
    tolerance: TOKEN_TOLERANCE.gradient[dtype],
    run(backend) {
      const outcome = (LOSSES[name].runSync as unknown as RunLoss)(batch, { ...OPTIONS[name], backend });
      return { loss: [outcome.loss], scores: outcome.scores, gradLogits: widen(outcome.gradLogits.data, dtype) };
    },
  }));
}

/** A loss with the last layer of a model before it. */
function fromHiddenStates(dtype: api.DType, seed: number): Check {
  const { logits, ...batch } = problem(dtype, seed);
  const shape = { tokens: batch.targets.length, vocab: logits.shape[1], width: WIDTH };
  const { hidden, weight } = layerOf(createLinearProblem(shape, seed), dtype);
  return {
    name: 'conspo, hidden states',
    dtype,
    tolerance: LINEAR_TOLERANCE.gradient[dtype],
    needsLibrary: true,
    run(backend) {
      const result = api.conspoSync({ ...batch, hidden, weight }, { tau: 1, margin: 0.1, backend });
      const { loss, scores, gradHidden, gradWeight } = result;
      return {
        loss: [loss],
        scores,
        gradHidden: widen(gradHidden.data as Elements, dtype),
        gradWeight: widen(gradWeight.data as Elements, dtype),
      };
    },
  };
}

/** The way that a trainer on a GPU takes: logits and gradient stay in its memory. */
function onDevice(batch: Problem): Check {
  const { dtype } = batch.logits;
  return {
    name: 'conspo in device memory',
    dtype,
    tolerance: TOKEN_TOLERANCE.gradient[dtype],
    only: 'cuda',
    run() {
      using device = openDevice(0);
      using logits = device.uploadSync(batch.logits);
      const { loss, scores } = api.conspoSync({ ...batch, logits }, { tau: 1, gradient: 'in-place' });
      return { loss: [loss], scores, gradLogits: widen(logits.downloadSync(), dtype) };
    },
    expected() {
      const { loss, scores, gradLogits } = api.conspoSync(batch, { tau: 1, backend: 'reference' });
      return { loss: [loss], scores, gradLogits: widen(gradLogits.data, dtype) };
    },
  };
}
