// Contenders take turns: every round calls each of them once, in an order that shifts from round to round, so that
// whatever the machine does meanwhile falls on all of them alike.
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * @typedef {import('./data.mjs').DType} DType
 * @typedef {object} Contender
 * @property {string} by whose code: 'rlvr-kernels', a peer, or 'memory' for a yardstick
 * @property {string} op
 * @property {DType} dtype
 * @property {number} bytes of one [T, V] array
 * @property {number} reads how often the op must read such an array without writing one
 * @property {number} copies how often it must read one and write one
 * @property {() => number | null | Promise<number | null>} check runs once; the error against float64 (null: no answer to check). Throws if wrong.
 * @property {(slot: number) => unknown} run the timed call; a promised number is its own time, in milliseconds
 * @property {(slot: number) => void} [restore] untimed, after each call
 * @typedef {object} Spread
 * @property {number} median
 * @property {number} p10
 * @property {number} p90
 * @property {number} min
 * @property {number} max
 * @typedef {{ contender: Contender, error: number | null, milliseconds: Spread }} Measurement
 */

/** Long enough for a peer's threads to stop spinning after its last call. */
const PAUSE_MS = 10;
const RETRY_MS = 1000;
const MAX_RETRIES = 20;

/** @param {readonly number[]} samples @returns {Spread} */
export function spreadOf(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (/** @type {number} */ q) => {
    const position = q * (sorted.length - 1);
    const low = Math.floor(position);
    return sorted[low] + (position - low) * (sorted[Math.ceil(position)] - sorted[low]);
  };
  return { median: at(0.5), p10: at(0.1), p90: at(0.9), min: at(0), max: at(1) };
}

/** @param {Contender} contender @param {number} slot */
async function call({ run, restore }, slot) {
  const start = performance.now();
  const running = run(slot);
  const own = running instanceof Promise ? await running : undefined;
  const elapsed = performance.now() - start;
  restore?.(slot);
  return typeof own === 'number' ? own : elapsed;
}

/**
 * The time of a contender's second call in a row: the first wakes its threads, which may have slept through the pause.
 * @param {Contender} contender @param {() => number} nextSlot
 */
async function timeOnce(contender, nextSlot) {
  await sleep(PAUSE_MS);
  await call(contender, nextSlot());
  return call(contender, nextSlot());
}

/**
 * Checks every contender, then times them all, then checks them again. With `othersAtWork`, a round in which other
 * processes were at work is thrown away, whatever its times, and done again; at most `MAX_RETRIES` times as often as asked.
 * @param {Contender[]} contenders
 * @param {object} options
 * @param {number} options.repeats
 * @param {number} options.warmup
 * @param {number} options.slots
 * @param {(round: () => Promise<void>) => Promise<boolean>} [options.othersAtWork] runs a round, and tells
 * @param {(done: number, of: number) => void} [options.onRound]
 * @returns {Promise<{ measurements: Measurement[], discardedRounds: number }>}
 */
export async function measure(contenders, { repeats, warmup, slots, othersAtWork, onRound }) {
  /** @type {(number | null)[]} */
  const errors = [];
  for (const contender of contenders) errors.push(await contender.check());
  /** @type {number[][]} */
  const rounds = [];
  let discardedRounds = 0;
  let calls = 0;
  const nextSlot = () => calls++ % slots;
  for (let round = 0; rounds.length < warmup + repeats; ++round) {
    const times = new Array(contenders.length).fill(0);
    const all = async () => {
      for (let k = 0; k < contenders.length; ++k) {
        const who = (k + round) % contenders.length;
        times[who] = await timeOnce(contenders[who], nextSlot);
      }
    };
    if (!othersAtWork) await all();
    else if ((await othersAtWork(all)) && rounds.length >= warmup) {
      if (++discardedRounds > MAX_RETRIES * repeats) throw new Error('the machine does not get quiet');
      await sleep(RETRY_MS);
      continue;
    }
    rounds.push(times);
    onRound?.(rounds.length, repeats + warmup);
  }
  for (const contender of contenders) await contender.check();
  const measurements = contenders.map((contender, k) => ({
    contender,
    error: errors[k],
    milliseconds: spreadOf(rounds.slice(warmup).map((times) => times[k])),
  }));
  return { measurements, discardedRounds };
}
