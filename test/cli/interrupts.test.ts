// Ctrl-C ends verify and bench where they are: in a loop that leaves the event loop no turn, in a call that nothing aborts.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { startProgress } from '../../bench/progress.js';
import { addBenchCommand } from '../../cli/bench/command.js';
import { Interrupted } from '../../cli/errors.js';
import { backends } from '../../lib/index.js';
import { outcomeOf, startCli, temporaryFolder } from './run-cli.js';

const cpu = backends().some(({ name, available }) => name === 'cpu' && available);
const ONCE = '--dtype f32 --repeats 1 --warmup 0'.split(' ');

describe.runIf(cpu)('in a loop without an end', () => {
  const folder = temporaryFolder();
  const real = process.env.RLVR_ADDON ?? new URL('../../build/Release/rlvr_kernels.node', import.meta.url).pathname;
  const endless = join(folder, 'endless.cjs');
  writeFileSync(
    endless,
    `module.exports = { ...require(${JSON.stringify(real)}), tokenLogProbsForward() {
      require('node:fs').writeSync(2, '<in it>');
      for (;;);
    } };`,
  );

  const large = ['--tokens', '16', '--vocab', '32768'];
  test.each([
    { args: ['verify', '--backend', 'cpu', '--json'] },
    { args: ['bench', 'token', ...large, ...ONCE, '--backend', 'cpu', '--json', join(folder, 'out.json')] },
  ])('$args.0: 130, and nothing written', async ({ args }) => {
    const child = startCli(args, { RLVR_ADDON: endless });
    onTestFinished(() => void child.kill('SIGKILL')); // or it would go on for good
    child.stderr?.on('data', (text) => {
      if (String(text).includes('<in it>')) child.kill('SIGINT');
    });
    const { status, stdout, stderr } = await outcomeOf(child);
    expect({ status, stdout }).toEqual({ status: 130, stdout: '' });
    expect(stderr).toMatch(/<in it>interrupted by SIGINT\n$/);
    expect(readdirSync(folder)).toEqual(['endless.cjs']);
  });
});

test('a peer that does not answer is not waited for', async () => {
  const controller = new AbortController();
  const opened = vi.fn(() => new Promise<never>(() => {}));
  const program = new Command().exitOverride();
  const deaf = { name: 'deaf', sections: ['token'], open: opened } as const;
  addBenchCommand(program, controller.signal, { peers: [deaf], losses: {} });
  const run = program.parseAsync(['bench', 'token', ...ONCE], { from: 'user' });
  await vi.waitFor(() => expect(opened).toHaveBeenCalled());
  controller.abort(new Interrupted('SIGINT'));
  await expect(run).rejects.toThrow('interrupted by SIGINT');
});

describe('a progress bar', () => {
  const { isTTY } = process.stderr;
  afterEach(() => {
    process.stderr.isTTY = isTTY;
    vi.restoreAllMocks();
  });

  test('that is stopped by a signal leaves the terminal as it was', () => {
    process.stderr.isTTY = true;
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const written = () => write.mock.calls.map(([text]) => String(text)).join('');
    const controller = new AbortController();
    const { signal } = controller;
    const progress = startProgress({ total: 10, bar: '{bar} {text}', clearOnComplete: true, lines: 4, signal });
    progress.update(3, 'three');
    expect(written()).toContain('\u{1b}[?7l'); // no line wrapping
    controller.abort();
    const restored = '\u{1b}[?7h\u{1b}8\u{1b}[1G\u{1b}[2K'; // line wrapping, the cursor, an empty line
    expect(written().endsWith(restored)).toBe(true);
    const before = written();
    progress.update(4, 'four');
    progress.stop();
    expect(written()).toBe(before);
  });

  test('is so many lines in a log', () => {
    process.stderr.isTTY = false;
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const { signal } = new AbortController();
    const progress = startProgress({ total: 30, bar: '', clearOnComplete: true, lines: 3, signal });
    for (let done = 0; done <= 30; done++) progress.update(done, String(done));
    expect(write.mock.calls.map(([text]) => text)).toEqual(['10\n', '20\n', '30\n']);
  });
});
