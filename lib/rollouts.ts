// What a trainer has in hand after sampling, prompts and answers of any length, as the rows of a causal model's logits.
import { badArgument, describe, isArray } from './errors.js';
import { newArray } from './memory.js';
import { type Numbers, numbers } from './number-lists.js';
import { namesOf, takeOptions } from './options.js';
import { finiteNumber, objectArgument, oneOf, optionsArgument, typedArray } from './validate.js';

/** Token ids of one prompt or answer. */
export type TokenIds = Int32Array | BigInt64Array | readonly number[];

/** Inputs of {@link fromRollouts}: G prompts, several answers to each. */
export interface Rollouts {
  /** [G] the ids of each prompt, at least one: the first token of an answer is scored by the last of its prompt. */
  promptIds: readonly TokenIds[];
  /** [G] of each prompt its answers, as ids without the prompt; with the end token, if it was sampled. Empty ones are legal. */
  answers: readonly (readonly TokenIds[])[];
  /** [G] of each prompt the rewards of its answers. */
  rewards: readonly Numbers[];
  /** [G] of each prompt, for each answer: the sampler's log-prob of each of its tokens. */
  logProbs?: readonly (readonly Numbers[])[] | undefined;
  /** [G] of each prompt, for each answer: 0 for each token that was not sampled, such as what a tool said. Default: all were. */
  answerMask?: readonly (readonly Numbers[])[] | undefined;
}

/** Options of {@link fromRollouts}. */
export interface RolloutsOptions {
  /**
   * Where the padding of a shorter sequence is: `'right'` (default) or `'left'`, or `'none'` for sequences packed one behind the other,
   * as models take them that know `cuSeqlens`.
   */
  padding?: 'right' | 'left' | 'none' | undefined;
  /** Padded only: L, for models that are compiled for few shapes. Default: the longest prompt with its answer. */
  length?: number | undefined;
  /** The id at padding. Default 0. */
  padId?: number | undefined;
}

interface RolloutArrays {
  /** The model's input ids: each prompt with its answer, for each answer. */
  inputIds: Int32Array;
  /** 1 at a token of the input, 0 at padding. */
  attentionMask: Uint8Array;
  /** The next id of the input, which the model's output at this place scores. */
  targets: Int32Array;
  /** 1 where that is a sampled token of an answer. */
  mask: Uint8Array;
  /** [N]. */
  rewards: Float64Array;
  /** [G + 1], one group for each prompt. */
  cuGroups: Int32Array;
}

/** The sampler's log-probs, of rollouts that have them. */
type OldLogProbs<R> = R extends { logProbs: readonly unknown[] }
  ? {
      /** The sampler's log-prob of each sampled token, 0 elsewhere. */
      oldLogProbs: Float64Array;
    }
  : 'logProbs' extends keyof R
    ? {
        /** The same, if there are log-probs. */
        oldLogProbs?: Float64Array;
      }
    : unknown;

/** Result of {@link fromRollouts}: a batch that lacks the logits. Arrays of tokens are [B * L], where B = N; packed they are [T]. */
export type RolloutBatch<R = Rollouts, O = unknown> = RolloutArrays &
  OldLogProbs<R> &
  (O extends { padding: 'none' }
    ? {
        /** [N + 1], sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`. */
        cuSeqlens: Int32Array;
      }
    : {
        /** [B, L], for {@link padded}. */
        shape: readonly [sequences: number, length: number];
      });

/**
 * Prompts and sampled answers as the batch of a causal model, but for the logits: run the model on `inputIds`, add its `logits`, all
 * L rows of each sequence, and hand the batch to {@link padded} and then to a loss; packed, to the loss itself. The shift is done: the output
 * at position t scores the token at t + 1, so `targets[t]` is `inputIds[t + 1]` of the same sequence, and mask and old log-probs lie where
 * that is a token of the answer.
 *
 * `oldLogProbs` are the sampler's. Where it is an inference engine whose log-probs differ from the trainer's own, give them as
 * `rolloutLogProbs` and the trainer's as `oldLogProbs`, for {@link RolloutCorrection}.
 *
 * @example
 * ```ts
 * import { fromRollouts, grpo, padded } from 'rlvr-kernels';
 *
 * const rollouts = fromRollouts({
 *   promptIds: [[5, 1]], // one prompt of two tokens
 *   answers: [[[2, 3], [4]]], // and two answers to it
 *   logProbs: [[[-0.7, -1.2], [-2.3]]],
 *   rewards: [[1, 0]],
 * });
 * console.log(rollouts.shape, rollouts.inputIds); // => [ 2, 4 ] Int32Array(8) [ 5, 1, 2, 3, 5, 1, 4, 0 ]
 * console.log(rollouts.targets, rollouts.mask); // => Int32Array(8) [ 1, 2, 3, 0, 1, 4, 0, 0 ] Uint8Array(8) [ 0, 1, 1, 0, 0, 1, 0, 0 ]
 * const logits = new Float32Array(2 * 4 * 6); // [B, L, V], the model's output on inputIds
 * const { metrics } = await grpo(padded({ ...rollouts, logits, vocab: 6 }));
 * console.log(metrics.tokens, metrics.policyKl); // => 3 0.392
 * ```
 *
 * @throws RlvrError `ERR_SHAPE` for lists whose lengths do not fit, a prompt without ids, or a `length` that is too short;
 * `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION`.
 */
export function fromRollouts<
  const R extends Rollouts,
  const O extends RolloutsOptions = RolloutsOptions & { padding?: 'right' },
>(rollouts: R, options?: O): RolloutBatch<R, O> {
  const sampled = sampledAnswers(rollouts);
  const { padding, length, padId } = layoutOptions(options);
  const { answers } = sampled;
  const lengths = answers.map(({ prompt, ids }) => prompt.length + ids.length);
  const places =
    padding === 'none' ? packedPlaces(lengths) : paddedPlaces(lengths, rowLength(answers, lengths, length), padding);
  const { starts, tokens, ...layout } = places;
  const batch = {
    ...layout,
    inputIds: newArray('inputIds', Int32Array, tokens).fill(padId),
    attentionMask: newArray('attentionMask', Uint8Array, tokens),
    targets: newArray('targets', Int32Array, tokens).fill(padId),
    mask: newArray('mask', Uint8Array, tokens),
    ...(sampled.hasLogProbs && { oldLogProbs: newArray('oldLogProbs', Float64Array, tokens) }),
    rewards: Float64Array.from(answers, ({ reward }) => reward),
    cuGroups: sampled.cuGroups,
  };
  answers.forEach((answer, i) => {
    write(answer, starts[i], batch);
  });
  return batch as unknown as RolloutBatch<R, O>; // what the layout and the log-probs make of it
}

interface Answer {
  at: string; // its name in errors
  prompt: Int32Array;
  ids: Int32Array;
  logProbs: Float64Array | undefined;
  sampled: Float64Array | undefined; // 0 for a token that was not
  reward: number;
}

/** One answer with its prompt, from token `start` on. */
function write(
  answer: Answer,
  start: number,
  batch: Omit<RolloutArrays, 'rewards' | 'cuGroups'> & { oldLogProbs?: Float64Array },
) {
  const { prompt, ids, logProbs, sampled } = answer;
  const length = prompt.length + ids.length;
  const first = start + prompt.length - 1; // the row that scores the answer's first token
  batch.inputIds.set(prompt, start);
  batch.inputIds.set(ids, start + prompt.length);
  batch.attentionMask.fill(1, start, start + length);
  batch.targets.set(batch.inputIds.subarray(start + 1, start + length), start);
  batch.mask.fill(1, first, first + ids.length);
  sampled?.forEach((keep, t) => {
    if (keep === 0) batch.mask[first + t] = 0;
  });
  logProbs?.forEach((logProb, t) => {
    if (batch.mask[first + t] === 1) batch.oldLogProbs![first + t] = logProb;
  });
}

const MOST_TOKENS = 2 ** 31 - 1;
const ID_RANGE = { min: 0, max: MOST_TOKENS, integer: true };

function layoutOptions(options: RolloutsOptions | undefined) {
  const names = namesOf<RolloutsOptions>({ padding: true, length: true, padId: true });
  const given = takeOptions('fromRollouts', optionsArgument(options), names);
  const padding = oneOf('padding', given.padding ?? 'right', ['right', 'left', 'none']);
  if (padding === 'none' && given.length !== undefined)
    throw badArgument('ERR_RANGE', 'length', "none with padding 'none'", describe(given.length));
  const length = given.length === undefined ? undefined : finiteNumber('length', given.length, ID_RANGE);
  return { padding, length, padId: finiteNumber('padId', given.padId ?? 0, ID_RANGE) };
}

/** L. */
function rowLength(answers: readonly Answer[], lengths: readonly number[], given: number | undefined): number {
  const longest = lengths.reduce((most, length, i) => (length > lengths[most] ? i : most), 0);
  const needed = lengths[longest] ?? 0;
  if (given === undefined || given >= needed) return given ?? needed;
  throw badArgument(
    'ERR_SHAPE',
    'length',
    `at least ${needed}, those of ${answers[longest].at} with its prompt`,
    `${given}`,
  );
}

/** Where sequences begin, and how many tokens there are. */
function paddedPlaces(lengths: readonly number[], length: number, padding: 'right' | 'left') {
  const tokens = checkedTotal(lengths.length * length);
  const starts = lengths.map((own, b) => b * length + (padding === 'left' ? length - own : 0));
  return { starts, tokens, shape: [lengths.length, length] as const };
}

function packedPlaces(lengths: readonly number[]) {
  const cuSeqlens = newArray('cuSeqlens', Int32Array, lengths.length + 1);
  let tokens = 0;
  const starts = lengths.map((length, i) => {
    const start = tokens;
    tokens = checkedTotal(tokens + length);
    cuSeqlens[i + 1] = tokens;
    return start;
  });
  return { starts, tokens, cuSeqlens };
}

function checkedTotal(tokens: number): number {
  if (tokens <= MOST_TOKENS) return tokens;
  throw badArgument('ERR_RANGE', 'answers', 'fewer than 2^31 tokens with prompts and padding', `${tokens}`);
}

const ROLLOUTS = namesOf<Rollouts>({ promptIds: true, answers: true, rewards: true, logProbs: true, answerMask: true });

/** The answers, one after the other, checked and copied. */
function sampledAnswers(rollouts: Rollouts) {
  const given = takeOptions('fromRollouts', objectArgument('rollouts', rollouts), ROLLOUTS);
  const prompts = listOf('promptIds', given.promptIds);
  const ofPrompts = (name: string) => listOf(name, given[name], prompts.length, 'prompt');
  const ifGiven = (name: string) => (given[name] === undefined ? undefined : ofPrompts(name));
  const lists = { answers: ofPrompts('answers'), rewards: ofPrompts('rewards') };
  const optional = { logProbs: ifGiven('logProbs'), answerMask: ifGiven('answerMask') };
  const all: Answer[] = [];
  const cuGroups = newArray('cuGroups', Int32Array, prompts.length + 1);
  for (let g = 0; g < prompts.length; g++) {
    const prompt = idsOf(`promptIds[${g}]`, prompts[g]);
    if (prompt.length === 0) throw badArgument('ERR_SHAPE', `promptIds[${g}]`, 'at least one id', 'none');
    const answers = listOf(`answers[${g}]`, lists.answers[g]);
    const rewards = rewardsOf(`rewards[${g}]`, lists.rewards[g], answers.length);
    const ofAnswers = (name: keyof typeof optional) => {
      const ofPrompt = optional[name] && listOf(`${name}[${g}]`, optional[name][g], answers.length, 'answer');
      return (j: number, tokens: number) =>
        ofPrompt && numbersOf(`${name}[${g}][${j}]`, ofPrompt[j], tokens, 'token of the answer');
    };
    const [logProbs, answerMask] = [ofAnswers('logProbs'), ofAnswers('answerMask')];
    for (let j = 0; j < answers.length; j++) {
      const at = `answers[${g}][${j}]`;
      const ids = idsOf(at, answers[j]);
      const perToken = { logProbs: logProbs(j, ids.length), sampled: answerMask(j, ids.length) };
      all.push({ at, prompt, ids, ...perToken, reward: rewards[j] });
    }
    cuGroups[g + 1] = all.length;
  }
  return { answers: all, cuGroups, hasLogProbs: optional.logProbs !== undefined };
}

function rewardsOf(name: string, value: unknown, answers: number): Float64Array {
  const rewards = numbersOf(name, value, answers, 'answer');
  const bad = rewards.findIndex((reward) => !Number.isFinite(reward));
  if (bad === -1) return rewards;
  throw badArgument('ERR_NONFINITE', name, 'finite values', `${rewards[bad]} at index ${bad}`);
}

/** A list, one item for each of `what`. */
function listOf(name: string, value: unknown, length?: number, what = ''): readonly unknown[] {
  if (!isArray(value)) throw badArgument('ERR_DTYPE', name, 'an array', describe(value));
  return length === undefined ? value : ofLength(name, value, length, what);
}

function ofLength<A extends ArrayLike<unknown>>(name: string, values: A, length: number, what: string): A {
  if (values.length === length) return values;
  throw badArgument('ERR_SHAPE', name, `length ${length}, one for each ${what}`, `length ${values.length}`);
}

function idsOf(name: string, value: unknown): Int32Array {
  if (!ArrayBuffer.isView(value) && !isArray(value))
    throw badArgument('ERR_DTYPE', name, 'Int32Array, BigInt64Array or an array of ids', describe(value));
  const given = isArray(value) ? value : typedArray(name, value, ['Int32Array', 'BigInt64Array']);
  const ids = newArray(name, Int32Array, given.length);
  for (let t = 0; t < ids.length; t++) {
    const id = typeof given[t] === 'bigint' ? Number(given[t]) : given[t];
    ids[t] = typeof id === 'number' && Number.isInteger(id) && id >= 0 && id <= MOST_TOKENS ? id : -1;
    if (ids[t] === -1) throw badArgument('ERR_RANGE', name, 'ids in [0, 2^31)', `${describe(given[t])} at index ${t}`);
  }
  return ids;
}

/** Numbers of any value, one for each of `what`. */
function numbersOf(name: string, value: unknown, length: number, what: string): Float64Array {
  if (!ArrayBuffer.isView(value) && !isArray(value))
    throw badArgument('ERR_DTYPE', name, 'Float32Array, Float64Array or an array of numbers', describe(value));
  const list = isArray(value) ? value : typedArray(name, value, ['Float32Array', 'Float64Array']);
  return numbers(name, ofLength<ArrayLike<unknown>>(name, list, length, what));
}
