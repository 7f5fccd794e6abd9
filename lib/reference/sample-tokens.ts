// Defines sample-tokens (spec section 11) in plain float64 loops, by sorting. See native/ops/sample_tokens.h.
import type { HostLogits, SampleTokensArguments, SampleTokensKeptArguments } from '../kernels.js';
import { newArray } from '../memory.js';
import { PAUSE, type Sliced } from '../slices.js';
import { uniform } from './philox.js';
import { READERS, writeForwardRow } from './token-log-probs.js';

/** The logits of row t, as float64. */
function rowOf(args: SampleTokensArguments | SampleTokensKeptArguments, t: number): Float64Array {
  const read = READERS[args.dtype];
  const x = newArray('logits', Float64Array, args.vocab);
  for (let v = 0; v < x.length; v++) x[v] = read(args.logits as HostLogits, t * args.rowStride + v);
  return x;
}

/** The largest logit of a row; NaN if it is not finite. */
function largestOf(x: Float64Array): number {
  let largest = -Infinity;
  for (let v = 0; v < x.length; v++) largest = Number.isNaN(x[v]) ? Number.NaN : Math.max(largest, x[v]);
  return Number.isFinite(largest) ? largest : Number.NaN;
}

interface Cut {
  logit: number;
  id: number;
}

const NOTHING: Cut = { logit: -Infinity, id: -1 };

function keeps({ logit, id }: Cut, x: number, v: number): boolean {
  return x > logit || (x === logit && v <= id);
}

/** How many ids in order make up `topP` of the mass of all of them. */
function fewest(order: Int32Array, topP: number, massOf: (v: number) => number): number {
  let total = 0;
  for (const v of order) total += massOf(v);
  let mass = 0;
  for (let n = 0; n < order.length; n++) {
    mass += massOf(order[n]);
    if (mass >= topP * total) return n + 1;
  }
  return order.length;
}

/** Where the filters cut a row. */
function cutOf(args: SampleTokensArguments, x: Float64Array, largest: number, massOf: (v: number) => number): Cut {
  const { topK, topP, minDistance, vocab } = args;
  if (topK >= vocab && topP === 1 && minDistance === -Infinity) return NOTHING;
  const likeliest = newArray('logits', Int32Array, vocab)
    .map((_, v) => v)
    .filter((v) => x[v] > -Infinity)
    .sort((a, b) => x[b] - x[a] || a - b);
  let order = likeliest.subarray(0, topK);
  if (topP < 1) order = order.subarray(0, fewest(order, topP, massOf));
  let count = order.length;
  while (x[order[count - 1]] < largest + minDistance) count--;
  return count === likeliest.length ? NOTHING : { logit: x[order[count - 1]], id: order[count - 1] };
}

/** The first of the ids up to which they have more than `share` of their mass. */
function draw(ids: Int32Array, share: number, massOf: (v: number) => number): number {
  let total = 0;
  for (const v of ids) total += massOf(v);
  let mass = 0;
  let last = -1;
  for (const v of ids) {
    if (massOf(v) > 0) last = v;
    mass += massOf(v);
    if (mass > share * total) break;
  }
  return last;
}

function keptOf(x: Float64Array, cut: Cut): Int32Array {
  return newArray('logits', Int32Array, x.length)
    .map((_, v) => v)
    .filter((v) => keeps(cut, x[v], v));
}

function sampleRow(args: SampleTokensArguments, t: number): void {
  const { temperature, ids, logProbs, cutLogits, cutIds, keptCounts } = args;
  const x = rowOf(args, t);
  const largest = largestOf(x);
  logProbs[t] = 0;
  ids[t] = -1;
  if (Number.isNaN(largest)) return;
  const massOf = (v: number) => Math.exp((x[v] - largest) / temperature);
  const cut = cutOf(args, x, largest, massOf);
  const kept = keptOf(x, cut);
  ids[t] = draw(kept, uniform(args.seed, args.offset + t), massOf);
  logProbs[t] = logProbOver(x, cut, ids[t], temperature);
  if (cutLogits) cutLogits[t] = cut.logit;
  if (cutIds) cutIds[t] = cut.id;
  if (keptCounts) keptCounts[t] = cut === NOTHING ? 0 : kept.length;
}

/** The log-prob of an id over what is kept. */
function logProbOver(x: Float64Array, cut: Cut, id: number, temperature: number): number {
  const row = {
    targets: Int32Array.of(id),
    logProbs: new Float64Array(1),
    logSumExp: new Float64Array(1),
    entropy: undefined,
    kept: new Uint8Array(1),
    nonFinite: new Int32Array(1),
  };
  writeForwardRow(
    row,
    0,
    x.map((logit, v) => (keeps(cut, logit, v) ? logit / temperature : -Infinity)),
  );
  return row.logProbs[0];
}

export function* sampleTokens(args: SampleTokensArguments): Sliced<void> {
  for (let t = 0; t < args.tokens; t++) {
    yield PAUSE;
    sampleRow(args, t);
  }
}

export function* sampleTokensKept(args: SampleTokensKeptArguments): Sliced<void> {
  const { cutLogits, cutIds, cuKept, keptIds } = args;
  for (let t = 0; t < args.tokens; t++) {
    yield PAUSE;
    const count = cuKept[t + 1] - cuKept[t];
    if (count === 0) continue;
    keptIds.set(keptOf(rowOf(args, t), { logit: cutLogits[t], id: cutIds[t] }).subarray(0, count), cuKept[t]);
  }
}
