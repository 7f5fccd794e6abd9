// What test/mpi.test.ts runs under mpirun: `node mpi-program.mjs CASE`. Each rank prints lines of JSON: what happened, and its rank.
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { openMpi } from 'rlvr-kernels/mpi';
import { conformance, expectedMistakes, failure, mistakes } from './conformance.mjs';

const [, , name, library] = process.argv;
/** @typedef {import('../../lib/mpi/mpi-communicator.js').MpiCommunicator} MpiCommunicator */

/** @param {unknown} what */
const say = (what) => console.log(JSON.stringify(what));
const one = () => Float64Array.of(1);

/** @param {MpiCommunicator} comm */
async function check(comm) {
  const wrong = [];
  for (const sync of [true, false]) {
    wrong.push(...(await conformance(comm, { sync, rankOrder: false })));
    if (comm.size === 1) continue;
    const [errors, expected] = [await mistakes(comm, sync), expectedMistakes(comm.rank, comm.size)];
    wrong.push(...errors.filter((error, i) => error !== expected[i]));
  }
  return { size: comm.size, rank: comm.rank, wrong };
}

/** @type {Record<string, (world: MpiCommunicator, last: boolean) => unknown>} */
const CASES = {
  async conformance(world) {
    say(await check(world));
    for (const color of [world.rank === 3 ? 1 : 0, world.rank % 2]) {
      const part = world.split(color, -world.rank); // the other way round
      say({ color, of: world.rank, ...(await check(part)) });
      await part[Symbol.asyncDispose]();
    }
    const turns = await Promise.all(Array.from({ length: 20 }, (_, i) => world.allReduce(Float64Array.of(i), 'sum')));
    say({ turns: turns.map(([sum]) => sum) });
  },
  async arguments(world) {
    say(await failure(() => world.split(-1)));
    say(await failure(() => world.split(0, 0.5)));
    say(await failure(() => openMpi({ library: 'libother.so' })));
    const call = world.allReduce(one(), 'sum');
    say(await failure(() => world.close()));
    await call;
    const handle = world.library.version.startsWith('Open MPI') ? 0 : 0x44000000; // of MPI_COMM_WORLD, in Fortran
    for (const second of [openMpi(), openMpi({ comm: handle })]) {
      say([second.size, second.library.file === world.library.file]);
      second.close();
    }
    world.close();
    say(await failure(() => world.allReduceSync(one(), 'sum')));
    say(await failure(() => openMpi()));
  },
  async idle(world, last) {
    if (last)
      return void (await new Promise((resolve) => setTimeout(() => resolve(world.allReduce(one(), 'sum')), 1500)));
    let turns = 0;
    const timer = setInterval(() => turns++, 10);
    const before = process.cpuUsage();
    await world.allReduce(one(), 'sum');
    clearInterval(timer);
    const { user, system } = process.cpuUsage(before);
    say({ turns, cpu: (user + system) / 1e6 });
  },
  throws(world, last) {
    if (last) throw new Error('broken here');
    world.allReduceSync(one(), 'sum');
  },
  async rejects(world, last) {
    if (last) throw new Error('broken here');
    await world.split(0).allReduce(one(), 'sum');
  },
  killed(world, last) {
    if (last) process.kill(process.pid, 'SIGKILL');
    world.allReduceSync(one(), 'sum');
  },
  async 'bad argument'(world, last) {
    if (last) world.allReduceSync(/** @type {Float64Array} */ (/** @type {unknown} */ ([1])), 'sum');
    await world.allReduce(one(), 'sum');
  },
  async 'in the middle'(world, last) {
    if (last) return new Promise((resolve) => setTimeout(resolve, 1e6));
    setTimeout(() => process.exit(0), 50);
    await world.allReduce(one(), 'sum');
  },
  async ends(world, last) {
    const [row, column] = [world.split(world.rank >> 1), world.split(world.rank & 1)]; // any of them may be waited for
    if (last) return;
    say(await failure(() => column.allReduce(one(), 'sum').then(() => row.allReduce(one(), 'sum'))));
    say(await failure(() => column.allReduceSync(one(), 'sum')));
  },
  /** The addon's own functions, on the communicator with the number 0: what they do not refuse is harmless. */
  async junk(world) {
    const { mpi } = createRequire(import.meta.url)(/** @type {string} */ (process.env.TEST_ADDON));
    const doubles = (/** @type {number} */ n) => new Float64Array(n);
    const reduce = () => ({ communicator: 0, values: doubles(3), count: 3, maximum: true, out: doubles(3) });
    const gather = () => ({ communicator: 0, values: doubles(3), counts: Int32Array.of(3), out: doubles(3) });
    const make = { reduce, gather, reduceAsync: reduce, gatherAsync: gather, place: () => ({ communicator: 0 }) };
    const values = [
      undefined,
      null,
      -1,
      1,
      0.5,
      4,
      2 ** 31,
      NaN,
      7n,
      'text',
      {},
      [],
      doubles(2),
      doubles(0),
      doubles(4),
      new Float32Array(9),
    ];
    const lists = [Int32Array.of(), Int32Array.of(4), Int32Array.of(-1), Int32Array.of(2 ** 31 - 1), structuredClone];
    let [refused, failed] = [0, 0];
    for (const [call, args] of Object.entries(make)) {
      await mpi[call](args());
      for (const key of Object.keys(args())) {
        for (const value of [...values, ...lists]) {
          try {
            await mpi[call]({ ...args(), [key]: value });
          } catch (error) {
            if (error instanceof TypeError && error.message.startsWith('rlvr-kernels native call: ')) refused++;
            else failed++;
          }
        }
      }
    }
    say({ refused, failed, sum: [...world.allReduceSync(one(), 'sum')] });
  },
  async alone(world) {
    say({ library: world.library, size: world.size, sum: [...world.allReduceSync(one(), 'sum')] });
    const worker = new Worker(
      `import('rlvr-kernels/mpi').then(({ openMpi }) => openMpi()).catch(({ code, message }) =>
      require('node:worker_threads').parentPort.postMessage(code + ' ' + message))`,
      { eval: true },
    );
    say(await new Promise((resolve) => worker.once('message', resolve)));
  },
};

/** Of these it is measured how long they take to end. */
const FAILING = ['throws', 'rejects', 'killed', 'bad argument', 'in the middle'];

const opened = await failure(() => {
  const world = openMpi(library ? { library } : {});
  if (FAILING.includes(name)) say({ open: Date.now() });
  process.nextTick(() => CASES[name](world, world.rank === world.size - 1));
});
if (opened !== 'accepted') say(opened);
