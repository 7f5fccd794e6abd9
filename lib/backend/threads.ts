// Asynchronous kernels and copies run on the threads of libuv, of which a process has four by default, for files and the
// like too. The calls of this package take at most half of them at a time and wait for each other here, in order: each
// uses all cores anyway, through the addon's own thread pool.
import type { Cancel } from '../kernels.js';
import { setting } from '../platform.js';

const waiting = new Set<() => void>(); // jobs, oldest first
let running = 0;
let most: number | undefined;

/** Half the threads, as libuv reads UV_THREADPOOL_SIZE when it starts them; at least one. */
function limit(): number {
  if (most !== undefined) return most;
  const size = Number.parseInt(setting('UV_THREADPOOL_SIZE') ?? '4', 10) || 1;
  most = Math.max(1, Math.floor((size < 0 ? 1024 : Math.min(size, 1024)) / 2));
  return most;
}

/**
 * What `start` returns, once a thread may be taken. If it returns no promise no thread was needed. A call that is aborted
 * while it waits is not started, and its promise fulfilled.
 */
export function onThread(start: () => Promise<void> | undefined, cancel?: Cancel): Promise<void> | undefined {
  if (running < limit()) return begin(start);
  return new Promise((resolve, reject) => {
    const job = () => {
      if (cancel) cancel.waiting = undefined;
      try {
        resolve(begin(start));
      } catch (error) {
        reject(error);
      }
    };
    waiting.add(job);
    if (!cancel) return;
    cancel.waiting = () => {
      waiting.delete(job);
      resolve();
    };
  });
}

function begin(start: () => Promise<void> | undefined): Promise<void> | undefined {
  const job = start();
  if (!job) return undefined;
  running++;
  return job.finally(startNext);
}

function startNext(): void {
  running--;
  for (const job of waiting) {
    if (running >= limit()) break;
    waiting.delete(job);
    job();
  }
}
