// The section `calls`: what a call costs besides its kernel. The forward pass of one short
// row, in which next to nothing is computed.

import { withoutTiny } from '../../lib/backend/tiny.js';
import { type BackendName, tokenLogProbs, tokenLogProbsSync } from '../../lib/index.js';
import { DTYPE_CODES, type TokenLogProbsForwardArguments } from '../../lib/kernels.js';
import { benchAddon } from '../problems/addon.js';
import { createProblem, type TokenProblem } from '../problems/data.js';
import { requireWithin, truthOf, valueError } from '../problems/float64.js';
import { TOKEN_TOLERANCE } from '../problems/tolerances.js';
import { formatShape } from '../report/figures.js';
import type { Contender } from '../timing.js';
import { againstReference } from './comparisons.js';
import type { Experiment, Omission, Plan } from './experiment.js';
import { ownIdentity } from './own.js';

const SHAPE = { tokens: 1, vocab: 32 };

export function callExperiments({ backends, seed }: Plan): Experiment[] | Omission {
  if (!backends.includes('cpu')) return { reason: 'it needs the cpu backend' };
  return [
    {
      section: 'calls',
      title: `what a call costs, ${formatShape(SHAPE)}`,
      elements: SHAPE.vocab,
      open: () => callContenders(createProblem(SHAPE, seed)),
      compare: (measured) => againstReference('calls', measured),
    },
  ];
}

function callContenders(problem: TokenProblem): Contender[] {
  const { targets } = problem;
  const truth = truthOf(problem, 'f32', problem.logits);
  const contender = (op: string, backend: BackendName, run: () => unknown, logProbs: () => ArrayLike<number>) => ({
    ...ownIdentity({ section: 'calls', shape: SHAPE, backend }),
    op,
    dtype: 'f32' as const,
    moves: { read: problem.logits.byteLength, copied: 0 },
    memoryBound: false,
    brief: true,
    check() {
      const error = valueError(logProbs(), truth, 'logProb');
      requireWithin(`${op}, ${backend}`, error, TOKEN_TOLERANCE.value);
      return error;
    },
    run,
  });
  const inputs = { logits: { data: problem.logits, shape: [1, SHAPE.vocab] as [number, number] }, targets };
  const sync = (backend: BackendName) => () => tokenLogProbsSync(inputs, { backend });
  const native = () => withoutTiny(sync('cpu'));
  const held = kernelArguments(problem);
  const cross = (args: TokenLogProbsForwardArguments) => {
    benchAddon()?.tokenLogProbsForward(args);
    return args.logProbs;
  };
  return [
    contender(
      'crossing',
      'cpu',
      () => cross(held),
      () => cross(held),
    ),
    contender(
      'crossing, new outputs',
      'cpu',
      () => cross(kernelArguments(problem)),
      () => cross(kernelArguments(problem)),
    ),
    contender('sync call, native', 'cpu', native, () => native().logProbs),
    contender('sync call', 'cpu', sync('cpu'), () => sync('cpu')().logProbs),
    contender('sync call', 'reference', sync('reference'), () => sync('reference')().logProbs),
    contender(
      'async call, native',
      'cpu',
      () => withoutTiny(() => tokenLogProbs(inputs, { backend: 'cpu' })),
      () => native().logProbs,
    ),
  ];
}

/** What the package passes to the addon: the arrays that it was given, and new ones for the results. */
function kernelArguments({ logits, targets, shape: { tokens, vocab } }: TokenProblem): TokenLogProbsForwardArguments {
  return {
    logits,
    dtype: DTYPE_CODES.f32,
    tokens,
    vocab,
    rowStride: vocab,
    targets,
    mask: undefined,
    keptIds: undefined,
    cuKept: undefined,
    temperature: 1,
    logProbs: new Float64Array(tokens),
    logSumExp: new Float64Array(tokens),
    entropy: undefined,
    kept: new Uint8Array(tokens),
    nonFinite: new Int32Array(1),
  };
}
