// The packed batch (spec section 1) that every loss takes, and its validation.

import { badArgument, describe, isArray } from '../errors.js';
import { type AdvantagesOptions, advantageRule, rewardColumns, weightedRewards } from '../estimators.js';
import { checkGroupOrder, fromDense, type Groups } from '../groups.js';
import { chunkBytesOption } from '../layer.js';
import type { Logits } from '../logits.js';
import type { Matrix } from '../matrices.js';
import { type Numbers, numbers, type WholeNumbers } from '../number-lists.js';
import { type LinearLogProbsInputs, type LinearRows, linearRows } from '../ops/linear-log-probs.js';
import { type NonFiniteRule, nonFiniteError, nonFiniteRule } from '../ops/token-log-probs.js';
import { namesOf } from '../options.js';
import type { Ranks } from '../run/ranks.js';
import { type Sliced, slices } from '../slices.js';
import {
  checkNoReplay,
  type FindKept,
  type FindTargets,
  type KeptVocabulary,
  type Rows,
  type TokenRowsInputs,
  temperatureOption,
  tokenRows,
} from '../token-rows.js';
import {
  allFinite,
  type FloatArray,
  finiteFloats,
  floats,
  ifGiven,
  maskedFloats,
  notAboveZero,
  offsets,
  oneSource,
  optionalMask,
  plausibleLogProbs,
  typedArray,
} from '../validate.js';
import { type Columns, columnsKept, columnTargets } from './columns.js';

interface PackedSequences {
  /** [N + 1], sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`; empty sequences are legal. */
  cuSeqlens: WholeNumbers;
  /** [T]; 0 drops a token: its logits are never read, its gradient is 0. */
  mask?: Uint8Array | undefined;
  /** [T] log-probs under the behaviour policy, constants. Omitted: on-policy, every ratio is 1. */
  oldLogProbs?: FloatArray | undefined;
  /** [T] log-probs of the sampled tokens as the inference engine reported them, constants; for metrics and rollout correction. */
  rolloutLogProbs?: FloatArray | undefined;
}

interface FromLogits<L extends Logits> extends PackedSequences, KeptVocabulary {
  /** [T, V] unscaled; row t scores `targets[t]`, `-Infinity` marks a banned token. */
  logits: L;
  /** [T] sampled token ids. */
  targets: Int32Array | BigInt64Array;
  /** Not with logits. */
  hidden?: undefined;
  /** Not with logits. */
  logProbs?: undefined;
}

/** Replay is of logits. */
type NoReplay = { readonly [K in keyof KeptVocabulary]?: undefined };

interface FromHidden<H extends Matrix, W extends Matrix> extends PackedSequences, NoReplay {
  /** [T, d] hidden states, what the last layer (lm_head) is given: `logits = hidden . weight^T + bias`. */
  hidden: H;
  /** [V, d] the weight of that layer. */
  weight: W;
  /** [V] its bias, or a tensor of shape [1, V]; `-Infinity` bans a token. */
  bias?: Matrix | undefined;
  /** [T] sampled token ids. */
  targets: Int32Array | BigInt64Array;
  /** Not with hidden states. */
  logits?: undefined;
  /** Not with hidden states. */
  logProbs?: undefined;
}

interface FromLogProbs<P extends FloatArray> extends PackedSequences, NoReplay {
  /** [T] log-probs of the sampled tokens, in place of logits and targets. */
  logProbs: P;
  /** Not with log-probs. */
  logits?: undefined;
  /** Not with log-probs. */
  hidden?: undefined;
  /** Not with log-probs. */
  targets?: undefined;
}

/**
 * T tokens in N sequences, from logits, from hidden states, or from log-probs:
 *
 * | field | what |
 * |---|---|
 * | `logits`, `targets` | [T, V] {@link Logits}, row t for `targets[t]`; [T] `Int32Array` or `BigInt64Array` of sampled token ids |
 * | with those `keptIds`, `cuKept` | [K] and [T + 1] `Int32Array`, optional: the part of the vocabulary that the sampler kept for each token |
 * | or `hidden`, `weight`, `bias`, `targets` | [T, d], [V, d] and optionally [V], {@link Matrix}: logits that are never held as a whole |
 * | or `logProbs` | [T] {@link FloatArray} of the sampled tokens' log-probs |
 * | `cuSeqlens` | [N + 1] `Int32Array` or plain array: sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`; empty ones are legal |
 * | `mask` | [T] `Uint8Array`, optional; 0 drops a token: its logits are never read, its gradient is 0 |
 * | `oldLogProbs` | [T] optional, under the behaviour policy, constants; omitted: on-policy, every ratio is 1 |
 * | `rolloutLogProbs` | [T] optional, the inference engine's own, constants: for metrics and rollout correction |
 */
export type SequenceBatch<L extends Logits = Logits, P extends FloatArray = FloatArray> =
  | FromLogits<L>
  | FromHidden<Matrix, Matrix>
  | FromLogProbs<P>;

/** @inline */
export interface Rewarded extends RewardedSequences {
  /** [G + 1], group g (one prompt) is sequences `cuGroups[g] ... cuGroups[g + 1]`; groups may be empty. */
  cuGroups: WholeNumbers;
  /** [N] a permutation: group g is then sequences `groupOrder[cuGroups[g]] ...`; see {@link fromDense}. */
  groupOrder?: WholeNumbers | undefined;
  /** Not with `cuGroups`. */
  groupIds?: undefined;
}

/** @inline */
export interface RewardedById extends RewardedSequences {
  /**
   * [N] in place of `cuGroups` the prompt of each sequence: any numbers, equal for the sequences of one group, also for those on other
   * ranks of `parallel.data`. Groups are numbered as they first appear, those of rank 0 before those of rank 1.
   */
  groupIds: Int32Array | readonly number[];
  /** Not with `groupIds`. */
  cuGroups?: undefined;
  /** Not with `groupIds`. */
  groupOrder?: undefined;
}

/** @inline */
interface RewardedSequences {
  /**
   * [N] verified rewards; positive: `reward > positiveThreshold`. With the advantage estimator `gdpo` [N, K], those of sequence i at
   * `K * i ...`; elsewhere their weighted sum counts.
   */
  rewards: Numbers;
}

/** N rewarded rollouts of T tokens in G groups, packed: what the losses take. {@link padded} makes one from a padded batch. */
export type Batch<L extends Logits = Logits, P extends FloatArray = FloatArray> = SequenceBatch<L, P> & Rewarded;

/** A validated batch of sequences. */
export interface CheckedSequences {
  tokens: number; // T
  sequences: number; // N
  cuSeqlens: Int32Array;
  mask: Uint8Array | undefined;
  oldLogProbs: Float64Array | undefined;
  rolloutLogProbs: Float64Array | undefined;
  rows: Rows | undefined; // from logits
  columns: Columns | undefined; // where ranks share the vocabulary
  layer: LinearRows | undefined; // from hidden states
  logProbs: Float64Array | undefined; // from log-probs
  logProbsSource: FloatArray | undefined;
  onNonFinite: NonFiniteRule;
  chunkBytes: number; // from hidden states
}

/** What a batch's token level depends on. */
export interface TokenLevelOptions {
  /** Sampling temperature, > 0: the logits are divided by it. Default 1; unused with log-probs. */
  temperature?: number | undefined;
  /**
   * Default `'error'`: a token without a finite log-prob throws, naming the first row. `'skip'` drops such tokens like a
   * mask and counts them in `metrics.nonFiniteTokens`. Where the gradient is written in one pass (docs/spec.md, section 9), its
   * memory, in place the logits, is in an unspecified state after that error.
   */
  onNonFinite?: NonFiniteRule | undefined;
  /**
   * From hidden states: the bytes of logits, in float32, that are kept from the forward to the backward pass, which computes the others
   * again. Any number gives the same bits. Default 2^26, 64 MiB; 4 * T * V keeps all. On CUDA it is also how many there are at a time,
   * and the last bits may depend on it; more is faster there.
   */
  chunkBytes?: number | undefined;
}

/** Names of {@link TokenLevelOptions}. */
export const TOKEN_LEVEL_OPTIONS = namesOf<TokenLevelOptions>({
  temperature: true,
  onNonFinite: true,
  chunkBytes: true,
});

/** `missing`: NaN in `rolloutLogProbs` stands for tokens that the engine could not score. */
export function* checkSequences(
  batch: SequenceBatch,
  options: TokenLevelOptions,
  missing = false,
  vocab?: { ranks: Ranks; start: number },
): Sliced<CheckedSequences> {
  oneSource(batch);
  temperatureOption(options.temperature);
  if (vocab) requireColumns(batch);
  const chunkBytes = chunkBytesOption(options.chunkBytes);
  let columns: Columns | undefined;
  const inColumns: FindTargets = function* (rows, mask) {
    const { all, own } = yield* columnTargets(batch.targets, rows, mask, vocab!.start);
    columns = { ...vocab!, targets: all, kept: undefined, without: undefined };
    return own;
  };
  const keptInColumns: FindKept = function* (given, { view, mask }) {
    const { all, own, without } = yield* columnsKept(given, view, { ...columns!, mask });
    columns = { ...columns!, kept: all, without };
    return own;
  };
  const find = vocab && inColumns;
  const findKept = vocab && keptInColumns;
  const rows = batch.logits === undefined ? undefined : yield* tokenRows(batch, options.temperature, find, findKept);
  const layer = batch.hidden === undefined ? undefined : yield* linearRows(batch, options.temperature, find);
  if (batch.logProbs !== undefined) checkNoReplay(batch, 'log-probs');
  const { logProbs: source, oldLogProbs, rolloutLogProbs } = batch;
  const tokens = (rows ?? layer)?.targets.length ?? typedArray('logProbs', source, LOG_PROBS).length;
  const mask = optionalMask(batch.mask, tokens);
  const cuSeqlens = yield* offsets('cuSeqlens', batch.cuSeqlens, tokens, 'T');
  return {
    tokens,
    sequences: cuSeqlens.length - 1,
    cuSeqlens,
    mask,
    oldLogProbs:
      oldLogProbs === undefined ? undefined : yield* constantLogProbs('oldLogProbs', oldLogProbs, tokens, mask),
    rolloutLogProbs:
      rolloutLogProbs === undefined ? undefined : yield* checkRollout(rolloutLogProbs, tokens, mask, missing),
    rows,
    columns,
    layer,
    logProbs:
      source === undefined
        ? undefined
        : yield* notAboveZero('logProbs', yield* floats('logProbs', source, tokens, 'T'), mask),
    logProbsSource: source,
    onNonFinite: nonFiniteRule(options.onNonFinite),
    chunkBytes,
  };
}

const LOG_PROBS = ['Float32Array', 'Float64Array'] as const;

function requireColumns({ logProbs }: SequenceBatch): void {
  if (logProbs !== undefined) throw badArgument('ERR_RANGE', 'parallel.vocab', 'logits or hidden states', 'log-probs');
}

function* checkRollout(value: unknown, tokens: number, mask: Uint8Array | undefined, missing: boolean) {
  const name = 'rolloutLogProbs';
  if (!missing) return yield* constantLogProbs(name, value, tokens, mask, ", or rolloutCorrection with missing: 'one'");
  return yield* plausibleLogProbs(name, yield* floats(name, value, tokens, 'T, one value per token'), mask);
}

/** [T] log-probs of another policy, none of them NaN where a token counts. */
export function* constantLogProbs(
  name: string,
  value: unknown,
  tokens: number,
  mask: Uint8Array | undefined,
  remedy = '',
): Sliced<Float64Array> {
  return yield* plausibleLogProbs(name, yield* maskedFloats(name, value, tokens, mask, remedy), mask);
}

/** Those with another mask. */
export function withMask<C extends CheckedSequences>(checked: C, mask: Uint8Array): C {
  const { rows, layer } = checked;
  return { ...checked, mask, rows: rows && { ...rows, mask }, layer: layer && { ...layer, mask } };
}

/** What a backward pass reads of a batch. */
export function backwardFields({ rows, layer, mask, logProbsSource }: CheckedSequences) {
  return {
    logits: rows?.view.source,
    hidden: layer?.hidden.source,
    weight: layer?.weight.source,
    bias: layer?.bias?.source,
    targets: (rows ?? layer)?.targets,
    keptIds: rows?.replay?.keptIds,
    cuKept: rows?.replay?.cuKept,
    mask,
    logProbs: logProbsSource,
  };
}

/** Those again, checked: the caller may have changed or detached them since, and a call may have copied them. */
export function* recheckSequences(
  checked: CheckedSequences,
  fields: ReturnType<typeof backwardFields>,
): Sliced<CheckedSequences> {
  const { tokens, rows, layer } = checked;
  const mask = optionalMask(fields.mask, tokens);
  // biome-ignore lint/correctness/useYield: nothing to look for
  const found: FindTargets = function* () {
    return (rows ?? layer)!.targets; // an array of our own
  };
  // biome-ignore lint/correctness/useYield: likewise
  const foundKept: FindKept = function* () {
    return rows!.replay!;
  };
  const [find, findKept] = checked.columns ? [found, foundKept] : [];
  if (rows)
    return { ...checked, mask, rows: yield* tokenRows(fields as TokenRowsInputs, rows.temperature, find, findKept) };
  if (layer)
    return { ...checked, mask, layer: yield* linearRows(fields as LinearLogProbsInputs, layer.temperature, find) };
  return { ...checked, mask, logProbsSource: fields.logProbs };
}

/** The groups and [N] rewards of a checked batch, as far as it has them. */
export interface CheckedGroups {
  cuGroups: Int32Array | undefined; // [G + 1]
  groupOrder: Int32Array | undefined; // [N]
  groupIds: Float64Array | undefined; // [N] where the groups are given by those
  rewards: Float64Array | undefined; // [N]
  rewardColumns: Float64Array | undefined; // [N, K], of which those are the weighted sum
}

/**
 * The groups and rewards that a batch may have.
 * @inline
 */
export type GroupFields = { [K in keyof RewardedById]?: Rewarded[K] | RewardedById[K] | undefined };

/** `advantage`: options that say whether a sequence has several rewards. */
export function* checkGroups(
  batch: GroupFields,
  sequences: number,
  advantage?: AdvantagesOptions,
): Sliced<CheckedGroups> {
  const { groupIds, rewards } = batch;
  const ids = groupIds === undefined ? undefined : checkIds(groupIds, batch, sequences);
  const { cuGroups, groupOrder } = ids ? fromDense(Array.from(ids)) : batch;
  const wanted = cuGroups !== undefined || groupOrder !== undefined;
  const several = advantage?.estimator === 'gdpo' && rewards !== undefined ? advantageRule(advantage) : undefined;
  const columns = several && (yield* rewardColumns(rewards, sequences, several.weights));
  return {
    cuGroups: wanted ? yield* offsets('cuGroups', cuGroups, sequences, 'N') : undefined,
    groupOrder: groupOrder === undefined ? undefined : yield* checkGroupOrder('groupOrder', groupOrder, sequences),
    rewards: columns
      ? yield* weightedRewards(columns, sequences, several.weights)
      : yield* ifGiven(rewards, (given) => finiteFloats('rewards', given, sequences, 'N, one reward per sequence')),
    rewardColumns: columns,
    groupIds: ids,
  };
}

/** Ids of groups, in place of offsets. */
function checkIds(value: unknown, { cuGroups, groupOrder }: GroupFields, sequences: number): Float64Array {
  if (cuGroups !== undefined || groupOrder !== undefined)
    throw badArgument('ERR_RANGE', 'groupIds', 'none beside cuGroups and groupOrder', describe(value));
  const ids = isArray(value) ? numbers('groupIds', value) : typedArray('groupIds', value, ['Int32Array']);
  if (ids.length !== sequences)
    throw badArgument('ERR_SHAPE', 'groupIds', `length N = ${sequences}, one per sequence`, `length ${ids.length}`);
  const bad = ids.findIndex((id) => !Number.isFinite(id));
  if (bad !== -1) throw badArgument('ERR_NONFINITE', 'groupIds', 'finite numbers', `${ids[bad]} at index ${bad}`);
  return Float64Array.from(ids);
}

/** Groups and rewards, for an objective that needs them. Throws, as any check does, where the batch lacks one. */
export function requireGroups({ cuGroups, groupOrder, rewards }: CheckedGroups): Groups & { rewards: Float64Array } {
  return {
    cuGroups: cuGroups ?? typedArray('cuGroups', cuGroups, ['Int32Array']),
    groupOrder,
    rewards: rewards ?? (typedArray('rewards', rewards, ['Float32Array', 'Float64Array']) as Float64Array),
  };
}

/** A token level that needs no kernel. */
export interface GivenLogProbs {
  logProbs: Float64Array; // [T]
  mask: Uint8Array | undefined; // [T]
  nonFinite: Int32Array; // [1]
}

/** Given log-probs as a token level: themselves if they are finite, else a copy with 0 where a token does not count. */
export function* givenLogProbs(checked: CheckedSequences): Sliced<GivenLogProbs> {
  const { mask, onNonFinite } = checked;
  const given = checked.logProbs ?? new Float64Array();
  if (yield* allFinite(given)) return { logProbs: given, mask, nonFinite: new Int32Array(1) };
  const logProbs = new Float64Array(given.length);
  const kept = new Uint8Array(given.length);
  let first = -1;
  let count = 0;
  yield* slices(given.length, (begin, end) => {
    for (let t = begin; t < end; t++) {
      if (mask?.[t] === 0) continue;
      if (Number.isFinite(given[t])) {
        logProbs[t] = given[t];
        kept[t] = 1;
        continue;
      }
      if (first === -1) first = t;
      count++;
    }
  });
  if (count > 0 && onNonFinite === 'error') throw nonFiniteError('logProbs', 'token', first, count);
  return { logProbs, mask: count > 0 ? kept : mask, nonFinite: Int32Array.of(count) };
}
