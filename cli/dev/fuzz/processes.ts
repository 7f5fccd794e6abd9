// Starts fuzzing processes under a limit of memory, and watches them: a crash or a hang is a fault of the call that was
// being made.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Answer, Job } from './job.js';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));
/** Of V8's heap. */
const HEAP_MEGABYTES = 512;
/** Of all memory, arrays and threads' stacks included: an array made from a hostile length is refused by the system. */
const LONGEST_REPORT = 6000; // characters
const ADDRESS_KILOBYTES = 4 * 2 ** 20;

/** How a process ended. `last` is the last thing that it said it was about to do. */
export interface End {
  ok: boolean;
  reason: string;
  last: { chunk: number; at: number } | undefined;
}

export interface Watch {
  /** Kernels for tiny input run in TypeScript, as by default, or in the addon. */
  tiny: boolean;
  /** Seconds without a word after which a process hangs. */
  patience: number;
  onAnswer(answer: Answer): void;
}

/** AddressSanitizer reserves terabytes of addresses, and a memory of WebAssembly ten gigabytes. */
function limitsAddresses(): boolean {
  if (process.platform !== 'linux' || process.env.RLVR_FUZZED_BACKEND === 'wasm') return false;
  return !process.env.LD_PRELOAD?.includes('asan');
}

function start(job: Job, tiny: boolean): ChildProcess {
  const node = [process.execPath, `--max-old-space-size=${HEAP_MEGABYTES}`, WORKER, JSON.stringify(job)];
  const { RLVR_BACKEND: _backend, RLVR_TINY_NATIVE: _tiny, ...inherited } = process.env;
  const env = tiny ? inherited : { ...inherited, RLVR_TINY_NATIVE: '1' };
  const stdio = ['ignore', 'pipe', 'pipe', 'pipe'] as const;
  if (!limitsAddresses()) return spawn(node[0], node.slice(1), { env, stdio: [...stdio] });
  const limited = ['-c', `ulimit -v ${ADDRESS_KILOBYTES} && exec "$@"`, 'sh', ...node];
  return spawn('sh', limited, { env, stdio: [...stdio] });
}

/** The beginning of an output: where a report of what ended a process starts. */
function headOf(stream: Readable | null): () => string {
  let text = '';
  stream?.setEncoding('utf8').on('data', (part: string) => {
    if (text.length < LONGEST_REPORT) text += part;
  });
  return () =>
    text
      .slice(0, LONGEST_REPORT)
      .replace(/\n\s*\n/g, '\n')
      .trim();
}

/** The line that says what it was. */
function gist(report: string): string {
  const [line] = /^.*(ERROR: AddressSanitizer|runtime error:|FATAL ERROR|Error: ).*$/m.exec(report) ?? [''];
  return line.replace(/==\d+==|0x[0-9a-f]+/g, '').trim();
}

/** Runs a job to its end, good or bad. */
export function runJob(job: Job, { tiny, patience, onAnswer }: Watch): Promise<End> {
  const child = start(job, tiny);
  const output = [headOf(child.stdout), headOf(child.stderr)];
  let last: End['last'];
  let hung = false;
  const restart = () =>
    setTimeout(() => {
      hung = true;
      child.kill('SIGKILL');
    }, patience * 1000);
  let timer = restart();
  const lines = createInterface({ input: child.stdio[3] as Readable });
  lines.on('line', (line) => {
    clearTimeout(timer);
    timer = restart();
    const said: Answer = JSON.parse(line);
    if ('at' in said) last = said;
    onAnswer(said);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const texts = output.map((text) => text()).filter((text) => text !== '');
      const how = hung ? `no word for ${patience} seconds` : `ended with ${signal ?? `code ${code}`}`;
      resolve({ ok: code === 0, reason: [`${how} ${gist(texts.join('\n'))}`, ...texts].join('\n'), last });
    });
  });
}
