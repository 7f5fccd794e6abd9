// The batch of all ranks, as far as a loss looks at more than one sequence at a time (spec section 12). A rank that computes by itself has
// all of it: then nothing here is exchanged, nor read before it would be.
import { type DenseGroups, fromDense } from '../groups.js';
import type { CheckedGroups, CheckedSequences } from '../levels/batch.js';
import { type KnownTokens, readResults, type TokenLevel, tokenCountsTask } from '../levels/token-level.js';
import { concatenated } from '../memory.js';
import type { Weights } from '../ops/advantage-objective.js';
import { requireSame } from '../run/agreement.js';
import type { Ranks } from '../run/ranks.js';
import { type MaybePending, read, type Task } from '../run/task.js';
import { total } from '../slices.js';

/** What all ranks know of the whole batch: its sequences are those of rank 0, then those of rank 1, and so on. */
export interface Whole extends CheckedGroups {
  ranks: Ranks | undefined; // none beside this one
  sequences: number; // N of all ranks
  first: number; // the first of this rank's among those
  firstToken: number; // and its first token
  tokenCounts?: Float64Array; // [N of all ranks], once they are exchanged
  tokens?: number; // their sum, once it is
}

/** The whole batch of a rank by itself. */
export function alone(sequences: number, groups: CheckedGroups): Whole {
  return Object.assign({ ranks: undefined, sequences, first: 0, firstToken: 0 }, groups);
}

/** How a rank's sequences are grouped. */
const KINDS = { none: 0, adjacent: 1, ordered: 2, byId: 3 };

const kindOf = ({ cuGroups, groupOrder, groupIds }: CheckedGroups) =>
  groupIds ? KINDS.byId : groupOrder ? KINDS.ordered : cuGroups ? KINDS.adjacent : KINDS.none;

/**
 * Tells the other ranks of this one's batch, and learns of theirs. `agreement` is a number that stands for what must be the same on all
 * ranks.
 */
export function* meet(
  ranks: Ranks,
  { tokens, sequences }: CheckedSequences,
  groups: CheckedGroups,
  agreement: number,
): Task<Whole> {
  const { cuGroups, groupOrder, groupIds, rewards, rewardColumns } = groups;
  const sizes = groupIds ? undefined : cuGroups?.subarray(1).map((end, g) => end - cuGroups[g]);
  const facts = [agreement, tokens, sequences, kindOf(groups), sizes?.length ?? 0, rewardColumns?.length ?? 0];
  const order = groupIds ?? groupOrder;
  const gathered = yield* ranks.gather(facts, rewards, rewardColumns, sizes, order);
  requireSame('parallel.data', 'loss, options and fields of the batch', ranks, gathered, 1);
  const parts = gathered.map((part) => partOf(part, rewards !== undefined));
  const before = parts.slice(0, ranks.rank);
  return {
    ranks,
    sequences: sum(parts.map((part) => part.sequences)),
    first: sum(before.map((part) => part.sequences)),
    firstToken: sum(before.map((part) => part.tokens)),
    rewards: rewards && joined(parts.map((part) => part.rewards)),
    rewardColumns: rewardColumns && joined(parts.map((part) => part.rewardColumns)),
    groupIds: undefined,
    ...groupsOf(parts),
  };
}

/** What a rank tells of its batch. */
type Part = ReturnType<typeof partOf>;

const FACTS = 6; // numbers before those lists

function partOf(told: Float64Array, rewarded: boolean) {
  const [, tokens, sequences, kind, groups, columns] = told;
  let end = FACTS;
  const next = (length: number) => {
    end += length;
    return told.subarray(end - length, end);
  };
  return {
    tokens,
    sequences,
    kind,
    rewards: next(rewarded ? sequences : 0),
    rewardColumns: next(columns),
    sizes: next(groups),
    order: kind === KINDS.ordered || kind === KINDS.byId ? next(sequences) : undefined, // or ids
  };
}

/** The groups of all ranks. Where these have ids, one of the same id is the same group. */
function groupsOf(parts: readonly Part[]): Partial<DenseGroups> & Pick<CheckedGroups, 'cuGroups' | 'groupOrder'> {
  const kinds = parts.map(({ kind }) => kind);
  if (kinds.includes(KINDS.byId)) return fromDense(Array.from(joined(parts.map(({ order }) => order))));
  if (!kinds.some((kind) => kind !== KINDS.none)) return { cuGroups: undefined, groupOrder: undefined };
  const sizes = joined(parts.map((part) => part.sizes));
  const cuGroups = new Int32Array(sizes.length + 1);
  sizes.forEach((size, g) => {
    cuGroups[g + 1] = cuGroups[g] + size;
  });
  if (!kinds.includes(KINDS.ordered)) return { cuGroups, groupOrder: undefined };
  let first = 0;
  const orders = parts.map(({ sequences, order }) => {
    const begin = first;
    first += sequences;
    return Int32Array.from({ length: sequences }, (_, k) => begin + (order?.[k] ?? k));
  });
  return { cuGroups, groupOrder: Int32Array.from(joined(orders)) };
}

/** One after the other. */
const joined = (arrays: readonly (ArrayLike<number> | undefined)[]) => concatenated('parallel', arrays);

const sum = (numbers: readonly number[]) => numbers.reduce((so, number) => so + number, 0);

/** Columns of values, one beside the other, of all ranks: those of rank 0, then those of rank 1, and so on. */
export function* gatherColumns(ranks: Ranks, columns: readonly Float64Array[]): Task<Float64Array[]> {
  const parts = yield* ranks.gather(...columns);
  return columns.map((_, k) =>
    joined(
      parts.map((part) => {
        const length = part.length / columns.length;
        return part.subarray(k * length, (k + 1) * length);
      }),
    ),
  );
}

/** The sums over all ranks of a few numbers. */
export function* sumOverRanks(ranks: Ranks | undefined, numbers: readonly number[]): Task<number[]> {
  if (!ranks) return [...numbers];
  const parts = yield* ranks.gather(numbers);
  return numbers.map((_, k) => sum(parts.map((part) => part[k])));
}

/** The part of this rank in values of all sequences, or of this many of all tokens. A copy, which is the caller's. */
export function ownPart(values: Float64Array, first: number, count: number): Float64Array {
  return count === values.length ? values : values.slice(first, first + count);
}

/** What an objective needs of the scores. */
interface Scored {
  scores: MaybePending<Float64Array>; // [N]
  tokenCounts: MaybePending<Float64Array>; // [N]
}

/** The scores and the token counts of the whole batch; a rank by itself need not read them. */
export function* wholeScores(level: TokenLevel, whole: Whole, channel: Scored): Task<Scored> {
  return whole.ranks ? yield* readWholeScores(level, whole, channel) : channel;
}

/** Those and `further` ones [N], read. */
export function* readWholeScores(
  level: TokenLevel,
  { ranks }: Whole,
  { scores, tokenCounts }: Scored,
  further: readonly MaybePending<Float64Array>[] = [],
): Task<{ scores: Float64Array; tokenCounts: Float64Array; others: Float64Array[] }> {
  const own = yield* readResults(level, { nonFinite: level.nonFinite, scores, tokenCounts, further });
  const columns = [own.scores, own.tokenCounts, ...(own.further as Float64Array[])];
  const [ofAll, counts, ...others] = ranks ? yield* gatherColumns(ranks, columns) : columns;
  return { scores: ofAll, tokenCounts: counts, others };
}

/** What an objective makes of the scores of the whole batch. */
interface WholeResult {
  loss: MaybePending<Float64Array>; // [1]
  gradScores: MaybePending<Float64Array>; // [N of all ranks]
}

/** This rank's part of a result of the whole batch: the loss, which all have, is the first rank's; and the gradient of its own scores. */
export function* ownResult(
  whole: Whole,
  sequences: number,
  { loss, gradScores }: WholeResult,
): Task<{ losses: MaybePending<Float64Array>[]; gradScores: MaybePending<Float64Array> }> {
  const { ranks, first } = whole;
  if (!ranks) return { losses: [loss], gradScores };
  const [gradient] = yield* read(gradScores);
  return { losses: ranks.rank === 0 ? [loss] : [], gradScores: ownPart(gradient, first, sequences) };
}

/** [N of all ranks] the tokens of each sequence that count. */
export function* wholeTokenCounts(tokens: KnownTokens, whole: Whole): Task<Float64Array> {
  const own = yield* tokenCountsTask(tokens);
  if (!whole.ranks) return own;
  if (!whole.tokenCounts) {
    [whole.tokenCounts] = yield* gatherColumns(whole.ranks, [own]);
    whole.tokens = yield* total(whole.tokenCounts);
  }
  return whole.tokenCounts;
}

/** Weights of an aggregation, whose denominator is the whole batch's. */
export function* wholeWeights(tokens: KnownTokens, whole: Whole, weights: Weights): Task<Weights> {
  if (!whole.ranks || weights.normalizer !== 0) return weights;
  whole.tokens ??= (yield* sumOverRanks(whole.ranks, [yield* total(yield* tokenCountsTask(tokens))]))[0];
  return { ...weights, normalizer: whole.tokens };
}
