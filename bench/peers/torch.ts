// PyTorch, in a Python process of its own that is driven one call at a time (torch_log_softmax.py).
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { DType } from '../../lib/index.js';
import type { Peer } from '../peer.js';
import type { HostArrays } from '../problems/arrays.js';
import type { Elements } from '../problems/data.js';
import { WrongResult } from '../problems/float64.js';
import { type LinearArena, layerOf, type WantedGradients } from '../problems/linear.js';
import type { Contender } from '../timing.js';
import { forwardBackwardContender, forwardContender, linearContender, type PeerCall } from './contender.js';
import { peersFolder } from './installed.js';

type Mode = 'eager' | 'compiled';

/** A line of the script. The keys depend on the request. */
interface Reply {
  readonly error?: string;
  readonly version?: string;
  /** Of one timed call. */
  readonly ms?: number;
  /** Processor time so far. */
  readonly seconds?: number;
  /** float32 in base64. */
  readonly logProbs?: string;
  readonly finite?: boolean;
  /** By which a call raised the most memory that the process had. */
  readonly bytes?: number;
  /** Of hidden states: log-probs, or the rows of gradients that were asked for; each float32 in base64. */
  readonly values?: Readonly<Record<string, string>>;
  /** Gradients of the rows that were asked for, each float32 in base64. */
  readonly rows?: readonly string[];
}

type Ask = (request: Readonly<Record<string, unknown>>) => Promise<Reply>;

const NAMES: Record<Mode, string> = { eager: 'PyTorch', compiled: 'PyTorch compiled' };
const SCRIPT = join(peersFolder, 'torch_log_softmax.py');

/** A process that answers each JSON line with one. */
function startPython(python: string, mode: Mode) {
  // Compiling in the process itself leaves no workers behind that would take part in the timings.
  const env = { ...process.env, TORCHINDUCTOR_COMPILE_THREADS: '1' };
  const child = spawn(python, ['-u', SCRIPT, mode], { stdio: ['pipe', 'pipe', 'pipe'], env });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let lastWords = '';
  child.stderr.on('data', (chunk) => {
    lastWords = `${lastWords}${chunk}`.slice(-4000);
  });
  child.stdin.on('error', () => {}); // the process has ended: the missing answer will say so
  const ended = new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', () => resolve(lastWords.trim().split('\n').at(-1) || 'it ended without an answer'));
  });
  const answer = async (): Promise<Reply> => {
    const line = await Promise.race([lines.next(), ended.then((reason) => ({ done: true, value: reason }))]);
    if (line.done) throw new Error(await ended);
    const reply: Reply = JSON.parse(String(line.value));
    if (reply.error) throw new Error(reply.error);
    return reply;
  };
  const ask: Ask = (request) => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    return answer();
  };
  return { answer, ask, close: async () => void child.stdin.end() };
}

export async function openTorch({ threads }: { threads: number }, mode: Mode): Promise<Peer> {
  const { answer, ask, close } = startPython(process.env.RLVR_BENCH_PYTHON || 'python3', mode);
  const { version } = await answer();
  return {
    version: String(version),
    async contenders(arrays) {
      await load(ask, arrays, threads);
      const side = { ask, arrays, by: NAMES[mode], threads };
      return [forward(side, 'forward'), forward(side, 'forward by logsumexp'), forwardBackward(side)];
    },
    async linearContenders(arena, { dtypes, ops }) {
      const some = dtypes.filter((dtype) => dtype !== 'f16');
      await loadLinear(ask, arena, some, threads);
      return some.flatMap((dtype) => linearContenders({ ask, arena, dtype, by: NAMES[mode], threads }, ops));
    },
    cpuSeconds: async () => Number((await ask({ do: 'cpu' })).seconds),
    close,
  };
}

/** Arrays go through files, in memory where the system offers that. `use` is given their paths. */
async function withFiles<Name extends string>(
  arrays: Readonly<Record<Name, Elements>>,
  use: (paths: Record<Name, string>) => Promise<unknown>,
): Promise<void> {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rlvr-bench-'));
  try {
    const paths = Object.entries<Elements>(arrays).map(([name, data]) => {
      const path = join(folder, name);
      writeFileSync(path, data);
      return [name, path];
    });
    await use(Object.fromEntries(paths));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function load(
  ask: Ask,
  { problem: { shape, targets, upstream, logits }, slots }: HostArrays,
  threads: number,
): Promise<void> {
  const request = { do: 'load', ...shape, slots, threads, targets: [...targets], upstream: [...upstream] };
  await withFiles({ path: logits }, (paths) => ask({ ...request, ...paths }));
}

/** In bf16, which has all values of the problem. */
async function loadLinear(
  ask: Ask,
  { problem }: LinearArena,
  dtypes: readonly DType[],
  threads: number,
): Promise<void> {
  const { shape, targets, upstream } = problem;
  const { hidden, weight } = layerOf(problem, 'bf16');
  const request = { do: 'load linear', ...shape, dtypes, threads, targets: [...targets], upstream: [...upstream] };
  await withFiles({ hidden: hidden.data, weight: weight.data }, (paths) => ask({ ...request, ...paths }));
}

interface Side {
  readonly ask: Ask;
  readonly arrays: HostArrays;
  readonly by: string;
  readonly threads: number;
}

function call({ ask, by, threads }: Side, op: string): PeerCall {
  const run = async (slot: number) => Number((await ask({ do: 'time', op, slot })).ms);
  return { by, op, threads, run };
}

function floats(base64: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(base64, 'base64'));
  return new Float32Array(bytes.buffer);
}

function forward(side: Side, op: string): Contender {
  return forwardContender(side.arrays, call(side, op), async () => {
    const { logProbs = '' } = await side.ask({ do: 'check', op, rows: [] });
    return floats(logProbs);
  });
}

function forwardBackward(side: Side): Contender {
  const op = 'forward + backward';
  return forwardBackwardContender(side.arrays, call(side, op), async (rows) => {
    const reply = await side.ask({ do: 'check', op, rows });
    if (reply.finite !== true) throw new WrongResult(`${side.by} ${op}: not finite`);
    return (reply.rows ?? []).map(floats);
  });
}

interface LinearSide extends Omit<Side, 'arrays'> {
  readonly arena: LinearArena;
  readonly dtype: DType;
}

const LINEAR_OPS: Readonly<Record<string, WantedGradients>> = {
  forward: [],
  'forward + backward': ['hidden', 'weight'],
  'the same, frozen head': ['hidden'],
};

function linearContenders({ ask, arena, dtype, by, threads }: LinearSide, ops: readonly string[]): Contender[] {
  const asked = Object.entries(LINEAR_OPS).filter(([op]) => ops.includes(op));
  return asked.map(([op, wanted]) => {
    const call = { by, op, dtype, threads, run: async () => Number((await ask({ do: 'time', op, slot: dtype })).ms) };
    return linearContender(arena, call, wanted, {
      async answer(rows) {
        const { finite, values = {} } = await ask({ do: 'check linear', op, slot: dtype, rows });
        if (finite !== true) throw new WrongResult(`${by} ${op} ${dtype}: not finite`);
        return Object.fromEntries(Object.entries(values).map(([name, base64]) => [name, floats(base64)]));
      },
      peakBytes: async () => (await ask({ do: 'peak', op, slot: dtype })).bytes,
    });
  });
}
