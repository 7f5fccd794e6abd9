import { badArgument, describe, isArray } from './errors.js';
import { newArray } from './memory.js';
import { type Numbers, numbers } from './number-lists.js';
import { namesOf, takeOptions } from './options.js';
import { atOnce, type Sliced, slices } from './slices.js';
import { finiteFloats, finiteNumber, objectArgument, typedArray } from './validate.js';

/** What {@link RunningRewards} has seen: plain numbers, to save as JSON and go on from. */
export interface RunningRewardsState {
  /** How many rewards. */
  count: number;
  /** Their mean. */
  mean: number;
  /** The sum of their squared distances from it. */
  squares: number;
}

/** Options of {@link RunningRewards}. */
export interface RunningRewardsOptions {
  /** Whether to subtract the mean. Default true; false only divides by the standard deviation, which keeps signs. */
  center?: boolean | undefined;
  /** The `state` of another one, to go on from. */
  state?: RunningRewardsState | undefined;
}

const EMPTY: RunningRewardsState = { count: 0, mean: 0, squares: 0 };

/**
 * Mean and standard deviation of all rewards so far, over any number of batches (Welford's method, batches merged as Chan, Golub and
 * LeVeque do), and rewards brought to that scale. For rewards whose scale is not known beforehand, of several sources or a reward model:
 * advantages within a group have a scale of their own.
 *
 * @example
 * ```ts
 * import { RunningRewards } from 'rlvr-kernels';
 *
 * const running = new RunningRewards();
 * running.update(Float32Array.of(10, 20)); // the rewards of one batch
 * running.update(Float32Array.of(30, 40)); // and of the next
 * console.log(running.mean, running.std); // => 25 12.91
 * console.log(running.normalized(Float32Array.of(25, 40))); // => Float64Array(2) [ 0, 1.162 ]
 * const saved = JSON.stringify(running.state);
 * console.log(new RunningRewards({ state: JSON.parse(saved) }).std === running.std); // => true
 * ```
 */
export class RunningRewards {
  readonly #center: boolean;
  #state: RunningRewardsState;

  /** @throws RlvrError `ERR_DTYPE`, `ERR_RANGE`, `ERR_OPTION`. */
  constructor(options: RunningRewardsOptions = {}) {
    const names = namesOf<RunningRewardsOptions>({ center: true, state: true });
    const { center = true, state } = takeOptions('RunningRewards', objectArgument('options', options), names);
    if (typeof center !== 'boolean') throw badArgument('ERR_RANGE', 'center', 'true or false', describe(center));
    this.#center = center;
    this.#state = state === undefined ? EMPTY : checkedState(state);
  }

  /** What has been seen so far; a copy. */
  get state(): RunningRewardsState {
    return { ...this.#state };
  }

  /** The mean of all rewards so far; 0 before the first. */
  get mean(): number {
    return this.#state.mean;
  }

  /** Their sample standard deviation; 0 before the second. */
  get std(): number {
    const { count, squares } = this.#state;
    return count < 2 ? 0 : Math.sqrt(squares / (count - 1));
  }

  /**
   * Takes the rewards of a batch in.
   *
   * @param rewards [N] of any length.
   * @throws RlvrError `ERR_DTYPE`; `ERR_NONFINITE` for rewards that are not finite, or whose squares are not. The state is then what it was.
   */
  update(rewards: Numbers): void {
    this.#state = atOnce(updated(this.#state, rewards));
  }

  /**
   * Rewards less the mean, divided by the standard deviation of all that were taken in; divided by 1 while those are all equal.
   *
   * @param rewards [N], which are not taken in: call `update` before.
   * @returns [N].
   * @throws RlvrError `ERR_DTYPE`, `ERR_NONFINITE`.
   */
  normalized(rewards: Numbers): Float64Array {
    return atOnce(scaled(rewards, this.#center ? this.mean : 0, this.std || 1));
  }
}

function checkedState(value: unknown): RunningRewardsState {
  const names = namesOf<RunningRewardsState>({ count: true, mean: true, squares: true });
  const given = takeOptions('a state of RunningRewards', objectArgument('state', value as object), names);
  return {
    count: finiteNumber('state.count', given.count, { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true }),
    mean: finiteNumber('state.mean', given.mean),
    squares: finiteNumber('state.squares', given.squares, { min: 0 }),
  };
}

function* finiteRewards(given: unknown): Sliced<Float64Array> {
  const rewards = isArray(given) ? numbers('rewards', given) : given;
  const { length } = typedArray('rewards', rewards, ['Float32Array', 'Float64Array']);
  return yield* finiteFloats('rewards', rewards, length, 'N');
}

function* updated(before: RunningRewardsState, given: Numbers): Sliced<RunningRewardsState> {
  const rewards = yield* finiteRewards(given);
  if (rewards.length === 0) return before;
  let [mean, squares] = [0, 0];
  yield* slices(rewards.length, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const distance = rewards[i] - mean;
      mean += distance / (i + 1);
      squares += distance * (rewards[i] - mean);
    }
  });
  const count = before.count + rewards.length;
  const distance = mean - before.mean;
  const after = {
    count,
    mean: before.count === 0 ? mean : before.mean + distance * (rewards.length / count),
    squares: squares + before.squares + distance * distance * ((before.count / count) * rewards.length),
  };
  if (Number.isFinite(after.mean) && Number.isFinite(after.squares)) return after;
  throw badArgument('ERR_NONFINITE', 'rewards', 'values whose variance is finite', `a variance of ${after.squares}`);
}

function* scaled(given: Numbers, mean: number, std: number): Sliced<Float64Array> {
  const rewards = yield* finiteRewards(given);
  const values = newArray('rewards', Float64Array, rewards.length);
  yield* slices(rewards.length, (begin, end) => {
    for (let i = begin; i < end; i++) values[i] = (rewards[i] - mean) / std;
  });
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad === -1) return values;
  throw badArgument(
    'ERR_NONFINITE',
    'rewards',
    'values that are finite on that scale',
    `${rewards[bad]} at index ${bad}`,
  );
}
