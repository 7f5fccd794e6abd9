// A copy of the package to install in, with stand-ins for the compiler and cmake: what install/ does, without the minutes.
import { execFile } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import type { BackendInfo, BackendName } from '../../lib/index.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));
const resolveAddon = createRequire(import.meta.url)('node-gyp-build').resolve;

/** The addon of this checkout; undefined where none was built. */
export const realAddon = (() => {
  try {
    return process.env.RLVR_ADDON ?? String(resolveAddon(root));
  } catch {
    return undefined;
  }
})();

/** A folder that is gone after the test file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-install-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Where an addon may lie in a package. */
export const SOURCE_BUILD = 'build/Release/rlvr_kernels.node';
export const PREBUILD = `prebuilds/${process.platform}-${process.arch}/rlvr_kernels.node`;

/** Lays the package out in `folder`/node_modules, without an addon, with what this checkout has installed, or some of it. The path to it. */
export function layOutPackage(folder: string, installed?: readonly string[]): string {
  const home = join(folder, 'node_modules', 'rlvr-kernels');
  mkdirSync(home, { recursive: true });
  for (const name of ['install', 'dist/lib', 'dist/native.br', 'package.json']) {
    cpSync(join(root, name), join(home, name), { recursive: true });
  }
  if (installed) mkdirSync(join(home, 'node_modules'));
  const packages = installed?.map((name) => `node_modules/${name}`) ?? ['node_modules'];
  for (const name of packages) symlinkSync(join(root, name), join(home, name));
  return home;
}

/** Puts a file into the package. */
export function put(home: string, name: string, content: string | Buffer): string {
  const file = join(home, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

/** A folder of programs: node, and each of these as a script of node. */
function commands(folder: string, scripts: Record<string, string>): string {
  mkdirSync(folder, { recursive: true });
  for (const [name, script] of Object.entries(scripts)) {
    const file = join(folder, name);
    writeFileSync(file, `#!${process.execPath}\n${script}`);
    chmodSync(file, 0o755);
  }
  return folder;
}

/** Writes down how it was called, in `log`, and "builds" a copy of `addon`; or ends with `error`. */
const cmake = (log: string, addon: string, error: string) => `
const { appendFileSync, copyFileSync, mkdirSync, readdirSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const args = process.argv.slice(2);
if (args[1] === 'capabilities') { console.log('{"generators":[]}'); process.exit(); }
const call = { args, cwd: process.cwd(), TMPDIR: process.env.TMPDIR };
appendFileSync(${JSON.stringify(log)}, JSON.stringify(call) + '\\n');
if (${JSON.stringify(error)}) { console.error(${JSON.stringify(error)}); process.exit(1); }
if (args[0] === '--build') {
  mkdirSync(join(args[1], 'Release'), { recursive: true });
  copyFileSync(${JSON.stringify(addon)}, join(args[1], 'Release', 'rlvr_kernels.node'));
} else {
  readdirSync(join(args[0], 'native', 'cuda')); // the sources are where it is told
  const headers = args.filter((arg) => arg.startsWith('-DCMAKE_JS_INC=')).at(-1).slice(15).split(';').flatMap((folder) => readdirSync(folder));
  for (const header of ['napi.h', 'node_api.h']) if (!headers.includes(header)) throw new Error('no ' + header);
  writeFileSync('CMakeCache.txt', '');
}`;

export interface CmakeCall {
  args: string[];
  cwd: string;
  TMPDIR: string;
}

interface Toolchain {
  /** For the environment of an install: nothing else is on it. */
  readonly PATH: string;
  /** How cmake was called. */
  calls(): CmakeCall[];
}

/** A PATH on which cmake "builds" a copy of `addon`, or fails with `error`. */
export function toolchain(folder: string, { addon = realAddon ?? '', error = '' } = {}): Toolchain {
  const log = join(folder, 'calls.jsonl');
  const PATH = commands(join(folder, 'bin'), { cmake: cmake(log, addon, error), 'g++': '', ninja: '' });
  const lines = () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []);
  return { PATH, calls: () => lines().map((line) => JSON.parse(line)) };
}

/** Runs node in the package. */
function node(home: string, args: readonly string[], env: NodeJS.ProcessEnv) {
  return new Promise<{ status: number | null; signal: string | null; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(process.execPath, args, { cwd: home, env }, (_error, stdout, stderr) =>
      resolve({ status: child.exitCode, signal: child.signalCode, stdout, stderr }),
    );
  });
}

export interface Installed {
  readonly status: number | null;
  /** What it said. */
  readonly said: string;
  /** build/install-report.json */
  readonly report?: { ok: boolean; addon?: string; reason?: string; crashed?: string };
}

/** Runs the install script as a package manager does. */
export async function install(home: string, env: NodeJS.ProcessEnv): Promise<Installed> {
  const { status, stdout, stderr } = await node(home, ['install/install.mjs'], { HOME: process.env.HOME, ...env });
  const report = join(home, 'build', 'install-report.json');
  return {
    status,
    said: stdout + stderr,
    ...(existsSync(report) && { report: JSON.parse(readFileSync(report, 'utf8')) }),
  };
}

/** What `backends()` of the package says of one of them, in a process of its own. */
export async function infoOf(home: string, backend: BackendName): Promise<BackendInfo> {
  const script = `import { backends } from './dist/lib/index.js';
    console.log(JSON.stringify(backends().find(({ name }) => name === '${backend}')));`;
  const { status, signal, stdout, stderr } = await node(home, ['--input-type=module', '-e', script], {});
  if (status !== 0) throw new Error(`backends() ended with ${signal ?? status}: ${stderr}`);
  return JSON.parse(stdout);
}

export const cpuOf = (home: string) => infoOf(home, 'cpu');
