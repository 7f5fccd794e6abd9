import { type BackendName, bnpo, cispo, conspo, dapo, disco, drGrpo, gmpo, grpo, gspo, sapo } from '../../lib/index.js';
import { UsageError } from '../errors.js';
import { type FlagName, flagOf, type LossFlags, type libraryOptions, spell } from './flags.js';
import type { PackedRollouts } from './pack.js';

export interface LossOutcome {
  readonly loss: number;
  readonly scores: Float64Array; // [N]
  readonly gradLogProbs: ArrayLike<number>; // [T]
  /** Losses whose objective is a sum over groups have one. */
  readonly groupLosses?: Float64Array; // [G]
  readonly metrics: object;
}

type RunOptions = ReturnType<typeof libraryOptions> & { readonly backend: BackendName; readonly signal: AbortSignal };

interface Recipe {
  /** For the help: what it does, and the defaults in which losses with the same flags differ. */
  readonly about: string;
  /** The options it takes. Any other one is wrong usage, not silence. */
  readonly flags: readonly FlagName[];
  /** Defaults of its own that other flags depend on. */
  readonly defaults?: LossFlags;
  readonly run: (batch: PackedRollouts['batch'], options: RunOptions) => Promise<LossOutcome>;
}

const common: readonly FlagName[] = ['positiveThreshold', 'normalizer'];
/** Of the advantage-weighted losses, besides. */
const additions: readonly FlagName[] = [
  'advantage',
  'ddof',
  'advantageEps',
  'aggregation',
  'maxLength',
  'klCoef',
  'klEstimator',
  'rolloutCorrection',
  'rolloutMode',
  'rolloutMin',
  'rolloutMax',
];
const policy: readonly FlagName[] = [...common, ...additions];
const clip: readonly FlagName[] = ['epsilonLow', 'epsilonHigh'];
const clippedRatio: readonly FlagName[] = [...policy, ...clip, 'dualClip', 'delta'];
const defaults: LossFlags = { advantage: 'grpo' };

/** What `loss --loss` can compute. */
export const recipes = {
  conspo: {
    about: 'InfoNCE on mean log-probs: tau 0.1',
    flags: [...common, 'tau', 'margin'],
    run: (batch, { tau, ...options }) => {
      if (tau === null) throw new UsageError('--tau: expected a number with --loss conspo, got none');
      return conspo(batch, { ...options, tau });
    },
  },
  grpo: {
    about: 'clipped ratios: epsilon 0.2 and 0.2, sequence-mean',
    flags: [...clippedRatio, 'form'],
    defaults,
    run: grpo,
  },
  dapo: { about: 'clipped ratios: epsilon 0.2 and 0.28, token-mean', flags: clippedRatio, defaults, run: dapo },
  bnpo: { about: 'clipped ratios: epsilon 0.2 and 0.2, token-mean', flags: clippedRatio, defaults, run: bnpo },
  drGrpo: {
    about: 'clipped ratios: epsilon 0.2 and 0.2, constant-length, advantage drGrpo',
    flags: clippedRatio,
    defaults: { advantage: 'drGrpo', aggregation: 'constant-length' },
    run: drGrpo,
  },
  gspo: {
    about: "the sequence's ratio, clipped: epsilon 3e-4 and 4e-4, sequence-mean",
    flags: [...policy, ...clip],
    defaults,
    run: gspo,
  },
  gmpo: {
    about: 'geometric mean of clipped ratios: epsilon 0.4 and 0.4, sequence-mean',
    flags: [...policy, ...clip],
    defaults,
    run: gmpo,
  },
  cispo: {
    about: 'log-probs weighted by stopped ratios: token-mean',
    flags: [...policy, 'ratioMin', 'ratioMax'],
    defaults,
    run: cispo,
  },
  sapo: {
    about: 'soft gate on ratios: sequence-mean',
    flags: [...policy, 'tauPos', 'tauNeg'],
    defaults,
    run: sapo,
  },
  disco: {
    about: 'positives against a soft maximum of negatives: tau 10 or, on ratios, 1',
    flags: [...common, 'tau', 'score', 'klConstraint', 'klBeta', 'klDelta'],
    run: disco,
  },
} satisfies Record<string, Recipe>;

export type LossName = keyof typeof recipes;

export const lossNames = Object.keys(recipes) as LossName[];

export function recipeOf(name: LossName): Recipe {
  return recipes[name];
}

/** The flags with the loss's own defaults, if the loss has them all and none stands without what it needs. */
export function completeFlags(name: LossName, given: LossFlags): LossFlags {
  const { defaults: own } = recipeOf(name);
  const flags = given.form === 'discriminative' ? given : { ...own, ...given }; // that form has no advantages
  for (const flag of Object.keys(given) as FlagName[]) {
    if (!recipeOf(name).flags.includes(flag)) throw misplaced(flag, `a loss that has it, got --loss ${name}`);
    const [needed, value] = flagOf(flag).needs ?? [];
    if (needed !== undefined && !(value === undefined ? needed in flags : flags[needed as FlagName] === value)) {
      throw misplaced(flag, [spell(needed), value].join(' ').trim());
    }
    if (given.form === 'discriminative' && additions.includes(flag)) throw misplaced(flag, '--form advantage');
  }
  if (flags.aggregation === 'constant-length' && flags.maxLength === undefined) {
    throw new UsageError('--max-length: expected with --aggregation constant-length, got nothing');
  }
  return flags;
}

function misplaced(flag: FlagName, where: string): UsageError {
  return new UsageError(`${spell(flag)}: expected only with ${where}`);
}

/** What the flags alone cannot tell: throws a UsageError if the rollouts lack something. */
export function requireInputs(given: LossFlags, batch: PackedRollouts['batch']): void {
  if (batch.rewards.length === 0) return;
  const lacks = (flag: FlagName, key: string) =>
    new UsageError(`${spell(flag)}: expected "${key}" on every line, got lines without`);
  if (given.klCoef && !batch.refLogProbs) throw lacks('klCoef', 'ref_logprobs');
  if (given.rolloutCorrection && !batch.rolloutLogProbs) throw lacks('rolloutCorrection', 'rollout_logprobs');
  const estimating = (['advantage', 'ddof', 'advantageEps'] as const).find((flag) => given[flag] !== undefined);
  if (estimating && batch.advantages) throw misplaced(estimating, 'lines that have no "advantage"');
}
