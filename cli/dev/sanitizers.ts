// NVIDIA's compute-sanitizer on `rlvr-kernels verify --backend cuda`, which runs every op and loss on small shapes.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Accesses out of bounds or misaligned; races in shared memory; reads of device memory that nothing wrote. */
const TOOLS = ['memcheck', 'racecheck', 'initcheck'] as const;

/** What one tool said of the run. */
export interface Sanitized {
  readonly tool: (typeof TOOLS)[number];
  readonly clean: boolean;
  /** Its last line, such as `ERROR SUMMARY: 0 errors`; or why it did not run. */
  readonly summary: string;
}

const PROGRAM = 'compute-sanitizer';
const FOUND = 86; // exit status where it found something; a program of its own has no such status

/** The tool on PATH, else in a toolkit where one usually is. */
function findSanitizer({ PATH = '', CUDA_PATH, CUDA_HOME }: NodeJS.ProcessEnv): string {
  const toolkits = [CUDA_PATH, CUDA_HOME, '/usr/local/cuda'].filter((folder) => folder !== undefined);
  const folders = [...PATH.split(delimiter), ...toolkits.map((folder) => join(folder, 'bin'))].filter(Boolean);
  const found = folders.map((folder) => join(folder, PROGRAM)).find((file) => existsSync(file));
  if (found === undefined) throw new Error(`--sanitizer: no ${PROGRAM} on PATH, in CUDA_PATH or in /usr/local/cuda`);
  return found;
}

/** Runs `command` (Node and its arguments) under each tool; what a tool printed is shown where it found something. */
export function runSanitizers(command: readonly string[], cwd: string, env = process.env): Sanitized[] {
  const program = findSanitizer(env);
  return TOOLS.map((tool) => {
    const args = ['--tool', tool, '--error-exitcode', String(FOUND), '--target-processes', 'all', ...command];
    const { status, error, stdout, stderr } = spawnSync(program, args, {
      cwd,
      env,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    const output = `${stdout ?? ''}${stderr ?? ''}`;
    const clean = status === 0;
    if (!clean) console.log(output);
    return { tool, clean, summary: error?.message ?? summaryOf(output, status) };
  });
}

function summaryOf(output: string, status: number | null): string {
  const last = output
    .split('\n')
    .filter((line) => /^=+ .*SUMMARY/.test(line))
    .at(-1);
  return last?.replace(/^=+ /, '') ?? `no summary, exit status ${status}`;
}
