// One step of a model on a server, as Tinker's forward_backward_custom takes it: the loss is linearised at the log-probs that the server has
// for each token. What it differentiates is then -sum(weight * logProb), its weighted cross-entropy, with the gradient of the loss.
import type { AdapterOptions, AdapterResult, BatchOf, Layout, Without } from '../adapters/logits-loss.js';
import { badArgument, describe, isArray } from '../errors.js';
import type { LossValue } from '../losses/loss.js';
import { newArray } from '../memory.js';
import { takeFields } from '../options.js';
import { padded } from '../padded.js';
import { atOnce } from '../slices.js';
import {
  arrayOf,
  type FloatArray,
  objectArgument,
  offsets,
  optionalMask,
  optionsArgument,
  typedArray,
} from '../validate.js';

/** A loss: `conspo`, `losses[name]`, the `run` of a loss of your own. */
export type AsyncLoss = (batch: never, ...options: never[]) => Promise<Pick<LossValue, 'loss' | 'scores'>>;

interface WithLogProbs {
  /** [T]. */
  logProbs: FloatArray;
}

/** The batch of a loss without its log-probs, and with what the model is given: what `fromRollouts` and `microBatches` return. */
export type RemoteBatch<F> = Without<
  Extract<BatchOf<F>, WithLogProbs>,
  'logits' | 'hidden' | 'logProbs' | 'cuSeqlens' | 'targets'
> &
  Layout & {
    /** [B * L] or [T] each prompt with its answer; what follows each id is its target. */
    inputIds: Int32Array;
    /** 1 at a token, 0 at padding. */
    attentionMask: Uint8Array;
    /** 1 where the next id counts. */
    mask: Uint8Array;
    /** They come from the server. */
    logProbs?: undefined;
    /** Not here. */
    logits?: undefined;
    /** Not here. */
    hidden?: undefined;
  };

/** A sequence as servers take it, shifted. Its arrays are views of the batch's `inputIds`. */
export interface RemoteSequence {
  /** [n] all ids but the last. */
  inputIds: Int32Array;
  /** [n] all ids but the first: what each input id is to predict. */
  targets: Int32Array;
}

/** A sequence with the gradient of the loss. */
export interface WeightedSequence extends RemoteSequence {
  /** [n] what each target's log-prob weighs: minus the gradient of the loss by it, 0 where it does not count. */
  weights: Float64Array;
  /** [n] the log-probs that the server gave. */
  logProbs: FloatArray;
}

/** A model on a server; `R` is what it answers to a backward pass. */
export interface RemoteClient<R> {
  /** The log-prob of each target, [n] for each sequence, under the current weights of the model. */
  forward(sequences: readonly RemoteSequence[], call: { signal?: AbortSignal }): Promise<readonly FloatArray[]>;
  /**
   * Adds the gradient of `-sum(weights * log-probs)`, over all tokens of all sequences, to that of the model's parameters. Servers call
   * it the loss `cross_entropy` with `weights`, summed, not averaged; it is also `importance_sampling` with `logProbs` as those of the
   * sampler and `weights` as advantages.
   */
  backward(sequences: readonly WeightedSequence[], call: { signal?: AbortSignal }): Promise<R>;
}

/** What a step returns: what the loss does, but for the gradient. */
export type RemoteResult<B, R> = AdapterResult<B> & {
  /** What `backward` returned. */
  reply: R;
};

/**
 * One forward and backward pass of a model on a server, such as Tinker's, with any loss of this package: asks for the log-probs of all sequences,
 * computes the loss and its gradient by each of them, and sends that back as a weight for each token. The optimizer's step is yours to ask for.
 *
 * Sequence i is that of the batch, also where none of its tokens counts. Options are those of the loss; an AbortSignal reaches the client too.
 * Log-probs are those of the server, at its temperature. There are no logits: an entropy bonus is refused.
 *
 * @example
 * ```ts
 * import { dapo, fromRollouts } from 'rlvr-kernels';
 * import { type RemoteClient, remoteStep } from 'rlvr-kernels/remote';
 *
 * const client: RemoteClient<number> = {
 *   forward: async (sequences) => sequences.map(({ targets }) => new Float64Array(targets.length).fill(-1)),
 *   backward: async (sequences) => sequences.reduce((sum, { weights }) => sum + weights.length, 0), // tokens, say
 * };
 * const rollouts = fromRollouts({
 *   promptIds: [[5, 1]],
 *   answers: [[[2, 3], [4]]],
 *   logProbs: [[[-1, -1], [-1]]],
 *   rewards: [[1, 0]],
 * });
 * const { metrics, reply } = await remoteStep(client, dapo, rollouts, { epsilonHigh: 0.3 });
 * console.log(metrics.ratioMean, reply); // => 1 5
 * ```
 *
 * @throws RlvrError `ERR_DTYPE`, `ERR_SHAPE`, `ERR_RANGE`, `ERR_OPTION` for bad arguments, and log-probs of the server that do not fit its sequences;
 * what the client throws; and as the loss does.
 */
export async function remoteStep<F extends AsyncLoss, B extends RemoteBatch<F>, R>(
  client: RemoteClient<R>,
  loss: F,
  batch: B,
  ...options: AdapterOptions<F>
): Promise<RemoteResult<B, R>> {
  checkClient(client);
  if (typeof loss !== 'function') throw badArgument('ERR_DTYPE', 'loss', 'a loss', describe(loss));
  const { gradient, ...own } = optionsArgument(options[0] as { gradient?: unknown; signal?: AbortSignal } | undefined);
  if (gradient !== undefined)
    throw badArgument('ERR_RANGE', 'gradient', 'none: it goes to the server', describe(gradient));
  const { fields, inputIds, spans } = sequencesOf(batch);
  const sequences = spans.map(([start, end]) => ({
    inputIds: inputIds.subarray(start, end),
    targets: inputIds.subarray(start + 1, end + 1),
  }));
  const call = own.signal === undefined ? {} : { signal: own.signal };
  const replies = repliesOf(await client.forward(sequences, call), sequences);
  const logProbs = newArray('logProbs', Float64Array, inputIds.length);
  spans.forEach(([start], i) => {
    logProbs.set(replies[i], start);
  });
  const complete: object = { ...fields, logProbs };
  const ready: object = fields.shape === undefined ? complete : padded(complete as never);
  const run = loss as unknown as (
    batch: object,
    options: object,
  ) => Promise<AdapterResult<B> & { gradLogProbs: Float64Array }>;
  const { gradLogProbs, ...result } = await run(ready, own);
  const weighted = sequences.map((sequence, i) => {
    const weights = gradLogProbs.slice(...spans[i]).map((g) => 0 - g); // no -0
    return { ...sequence, weights, logProbs: replies[i] };
  });
  const reply = await client.backward(weighted, call);
  return { ...(result as unknown as AdapterResult<B>), reply };
}

function checkClient(client: Partial<RemoteClient<unknown>>): void {
  const { forward, backward } = objectArgument('client', client);
  for (const [name, method] of Object.entries({ forward, backward })) {
    if (typeof method !== 'function') throw badArgument('ERR_DTYPE', `client.${name}`, 'a function', describe(method));
  }
}

/** Rows of a sequence that have a target: all but its last. */
type Span = readonly [start: number, end: number];

/** The fields of the batch for the loss, and where its sequences are. */
function sequencesOf(batch: object) {
  const taken: Record<string, unknown> = { ...objectArgument('batch', batch), ...takeFields('batch', batch) };
  const { targets: _targets, inputIds: given, attentionMask, logits, hidden, logProbs, ...fields } = taken;
  for (const [name, value] of Object.entries({ logits, hidden, logProbs })) {
    if (value !== undefined) throw badArgument('ERR_RANGE', name, 'none: the server has them', describe(value));
  }
  const inputIds = typedArray('inputIds', given, ['Int32Array']);
  const tokens = inputIds.length;
  const spans =
    fields.shape === undefined
      ? packedSpans(fields.cuSeqlens, tokens)
      : paddedSpans(fields.shape, attentionMask, tokens);
  checkMask(optionalMask(fields.mask, tokens), spans);
  return { fields, inputIds, spans };
}

function packedSpans(cuSeqlens: unknown, tokens: number): Span[] {
  const bounds = atOnce(offsets('cuSeqlens', cuSeqlens, tokens, 'T'));
  return Array.from({ length: bounds.length - 1 }, (_, i) => [bounds[i], Math.max(bounds[i], bounds[i + 1] - 1)]);
}

function paddedSpans(shape: unknown, attentionMask: unknown, tokens: number): Span[] {
  const [rows, length] = isArray(shape) ? (shape as number[]) : [];
  if (rows * length !== tokens)
    throw badArgument('ERR_SHAPE', 'shape', `[B, L] of the ${tokens} inputIds`, describe(shape));
  const present = arrayOf('attentionMask', attentionMask, ['Uint8Array'], tokens, 'B * L, one flag per token');
  return Array.from({ length: rows }, (_, b) => {
    const row = present.subarray(b * length, (b + 1) * length);
    const first = Math.max(
      0,
      row.findIndex((flag) => flag !== 0),
    );
    const last = row.findLastIndex((flag) => flag !== 0);
    const gap = row.subarray(first, last + 1).indexOf(0);
    if (gap !== -1) {
      throw badArgument(
        'ERR_RANGE',
        'attentionMask',
        'the tokens of a sequence side by side',
        `a gap at index ${b * length + first + gap}`,
      );
    }
    return [b * length + first, b * length + Math.max(first, last)];
  });
}

/** Tokens that count have a target. */
function checkMask(mask: Uint8Array | undefined, spans: readonly Span[]): void {
  if (mask === undefined) throw badArgument('ERR_DTYPE', 'mask', 'Uint8Array', 'undefined');
  let next = 0;
  for (const [start, end] of [...spans, [mask.length, mask.length]]) {
    const stray = mask.subarray(next, start).findIndex((flag) => flag !== 0);
    if (stray !== -1) {
      throw badArgument(
        'ERR_RANGE',
        'mask',
        '0 where no id of the sequence follows',
        `${mask[next + stray]} at index ${next + stray}`,
      );
    }
    next = end;
  }
}

/** The server's log-probs, one for each target. */
function repliesOf(replies: unknown, sequences: readonly RemoteSequence[]): FloatArray[] {
  const expected = `one array for each of ${sequences.length} sequences`;
  if (!isArray(replies)) throw badArgument('ERR_DTYPE', 'client.forward', expected, describe(replies));
  if (replies.length !== sequences.length)
    throw badArgument('ERR_SHAPE', 'client.forward', expected, `${replies.length}`);
  return sequences.map(({ targets }, i) =>
    arrayOf(
      `client.forward[${i}]`,
      replies[i],
      ['Float32Array', 'Float64Array'],
      targets.length,
      'one for each target',
    ),
  );
}
