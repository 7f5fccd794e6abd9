// A call into the addon costs 2 to 4 µs, an asynchronous one a trip to another thread: work that plain TypeScript does in
// less time stays in TypeScript. The bounds are where both took the same time, with every kernel in the addon.
import type { KernelCall } from '../kernels.js';
import { setting } from '../platform.js';

let enabled = setting('RLVR_TINY_NATIVE') !== '1';

let doneByReference = 0; // calls

/** Whether the reference's kernel would be done before the addon's had begun. */
export function isTiny(call: KernelCall): boolean {
  const tiny = enabled && fits(call);
  if (tiny) doneByReference++;
  return tiny;
}

/** How many calls the reference's kernels have done so far in place of the addon's. */
export function tinyCalls(): number {
  return doneByReference;
}

function fits({ kernel, args }: KernelCall): boolean {
  switch (kernel) {
    case 'tokenLogProbsForward':
    case 'tokenLogProbsBackward':
    case 'tokenLogProbsOnePass':
      return args.tokens * (args.vocab + 1) <= 144;
    case 'sequenceLogProbsBackward':
      return args.cuSeqlens[args.sequences] + args.sequences <= 360;
    case 'ratioScoresBackward':
      return args.cuSeqlens[args.sequences] + args.sequences <= 340;
    case 'sequenceLogProbsForward':
      return args.cuSeqlens[args.sequences] + args.sequences <= 290;
    case 'ratioScoresForward':
      return args.cuSeqlens[args.sequences] + args.sequences <= 90;
    case 'groupInfoNCE':
      return args.scores.length <= 36;
    default:
      return false;
  }
}

/** Runs `check` with every kernel in the addon, for checks of the addon itself. */
export function withoutTiny<T>(check: () => T): T {
  const before = enabled;
  enabled = false;
  try {
    return check();
  } finally {
    enabled = before;
  }
}
