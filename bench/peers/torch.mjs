// PyTorch, in a Python process of its own that is driven one call at a time (torch_log_softmax.py).
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { gradientError, requireWithin, valueError, WrongResult } from '../support/float64.mjs';

/**
 * @typedef {import('../support/contenders.mjs').Arrays} Arrays
 * @typedef {import('../support/data.mjs').Problem} Problem
 * @typedef {import('../support/float64.mjs').RowTruth} RowTruth
 * @typedef {import('../support/timing.mjs').Contender} Contender
 * @typedef {import('./peers.mjs').Peer} Peer
 * @typedef {(request: Record<string, unknown>) => Promise<any>} Ask
 */

const NAME = 'PyTorch';
/** It sums in float32. */
const TOLERANCE = 1e-5;
const SCRIPT = fileURLToPath(new URL('torch_log_softmax.py', import.meta.url));

/** A process that answers each JSON line with one. @param {string} python */
function startPython(python) {
  const child = spawn(python, ['-u', SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let lastWords = '';
  child.stderr.on('data', (chunk) => {
    lastWords = `${lastWords}${chunk}`.slice(-4000);
  });
  child.stdin.on('error', () => {}); // a process that ended: the missing answer tells
  /** @type {Promise<string>} */
  const ended = new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', () => resolve(lastWords.trim().split('\n').at(-1) || 'it ended without an answer'));
  });
  const answer = async () => {
    const line = await Promise.race([lines.next(), ended.then((reason) => ({ done: true, value: reason }))]);
    if (line.done) throw new Error(`${python}: ${await ended}`);
    const reply = JSON.parse(String(line.value));
    if (reply.error) throw new Error(`${NAME}: ${reply.error}`);
    return reply;
  };
  /** @type {Ask} */
  const ask = (request) => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    return answer();
  };
  return { answer, ask, close: async () => void child.stdin.end() };
}

/** @param {{ threads: number }} options @returns {Promise<Peer>} */
export async function openTorch({ threads }) {
  const { answer, ask, close } = startPython(process.env.RLVR_BENCH_PYTHON || 'python3');
  const { version } = await answer();
  return {
    name: NAME,
    version: String(version),
    async contenders(problem, arrays) {
      await load(ask, problem, threads);
      const of = { ask, problem, truth: arrays.truth };
      return [forward(of, 'forward'), forward(of, 'forward by logsumexp'), forwardBackward(of)];
    },
    cpuSeconds: async () => Number((await ask({ do: 'cpu' })).seconds),
    close,
  };
}

/** The logits go through a file, in memory where the system has one there. @param {Ask} ask @param {Problem} problem @param {number} threads */
async function load(ask, { shape, slots, targets, upstream, logits }, threads) {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rlvr-bench-'));
  try {
    const path = join(folder, 'logits');
    writeFileSync(path, logits);
    await ask({ do: 'load', path, ...shape, slots, threads, targets: [...targets], upstream: [...upstream] });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @typedef {{ ask: Ask, problem: Problem, truth: RowTruth[] }} Side */

/** @param {Side} side @param {string} op */
function contender({ ask, problem: { shape } }, op) {
  return {
    by: NAME,
    op,
    dtype: /** @type {const} */ ('f32'),
    bytes: shape.tokens * shape.vocab * 4,
    run: async (/** @type {number} */ slot) => Number((await ask({ do: 'time', op, slot })).ms),
  };
}

/** @param {string} text */
function floats(text) {
  const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
  return new Float32Array(bytes.buffer);
}

/** @param {Side} side @param {string} op @returns {Contender} */
function forward(side, op) {
  return {
    ...contender(side, op),
    reads: 1,
    copies: 0,
    async check() {
      const { logProbs } = await side.ask({ do: 'check', op, rows: [] });
      const error = valueError(floats(logProbs), side.truth, 'logProb');
      requireWithin(`${NAME} ${op}`, error, TOLERANCE);
      return error;
    },
  };
}

/** @param {Side} side @returns {Contender} */
function forwardBackward(side) {
  const op = 'forward + backward';
  return {
    ...contender(side, op),
    reads: 1,
    copies: 1,
    async check() {
      const rows = side.truth.map(({ row }) => row);
      const reply = await side.ask({ do: 'check', op, rows });
      if (reply.finite !== true) throw new WrongResult(`${NAME} ${op}: not finite`);
      const error = gradientError((row) => Float64Array.from(floats(reply.rows[rows.indexOf(row)])), side.truth);
      requireWithin(`${NAME} ${op}`, error, TOLERANCE);
      return error;
    },
  };
}
