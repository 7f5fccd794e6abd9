// How far log-probs are from float64, for this package, a plain float32 log-softmax in JavaScript, and PyTorch, on the same
// logits. Writes the result file from which scripts/readme-charts.mjs draws docs/accuracy.svg.
//
//   node scripts/measure-accuracy.mjs bench/results/NAME.json      (after npm run build:ts; about a minute)
//
// RLVR_BENCH_PYTHON names a Python that can import torch (default python3); without one PyTorch is left out, and the
// file says so. Logits are normal with deviation 3, targets are drawn from their softmax. The exact value is the reference
// backend's, in float64, of the same rounded logits.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { backends, tokenLogProbsSync } from 'rlvr-kernels';
import { describeMachine, describePackage } from '../dist/bench/machine.js';
import { Random } from '../dist/bench/problems/random.js';
import { bf16ToNumber, numberToBf16 } from '../dist/lib/reference/float16.js';

const TOKENS = 64;
const VOCAB = 151_936; // Qwen 2.5
const DEVIATION = 3;
const SEED = 1;

/** @typedef {{ by: string, version?: string, how: string, dtype: 'f32' | 'bf16', largest: number, rms: number }} Measured */

/** @param {Random} random */
function normalLogits(random) {
  return Float32Array.from({ length: TOKENS * VOCAB }, () => DEVIATION * random.normal());
}

/** One token of each row, drawn from its softmax. @param {Float32Array} logits @param {Random} random */
function sampled(logits, random) {
  return Int32Array.from({ length: TOKENS }, (_, t) => {
    const weights = Float64Array.from(logits.subarray(t * VOCAB, (t + 1) * VOCAB), Math.exp);
    let left = random.uniform() * weights.reduce((sum, weight) => sum + weight, 0);
    const id = weights.findIndex((weight) => {
      left -= weight;
      return left < 0;
    });
    return id === -1 ? VOCAB - 1 : id;
  });
}

/** A textbook log_softmax, with every number a float32. @param {Float32Array} logits @param {Int32Array} targets */
function plainFloat32(logits, targets) {
  const { fround } = Math;
  return Array.from(targets, (target, t) => {
    const row = logits.subarray(t * VOCAB, (t + 1) * VOCAB);
    const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
    let sum = 0;
    for (const z of row) sum = fround(sum + fround(Math.exp(fround(z - max))));
    const logSumExp = fround(max + fround(Math.log(sum)));
    return fround(row[target] - logSumExp);
  });
}

/** Errors of log-probs against the exact ones. @param {ArrayLike<number>} values @param {Float64Array} exact */
function errors(values, exact) {
  const distances = Array.from(exact, (value, t) => Math.abs(values[t] - value));
  if (distances.length !== values.length || distances.some(Number.isNaN))
    throw new Error('log-probs are missing or NaN');
  return {
    largest: Math.max(...distances),
    rms: Math.sqrt(distances.reduce((sum, d) => sum + d * d, 0) / distances.length),
  };
}

/**
 * PyTorch's log-probs, each way of computing them.
 *
 * @param {string} folder @param {Float32Array} logits @param {Uint16Array} bits @param {Int32Array} targets
 * @returns {{ version: string, results: { how: string, dtype: 'f32' | 'bf16', logProbs: number[] }[] } | { reason: string }}
 */
function pytorch(folder, logits, bits, targets) {
  for (const [name, array] of Object.entries({ f32: logits, bf16: bits, targets }))
    writeFileSync(join(folder, name), array);
  const script = fileURLToPath(new URL('measure-accuracy.py', import.meta.url));
  const python = process.env.RLVR_BENCH_PYTHON || 'python3';
  const { status, stdout, stderr } = spawnSync(python, [script, folder, `${TOKENS}`, `${VOCAB}`], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (status === 0) return JSON.parse(stdout);
  return { reason: (stderr ?? '').trim().split('\n').at(-1) || `${python} did not run` };
}

/** The last commit that changed what is measured, and whether there are uncommitted changes. */
function measuredCommit() {
  const git = (/** @type {string[]} */ ...args) => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const paths = ['--', 'lib', 'native'];
  return { commit: git('log', '-1', '--format=%H', ...paths), dirty: git('status', '--porcelain', ...paths) !== '' };
}

/** @returns {object} the result file */
function measure() {
  const cpu = backends().find(({ name }) => name === 'cpu');
  if (!cpu?.available) throw new Error(`there is no cpu backend to measure: ${cpu?.reason}`);
  const random = new Random(SEED);
  const logits = normalLogits(random);
  const targets = sampled(logits, random);
  const bits = Uint16Array.from(logits, numberToBf16);
  const rounded = Float32Array.from(bits, bf16ToNumber);
  const shape = /** @type {const} */ ([TOKENS, VOCAB]);
  const exactly = (/** @type {Float32Array} */ values) =>
    tokenLogProbsSync({ logits: values, targets }, { backend: 'reference' }).logProbs;
  const exact = { f32: exactly(logits), bf16: exactly(rounded) };

  /** @type {Measured[]} */
  const rows = [];
  const add = (/** @type {Omit<Measured, 'largest' | 'rms'>} */ row, /** @type {ArrayLike<number>} */ logProbs) =>
    rows.push({ ...row, ...errors(logProbs, exact[row.dtype]) });
  const { name, version } = describePackage();
  const ours = { by: name, version, how: `tokenLogProbs, cpu ${cpu.simd}` };
  add({ ...ours, dtype: 'f32' }, tokenLogProbsSync({ logits, targets }, { backend: 'cpu' }).logProbs);
  const half = { data: bits, shape, dtype: /** @type {const} */ ('bf16') };
  add({ ...ours, dtype: 'bf16' }, tokenLogProbsSync({ logits: half, targets }, { backend: 'cpu' }).logProbs);
  const plain = { by: 'plain JavaScript', how: 'log_softmax, every number a float32' };
  add({ ...plain, dtype: 'f32' }, plainFloat32(logits, targets));
  add({ ...plain, dtype: 'bf16' }, plainFloat32(rounded, targets));

  const folder = mkdtempSync(join(tmpdir(), 'rlvr-accuracy-'));
  try {
    const torch = pytorch(folder, logits, bits, targets);
    if ('results' in torch) {
      for (const { how, dtype, logProbs } of torch.results)
        add({ by: 'PyTorch', version: torch.version, how, dtype }, logProbs);
    }
    return {
      benchmark: 'rlvr-kernels accuracy',
      date: new Date().toISOString(),
      machine: describeMachine(),
      node: process.version,
      package: describePackage(),
      git: measuredCommit(),
      settings: { tokens: TOKENS, vocab: VOCAB, deviation: DEVIATION, seed: SEED },
      ...('reason' in torch && { notRun: `PyTorch: ${torch.reason}` }),
      rows,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const [file] = process.argv.slice(2);
if (file === undefined)
  throw new Error('name the result file: node scripts/measure-accuracy.mjs bench/results/NAME.json');
writeFileSync(file, `${JSON.stringify(measure(), null, 2)}\n`);
