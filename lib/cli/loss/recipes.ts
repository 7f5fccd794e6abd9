import { type BackendName, conspo, type GrpoOptions, grpo } from '../../index.js';
import { UsageError } from '../errors.js';
import type { PackedRollouts } from './pack.js';

/** The loss options of the command line, as commander names them. */
export interface LossFlags {
  readonly tau?: number;
  readonly margin?: number;
  readonly positiveThreshold?: number;
  readonly epsilonLow?: number;
  readonly epsilonHigh?: number;
  readonly aggregation?: NonNullable<GrpoOptions['aggregation']>;
  readonly klCoef?: number;
  readonly klEstimator?: NonNullable<GrpoOptions['klEstimator']>;
  readonly maxLength?: number;
}

export interface LossOutcome {
  readonly loss: number;
  readonly scores: Float64Array; // [N]
  readonly gradLogProbs: ArrayLike<number>; // [T]
  /** Losses whose objective is a sum over groups have one. */
  readonly groupLosses?: Float64Array; // [G]
  readonly metrics: object;
}

interface RunOptions {
  readonly backend: BackendName;
  readonly signal: AbortSignal;
}

interface Recipe {
  /** The options it takes. Any other one is wrong usage, not silence. */
  readonly flags: readonly (keyof LossFlags)[];
  /** What the options alone cannot tell: throws a UsageError if the rollouts lack something. */
  readonly check?: (flags: LossFlags, batch: PackedRollouts['batch']) => void;
  readonly run: (batch: PackedRollouts['batch'], flags: LossFlags, options: RunOptions) => Promise<LossOutcome>;
}

/** What `loss --loss` can compute. */
export const recipes = {
  conspo: {
    flags: ['tau', 'margin', 'positiveThreshold'],
    run: (batch, { tau, margin, positiveThreshold }, options) =>
      conspo(batch, { tau, margin, positiveThreshold, ...options }),
  },
  grpo: {
    flags: ['positiveThreshold', 'epsilonLow', 'epsilonHigh', 'aggregation', 'klCoef', 'klEstimator', 'maxLength'],
    check: checkGrpo,
    run: (batch, flags, options) => {
      const { positiveThreshold, epsilonLow, epsilonHigh, aggregation, klCoef, klEstimator, maxLength } = flags;
      const clip = { epsilonLow, epsilonHigh };
      const kl = { klCoef, klEstimator };
      return grpo(batch, { positiveThreshold, ...clip, aggregation, maxLength, ...kl, ...options });
    },
  },
} satisfies Record<string, Recipe>;

export type LossName = keyof typeof recipes;

export const lossNames = Object.keys(recipes) as LossName[];

export function recipeOf(name: LossName): Recipe {
  return recipes[name];
}

function checkGrpo({ aggregation, maxLength, klCoef, klEstimator }: LossFlags, batch: PackedRollouts['batch']): void {
  if (aggregation === 'constant-length' && maxLength === undefined) {
    throw new UsageError('--max-length: expected with --aggregation constant-length, got nothing');
  }
  if (aggregation !== 'constant-length' && maxLength !== undefined) {
    throw new UsageError('--max-length: expected only with --aggregation constant-length');
  }
  if (klEstimator !== undefined && klCoef === undefined) {
    throw new UsageError('--kl-estimator: expected only with --kl-coef');
  }
  if (klCoef !== undefined && klCoef > 0 && batch.rewards.length > 0 && batch.refLogProbs === undefined) {
    throw new UsageError('--kl-coef: expected "ref_logprobs" on every line, got lines without');
  }
}
