// What a named loss is made of: a score, an objective, defaults. The rest (validation, token level, gradient, metrics,
// the async function and its sync twin) is the same for all, and here.

import { badArgument, describe, isArray, isRevoked } from '../errors.js';
import type { Backend, DeviceMemory } from '../kernels.js';
import { LAYER_PLACES, type LayerPlaces } from '../layer.js';
import { type Batch, type CheckedSequences, checkGroups, checkSequences, withMask } from '../levels/batch.js';
import type { GradientOf, Gradients, GradientTarget, LossGradient, PendingGradient } from '../levels/gradient.js';
import { checkMultiple, gradientTarget, writeGradientTask } from '../levels/gradient.js';
import { checkScore, ratioStatsTask, type Score } from '../levels/scores.js';
import { knownTokens, onePassTask, ownLogProbs, readResults, tokenLevelTask } from '../levels/token-level.js';
import { joinTokens, ownTerms } from '../levels/whole-sequences.js';
import type { Matrix, MatrixGradientOption } from '../matrices.js';
import type { Numbers, WholeNumbers } from '../number-lists.js';
import type { AdvantageParameters } from '../objectives/advantage-weighted.js';
import type { CheckedBatch, LossBatch, LossOptions, Objective, PreparedObjective } from '../objectives/objective.js';
import { LOSS_OPTIONS, parametersOf } from '../objectives/objective.js';
import { rolloutDifferences } from '../objectives/rollout-correction.js';
import type { NamesOf, OptionNames, Taken } from '../options.js';
import { takeFields, takeOptions, takeSpelledOptions } from '../options.js';
import { agreementOn } from '../run/agreement.js';
import { amongRanks, amongRanksSync, partRanks, type RankGrid } from '../run/ranks.js';
import { ASYNC_OPTIONS, type AsyncOptions, read, runAsync, runSync, type Task } from '../run/task.js';
import { finiteNumber, objectArgument, optionsArgument } from '../validate.js';
import type { GroupMetric, RewardMetric } from './metrics.js';
import { batchMetrics, type Metrics, rejectionCounts } from './metrics.js';
import { checkOnPolicy, onPolicyExpected } from './on-policy.js';
import { checkValue, keepOwnTokens, type LossValue, outcomeArrays } from './value.js';
import { meetRanks, ownSequences } from './whole-call.js';

export type { LossValue };

/** Where a loss's gradient goes; `G` is the type of the option in the call. */
export interface GradientOptions<G> {
  /**
   * `'new'` (default), `'in-place'` (overwrites the input: no second T * V array), `'none'`, or `{ out }`. From logits also
   * `{ deferred: true }`, which see {@link DeferredGradient}.
   */
  gradient?: G | undefined;
}

type GradientIn<B, G, Places> = [B] extends [{ hidden: Matrix }]
  ? GradientOf<B, Places>
  : [G] extends ['none']
    ? unknown
    : 'none' extends G
      ? Partial<Written<B, G>>
      : Written<B, G>;

type Written<B, G> = GradientOf<B> &
  ([Extract<G, { deferred: true }>] extends [never]
    ? unknown
    : {
        /** [T] what row t of `gradLogits` is to be multiplied with; 0 where that row is 0. */
        rowScale: Float64Array;
      });

/** Without rewards or groups, a batch has no metrics of them. */
type ValueOf<B> = B extends { rewards: Numbers; cuGroups: WholeNumbers } | { rewards: Numbers; groupIds: WholeNumbers }
  ? LossValue
  : Omit<LossValue, 'metrics'> & {
      /** What trainers log. */
      metrics: Omit<Metrics, B extends { rewards: Numbers } ? GroupMetric : GroupMetric | RewardMetric>;
    };

/**
 * Result of a loss on a batch `B`, with `G` the `gradient` option; `Always` names values that the loss never leaves out. From hidden
 * states, `Places` are the options {@link LayerPlaces}.
 */
export type LossResult<B, G = 'new', Always extends keyof LossValue = never, Places = unknown> = ValueOf<B> &
  Required<Pick<LossValue, Always>> &
  GradientIn<B, G, Places>;

export type Place = MatrixGradientOption;

/** What the gradients of hidden states and their layer are for a `gradient` option. */
export type PlaceFor<G> = [G] extends ['none'] ? 'none' : 'new';

/** A loss as a recipe. */
export interface LossRecipe<P, I> {
  /** How a sequence is scored; a function of the options where the score depends on them. */
  score: Score | ((options: Partial<P>) => Score);
  /** What is done with the scores. */
  objective: Objective<P, I>;
  /** Values of parameters that the caller leaves out. */
  defaults?: Partial<P> | undefined;
  /**
   * Names of all parameters: every other option is then refused. Without them, a loss on an objective of this package has
   * that objective's; on your own objective, or with a score that is a function, it refuses misspelt names of this package's
   * options only.
   */
  parameters?: readonly (keyof P & string)[] | undefined;
}

/** The options of a call: they may be left out unless some, `Needed`, may not. */
type OptionsArgument<O, Needed> = unknown extends Needed ? [options?: O] : [options: O & Needed];

/**
 * A loss: the async function and its blocking twin. `Always` names values that its result never lacks, `Needed` is what its options
 * may not lack.
 */
export interface Loss<P, I, Always extends keyof LossValue = never, Needed = unknown> {
  /** The loss of a batch, without blocking. */
  run<
    B extends LossBatch<I>,
    G extends LossGradient<B> = 'new',
    H extends Place = PlaceFor<G>,
    W extends Place = PlaceFor<G>,
    C extends Place = PlaceFor<G>,
  >(
    batch: B,
    ...options: OptionsArgument<
      Partial<P> & LossOptions & AsyncOptions & GradientOptions<G> & LayerPlaces<H, W, C>,
      Needed
    >
  ): Promise<LossResult<B, G, Always, LayerPlaces<H, W, C>>>;
  /** As `run`, blocking. */
  runSync<
    B extends LossBatch<I>,
    G extends LossGradient<B> = 'new',
    H extends Place = PlaceFor<G>,
    W extends Place = PlaceFor<G>,
    C extends Place = PlaceFor<G>,
  >(
    batch: B,
    ...options: OptionsArgument<Partial<P> & LossOptions & GradientOptions<G> & LayerPlaces<H, W, C>, Needed>
  ): LossResult<B, G, Always, LayerPlaces<H, W, C>>;
}

/**
 * Makes a loss from a score, an objective and defaults; every named loss of this package is made so. Its functions validate, run
 * on any backend, and return value, gradient and metrics, as those of the named losses do.
 *
 * @example
 * ```ts
 * import { defineLoss, infoNCE } from 'rlvr-kernels';
 *
 * // ConSPO's contrast on clipped-ratio scores, an ablation of its paper
 * const ablation = defineLoss({ score: { kind: 'clippedRatio' }, objective: infoNCE, defaults: { tau: 0.5 } });
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs } = await ablation.run(batch, { margin: 0.1 }); // runSync blocks
 * console.log(loss, gradLogProbs); // => 0.257 Float64Array(3) [ 0, 0.201, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_DTYPE`, `ERR_RANGE` for a bad recipe.
 */
export function defineLoss<P extends object, I = unknown, Always extends keyof LossValue = never>(
  recipe: LossRecipe<P, I>,
): Loss<P, I, Always> {
  const checked = checkRecipe(recipe);
  const { score, objective, defaults, parameters } = checked;
  const named = parameters && Object.fromEntries(parameters.map((name) => [name, true as const]));
  const known = parametersOf(objective);
  if (named || (known && typeof score !== 'function')) {
    return createLoss(checked, refuseUnknown('this loss', { ...known, ...named }), known !== undefined);
  }
  const names = { ...LOSS_OPTIONS, ...GRADIENT_OPTION, ...ASYNC_OPTIONS, ...known, ...namesIn(defaults) };
  return createLoss(checked, (options) => takeSpelledOptions('this loss', options, names), known !== undefined);
}

/** A loss with a name, as `list.ts` has it. */
export interface NamedLoss<P, I, Always extends keyof LossValue = never, Needed = unknown>
  extends Loss<P, I, Always, Needed> {
  readonly name: string;
  /** What it is, in a line, with the defaults in which similar losses differ. */
  readonly summary: string;
  /** Its own parameters, besides the options of every loss. */
  readonly parameters: OptionNames;
  readonly defaults: Partial<P>;
}

/** A loss of this package. */
export function namedLoss<P extends object, I = unknown, Always extends keyof LossValue = never, Needed = unknown>(
  recipe: Omit<LossRecipe<P, I>, 'parameters'> & { name: string; summary: string; parameters: NamesOf<P> },
): NamedLoss<P, I, Always, Needed> {
  const { name, summary, parameters, defaults = {} } = recipe;
  return {
    name,
    summary,
    parameters,
    defaults,
    ...createLoss<P, I, Always, Needed>(recipe, refuseUnknown(name, parameters), true),
  };
}

/** Reads the options of a loss; throws on those that it does not have. */
type TakeOptions = (options: object, mode: 'sync' | 'async') => Taken;

const GRADIENT_OPTION: OptionNames = { gradient: { out: true, deferred: true }, ...LAYER_PLACES };

function refuseUnknown(name: string, parameters: OptionNames): TakeOptions {
  const sync = { ...parameters, ...LOSS_OPTIONS, ...GRADIENT_OPTION };
  const async = { ...sync, ...ASYNC_OPTIONS };
  return (options, mode) => takeOptions(name, options, mode === 'sync' ? sync : async);
}

function namesIn(defaults: object | undefined): OptionNames {
  return Object.fromEntries(Object.keys(defaults ?? {}).map((name) => [name, true]));
}

function createLoss<P extends object, I, Always extends keyof LossValue, Needed = unknown>(
  { score, objective, defaults }: Omit<LossRecipe<P, I>, 'parameters'>,
  take: TakeOptions,
  ours: boolean, // the objective
): Loss<P, I, Always, Needed> {
  function* task(batch: LossBatch<I>, options: OptionsOf<P>, backend: Backend): Task<LossValue> {
    // Before the arrays are checked: a score of the caller's may have getters, which may do anything to them.
    const checkedScore = checkScore(typeof score === 'function' ? score(options) : score);
    const { rolloutCorrection, advantage } = options as AdvantageParameters;
    const { grid } = options;
    const own = yield* checkSequences(batch, options, rolloutCorrection?.missing === 'one', grid?.vocab);
    const target = gradientTarget(own, options, batch); // may have getters too, so before rewards are used
    const positiveThreshold = finiteNumber('positiveThreshold', options.positiveThreshold ?? 0);
    // Here and below without spreads in literals, which take V8 microseconds.
    const groups = yield* checkGroups(batch, own.sequences, advantage);
    const agreement = grid ? agreementOn(batch, options, [checkedScore, objective]) : 0;
    const met = yield* meetRanks(grid, batch, own, groups, agreement);
    const { pieces, whole } = met;
    const given: CheckedBatch = Object.assign(met.sequences, groups, { positiveThreshold, whole });
    const onPolicy = onPolicyExpected(options.expectOnPolicy, given);
    const preparing = objective(checkedScore, met.batch, given, options);
    checkMethod(preparing, 'next', 'a generator function');
    const prepared = yield* preparing;
    checkMethod(prepared, 'evaluate', 'a generator of { evaluate }');
    const checked = prepared.mask ? withMask(given, prepared.mask) : given;
    const rejected = prepared.mask && (yield* rejectionCounts(given, prepared.mask));
    const { needsEntropy, hasEntropyTerm, evaluate } = prepared;
    checkMultiple(target, hasEntropyTerm === true);
    const withEntropy = options.entropy === true || needsEntropy === true;
    const rows = pieces ? yield* ownSequences(own, pieces, prepared.mask) : checked;
    // Before the log-probs are known to be on-policy, no gradient is written over anything.
    const inOnePass = yield* onePassGradient(rows, target, onPolicy || pieces ? { evaluate } : prepared);
    const rowLevel = yield* inOnePass
      ? onePassTask(rows, withEntropy, inOnePass.view, inOnePass.terms)
      : tokenLevelTask(rows, withEntropy, target.kind === 'none' ? undefined : backend.name);
    const level = pieces ? yield* joinTokens(pieces, rowLevel, checked) : rowLevel;
    const outcome = yield* evaluate(level);
    outcome.channel.ratioStats ??= yield* ratioStatsTask(level);
    if (onPolicy) yield* checkOnPolicy(level, outcome.channel, whole);
    const terms = pieces ? yield* ownTerms(pieces, outcome.terms) : outcome.terms;
    const gradient = yield* writeGradientTask(rowLevel, target, terms, false);
    const results = yield* readResults(level, outcomeArrays(outcome, level, gradient, options.logProbs === true));
    if (results.badRows) gradient.checkRows?.(results.badRows);
    // After the checks: where non-finite rows are an error, a gradient in host memory is left alone from here on.
    const [array] = isOnDevice(gradient.array) ? [gradient.array] : yield* read(gradient.array);
    // Where other ranks wait for this one, an error of its gradient is to reach them.
    const early = grid && (yield* gradient.finish(array, results.upstream));
    const differences = checked.rolloutLogProbs && (yield* rolloutDifferences(level));
    const { losses, scores, groupLosses, logProbs, entropy } = results;
    const { advantages, tokenLosses, clipCovTokens } = outcome;
    const part = losses.reduce((sum, [loss]) => sum + loss, 0);
    const { loss, metrics } = yield* batchMetrics(checked, results, { differences, rejected, clipCovTokens }, part);
    if (grid) Object.assign(metrics, yield* partRanks(grid));
    const value: LossValue & Gradients = { loss, scores, metrics: metrics as Metrics }; // which some batches lack, ValueOf says
    if (groupLosses) value.groupLosses = groupLosses;
    if (advantages) value.advantages = advantages;
    if (tokenLosses) value.tokenLosses = tokenLosses;
    if (logProbs) value.logProbs = yield* ownLogProbs(level, logProbs);
    if (entropy && options.entropy === true) value.entropy = entropy;
    yield* checkValue(value, checked);
    if (pieces) yield* keepOwnTokens(value, pieces, outcome.advantagesPerToken === true);
    return Object.assign(value, early ?? (yield* gradient.finish(array, results.upstream)));
  }
  const optionsOf = (given: object | undefined, mode: 'sync' | 'async', grid: RankGrid | undefined) => {
    const options = take(optionsArgument(given), mode);
    delete options.parallel;
    if (grid) options.grid = grid;
    for (const name in defaults) if (options[name] === undefined) options[name] = defaults[name]; // null may be a value
    return options as OptionsOf<P> & AsyncOptions;
  };
  return {
    async run(batch, ...[given]) {
      return amongRanks(given, (grid) => {
        const options = optionsOf(given, 'async', grid);
        return runAsync(task, takeBatch(batch, ours), options) as Promise<never>;
      });
    },
    runSync(batch, ...[given]) {
      return amongRanksSync(given, (grid) => {
        const options = optionsOf(given, 'sync', grid);
        return runSync(task, takeBatch(batch, ours), options) as never;
      });
    },
  };
}

/** The fields of a batch, each read once. An objective that is not ours may look for others, in the batch itself. */
function takeBatch<B extends object>(batch: B, ours: boolean): B {
  const fields = takeFields('batch', batch);
  return ours ? fields : Object.create(batch, Object.getOwnPropertyDescriptors(fields));
}

type OptionsOf<P> = Partial<P & LossOptions> &
  GradientOptions<LossGradient<Batch>> &
  LayerPlaces & {
    /** The ranks of `parallel`. */
    grid?: RankGrid;
  };

function checkRecipe<P, I>(recipe: LossRecipe<P, I>): LossRecipe<P, I> {
  const { score, objective, defaults, parameters } = objectArgument('recipe', recipe);
  if (typeof score !== 'function' || isRevoked(score)) checkScore(score);
  if (parameters !== undefined && !isArray(parameters))
    throw badArgument('ERR_DTYPE', 'parameters', 'an array of names', describe(parameters));
  if (typeof objective !== 'function' || isRevoked(objective))
    throw badArgument('ERR_DTYPE', 'objective', 'an objective', describe(objective));
  if (defaults !== undefined) objectArgument('defaults', defaults);
  return { score, objective, ...(defaults && { defaults }), ...(parameters && { parameters: namesOnly(parameters) }) };
}

function namesOnly<Name extends string>(given: readonly Name[]): Name[] {
  const names: Name[] = [];
  for (let i = 0; i < given.length; i++) {
    const name: unknown = given[i];
    if (typeof name !== 'string')
      throw badArgument('ERR_DTYPE', 'parameters', 'names', `${describe(name)} at index ${i}`);
    names.push(name as Name);
  }
  return names;
}

/** What a gradient of logits is written from while they are read for their log-probs; undefined where it is written later. */
function* onePassGradient(checked: CheckedSequences, target: GradientTarget, prepared: PreparedObjective) {
  if (target.kind !== 'logits' || checked.rows?.replay || checked.columns) return undefined; // of which little is read, or not all
  const { view, deferred } = target;
  if (deferred) return { view, terms: undefined };
  // Where non-finite rows are dropped, the weights of the others depend on how many there are.
  if (checked.onNonFinite !== 'error' || !prepared.tokenTerms) return undefined;
  const terms = yield* prepared.tokenTerms(knownTokens(checked));
  return terms && { view, terms };
}

/** Refuses an objective of the caller's by what it gave. */
function checkMethod(given: unknown, method: string, expected: string): void {
  if (typeof (given as Record<string, unknown> | null | undefined)?.[method] === 'function') return;
  throw badArgument('ERR_DTYPE', 'objective', expected, `one that returned ${describe(given)}`);
}

function isOnDevice(array: PendingGradient['array']): array is DeviceMemory {
  return array !== undefined && !ArrayBuffer.isView(array) && !isArray(array);
}
