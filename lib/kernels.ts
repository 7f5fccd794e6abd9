// The boundary between the facade and a backend: every kernel's arguments, as validated plain data, and what a backend
// does with them. Outputs are arrays that the facade allocated. Formulas, shapes and units: native/ops/*.h.

/** Element type of a [T, V] array; the numbers are those of native/ops/common.h. */
export const DTYPE_CODES = { f32: 0, bf16: 1, f16: 2 } as const;
/**
 * Element type of a [T, V] array.
 * @useDeclaredType
 */
export type DType = keyof typeof DTYPE_CODES;

/** Longer names for them. */
const LONG_NAMES = { float32: 'f32', bfloat16: 'bf16', float16: 'f16' } as const;

/**
 * How an element type may be named where one is given: as {@link DType}, or in full. Tensors that come back have a `DType`.
 * @useDeclaredType
 */
export type DTypeName = DType | keyof typeof LONG_NAMES;

/** The names that an element type may be given by. */
export const DTYPE_NAMES = [...Object.keys(DTYPE_CODES), ...Object.keys(LONG_NAMES)] as DTypeName[];

/** The element type of a name. */
export function dtypeNamed(name: DTypeName): DType {
  return Object.hasOwn(LONG_NAMES, name) ? LONG_NAMES[name as keyof typeof LONG_NAMES] : (name as DType);
}
export type DTypeCode = (typeof DTYPE_CODES)[DType];

/** The target of a row whose own is in the columns of another rank; see native/ops/token_log_probs.h. */
export const NO_TARGET = -1;

/** Rules of ratio scores; the numbers are those of native/ops/ratio_scores.h. */
export const RATIO_SCORE_CODES = {
  ratio: 0,
  clippedRatio: 1,
  geometricRatio: 2,
  stoppedRatio: 3,
  softGate: 4,
  trustRegionTv: 5,
  trustRegionKl: 6,
  logRatio: 7,
  gammaWeight: 8,
  k1: 9,
  k2: 10,
  k3: 11,
  'k1+': 12,
  'k3+': 13,
  abs: 14,
} as const;
/**
 * Kinds of {@link RatioScore}.
 * @useDeclaredType
 */
export type RatioScoreKind = keyof typeof RATIO_SCORE_CODES | 'sequenceRatio';

export const RATIO_SCORE_KINDS = [...Object.keys(RATIO_SCORE_CODES), 'sequenceRatio'] as RatioScoreKind[];

/** What a ratio is of; the numbers are those of native/ops/ratio_scores.h. */
export const RATIO_LEVEL_CODES = { token: 0, sequence: 1, sum: 2 } as const;
/**
 * What an importance ratio is of: a token, exp of the mean log-ratio of its sequence, or exp of their sum.
 * @useDeclaredType
 */
export type RatioLevel = keyof typeof RATIO_LEVEL_CODES;
/** Rows of a host array, row r at element r * stride. */
export interface HostMatrix {
  array: HostLogits;
  dtype: DTypeCode;
  rows: number;
  width: number;
  stride: number;
}

/** A piece of device memory, native/binding/cuda_session.h. */
export interface DeviceMemory {
  readonly pointer: bigint; // 0 once disposed
  readonly bytes: number;
  dispose(): void;
  // Rows of a host array to rows of this memory (row r at element r * stride), and back.
  write(host: HostMatrix, stride: number): void;
  writeAsync(host: HostMatrix, stride: number): Promise<void>;
  read(host: HostMatrix, stride: number): void;
  readAsync(host: HostMatrix, stride: number): Promise<void>;
}

export type HostLogits = Float32Array | Uint16Array;
export type LogitsData = HostLogits | DeviceMemory;

/** Any array that a kernel reads or writes in host memory. */
export type HostArray = Float64Array | Int32Array | Uint8Array | HostLogits;

interface TokenRows {
  logits: LogitsData; // [T, V], row t at element t * rowStride
  dtype: DTypeCode;
  tokens: number; // T
  vocab: number; // V
  rowStride: number;
  targets: Int32Array; // [T]
  mask: Uint8Array | undefined; // [T]
  keptIds: Int32Array | undefined; // [K] sampling replay, with cuKept
  cuKept: Int32Array | undefined; // [T + 1]: row t is over keptIds[cuKept[t] ... cuKept[t + 1]], or all ids where that is empty
  temperature: number;
  logSumExp: Float64Array; // [T], out in the forward pass; -inf for a row that takes no part as all of it is -inf
}

export interface TokenLogProbsForwardArguments extends TokenRows {
  logProbs: Float64Array; // [T] out
  entropy: Float64Array | undefined; // [T] out
  kept: Uint8Array; // [T] out: 0 for masked and non-finite rows
  nonFinite: Int32Array; // [1] 0; out: number of non-finite rows
}

export interface TokenLogProbsBackwardArguments extends TokenRows {
  gradLogProbs: Float64Array; // [T]
  entropy: Float64Array | undefined; // [T], with gradEntropy
  gradEntropy: Float64Array | undefined; // [T]
  halt: Int32Array | undefined; // [1]: nothing is written if it is not 0
  deferred: boolean; // rows where gradLogProbs is not 0 get onehot - p, which is yet to be scaled
  watch: boolean; // whether to look for logits that are not finite, or not those of logSumExp
  gradLogits: LogitsData; // [T, V] out
  gradRowStride: number;
  badRows: Int32Array; // [2] -1; out: the first rows that are not finite, -1 for none: from upstream; as they are written
}

/** A score on ratios with its part in the loss: what a token's gradient follows from, given its log-prob. */
export interface TokenTerm<A = Float64Array>
  extends Pick<
    RatioScoresForwardArguments,
    | 'kind'
    | 'oldLogProbs'
    | 'sides'
    | 'tokenWeights'
    | 'samplerLogProbs'
    | 'level'
    | 'klWeighted'
    | 'klMax'
    | 'epsilonLow'
    | 'epsilonHigh'
    | 'ratioMin'
    | 'ratioMax'
    | 'tauPos'
    | 'tauNeg'
    | 'kPos'
    | 'kNeg'
    | 'lambdaPos'
    | 'lambdaNeg'
  > {
  gradScores: A; // [N]
}

/** Terms of a loss whose gradient of each log-prob depends on that log-prob only. */
export interface TokenTerms<A = Float64Array> {
  cuSeqlens: Int32Array; // [N + 1]
  sequences: number; // N
  tokenCounts: Float64Array; // [N]
  policy: TokenTerm<A>;
  penalty: TokenTerm<A> | undefined;
}

/** The forward pass, and each row's gradient while the row is in the cache. Without sampling replay: there is little to read. */
export interface TokenLogProbsOnePassArguments extends TokenLogProbsForwardArguments {
  terms: TokenTerms | undefined; // none: kept rows get onehot - p, which is yet to be scaled
  gradLogProbs: Float64Array; // [T] out; without terms 1, 0 for rows that are not kept
  gradLogits: LogitsData; // [T, V] out; rows that are not kept get 0
  gradRowStride: number;
  badRows: Int32Array; // [2] -1; out, as of the backward pass
}

/** A matrix, row r at element r * rowStride. */
export interface MatrixArgument {
  data: LogitsData;
  dtype: DTypeCode;
  rowStride: number;
}

/** A matrix that a kernel writes, or adds to. */
export interface GradientArgument extends MatrixArgument {
  accumulate: boolean;
}

/** logits = hidden . weight^T + bias, which are never held as a whole. */
interface LinearRows extends Omit<TokenRows, 'logits' | 'dtype' | 'rowStride' | 'keptIds' | 'cuKept'> {
  hidden: MatrixArgument; // [T, d]
  weight: MatrixArgument; // [V, d]
  bias: MatrixArgument | undefined; // [1, V]
  width: number; // d
  chunkBytes: number; // of CUDA: of logits that are held at a time, at least a row's
}

/**
 * What the forward pass leaves to the backward pass, which then need not compute it again; both or neither. On CUDA `keptRows` alone,
 * which stands for all logits, left on the device until the call ends. The reference leaves and reads nothing.
 */
interface KeptLogits {
  keptLogits: Float32Array | undefined; // of any length: those logits that fit, of T * V without the masked rows
  keptRows: Int32Array | undefined; // [T] a row's place in them; -1: masked
}

export interface LinearLogProbsForwardArguments
  extends LinearRows,
    KeptLogits, // out
    Omit<TokenLogProbsForwardArguments, keyof TokenRows> {}

export interface LinearLogProbsBackwardArguments
  extends LinearRows,
    KeptLogits,
    Pick<TokenLogProbsBackwardArguments, 'gradLogProbs' | 'entropy' | 'gradEntropy'> {
  gradHidden: GradientArgument | undefined; // [T, d] out
  gradWeight: GradientArgument | undefined; // [V, d] out
  gradBias: GradientArgument | undefined; // [1, V] out
  badRows: Int32Array; // [4] out, -1 for none: the first row beyond float32 from upstream; of gradHidden, gradWeight, gradBias
}

/** Writes 0 to rows. */
export interface ZeroRowsArguments {
  gradLogits: LogitsData; // [T, V]
  dtype: DTypeCode;
  tokens: number; // T
  vocab: number; // V
  gradRowStride: number;
  rowScale: Float64Array; // [T]: rows where it is 0
}

export interface SequenceLogProbsForwardArguments {
  logProbs: Float64Array; // [T]
  mask: Uint8Array | undefined; // [T]
  cuSeqlens: Int32Array; // [N + 1]
  sequences: number; // N
  scores: Float64Array; // [N] out
  tokenCounts: Float64Array; // [N] out
}

export interface SequenceLogProbsBackwardArguments {
  gradScores: Float64Array; // [N]
  tokenCounts: Float64Array; // [N]
  mask: Uint8Array | undefined; // [T]
  cuSeqlens: Int32Array; // [N + 1]
  sequences: number; // N
  gradLogProbs: Float64Array; // [T] out
}

export interface RatioScoresForwardArguments {
  kind: (typeof RATIO_SCORE_CODES)[keyof typeof RATIO_SCORE_CODES];
  logProbs: Float64Array; // [T]
  oldLogProbs: Float64Array | undefined; // [T]
  mask: Uint8Array | undefined; // [T]
  cuSeqlens: Int32Array; // [N + 1]
  sequences: number; // N
  sides: Float64Array | undefined; // [N]
  tokenWeights: Float64Array | undefined; // [T]
  samplerLogProbs: Float64Array | undefined; // [T]
  level: (typeof RATIO_LEVEL_CODES)[RatioLevel];
  klWeighted: boolean;
  klMax: number;
  epsilonLow: number;
  epsilonHigh: number;
  ratioMin: number;
  ratioMax: number;
  tauPos: number;
  tauNeg: number;
  kPos: number;
  kNeg: number;
  lambdaPos: number;
  lambdaNeg: number;
  scores: Float64Array; // [N] out
  tokenCounts: Float64Array; // [N] out
  scoreGrads: Float64Array; // [T] out
  clippedLow: Int32Array; // [N] out
  clippedHigh: Int32Array; // [N] out
  ratioStats: Float64Array | undefined; // [N, 4] out: sum of r, of r^2, of d; largest r
}

export interface RatioScoresBackwardArguments {
  gradScores: Float64Array; // [N]
  scoreGrads: Float64Array; // [T]
  cuSeqlens: Int32Array; // [N + 1]
  sequences: number; // N
  accumulate: boolean;
  gradLogProbs: Float64Array; // [T] out
}

export interface GroupInfoNceArguments {
  scores: Float64Array; // [N]
  rewards: Float64Array; // [N]
  tokenCounts: Float64Array | undefined; // [N]
  cuGroups: Int32Array; // [G + 1]
  groupOrder: Int32Array | undefined; // [N]
  groups: number; // G
  tau: number;
  margin: number;
  positiveThreshold: number;
  normalizer: number;
  groupLosses: Float64Array; // [G] out
  gradScores: Float64Array; // [N] out
  loss: Float64Array; // [1] out
}

export interface AdvantageObjectiveArguments {
  scores: Float64Array; // [N]
  advantages: Float64Array | undefined; // [N]
  tokenCounts: Float64Array; // [N]
  sequences: number; // N
  perToken: boolean;
  scale: number;
  normalizer: number;
  gradScores: Float64Array; // [N] out
  loss: Float64Array; // [1] out
}

/** Rows that a token is drawn from. */
interface SampledRows {
  logits: LogitsData; // [T, V], row t at element t * rowStride
  dtype: DTypeCode;
  tokens: number; // T
  vocab: number; // V, below 2^31
  rowStride: number;
}

/** Where rows are cut: what is kept are larger logits than the cut, and of equal ones those of ids up to cutIds. */
interface RowCuts {
  cutLogits: Float64Array; // [T]
  cutIds: Int32Array; // [T]
}

export interface SampleTokensArguments extends SampledRows {
  temperature: number;
  topK: number; // at least 1; V or more: all
  topP: number; // 1: all
  minDistance: number; // temperature * log(minP), of a logit from the row's largest; -Infinity: any
  seed: number;
  offset: number; // row t is the draw of this number and t
  ids: Int32Array; // [T] out; -1 for rows that are not finite
  logProbs: Float64Array; // [T] out
  cutLogits: RowCuts['cutLogits'] | undefined; // out, with the next two
  cutIds: RowCuts['cutIds'] | undefined; // out
  keptCounts: Int32Array | undefined; // [T] out; 0: nothing was dropped
}

export interface SampleTokensKeptArguments extends SampledRows, RowCuts {
  cuKept: Int32Array; // [T + 1], of keptCounts
  keptIds: Int32Array; // [K] out
}

export interface KernelArguments {
  tokenLogProbsForward: TokenLogProbsForwardArguments;
  tokenLogProbsBackward: TokenLogProbsBackwardArguments;
  tokenLogProbsOnePass: TokenLogProbsOnePassArguments;
  zeroRows: ZeroRowsArguments;
  sequenceLogProbsForward: SequenceLogProbsForwardArguments;
  sequenceLogProbsBackward: SequenceLogProbsBackwardArguments;
  ratioScoresForward: RatioScoresForwardArguments;
  ratioScoresBackward: RatioScoresBackwardArguments;
  groupInfoNCE: GroupInfoNceArguments;
  advantageObjective: AdvantageObjectiveArguments;
  sampleTokens: SampleTokensArguments;
  sampleTokensKept: SampleTokensKeptArguments;
  linearLogProbsForward: LinearLogProbsForwardArguments;
  linearLogProbsBackward: LinearLogProbsBackwardArguments;
}

export type KernelName = keyof KernelArguments;

/** One kernel with its arguments: what a task yields and a backend runs. */
export type KernelCall = { [K in KernelName]: { kernel: K; args: KernelArguments[K] } }[KernelName];

/** Where kernels run: plain TypeScript, WebAssembly, native code on the processor, or an NVIDIA GPU. */
export type BackendName = 'reference' | 'wasm' | 'cpu' | 'cuda';

/** How an asynchronous call learns that it was aborted. */
export interface Cancel {
  readonly flag: Int32Array; // [1] not 0 once it was: kernels poll it
  waiting?: (() => void) | undefined; // while it waits for a thread: ends that
}

/** One call of the package on a backend. What returns no promise is done, or on its way in order. */
export interface Run {
  kernel(call: KernelCall): void;
  /** Keeps the event loop free, and stops early, or does nothing, once the call was aborted. */
  kernelAsync(call: KernelCall, cancel: Cancel): Promise<void> | undefined;
  /** Waits until every kernel is done and the arrays hold what they wrote. */
  read(arrays: readonly HostArray[]): void;
  readAsync(arrays: readonly HostArray[], cancel: Cancel): Promise<void> | undefined;
  close(): void;
}

/** Where kernels run. */
export interface Backend {
  readonly name: BackendName;
  start(): Run;
}
