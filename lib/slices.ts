// Loops over long arrays on the host, in slices, between which an asynchronous call gives the event loop a turn.

import { newArray } from './memory.js';
import { nextTurn } from './platform.js';

/** What a loop yields where the event loop may have a turn. */
export const PAUSE = 'pause';

/** Work that pauses. */
export type Sliced<Result> = Generator<typeof PAUSE, Result, void>;

const SLICE = 2 ** 15; // elements: a fraction of a millisecond

/**
 * Work on a short array: does it, and says so. Most calls are small, and generators would cost them microseconds:
 * `if (!atOnceIfShort(n, work)) yield* slices(n, work)`.
 */
export function atOnceIfShort(length: number, work: (begin: number, end: number) => void): boolean {
  if (length > SLICE) return false;
  work(0, length);
  return true;
}

/** Calls `work` for [0, length), piece by piece. */
export function* slices(length: number, work: (begin: number, end: number) => void): Sliced<void> {
  let begin = 0;
  for (; begin + SLICE < length; begin += SLICE) {
    work(begin, begin + SLICE);
    yield PAUSE;
  }
  work(begin, length);
}

/** Calls `work` for every row, elements `offsets[row] ... offsets[row + 1]`; for a long row piece by piece. */
export function* raggedSlices(
  offsets: Int32Array,
  work: (row: number, begin: number, end: number) => void,
): Sliced<void> {
  let left = SLICE;
  for (let row = 0; row + 1 < offsets.length; row++) {
    let begin = offsets[row];
    for (; begin + SLICE < offsets[row + 1]; begin += SLICE) {
      work(row, begin, begin + SLICE);
      yield PAUSE;
    }
    work(row, begin, offsets[row + 1]);
    left -= offsets[row + 1] - begin + 1;
    if (left > 0) continue;
    yield PAUSE;
    left = SLICE;
  }
}

/** The first index in [0, length) that passes, or -1. */
export function* findIndex(length: number, passes: (index: number) => boolean): Sliced<number> {
  let found = -1;
  yield* slices(length, (begin, end) => {
    for (let i = begin; i < end && found === -1; i++) if (passes(i)) found = i;
  });
  return found;
}

/** [N] for each of `values`. */
export function* mapped(values: Float64Array, of: (value: number, index: number) => number): Sliced<Float64Array> {
  const result = newArray('values', Float64Array, values.length);
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) result[i] = of(values[i], i);
  };
  if (!atOnceIfShort(values.length, work)) yield* slices(values.length, work);
  return result;
}

/** The sum of values, each times its weight if there are weights. */
export function* total(values: Float64Array | Int32Array, weights?: Float64Array): Sliced<number> {
  let sum = 0;
  const work = (begin: number, end: number) => {
    if (weights) for (let i = begin; i < end; i++) sum += values[i] * weights[i];
    else for (let i = begin; i < end; i++) sum += values[i];
  };
  if (!atOnceIfShort(values.length, work)) yield* slices(values.length, work);
  return sum;
}

/** Runs the work to its end without a pause. */
export function atOnce<Result>(work: Sliced<Result>): Result {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}

const TURN_MS = 3;
const waiting: (() => void)[] = [];
let turnEnd: number | undefined; // in the turn of the event loop that goes on, if a call has come to a pause in it

/**
 * A promise of a later turn of the event loop if the calls have had their time in this one, which they share; undefined for a
 * call that may go on.
 */
export function pause(): Promise<void> | undefined {
  if (turnEnd === undefined) beginTurn();
  if (performance.now() < turnEnd!) return undefined;
  return new Promise((resolve) => {
    waiting.push(resolve);
  });
}

function beginTurn(): void {
  turnEnd = performance.now() + TURN_MS;
  nextTurn(endTurn);
}

/** The next turn is for one call, so that many at a time do not hold the event loop any longer than one. */
function endTurn(): void {
  turnEnd = undefined;
  const next = waiting.shift();
  if (!next) return;
  beginTurn();
  next();
}
