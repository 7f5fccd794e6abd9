// Where the advantages of a loss come from: the batch, an estimator, and a teacher's log-probs (spec sections 4 and 9).

import { badArgument } from '../errors.js';
import {
  ADVANTAGES_OPTIONS,
  type AdvantageRule,
  type AdvantagesOptions,
  advantageRule,
  estimateAdvantages,
} from '../estimators.js';
import { spreadOverTokens } from '../groups.js';
import { requireGroups } from '../levels/batch.js';
import { maskTask, type TokensSoFar } from '../levels/token-level.js';
import type { Numbers } from '../number-lists.js';
import { namesOf } from '../options.js';
import { read, type Task } from '../run/task.js';
import { mapped, type Sliced } from '../slices.js';
import {
  type FloatArray,
  finiteFloats,
  finiteNumber,
  ifGiven,
  maskedFinite,
  objectArgument,
  plausibleLogProbs,
  typedArray,
} from '../validate.js';
import type { CheckedBatch } from './objective.js';
import { selected } from './policy-factors.js';
import { ownPart, wholeTokenCounts } from './whole-batch.js';

/** Further fields in a batch that advantages come from. */
export interface SourceInputs {
  /** [N], or [T] for one per token: advantages, in place of the estimator's. Where N = T they are per sequence. */
  advantages?: Numbers | undefined;
  /** [T] log-probs of the sampled tokens under a teacher, constants; needed with `distillation`. */
  teacherLogProbs?: FloatArray | undefined;
}

/** Parameters of where advantages come from. */
export interface SourceParameters {
  /** How rewards become advantages, unless the batch has them. Default: (R - mean) / (std + 1e-4), sample std. */
  advantage?: AdvantagesOptions | undefined;
  /**
   * Adds `coef * (teacherLogProbs - logProbs)`, a constant, to the advantage of each token. Without rewards (and advantages) in the
   * batch those are all there is: on-policy distillation.
   */
  distillation?:
    | {
        /** At least 0. Default 1. */
        coef?: number | undefined;
      }
    | undefined;
}

/** Names of {@link SourceParameters}. */
export const SOURCE_PARAMETERS = namesOf<SourceParameters>({
  advantage: ADVANTAGES_OPTIONS,
  distillation: { coef: true },
});

/** Checked advantages: [T] if per token, else [N]. */
export interface AdvantageSource {
  perToken: boolean;
  /** Whether the result has them for each token. */
  reportsTokens: boolean;
  /** Whether they depend on log-probs that are yet to be computed. */
  late: boolean;
  task(tokens: TokensSoFar): Task<Float64Array>;
  /** Those of the task as the result has them: [T] for an estimator that is per token. */
  report(advantages: Float64Array, tokens: TokensSoFar): Task<Float64Array>;
}

/** The batch's own advantages, else those of the estimator; with those of the teacher, if there is one. */
export function* advantageSource(
  batch: SourceInputs,
  checked: CheckedBatch,
  { advantage, distillation }: SourceParameters,
): Sliced<AdvantageSource> {
  const rule = advantageRule(objectArgument('advantage', advantage ?? {}));
  const teacher = yield* ifGiven(batch.teacherLogProbs, function* (given) {
    const { tokens, mask } = checked;
    return yield* plausibleLogProbs(
      'teacherLogProbs',
      yield* maskedFinite('teacherLogProbs', given, tokens, mask),
      mask,
    );
  });
  const coef =
    distillation &&
    finiteNumber('distillation.coef', objectArgument('distillation', distillation).coef ?? 1, { min: 0 });
  if (coef !== undefined && !teacher)
    throw badArgument('ERR_DTYPE', 'teacherLogProbs', 'Float32Array or Float64Array with distillation', 'undefined');
  const none = coef !== undefined && checked.rewards === undefined && batch.advantages === undefined;
  const base = none ? undefined : yield* rewardSource(batch.advantages, checked, rule);
  return coef === undefined ? base! : distilled(base, checked, teacher!, coef);
}

function* rewardSource(advantages: unknown, checked: CheckedBatch, rule: AdvantageRule): Sliced<AdvantageSource> {
  if (advantages !== undefined) return yield* givenAdvantages(advantages, checked);
  const { whole, sequences, cuSeqlens } = checked;
  const { rewards, cuGroups, groupOrder } = requireGroups(whole);
  return {
    perToken: false,
    reportsTokens: rule.whitens,
    late: false,
    *task(tokens) {
      const counts = rule.needsTokenCounts ? yield* wholeTokenCounts(tokens, whole) : undefined;
      const given = whole.rewardColumns ?? rewards;
      const ofAll = yield* estimateAdvantages(rule, given, counts, { cuGroups, groupOrder });
      return ownPart(ofAll, whole.first, sequences);
    },
    *report(values, tokens) {
      return rule.whitens ? yield* spreadOverTokens(values, cuSeqlens, yield* maskTask(tokens)) : values;
    },
  };
}

function* givenAdvantages(advantages: unknown, { sequences, tokens, mask }: CheckedBatch): Sliced<AdvantageSource> {
  const { length } = typedArray('advantages', advantages, ['Float32Array', 'Float64Array']);
  const perToken = length !== sequences && length === tokens;
  const values = perToken
    ? yield* selected(yield* maskedFinite('advantages', advantages, tokens, mask), mask)
    : yield* finiteFloats('advantages', advantages, sequences, `N, one per sequence (or T = ${tokens}, one per token)`);
  return {
    perToken,
    reportsTokens: perToken,
    late: false,
    // biome-ignore lint/correctness/useYield: a task without a kernel
    *task() {
      return values;
    },
    report: asTheyAre,
  };
}

// biome-ignore lint/correctness/useYield: nothing to do
function* asTheyAre(advantages: Float64Array): Task<Float64Array> {
  return advantages;
}

/** [T] advantages, if any, and what the teacher adds to them. */
function distilled(
  base: AdvantageSource | undefined,
  { cuSeqlens }: CheckedBatch,
  teacher: Float64Array,
  coef: number,
): AdvantageSource {
  return {
    perToken: true,
    reportsTokens: true,
    late: true,
    *task(tokens) {
      const mask = yield* maskTask(tokens);
      const given = base && (yield* base.task(tokens));
      const advantages = base?.perToken === false ? yield* spreadOverTokens(given!, cuSeqlens, mask) : given;
      const [logProbs] = yield* read(tokens.logProbs!);
      return yield* mapped(teacher, (logProb, t) =>
        mask?.[t] === 0 ? 0 : (advantages?.[t] ?? 0) + coef * (logProb - logProbs[t]),
      );
    },
    report: asTheyAre,
  };
}
