// A worker thread of `npm run soak`: makes calls until it is terminated in the middle of one.
import { parentPort, workerData } from 'node:worker_threads';
import { load } from './load.js';

const calls = await load(Number(workerData));
for (;;) {
  const { done, aborted, faults } = await calls(48);
  parentPort?.postMessage({ done, aborted, faults });
}
