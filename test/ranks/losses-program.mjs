// What test/mpi-losses.test.ts runs under mpirun: every loss on these ranks, beside the same loss by one rank on the whole batch. Each rank
// prints a line of JSON, with what differed.
import { losses, lossesSync, mergeMetricsOnRanksSync, microBatchesOnRanksSync } from 'rlvr-kernels';
import { openMpi } from 'rlvr-kernels/mpi';

const world = openMpi();
const VOCAB = 11;
const TOLERANCE = 1e-12;
/** @param {number} length @param {number} seed */
const wave = (length, seed) =>
  Float64Array.from({ length }, (_, i) => Math.sin((i + 1) * seed) * Math.cos(i * i + seed));

/** @typedef {ReturnType<typeof makeBatch>} Whole */
/** @typedef {{ logits: Float32Array, targets: Int32Array }} Logits */

/** Sequences of 0 to 4 tokens in groups that lie across each other. @param {number} sequences */
function makeBatch(sequences) {
  const lengths = Array.from({ length: sequences }, (_, i) => (i * 3) % 5);
  const cuSeqlens = Int32Array.from([0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b))]);
  const tokens = cuSeqlens[sequences];
  const logProbs = wave(tokens, 1.7).map((x) => -1.2 - x);
  return {
    logits: Float32Array.from(wave(tokens * VOCAB, 0.9)),
    targets: Int32Array.from({ length: tokens }, (_, t) => (t * 5) % VOCAB),
    logProbs,
    oldLogProbs: logProbs.map((x, t) => x - 0.1 * Math.abs(Math.sin(t))),
    cuSeqlens,
    groupIds: Int32Array.from(lengths, (_, i) => 100 + (i % 3)),
    rewards: Float64Array.from(lengths, (_, i) => (i % 4 < 2 ? 1 : 0)),
    mask: Uint8Array.from({ length: tokens }, (_, t) => (t % 7 === 3 ? 0 : 1)),
  };
}

/** Sequences [first, last), without what log-probs come from. @param {Whole} batch @param {number} first @param {number} last */
function part({ cuSeqlens, groupIds, rewards, oldLogProbs, mask }, first, last) {
  const [begin, end] = [cuSeqlens[first], cuSeqlens[last]];
  return {
    oldLogProbs: oldLogProbs.slice(begin, end),
    mask: mask.slice(begin, end),
    cuSeqlens: cuSeqlens.slice(first, last + 1).map((offset) => offset - begin),
    groupIds: groupIds.slice(first, last),
    rewards: rewards.slice(first, last),
  };
}

/** @param {Whole} batch @param {number} first @param {number} last */
function fromLogProbs(batch, first, last) {
  const logProbs = batch.logProbs.slice(batch.cuSeqlens[first], batch.cuSeqlens[last]);
  return { ...part(batch, first, last), logProbs };
}

/** Columns [from, to) of the logits. @param {Whole} batch @param {number} first @param {number} last @param {number} from @param {number} to */
function fromLogits(batch, first, last, from = 0, to = VOCAB) {
  const [begin, end] = [batch.cuSeqlens[first], batch.cuSeqlens[last]];
  const logits = columns(batch.logits, begin, end, from, to);
  return { ...part(batch, first, last), logits, targets: batch.targets.slice(begin, end) };
}

/** @param {Float32Array} logits @param {number} begin @param {number} end @param {number} from @param {number} to */
function columns(logits, begin, end, from, to) {
  const cut = new Float32Array((end - begin) * (to - from));
  for (let t = begin; t < end; t++)
    cut.set(logits.subarray(t * VOCAB + from, t * VOCAB + to), (t - begin) * (to - from));
  return cut;
}

/** Those tokens of the whole batch that a rank holds where each sequence is cut into as many pieces as there are ranks. @param {Whole} batch */
function tokensOfPieces({ cuSeqlens }) {
  const edge = (/** @type {number} */ i, /** @type {number} */ r) =>
    cuSeqlens[i] + Math.floor(((cuSeqlens[i + 1] - cuSeqlens[i]) * r) / size);
  const held = Array.from(cuSeqlens.subarray(1), (_end, i) =>
    Array.from({ length: edge(i, rank + 1) - edge(i, rank) }, (_, k) => edge(i, rank) + k),
  );
  return { tokens: held.flat(), lengths: held.map(({ length }) => length) };
}

/** A batch of log-probs, of those only. @param {Whole} batch @param {ReturnType<typeof tokensOfPieces>} held */
function piece(batch, { tokens, lengths }) {
  let end = 0;
  return {
    ...fromLogProbs(batch, 0, lengths.length),
    logProbs: Float64Array.from(tokens, (t) => batch.logProbs[t]),
    oldLogProbs: Float64Array.from(tokens, (t) => batch.oldLogProbs[t]),
    mask: Uint8Array.from(tokens, (t) => batch.mask[t]),
    cuSeqlens: Int32Array.from([0, ...lengths.map((length) => (end += length))]),
  };
}

/** @type {string[]} */
const wrong = [];

/** @param {string} what @param {ArrayLike<number>} actual @param {ArrayLike<number>} expected @param {number} tolerance */
function compare(what, actual, expected, tolerance) {
  const scale = Math.max(1e-3, ...Array.from(expected, Math.abs));
  const far = Array.from(actual).findIndex((x, i) => !(Math.abs(x - expected[i]) <= tolerance * scale));
  if (actual.length !== expected.length || far !== -1)
    wrong.push(`${what}: ${actual[far]} instead of ${expected[far]} at ${far} of ${actual.length}`);
}

/** Values by name. @param {object} metrics */
const inOrder = (metrics) =>
  Object.entries(metrics)
    .sort()
    .map(([, value]) => value);

/** @typedef {{ loss: number, metrics: Partial<import('../../lib/index.js').Metrics>, gradLogProbs: Float32Array | Float64Array }} Result */

/** @param {string} name @param {Result} mine @param {Result} whole @param {ArrayLike<number>} tokens */
function compareResults(name, mine, whole, tokens) {
  compare(`${name} loss`, [mine.loss], [whole.loss], TOLERANCE);
  const { exchanges = 0, exchangedNumbers: _numbers, ...metrics } = mine.metrics;
  compare(`${name} metrics`, inOrder(metrics), inOrder(whole.metrics), TOLERANCE);
  if (exchanges > 3) wrong.push(`${name}: ${exchanges} exchanges`);
  compare(
    `${name} gradient`,
    mine.gradLogProbs,
    Float64Array.from(tokens, (t) => whole.gradLogProbs[t]),
    TOLERANCE,
  );
}

const { rank, size } = world;
const batch = makeBatch(14);
const N = batch.rewards.length;
const cuts = Array.from({ length: size + 1 }, (_, r) => Math.floor((r * N) / size));
if (size > 2) cuts[2] = cuts[1]; // rank 1 has none
const [first, last] = [cuts[rank], cuts[rank + 1]];
const tokens = Array.from(batch.targets.keys()).slice(batch.cuSeqlens[first], batch.cuSeqlens[last]);
const held = tokensOfPieces(batch);
/** @type {Record<string, object>} */
const OPTIONS = { drGrpo: { maxLength: 6 }, conspo: { margin: 0.1 } };

for (const name of /** @type {import('../../lib/index.js').LossName[]} */ (Object.keys(losses))) {
  const [mine, options] = [fromLogProbs(batch, first, last), OPTIONS[name]];
  const among = { ...options, parallel: { data: world } };
  const whole = lossesSync[name](fromLogProbs(batch, 0, N), options);
  compareResults(name, await losses[name](mine, among), whole, tokens);
  compareResults(`${name}, blocking`, lossesSync[name](mine, among), whole, tokens);
  const ofPieces = { ...options, parallel: { sequence: world } };
  compareResults(`${name}, of pieces`, await losses[name](piece(batch, held), ofPieces), whole, held.tokens);
}

// A grid, of two columns where there are enough ranks: those of a row share the vocabulary, those of a column the sequences.
const across = size % 2 === 0 ? 2 : 1;
const [row, column] = [Math.floor(rank / across), rank % across];
const grid = { data: world.split(column, rank), vocab: { comm: world.split(row, rank), start: column === 0 ? 0 : 4 } };
const edges = across === 1 ? [0, VOCAB] : [0, 4, VOCAB];
const rows = size / across;
const [from, to] = [Math.floor((row * N) / rows), Math.floor(((row + 1) * N) / rows)];
const whole = lossesSync.conspo(fromLogits(batch, 0, N));
const [left, right] = edges.slice(column, column + 2);
const shared = await losses.conspo(fromLogits(batch, from, to, left, right), { parallel: grid });
compare('grid loss', [shared.loss], [whole.loss], 2e-6);
const [begin, end] = [batch.cuSeqlens[from], batch.cuSeqlens[to]];
compare('grid gradient', shared.gradLogits, columns(whole.gradLogits, begin, end, left, right), 2e-6);

// Micro-batches: groups of two sequences, of which each rank has some and makes parts of its own size.
const PAIRS = N / 2;
/** @param {number} first @param {number} last */
function ofPairs(first, last) {
  const { groupIds: _ids, ...rest } = fromLogProbs(batch, 2 * first, 2 * last);
  return { ...rest, cuGroups: Int32Array.from({ length: last - first + 1 }, (_, g) => 2 * g) };
}
const inPairs = lossesSync.dapo(ofPairs(0, PAIRS));
const [firstPair, lastPair] = [rank, rank + 1].map((r) => Math.floor((r * PAIRS) / size));
const among = { parallel: { data: world } };
const limit = { sequences: 2 * (rank + 1), loss: /** @type {const} */ ('dapo'), options: among };
const parts = microBatchesOnRanksSync(ofPairs(firstPair, lastPair), limit);
const results = parts.map((part) => lossesSync.dapo(part.batch, part.options));
const loss = Float64Array.of(results.reduce((sum, result) => sum + result.loss, 0));
const gradLogProbs = Float64Array.from(results.flatMap((result) => Array.from(result.gradLogProbs)));
const metrics = mergeMetricsOnRanksSync(parts, results, among);
const [fromToken, toToken] = [firstPair, lastPair].map((pair) => batch.cuSeqlens[2 * pair]);
const own = Array.from(batch.targets.keys()).slice(fromToken, toToken);
compareResults('parts', { loss: world.allReduceSync(loss, 'sum')[0], metrics, gradLogProbs }, inPairs, own);

console.log(JSON.stringify({ rank, wrong }));
await world.close();
