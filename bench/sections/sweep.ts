// The section `sweep`: many shapes, most of them small, on the cpu backend and on the reference, which no shape should be
// slower than.

import { tinyCalls } from '../../lib/backend/tiny.js';
import { type BackendName, tokenLogProbsBackwardSync, tokenLogProbsSync } from '../../lib/index.js';
import { createProblem, type TokenShape } from '../problems/data.js';
import { gradientError, type RowTruth, requireWithin, truthOf, valueError } from '../problems/float64.js';
import { scoredRollouts } from '../problems/rollouts.js';
import { TOKEN_TOLERANCE } from '../problems/tolerances.js';
import { formatShape } from '../report/figures.js';
import type { Shape } from '../report/report.js';
import type { Contender } from '../timing.js';
import { againstReference, workOf } from './comparisons.js';
import type { Experiment, Omission, Plan } from './experiment.js';
import { infoNceContender } from './objectives.js';
import { ownIdentity } from './own.js';
import { shapeOf } from './rollout-level.js';
import { scoreContenders } from './scores.js';

const TOKENS = [1, 2, 4, 16, 33, 64, 128, 1024, 4096];
const VOCABULARIES = [1, 2, 3, 8, 31, 32, 64, 128, 257, 512, 1024, 4096, 10007, 32768, 131072, 262144];
const GROUP_SIZES = [2, 3, 4, 5, 8, 16, 32, 64];
const GROUPS = [1, 64];
/** Of a sequence. */
const MOST_TOKENS = 32;
/** The reference takes a fraction of a second for this many. */
const MOST_ELEMENTS = 2 ** 24;
/** Many short turns: garbage is collected in few of them, and a slow moment of the machine affects both backends. */
const ROUNDS = { repeats: 61, warmup: 1, pauseMs: 0, wakingMs: 0, briefMs: 0.25, budgetSeconds: 0.25 };

const LEFT_OUT = 'the smallest calls are left out: the cpu backend leaves them to the reference';

export function sweepExperiments({ backends, seed }: Plan): Experiment[] | Omission {
  if (!backends.includes('cpu')) return { reason: 'it compares the cpu backend with the reference' };
  const fast = 'cpu';
  const pair = [fast, 'reference'] as const;
  const all = TOKENS.flatMap((tokens) => VOCABULARIES.map((vocab) => ({ tokens, vocab })));
  const shapes = all.filter(({ tokens, vocab }) => tokens * vocab <= MOST_ELEMENTS);
  return [
    {
      section: 'sweep',
      title: `sweep, ${shapes.length} shapes of logits f32, ${fast} against reference`,
      note: `${all.length - shapes.length} shapes of more than 2^24 elements are left out: the reference is slow; ${LEFT_OUT}`,
      elements: MOST_ELEMENTS,
      rounds: ROUNDS,
      open: () => differing(tokenSweep(shapes, pair, seed)),
      compare: (measured) => againstReference('sweep', measured),
    },
    {
      section: 'sweep',
      title: `sweep, sequences in groups of 2 to 64, ${fast} against reference`,
      note: LEFT_OUT,
      elements: Math.max(...GROUP_SIZES) * Math.max(...GROUPS) * MOST_TOKENS,
      rounds: ROUNDS,
      open: () => differing(rolloutSweep(pair, seed)),
      compare: (measured) => againstReference('sweep', measured),
    },
  ];
}

/** Without those that both backends run with the same code, whose times would differ by chance alone. */
function differing(contenders: readonly Contender[]): Contender[] {
  const leftToReference = (contender: Contender) => {
    const before = tinyCalls();
    contender.run(0);
    return tinyCalls() > before;
  };
  const same = new Set(contenders.filter((one) => one.backend === 'cpu' && leftToReference(one)).map(workOf));
  return contenders.filter((one) => !same.has(workOf(one)));
}

/** All shapes are views of one array, so that memory does not grow with their number. */
function tokenSweep(shapes: readonly TokenShape[], backends: readonly BackendName[], seed: number): Contender[] {
  const most = { tokens: 1, vocab: Math.max(...shapes.map(({ tokens, vocab }) => tokens * vocab)) };
  const source = createProblem(most, seed).logits;
  const target = new Float32Array(source.length);
  return shapes.flatMap((shape) => {
    const problem = { ...createProblem({ tokens: shape.tokens, vocab: 1 }, seed), shape };
    const targets = problem.targets.map((_, t) => (7919 * (t + 1)) % shape.vocab);
    const logits = source.subarray(0, shape.tokens * shape.vocab);
    const exact = () => truthOf({ ...problem, targets }, 'f32', logits);
    const arrays = { shape, targets, upstream: problem.upstream, logits, out: target.subarray(0, logits.length) };
    return backends.flatMap((backend) => sweepContenders({ ...arrays, exact }, backend));
  });
}

interface SweepArrays {
  readonly shape: Shape & TokenShape;
  readonly targets: Int32Array;
  readonly upstream: Float64Array;
  readonly logits: Float32Array;
  readonly out: Float32Array;
  exact(): RowTruth[];
}

function sweepContenders({ shape, targets, upstream, exact, ...arrays }: SweepArrays, backend: BackendName) {
  const dims: [number, number] = [shape.tokens, shape.vocab];
  const logits = { data: arrays.logits, shape: dims };
  const out = { data: arrays.out, shape: dims };
  const common = {
    ...ownIdentity({ section: 'sweep', shape, backend }),
    dtype: 'f32' as const,
    memoryBound: false,
    brief: true,
  };
  const name = (op: string) => `${op}, ${formatShape(shape)}, ${backend}`;
  const forward = () => tokenLogProbsSync({ logits, targets }, { backend });
  let logSumExp: Float64Array | undefined; // not before it is needed: the contenders are many
  const backward = () => {
    logSumExp ??= forward().logSumExp;
    const inputs = { logits, targets, logSumExp, gradLogProbs: upstream };
    return tokenLogProbsBackwardSync(inputs, { gradient: { out }, backend });
  };
  const checkForward = () => {
    const error = valueError(forward().logProbs, exact(), 'logProb');
    requireWithin(name('forward'), error, TOKEN_TOLERANCE.value);
    return error;
  };
  const checkBackward = () => {
    backward();
    const error = gradientError((row) => out.data.subarray(row * shape.vocab, (row + 1) * shape.vocab), exact());
    requireWithin(name('backward'), error, TOKEN_TOLERANCE.gradient.f32);
    return error;
  };
  const bytes = arrays.logits.byteLength;
  return [
    { ...common, op: 'forward', moves: { read: bytes, copied: 0 }, check: checkForward, run: forward },
    { ...common, op: 'backward second array', moves: { read: 0, copied: bytes }, check: checkBackward, run: backward },
  ];
}

function rolloutSweep(backends: readonly BackendName[], seed: number): Contender[] {
  return GROUP_SIZES.flatMap((groupSize) =>
    GROUPS.flatMap((groups) => {
      const rollouts = scoredRollouts(groupSize * groups, { min: 1, max: MOST_TOKENS }, groupSize, seed);
      const shape = shapeOf(rollouts);
      return backends.flatMap((backend) => [
        infoNceContender(rollouts, { section: 'sweep', shape, backend }),
        ...scoreContenders(rollouts, { section: 'sweep', shape, backend }, ['clippedRatio']),
      ]);
    }),
  );
}
