// The other ranks of a call (spec section 12): what all tell each other, and how an error of one reaches all.
//
// Whatever ranks exchange is gathered from all, behind a word on whether a rank is well. One that has failed takes part once more, with its
// error in place of values, so that no other waits for it; each then fails with that error.
import { badArgument, describe, RlvrError } from '../errors.js';
import { concatenated } from '../memory.js';
import { namesOf } from '../options.js';
import type { Communicator } from '../ranks/communicator.js';
import { type DeviceSum, type DeviceSums, deviceSumsOf } from '../ranks/device-sums.js';
import { finiteNumber, objectArgument, optionsArgument } from '../validate.js';
import { jointly, type Task } from './task.js';

/** The ranks that compute a loss together: by what they hold of a batch. */
export interface Parallel {
  /**
   * Ranks that hold different sequences. Each calls the loss on its own and gets the loss and the metrics of the whole batch, and its own
   * part of the whole batch's gradient. A group may be spread over ranks if all give `groupIds`. Defaults, counts and whatever else an option
   * looks at over a batch are those of the whole one.
   */
  data?: Communicator | undefined;
  /**
   * Ranks that hold the same tokens, and of the logits of each different columns, as a last layer (lm_head) leaves them that is split by
   * rows. `targets` and `keptIds` are ids in the whole vocabulary. All get the same loss, metrics and scores, and each the gradient of its
   * own columns.
   */
  vocab?: VocabRanks | undefined;
  /**
   * Ranks that hold different tokens of the same sequences, as context parallelism leaves them: each gives all of `cuSeqlens`, rewards and
   * groups, with its own tokens of each sequence. All get the same loss, metrics and scores, and each the gradient of its own tokens.
   */
  sequence?: Communicator | undefined;
}

/** The ranks that share a vocabulary. */
export interface VocabRanks {
  /** Of those ranks. */
  comm: Communicator;
  /** The first column of this rank among those of all. */
  start: number;
}

/** The option of a function that ranks can compute together. */
export interface ParallelOptions {
  /** The ranks that compute this loss together: all of them make the same call, with the same options. Default: this one alone. */
  parallel?: Parallel | undefined;
}

/** Names of {@link ParallelOptions}. */
export const PARALLEL_OPTION = namesOf<ParallelOptions>({
  parallel: namesOf<Parallel>({ data: true, vocab: { comm: true, start: true }, sequence: true }),
});

const WELL = 0;
const FAILED = 1;
const SUMS = 1; // what a rank says that will add up on its device

/** The other ranks of one call, in one direction. */
export class Ranks {
  readonly rank: number;
  readonly size: number;
  /** How often this call has exchanged something. */
  exchanges = 0;
  /** How many numbers this rank has sent. */
  sent = 0;
  readonly #data: Communicator;
  #alone = false; // no other rank waits for this one

  constructor(data: Communicator) {
    this.#data = data;
    this.rank = data.rank;
    this.size = data.size;
  }

  /** The values of every rank, by rank, one list after the other; their numbers may differ. */
  *gather(...lists: Values[]): Task<Float64Array[]> {
    const sent = well(...lists);
    this.exchanges++;
    this.sent += sent.length - 1;
    const data = this.#data;
    return yield* this.#together({
      now: () => checkWell(data.allGatherSync(sent)),
      later: async () => checkWell(await data.allGather(sent)),
    });
  }

  /** A step of all ranks. If it fails, so does everything else between them; once it went well, others wait for this one again. */
  *#together<Result>({ now, later }: { now(): Result; later(): Promise<Result> }): Task<Result> {
    const done = (result: Result) => {
      this.#alone = false;
      return result;
    };
    this.#alone = true;
    return yield* jointly({ now: () => done(now()), later: async () => done(await later()) });
  }

  /** What adds up on the device of these ranks, if anything does. */
  get deviceSums(): DeviceSums | undefined {
    return deviceSumsOf(this.#data);
  }

  /**
   * Adds up parts in device memory, once all ranks are well and do so; nothing comes in between. The first row of the sum that is not
   * finite where it goes, or -1.
   */
  *sumOnDevice(sums: DeviceSums, sum: DeviceSum): Task<number> {
    const data = this.#data;
    const sent = well([SUMS]);
    const check = (parts: Float64Array[]) => {
      const other = checkWell(parts).findIndex(([word]) => word !== SUMS);
      if (other === -1) return;
      const got = `another place on rank ${other}`;
      throw badArgument('ERR_RANK', 'gradHidden', "tensors on all ranks' devices, or host memory on all", got);
    };
    this.exchanges++;
    this.sent++;
    return yield* this.#together({
      now() {
        check(data.allGatherSync(sent));
        return sums.sumSync(sum);
      },
      async later() {
        check(await data.allGather(sent));
        return sums.sum(sum);
      },
    });
  }

  /** Nothing more will be exchanged: an error from here on is this rank's own. */
  end(): void {
    this.#alone = true;
  }

  /** Tells the others, if they wait for this rank, that it has failed. */
  async fail(error: unknown): Promise<void> {
    if (!this.#alone) await this.#data.allGather(failure(error));
  }

  /** As `fail`, blocking. */
  failSync(error: unknown): void {
    if (!this.#alone) this.#data.allGatherSync(failure(error));
  }
}

const LONGEST = 1000; // characters of a message

/** What a rank tells the others, if there is any. */
type Values = ArrayLike<number> | undefined;

/** What a rank sends that is well. */
export function well(...lists: Values[]): Float64Array {
  return concatenated('parallel', [[WELL], ...lists]);
}

/** The values of ranks that are all well; throws what another has to say. */
export function checkWell(parts: readonly Float64Array[]): Float64Array[] {
  const failed = parts.findIndex(([word]) => word !== WELL);
  if (failed !== -1) throw new RlvrError('ERR_RANK', `rank ${failed} failed: ${messageIn(parts[failed])}`);
  return parts.map((part) => part.subarray(1));
}

/** What a rank sends in place of values when it has failed. */
export function failure(error: unknown): Float64Array {
  const message = error instanceof Error ? error.message : String(error);
  return Float64Array.of(FAILED, ...Array.from(message.slice(0, LONGEST), (_, i) => message.charCodeAt(i)));
}

function messageIn(part: Float64Array): string {
  return String.fromCharCode(...part.subarray(1));
}

/** The ranks of a call, in each direction. */
export interface RankGrid {
  data: Ranks | undefined;
  vocab: { ranks: Ranks; start: number } | undefined;
  sequence: Ranks | undefined;
}

/** The ranks that the options of a call name; undefined for one rank by itself. */
function gridOf({ data, vocab, sequence }: Parallel): RankGrid | undefined {
  if (data === undefined && vocab === undefined && sequence === undefined) return undefined;
  const columns = vocab && objectArgument('parallel.vocab', vocab);
  return {
    data: data && new Ranks(communicator('parallel.data', data)),
    vocab: columns && {
      ranks: new Ranks(communicator('parallel.vocab.comm', columns.comm)),
      start: columns.start,
    },
    sequence: sequence && new Ranks(communicator('parallel.sequence', sequence)),
  };
}

/** Those ranks, in the order in which they first meet and in which they hear of an error. */
function directionsOf({ vocab, sequence, data }: RankGrid): Ranks[] {
  return [vocab?.ranks, sequence, data].filter((ranks) => ranks !== undefined);
}

/** The end of what ranks have to tell each other in a call; how often they did, and how many numbers this one sent. */
export function* partRanks(grid: RankGrid): Task<{ exchanges: number; exchangedNumbers: number }> {
  for (const ranks of [grid.vocab?.ranks, grid.sequence]) {
    if (ranks) yield* ranks.gather(); // an error of another may be heard
    ranks?.end();
  }
  const directions = directionsOf(grid);
  return {
    exchanges: directions.reduce((sum, { exchanges }) => sum + exchanges, 0),
    exchangedNumbers: directions.reduce((sum, { sent }) => sum + sent, 0),
  };
}

function checkGrid({ vocab }: RankGrid): void {
  if (vocab) finiteNumber('parallel.vocab.start', vocab.start, { min: 0, max: 2 ** 31 - 1, integer: true });
}

function parallelIn(options: unknown): Parallel {
  const { parallel } = optionsArgument(options as ParallelOptions | undefined);
  return parallel === undefined ? {} : objectArgument('parallel', parallel);
}

const METHODS = ['allGather', 'allGatherSync'] as const;

/** Checks an argument that is to be a communicator. */
export function communicator(name: string, value: unknown): Communicator {
  const given = value as Communicator | null;
  const isOne =
    typeof given === 'object' &&
    given !== null &&
    Number.isInteger(given.rank) &&
    Number.isInteger(given.size) &&
    METHODS.every((method) => typeof given[method] === 'function');
  if (!isOne) throw badArgument('ERR_DTYPE', name, 'a Communicator', describe(value));
  if (given.rank < 0 || given.rank >= given.size)
    throw badArgument('ERR_RANGE', `${name}.rank`, `a whole number in [0, ${given.size})`, String(given.rank));
  return given;
}

/** Does the work of a call; if it fails, the other ranks of the call learn of it. */
export async function amongRanks<R>(options: unknown, work: (grid: RankGrid | undefined) => Promise<R>): Promise<R> {
  const grid = gridOf(parallelIn(options));
  try {
    if (grid) checkGrid(grid);
    return await work(grid);
  } catch (error) {
    for (const ranks of grid ? directionsOf(grid) : []) await ranks.fail(error);
    throw error;
  }
}

/** As {@link amongRanks}, blocking. */
export function amongRanksSync<R>(options: unknown, work: (grid: RankGrid | undefined) => R): R {
  const grid = gridOf(parallelIn(options));
  try {
    if (grid) checkGrid(grid);
    return work(grid);
  } catch (error) {
    for (const ranks of grid ? directionsOf(grid) : []) ranks.failSync(error);
    throw error;
  }
}
