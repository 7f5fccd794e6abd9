// Calls in words: plain data that fast-check generates and shrinks, and from which the arguments are made.
import fc from 'fast-check';

/** How the logits, or hidden states and their layer, are handed over. `half` is a Float16Array, where Node has one, else the bits of one. */
export const LOGITS_FORMS = ['flat', 'f32', 'bf16', 'f16', 'half'] as const;

/** The numbers in a batch. */
export interface BatchPlan {
  /** Tokens of each sequence of each group. */
  groups: number[][];
  vocab: number;
  /** Of everything drawn below. */
  seed: number;
  from: 'logits' | 'hidden' | 'logProbs';
  form: (typeof LOGITS_FORMS)[number];
  /** Row stride less V, or less d. */
  padding: number;
  logits: 'normal' | 'wide' | 'huge' | 'tiny' | 'equal' | 'banned' | 'broken';
  /** Of log-probs that are compared with the policy's. */
  others: 'near' | 'far' | 'extreme' | 'infinite';
  /** Of rewards, advantages, scores and upstream gradients. */
  weights: 'binary' | 'normal' | 'equal' | 'huge' | 'tiny';
  /** The memory of an array: its own, a part of a larger buffer, or a part of a shared one. */
  memory: 'own' | 'inside' | 'shared';
}

/** Something hostile done to one of the arguments; both numbers are taken modulo what there is. */
export interface Edit {
  at: number;
  how: string;
  by: number;
}

export interface Plan {
  target: string;
  batch: BatchPlan;
  /** Optional fields of the inputs that are there. */
  fields: string[];
  /** Options, the last of a name counts. */
  options: [name: string, value: unknown][];
  score: { kind: string; parameters: [name: string, value: unknown][] };
  gradient: 'default' | 'new' | 'in-place' | 'none' | 'out' | 'out with padding' | 'deferred' | 'out deferred';
  signal: 'none' | 'live' | 'aborted';
  /** `copyInputs`: then the inputs are spoilt as soon as the call has returned its promise. */
  copies: boolean;
  /** A choice that a target makes for itself. */
  variant: number;
  edits: Edit[];
}

/** Mostly the first ones. */
export function mostly<T>(usual: readonly T[], rare: readonly T[], weight = 8): fc.Arbitrary<T> {
  return fc.oneof({ weight, arbitrary: fc.constantFrom(...usual) }, { weight: 1, arbitrary: fc.constantFrom(...rare) });
}

const batch: fc.Arbitrary<BatchPlan> = fc.record({
  groups: fc.array(fc.array(fc.nat(9), { maxLength: 4 }), { maxLength: 4 }),
  vocab: fc.integer({ min: 1, max: 40 }),
  seed: fc.nat(),
  from: fc.constantFrom('logits', 'logProbs', 'hidden'),
  form: fc.constantFrom(...LOGITS_FORMS),
  padding: fc.oneof(fc.constant(0), fc.nat(5)),
  logits: mostly(['normal', 'wide', 'banned'], ['huge', 'tiny', 'equal', 'broken'], 4),
  others: mostly(['near', 'far'], ['extreme', 'infinite'], 4),
  weights: mostly(['binary', 'normal'], ['equal', 'huge', 'tiny'], 6),
  memory: fc.constantFrom('own', 'inside', 'shared'),
});

const POSITIVE = mostly([1, 0.1, 10, 0.5, 3], [5e-324, 1e-300, 1e-6, 1e6, 1e300, Number.MAX_VALUE], 12);
const WIDTH = mostly([0.2, 0, 0.05, 0.4, 1, 25], [Infinity, 1e9, 5e-324, 1e300], 6);
const COEFFICIENT = mostly([0, 0.01, 0.1, 1], [5e-324, 1e300], 12);
const ANY = mostly([0, 0.1, -0.3, 0.5, 1], [-0, 1e300, -1e300, 5e-324], 12);

const ESTIMATOR = fc.constantFrom(
  ...(['grpo', 'drGrpo', 'rloo', 'opo', 'maxRl', 'passK', 'gpg'] as const),
  ...(['gdpo', 'reinforcePlusPlus', 'reinforcePlusPlusBaseline'] as const),
);
const DEVIATION = { ddof: fc.constantFrom(0, 1), eps: mostly([0, 1e-6, 1e-4], [5e-324, 1e300], 4) };

/** Valid values of options, common and extreme. */
const OPTION_VALUES: Record<string, fc.Arbitrary<unknown>> = {
  temperature: mostly([1, 0.5, 2], [1e-6, 1e6, 1e-3], 4),
  entropy: fc.boolean(),
  logProbs: fc.boolean(),
  topK: mostly([1, 2, 5, 40], [2 ** 53 - 1]),
  topP: mostly([0.9, 0.5, 1], [5e-324, 1e-9], 4),
  minP: mostly([0, 0.1, 0.5, 1], [5e-324]),
  seed: fc.maxSafeNat(),
  offset: fc.nat(),
  kept: fc.boolean(),
  onNonFinite: fc.constantFrom('skip', 'error'),
  chunkBytes: mostly([2 ** 26, 0, 4, 1000], [1, 2 ** 20], 4),
  positiveThreshold: ANY,
  expectOnPolicy: mostly([false], [true]),
  backend: fc.constantFrom('cpu', 'wasm', 'reference', undefined, 'cuda'),
  tau: POSITIVE,
  margin: ANY,
  normalizer: POSITIVE,
  epsilonLow: WIDTH,
  epsilonHigh: WIDTH,
  dualClip: mostly([1, 1.2, 3], [Infinity, 1e300]),
  delta: mostly([0.5, 1, 1.3, 4], [Infinity, 5e-324, 1e300]),
  ratioMin: mostly([0, 0.7, 1], [1e300]),
  ratioMax: mostly([1.3, 5], [1e300, Infinity], 4),
  tauPos: POSITIVE,
  tauNeg: POSITIVE,
  divergence: fc.constantFrom('tv', 'kl'),
  kPos: mostly([2, 0, 1], [1e300, 5e-324]),
  kNeg: mostly([3, 0, 1], [1e300, 5e-324]),
  lambdaPos: POSITIVE,
  lambdaNeg: POSITIVE,
  aggregation: fc.constantFrom('sequence-mean', 'token-mean', 'constant-length'),
  maxLength: POSITIVE,
  klCoef: COEFFICIENT,
  klEstimator: fc.constantFrom('k1', 'k2', 'k3', 'k1+', 'k3+', 'abs'),
  klReference: fc.constantFrom('ref', 'old'),
  klMax: mostly([0.1, 1, 10], [5e-324, 1e300, Infinity], 4),
  klWeight: fc.constantFrom('none', 'ratio'),
  ratioLevel: fc.constantFrom('token', 'sequence', 'sum'),
  entropyCoef: COEFFICIENT,
  rolloutCorrection: fc.record(
    {
      level: fc.constantFrom('token', 'sequence', 'none'),
      mode: fc.constantFrom('truncate', 'mask'),
      normalize: fc.boolean(),
      sequenceMask: fc.record({ max: mostly([2, 1.1], [1e300]) }, { noNullPrototype: true }),
      reject: fc.record(
        {
          by: fc.constantFrom('k1', 'k3'),
          level: fc.constantFrom('token', 'sequence-mean', 'sequence-max'),
          max: mostly([0.1, 0.5], [5e-324, 1e300]),
        },
        { noNullPrototype: true },
      ),
      min: mostly([0, 0.5], [1e300]),
      max: mostly([2, 1.1], [Infinity, 1e300], 4),
      missing: fc.constantFrom('one', 'error'),
    },
    { requiredKeys: [], noNullPrototype: true },
  ),
  offPolicyMask: fc.record({ delta: mostly([0.05, 1], [5e-324, 1e300]) }, { noNullPrototype: true }),
  entropyQuantile: fc.constant(0), // at any other, entropies that differ by a rounding fall on either side
  // All or none, for the same reason.
  clipCov: fc.record(
    { ratio: fc.constantFrom(0, 1), low: fc.constant(-1e300), high: fc.constant(Infinity), seed: fc.nat() },
    { noNullPrototype: true },
  ),
  klCov: fc.record(
    { ratio: fc.constantFrom(0, 1), coef: COEFFICIENT },
    { requiredKeys: ['ratio'], noNullPrototype: true },
  ),
  entropyAggregation: fc.constantFrom('policy', 'token-mean'),
  entropyNormalizer: POSITIVE,
  perToken: fc.boolean(),
  distillation: fc.record({ coef: COEFFICIENT }, { requiredKeys: [], noNullPrototype: true }),
  advantage: fc.oneof(
    fc.record({ ...DEVIATION, estimator: ESTIMATOR }, { requiredKeys: [], noNullPrototype: true }),
    fc.record(
      {
        ...DEVIATION,
        estimator: fc.constantFrom('grpo', 'passK', 'gdpo'),
        scale: fc.constantFrom('group', 'batch', 'none'),
      },
      { requiredKeys: ['estimator'], noNullPrototype: true },
    ),
  ),
  estimator: ESTIMATOR,
  ddof: fc.constantFrom(0, 1),
  eps: mostly([0, 1e-6, 1e-4], [5e-324, 1e300], 4),
  form: fc.constantFrom('advantage', 'discriminative'),
  score: fc.constantFrom('logLikelihood', 'ratio'),
  klConstraint: fc.oneof(
    fc.boolean(),
    fc.record({ beta: COEFFICIENT, delta: COEFFICIENT }, { requiredKeys: [], noNullPrototype: true }),
  ),
  target: ANY,
  warmup: fc.constantFrom(1, 0.5, 5e-324, 1e-300),
  progress: fc.constantFrom(0, 1, 0.5, 5e-324, -0),
};

/** Some options of these names. */
function options(names: readonly string[], maxLength: number): fc.Arbitrary<[name: string, value: unknown][]> {
  if (names.length === 0) return fc.constant([]);
  const one = names.map((name) => fc.tuple(fc.constant(name), OPTION_VALUES[name]));
  return fc.array(fc.oneof(...one), { maxLength });
}

const SCORE_KINDS = [
  'logLikelihood',
  'ratio',
  'clippedRatio',
  'sequenceRatio',
  'geometricRatio',
  'stoppedRatio',
  'softGate',
  'trustRegionTv',
  'trustRegionKl',
  'logRatio',
  'gammaWeight',
  'k1',
  'k2',
  'k3',
  'k1+',
  'k3+',
  'abs',
];
const SCORE_PARAMETERS = [
  'epsilonLow',
  'epsilonHigh',
  'dualClip',
  'delta',
  'ratioMin',
  'ratioMax',
  'tauPos',
  'tauNeg',
  'kPos',
  'kNeg',
  'lambdaPos',
  'lambdaNeg',
  'klMax',
  'klWeight',
  'ratioLevel',
] as const;

const score = fc.record({
  kind: fc.constantFrom(...SCORE_KINDS),
  parameters: options(SCORE_PARAMETERS, 3),
});

/** What the plans of a target have to choose from. */
export interface Choices {
  target: string;
  fields: readonly string[];
  options: readonly string[];
  /** Ways to be hostile. */
  edits: readonly string[];
  signal?: boolean;
}

export function plans({ target, fields, options: names, edits, signal = false }: Choices): fc.Arbitrary<Plan> {
  const edit = fc.record({ at: fc.nat(200), how: fc.constantFrom(...edits), by: fc.nat(1000) });
  return fc.record({
    target: fc.constant(target),
    batch,
    fields: fc.subarray([...fields]),
    options: options(names, 5),
    score,
    gradient: fc.constantFrom(
      'default',
      'new',
      'in-place',
      'none',
      'out',
      'out with padding',
      'deferred',
      'out deferred',
    ),
    signal: signal ? mostly(['none'], ['live', 'aborted'], 20) : fc.constant('none'),
    copies: signal ? mostly([false], [true]) : fc.constant(false),
    variant: fc.nat(100),
    // Half of the calls are meant to succeed.
    edits: fc.oneof(fc.constant<Edit[]>([]), fc.array(edit, { minLength: 1, maxLength: 3 })),
  });
}
