// PyTorch (and Liger's kernels, where they can be imported) on the same GPU, after our own timings and not interleaved with
// them: bench/peers/torch_cuda.py measures in a process of its own, against its own copy of the same bytes.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../../lib/package-root.js';
import { spreadOf } from '../timing.js';
import type { CudaSettings, CudaShape } from './settings.js';
import type { CudaRow } from './token-level.js';

/** What the script writes: a line of versions, then a line for every shape. */
type Message =
  | { readonly versions: PeerReport['versions'] }
  | { readonly shape: CudaShape; readonly rows: PeerTimes[]; readonly skipped: Skipped[] };

interface PeerTimes extends Pick<CudaRow, 'by' | 'op' | 'error'> {
  readonly bytes: number;
  readonly milliseconds: number[];
}

interface Skipped {
  readonly op: string;
  readonly reason: string;
}

export interface PeerShape {
  readonly shape: CudaShape;
  readonly rows: CudaRow[];
  readonly skipped: Skipped[];
}

export interface PeerReport {
  readonly versions: Readonly<Record<string, string | null>>;
  /** Why PyTorch did not run, or not to the end. */
  readonly reason?: string;
  readonly results: PeerShape[];
}

const SCRIPT = join(packageRoot(), 'bench', 'peers', 'torch_cuda.py');
const GRACE_SECONDS = 120; // for the shape that is under way when the time is up

/** The script's copy comes first among its rows. */
function summarize({ shape, rows, skipped }: Extract<Message, { shape: CudaShape }>): PeerShape {
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

function startScript({ shapes, repeats, seed, peerSeconds }: CudaSettings, device: 'cuda' | 'cpu') {
  const python = process.env.RLVR_BENCH_PYTHON || 'python3';
  const list = shapes.map(({ tokens, vocab, dtype }) => `${tokens}x${vocab}:${dtype}`).join(',');
  const settings = ['--shapes', list, '--repeats', `${repeats}`, '--seed', `${seed}`, '--seconds', `${peerSeconds}`];
  const child = spawn(python, ['-u', SCRIPT, '--device', device, ...settings], { stdio: ['ignore', 'pipe', 'pipe'] });
  const timer = setTimeout(() => child.kill(), (peerSeconds + GRACE_SECONDS) * 1e3);
  let lastWords = '';
  child.stderr.on('data', (chunk) => {
    lastWords = `${lastWords}${chunk}`.slice(-4000);
  });
  /** Undefined if it ended well. */
  const failure = new Promise<string | undefined>((resolve) => {
    const end = (reason: string | undefined) => {
      clearTimeout(timer);
      resolve(reason);
    };
    child.on('error', ({ message }) => end(message));
    child.on('close', (code, signal) => {
      const words = lastWords.trim().split('\n').at(-1);
      end(code === 0 ? undefined : signal ? `stopped by ${signal}` : `${python}: ${words || `exit code ${code}`}`);
    });
  });
  return { lines: createInterface({ input: child.stdout }), failure };
}

/**
 * Never throws: if PyTorch is missing, or something goes wrong, the report gives the reason along with what was measured
 * before. On device 'cpu' it only tries the plumbing.
 */
export async function measureTorch(
  settings: CudaSettings,
  device: 'cuda' | 'cpu',
  onResult: (result: PeerShape) => void,
): Promise<PeerReport> {
  const { lines, failure } = startScript(settings, device);
  let versions: PeerReport['versions'] = {};
  const results: PeerShape[] = [];
  for await (const line of lines) {
    const message: Message = JSON.parse(line);
    if ('versions' in message) {
      versions = message.versions;
      continue;
    }
    const result = summarize(message);
    results.push(result);
    onResult(result);
  }
  const reason = await failure;
  return { versions, results, ...(reason !== undefined && { reason }) };
}
