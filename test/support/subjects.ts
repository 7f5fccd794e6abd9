// Every op and loss, with its arguments and what is wrong for each of its options.
import { isRevoked } from '../../lib/errors.js';
import * as rlvr from '../../lib/index.js';
import { type Call, type Callable, type Fields, groups, logProbs, rows, sequences } from './refusals.js';

export interface Argument {
  name: string;
  is: 'floats' | 'targets' | 'offsets' | 'mask' | 'logits' | 'matrix';
  /** Its length defines T or N: a wrong one is found in the other arguments. */
  defines?: boolean;
  optional?: boolean;
  /** Where it must be finite. */
  finite?: 'everywhere' | 'unmasked' | 'not NaN';
}

export interface Subject extends Callable {
  name: string;
  inputs: () => Fields;
  arguments: Argument[];
  options: [option: string, ...bad: unknown[]][];
  /** Has no CUDA kernels. */
  hostOnly?: true;
}

const floats = (name: string, more: Partial<Argument> = {}): Argument => ({
  name,
  is: 'floats',
  finite: 'everywhere',
  ...more,
});
const LOGITS: Argument[] = [
  { name: 'logits', is: 'logits' },
  { name: 'targets', is: 'targets', defines: true },
];
const MASK: Argument = { name: 'mask', is: 'mask', optional: true };
const CU_SEQLENS: Argument = { name: 'cuSeqlens', is: 'offsets' };
const CU_GROUPS: Argument = { name: 'cuGroups', is: 'offsets' };
const OLD = floats('oldLogProbs', { optional: true, finite: 'not NaN' });
const NOT_ABOVE_0 = [0, -1, NaN, Infinity, -Infinity, '1', {}];
const NOT_FINITE = [NaN, Infinity, -Infinity, '0', {}];
export const NEGATIVE = [-0.1, NaN, Infinity, '1', {}];
/** Of a bound, which Infinity takes away. */
export const NO_BOUND = [-0.1, NaN, -Infinity, '1', {}];

const further = (): Fields => ({
  advantages: Float32Array.of(0.5, -0.5),
  refLogProbs: Float64Array.of(-1, -2, -3, -4),
});

const TEMPERATURE: Subject['options'][number] = ['temperature', ...NOT_ABOVE_0, 1e-31, 1e31];
const ON_NON_FINITE: Subject['options'][number] = ['onNonFinite', 'ignore', 1, {}];
const BACKEND: Subject['options'][number] = ['backend', 'gpu', '', null, 3];
const GRADIENT: Subject['options'][number] = ['gradient', 'copy', null, 3, {}, { out: undefined }, { out: [] }];
const MATRIX_GRADIENT = ['copy', 'in-place', null, 3, {}, { out: undefined }, { out: [] }, { accumulate: {} }];
const OWN_ARRAY: Subject['options'][number] = [...GRADIENT, 'none', 'in-place', { out: new Float64Array(3) }];
const AGGREGATION: Subject['options'] = [
  ['aggregation', 'mean', false, 1],
  ['normalizer', ...NOT_ABOVE_0],
];
const CLIPS: Subject['options'] = [
  ['epsilonLow', ...NO_BOUND],
  ['epsilonHigh', ...NO_BOUND],
];
const GROUP_LOSS: Argument[] = [CU_SEQLENS, CU_GROUPS, floats('rewards'), MASK, OLD];
const LAYER: Argument[] = [
  { name: 'hidden', is: 'matrix' },
  { name: 'weight', is: 'matrix' },
  { name: 'bias', is: 'matrix', optional: true },
  { name: 'targets', is: 'targets', defines: true },
  MASK,
];
/** Beside advantages of their own, batches need neither groups nor rewards. */
const ADVANTAGE_LOSS: Argument[] = [
  CU_SEQLENS,
  { ...CU_GROUPS, optional: true },
  floats('rewards', { optional: true }),
  MASK,
  OLD,
  floats('advantages', { optional: true }),
  { ...OLD, name: 'refLogProbs' },
];
/** Of four tokens, three ids and two hidden units. */
const layer = (): Fields => {
  const { logits: _none, ...others } = rows();
  const values = (length: number) => Float32Array.from({ length }, (_, i) => ((i * 7) % 5) / 2);
  return { hidden: values(8), weight: values(6), bias: values(3), ...others };
};
const upstream = () =>
  Object.fromEntries(
    ['logSumExp', 'gradLogProbs', 'entropy', 'gradEntropy'].map((name) => [name, Float64Array.of(5, 5, 5, 5)]),
  );
const UPSTREAM: Argument[] = [
  floats('logSumExp'),
  floats('gradLogProbs'),
  floats('entropy'),
  floats('gradEntropy', { optional: true }),
];
/** The options of sampleTokens, which cannot do without a seed. */
const seeded = (options: unknown) =>
  (typeof options === 'object' && options !== null && !isRevoked(options) ? { seed: 1, ...options } : options) as never;
const ROW_LOSS_OPTIONS = [TEMPERATURE, ON_NON_FINITE, GRADIENT, BACKEND];
const CONSPO_OPTIONS: Subject['options'] = [
  ['tau', ...NOT_ABOVE_0],
  ['margin', ...NOT_FINITE],
  ['positiveThreshold', ...NOT_FINITE],
  ['normalizer', ...NOT_ABOVE_0],
];
const GRPO_OPTIONS: Subject['options'] = [
  ['form', 'other', 1],
  ...CLIPS,
  ...AGGREGATION,
  ['klCoef', ...NEGATIVE],
  ['klEstimator', 'k4', 1],
  ['klReference', 'rollout', 1],
  ['klMax', 0, -1, NaN, -Infinity, '1', {}],
  ['klWeight', 'sequence', 1, true],
  ['positiveThreshold', ...NOT_FINITE],
  ['maxLength', 0, -1, NaN, Infinity, '1'],
];

export const SUBJECTS: Subject[] = [
  {
    name: 'tokenLogProbs',
    run: rlvr.tokenLogProbs as Call,
    runSync: rlvr.tokenLogProbsSync as Call,
    inputs: rows,
    arguments: [...LOGITS, MASK],
    options: [TEMPERATURE, ON_NON_FINITE, BACKEND],
  },
  {
    name: 'tokenLogProbsBackward',
    run: rlvr.tokenLogProbsBackward as Call,
    runSync: rlvr.tokenLogProbsBackwardSync as Call,
    inputs: () => ({ ...rows(), ...upstream() }),
    arguments: [...LOGITS, MASK, ...UPSTREAM],
    options: [TEMPERATURE, [...GRADIENT, 'none'], BACKEND],
  },
  {
    name: 'sampleTokens',
    run: (inputs, options) => rlvr.sampleTokens(inputs as never, seeded(options)),
    runSync: (inputs, options) => rlvr.sampleTokensSync(inputs as never, seeded(options)),
    inputs: () => ({ logits: rows().logits, vocab: 3 }),
    arguments: [],
    options: [
      ['temperature', -1, NaN, Infinity, -Infinity, '1', {}, 1e-31, 1e31],
      ['topK', 0, -1, 1.5, NaN, Infinity, '1', {}],
      ['topP', 0, -1, 1.5, NaN, Infinity, '1', {}],
      ['minP', -1, 1.5, NaN, Infinity, '1', {}],
      ['seed', -1, 1.5, NaN, Infinity, 2 ** 53, '1', {}],
      ['offset', -1, 1.5, NaN, Infinity, 2 ** 53, '1', {}],
      ['kept', 0, 1, 'true', {}],
      BACKEND,
    ],
  },
  {
    name: 'linearLogProbs',
    run: rlvr.linearLogProbs as Call,
    runSync: rlvr.linearLogProbsSync as Call,
    inputs: layer,
    arguments: LAYER,
    options: [TEMPERATURE, ON_NON_FINITE, BACKEND],
    hostOnly: true,
  },
  {
    name: 'linearLogProbsBackward',
    run: rlvr.linearLogProbsBackward as Call,
    runSync: rlvr.linearLogProbsBackwardSync as Call,
    inputs: () => ({ ...layer(), ...upstream() }),
    arguments: [...LAYER, ...UPSTREAM],
    options: [
      TEMPERATURE,
      ['gradHidden', ...MATRIX_GRADIENT],
      ['gradWeight', ...MATRIX_GRADIENT],
      ['gradBias', ...MATRIX_GRADIENT],
      BACKEND,
    ],
    hostOnly: true,
  },
  {
    name: 'sequenceLogProbs',
    run: rlvr.sequenceLogProbs as Call,
    runSync: rlvr.sequenceLogProbsSync as Call,
    inputs: () => ({ ...logProbs(), ...sequences() }),
    arguments: [floats('logProbs', { defines: true, finite: 'unmasked' }), CU_SEQLENS, MASK],
    options: [BACKEND],
  },
  {
    name: 'sequenceLogProbsBackward',
    run: rlvr.sequenceLogProbsBackward as Call,
    runSync: rlvr.sequenceLogProbsBackwardSync as Call,
    inputs: () => ({
      gradScores: Float32Array.of(1, 2),
      tokenCounts: Float64Array.of(2, 1),
      cuSeqlens: Int32Array.of(0, 2, 4),
      mask: Uint8Array.of(1, 1, 0, 1),
    }),
    arguments: [floats('gradScores'), floats('tokenCounts'), { ...CU_SEQLENS, defines: true }, MASK],
    options: [OWN_ARRAY, BACKEND],
  },
  {
    name: 'ratioScores',
    run: rlvr.ratioScores as Call,
    runSync: rlvr.ratioScoresSync as Call,
    inputs: () => ({
      ...logProbs(),
      ...sequences(),
      sides: Float64Array.of(1, -1),
      samplerLogProbs: Float64Array.of(-1, -2, -3, -4),
    }),
    arguments: [
      floats('logProbs', { defines: true, finite: 'unmasked' }),
      CU_SEQLENS,
      MASK,
      OLD,
      floats('sides', { optional: true }),
      { ...OLD, name: 'samplerLogProbs' },
    ],
    options: [['score', 'ratio', 1], BACKEND],
  },
  {
    name: 'ratioScoresBackward',
    run: rlvr.ratioScoresBackward as Call,
    runSync: rlvr.ratioScoresBackwardSync as Call,
    inputs: () => ({
      gradScores: Float32Array.of(1, 2),
      scoreGrads: Float64Array.of(1, 2, 3, 4),
      cuSeqlens: Int32Array.of(0, 2, 4),
    }),
    arguments: [floats('gradScores'), floats('scoreGrads'), { ...CU_SEQLENS, defines: true }],
    options: [OWN_ARRAY, BACKEND],
  },
  {
    name: 'groupInfoNCE',
    run: rlvr.groupInfoNCE as Call,
    runSync: rlvr.groupInfoNCESync as Call,
    inputs: () => ({ ...groups(), scores: Float64Array.of(-1, -2), tokenCounts: Float64Array.of(3, 4) }),
    arguments: [
      floats('scores', { defines: true }),
      floats('rewards'),
      floats('tokenCounts', { optional: true }),
      CU_GROUPS,
    ],
    options: [...CONSPO_OPTIONS, BACKEND],
  },
  {
    name: 'advantageObjective',
    run: rlvr.advantageObjective as Call,
    runSync: rlvr.advantageObjectiveSync as Call,
    inputs: () => ({
      scores: Float64Array.of(-1, -2),
      advantages: Float64Array.of(1, -1),
      tokenCounts: Float64Array.of(3, 4),
    }),
    arguments: [floats('scores', { defines: true }), floats('advantages'), floats('tokenCounts')],
    options: [...AGGREGATION, BACKEND],
  },
  {
    name: 'conspo from logits',
    run: rlvr.conspo as Call,
    runSync: rlvr.conspoSync as Call,
    inputs: () => ({ ...rows(), ...sequences(), ...groups() }),
    arguments: [...LOGITS, ...GROUP_LOSS],
    options: [...CONSPO_OPTIONS, ...ROW_LOSS_OPTIONS],
  },
  {
    name: 'conspo from log-probs',
    run: rlvr.conspo as Call,
    runSync: rlvr.conspoSync as Call,
    inputs: () => ({ ...logProbs(), ...sequences(), ...groups() }),
    arguments: [floats('logProbs', { defines: true, finite: 'unmasked' }), ...GROUP_LOSS],
    options: [...CONSPO_OPTIONS, ON_NON_FINITE, GRADIENT, BACKEND],
  },
  {
    name: 'grpo from logits',
    run: rlvr.grpo as Call,
    runSync: rlvr.grpoSync as Call,
    inputs: () => ({ ...rows(), ...sequences(), ...groups(), ...further() }),
    arguments: [...LOGITS, ...ADVANTAGE_LOSS],
    options: [...GRPO_OPTIONS, ...ROW_LOSS_OPTIONS],
  },
  {
    name: 'grpo from log-probs',
    run: rlvr.grpo as Call,
    runSync: rlvr.grpoSync as Call,
    inputs: () => ({ ...logProbs(), ...sequences(), ...groups(), ...further() }),
    arguments: [floats('logProbs', { defines: true, finite: 'unmasked' }), ...ADVANTAGE_LOSS],
    options: [...GRPO_OPTIONS, ON_NON_FINITE, GRADIENT, BACKEND],
  },
  {
    name: 'grpo, discriminative',
    run: (inputs, options) => rlvr.grpo(inputs as never, { form: 'discriminative', ...(options as object) }),
    runSync: (inputs, options) => rlvr.grpoSync(inputs as never, { form: 'discriminative', ...(options as object) }),
    inputs: () => ({ ...rows(), ...sequences(), ...groups() }),
    arguments: [...LOGITS, ...GROUP_LOSS],
    options: [...CLIPS, ['positiveThreshold', ...NOT_FINITE], ['normalizer', 0, NaN], ...ROW_LOSS_OPTIONS],
  },
  {
    name: 'forward',
    run: (inputs, options) => rlvr.forward(inputs as never, 'logLikelihood', options as never),
    runSync: (inputs, options) => rlvr.forwardSync(inputs as never, 'logLikelihood', options as never),
    inputs: () => ({ ...rows(), ...sequences() }),
    arguments: [...LOGITS, CU_SEQLENS, MASK, OLD],
    options: [TEMPERATURE, ON_NON_FINITE, BACKEND],
  },
];

/** Those that a backend has. */
export const subjectsOn = (backend: rlvr.BackendName) =>
  SUBJECTS.filter(({ hostOnly }) => hostOnly !== true || backend !== 'cuda');
