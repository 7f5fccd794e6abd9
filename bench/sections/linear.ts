// The section `linear`: log-probs and gradients from hidden states, with the matrix products alone and what arithmetic in registers
// allows in the same rounds.
import { type BackendName, type DType, linearLogProbsSync } from '../../lib/index.js';
import { type OpenPeer, usableLinearContenders } from '../peer.js';
import { requireWithin, valueError } from '../problems/float64.js';
import {
  createLinearProblem,
  type LinearArena,
  type LinearShape,
  layerOf,
  linearRowsTruth,
  linearTruth,
  requireLinearMemory,
  zeros,
} from '../problems/linear.js';
import { LOSS_LENGTHS, oldLogProbsOf, rolloutsOfTokens } from '../problems/rollouts.js';
import { LINEAR_TOLERANCE } from '../problems/tolerances.js';
import { formatShape } from '../report/figures.js';
import type { Comparison, Row } from '../report/report.js';
import { ARITHMETIC } from '../rows.js';
import type { Contender } from '../timing.js';
import { againstReference, Claims, type Measured, ownBackends, suffix } from './comparisons.js';
import { BUDGET_SECONDS, type Experiment, type Omission, type Plan } from './experiment.js';
import { LINEAR_OP_NAMES, type LinearOpName } from './linear-ops.js';
import { arithmeticYardstick, linearContenders, productContenders } from './linear-own.js';
import { OWN } from './own.js';

/** What takes turns, and how often: a call can take seconds. */
interface Extent {
  readonly dtypes: readonly DType[];
  readonly ops: readonly LinearOpName[];
  readonly products: boolean;
  readonly rounds: Experiment['rounds'];
}

const ROUNDS = { repeats: 9, warmup: 1, budgetSeconds: BUDGET_SECONDS };

/** Of the memory, which is the same every time, at other numbers of tokens. */
const MEMORY: Omit<Extent, 'dtypes'> = {
  ops: ['forward + backward'],
  products: false,
  rounds: { repeats: 1, warmup: 0, wakingMs: 0 },
};
const MULTIPLES = [1 / 4, 1 / 2, 2];

export function linearExperiments(plan: Plan, peers: readonly OpenPeer[]): Experiment[] | Omission {
  const backends = plan.backends.filter((backend) => backend !== 'cuda');
  if (backends.length === 0) return { reason: 'hidden states have no CUDA kernels' };
  const extent = {
    dtypes: plan.linearDtypes,
    ops: LINEAR_OP_NAMES,
    products: backends.includes('cpu'),
    rounds: ROUNDS,
  };
  const memory = { ...MEMORY, dtypes: plan.linearDtypes.slice(0, 1) };
  return plan.linearShapes.flatMap((shape) => {
    const others = MULTIPLES.map((multiple) => ({
      ...shape,
      tokens: Math.max(1, Math.floor(multiple * shape.tokens)),
    }));
    return [
      linearExperiment(shape, { ...plan, backends }, peers, extent),
      ...others.map((other) => linearExperiment(other, { ...plan, backends: backends.slice(0, 1) }, peers, memory)),
    ];
  });
}

function linearExperiment(
  shape: LinearShape,
  { backends, ...plan }: Plan,
  peers: readonly OpenPeer[],
  { dtypes, ops, products, rounds }: Extent,
): Experiment {
  return {
    section: 'linear',
    title: `from hidden states, ${formatShape(shape)}`,
    elements: (shape.tokens + shape.vocab) * shape.width,
    rounds,
    async open() {
      requireLinearMemory(shape, dtypes, peers.filter((peer) => peer.linearContenders).length);
      const arena = createArena(shape, plan, backends[0]);
      const own = dtypes.flatMap((dtype) => ownContenders(arena, dtype, backends, ops));
      const theirs: Contender[] = [];
      for (const peer of peers) theirs.push(...(await usableLinearContenders(peer, arena, { dtypes, ops })));
      return [...arithmeticYardstick(arena.problem), ...(products ? productContenders(arena) : []), ...own, ...theirs];
    },
    compare: linearComparisons,
  };
}

function createArena(
  shape: LinearShape,
  { seed, lengths = LOSS_LENGTHS, groupSize }: Pick<Plan, 'seed' | 'lengths' | 'groupSize'>,
  backend: BackendName,
): LinearArena {
  const problem = createLinearProblem(shape, seed);
  const rows = linearRowsTruth(problem);
  const { hidden, weight } = layerOf(problem, 'f32');
  const { logProbs, logSumExp } = linearLogProbsSync({ hidden, weight, targets: problem.targets }, { backend });
  requireWithin(`forward f32, ${backend}`, valueError(logProbs, rows, 'logProb'), LINEAR_TOLERANCE.value);
  const rollouts = {
    ...rolloutsOfTokens(shape.tokens, lengths, groupSize, seed),
    oldLogProbs: oldLogProbsOf(logProbs),
  };
  return { problem, truth: linearTruth(problem, rows, logSumExp), logProbs, rollouts };
}

function ownContenders(
  arena: LinearArena,
  dtype: DType,
  backends: readonly BackendName[],
  ops: readonly LinearOpName[],
): Contender[] {
  const { tokens, vocab, width } = arena.problem.shape;
  const layer = layerOf(arena.problem, dtype);
  const gradients = { hidden: zeros(tokens, width, dtype), weight: zeros(vocab, width, dtype) };
  return backends.flatMap((backend) => linearContenders(arena, layer, gradients, backend, ops));
}

/** What the time of an op is compared with, of the same dtype. */
const BASES: Partial<Record<string, LinearOpName>> = {
  'forward + backward': 'forward',
  'the same, frozen head': 'forward + backward',
  conspo: 'forward + backward',
  grpo: 'forward + backward',
  'conspo, logits kept': 'conspo',
  'grpo, logits kept': 'grpo',
} satisfies Partial<Record<LinearOpName, LinearOpName>>;

export function linearComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('linear', measured);
  const { rows } = claims;
  const backends = ownBackends(rows);
  const [main] = backends;
  const isProduct = ({ op }: Row) => op.startsWith('GEMM ');
  for (const row of rows.filter(isProduct)) claims.peak(`${row.op}, of the multiply-adds`, row);
  for (const theirs of rows.filter(({ by }) => by !== OWN && by !== ARITHMETIC)) {
    const own = claims.own(theirs.op, theirs.dtype, main);
    claims.speed(`${theirs.op} ${theirs.dtype}, against ${theirs.by}`, own, theirs);
    claims.memory(`${theirs.op} ${theirs.dtype}, memory of ${theirs.by} over ours`, theirs, own);
  }
  for (const row of rows.filter((one) => one.by === OWN && !isProduct(one))) {
    const backend = row.backend ?? main;
    const name = `${row.op} ${row.dtype}`;
    const of = suffix(backend, backends);
    if (row.op === 'forward') {
      claims.peak(`${name}, of the multiply-adds${of}`, row);
      claims.cost(`${name}, time over its product alone${of}`, row, rows.find(isProduct));
    }
    const base = BASES[row.op];
    if (base) claims.cost(`${name}, time over ${base}${of}`, row, claims.own(base, row.dtype, backend));
  }
  return [...claims.list, ...againstReference('linear', measured)];
}
