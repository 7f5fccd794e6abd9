// Runs a script in a process of its own, against the built package in dist/.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { expect } from 'vitest';

const entry = new URL('../../dist/lib/index.js', import.meta.url);

/** An environment in which no addon is found (node-gyp-build's own variables). */
export const NO_ADDON = { RLVR_ADDON: '', RLVR_KERNELS_PREBUILD: '/nonexistent', PREBUILDS_ONLY: '1' };

export interface ChildResult {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
  milliseconds: number;
}

export interface ChildOptions {
  env?: Record<string, string>;
  nodeOptions?: string[];
}

/** Runs an ES module in which `rlvr` is the package. */
export async function runChild(
  source: string,
  { env = {}, nodeOptions = [] }: ChildOptions = {},
): Promise<ChildResult> {
  if (!existsSync(entry)) throw new Error('dist/ is missing: run `npm run build:ts` before these tests');
  const script = `import * as rlvr from ${JSON.stringify(entry.href)};\n${source}`;
  const args = [...nodeOptions, '--input-type=module', '--eval', script];
  const { RLVR_BACKEND: _, RLVR_THREADS: __, RLVR_SIMD: ___, ...inherited } = process.env;
  const start = performance.now();
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      args,
      { env: { ...inherited, ...env }, maxBuffer: 1 << 26, timeout: 55_000, killSignal: 'SIGKILL' },
      (_error, stdout, stderr) => {
        const milliseconds = performance.now() - start;
        resolve({ code: child.exitCode, signal: child.signalCode, stdout, stderr, milliseconds });
      },
    );
  });
}

/** As runChild, for a script that ends with code 0 and whose last line of output is JSON. */
export async function childJson<T>(source: string, options?: ChildOptions): Promise<T> {
  const { code, signal, stdout, stderr } = await runChild(source, options);
  if (code !== 0) throw new Error(`child ended with ${signal ?? `code ${code}`}:\n${stdout}\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as T;
}

/** The address of a built file, quoted for a script; `path` starts from the package's entry. */
export const builtFile = (path = entry.href) => JSON.stringify(new URL(path, entry).href);

/** For scripts with workers: the next event of this name, or the worker's error. */
export const ONCE = `
const once = (worker, event) => new Promise((resolve, reject) => {
  worker.once(event, resolve);
  worker.once('error', reject);
});`;

/** The process ended by itself with this code, and wrote nothing to stderr. */
export function expectClean({ code, signal, stderr }: ChildResult, expected = 0): void {
  expect({ code, signal, stderr }).toEqual({ code: expected, signal: null, stderr: '' });
}
