// Defines token-log-probs (spec section 2) in plain float64 loops. See native/ops/token_log_probs.h.
import {
  DTYPE_CODES,
  type HostLogits,
  NO_TARGET,
  type TokenLogProbsBackwardArguments,
  type TokenLogProbsForwardArguments,
  type TokenLogProbsOnePassArguments,
  type TokenTerms,
  type ZeroRowsArguments,
} from '../kernels.js';
import { newArray } from '../memory.js';
import { findIndex, PAUSE, type Sliced } from '../slices.js';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from './float16.js';
import { tokenDerivative } from './ratio-scores.js';

export const READERS = {
  [DTYPE_CODES.f32]: (data: HostLogits, index: number) => data[index],
  [DTYPE_CODES.bf16]: (data: HostLogits, index: number) => bf16ToNumber(data[index]),
  [DTYPE_CODES.f16]: (data: HostLogits, index: number) => f16ToNumber(data[index]),
};

export const ROUNDERS = {
  [DTYPE_CODES.f32]: (value: number) => value,
  [DTYPE_CODES.bf16]: numberToBf16,
  [DTYPE_CODES.f16]: numberToF16,
};

/** z = logits / temperature of row t, as float64; -Infinity for ids that are not kept. */
function scaledRow(args: TokenLogProbsForwardArguments | TokenLogProbsBackwardArguments, t: number): Float64Array {
  const { keptIds, cuKept, logits, rowStride, vocab, temperature } = args;
  const read = READERS[args.dtype];
  const z = newArray('logits', Float64Array, vocab);
  const scaled = (v: number) => read(logits as HostLogits, t * rowStride + v) / temperature;
  if (!keptIds || !cuKept || cuKept[t] === cuKept[t + 1]) {
    for (let v = 0; v < vocab; v++) z[v] = scaled(v);
    return z;
  }
  z.fill(-Infinity);
  for (let k = cuKept[t]; k < cuKept[t + 1]; k++) z[keptIds[k]] = scaled(keptIds[k]);
  return z;
}

interface RowSums {
  max: number;
  rest: number; // sum of exp(z - max) without the maximum's own term, which is 1
  weighted: number; // sum of exp(z - max) * (z - max)
}

function rowSums(z: Float64Array): RowSums {
  let max = -Infinity;
  let argmax = 0;
  for (let v = 0; v < z.length; v++) {
    if (z[v] > max) {
      max = z[v];
      argmax = v;
    }
  }
  let rest = 0;
  let weighted = 0;
  for (let v = 0; v < z.length; v++) {
    if (v === argmax || z[v] === -Infinity) continue;
    const e = Math.exp(z[v] - max);
    rest += e;
    weighted += e * (z[v] - max);
  }
  return { max, rest, weighted };
}

/** What the forward pass writes for a row of scaled logits, and the target that it looks at. */
type ForwardRow = Pick<
  TokenLogProbsForwardArguments,
  'targets' | 'logProbs' | 'logSumExp' | 'entropy' | 'kept' | 'nonFinite'
>;

/** The outputs of a row that takes no part. */
export function clearRow({ logProbs, logSumExp, entropy, kept }: ForwardRow, t: number): void {
  logProbs[t] = 0;
  logSumExp[t] = 0;
  if (entropy) entropy[t] = 0;
  kept[t] = 0;
}

/** The outputs of row t, which is `z`, into arrays that hold those of a row that takes no part. */
export function writeForwardRow(args: ForwardRow, t: number, z: Float64Array): void {
  const { logProbs, logSumExp, entropy, kept, nonFinite } = args;
  const { max, rest, weighted } = rowSums(z);
  const logRest = Math.log1p(rest);
  const target = args.targets[t];
  const logProb = (target === NO_TARGET ? 0 : z[target]) - max - logRest;
  const finite = Number.isFinite(max) && Number.isFinite(logProb) && !Number.isNaN(rest);
  if (!finite) {
    nonFinite[0]++;
    if (z.every((entry) => entry === -Infinity)) logSumExp[t] = -Infinity;
    return;
  }
  kept[t] = 1;
  logProbs[t] = logProb;
  logSumExp[t] = max + logRest;
  if (entropy) entropy[t] = logRest - weighted / (1 + rest);
}

function forwardRow(args: TokenLogProbsForwardArguments, t: number): void {
  clearRow(args, t);
  if (args.mask?.[t] !== 0) writeForwardRow(args, t, scaledRow(args, t));
}

export function* tokenLogProbsForward(args: TokenLogProbsForwardArguments): Sliced<void> {
  args.nonFinite[0] = 0;
  for (let t = 0; t < args.tokens; t++) {
    yield PAUSE;
    forwardRow(args, t);
  }
}

const LARGEST_FLOAT = 3.4028234663852886e38;

/** What a row's gradient is made of. */
export interface Upstream {
  g: number; // dL/dlogProb
  h: number; // dL/dentropy
  entropy: number;
}

/** dL/dlogProb and dL/dentropy of row t. */
export function upstreamOf(
  args: Pick<TokenLogProbsBackwardArguments, 'mask' | 'gradLogProbs' | 'entropy' | 'gradEntropy'>,
  t: number,
): Upstream {
  const masked = args.mask?.[t] === 0;
  const h = masked ? 0 : (args.gradEntropy?.[t] ?? 0);
  return { g: masked ? 0 : args.gradLogProbs[t], h, entropy: h === 0 ? 0 : (args.entropy?.[t] ?? 0) };
}

function upstream(args: TokenLogProbsBackwardArguments, t: number): Upstream {
  const given = upstreamOf(args, t);
  return args.deferred && given.g !== 0 ? { ...given, g: args.temperature } : given;
}

/** Whether a bound on the entries of a row is beyond float32, see native/ops/token_log_probs.h. */
export function overflows({ g, h, entropy }: Upstream, temperature: number): boolean {
  const ofEntropy = h === 0 ? 0 : Math.abs(h) * (Math.abs(entropy) + 128);
  return !((Math.abs(g) + ofEntropy) * (1 / temperature) <= LARGEST_FLOAT);
}

/** dL/dlogit of an entry, the target's or another, whose log-prob is `logP`. */
export function logitGradient(
  logP: number,
  isTarget: boolean,
  { g, h, entropy }: Upstream,
  temperature: number,
): number {
  const p = Math.exp(logP);
  const policy = isTarget ? -g * Math.expm1(logP) : -g * p;
  const bonus = p === 0 ? 0 : h * p * (logP + entropy);
  return (policy - bonus) / temperature + 0; // + 0: never -0
}

/** Writes row t; returns whether it is finite. */
function writeRow(
  args: TokenLogProbsBackwardArguments | TokenLogProbsOnePassArguments,
  t: number,
  row: Upstream,
): boolean {
  const { gradRowStride, vocab, temperature } = args;
  const gradLogits = args.gradLogits as HostLogits;
  const [read, round] = [READERS[args.dtype], ROUNDERS[args.dtype]];
  const start = t * gradRowStride;
  if (row.g === 0 && row.h === 0) {
    gradLogits.fill(0, start, start + vocab);
    return true;
  }
  const z = scaledRow(args, t); // a copy: gradLogits may be the logits
  let finite = true;
  for (let v = 0; v < vocab; v++) {
    const gradient = logitGradient(z[v] - args.logSumExp[t], v === args.targets[t], row, temperature);
    gradLogits[start + v] = round(gradient);
    finite = finite && Number.isFinite(read(gradLogits, start + v));
  }
  return finite;
}

/** The first row whose gradient from upstream is beyond float32; -1 if there is none. */
export function firstOverflow(args: TokenLogProbsBackwardArguments): Sliced<number> {
  return findIndex(args.tokens, (t) => overflows(upstream(args, t), args.temperature));
}

export function* tokenLogProbsBackward(args: TokenLogProbsBackwardArguments): Sliced<void> {
  const { badRows, tokens } = args;
  badRows.fill(-1);
  if (args.halt?.[0]) return;
  badRows[0] = yield* firstOverflow(args);
  if (badRows[0] >= 0) return;
  for (let t = 0; t < tokens; t++) {
    yield PAUSE;
    const finite = writeRow(args, t, upstream(args, t));
    if (!finite && badRows[1] < 0) badRows[1] = t;
  }
}

/** dL/dlogProb of token t, of sequence i. */
function gradientOfTerms({ policy, penalty, tokenCounts }: TokenTerms, i: number, t: number, logProb: number): number {
  const part = (term: TokenTerms['policy']) =>
    (term.gradScores[i] * tokenDerivative(term, i, t, logProb)) / Math.max(tokenCounts[i], 1);
  return part(policy) + (penalty ? part(penalty) : 0);
}

export function* tokenLogProbsOnePass(args: TokenLogProbsOnePassArguments): Sliced<void> {
  const { badRows, terms, logProbs, gradLogProbs, kept, temperature } = args;
  args.nonFinite[0] = 0;
  badRows.fill(-1);
  let i = 0; // the sequence of row t
  for (let t = 0; t < args.tokens; t++) {
    yield PAUSE;
    while (terms && t >= terms.cuSeqlens[i + 1]) i++;
    forwardRow(args, t);
    gradLogProbs[t] = kept[t] === 0 ? 0 : terms ? gradientOfTerms(terms, i, t, logProbs[t]) : 1;
    const row = { g: terms ? gradLogProbs[t] : gradLogProbs[t] * temperature, h: 0, entropy: 0 };
    if (overflows(row, temperature) && badRows[0] < 0) badRows[0] = t;
    if (!writeRow(args, t, row) && badRows[1] < 0) badRows[1] = t;
  }
}

export function* zeroRows({ gradLogits, tokens, vocab, gradRowStride, rowScale }: ZeroRowsArguments): Sliced<void> {
  const data = gradLogits as HostLogits;
  for (let t = 0; t < tokens; t++) {
    if (rowScale[t] !== 0) continue;
    yield PAUSE;
    data.fill(0, t * gradRowStride, t * gradRowStride + vocab);
  }
}
