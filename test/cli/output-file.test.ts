// Files that options name: whole or not at all, in their place, with their permissions; `-` is standard output.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { UsageError } from '../../cli/errors.js';
import { OutputFile } from '../../cli/output-file.js';
import { runCli, temporaryFolder } from './run-cli.js';

const parent = temporaryFolder();
const signal = new AbortController().signal;
const example = fileURLToPath(new URL('../../examples/rollouts.jsonl', import.meta.url));
const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

let folders = 0;

/** A new, empty folder. */
function emptyFolder(): string {
  const folder = join(parent, String(folders++));
  mkdirSync(folder);
  return folder;
}

const permissions = (path: string) => statSync(path).mode & 0o7777;

async function write(path: string, text = 'new'): Promise<void> {
  await (await OutputFile.open('--out', path)).write([text], signal);
}

describe('an output file', () => {
  test('appears whole', async () => {
    const folder = emptyFolder();
    const file = await OutputFile.open('--out', join(folder, 'whole'));
    expect(readdirSync(folder)).toEqual([]);
    const parts = Array.from({ length: 5000 }, (_, i) => `${'x'.repeat(40)} ${i}\n`);
    await file.write(parts, signal);
    expect(readFileSync(file.path, 'utf8')).toBe(parts.join(''));
  });

  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
  test.each([
    { name: 'an error', stop: () => expect.fail('no more parts'), message: 'no more parts' },
    {
      name: 'an abort',
      stop: (controller: AbortController) => controller.abort(new Error('stopped')),
      message: 'stopped',
    },
    {
      name: 'an error of the system',
      stop: () => {
        throw full;
      },
      message: /^--out: .*old could not be written \(ENOSPC: no space left on device, write\)$/,
    },
  ])('after $name: the old file, and nothing else', async ({ stop, message }) => {
    const folder = emptyFolder();
    const path = join(folder, 'old');
    writeFileSync(path, 'old');
    const file = await OutputFile.open('--out', path);
    const controller = new AbortController();
    function* parts(): Generator<string> {
      yield 'y'.repeat(100_000);
      stop(controller);
      yield 'z'.repeat(100_000);
    }
    await expect(file.write(parts(), controller.signal)).rejects.toThrow(message);
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(['old']);
  });

  test('is not hindered by what a process with the same id left behind, and leaves it', async () => {
    const folder = emptyFolder();
    const stale = `.new.${process.pid}.tmp`;
    writeFileSync(join(folder, stale), 'stale');
    await write(join(folder, 'new'));
    expect(readdirSync(folder).sort()).toEqual([stale, 'new']);
  });

  test('may have the longest name that there is', async () => {
    const path = join(emptyFolder(), 'x'.repeat(255));
    await write(path);
    expect(readFileSync(path, 'utf8')).toBe('new');
  });

  test.each(['', '/', '/new/'])('is no directory: FOLDER%s', async (end) => {
    const folder = emptyFolder();
    const refusal = new UsageError(`--out: expected a file, got the directory ${folder}${end}`);
    await expect(OutputFile.open('--out', `${folder}${end}`)).rejects.toThrow(refusal);
  });

  test('has a name', async () => {
    await expect(OutputFile.open('--out', '')).rejects.toThrow("--out: expected a file, got ''");
  });

  test.each(['600', '666', '755', '640'])('keeps the permissions %s, whatever the umask', async (octal) => {
    const mode = Number.parseInt(octal, 8);
    const path = join(emptyFolder(), 'old');
    writeFileSync(path, 'old');
    chmodSync(path, mode);
    const umask = process.umask(0o077);
    try {
      await write(path);
      await write(`${path}-not`);
    } finally {
      process.umask(umask);
    }
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(permissions(path)).toBe(mode);
    expect(permissions(`${path}-not`)).toBe(0o600);
  });

  test.skipIf(process.getuid?.() === 0)('that may not be written is refused beforehand', async () => {
    const path = join(emptyFolder(), 'read-only');
    writeFileSync(path, 'old', { mode: 0o444 });
    await expect(OutputFile.open('--out', path)).rejects.toThrow('--out: expected a path that can be written');
  });

  test.each(['there', 'not there yet'])('behind symbolic links, whose target is %s', async (state) => {
    const folder = emptyFolder();
    mkdirSync(join(folder, 'data'));
    symlinkSync('data/second', join(folder, 'first'));
    symlinkSync('target', join(folder, 'data/second'));
    if (state === 'there') writeFileSync(join(folder, 'data/target'), 'old');
    await write(join(folder, 'first'));
    expect(readFileSync(join(folder, 'data/target'), 'utf8')).toBe('new');
    expect(lstatSync(join(folder, 'first')).isSymbolicLink()).toBe(true);
    expect(readlinkSync(join(folder, 'data/second'))).toBe('target');
    expect(readdirSync(join(folder, 'data')).sort()).toEqual(['second', 'target']);
  });

  test('behind links that go in circles is refused', async () => {
    const path = join(emptyFolder(), 'circle');
    symlinkSync('circle', path);
    await expect(OutputFile.open('--out', path)).rejects.toThrow('--out: expected a path that can be written');
  });
});

/** In a shell, in an empty folder that is to stay so; `$0` is the command. */
function shell(script: string) {
  const folder = emptyFolder();
  const { RLVR_BACKEND: _, ...env } = process.env;
  const command = script.replaceAll('$0', `'${process.execPath}' '${main}'`).replaceAll('EXAMPLE', `'${example}'`);
  const { status, stdout, stderr } = spawnSync('bash', ['-c', `set -o pipefail; ${command}`], {
    cwd: folder,
    env,
    encoding: 'utf8',
  });
  expect(readdirSync(folder)).toEqual([]);
  return { status, stdout, stderr };
}

describe('- is standard output, in place of tables', () => {
  test('loss --out', () => {
    const { status, stdout, stderr } = shell('$0 loss EXAMPLE --out -');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(320);
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty('grad_logprobs');
  });

  test('demo --svg and --save-rollouts', () => {
    expect(shell('$0 demo --loss grpo --steps 1 --svg -').stdout).toMatch(/^<svg .*<\/svg>\n$/s);
    const { stdout } = shell('$0 demo --loss grpo --steps 1 --save-rollouts -');
    for (const line of stdout.trimEnd().split('\n')) expect(JSON.parse(line)).toHaveProperty('old_logprobs');
  });

  test.each([
    { args: 'loss EXAMPLE --json --out -', message: '--out: expected a file, got -, where --json writes' },
    { args: 'demo --svg - --save-rollouts -', message: '--save-rollouts: expected a file, got -, where --svg writes' },
    { args: 'demo --svg - --json', message: '--svg: expected a file, got -, where --json writes' },
    { args: 'bench --json - --html -', message: '--html: expected a file, got -, where --json writes' },
  ])('for one of them only: $args', ({ args, message }) => {
    expect(shell(`$0 ${args}`)).toEqual({ status: 2, stdout: '', stderr: `error: ${message}\n` });
  });

  test.each(['loss', 'demo', 'bench'])('%s --help says so', async (name) => {
    expect((await runCli([name, '--help'])).stdout).toMatch(/- for\s+standard\s+output/);
  });
});

describe.runIf(existsSync('/dev/full'))('a full device', () => {
  const noSpace = 'could not be written (ENOSPC: no space left on device, write)';
  test.each(['--out /dev/full', '--json > /dev/full', '--out - > /dev/full'])('loss %s', (output) => {
    const what = output.startsWith('--out /') ? '--out: /dev/full' : 'standard output';
    expect(shell(`$0 loss EXAMPLE ${output}`)).toEqual({
      status: 1,
      stdout: '',
      stderr: `error: ${what} ${noSpace}\n`,
    });
  });

  test('through a link', () => {
    const link = join(parent, 'full');
    symlinkSync('/dev/full', link);
    const { status, stderr } = shell(`$0 loss EXAMPLE --out '${link}'`);
    expect({ status, stderr }).toEqual({ status: 1, stderr: `error: --out: ${link} ${noSpace}\n` });
    expect(readdirSync(dirname(link))).toContain(basename(link));
  });
});

test.each(['loss EXAMPLE', 'loss EXAMPLE --json', 'loss EXAMPLE --out -', 'loss EXAMPLE --out /dev/stdout', 'info'])(
  'a reader that goes away ends it quietly: %s',
  (args) => {
    // What comes is more than the pipe holds only with --out; `true` reads nothing at all.
    expect(shell(`$0 ${args} | true`)).toEqual({ status: 0, stdout: '', stderr: '' });
  },
);

test('so does one behind a named pipe', () => {
  const { status, stdout, stderr } = shell('$0 loss EXAMPLE --json --out >(head -c 9 >/dev/null)');
  expect({ status, stderr, lines: stdout.split('\n').length }).toEqual({ status: 0, stderr: '', lines: 2 });
});
