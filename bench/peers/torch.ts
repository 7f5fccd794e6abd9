// PyTorch, in a Python process of its own that is driven one call at a time (torch_log_softmax.py).
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { WrongResult } from '../../dist/bench/problems/float64.js';
import { forwardBackwardContender, forwardContender } from './contender.mjs';

/**
 * @typedef {import('./contender.mjs').Contender} Contender
 * @typedef {import('./contender.mjs').Peer} Peer
 * @typedef {import('./contender.mjs').HostArrays} HostArrays
 * @typedef {'eager' | 'compiled'} Mode
 * @typedef {(request: Record<string, unknown>) => Promise<any>} Ask
 */

const NAMES = { eager: 'PyTorch', compiled: 'PyTorch compiled' };
const SCRIPT = fileURLToPath(new URL('torch_log_softmax.py', import.meta.url));

/** A process that answers each JSON line with one. @param {string} python @param {Mode} mode */
function startPython(python, mode) {
  // Compiling in the process itself leaves no workers behind that would take part in the timings.
  const env = { ...process.env, TORCHINDUCTOR_COMPILE_THREADS: '1' };
  const child = spawn(python, ['-u', SCRIPT, mode], { stdio: ['pipe', 'pipe', 'pipe'], env });
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
    if (line.done) throw new Error(await ended);
    const reply = JSON.parse(String(line.value));
    if (reply.error) throw new Error(reply.error);
    return reply;
  };
  /** @type {Ask} */
  const ask = (request) => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    return answer();
  };
  return { answer, ask, close: async () => void child.stdin.end() };
}

/** @param {{ threads: number }} options @param {Mode} mode @returns {Promise<Peer>} */
export async function openTorch({ threads }, mode) {
  const { answer, ask, close } = startPython(process.env.RLVR_BENCH_PYTHON || 'python3', mode);
  const { version } = await answer();
  return {
    version: String(version),
    async contenders(arrays) {
      await load(ask, arrays, threads);
      const of = { ask, arrays, by: NAMES[mode], threads };
      return [forward(of, 'forward'), forward(of, 'forward by logsumexp'), forwardBackward(of)];
    },
    cpuSeconds: async () => Number((await ask({ do: 'cpu' })).seconds),
    close,
  };
}

/** The logits go through a file, in memory where the system has one there. @param {Ask} ask @param {HostArrays} arrays @param {number} threads */
async function load(ask, { problem: { shape, targets, upstream, logits }, slots }, threads) {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rlvr-bench-'));
  try {
    const path = join(folder, 'logits');
    writeFileSync(path, logits);
    await ask({ do: 'load', path, ...shape, slots, threads, targets: [...targets], upstream: [...upstream] });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @typedef {{ ask: Ask, arrays: HostArrays, by: string, threads: number }} Side */

/** @param {Side} side @param {string} op */
function call({ ask, by, threads }, op) {
  const run = async (/** @type {number} */ slot) => Number((await ask({ do: 'time', op, slot })).ms);
  return { by, op, threads, run };
}

/** @param {string} text */
function floats(text) {
  const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
  return new Float32Array(bytes.buffer);
}

/** @param {Side} side @param {string} op @returns {Contender} */
function forward(side, op) {
  return forwardContender(side.arrays, call(side, op), async () => {
    const { logProbs } = await side.ask({ do: 'check', op, rows: [] });
    return floats(logProbs);
  });
}

/** @param {Side} side @returns {Contender} */
function forwardBackward(side) {
  const op = 'forward + backward';
  return forwardBackwardContender(side.arrays, call(side, op), async (rows) => {
    const reply = await side.ask({ do: 'check', op, rows });
    if (reply.finite !== true) throw new WrongResult(`${side.by} ${op}: not finite`);
    return reply.rows.map(floats);
  });
}
