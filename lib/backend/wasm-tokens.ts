// Kernels of the token level in WebAssembly, on blocks of rows.
import type {
  HostArray,
  HostLogits,
  TokenLogProbsBackwardArguments,
  TokenLogProbsForwardArguments,
  TokenLogProbsOnePassArguments,
  TokenTerm,
  TokenTerms,
} from '../kernels.js';
import { firstOverflow } from '../reference/token-log-probs.js';
import type { Sliced } from '../slices.js';
import { type Rows, WasmCall } from './wasm-call.js';
import { overRows, type Place } from './wasm-rows.js';

type TokenArguments = TokenLogProbsForwardArguments | TokenLogProbsBackwardArguments;

type RowArguments = Pick<TokenArguments, 'vocab' | 'dtype'>;

/** Elements [begin, end) of an array that may not be there. */
export function part<A extends HostArray>(array: A | undefined, begin: number, end: number): A | undefined {
  if (array === undefined || (begin === 0 && end === array.length)) return array;
  return array.subarray(begin, end) as A;
}

/** Rows [begin, end) of the logits, or of what has their shape. */
export function rowsOf(array: HostLogits, stride: number, args: RowArguments, begin: number, end: number): Rows {
  const { dtype, vocab } = args;
  const last = begin === end ? begin * stride : (end - 1) * stride + vocab;
  return { array: part(array, begin * stride, last)!, dtype, rows: end - begin, width: vocab, stride };
}

/** Where the logits are in the list of a call's arguments. */
const LOGITS = 0;

function addRows(call: WasmCall, args: TokenArguments, use: 'reads' | 'changes', begin: number, end: number): number {
  const stride = call.rows(rowsOf(args.logits as HostLogits, args.rowStride, args, begin, end), use);
  call
    .number(args.dtype)
    .number(end - begin)
    .number(args.vocab)
    .number(stride);
  call
    .reads(part(args.targets, begin, end))
    .reads(part(args.mask, begin, end))
    .number(args.temperature);
  return stride;
}

function addReplay(call: WasmCall, { keptIds, cuKept }: TokenArguments, begin: number, end: number): void {
  if (!keptIds || !cuKept) return void call.number(0).number(0);
  call.reads(part(keptIds, cuKept[begin], cuKept[end])).reads(fromZero(cuKept, begin, end));
}

/** Offsets of rows [begin, end), from 0 on. */
export function fromZero(cuKept: Int32Array, begin: number, end: number): Int32Array {
  const first = cuKept[begin];
  return first === 0 ? part(cuKept, begin, end + 1)! : cuKept.slice(begin, end + 1).map((offset) => offset - first);
}

function addForward(
  call: WasmCall,
  args: TokenLogProbsForwardArguments,
  count: Int32Array,
  begin: number,
  end: number,
) {
  call.writes(part(args.logSumExp, begin, end)).writes(part(args.logProbs, begin, end));
  call
    .writes(part(args.entropy, begin, end))
    .writes(part(args.kept, begin, end))
    .writes(count);
  addReplay(call, args, begin, end);
}

export function* tokenLogProbsForward(place: Place, args: TokenLogProbsForwardArguments): Sliced<void> {
  let nonFinite = 0;
  yield* overRows(place, args, (memory, begin, end) => {
    const count = new Int32Array(1);
    const call = new WasmCall(memory);
    addRows(call, args, 'reads', begin, end);
    addForward(call, args, count, begin, end);
    const finish = () => {
      nonFinite += count[0];
    };
    return { call, kernel: 'tokenLogProbsForward', finish };
  });
  args.nonFinite[0] = nonFinite;
}

type Gradient = TokenLogProbsBackwardArguments | TokenLogProbsOnePassArguments;

const inPlace = ({ logits, gradLogits }: Gradient) => gradLogits === logits;

/** The gradient's address and stride; in place, those of the logits. */
function addGradient(call: WasmCall, args: Gradient, logitsStride: number, begin: number, end: number): void {
  if (inPlace(args)) return void call.again(LOGITS).number(logitsStride);
  const stride = call.rows(rowsOf(args.gradLogits as HostLogits, args.gradRowStride, args, begin, end), 'writes');
  call.number(stride);
}

export function* tokenLogProbsBackward(place: Place, args: TokenLogProbsBackwardArguments): Sliced<void> {
  const { badRows } = args;
  badRows.fill(-1);
  if (args.halt?.[0]) return;
  badRows[0] = yield* firstOverflow(args);
  if (badRows[0] >= 0) return;
  yield* overRows(place, args, (memory, begin, end) => {
    const bad = new Int32Array(2);
    const call = new WasmCall(memory);
    const stride = addRows(call, args, inPlace(args) ? 'changes' : 'reads', begin, end);
    call.reads(part(args.logSumExp, begin, end)).reads(part(args.gradLogProbs, begin, end));
    call.reads(part(args.entropy, begin, end)).reads(part(args.gradEntropy, begin, end));
    call.boolean(args.deferred).boolean(args.watch);
    addGradient(call, args, stride, begin, end);
    call.writes(bad);
    addReplay(call, args, begin, end);
    return { call, kernel: 'tokenLogProbsBackward', finish: () => noteBadRows(badRows, bad, begin) };
  });
}

/** Of the bad rows of all blocks, in whichever order they come, the first. */
function noteBadRows(badRows: Int32Array, ofBlock: Int32Array, begin: number): void {
  for (let k = 0; k < 2; k++) {
    const row = begin + ofBlock[k];
    if (ofBlock[k] >= 0 && (badRows[k] < 0 || row < badRows[k])) badRows[k] = row;
  }
}

export function* tokenLogProbsOnePass(place: Place, args: TokenLogProbsOnePassArguments): Sliced<void> {
  const { badRows, terms } = args;
  badRows.fill(-1);
  let nonFinite = 0;
  yield* overRows(place, args, (memory, begin, end) => {
    const count = new Int32Array(1);
    const bad = new Int32Array(2);
    const call = new WasmCall(memory);
    const stride = addRows(call, args, inPlace(args) ? 'changes' : 'reads', begin, end);
    addForward(call, args, count, begin, end);
    call.writes(part(args.gradLogProbs, begin, end));
    addGradient(call, args, stride, begin, end);
    call.writes(bad);
    addTerms(call, terms, begin, end);
    const finish = () => {
      nonFinite += count[0];
      noteBadRows(badRows, bad, begin);
    };
    return { call, kernel: 'tokenLogProbsOnePass', finish };
  });
  args.nonFinite[0] = nonFinite;
}

/** The terms of tokens [begin, end), with the sequences that these are in. */
function addTerms(call: WasmCall, terms: TokenTerms | undefined, begin: number, end: number): void {
  if (!terms) return void call.number(0);
  const { policy, penalty, cuSeqlens } = terms;
  const first = sequenceOf(terms, begin);
  const last = sequenceOf(terms, end - 1) + 1;
  const offsets = cuSeqlens.slice(first, last + 1);
  for (let k = 0; k < offsets.length; k++) offsets[k] = Math.min(Math.max(offsets[k] - begin, 0), end - begin);
  call
    .number(penalty ? 2 : 1)
    .reads(offsets)
    .number(last - first)
    .reads(part(terms.tokenCounts, first, last));
  for (const term of penalty ? [policy, penalty] : [policy]) {
    addScoreRules(call, term, { begin, end, first, last });
    call.reads(part(term.gradScores, first, last));
  }
}

/** The sequence of a token: the last one that begins at or before it. */
function sequenceOf({ cuSeqlens, sequences }: TokenTerms, t: number): number {
  let begin = 0;
  for (let end = sequences; end - begin > 1; ) {
    const middle = begin + Math.floor((end - begin) / 2);
    if (cuSeqlens[middle] <= t) begin = middle;
    else end = middle;
  }
  return begin;
}

/** Tokens [begin, end) and sequences [first, last). */
export interface Span {
  begin: number;
  end: number;
  first: number;
  last: number;
}

/** In the order of native/wasm/score_rules.h. */
export function addScoreRules(call: WasmCall, rules: Omit<TokenTerm, 'gradScores'>, span: Span): void {
  const { begin, end, first, last } = span;
  call
    .number(rules.kind)
    .reads(part(rules.oldLogProbs, begin, end))
    .reads(part(rules.sides, first, last));
  call.reads(part(rules.tokenWeights, begin, end)).reads(part(rules.samplerLogProbs, begin, end));
  call.number(rules.level).boolean(rules.klWeighted).number(rules.klMax);
  call.number(rules.epsilonLow).number(rules.epsilonHigh).number(rules.ratioMin).number(rules.ratioMax);
  call.number(rules.tauPos).number(rules.tauNeg).number(rules.kPos).number(rules.kNeg);
  call.number(rules.lambdaPos).number(rules.lambdaNeg);
}
