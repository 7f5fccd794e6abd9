// The rows of the token level, [T, V] logits with a target each, as a call gives them and as kernels take them.

import { badArgument } from './errors.js';
import { type Logits, type LogitsView, logitsView } from './logits.js';
import { raggedSlices, type Sliced } from './slices.js';
import { finiteNumber, ID_ARRAYS, offsets, optionalMask, targetIds, typedArray } from './validate.js';

/**
 * What the sampler of an inference engine left of the vocabulary (top-k, top-p, min-p), token by token: a token's probabilities are
 * over that alone, so that they are those it was sampled with. Logits of other ids are not read, and have no gradient.
 *
 * @inline
 */
export interface KeptVocabulary {
  /** [K] the ids kept for one token after the other, ascending for each; the target is one of them. With `cuKept`. */
  keptIds?: Int32Array | undefined;
  /** [T + 1], token t keeps `keptIds[cuKept[t] ... cuKept[t + 1]]`; none: the whole vocabulary. */
  cuKept?: Int32Array | undefined;
}

/** A token's row of logits, in both directions. */
export interface TokenRowsInputs extends KeptVocabulary {
  logits: Logits;
  targets: Int32Array | BigInt64Array;
  mask?: Uint8Array | undefined;
}

/** Checked rows. */
export interface Rows {
  view: LogitsView;
  targets: Int32Array;
  mask: Uint8Array | undefined;
  replay: Replay | undefined;
  temperature: number;
}

/** A checked {@link KeptVocabulary}. */
export type Replay = Record<'keptIds' | 'cuKept', Int32Array>;

/** Beyond these, logits / temperature would leave float64 no digits for the differences. */
export function temperatureOption(value: unknown): number {
  return finiteNumber('temperature', value ?? 1, { above: 0, min: 1e-6, max: 1e6 });
}

/** Where the targets are among the V columns of T rows. */
export type FindTargets = (
  rows: Pick<LogitsView, 'tokens' | 'vocab'>,
  mask: Uint8Array | undefined,
) => Sliced<Int32Array>;

/** Where the kept ids are among them, likewise. */
export type FindKept = (given: KeptVocabulary, rows: KeptRows) => Sliced<Replay>;

/** Rows of which some ids are kept. */
type KeptRows = Pick<Rows, 'targets' | 'mask'> & { view: Pick<LogitsView, 'tokens' | 'vocab'> };

/**
 * Validates what both directions share. T is the length of `targets`. `find` looks for the targets in other columns than the first V of a
 * vocabulary, and `findKept` for the ids that are kept.
 */
export function* tokenRows(
  inputs: TokenRowsInputs,
  temperature: unknown,
  find: FindTargets = (view, mask) => targetIds(inputs.targets, view.tokens, view.vocab, mask),
  findKept: FindKept = checkReplay,
): Sliced<Rows> {
  const tokens = typedArray('targets', inputs.targets, ID_ARRAYS).length;
  const view = logitsView('logits', inputs.logits, tokens);
  const mask = optionalMask(inputs.mask, tokens);
  const targets = yield* find(view, mask);
  const rows = { view, targets, mask, replay: undefined, temperature: temperatureOption(temperature) };
  const { keptIds, cuKept } = inputs;
  return keptIds === undefined && cuKept === undefined ? rows : { ...rows, replay: yield* findKept(inputs, rows) };
}

/** Refuses a {@link KeptVocabulary} where there are no logits that it could be of. */
export function checkNoReplay({ keptIds, cuKept }: KeptVocabulary, source: string): void {
  if (keptIds === undefined && cuKept === undefined) return;
  throw badArgument('ERR_RANGE', keptIds === undefined ? 'cuKept' : 'keptIds', 'a batch of logits', source);
}

/** What is kept of the V columns of T rows. */
export function* checkReplay(given: KeptVocabulary, { view, targets, mask }: KeptRows): Sliced<Replay> {
  const keptIds = typedArray('keptIds', given.keptIds, ['Int32Array']);
  const cuKept = yield* offsets('cuKept', given.cuKept, keptIds.length, 'K, the length of keptIds');
  if (cuKept.length !== view.tokens + 1) {
    const expected = `length ${view.tokens + 1} (T + 1)`;
    throw badArgument('ERR_SHAPE', 'cuKept', expected, `length ${cuKept.length}`);
  }
  yield* raggedSlices(cuKept, keptCheck(keptIds, cuKept, { targets, mask, vocab: view.vocab }));
  return { keptIds, cuKept };
}

/** Checks `keptIds[begin ... end]`, pieces of what token t keeps, which come in order. */
function keptCheck(
  ids: Int32Array,
  cuKept: Int32Array,
  { targets, mask, vocab }: Pick<Rows, 'targets' | 'mask'> & { vocab: number },
): (t: number, begin: number, end: number) => void {
  let previous = -1;
  let hasTarget = false;
  return (t, begin, end) => {
    if (mask?.[t] === 0) return;
    if (begin === cuKept[t]) {
      previous = -1;
      hasTarget = end === cuKept[t];
    }
    const target = targets[t];
    for (let k = begin; k < end; k++) {
      const id = ids[k];
      if (id <= previous || id >= vocab) throw unkept(id, previous, vocab, k);
      hasTarget ||= id === target;
      previous = id;
    }
    if (hasTarget || end < cuKept[t + 1]) return;
    throw badArgument('ERR_RANGE', 'keptIds', `the target ${target} among the ids of token ${t}`, 'others only');
  };
}

function unkept(id: number, previous: number, vocab: number, k: number) {
  if (id < 0 || id >= vocab) return badArgument('ERR_RANGE', 'keptIds', `ids in [0, ${vocab})`, `${id} at index ${k}`);
  return badArgument('ERR_RANGE', 'keptIds', 'ids that ascend for each token', `${id} after ${previous} at index ${k}`);
}
