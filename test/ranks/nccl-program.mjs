// What test/device-nccl.test.ts runs as processes, under mpirun or with ranks on worker threads: `node nccl-program.mjs LIBRARY CASE`. Each
// rank prints lines of JSON.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { inProcess } from 'rlvr-kernels';
import { openDevice } from 'rlvr-kernels/cuda';
import { openMpi } from 'rlvr-kernels/mpi';
import { openNccl } from 'rlvr-kernels/nccl';
import { conformance, expectedMistakes, failure, mistakes } from './conformance.mjs';

/** @typedef {import('rlvr-kernels/nccl').NcclCommunicator} NcclCommunicator */

const [, , library, name] = process.argv;
const one = () => Float64Array.of(1);
/** @param {unknown} what */
const say = (what) => (isMainThread ? console.log(JSON.stringify(what)) : parentPort?.postMessage(what));

/** @param {NcclCommunicator} comm */
async function check(comm) {
  const wrong = [];
  for (const sync of [true, false]) {
    wrong.push(...(await conformance(comm, { sync, rankOrder: true })));
    const [errors, expected] = [await mistakes(comm, sync), expectedMistakes(comm.rank, comm.size)];
    wrong.push(...errors.filter((error, i) => error !== expected[i]));
  }
  return wrong;
}

/** @type {Record<string, (comm: NcclCommunicator, last: boolean) => unknown>} */
const CASES = {
  async conformance(comm) {
    say({ rank: comm.rank, wrong: await check(comm) });
    comm.close();
    say(await failure(() => comm.allReduceSync(one(), 'sum')));
  },
  /** A waiting rank leaves the event loop free, and its core to others. */
  async idle(comm, last) {
    if (last)
      return void (await new Promise((resolve) => setTimeout(() => resolve(comm.allReduce(one(), 'sum')), 1000)));
    let turns = 0;
    const timer = setInterval(() => turns++, 10);
    const before = process.cpuUsage();
    await comm.allReduce(one(), 'sum');
    clearInterval(timer);
    const { user, system } = process.cpuUsage(before);
    say({ turns, cpu: (user + system) / 1e6 });
  },
  async ends(comm, last) {
    if (!last) say(await failure(() => comm.allReduce(one(), 'sum')));
  },
  async throws(comm, last) {
    if (last) throw new Error('broken here');
    say(await failure(() => comm.allReduce(one(), 'sum')));
  },
  killed(comm, last) {
    if (last) process.kill(process.pid, 'SIGKILL');
    comm.allReduceSync(one(), 'sum');
  },
};

/** @param {import('rlvr-kernels').Communicator} via */
async function run(via) {
  const comm = await openNccl({ via, library, device: openDevice(via.rank % 2), timeout: 20_000 });
  await CASES[name](comm, comm.rank === comm.size - 1);
}

if (process.argv.includes('--workers')) {
  for (const rank of inProcess(3)) {
    const worker = new Worker(new URL(import.meta.url), { workerData: rank.share(), argv: [library, name] });
    worker.on('message', say);
    worker.on('error', (error) => say(`error: ${error.message}`));
  }
} else if (isMainThread) {
  await run(openMpi());
} else {
  await run(inProcess(/** @type {import('rlvr-kernels').SharedRank} */ (workerData)));
}
