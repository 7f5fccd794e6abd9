// Micro-batches of a batch that is spread over ranks: what denominators are made of meets once before the parts are computed, and what
// metrics are made of once after it. In between no rank waits for another, so each may have as many parts as it likes.
import { badArgument } from '../errors.js';
import type { LossName } from '../losses/list.js';
import type { Metrics } from '../losses/metrics.js';
import { namesOf, takeOptions } from '../options.js';
import { agreementOn, requireSame } from '../run/agreement.js';
import {
  amongRanks,
  amongRanksSync,
  PARALLEL_OPTION,
  type Parallel,
  type ParallelOptions,
  partRanks,
  type RankGrid,
  type Ranks,
} from '../run/ranks.js';
import { runAsync, runSync, type Task } from '../run/task.js';
import { objectArgument, optionsArgument } from '../validate.js';
import { type Counts, type Denominators, denominators } from './denominator.js';
import { type Measured, type MeasuredPart, measured, merged, RULES, type Weights } from './merge-metrics.js';
import { type CuttableBatch, cutBatch, type MicroBatch, type MicroBatchesOptions } from './micro-batches.js';

/** Options of a loss for a part: those of the whole one, but for the ranks that hold other sequences. */
export type OptionsOnRanks<O extends object> = Omit<O, 'parallel'> & {
  /** The ranks that compute each part together. */
  parallel?: Pick<Parallel, 'vocab'> | undefined;
};

/**
 * {@link microBatches} on several ranks: each cuts its own sequences, as `options.parallel.data` of the loss says, and the losses and gradients
 * of all parts of all ranks add up to those of the whole batch. Its denominators are all that meets, in one exchange, in which every rank takes
 * part; the parts are then computed by each for itself, in any number, none included. Groups are whole: a rank has all of a group.
 *
 * With `options.parallel.vocab` as well, the options of the parts keep it: ranks that hold other columns cut the same sequences alike, and
 * compute each part together.
 *
 * @example
 * ```ts
 * import { dapo, inProcess, mergeMetricsOnRanks, microBatchesOnRanks } from 'rlvr-kernels';
 *
 * const batches = [
 *   { logProbs: Float32Array.of(-0.4, -1, -0.6), cuSeqlens: [0, 1, 3], cuGroups: [0, 2], rewards: [1, 0] },
 *   { logProbs: Float32Array.of(-0.2, -0.8, -0.5, -0.3), cuSeqlens: [0, 1, 2, 3, 4], cuGroups: [0, 2, 4], rewards: [1, 0, 0, 1] },
 * ];
 * const sums = await Promise.all(
 *   inProcess(2).map(async (data) => {
 *     const options = { parallel: { data } };
 *     const parts = await microBatchesOnRanks(batches[data.rank], { sequences: 2, loss: 'dapo', options });
 *     const results = await Promise.all(parts.map((part) => dapo(part.batch, part.options)));
 *     const metrics = await mergeMetricsOnRanks(parts, results, options);
 *     const loss = results.reduce((sum, result) => sum + result.loss, 0); // of this rank's parts
 *     return { parts: parts.length, normalizer: parts[0].options.normalizer, tokens: metrics.tokens, loss };
 *   }),
 * );
 * console.log(sums.map(({ parts, normalizer, tokens }) => [parts, normalizer, tokens])); // => [ [ 1, 7, 7 ], [ 2, 7, 7 ] ]
 * ```
 *
 * @throws RlvrError as {@link microBatches}, on the other ranks `ERR_RANK`, as where ranks have other losses, options or fields; `ERR_RANGE` for
 * `options.parallel.sequence`.
 */
export async function microBatchesOnRanks<B extends CuttableBatch, O extends ParallelOptions = ParallelOptions>(
  batch: B,
  options: MicroBatchesOptions<O>,
): Promise<MicroBatch<B, OptionsOnRanks<O>>[]> {
  return amongRanks(optionsArgument(options).options, (grid) => runAsync(() => cutTask(batch, options, grid), {}, {}));
}

/** {@link microBatchesOnRanks}, blocking. */
export function microBatchesOnRanksSync<B extends CuttableBatch, O extends ParallelOptions = ParallelOptions>(
  batch: B,
  options: MicroBatchesOptions<O>,
): MicroBatch<B, OptionsOnRanks<O>>[] {
  return amongRanksSync(optionsArgument(options).options, (grid) =>
    runSync(() => cutTask(batch, options, grid), {}, {}),
  );
}

function* cutTask<B extends CuttableBatch, O extends ParallelOptions>(
  batch: B,
  options: MicroBatchesOptions<O>,
  grid: RankGrid | undefined,
): Task<MicroBatch<B, OptionsOnRanks<O>>[]> {
  refuseSequence('options.parallel.sequence', grid);
  const { parts, own, counts, ...cut } = cutBatch('microBatchesOnRanks', batch, options);
  const { parallel, ...ofLoss } = cut.options;
  const ofAll = grid?.data ? yield* wholeDenominators(grid.data, counts, { ...cut, options: ofLoss }) : own;
  if (grid) yield* partRanks(grid);
  const ofParts = { ...ofLoss, ...(parallel?.vocab && { parallel: { vocab: parallel.vocab } }), ...ofAll };
  return parts.map((part) => ({ batch: part, options: { ...ofParts } as OptionsOnRanks<O> & Denominators }));
}

/** The denominators of the batches of all ranks. */
function* wholeDenominators(
  ranks: Ranks,
  { sequences, tokens, groups }: Counts,
  { loss, options, fields }: { loss: LossName; options: object; fields: object },
): Task<Denominators> {
  const agreement = agreementOn(fields, options, [loss]);
  const told = yield* ranks.gather([agreement, sequences, tokens, groups ?? 0]);
  requireSame('options.parallel.data', 'loss, options and fields of the batch', ranks, told, 1);
  ranks.end();
  const sum = (k: number) => told.reduce((so, part) => so + part[k], 0);
  return denominators(loss, options, {
    sequences: sum(1),
    tokens: sum(2),
    groups: groups === undefined ? groups : sum(3),
  });
}

/** Options of {@link mergeMetricsOnRanks}. */
export interface MergeOptions {
  /** The ranks, as {@link microBatchesOnRanks} was given them. */
  parallel?: Pick<Parallel, 'data' | 'vocab'> | undefined;
}

/**
 * {@link mergeMetrics} of the parts of all ranks, in one exchange: the metrics of the whole batch, the same on all. A rank that has no parts
 * takes part as well.
 *
 * @example
 * ```ts
 * import { inProcess, mergeMetricsOnRanks } from 'rlvr-kernels';
 *
 * const parts = [[{ batch: { cuSeqlens: [0, 1] } }], [{ batch: { cuSeqlens: [0, 2] } }, { batch: { cuSeqlens: [0, 1] } }]];
 * const results = [[{ metrics: { tokens: 1, kl: 0.3 } }], [{ metrics: { tokens: 2, kl: 0 } }, { metrics: { tokens: 1, kl: 0.1 } }]];
 * const metrics = await Promise.all(
 *   inProcess(2).map((data) => mergeMetricsOnRanks(parts[data.rank], results[data.rank], { parallel: { data } })),
 * );
 * console.log(metrics); // => [ { tokens: 4, kl: 0.1 }, { tokens: 4, kl: 0.1 } ]
 * ```
 *
 * @throws RlvrError as {@link mergeMetrics}, on the other ranks `ERR_RANK`; `ERR_RANGE` for `parallel.sequence`.
 */
export async function mergeMetricsOnRanks<M extends { [Name in keyof Metrics]?: Metrics[Name] | undefined }>(
  parts: readonly MeasuredPart[],
  results: readonly { metrics: M }[],
  options: MergeOptions,
): Promise<Omit<M, 'rolloutEffectiveSampleSize'>> {
  return amongRanks(options, (grid) => runAsync(() => mergeTask<M>(parts, results, options, grid), {}, {}));
}

/** {@link mergeMetricsOnRanks}, blocking. */
export function mergeMetricsOnRanksSync<M extends { [Name in keyof Metrics]?: Metrics[Name] | undefined }>(
  parts: readonly MeasuredPart[],
  results: readonly { metrics: M }[],
  options: MergeOptions,
): Omit<M, 'rolloutEffectiveSampleSize'> {
  return amongRanksSync(options, (grid) => runSync(() => mergeTask<M>(parts, results, options, grid), {}, {}));
}

function* mergeTask<M>(
  parts: readonly MeasuredPart[],
  results: readonly { metrics: object }[],
  options: MergeOptions,
  grid: RankGrid | undefined,
): Task<Omit<M, 'rolloutEffectiveSampleSize'>> {
  takeOptions('mergeMetricsOnRanks', objectArgument('options', options), PARALLEL_OPTION);
  refuseSequence('parallel.sequence', grid);
  const own = measured(parts, results);
  const all = grid?.data ? (yield* grid.data.gather(asNumbers(own))).flatMap(fromNumbers) : own;
  grid?.data?.end();
  if (grid) yield* partRanks(grid);
  return merged(all) as Omit<M, 'rolloutEffectiveSampleSize'>;
}

const METRICS = Object.keys(RULES) as (keyof Metrics)[];
const WEIGHTS = Object.keys(
  namesOf<Weights>({
    ...{ tokens: true, unmasked: true, rolloutTokens: true, sequences: true },
    ...{ positives: true, negatives: true, filledGroups: true },
  }),
) as (keyof Weights)[];
const NUMBERS = METRICS.length + WEIGHTS.length; // of a part

/** NaN, which no metric is, stands for one that a part lacks. */
function asNumbers(parts: readonly Measured[]): number[] {
  return parts.flatMap(({ metrics, weights }) => [
    ...METRICS.map((name) => metrics[name] ?? Number.NaN),
    ...WEIGHTS.map((name) => weights[name]),
  ]);
}

function fromNumbers(told: Float64Array): Measured[] {
  return Array.from({ length: told.length / NUMBERS }, (_, i) => {
    const part = told.subarray(i * NUMBERS, (i + 1) * NUMBERS);
    const known = METRICS.map((name, k) => [name, part[k]] as const).filter(([, value]) => !Number.isNaN(value));
    const weights = WEIGHTS.map((name, k) => [name, part[METRICS.length + k]] as const);
    return {
      metrics: Object.fromEntries(known),
      weights: Object.fromEntries(weights) as Record<keyof Weights, number>,
    };
  });
}

/** Ranks that hold tokens of the same sequences would have to cut these alike, and their weights are of whole sequences. */
function refuseSequence(name: string, grid: RankGrid | undefined): void {
  if (grid?.sequence) throw badArgument('ERR_RANGE', name, 'none: micro-batches are of whole sequences', 'ranks');
}
