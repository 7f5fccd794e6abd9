// Whole sequences from the tokens that ranks hold of them (spec section 12): what a loss looks at of a token meets, once before its row is
// read and once after. In between and from there on all ranks have the same batch of log-probs, and the gradient of its own rows each.
import { badArgument } from '../errors.js';
import { newArray } from '../memory.js';
import { requireSame } from '../run/agreement.js';
import type { Ranks } from '../run/ranks.js';
import { read, type Task } from '../run/task.js';
import { mapped, type Sliced, slices } from '../slices.js';
import { floats, typedArray } from '../validate.js';
import { type CheckedSequences, givenLogProbs } from './batch.js';
import type { Term } from './gradient.js';
import { ownLogProbs, readResults, type TokenLevel } from './token-level.js';

/** Sequences of which ranks hold a part each: the tokens of each are those of rank 0, then those of rank 1, and so on. */
export interface Pieces {
  ranks: Ranks;
  /** The batch of whole sequences, whose log-probs are yet to be known. */
  whole: CheckedSequences;
  /** Fields of it that an objective checks. */
  fields: Record<string, Float64Array>;
  /** Of each rank where its tokens of each sequence begin [N], and the offsets of them in its own batch [N + 1]. */
  places: readonly Place[];
}

interface Place {
  begins: Int32Array;
  cuSeqlens: Int32Array;
}

/** What objectives look at of each token, besides what is checked for all. */
const FIELDS = ['refLogProbs', 'teacherLogProbs', 'rolloutWeights', 'tokenWeights'] as const;

/** Whether advantages are [N], [T], or might be either on this rank. */
const ADVANTAGES = { none: 0, ofSequences: 1, ofTokens: 2, ofEither: 3 };

/** Meets the ranks that hold other tokens of the same sequences. `agreement` stands for what must be the same on all. */
export function* meetTokens(
  ranks: Ranks,
  own: CheckedSequences,
  batch: object,
  agreement: readonly number[],
): Task<Pieces> {
  const { tokens, sequences, mask, oldLogProbs, rolloutLogProbs } = own;
  const further = batch as Partial<Record<string, unknown>>;
  const advantages = kindOfAdvantages(further.advantages, own);
  const names: string[] = FIELDS.filter((name) => further[name] !== undefined);
  if (advantages >= ADVANTAGES.ofTokens) names.push('advantages');
  const columns = [oldLogProbs, rolloutLogProbs, mask].filter((column) => column !== undefined);
  for (const name of names) columns.push(yield* floats(name, further[name], tokens, 'T, one value per token'));
  const lengths = own.cuSeqlens.subarray(1).map((end, i) => end - own.cuSeqlens[i]);
  const facts = [...agreement, sequences, tokens, advantages, mask ? 1 : 0];
  const parts = yield* ranks.gather(facts, lengths, ...columns);
  const what = 'sequences, groups, rewards, loss, options and fields of the batch';
  requireSame('parallel.sequence', what, ranks, parts, agreement.length + 1);
  const told = parts.map((part) => partOf(part, agreement.length, sequences));
  const { cuSeqlens, places } = placesOf(told, sequences);
  const pieces: Pieces = {
    ranks,
    whole: {
      ...own,
      tokens: cuSeqlens[sequences],
      cuSeqlens,
      logProbs: undefined,
      rows: undefined,
      columns: undefined,
      layer: undefined,
    },
    fields: {},
    places,
  };
  const next = () =>
    joined(
      pieces,
      told.map((part) => part.next()),
    );
  if (oldLogProbs) pieces.whole.oldLogProbs = yield* next();
  if (rolloutLogProbs) pieces.whole.rolloutLogProbs = yield* next();
  if (told.some((part) => part.isMasked)) {
    const masks = told.map((part) => (part.isMasked ? part.next() : new Float64Array(part.tokens).fill(1)));
    pieces.whole.mask = Uint8Array.from(yield* joined(pieces, masks));
  }
  for (const name of names.filter((name) => name !== 'advantages')) pieces.fields[name] = yield* next();
  if (areOfTokens(told.map((part) => part.advantages))) pieces.fields.advantages = yield* next();
  return pieces;
}

function kindOfAdvantages(value: unknown, { tokens, sequences }: CheckedSequences): number {
  if (value === undefined) return ADVANTAGES.none;
  const { length } = typedArray('advantages', value, ['Float32Array', 'Float64Array']);
  if (length === sequences) return length === tokens ? ADVANTAGES.ofEither : ADVANTAGES.ofSequences;
  if (length === tokens) return ADVANTAGES.ofTokens;
  const expected = `length N = ${sequences}, one per sequence (or T = ${tokens}, one per token)`;
  throw badArgument('ERR_SHAPE', 'advantages', expected, `length ${length}`);
}

function areOfTokens(kinds: readonly number[]): boolean {
  const [tokens, sequences] = [kinds.includes(ADVANTAGES.ofTokens), kinds.includes(ADVANTAGES.ofSequences)];
  if (!tokens || !sequences) return tokens;
  throw badArgument('ERR_RANK', 'advantages', 'those of tokens, or those of sequences, on all ranks', 'both');
}

/** What a rank tells: its numbers, and `next` the columns [T] behind them. */
function partOf(told: Float64Array, from: number, sequences: number) {
  const [, tokens, advantages, masked] = told.subarray(from);
  const lengths = told.subarray(from + 4, from + 4 + sequences);
  let end = from + 4 + sequences;
  const next = () => {
    end += tokens;
    return told.subarray(end - tokens, end);
  };
  return { tokens, advantages, isMasked: masked === 1, lengths, next };
}

function placesOf(parts: readonly { lengths: Float64Array; tokens: number }[], sequences: number) {
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  if (tokens >= 2 ** 31)
    throw badArgument('ERR_RANGE', 'parallel.sequence', 'less than 2^31 tokens in all', `${tokens}`);
  const cuSeqlens = newArray('cuSeqlens', Int32Array, sequences + 1);
  const places = parts.map(() => ({ begins: new Int32Array(sequences), cuSeqlens: new Int32Array(sequences + 1) }));
  let end = 0;
  for (let i = 0; i < sequences; i++) {
    parts.forEach(({ lengths }, r) => {
      places[r].begins[i] = end;
      places[r].cuSeqlens[i + 1] = places[r].cuSeqlens[i] + lengths[i];
      end += lengths[i];
    });
    cuSeqlens[i + 1] = end;
  }
  return { cuSeqlens, places };
}

/** [T of all ranks] from what each has of them. */
function* joined({ whole, places }: Pieces, parts: readonly Float64Array[]): Sliced<Float64Array> {
  const all = newArray('parallel', Float64Array, whole.tokens);
  for (const [r, { begins, cuSeqlens }] of places.entries()) {
    yield* slices(begins.length, (first, last) => {
      for (let i = first; i < last; i++) all.set(parts[r].subarray(cuSeqlens[i], cuSeqlens[i + 1]), begins[i]);
    });
  }
  return all;
}

/** This rank's [T] of values of all tokens. */
export function* ownTokens<A extends Float64Array | Uint8Array>({ ranks, places }: Pieces, all: A): Sliced<A> {
  const { begins, cuSeqlens } = places[ranks.rank];
  const own = newArray('parallel', all.constructor as new (length: number) => A, cuSeqlens[begins.length]);
  yield* slices(begins.length, (first, last) => {
    for (let i = first; i < last; i++) {
      const length = cuSeqlens[i + 1] - cuSeqlens[i];
      own.set(all.subarray(begins[i], begins[i] + length), cuSeqlens[i]);
    }
  });
  return own;
}

/**
 * The token level of whole sequences, as one of given log-probs, from that of this rank's tokens. `checked` is the batch of those, with the
 * mask that an objective has left.
 */
export function* joinTokens(pieces: Pieces, own: TokenLevel, checked: CheckedSequences): Task<TokenLevel> {
  const { logProbs, entropy, nonFinite } = own;
  const mask = own.checked.onNonFinite === 'skip' ? own.mask : undefined;
  const results = yield* readResults(own, { logProbs, entropy, nonFinite, mask });
  const told = yield* withoutDropped(own, yield* ownLogProbs(own, results.logProbs), results.mask);
  const parts = yield* pieces.ranks.gather(told, results.entropy);
  const tokensOf = (part: Float64Array) => part.length / (results.entropy ? 2 : 1);
  const all = yield* joined(
    pieces,
    parts.map((part) => part.subarray(0, tokensOf(part))),
  );
  const entropies =
    results.entropy &&
    (yield* joined(
      pieces,
      parts.map((part) => part.subarray(tokensOf(part))),
    ));
  const given = yield* givenLogProbs({ ...checked, logProbs: all });
  const { logProbs: whole, mask: kept, nonFinite: dropped } = given;
  return { checked, given, logProbs: whole, logSumExp: undefined, entropy: entropies, mask: kept, nonFinite: dropped };
}

/** NaN in place of the log-probs of tokens that were dropped, though not by the mask. */
function* withoutDropped(
  { checked, given }: TokenLevel,
  logProbs: Float64Array,
  kept: Uint8Array | undefined,
): Sliced<Float64Array> {
  const left = given ? given.mask : kept;
  if (!left || left === checked.mask) return logProbs;
  return yield* mapped(logProbs, (logProb, t) => (left[t] === 0 && checked.mask?.[t] !== 0 ? Number.NaN : logProb));
}

/** Terms of whole sequences by what they are to this rank's tokens: the gradient of a mean is the same for all of a sequence. */
export function* ownTerms(pieces: Pieces, terms: readonly Term[]): Task<Term[]> {
  const own: Term[] = [];
  for (const term of terms) {
    const { scoreGrads } = term.channel;
    const [all] = yield* read(scoreGrads);
    own.push(all ? { ...term, channel: { ...term.channel, scoreGrads: yield* ownTokens(pieces, all) } } : term);
  }
  return own;
}
