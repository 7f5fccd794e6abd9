// The token-level op through the package's public functions.

import { tokenLogProbsBackwardSync, tokenLogProbsSync } from '../../lib/index.js';
import { finiteRows, type TokenArrays } from '../problems/arrays.js';
import { gradientError, requireWithin, valueError } from '../problems/float64.js';
import { TOKEN_TOLERANCE } from '../problems/tolerances.js';
import type { Contender } from '../timing.js';
import { ownIdentity, type Setting } from './own.js';

export type TokenOp =
  | 'forward'
  | 'forward with entropy'
  | 'backward in place'
  | 'backward second array'
  | 'forward + backward';

export const TOKEN_OPS: readonly TokenOp[] = [
  'forward',
  'forward with entropy',
  'backward in place',
  'backward second array',
  'forward + backward',
];

export function tokenContenders(arrays: TokenArrays, setting: Setting, ops = TOKEN_OPS): Contender[] {
  const makers: Record<TokenOp, () => Contender> = {
    forward: () => forward(arrays, setting, false),
    'forward with entropy': () => forward(arrays, setting, true),
    'backward in place': () => backward(arrays, setting, true),
    'backward second array': () => backward(arrays, setting, false),
    'forward + backward': () => forwardBackward(arrays, setting),
  };
  return ops.map((op) => makers[op]());
}

function common({ dtype, slots }: TokenArrays, setting: Setting) {
  return { ...ownIdentity(setting), dtype, slots, memoryBound: true };
}

function forward(arrays: TokenArrays, setting: Setting, entropy: boolean): Contender {
  const { logits, truth, bytes, dtype } = arrays;
  const { targets } = arrays.problem;
  const { backend } = setting;
  const op = entropy ? 'forward with entropy' : 'forward';
  const run = (slot: number) => tokenLogProbsSync({ logits: logits[slot], targets }, { entropy, backend });
  return {
    ...common(arrays, setting),
    op,
    moves: { read: bytes, copied: 0 },
    check() {
      const result = run(0);
      const errors = [valueError(result.logProbs, truth, 'logProb')];
      if (entropy) errors.push(valueError(result.entropy ?? [], truth, 'entropy'));
      for (const error of errors) requireWithin(`${op} ${dtype}, ${backend}`, error, TOKEN_TOLERANCE.value);
      return Math.max(...errors);
    },
    run,
  };
}

function checkGradient(arrays: TokenArrays, array: 'work' | 'out', name: string): number {
  const error = gradientError(finiteRows(arrays, arrays.gradient(array, 0), name), arrays.truth);
  requireWithin(name, error, TOKEN_TOLERANCE.gradient[arrays.dtype]);
  return error;
}

function backward(arrays: TokenArrays, setting: Setting, inPlace: boolean): Contender {
  const { targets, upstream: gradLogProbs } = arrays.problem;
  const { backend } = setting;
  const { logSumExp } = tokenLogProbsSync({ logits: arrays.logits[0], targets }, { backend });
  const from = inPlace ? arrays.work : arrays.logits;
  const to = inPlace ? 'work' : 'out';
  const restore = inPlace ? arrays.restore : undefined;
  const op = inPlace ? 'backward in place' : 'backward second array';
  const run = (slot: number) => {
    tokenLogProbsBackwardSync(
      { logits: from[slot], targets, logSumExp, gradLogProbs },
      { gradient: inPlace ? 'in-place' : { out: arrays.out[slot] }, backend },
    );
    arrays.settle();
  };
  return {
    ...common(arrays, setting),
    op,
    moves: { read: 0, copied: arrays.bytes },
    check() {
      run(0);
      const error = checkGradient(arrays, to, `${op} ${arrays.dtype}, ${backend}`);
      restore?.(0);
      return error;
    },
    run,
    ...(restore && { restore }),
  };
}

/** The backward pass in place. */
function forwardBackward(arrays: TokenArrays, setting: Setting): Contender {
  const { targets, upstream: gradLogProbs } = arrays.problem;
  const { backend } = setting;
  const { restore } = arrays;
  const op = 'forward + backward';
  const run = (slot: number) => {
    const logits = arrays.work[slot];
    const { logSumExp } = tokenLogProbsSync({ logits, targets }, { backend });
    tokenLogProbsBackwardSync({ logits, targets, logSumExp, gradLogProbs }, { gradient: 'in-place', backend });
    arrays.settle();
  };
  return {
    ...common(arrays, setting),
    op,
    moves: { read: arrays.bytes, copied: arrays.bytes },
    check() {
      run(0);
      const error = checkGradient(arrays, 'work', `${op} ${arrays.dtype}, ${backend}`);
      restore(0);
      return error;
    },
    run,
    restore,
  };
}
