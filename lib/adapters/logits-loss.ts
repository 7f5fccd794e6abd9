// What the adapters of autograd frameworks share: a blocking loss on logits that a framework holds, and its gradient where that wants it.
import { badArgument, describe } from '../errors.js';
import type { HostTensor } from '../host-tensor.js';
import type { Logits } from '../logits.js';
import type { LossResult, LossValue } from '../losses/loss.js';
import { takeFields } from '../options.js';
import { padded } from '../padded.js';
import { objectArgument, optionsArgument } from '../validate.js';

/** A blocking loss: `conspoSync`, `lossesSync[name]`, the `runSync` of a loss of your own. */
export type BlockingLoss = (batch: never, ...options: never[]) => Pick<LossValue, 'loss' | 'scores'>;

/** The tokens of a batch: padded to [B, L], or packed. */
export type Layout =
  | {
      /** [B, L], of a padded batch. */
      shape: readonly [sequences: number, length: number];
      /** [B * L]; 1 for a token that counts. */
      mask: Uint8Array;
      /** Not of a padded batch. */
      cuSeqlens?: undefined;
    }
  | {
      /** [N + 1], sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`. */
      cuSeqlens: Int32Array;
      /** Not of a packed batch. */
      shape?: undefined;
    };

interface WithLogits {
  /** [T, V]. */
  logits: Logits;
}

/** The batch of a loss. */
export type BatchOf<F> = F extends (batch: infer B, ...options: never[]) => unknown ? B : never;
/** A type without some of its fields, each part of a union by itself. */
export type Without<B, K extends string> = B extends object ? Omit<B, K> : B;

/** The batch of a loss, but for its logits: what `fromRollouts` and `microBatches` return, or a packed batch. */
export type BatchWithoutLogits<F> = Without<
  Extract<BatchOf<F>, WithLogits>,
  'logits' | 'hidden' | 'logProbs' | 'cuSeqlens'
> &
  Layout & {
    /** The argument of the function that is returned. */
    logits?: undefined;
    /** Not here. */
    hidden?: undefined;
    /** Not here. */
    logProbs?: undefined;
  };

type OptionsOf<F> = F extends (batch: infer _B, ...options: infer O) => unknown ? O : never;
type Mapped<O extends readonly unknown[], Own> = { [K in keyof O]: Without<O[K], Places> & Own };
type Places = 'gradient' | 'gradHidden' | 'gradWeight' | 'gradBias';

/** The options of a loss, but for where its gradient goes; `Own` are those of the adapter. */
export type AdapterOptions<F, Own = unknown> = Mapped<OptionsOf<F>, Own>;

/** What a loss returns for a batch `B`, but for the gradient. */
export type AdapterResult<B> = LossResult<B, 'none'>;

/** Data of logits with the shape that their framework gives them. */
export interface GivenLogits {
  data: Float32Array;
  shape: readonly number[]; // [T, V] or [B, L, V]
}

/** Where the gradient goes: over the logits, to a new array, or to memory of the framework's. */
export type Destination = 'in-place' | 'new' | { out: Float32Array };

/** The loss of logits, with their gradient. */
export type LogitsLoss<B> = (
  logits: GivenLogits,
  destination: Destination,
) => { result: AdapterResult<B>; gradLogits: Float32Array };

/** A loss of a framework's logits. The names of the batch are checked here, all else when the logits are there. */
export function logitsLoss<B extends object>(loss: BlockingLoss, batch: B, options: object | undefined): LogitsLoss<B> {
  if (typeof loss !== 'function') throw badArgument('ERR_DTYPE', 'loss', 'a blocking loss', describe(loss));
  const { logits, hidden, logProbs, ...fields }: Partial<Record<string, unknown>> = {
    ...objectArgument('batch', batch),
    ...takeFields('batch', batch),
  };
  for (const [name, value] of Object.entries({ logits, hidden, logProbs })) {
    if (value !== undefined) throw badArgument('ERR_RANGE', name, 'none: they are the argument later', describe(value));
  }
  const { gradient: place, ...own } = optionsArgument(options) as { gradient?: unknown };
  if (place !== undefined) throw badArgument('ERR_RANGE', 'gradient', 'none: it is returned', describe(place));
  const call = loss as (batch: object, options: object) => AdapterResult<B> & { gradLogits: HostTensor };
  return ({ data, shape }, destination) => {
    const complete = { ...fields, logits: { data, shape: fields.shape === undefined ? flat(shape) : shape } };
    const ready: object = fields.shape === undefined ? complete : padded(complete as never);
    const { logits: whole } = ready as { logits: HostTensor };
    const gradient = typeof destination === 'string' ? destination : { out: { ...whole, data: destination.out } };
    const { gradLogits, ...result } = call(ready, { ...own, gradient });
    return { result: result as unknown as AdapterResult<B>, gradLogits: gradLogits.data as Float32Array };
  };
}

/** The shape of a packed batch's logits: [T, V], also where they are [1, T, V]. */
function flat(shape: readonly number[]): readonly number[] {
  const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  return shape.length < 2 ? shape : [rows, shape[shape.length - 1]];
}
