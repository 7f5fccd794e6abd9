// Whole losses from logits on the cpu backend, the gradient in place of the logits: two of the package's, one that a user
// wrote (docs/losses.md), and the token level alone, in one run, so that the ratios say what a loss of one's own costs.
import { writeFileSync } from 'node:fs';
import { conspo, defineLoss, grpo, scoreObjective, tokenLogProbsSync } from 'rlvr-kernels';
import { nativeAddon } from '../dist/backend/native.js';
import { createArrays, ownContenders } from './support/contenders.mjs';
import { allFinite, createProblem, LOGIT_DEVIATION, shapeName, widen } from './support/data.mjs';
import { gradientError, requireWithin, truthOf, valueError, WrongResult } from './support/float64.mjs';
import {
  describeCommit,
  describeMachine,
  describePackage,
  lastLevelCacheBytes,
  loadNow,
  watchOthers,
} from './support/machine.mjs';
import { parseOptions, UsageError } from './support/options.mjs';
import { measure } from './support/timing.mjs';

/**
 * @typedef {import('rlvr-kernels').Batch} Batch
 * @typedef {import('rlvr-kernels').Objective<{ tau: number }>} Objective
 * @typedef {import('./support/contenders.mjs').Arrays} Arrays
 * @typedef {import('./support/data.mjs').Problem} Problem
 * @typedef {import('./support/data.mjs').Shape} Shape
 * @typedef {import('./support/options.mjs').Options} Options
 * @typedef {import('./support/timing.mjs').Contender} Contender
 * @typedef {import('./support/timing.mjs').Measurement} Measurement
 * @typedef {{ gradient?: 'in-place' | 'new', backend?: 'reference' }} CallOptions
 * @typedef {{ loss: number, gradLogProbs?: Float32Array | Float64Array }} Answer
 * @typedef {(batch: Batch, options: CallOptions) => Promise<Answer>} LossFunction
 */

const HELP = `Usage: node bench/losses.mjs [options]

Times whole losses from f32 logits, gradient in place: conspo, grpo, a user's loss, and the token level
alone. Every result is checked first; the calls are interleaved.

  --shape TxV      tokens x vocabulary; repeatable (default: 256x151936 and 512x32000)
  --repeats N      timed calls of each (default: 21)
  --warmup N       untimed rounds before them (default: 3)
  --seed N         of the random logits (default: 1)
  --quiet          throw away and repeat rounds in which other processes were at work
  --json FILE      also write the result there
  --help           print this help

RLVR_THREADS sets the threads.
`;

const SEQUENCE_TOKENS = 32;
const GROUP = 8;
const BUSY_CORES = 0.2; // above this others are at work, and the figures say little
const TOLERANCE = { value: 1e-6, loss: 1e-6, gradient: 2e-6 };
const BASE = 'grpo';

/** Every positive against every negative of its group: the user's loss of docs/losses.md. @type {Objective} */
const everyPair = scoreObjective(({ scores, sides, cuGroups, groupOrder }, { tau = 0.1 }) => {
  const gradScores = new Float64Array(scores.length);
  let loss = 0;
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    const places = Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, k) => cuGroups[g] + k);
    const members = places.map((k) => groupOrder?.[k] ?? k);
    const positives = members.filter((i) => sides[i] > 0);
    const negatives = members.filter((j) => sides[j] < 0);
    const weight = 1 / (positives.length * negatives.length * (cuGroups.length - 1));
    for (const i of positives) {
      for (const j of negatives) {
        const gap = (scores[j] - scores[i]) / tau;
        loss += weight * tau * (Math.max(gap, 0) + Math.log1p(Math.exp(-Math.abs(gap))));
        gradScores[i] -= weight / (1 + Math.exp(-gap));
        gradScores[j] += weight / (1 + Math.exp(-gap));
      }
    }
  }
  return { loss, gradScores };
});
/** @type {import('rlvr-kernels').Loss<{ tau: number }, unknown>} */
const pairwise = defineLoss({ score: 'logLikelihood', objective: everyPair });

/** With tau 1 no score is so far ahead that its gradient is 0: such rows are not read. @type {Record<string, LossFunction>} */
const LOSSES = {
  [BASE]: (batch, options) => grpo(batch, options),
  conspo: (batch, options) => conspo(batch, { tau: 1, ...options }),
  "a user's: pairwise": (batch, options) => pairwise.run(batch, { tau: 1, ...options }),
};

/** Offsets of `count` nearly equal parts, [count + 1]. @param {number} total @param {number} count */
const evenOffsets = (total, count) => Int32Array.from({ length: count + 1 }, (_, i) => Math.round((i * total) / count));

/** Half of each group verified, ratios near 1, so that none is clipped. @param {Shape} shape @param {Float64Array} logProbs */
function rolloutsOf({ tokens }, logProbs) {
  const sequences = Math.max(2, Math.floor(tokens / SEQUENCE_TOKENS));
  return {
    cuSeqlens: evenOffsets(tokens, sequences),
    cuGroups: evenOffsets(sequences, Math.max(1, Math.floor(sequences / GROUP))),
    rewards: Float32Array.from({ length: sequences }, (_, i) => (i + 1) % 2),
    oldLogProbs: logProbs.map((logProb, t) => logProb + 0.1 * Math.sin(t)),
  };
}

/** Checked against float64, rows from support/float64.mjs. @param {Problem} problem @param {Arrays} arrays */
function checkedLogProbs({ targets }, arrays) {
  const { logProbs } = tokenLogProbsSync({ logits: arrays.logits[0], targets });
  requireWithin('log-probs', valueError(logProbs, arrays.truth, 'logProb'), TOLERANCE.value);
  return logProbs;
}

/** @param {Problem} problem @param {Arrays} arrays @returns {Contender[]} */
function lossContenders(problem, arrays) {
  const { shape, targets } = problem;
  const logProbs = checkedLogProbs(problem, arrays);
  const rollouts = rolloutsOf(shape, logProbs);
  const restore = (/** @type {number} */ slot) => arrays.work[slot].data.set(arrays.logits[slot].data);
  return Object.entries(LOSSES).map(([op, loss]) => {
    const run = (/** @type {number} */ slot) =>
      loss({ ...rollouts, logits: arrays.work[slot], targets }, { gradient: 'in-place' });
    const check = async () => {
      const expected = await loss({ ...rollouts, logProbs }, { backend: 'reference' });
      const upstream = Float64Array.from(expected.gradLogProbs ?? []);
      if (upstream.includes(0)) throw new WrongResult(`${op}: rows without a gradient, which are not read`);
      const { loss: value } = await run(0);
      requireWithin(`${op}: loss`, Math.abs(value / expected.loss - 1), TOLERANCE.loss);
      const { data } = arrays.work[0];
      if (!allFinite(data, 'f32')) throw new WrongResult(`${op}: gradient not finite`);
      const truth = truthOf({ ...problem, upstream }, 'f32', arrays.logits[0].data);
      const rows = (/** @type {number} */ row) => widen(data, 'f32', row * shape.vocab, (row + 1) * shape.vocab);
      const error = gradientError(rows, truth);
      requireWithin(`${op}: gradient`, error, TOLERANCE.gradient);
      restore(0);
      return error;
    };
    const bytes = 4 * shape.tokens * shape.vocab;
    return { by: 'rlvr-kernels', op, dtype: 'f32', bytes, reads: 1, copies: 1, check, run, restore };
  });
}

/** @param {Shape} shape @param {Options} options */
async function measureShape(shape, { seed, repeats, warmup, quiet }) {
  process.stderr.write(`${shapeName(shape)}: making and checking data\n`);
  const problem = createProblem(shape, { seed, cacheBytes: lastLevelCacheBytes() });
  const arrays = createArrays(problem, 'f32');
  const tokenLevel = ownContenders(problem, arrays).filter(({ op }) => op === 'forward + backward');
  const contenders = [
    ...lossContenders(problem, arrays),
    ...tokenLevel.map((contender) => ({ ...contender, op: 'token level alone' })),
  ];
  let othersBusyCores = 0; // the most in a round that counts
  const othersAtWork = async (/** @type {() => Promise<void>} */ round) => {
    const stop = await watchOthers(async () => 0);
    await round();
    const cores = await stop();
    const discard = quiet && cores > BUSY_CORES;
    if (!discard) othersBusyCores = Math.max(othersBusyCores, cores);
    return discard;
  };
  const { measurements, discardedRounds } = await measure(contenders, {
    repeats,
    warmup,
    slots: problem.slots,
    othersAtWork,
  });
  return { shape, slots: problem.slots, othersBusyCores, discardedRounds, rows: rowsOf(measurements) };
}

/** @param {Measurement[]} measurements */
function rowsOf(measurements) {
  const base = measurements.find(({ contender }) => contender.op === BASE)?.milliseconds.median ?? Number.NaN;
  return measurements.map(({ contender: { op, bytes, reads, copies }, error, milliseconds }) => ({
    op,
    milliseconds,
    timesGrpo: milliseconds.median / base,
    gigabytesPerSecond: (bytes * (reads + 2 * copies)) / milliseconds.median / 1e6,
    error,
  }));
}

/** @param {Awaited<ReturnType<typeof measureShape>>} result */
function render({ shape, rows }) {
  const percent = (/** @type {number} */ ratio) => `${ratio < 1 ? '-' : '+'}${Math.abs(100 * (ratio - 1)).toFixed(0)}%`;
  const lines = rows.map(({ op, milliseconds: { median, p10, p90 }, timesGrpo, gigabytesPerSecond, error }) => [
    op,
    median.toPrecision(3),
    `${percent(p10 / median)} ${percent(p90 / median)}`,
    timesGrpo.toFixed(3),
    gigabytesPerSecond.toFixed(1),
    error === null ? '' : error.toExponential(1),
  ]);
  const table = [['loss', 'ms', 'p10 p90', '/ grpo', 'GB/s', 'error'], ...lines];
  const widths = table[0].map((_, c) => Math.max(...table.map((line) => line[c].length)));
  const text = table.map((line) =>
    line.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]) : cell.padStart(widths[c]))).join('  '),
  );
  return [`T x V = ${shapeName(shape)}`, '', ...text, ''].join('\n');
}

/** @param {Options} options */
async function run(options) {
  const addon = nativeAddon();
  if ('reason' in addon) throw new Error(`the cpu backend is not available: ${addon.reason}`);
  const { repeats, warmup, quiet, seed } = options;
  const report = {
    benchmark: 'losses',
    date: new Date().toISOString(),
    machine: describeMachine(),
    node: process.version,
    package: describePackage(),
    git: describeCommit(),
    backend: { name: 'cpu', ...addon.cpuInfo() },
    load: { before: await loadNow() },
    settings: { repeats, warmup, quiet, seed, logits: `normal, deviation ${LOGIT_DEVIATION}` },
    results: /** @type {Awaited<ReturnType<typeof measureShape>>[]} */ ([]),
  };
  for (const shape of options.shapes) {
    const result = await measureShape(shape, options);
    process.stdout.write(`${render(result)}\n`);
    report.results.push(result);
  }
  return report;
}

async function main() {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') return void process.stdout.write(HELP);
  const report = await run(options);
  const { machine, backend, load, results } = report;
  process.stdout.write(
    `${machine.cpu}, ${machine.cores} cores; ${backend.simd}, ${backend.threads} threads; Node ${report.node}; cores busy by ` +
      `others: before ${load.before.othersBusyCores}, during ${results.map((result) => result.othersBusyCores).join(' and ')}\n`,
  );
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
}

try {
  await main();
} catch (error) {
  const usage = error instanceof UsageError;
  process.stderr.write(`${usage ? '' : 'bench: '}${/** @type {Error} */ (error).message}\n`);
  process.exitCode = usage ? 2 : 1;
}
