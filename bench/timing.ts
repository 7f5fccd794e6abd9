// Contenders take turns: every round calls each of them once, in an order that is reversed in every other round and shifts
// after every second, so that whatever else the machine does affects all of them alike.
import { setImmediate as eventLoop, setTimeout as sleep } from 'node:timers/promises';
import { interruptible } from './interruptible.js';
import type { Row, Spread } from './report/report.js';

/** The bytes that a task has to move at least, whoever does it. */
export interface Traffic {
  /** Only read. */
  readonly read: number;
  /** Read, and as many written. */
  readonly copied: number;
  /** Only written. Default 0. */
  readonly written?: number;
}

/** Whose code does what on what: the part of a result's row that is known beforehand. */
export type Identity = Pick<Row, 'section' | 'op' | 'by' | 'backend' | 'threads' | 'dtype' | 'shape'>;

export interface Contender extends Identity {
  readonly moves: Traffic;
  /** Whether it is compared with the memory bandwidth. */
  readonly memoryBound: boolean;
  /** The operations that the task needs at least, if it is compared with how many there can be. */
  readonly flops?: number;
  /** Copies of its arrays; consecutive calls use different ones. Default 1. */
  readonly slots?: number;
  /** Takes so little time that several calls are timed together. */
  readonly brief?: boolean;
  /** Runs once; the error against float64 (null: no answer to check). Throws if wrong. */
  check(): number | null | Promise<number | null>;
  /** Untimed, before its calls. */
  prepare?(): void;
  /** The timed call. If it promises a number, that is its time in milliseconds. */
  run(slot: number): unknown;
  /** Untimed, after each call. */
  restore?(slot: number): void;
  /** What a call takes of the memory, in bytes, measured by one in another process; undefined where that cannot be. */
  peakBytes?(): Promise<number | undefined>;
}

export interface Measurement {
  readonly contender: Contender;
  readonly error: number | null;
  readonly milliseconds: Spread;
  readonly peakBytes?: number | undefined;
  /** By round, without those that it sat out. */
  readonly rounds: ReadonlyMap<number, number>;
}

/** Runs a round, and tells whether other processes were at work, in which case it does not count. */
export type RoundWatch = (round: () => Promise<void>) => Promise<boolean>;

export interface MeasureOptions {
  readonly repeats: number;
  readonly warmup: number;
  readonly signal?: AbortSignal;
  readonly othersAtWork?: RoundWatch;
  /** Long enough for a peer's threads to stop spinning after its last call. With 0 there is no pause. */
  readonly pauseMs?: number;
  /** How long a contender is called, untimed, before it is timed. */
  readonly wakingMs?: number;
  /** How long the calls take together that a brief contender is timed for; as many go before, untimed. */
  readonly briefMs?: number;
  /** A contender that would take longer sits out rounds, evenly spread, but takes part in at least three that count. */
  readonly budgetSeconds?: number;
  /** Fraction done. */
  readonly onProgress?: (done: number) => void;
}

const RETRY_MS = 1000;
const MAX_RETRIES = 20;
const MOST_CALLS = 4096;
/** From here on a call is long to wait for. */
const LONG_MS = 100;

export function spreadOf(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (q: number) => {
    const position = q * (sorted.length - 1);
    const low = Math.floor(position);
    return sorted[low] + (position - low) * (sorted[Math.ceil(position)] - sorted[low]);
  };
  return { median: at(0.5), p10: at(0.1), p90: at(0.9), min: at(0), max: at(1) };
}

/** Milliseconds of one of `calls` in a row. */
async function callOften(contender: Contender, calls: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < calls; i++) {
    const running = contender.run(0);
    if (running instanceof Promise) await running;
  }
  return (performance.now() - start) / calls;
}

/** One contender's part in the rounds: how often it is called, and what that took. */
class Entrant {
  readonly rounds = new Map<number, number>();
  error: number | null = null;
  private calls = 1; // of a brief one, timed together
  private blockedMs = 0; // how long its last check or call kept the event loop waiting
  private turns = 0;
  private spentMs = 0;

  constructor(readonly contender: Contender) {}

  async check(signal: AbortSignal | undefined): Promise<number | null> {
    const { read, copied, written = 0 } = this.contender.moves;
    this.contender.prepare?.();
    const start = performance.now();
    const error = interruptible(() => this.contender.check(), (read + copied + written) / 4, signal);
    this.blockedMs = performance.now() - start;
    return error;
  }

  /** Finds how many calls take `briefMs`. */
  async calibrate({ briefMs = 2 }: MeasureOptions): Promise<void> {
    if (!this.contender.brief) return;
    this.contender.prepare?.();
    this.calls = 1;
    while (this.calls < MOST_CALLS && (await callOften(this.contender, this.calls)) * this.calls < briefMs) {
      this.calls *= 2;
    }
  }

  /** Whether its budget, spread over the rounds, lets it take part in this one. */
  takesPart(round: number, { repeats, warmup, budgetSeconds = Infinity }: MeasureOptions): boolean {
    const rounds = warmup + repeats;
    if ([warmup, warmup + Math.floor(repeats / 2), rounds - 1].includes(round)) return true;
    return this.spentMs / 1e3 / budgetSeconds <= round / rounds;
  }

  /**
   * The time of a call directly after untimed ones that take `wakingMs` or more, at least one: they wake the contender's
   * threads, which may have slept through the pause, and by then a virtual machine's host has found a core for each of its
   * processors. A brief contender is called several times in a row anyway; more of that would only leave garbage.
   */
  async time({ wakingMs = 10, signal }: MeasureOptions): Promise<number> {
    const { contender, calls } = this;
    const start = performance.now();
    contender.prepare?.();
    do {
      if (contender.brief) await callOften(contender, calls);
      else await this.call(signal);
    } while (!contender.brief && performance.now() - start < wakingMs);
    const milliseconds = contender.brief ? await callOften(contender, calls) : await this.call(signal);
    this.spentMs += performance.now() - start;
    return milliseconds;
  }

  /** Milliseconds of a call, whose end Ctrl-C need not wait for if the last one was long. */
  private async call(signal: AbortSignal | undefined): Promise<number> {
    const { run, restore, slots = 1 } = this.contender;
    const slot = this.turns++ % slots;
    const timed = () => {
      const start = performance.now();
      const running = run(slot);
      return { start, running, end: performance.now() };
    };
    const { start, running, end } = this.blockedMs < LONG_MS ? timed() : interruptible(timed, Infinity, signal);
    this.blockedMs = end - start;
    const own = running instanceof Promise ? await running : undefined;
    const elapsed = running instanceof Promise ? performance.now() - start : end - start;
    restore?.(slot);
    return typeof own === 'number' ? own : elapsed;
  }
}

/**
 * Checks every contender, then times them all, then checks them again. A round in which other processes were at work is
 * thrown away, whatever its times, and repeated, up to `MAX_RETRIES` times for each round asked for.
 */
export async function measure(contenders: readonly Contender[], options: MeasureOptions): Promise<Measurement[]> {
  const { repeats, warmup, signal, onProgress } = options;
  const entrants = contenders.map((contender) => new Entrant(contender));
  const checkAll = async (keep: (entrant: Entrant, error: number | null) => void) => {
    for (const entrant of entrants) {
      await eventLoop(undefined, { signal });
      keep(entrant, await entrant.check(signal));
    }
  };
  await checkAll((entrant, error) => {
    entrant.error = error;
  });
  // Twice: the first calls also wait for the compilation of code that most contenders share.
  for (const entrant of [...entrants, ...entrants]) {
    await eventLoop(undefined, { signal });
    await entrant.calibrate(options);
  }
  let discarded = 0;
  for (let round = 0; round < warmup + repeats; ) {
    const times = await runRound(entrants, round, options);
    if (times === 'discard' && round >= warmup) {
      if (++discarded > MAX_RETRIES * repeats)
        throw new Error('other processes did not leave the machine quiet for long enough');
      await sleep(RETRY_MS, undefined, { signal });
      continue;
    }
    if (times !== 'discard' && round >= warmup) for (const [entrant, time] of times) entrant.rounds.set(round, time);
    round++;
    onProgress?.(round / (warmup + repeats));
  }
  await checkAll(() => {});
  const measurements: Measurement[] = [];
  for (const { contender, error, rounds } of entrants) {
    signal?.throwIfAborted();
    const peakBytes = await contender.peakBytes?.();
    measurements.push({ contender, error, milliseconds: spreadOf([...rounds.values()]), peakBytes, rounds });
  }
  return measurements;
}

async function runRound(
  entrants: readonly Entrant[],
  round: number,
  options: MeasureOptions,
): Promise<Map<Entrant, number> | 'discard'> {
  const { signal, othersAtWork, pauseMs = 10, onProgress, repeats, warmup } = options;
  const times = new Map<Entrant, number>();
  const all = async () => {
    const shifted = entrants.map((_, k) => entrants[(k + (round >> 1)) % entrants.length]);
    for (const [k, entrant] of (round % 2 === 0 ? shifted : shifted.reverse()).entries()) {
      if (!entrant.takesPart(round, options)) continue;
      await (pauseMs > 0 ? sleep(pauseMs, undefined, { signal }) : eventLoop(undefined, { signal }));
      times.set(entrant, await entrant.time(options));
      onProgress?.((round + (k + 1) / entrants.length) / (warmup + repeats));
    }
  };
  if (!othersAtWork) await all();
  else if (await othersAtWork(all)) return 'discard';
  return times;
}
