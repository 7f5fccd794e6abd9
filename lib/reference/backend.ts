// The reference as a backend. Its kernels are generators that pause often; the sync driver runs them to the end, the
// async one gives the event loop a turn every few milliseconds.
import { setImmediate } from 'node:timers/promises';
import type { Backend, KernelArguments, KernelCall, KernelName, Run } from '../kernels.js';
import { advantageObjective } from './advantage-objective.js';
import { groupInfoNCE } from './group-info-nce.js';
import { ratioScoresBackward, ratioScoresForward } from './ratio-scores.js';
import { sequenceLogProbsBackward, sequenceLogProbsForward } from './sequence-log-probs.js';
import { type Pauses, tokenLogProbsBackward, tokenLogProbsForward } from './token-log-probs.js';

const SLICE_MS = 5;

const kernels: { [K in KernelName]: (args: KernelArguments[K]) => Pauses } = {
  tokenLogProbsForward,
  tokenLogProbsBackward,
  sequenceLogProbsForward,
  sequenceLogProbsBackward,
  ratioScoresForward,
  ratioScoresBackward,
  groupInfoNCE,
  advantageObjective,
};

function start({ kernel, args }: KernelCall): Pauses {
  return (kernels[kernel] as (args: KernelCall['args']) => Pauses)(args);
}

export function runReference(call: KernelCall): undefined {
  const pauses = start(call);
  while (pauses.next().done !== true);
}

const run: Run = {
  kernel: runReference,
  async kernelAsync(call, cancel) {
    const pauses = start(call);
    let sliceEnd = performance.now() + SLICE_MS;
    while (pauses.next().done !== true) {
      if (performance.now() < sliceEnd) continue;
      await setImmediate();
      if (cancel[0] !== 0) return;
      sliceEnd = performance.now() + SLICE_MS;
    }
  },
  read() {},
  readAsync: () => undefined,
  close() {},
};

export const referenceBackend: Backend = { name: 'reference', start: () => run };
