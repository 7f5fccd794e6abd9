// The reference as a backend. Its kernels are generators that pause often; the sync driver runs them to the end, the
// async one gives the event loop a turn every few milliseconds. So do those of WebAssembly.
import type { Backend, BackendName, KernelArguments, KernelCall, KernelName, Run } from '../kernels.js';
import { atOnce, pause, type Sliced } from '../slices.js';
import { advantageObjective } from './advantage-objective.js';
import { groupInfoNCE } from './group-info-nce.js';
import { linearLogProbsBackward, linearLogProbsForward } from './linear-log-probs.js';
import { ratioScoresBackward, ratioScoresForward } from './ratio-scores.js';
import { sampleTokens, sampleTokensKept } from './sample-tokens.js';
import { sequenceLogProbsBackward, sequenceLogProbsForward } from './sequence-log-probs.js';
import { tokenLogProbsBackward, tokenLogProbsForward, tokenLogProbsOnePass, zeroRows } from './token-log-probs.js';

const kernels: { [K in KernelName]: (args: KernelArguments[K]) => Sliced<void> } = {
  tokenLogProbsForward,
  tokenLogProbsBackward,
  tokenLogProbsOnePass,
  zeroRows,
  sequenceLogProbsForward,
  sequenceLogProbsBackward,
  ratioScoresForward,
  ratioScoresBackward,
  groupInfoNCE,
  advantageObjective,
  sampleTokens,
  sampleTokensKept,
  linearLogProbsForward,
  linearLogProbsBackward,
};

/** The reference's kernel, begun. */
export function startReference({ kernel, args }: KernelCall): Sliced<void> {
  return (kernels[kernel] as (args: KernelCall['args']) => Sliced<void>)(args);
}

export function runReference(call: KernelCall): undefined {
  atOnce(startReference(call));
}

/** A backend whose kernels pause: a sync call does not heed that, an async one gives the event loop its turns. */
export function pausingBackend(name: BackendName, kernel: (call: KernelCall) => Sliced<void>): Backend {
  const run: Run = {
    kernel: (call) => atOnce(kernel(call)),
    async kernelAsync(call, cancel) {
      const pauses = kernel(call);
      while (pauses.next().done !== true) {
        const turn = pause();
        if (!turn) continue;
        await turn;
        if (cancel.flag[0] !== 0) return void pauses.return();
      }
    },
    read() {},
    readAsync: () => undefined,
    close() {},
  };
  return { name, start: () => run };
}

export const referenceBackend: Backend = pausingBackend('reference', startReference);
