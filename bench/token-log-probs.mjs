// The token-level op of the cpu backend, timed beside the memory and its peers. See bench/README.md.
import { writeFileSync } from 'node:fs';
import { nativeAddon } from '../dist/backend/native.js';
import { openPeers } from './peers/peers.mjs';
import { createArrays, ownContenders, yardsticks } from './support/contenders.mjs';
import { createProblem, LOGIT_DEVIATION, shapeName } from './support/data.mjs';
import {
  describeCommit,
  describeMachine,
  describePackage,
  lastLevelCacheBytes,
  loadNow,
  watchOthers,
} from './support/machine.mjs';
import { HELP, parseOptions, UsageError } from './support/options.mjs';
import { summarize } from './support/results.mjs';
import { renderShape } from './support/table.mjs';
import { measure } from './support/timing.mjs';

/**
 * @typedef {import('./peers/peers.mjs').Peer} Peer
 * @typedef {import('./support/data.mjs').Shape} Shape
 * @typedef {import('./support/options.mjs').Options} Options
 * @typedef {import('../dist/backend/native.js').Addon} Addon
 */

const BUSY_CORES = 0.2; // above this others are at work, and the figures say little

/** @param {string} text */
const note = (text) => void process.stderr.write(`${text}\n`);

/** @param {Shape} shape @param {Options} options @param {Peer[]} peers @param {Addon} addon */
async function measureShape(shape, { seed, repeats, warmup, quiet }, peers, addon) {
  note(`${shapeName(shape)}: making and checking data`);
  const problem = createProblem(shape, { seed, cacheBytes: lastLevelCacheBytes() });
  const f32 = createArrays(problem, 'f32');
  const contenders = [...yardsticks(problem, f32, addon), ...ownContenders(problem, f32)];
  for (const dtype of /** @type {const} */ (['bf16', 'f16'])) {
    contenders.push(...ownContenders(problem, createArrays(problem, dtype)));
  }
  for (const peer of peers) contenders.push(...(await peer.contenders(problem, f32)));
  const onRound = (/** @type {number} */ done, /** @type {number} */ of) => {
    if (process.stderr.isTTY)
      process.stderr.write(`\r${shapeName(shape)}: round ${done} of ${of}${done < of ? '' : '\n'}`);
  };
  const peerSeconds = async () => {
    const seconds = await Promise.all(peers.map((peer) => peer.cpuSeconds()));
    return seconds.reduce((sum, s) => sum + s, 0);
  };
  let busiest = 0; // of the rounds that count
  const othersAtWork = async (/** @type {() => Promise<void>} */ round) => {
    const stop = await watchOthers(peerSeconds);
    await round();
    const cores = await stop();
    const discard = quiet && cores > BUSY_CORES;
    if (!discard) busiest = Math.max(busiest, cores);
    return discard;
  };
  const { measurements, discardedRounds } = await measure(contenders, {
    repeats,
    warmup,
    slots: problem.slots,
    othersAtWork,
    onRound,
  });
  return { othersBusyCores: busiest, discardedRounds, ...summarize(shape, problem.slots, measurements) };
}

/** @param {number} cores that others keep busy */
function warnIfBusy(cores) {
  if (cores > BUSY_CORES) note(`warning: others keep ${cores} cores busy, so these figures are off`);
}

function openAddon() {
  const addon = nativeAddon();
  if ('reason' in addon) throw new Error(`the cpu backend is not available: ${addon.reason}`);
  return addon;
}

/** @param {Options} options */
async function run(options) {
  const addon = openAddon();
  const info = addon.cpuInfo();
  const { present, absent } = options.peers ? await openPeers(info) : { present: [], absent: [] };
  for (const { name, reason } of absent) note(`${name}: not run: ${reason}`);
  const before = await loadNow();
  warnIfBusy(before.othersBusyCores);
  const date = new Date().toISOString();
  const results = [];
  try {
    for (const shape of options.shapes) {
      const result = await measureShape(shape, options, present, addon);
      process.stdout.write(`${renderShape(result)}\n`);
      warnIfBusy(result.othersBusyCores);
      results.push(result);
    }
  } finally {
    for (const peer of present) await peer.close();
  }
  return {
    benchmark: 'token-log-probs',
    date,
    machine: describeMachine(),
    node: process.version,
    package: describePackage(),
    git: describeCommit(),
    backend: { name: 'cpu', ...info },
    load: { before, after: await loadNow() },
    settings: {
      repeats: options.repeats,
      warmup: options.warmup,
      quiet: options.quiet,
      seed: options.seed,
      logits: `normal, deviation ${LOGIT_DEVIATION}`,
    },
    peers: [
      ...present.map(({ name, version }) => ({ name, version })),
      ...absent.map((peer) => ({ ...peer, run: false })),
    ],
    results,
  };
}

async function main() {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') return void process.stdout.write(HELP);
  const report = await run(options);
  const { machine, backend, load } = report;
  process.stdout.write(
    `${machine.cpu}, ${machine.cores} cores; ${backend.simd}, ${backend.threads} threads; Node ${report.node}; ` +
      `cores busy by others: before ${load.before.othersBusyCores}, ` +
      `during ${report.results.map(({ othersBusyCores }) => othersBusyCores).join(' and ')}, after ${load.after.othersBusyCores}\n`,
  );
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
}

try {
  await main();
} catch (error) {
  const usage = error instanceof UsageError;
  note(usage ? `${error.message} (--help shows the usage)` : `bench: ${/** @type {Error} */ (error).message}`);
  process.exitCode = usage ? 2 : 1;
}
