// Which tokens, sequences and groups of a packed batch are where.
import { Random } from '../../bench/problems/random.js';
import { offsetsOf } from '../../bench/problems/rollouts.js';

/** The indices in segment `i`. */
export const indicesIn = (cu: Int32Array, i: number) => Array.from({ length: cu[i + 1] - cu[i] }, (_, k) => cu[i] + k);

/** The segment that an index is in. */
export const segmentOf = (cu: Int32Array, index: number) => cu.findIndex((end) => end > index) - 1;

interface Masked {
  cuSeqlens: Int32Array;
  mask: Uint8Array;
}

/** The unmasked tokens of sequence `i`. */
export const tokensOf = ({ cuSeqlens, mask }: Masked, i: number) => indicesIn(cuSeqlens, i).filter((t) => mask[t]);

/** [N] how many unmasked tokens each sequence has. */
export const tokenCountsOf = (batch: Masked) =>
  Float64Array.from({ length: batch.cuSeqlens.length - 1 }, (_, i) => tokensOf(batch, i).length);

/** [T] the value of every token's sequence. */
export const spreadOver = ({ cuSeqlens }: { cuSeqlens: Int32Array }, values: ArrayLike<number>) =>
  Float64Array.from({ length: cuSeqlens[values.length] }, (_, t) => values[segmentOf(cuSeqlens, t)]);

/** Row t of [T, V]. */
export const rowOf = (values: Float32Array, t: number, vocab: number) => values.subarray(t * vocab, (t + 1) * vocab);

/** 0, ..., length - 1 in a random order. */
export function permutation(length: number, seed: number): number[] {
  const random = new Random(seed);
  const keys = Array.from({ length }, () => random.uniform());
  return Array.from(keys, (_, i) => i).sort((a, b) => keys[a] - keys[b]);
}

interface Sequences extends Masked {
  logits: Float32Array;
  targets: Int32Array;
  oldLogProbs: Float64Array;
  refLogProbs: Float64Array;
  rewards: Float32Array;
}

/** A batch whose k-th sequence is the given one's `order[k]`, without groups; `tokens[t]` is where its token t came from. */
export function reordered(batch: Sequences, order: readonly number[], vocab: number) {
  const { cuSeqlens } = batch;
  const tokens = order.flatMap((i) => indicesIn(cuSeqlens, i));
  const moved = {
    logits: Float32Array.from(tokens.flatMap((t) => Array.from(rowOf(batch.logits, t, vocab)))),
    targets: Int32Array.from(tokens, (t) => batch.targets[t]),
    mask: Uint8Array.from(tokens, (t) => batch.mask[t]),
    oldLogProbs: Float64Array.from(tokens, (t) => batch.oldLogProbs[t]),
    refLogProbs: Float64Array.from(tokens, (t) => batch.refLogProbs[t]),
    cuSeqlens: offsetsOf(order.map((i) => cuSeqlens[i + 1] - cuSeqlens[i])),
    rewards: Float32Array.from(order, (i) => batch.rewards[i]),
  };
  return { moved, tokens };
}
