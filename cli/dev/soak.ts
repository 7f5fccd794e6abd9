// `npm run soak`: asynchronous calls for a long time, some aborted, beside worker threads that are terminated in the middle of
// theirs. Every result is compared with the first of its kind, and memory must stay flat. Exits with 1 where one is not so.
//
//   npm run soak -- [--calls N] [--seed S] [--json FILE]
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { Random } from '../../bench/problems/random.js';
import { origin, type Reading, type SoakRecord } from './records.js';
import { type Ends, load } from './soak/load.js';
import { type Judged, judgeGrowth, reading } from './soak/memory.js';

/** Calls between two readings of the memory, and workers terminated meanwhile. */
const CALLS_PER_ROUND = 1000;
const WORKERS_PER_ROUND = 2;
/** Until buffers, code and the heap have their working size. */
const WARM_UP_ROUNDS = 5;

interface Soaked extends Ends {
  workers: number;
  callsInWorkers: number;
  readings: Reading[];
}

function whole(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`--${name}: expected a whole number, got ${JSON.stringify(text)}`);
}

function add(to: Ends, { done, aborted, faults }: Ends): void {
  to.done += done;
  to.aborted += aborted;
  to.faults.push(...faults);
}

/** Starts a worker and ends it when it has made some calls, in the middle of others. */
async function terminated(seed: number, random: Random): Promise<Ends> {
  const ends: Ends = { done: 0, aborted: 0, faults: [] };
  const worker = new Worker(new URL('./soak/worker.js', import.meta.url), { workerData: seed });
  worker.on('message', (more: Ends) => add(ends, more));
  const begun = new Promise<void>((resolve) => {
    worker.once('message', () => resolve());
    worker.once('error', (error) => {
      ends.faults.push(`worker: ${error}`);
      resolve();
    });
  });
  await begun;
  await new Promise((resolve) => setTimeout(resolve, 20 * random.uniform()));
  await worker.terminate();
  return ends;
}

async function soak(calls: number, seed: number): Promise<Soaked> {
  const random = new Random(seed);
  const run = await load(seed);
  const result: Soaked = { done: 0, aborted: 0, faults: [], workers: 0, callsInWorkers: 0, readings: [] };
  const rounds = Math.ceil(calls / CALLS_PER_ROUND);
  for (let round = 0; round < rounds + WARM_UP_ROUNDS; round++) {
    const workers = Array.from({ length: WORKERS_PER_ROUND }, () => terminated(seed + round, random));
    const own = await run(CALLS_PER_ROUND);
    const others = await Promise.all(workers);
    if (round < WARM_UP_ROUNDS) continue;
    add(result, own);
    result.workers += WORKERS_PER_ROUND;
    result.callsInWorkers += others.reduce((sum, { done, aborted }) => sum + done + aborted, 0);
    for (const { faults } of others) result.faults.push(...faults);
    result.readings.push(await reading());
  }
  return result;
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

function print({ done, aborted, faults, workers, callsInWorkers }: Soaked, { before, after, grown }: Judged): void {
  console.log(`${done} calls gave their result, ${aborted} were aborted`);
  console.log(`${workers} workers were terminated after ${callsInWorkers} calls of their own`);
  for (const key of ['heapUsed', 'external', 'rss'] as const) {
    const verdict = grown.includes(key) ? 'GREW' : 'flat';
    console.log(`${key.padEnd(8)}  ${megabytes(before[key])} before, ${megabytes(after[key])} after: ${verdict}`);
  }
  for (const fault of faults) console.log(`FAULT  ${fault}`);
}

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      calls: { type: 'string', default: '100000' },
      seed: { type: 'string', default: '1' },
      json: { type: 'string' },
    },
  });
  const [calls, seed] = [whole('calls', values.calls), whole('seed', values.seed)];
  const start = performance.now();
  const soaked = await soak(calls, seed);
  const judged = judgeGrowth(soaked.readings);
  print(soaked, judged);
  const { readings: _readings, ...counts } = soaked;
  const record: SoakRecord = {
    measurement: 'rlvr-kernels soak',
    ...origin(seed, start),
    ...counts,
    memory: judged,
  };
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(record, null, 2)}\n`);
  return soaked.faults.length === 0 && judged.grown.length === 0;
}

try {
  if (!(await main())) process.exitCode = 1;
} catch (error) {
  console.error(`soak: ${(error as Error).message}`);
  process.exitCode = 2;
}
