// Runs the built command line as a user does: a process of its own, its exit code, what it printed.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

const packageRoot = fileURLToPath(new URL('../..', import.meta.url));
const main = join(packageRoot, 'dist/cli/main.js');

/** Fails rather than testing nothing, or yesterday's code. */
function requireFreshBuild(): void {
  if (!existsSync(main))
    throw new Error(`${main} is missing: run \`npm run build:ts\` before the command line's tests`);
  const built = statSync(main).mtimeMs;
  const newer = ['bench', 'cli', 'lib']
    .flatMap(sourcesIn)
    .find((path) => statSync(join(packageRoot, path)).mtimeMs > built);
  if (newer !== undefined) throw new Error(`${newer} is newer than dist: run \`npm run build:ts\` first`);
}

function sourcesIn(folder: string): string[] {
  const names = readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' });
  return names
    .filter((name) => name.endsWith('.ts') && !name.includes('node_modules'))
    .map((name) => join(folder, name));
}

requireFreshBuild();

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface CliSetting {
  /** Text for standard input; none by default. */
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
}

export function startCli(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const { RLVR_BACKEND: _, ...inherited } = process.env; // what the caller forces must not decide what is tested
  return spawn(process.execPath, [main, ...args], { env: { ...inherited, ...env } });
}

export function runCli(args: readonly string[], { input = '', env }: CliSetting = {}): Promise<CliResult> {
  const child = startCli(args, env);
  child.stdin?.on('error', () => {
    // A command that fails early never reads its input.
  });
  child.stdin?.end(input);
  return outcomeOf(child);
}

/** What a command that has just been started prints until it ends. */
export function outcomeOf(child: ChildProcess): Promise<CliResult> {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, stdout, stderr }));
  });
}

/** The objects of a file of JSON lines. */
export function readJsonLines<T>(path: string): T[] {
  return readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** A folder that is gone after the test file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-cli-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
