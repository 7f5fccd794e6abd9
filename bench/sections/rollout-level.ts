// What the sections on rollouts share: contenders of the sequence and the group level, whose answers are known exactly.
import type { RatioScoreKind } from '../../lib/index.js';
import { KL_ESTIMATORS } from '../../lib/ratio-score.js';
import { normError, requireWithin } from '../problems/float64.js';
import { type Lengths, type ScoredRollouts, scoredRollouts } from '../problems/rollouts.js';
import { formatShape } from '../report/figures.js';
import type { Shape } from '../report/report.js';
import type { Contender, Traffic } from '../timing.js';
import { againstReference } from './comparisons.js';
import { BUDGET_SECONDS, type Experiment, type Plan } from './experiment.js';
import { ownIdentity, type Setting } from './own.js';

const DEFAULT_LENGTHS: Lengths = { min: 128, max: 384 };
/** The kernels compute in float64. */
const FLOAT64_TOLERANCE = 1e-10;

export function shapeOf({ cuSeqlens, cuGroups }: ScoredRollouts): Shape {
  const sequences = cuSeqlens.length - 1;
  return { tokens: cuSeqlens[sequences], sequences, groupSize: Math.round(sequences / (cuGroups.length - 1)) };
}

/** A contender whose answer is a few arrays, each known exactly. */
export function exactContender(
  setting: Setting,
  op: string,
  moves: Traffic,
  run: () => readonly ArrayLike<number>[],
  exact: () => readonly ArrayLike<number>[],
): Contender {
  return {
    ...ownIdentity(setting),
    op,
    dtype: 'f64',
    moves,
    memoryBound: false,
    brief: true,
    check() {
      const got = run();
      const errors = exact().map((values, k) => normError(got[k], values));
      for (const error of errors) requireWithin(`${op}, ${setting.backend}`, error, FLOAT64_TOLERANCE);
      return Math.max(...errors);
    },
    run,
  };
}

/** The KL estimators take no sides. */
export function ratioInputs({ logProbs, oldLogProbs, cuSeqlens, advantages }: ScoredRollouts, kind: RatioScoreKind) {
  const inputs = { logProbs, oldLogProbs, cuSeqlens };
  return KL_ESTIMATORS.some((estimator) => estimator === kind) ? inputs : { ...inputs, sides: advantages };
}

/** One experiment on the rollouts that a plan asks for. */
export function rolloutExperiment(
  section: 'scores' | 'objectives',
  plan: Plan,
  contenders: (rollouts: ScoredRollouts, setting: Setting) => Contender[],
): Experiment {
  const rollouts = scoredRollouts(plan.sequences, plan.lengths ?? DEFAULT_LENGTHS, plan.groupSize, plan.seed);
  const shape = shapeOf(rollouts);
  return {
    section,
    title: `${section}, ${formatShape(shape)}`,
    elements: shape.tokens,
    rounds: { budgetSeconds: BUDGET_SECONDS },
    open: () => plan.backends.flatMap((backend) => contenders(rollouts, { section, shape, backend })),
    compare: (measured) => againstReference(section, measured),
  };
}
