// PyTorch (and Liger's kernels, where they can be imported) on the same GPU, after our own timings and not beside them:
// torch_cuda.py measures in a process of its own, with its own copy of the same bytes as yardstick.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { spreadOf } from '../../dist/bench/timing.js';

/**
 * @typedef {import('../../cli/dev/cuda-options.mjs').CudaOptions} CudaOptions
 * @typedef {import('../../cli/dev/cuda-options.mjs').CudaShape} CudaShape
 * @typedef {import('../cuda/token-level.mjs').CudaRow} CudaRow
 * @typedef {{ op: string, reason: string }} Skipped
 * @typedef {{ by: string, op: string, bytes: number, error: number | null, milliseconds: number[] }} PeerTimes
 * @typedef {{ shape: CudaShape, rows: CudaRow[], skipped: Skipped[] }} PeerShape
 * @typedef {{ versions: Record<string, string | null>, reason?: string, results: PeerShape[] }} PeerReport
 */

const SCRIPT = fileURLToPath(new URL('torch_cuda.py', import.meta.url));
const GRACE_SECONDS = 120; // for the shape that is under way when the time is up

/** @param {{ shape: CudaShape, rows: PeerTimes[], skipped: Skipped[] }} line @returns {PeerShape} */
function summarize({ shape, rows, skipped }) {
  const measured = rows.map(({ by, op, bytes, error, milliseconds }) => {
    const spread = spreadOf(milliseconds);
    return { by, op, error, milliseconds: spread, gigabytesPerSecond: bytes / (spread.median / 1e3) / 1e9 };
  });
  const copy = measured[0]?.gigabytesPerSecond;
  return {
    shape,
    rows: measured.map((row) => ({ ...row, percentOfCopy: (100 * row.gigabytesPerSecond) / copy })),
    skipped,
  };
}

/**
 * Never throws: what is not there, or goes wrong, is a reason beside what was measured before.
 * @param {CudaOptions} options @param {string} device 'cuda', or 'cpu' to try the plumbing
 * @param {(result: PeerShape) => void} onResult
 * @returns {Promise<PeerReport>}
 */
export async function measurePeers({ shapes, repeats, seed, peerSeconds }, device, onResult) {
  const python = process.env.RLVR_BENCH_PYTHON || 'python3';
  const list = shapes.map(({ tokens, vocab, dtype }) => `${tokens}x${vocab}:${dtype}`).join(',');
  const settings = ['--shapes', list, '--repeats', `${repeats}`, '--seed', `${seed}`, '--seconds', `${peerSeconds}`];
  const child = spawn(python, ['-u', SCRIPT, '--device', device, ...settings], { stdio: ['ignore', 'pipe', 'pipe'] });
  const timer = setTimeout(() => child.kill(), (peerSeconds + GRACE_SECONDS) * 1e3);
  let lastWords = '';
  child.stderr.on('data', (chunk) => {
    lastWords = `${lastWords}${chunk}`.slice(-4000);
  });
  /** @type {Promise<string | undefined>} */
  const ended = new Promise((resolve) => {
    child.on('error', ({ message }) => resolve(message));
    child.on('close', (code, signal) => {
      const words = lastWords.trim().split('\n').at(-1);
      resolve(code === 0 ? undefined : signal ? `stopped by ${signal}` : `${python}: ${words || `exit code ${code}`}`);
    });
  });
  /** @type {PeerReport} */
  const report = { versions: {}, results: [] };
  for await (const line of createInterface({ input: child.stdout })) {
    const message = JSON.parse(line);
    if ('versions' in message) report.versions = message.versions;
    else report.results.push(summarize(message));
    const last = report.results.at(-1);
    if ('shape' in message && last) onResult(last);
  }
  const reason = await ended;
  clearTimeout(timer);
  return reason === undefined ? report : { ...report, reason };
}
