// Asynchronous calls, many at once, some of them aborted: the same load for the main thread and for worker threads.
import { Random } from '../../../bench/problems/random.js';
import * as rlvr from '../../../lib/index.js';

/** How calls ended. */
export interface Ends {
  done: number;
  aborted: number;
  /** What went wrong, a few of them. */
  faults: string[];
}

interface Piece {
  name: string;
  run(options: rlvr.AsyncOptions): Promise<number>;
  expected: number;
}

/** Calls in flight at once. */
const TOGETHER = 24;
const MOST_FAULTS = 10;
/** Of the calls. */
const ABORTED_SHARE = 0.3;

function batchOf(seed: number, tokens: number, vocab: number) {
  const random = new Random(seed);
  const logits = new Float32Array(tokens * vocab);
  random.fillNormal(logits, 2);
  const sequences = 8;
  return {
    logits,
    targets: Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab)),
    cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, i) => Math.floor((i * tokens) / sequences)),
    cuGroups: Int32Array.of(0, 4, sequences),
    rewards: Float32Array.from({ length: sequences }, (_, i) => i % 2),
  };
}

/** A few calls of each kind, from ones that end before an abort comes to ones that take milliseconds. */
async function pieces(): Promise<Piece[]> {
  const batches = [batchOf(1, 16, 8), batchOf(2, 64, 500), batchOf(3, 64, 8000)];
  const calls = batches.flatMap((batch): Omit<Piece, 'expected'>[] => [
    { name: 'conspo', run: async (options) => (await rlvr.conspo(batch, options)).loss },
    { name: 'grpo', run: async (options) => (await rlvr.grpo(batch, { ...options, gradient: 'none' })).loss },
    {
      name: 'dapo into out',
      run: async (options) => {
        const out = new Float32Array(batch.logits.length);
        const { gradLogits } = await rlvr.dapo(batch, { ...options, gradient: { out } });
        return gradLogits.reduce((sum, g) => sum + Math.abs(g), 0);
      },
    },
    {
      name: 'sapo in place',
      run: async (options) => {
        const own = { ...batch, logits: batch.logits.slice() };
        return (await rlvr.sapo(own, { ...options, gradient: 'in-place' })).gradLogits.at(-1) ?? 0;
      },
    },
    {
      name: 'forward and backward',
      run: async (options) => {
        const { scores, backward } = await rlvr.forward(batch, 'logLikelihood', options);
        const { gradLogits } = await backward(scores, options.signal && { signal: options.signal });
        return gradLogits[0] + scores[0];
      },
    },
    { name: 'tokenLogProbs', run: async (options) => (await rlvr.tokenLogProbs(batch, options)).logProbs[3] },
  ]);
  const found: Piece[] = [];
  for (const call of calls) found.push({ ...call, expected: await call.run({}) });
  return found;
}

/** Aborts now, at the next turn of the event loop, or some milliseconds from now. */
function abortSometime(controller: AbortController, random: Random): void {
  const when = random.uniform();
  if (when < 0.1) controller.abort();
  else if (when < 0.4) setImmediate(() => controller.abort());
  else setTimeout(() => controller.abort(), 4 * random.uniform());
}

async function callOnce(piece: Piece, random: Random, ends: Ends): Promise<void> {
  const controller = random.uniform() < ABORTED_SHARE ? new AbortController() : undefined;
  const pending = piece.run(controller ? { signal: controller.signal } : {});
  if (controller) abortSometime(controller, random);
  try {
    const value = await pending;
    if (value !== piece.expected) throw new Error(`${value} is not ${piece.expected}`);
    ends.done++;
  } catch (error) {
    if (controller && error instanceof rlvr.RlvrError && error.code === 'ERR_ABORTED') ends.aborted++;
    else if (ends.faults.length < MOST_FAULTS) ends.faults.push(`${piece.name}: ${error}`);
  }
}

/** Makes calls until told to stop. */
export async function load(seed: number): Promise<(calls: number) => Promise<Ends>> {
  const random = new Random(seed);
  const all = await pieces();
  return async (calls) => {
    const ends: Ends = { done: 0, aborted: 0, faults: [] };
    let left = calls;
    const line = async () => {
      while (left-- > 0) await callOnce(all[Math.floor(random.uniform() * all.length)], random, ends);
    };
    await Promise.all(Array.from({ length: TOGETHER }, line));
    return ends;
  };
}
