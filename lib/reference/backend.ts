// The reference as a backend. Its kernels are generators that pause often; the sync driver runs them to the end, the
// async one gives the event loop a turn every few milliseconds.
import type { Backend, KernelArguments, KernelCall, KernelName, Run } from '../kernels.js';
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

function start({ kernel, args }: KernelCall): Sliced<void> {
  return (kernels[kernel] as (args: KernelCall['args']) => Sliced<void>)(args);
}

export function runReference(call: KernelCall): undefined {
  atOnce(start(call));
}

const run: Run = {
  kernel: runReference,
  async kernelAsync(call, cancel) {
    const pauses = start(call);
    while (pauses.next().done !== true) {
      const turn = pause();
      if (!turn) continue;
      await turn;
      if (cancel.flag[0] !== 0) return;
    }
  },
  read() {},
  readAsync: () => undefined,
  close() {},
};

export const referenceBackend: Backend = { name: 'reference', start: () => run };
