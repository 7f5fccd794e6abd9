// `bench ranks`: a table of the first rank, from every mpirun that there is.
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { isPresent, LAUNCHERS, mpirun, REQUIRED } from '../support/mpirun.js';
import { runCli } from './run-cli.js';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SMALL = ['--tokens', '64', '--vocab', '100', '--dtype', 'f32,bf16', '--repeats', '2', '--warmup', '0'];

describe.each(LAUNCHERS)('bench ranks under $name', (launcher) => {
  it.skipIf(!isPresent(launcher) && !REQUIRED)('prints a row for each loss and way, once', async () => {
    const { code, output } = await mpirun(launcher, 2, main, 'bench', 'ranks', ...SMALL);
    expect(code, output).toBe(0);
    expect(output).toMatch(/^2 ranks over .*\n64 tokens a rank, vocabulary 100\n/);
    const rows = output.split('\n').filter((line) => /^(conspo|grpo) /.test(line));
    expect(rows.map((row) => row.split(/\s{2,}/).slice(0, 4))).toEqual(
      ['conspo', 'grpo'].flatMap((loss) => [
        [loss, 'log-probs', 'sequences', '128'],
        ...['f32 logits', 'bf16 logits'].flatMap((from) => [
          [loss, from, 'sequences', '128'],
          [loss, from, 'tokens', '128'],
          [loss, from, 'columns', '64'],
        ]),
      ]),
    );
    for (const row of rows) {
      const [exchanges, bytes] = row
        .split(/\s{2,}/)
        .slice(-2)
        .map(Number);
      expect(exchanges).toBeLessThanOrEqual(3);
      expect(bytes).toBeLessThanOrEqual(40);
    }
  });
});

describe('usage of bench ranks', () => {
  it.each([
    [['bench', 'ranks', 'token'], 'Expected no sections beside ranks'],
    [['bench', 'ranks', '--quiet'], 'got --quiet'],
  ])('%s', async (args, message) => {
    const { status, stderr } = await runCli(args);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});
