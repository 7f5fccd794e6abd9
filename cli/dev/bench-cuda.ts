// The kernels on a GPU, timed beside a copy on the device and beside PyTorch on the same device. See bench/README.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { collectDevices, openCuda } from '../../bench/cuda/device.mjs';
import { measureLosses } from '../../bench/cuda/losses.mjs';
import { commitOfRun, describeDevice, deviceLine, deviceSlug, RESULTS } from '../../bench/cuda/machine.mjs';
import { createCudaProblem, disposeProblem } from '../../bench/cuda/problem.mjs';
import { measureSmallOps } from '../../bench/cuda/small-ops.mjs';
import { measureRows, tokenLevelContenders } from '../../bench/cuda/token-level.mjs';
import { measurePeers } from '../../bench/peers/torch-cuda.mjs';
import { describeMachine, describePackage } from '../../dist/bench/machine.js';
import { LOGIT_DEVIATION } from '../../dist/bench/problems/data.js';
import { UsageError } from '../../dist/cli/errors.js';
import { CUDA_HELP, parseCudaOptions } from './cuda-options.mjs';
import { cudaShapeName, renderLosses, renderRows, renderSmall } from './cuda-table.mjs';

/**
 * @typedef {import('../../bench/cuda/device.mjs').Cuda} Cuda
 * @typedef {import('../../bench/cuda/machine.mjs').DeviceDescription} DeviceDescription
 * @typedef {import('./cuda-options.mjs').CudaOptions} CudaOptions
 * @typedef {import('./cuda-options.mjs').CudaShape} CudaShape
 * @typedef {import('../../bench/cuda/token-level.mjs').CudaRow} CudaRow
 */

/** @param {string} text */
const print = (text) => void process.stdout.write(`${text}\n`);
/** @param {string} text */
const complain = (text) => void process.stderr.write(`${text}\n`);

/** What a user of both directions waits for: 2R + 1W. @param {CudaRow[]} rows @param {number} bytes */
function bothDirections(rows, bytes) {
  const at = (/** @type {string} */ name) => rows.find(({ op }) => op === name)?.milliseconds.median ?? Number.NaN;
  const milliseconds = at('forward') + at('backward in place');
  return { milliseconds, gigabytesPerSecond: (3 * bytes) / (milliseconds / 1e3) / 1e9 };
}

/** @param {Cuda} cuda @param {CudaShape} shape @param {CudaOptions} options */
async function measureShape(cuda, shape, { seed, inner, repeats, quiet }) {
  if (!quiet) complain(`${cudaShapeName(shape)}: making and checking data`);
  const problem = createCudaProblem(cuda, shape, seed);
  try {
    const rows = await measureRows(tokenLevelContenders(cuda, problem, inner), repeats);
    const losses = await measureLosses(cuda, problem, repeats);
    const both = bothDirections(rows, problem.bytes);
    print(`\nT x V = ${cudaShapeName(shape)}\n\n${renderRows(rows)}`);
    print(
      `forward + backward in place, added up: ${both.milliseconds.toPrecision(4)} ms, ${both.gigabytesPerSecond.toFixed(0)} GB/s`,
    );
    print(`\n${renderLosses(losses)}`);
    return { shape, rows, forwardAndBackward: both, losses };
  } finally {
    disposeProblem(problem); // before the next shape's, which may be gigabytes too
  }
}

/** @param {CudaOptions} options @param {boolean} emulated */
async function peersOf(options, emulated) {
  if (!options.peers || options.shapes.length === 0) return { versions: {}, reason: 'not asked for', results: [] };
  if (!options.quiet) complain('peers: PyTorch');
  const report = await measurePeers(options, emulated ? 'cpu' : 'cuda', ({ shape, rows, skipped }) => {
    print(`\nPeers, T x V = ${cudaShapeName(shape)}\n\n${rows.length > 0 ? renderRows(rows) : 'none'}`);
    for (const { op, reason } of skipped) print(`not run: ${op}: ${reason}`);
  });
  if (report.reason) complain(`peers: ${report.reason}`);
  return report;
}

/** @param {CudaOptions} options */
async function measureOwn(options) {
  const cuda = openCuda();
  const tokenLevel = [];
  for (const shape of options.shapes) tokenLevel.push(await measureShape(cuda, shape, options));
  const smallOps = [];
  for (const shape of options.small) {
    const result = await measureSmallOps(cuda, shape, options);
    print(`\n${renderSmall(result)}`);
    smallOps.push(result);
  }
  cuda.device.dispose();
  return { tokenLevel, smallOps };
}

/** @param {CudaOptions} options @param {DeviceDescription} device */
async function run(options, device) {
  const date = new Date().toISOString();
  const own = await measureOwn(options);
  await collectDevices();
  const peers = await peersOf(options, device.emulated);
  const { emulated, ...described } = device;
  const { repeats, inner, smallInner, seed } = options;
  return {
    benchmark: 'cuda',
    ...(emulated && { emulated }),
    date,
    device: described,
    machine: describeMachine(),
    node: process.version,
    package: describePackage(),
    git: commitOfRun(),
    settings: { repeats, inner, smallInner, seed, logits: `normal, deviation ${LOGIT_DEVIATION}` },
    ...own,
    peers,
  };
}

async function main() {
  const options = parseCudaOptions(process.argv.slice(2));
  if (options === 'help') return void process.stdout.write(CUDA_HELP);
  const device = describeDevice();
  if ('reason' in device) throw new Error(`no CUDA device: ${device.reason}`);
  if (device.emulated && options.json === undefined) {
    throw new Error('this device is the emulation, whose times say nothing; give --json FILE to try the script on it');
  }
  const json = options.json ?? join(RESULTS, `cuda-${deviceSlug(device.name)}.json`);
  const report = await run(options, device);
  print(`\n${deviceLine(device)}; Node ${report.node}; commit ${report.git.commit ?? 'unknown'}`);
  mkdirSync(dirname(json), { recursive: true });
  writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
  print(json);
}

try {
  await main();
} catch (error) {
  const usage = error instanceof UsageError;
  complain(usage ? `${error.message} (--help shows the usage)` : `bench: ${/** @type {Error} */ (error).message}`);
  process.exitCode = usage ? 2 : 1;
}
