// The comparison of the ConSPO paper, small: twelve contenders from one warm start, five seeds each. Run it again after an interruption: what
// is done stays done, and a run that was cut off goes on from its checkpoint.
//   npm run experiment -- [--processes 2] [--out results.json]
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { TaskName } from '../tasks.js';
import { bestOf, firstStage, type Job, REPORTED, secondStage, TUNING, thirdStage, warmStart } from './plan.js';
import { finalOf, isDone, writeResults } from './results.js';
import type { Order } from './worker.js';

const options = { processes: { type: 'string' }, runs: { type: 'string' }, out: { type: 'string' } } as const;
const flags = parseArgs({ options }).values;
const processes = Number(flags.processes ?? availableParallelism());
if (!(Number.isInteger(processes) && processes > 0))
  throw new Error(`--processes: expected a count, got ${flags.processes}`);
const runs = flags.runs ?? fileURLToPath(new URL('../../runs/experiment', import.meta.url));
const out = flags.out ?? fileURLToPath(new URL('../../../../bench/results/experiment.json', import.meta.url));

/** A run, by its id and the steps that it has when it is done. */
interface Queued {
  id: string;
  order: Order;
}

const folderOf = (id: string) => join(runs, id);
const warmId = (task: string) => `warm/${task}`;
const trainingOf = ({ id, settings }: Job): Queued => {
  const warmStart = join(folderOf(warmId(settings.task)), 'checkpoint.safetensors');
  return { id, order: { folder: folderOf(id), settings, warmStart } };
};
const warmStartOf = (task: TaskName): Queued => {
  const id = warmId(task);
  return { id, order: { folder: folderOf(id), settings: warmStart(task) } };
};

const workers = Array.from({ length: processes }, () =>
  fork(fileURLToPath(new URL('./worker.ts', import.meta.url)), {
    env: { ...process.env, RLVR_THREADS: '1' }, // a core each
  }),
);

/** Sends a worker a run; resolves when it is done. */
function runIn(worker: ChildProcess, { id, order }: Queued): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (code: number | null) => reject(new Error(`${id}: the worker ended with exit code ${code}`));
    worker.once('exit', failed);
    worker.once('message', () => {
      worker.off('exit', failed);
      resolve();
    });
    worker.send(order);
  });
}

/** Runs what is not done yet, one in each worker. */
async function runAll(stage: string, jobs: readonly Queued[]): Promise<void> {
  const left = jobs.filter(({ order }) => !isDone(order.folder, order.settings.steps));
  let done = jobs.length - left.length;
  const work = async (worker: ChildProcess) => {
    for (let job = left.shift(); job; job = left.shift()) {
      await runIn(worker, job);
      done++;
      console.log(`${new Date().toISOString().slice(11, 19)} ${stage}: ${done} of ${jobs.length}, ${job.id}`);
    }
  };
  await Promise.all(workers.map(work));
}

const figure = ({ id }: Job) => finalOf(folderOf(id)).sampled;
await runAll('warm start', [warmStartOf(TUNING)]);
const first = firstStage();
await runAll('tuning', [...REPORTED.map(warmStartOf), ...first.map(trainingOf)]);
const alone = bestOf(first, figure);
const second = secondStage(alone);
await runAll('margins', second.map(trainingOf));
const best = new Map([...bestOf(second, figure), ...alone]);
console.log([...best].map(([name, chosen]) => `${name}: ${JSON.stringify(chosen)}`).join('\n'));
const third = thirdStage(best);
await runAll('comparison', third.map(trainingOf));
writeResults(out, { tuning: [...first, ...second], reported: third, best, folderOf });
console.log(out);
for (const worker of workers) worker.disconnect();
