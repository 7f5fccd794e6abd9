// Valid arguments of the addon's own functions.
import { DTYPE_CODES } from '../../../lib/kernels.js';
import type { Fields } from './data.js';
import type { Plan } from './plan.js';

export type Record_ = Record<string, unknown>;

const doubles = (n: number) => new Float64Array(n).fill(-1);
const ints = (n: number) => new Int32Array(n).fill(-1);

function rows(fields: Fields, { variant }: Plan): Record_ {
  const { tokens, plan } = fields;
  const { vocab, padding, form } = plan;
  const dtype = form === 'flat' ? 'f32' : form === 'half' ? 'f16' : form;
  const rowStride = vocab + padding;
  const View = dtype === 'f32' ? Float32Array : Uint16Array;
  return {
    logits: new View(tokens * rowStride).fill(1),
    dtype: DTYPE_CODES[dtype],
    tokens,
    vocab,
    rowStride,
    targets: Int32Array.from(fields.targets() as Int32Array, Number),
    mask: variant % 2 === 0 ? fields.mask() : undefined,
    ...(variant % 3 === 1 && fields.kept()),
    temperature: 1,
    logSumExp: doubles(tokens),
  };
}

/** Rows to draw from. */
function drawnRows(fields: Fields, plan: Plan): Record_ {
  const { logits, dtype, tokens, vocab, rowStride } = rows(fields, plan);
  return { logits, dtype, tokens, vocab, rowStride };
}

/** Of KL estimators, and of VESPO. */
function furtherRules(variant: number, tokens: number): Record_ {
  const klWeighted = variant % 2 === 0;
  const samplerLogProbs = klWeighted ? doubles(tokens) : undefined;
  return { samplerLogProbs, klWeighted, level: variant % 3, klMax: 10, kPos: 2, kNeg: 3, lambdaPos: 3, lambdaNeg: 2 };
}

function terms({ tokens, sequences, cuSeqlens }: Fields, { variant }: Plan): Record_ {
  const term = (kind: number) => ({
    kind,
    oldLogProbs: variant % 2 === 0 ? doubles(tokens) : undefined,
    sides: doubles(sequences),
    tokenWeights: variant % 3 === 0 ? doubles(tokens) : undefined,
    ...furtherRules(variant, tokens),
    epsilonLow: 0.2,
    epsilonHigh: 0.2,
    ratioMin: 0,
    ratioMax: 5,
    tauPos: 1,
    tauNeg: 1,
    gradScores: doubles(sequences),
  });
  const penalty = variant % 4 === 0 ? term(9 + (variant % 6)) : undefined;
  return { cuSeqlens, sequences, tokenCounts: doubles(sequences), policy: term(variant % 15), penalty };
}

/** Rows of 1, in the plan's type or the next one. */
function matrix({ plan: { form, padding } }: Fields, rows: number, width: number, next = 0): Record_ {
  const dtypes = ['f32', 'bf16', 'f16'] as const;
  const dtype = dtypes[(Math.max(dtypes.indexOf(form as 'f32'), 0) + next) % dtypes.length];
  const rowStride = width + padding;
  const View = dtype === 'f32' ? Float32Array : Uint16Array;
  return { data: new View(rows * rowStride).fill(1), dtype: DTYPE_CODES[dtype], rowStride };
}

function layer(fields: Fields, { variant }: Plan): Record_ {
  const { tokens, plan } = fields;
  const width = 1 + (variant % 9);
  return {
    hidden: matrix(fields, tokens, width),
    weight: matrix(fields, plan.vocab, width, variant),
    bias: variant % 4 === 0 ? undefined : matrix(fields, 1, plan.vocab, 1),
    tokens,
    vocab: plan.vocab,
    width,
    targets: Int32Array.from(fields.targets() as Int32Array, Number),
    mask: variant % 2 === 0 ? fields.mask() : undefined,
    temperature: 1,
    chunkBytes: 99 * variant,
    logSumExp: doubles(tokens),
  };
}

/** Room for as many logits as there are, or more, or fewer, or none. */
function keptLogits({ tokens, plan: { vocab } }: Fields, { variant }: Plan): Record_ {
  if (variant % 4 === 0) return { keptLogits: undefined, keptRows: undefined };
  const length = Math.floor((tokens * vocab * (variant % 6)) / 4);
  const keptRows = Int32Array.from({ length: tokens }, (_, t) => t);
  return { keptLogits: new Float32Array(length).fill(1), keptRows };
}

/** How the argument of a function is made, and what in it may be written. */
export interface Form {
  make(fields: Fields, plan: Plan): Record_;
  outputs: readonly string[];
}

export const KERNELS: Readonly<Record<string, Form>> = {
  tokenLogProbsForward: {
    outputs: ['logProbs', 'logSumExp', 'entropy', 'kept', 'nonFinite'],
    make: (fields, plan) => ({
      ...rows(fields, plan),
      logProbs: doubles(fields.tokens),
      entropy: plan.variant % 3 === 0 ? doubles(fields.tokens) : undefined,
      kept: new Uint8Array(fields.tokens),
      nonFinite: ints(1),
    }),
  },
  tokenLogProbsBackward: {
    outputs: ['gradLogits', 'badRows'],
    make(fields, plan) {
      const given = rows(fields, plan);
      const own = (given.logits as Float32Array).slice();
      return {
        ...given,
        gradLogProbs: doubles(fields.tokens),
        entropy: doubles(fields.tokens),
        gradEntropy: plan.variant % 3 === 0 ? doubles(fields.tokens) : undefined,
        halt: plan.variant % 5 === 0 ? ints(1) : undefined,
        gradLogits: plan.variant % 2 === 0 ? given.logits : own,
        gradRowStride: given.rowStride,
        deferred: plan.variant % 11 === 0,
        watch: plan.variant % 7 === 0,
        badRows: ints(2),
      };
    },
  },
  tokenLogProbsOnePass: {
    outputs: ['logProbs', 'logSumExp', 'entropy', 'kept', 'nonFinite', 'gradLogProbs', 'gradLogits', 'badRows'],
    make(fields, plan) {
      const given = rows(fields, plan);
      return {
        ...given,
        logProbs: doubles(fields.tokens),
        entropy: plan.variant % 3 === 0 ? doubles(fields.tokens) : undefined,
        kept: new Uint8Array(fields.tokens),
        nonFinite: ints(1),
        terms: plan.variant % 5 === 0 ? undefined : terms(fields, plan),
        gradLogProbs: doubles(fields.tokens),
        gradLogits: plan.variant % 2 === 0 ? given.logits : (given.logits as Float32Array).slice(),
        gradRowStride: given.rowStride,
        badRows: ints(2),
      };
    },
  },
  zeroRows: {
    outputs: ['gradLogits'],
    make(fields, plan) {
      const { logits: gradLogits, dtype, tokens, vocab, rowStride: gradRowStride } = rows(fields, plan);
      const rowScale = doubles(fields.tokens).map((_, t) => t % 2);
      return { gradLogits, dtype, tokens, vocab, gradRowStride, rowScale };
    },
  },
  sequenceLogProbsForward: {
    outputs: ['scores', 'tokenCounts'],
    make: ({ tokens, sequences, cuSeqlens }, { variant }) => ({
      logProbs: doubles(tokens),
      mask: variant % 2 === 0 ? new Uint8Array(tokens) : undefined,
      cuSeqlens,
      sequences,
      scores: doubles(sequences),
      tokenCounts: doubles(sequences),
    }),
  },
  sequenceLogProbsBackward: {
    outputs: ['gradLogProbs'],
    make: ({ tokens, sequences, cuSeqlens }) => ({
      gradScores: doubles(sequences),
      tokenCounts: doubles(sequences),
      mask: new Uint8Array(tokens).fill(1),
      cuSeqlens,
      sequences,
      gradLogProbs: doubles(tokens),
    }),
  },
  ratioScoresForward: {
    outputs: ['scores', 'tokenCounts', 'scoreGrads', 'clippedLow', 'clippedHigh', 'ratioStats'],
    make: ({ tokens, sequences, cuSeqlens }, { variant }) => ({
      kind: variant % 15,
      logProbs: doubles(tokens),
      oldLogProbs: doubles(tokens),
      mask: undefined,
      cuSeqlens,
      sequences,
      sides: doubles(sequences),
      tokenWeights: variant % 2 === 0 ? doubles(tokens) : undefined,
      ...furtherRules(variant, tokens),
      epsilonLow: 0.2,
      epsilonHigh: 0.2,
      ratioMin: 0,
      ratioMax: 5,
      tauPos: 1,
      tauNeg: 1,
      scores: doubles(sequences),
      tokenCounts: doubles(sequences),
      scoreGrads: doubles(tokens),
      clippedLow: ints(sequences),
      clippedHigh: ints(sequences),
      ratioStats: variant % 3 === 0 ? doubles(4 * sequences) : undefined,
    }),
  },
  ratioScoresBackward: {
    outputs: ['gradLogProbs'],
    make: ({ tokens, sequences, cuSeqlens }, { variant }) => ({
      gradScores: doubles(sequences),
      scoreGrads: doubles(tokens),
      cuSeqlens,
      sequences,
      accumulate: variant % 2 === 0,
      gradLogProbs: doubles(tokens),
    }),
  },
  groupInfoNCE: {
    outputs: ['groupLosses', 'gradScores', 'loss'],
    make: (fields, { variant }) => ({
      scores: doubles(fields.sequences),
      rewards: Float64Array.from({ length: fields.sequences }, (_, i) => i % 2),
      tokenCounts: variant % 2 === 0 ? doubles(fields.sequences) : undefined,
      cuGroups: fields.cuGroups,
      groupOrder: variant % 3 === 0 ? fields.groupOrder() : undefined,
      groups: fields.cuGroups.length - 1,
      tau: 0.1,
      margin: 0,
      positiveThreshold: 0,
      normalizer: 1,
      groupLosses: doubles(fields.cuGroups.length - 1),
      gradScores: doubles(fields.sequences),
      loss: doubles(1),
    }),
  },
  advantageObjective: {
    outputs: ['gradScores', 'loss'],
    make: ({ sequences }) => ({
      scores: doubles(sequences),
      advantages: doubles(sequences),
      tokenCounts: doubles(sequences),
      sequences,
      perToken: true,
      scale: -1,
      normalizer: 1,
      gradScores: doubles(sequences),
      loss: doubles(1),
    }),
  },
  sampleTokens: {
    outputs: ['ids', 'logProbs', 'cutLogits', 'cutIds', 'keptCounts'],
    make: (fields, plan) => ({
      ...drawnRows(fields, plan),
      temperature: 1,
      topK: 1 + (plan.variant % 50),
      topP: plan.variant % 2 === 0 ? 1 : 0.5,
      minDistance: plan.variant % 3 === 0 ? -Infinity : -1,
      seed: plan.variant,
      offset: plan.variant,
      ids: ints(fields.tokens),
      logProbs: doubles(fields.tokens),
      cutLogits: plan.variant % 5 === 0 ? undefined : doubles(fields.tokens),
      cutIds: ints(fields.tokens),
      keptCounts: ints(fields.tokens),
    }),
  },
  sampleTokensKept: {
    outputs: ['keptIds'],
    make(fields, plan) {
      const each = plan.variant % (plan.batch.vocab + 2); // one more than there are, too
      return {
        ...drawnRows(fields, plan),
        cutLogits: doubles(fields.tokens),
        cutIds: ints(fields.tokens),
        cuKept: Int32Array.from({ length: fields.tokens + 1 }, (_, t) => each * t),
        keptIds: ints(each * fields.tokens),
      };
    },
  },
  linearLogProbsForward: {
    outputs: ['logProbs', 'logSumExp', 'entropy', 'kept', 'nonFinite', 'keptLogits', 'keptRows'],
    make: (fields, plan) => ({
      ...layer(fields, plan),
      ...keptLogits(fields, plan),
      logProbs: doubles(fields.tokens),
      entropy: plan.variant % 3 === 0 ? doubles(fields.tokens) : undefined,
      kept: new Uint8Array(fields.tokens),
      nonFinite: ints(1),
    }),
  },
  linearLogProbsBackward: {
    outputs: ['gradHidden', 'gradWeight', 'gradBias', 'badRows'],
    make(fields, plan) {
      const given = layer(fields, plan);
      const { variant } = plan;
      const written = (every: number, rows: number, width: number) =>
        variant % every === 0 ? undefined : { ...matrix(fields, rows, width, every), accumulate: variant % 2 === 0 };
      return {
        ...given,
        ...keptLogits(fields, plan),
        gradLogProbs: doubles(fields.tokens),
        entropy: doubles(fields.tokens),
        gradEntropy: variant % 3 === 0 ? doubles(fields.tokens) : undefined,
        gradHidden: written(5, fields.tokens, given.width as number),
        gradWeight: written(7, plan.batch.vocab, given.width as number),
        gradBias: written(11, 1, plan.batch.vocab),
        badRows: ints(4),
      };
    },
  },
};

const bytes = (n: number) => new Uint8Array(n).fill(1);

export const DIAGNOSTICS: Readonly<Record<string, Form>> = {
  simdExp: {
    outputs: ['out'],
    make: ({ tokens }) => ({ x: new Float32Array(tokens), out: new Float32Array(tokens), count: tokens }),
  },
  readMemory: { outputs: [], make: ({ tokens }) => ({ source: bytes(tokens), bytes: tokens }) },
  copyMemory: {
    outputs: ['destination'],
    make: ({ tokens }) => ({ source: bytes(tokens), destination: bytes(tokens), bytes: tokens }),
  },
  streamMemory: {
    outputs: ['destination'],
    make: ({ tokens }) => ({ source: bytes(tokens), destination: bytes(tokens), bytes: tokens }),
  },
  multiplyAdd: { outputs: [], make: ({ tokens }) => ({ steps: tokens }) },
  matrixProduct: {
    outputs: ['out'],
    make: ({ tokens, sequences }, { variant }) => ({
      left: new Float32Array(tokens * sequences).fill(1),
      right: new Float32Array(3 * sequences).fill(1),
      leftTransposed: variant % 2 === 0,
      rightTransposed: variant % 3 === 0,
      ...{ rows: tokens, columns: 3, depth: sequences },
      out: new Float32Array(3 * tokens),
    }),
  },
  limitThreads: { outputs: [], make: () => ({ threads: 0 }) },
  preferHugePages: { outputs: [], make: ({ tokens }) => ({ memory: bytes(tokens), bytes: tokens }) },
};

/** Of the `mpi` table, whose communicators are numbers; without a library no number is one. */
export const MPI: Readonly<Record<string, Form>> = {
  exiting: { outputs: [], make: (_, { variant }) => ({ code: variant % 256 }) },
  open: { outputs: [], make: (_, { variant }) => ({ hasHandle: variant % 2 === 0, handle: variant }) },
  place: { outputs: [], make: () => ({ communicator: 0 }) },
  split: { outputs: [], make: (_, { variant }) => ({ communicator: 0, color: variant, key: 0 }) },
  release: { outputs: [], make: () => ({ communicator: 0, together: false }) },
  reduce: {
    outputs: ['out'],
    make: ({ tokens }, { variant }) => ({
      communicator: 0,
      values: doubles(tokens),
      count: tokens,
      maximum: variant % 2 === 0,
      out: doubles(tokens),
    }),
  },
  gather: {
    outputs: ['out'],
    make: ({ tokens }) => ({
      communicator: 0,
      values: doubles(tokens),
      counts: Int32Array.of(tokens),
      out: doubles(tokens),
    }),
  },
};
