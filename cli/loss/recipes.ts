import type { AdvantageParameters, BackendName } from '../../lib/index.js';
import { LOSS_NAMES, LOSSES, type LossName } from '../../lib/losses/list.js';
import { ADVANTAGE_PARAMETERS } from '../../lib/objectives/advantage-weighted.js';
import { UsageError } from '../errors.js';
import { type FlagName, flagNames, flagOf, type LossFlags, type libraryOptions, spell } from './flags.js';
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

type Run = (batch: PackedRollouts['batch'], options: RunOptions) => Promise<LossOutcome>;

export const lossNames = LOSS_NAMES;

const isParameter = (flag: FlagName) => lossNames.some((name) => flag in LOSSES[name].parameters);

/** A flag that is no parameter itself is a part of the one that it needs. */
function parameterOf(flag: FlagName): string {
  const needed = flagOf(flag).needs?.[0];
  return isParameter(flag) || needed === undefined ? flag : parameterOf(needed as FlagName);
}

/** The flags of a loss. Any other one is wrong usage, not silence. */
export function flagsOf(name: LossName): readonly FlagName[] {
  const { parameters } = LOSSES[name];
  return flagNames.filter((flag) => flag === 'positiveThreshold' || parameterOf(flag) in parameters);
}

/** Defaults of a loss that other flags depend on. */
function defaultsOf(name: LossName): LossFlags {
  const { parameters, defaults } = LOSSES[name];
  if (!('advantage' in parameters)) return {};
  const { aggregation, maxLength, advantage }: AdvantageParameters = defaults;
  return {
    advantage: (advantage?.estimator ?? 'grpo') as LossFlags['advantage'],
    aggregation,
    ...(maxLength && { maxLength }),
  };
}

/** Flags of parts that GRPO's discriminative form does not have. */
const additions: readonly string[] = Object.keys(ADVANTAGE_PARAMETERS).filter((name) => name !== 'normalizer');

/** The loss of packed rollouts. */
export function runLoss(name: LossName, batch: PackedRollouts['batch'], options: RunOptions): Promise<LossOutcome> {
  if (options.tau === null && name !== 'disco') {
    throw new UsageError(`--tau: expected a number with --loss ${name}, got none`);
  }
  return (LOSSES[name].run as unknown as Run)(batch, options);
}

/** The flags with the loss's own defaults, if the loss has them all and none stands without what it needs. */
export function completeFlags(name: LossName, given: LossFlags): LossFlags {
  const flags = given.form === 'discriminative' ? given : { ...defaultsOf(name), ...given }; // that form has no advantages
  for (const flag of Object.keys(given) as FlagName[]) {
    if (!flagsOf(name).includes(flag)) throw misplaced(flag, `a loss that has it, got --loss ${name}`);
    const [needed, ...values] = flagOf(flag).needs ?? [];
    if (needed !== undefined && !hasOneOf(flags, needed as FlagName, values)) {
      throw misplaced(flag, [spell(needed), values.join(' or ')].join(' ').trim());
    }
    if (given.form === 'discriminative' && additions.includes(parameterOf(flag)))
      throw misplaced(flag, '--form advantage');
  }
  if (flags.aggregation === 'constant-length' && flags.maxLength === undefined) {
    throw new UsageError('--max-length: expected with --aggregation constant-length, got nothing');
  }
  if (flags.rolloutReject && flags.rolloutRejectMin === undefined && flags.rolloutRejectMax === undefined) {
    const expected = 'expected with --rollout-reject-min or --rollout-reject-max, got neither';
    throw new UsageError(`--rollout-reject: ${expected}`);
  }
  return flags;
}

/** Whether a flag is there, and if there are values, has one of them. */
function hasOneOf(flags: LossFlags, name: FlagName, values: readonly string[]): boolean {
  return values.length === 0 ? name in flags : values.includes(`${flags[name]}`);
}

function misplaced(flag: FlagName, where: string): UsageError {
  return new UsageError(`${spell(flag)}: expected only with ${where}`);
}

/** What the flags alone cannot tell: throws a UsageError if the rollouts lack something. */
export function requireInputs(given: LossFlags, batch: PackedRollouts['batch']): void {
  if (batch.rewards.length === 0) return;
  const lacks = (flag: FlagName, key: string) =>
    new UsageError(`${spell(flag)}: expected "${key}" on every line, got lines without`);
  if (given.klCoef && given.klReference !== 'old' && !batch.refLogProbs) throw lacks('klCoef', 'ref_logprobs');
  if (given.rolloutCorrection && batch.rolloutWeights)
    throw misplaced('rolloutCorrection', 'lines that have no "rollout_weights"');
  if (given.rolloutCorrection && !batch.rolloutLogProbs) throw lacks('rolloutCorrection', 'rollout_logprobs');
  if (given.rolloutReject && !batch.oldLogProbs) throw lacks('rolloutReject', 'old_logprobs');
  if (given.distillation !== undefined && !batch.teacherLogProbs) throw lacks('distillation', 'teacher_logprobs');
  const estimating = (['advantage', 'ddof', 'advantageEps', 'advantageScale'] as const).find(
    (flag) => given[flag] !== undefined,
  );
  if (estimating && batch.advantages) throw misplaced(estimating, 'lines that have no "advantage"');
}
