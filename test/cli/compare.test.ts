// An earlier report comes from a file: it is checked before anything runs, and its text does nothing to the terminal.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { groupBy } from '../../bench/report/grouping.js';
import { renderMarkdown } from '../../bench/report/markdown.js';
import { type BenchReport, reportJson } from '../../bench/report/report.js';
import { readReport, renderChanges } from '../../cli/bench/compare.js';
import { UsageError } from '../../cli/errors.js';
import { benchReport } from '../support/bench-report.js';
import { runCli, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();
const report = benchReport();
const json = reportJson(report);
/** A row of each section. */
const sections = groupBy(report.rows, ({ section }) => section);
const small = {
  ...report,
  rows: [...sections.values()].map(([row]) => row),
  comparisons: report.comparisons.slice(0, 2),
};
const read = (text: string) => readReport([text], '--compare', 'old.json');
const refusal = (got: string) =>
  new UsageError(`--compare: expected a file that bench --json wrote, got old.json (${got})`);

/** The report with another value at a path. */
function withValue(path: readonly (string | number)[], value: unknown, of = report): string {
  const copy = JSON.parse(reportJson(of));
  const parent = path.slice(0, -1).reduce((part, key) => part[key], copy);
  parent[path.at(-1)!] = value;
  return JSON.stringify(copy);
}

/** Every place in a JSON value where something can be put in its stead. */
function paths(value: unknown, path: readonly (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [[...path]];
  const keys = Array.isArray(value) ? value.keys() : Object.keys(value);
  const below = [...keys].flatMap((key) => paths((value as Record<string | number, unknown>)[key], [...path, key]));
  return path.length === 0 ? below : [[...path], ...below];
}

describe('a report', () => {
  test('is read with all its fields', async () => {
    expect(await read(json)).toEqual(JSON.parse(json));
  });

  test('may have fields that this version does not know', async () => {
    expect(await read(withValue(['weather'], 'fine'))).toEqual(JSON.parse(json));
  });

  test.each([
    {
      what: 'a number as text',
      path: ['rows', 3, 'milliseconds', 'median'],
      value: '1.5',
      got: 'expected a number, got "1.5"',
    },
    {
      what: 'a field that is missing',
      path: ['rows', 0, 'shape'],
      value: undefined,
      got: 'expected a value, got nothing',
    },
    {
      what: 'rows that are no list',
      path: ['rows'],
      value: {},
      got: 'expected an array, got an object with keys (none)',
    },
    { what: 'a row that is none', path: ['rows', 1], value: null, got: 'expected an object, got null' },
    {
      what: 'an unknown section',
      path: ['comparisons', 2, 'section'],
      value: '\u{1b}[2J',
      got: 'expected "memory" or',
    },
    {
      what: 'half an interval',
      path: ['comparisons', 0, 'interval'],
      value: [1],
      got: 'expected a value, got nothing',
    },
    { what: 'no commit', path: ['git'], value: 'main', got: 'expected an object, got "main"' },
    { what: 'a newer format', path: ['format'], value: 2, got: 'expected 1, got 2' },
    {
      what: 'another benchmark',
      path: ['benchmark'],
      value: 'losses',
      got: 'expected "rlvr-kernels bench", got "losses"',
    },
  ])('with $what is refused by the name of the field', async ({ path, value, got }) => {
    const error = await read(withValue(path, value)).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(UsageError);
    const field = path
      .map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`))
      .join('')
      .slice(1);
    expect((error as UsageError).message).toContain(`got old.json (${field}`);
    expect((error as UsageError).message).toContain(`: ${got}`);
  });

  test('has finite numbers', async () => {
    const infinite = json.replace(/"median":[\d.]+/, '"median":1e999');
    await expect(read(infinite)).rejects.toThrow(
      '(rows[0].milliseconds.median: expected a finite number, got Infinity)',
    );
  });

  test('is JSON, an object, UTF-8, and of a size that a report has', async () => {
    await expect(read('{')).rejects.toThrow('(expected JSON, got text that is not (');
    await expect(read('null')).rejects.toThrow(refusal('expected an object, got null'));
    await expect(read('['.repeat(1e6) + ']'.repeat(1e6))).rejects.toThrow('expected a value, got nothing');
    await expect(readReport([Uint8Array.of(0x22, 0xff, 0x22)], '--compare', 'old.json')).rejects.toThrow(
      refusal('expected UTF-8, got bytes that are not'),
    );
    const endless = function* () {
      for (;;) yield Buffer.alloc(2 ** 20);
    };
    await expect(readReport(endless(), '--compare', 'old.json')).rejects.toThrow(
      refusal('expected at most 16 MiB, got more'),
    );
  });

  test('of which anything is replaced is refused, or compared without a word of control', async () => {
    const text = fc.oneof(fc.string({ unit: 'binary' }), fc.constant('\u{1b}]0;owned\u{7}'));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths(small)), fc.oneof(fc.jsonValue(), text), async (path, value) => {
        const old = await read(withValue(path, value, small)).catch((error: unknown) => error);
        if (old instanceof UsageError) return;
        expect(renderChanges(report, old as BenchReport)).not.toMatch(/(?!\n)\p{C}/u);
      }),
    );
  });
});

describe('changes', () => {
  test('those within the noise of the two runs are marked', () => {
    const [row] = report.rows;
    const timed = (scale: number) => {
      const { median, p10, p90, min, max } = row.milliseconds;
      const milliseconds = {
        ...{ median: median * scale, p10: p10 * scale, p90: p90 * scale },
        ...{ min: min * scale, max: max * scale },
      };
      return { ...report, rows: [{ ...row, milliseconds }] };
    };
    const [same, slower] = [renderChanges(report, timed(1)), renderChanges(report, timed(1000))];
    expect(same).toContain('\n~: within the noise of the two runs\n');
    expect(same).toMatch(/~1\.00 ×/);
    expect(slower).not.toContain('~');
    expect(slower).toMatch(/ 1,000 ×/);
  });
});

describe('bench --compare', () => {
  test('refuses before it runs anything, and leaves no file', async () => {
    const file = join(folder, 'old.json');
    writeFileSync(file, withValue(['rows', 5, 'milliseconds'], undefined));
    const outputs = ['--json', join(folder, 'new.json'), '--html', join(folder, 'new.html')];
    const { status, stdout, stderr } = await runCli(['bench', 'objectives', '--compare', file, ...outputs]);
    expect({ status, stdout, stderr }).toEqual({
      status: 2,
      stdout: '',
      stderr: `error: --compare: expected a file that bench --json wrote, got ${file} (rows[5].milliseconds: expected a value, got nothing)\n`,
    });
    expect(readdirSync(folder)).toEqual(['old.json']);
  });

  test('shows what a file says as text, whatever it says', async () => {
    const evil = '\u{1b}[2J\u{9b}1m\u{202e}';
    const old = { ...report, date: evil, node: evil, git: { commit: evil, dirty: null } };
    const changes = renderChanges(report, await read(reportJson(old)));
    expect(changes).toContain('against \u{fffd}[2J\u{fffd}1m\u{fffd}, commit \u{fffd}[2J');
    expect(changes).toContain('not the same machine or setting: node was \u{fffd}[2J');
    expect(changes).not.toMatch(/(?!\n)\p{C}/u);
  });

  test('an error that quotes a file does not either', async () => {
    const file = join(folder, 'evil.json');
    writeFileSync(file, '{"a": \u{9b}2J}');
    const { status, stderr } = await runCli(['bench', '--compare', file]);
    expect(status).toBe(2);
    expect(stderr).toContain('\u{fffd}2J');
    expect(stderr).not.toMatch(/(?!\n)\p{C}/u);
  });

  test('an error says no more than a screen of what it is about', async () => {
    const file = join(folder, 'long.jsonl');
    writeFileSync(
      file,
      JSON.stringify({ logprobs: [], group: Object.fromEntries(Array.from({ length: 1e4 }, (_, i) => [i, 0])) }),
    );
    const { status, stderr } = await runCli(['loss', file]);
    expect(status).toBe(2);
    expect(stderr.length).toBeLessThan(1100);
  });
});

test('Markdown takes no control characters and no code from a report', () => {
  const evil = '\u{1b}[2J`<b>|';
  const settings = { ...report.settings, command: evil };
  const markdown = renderMarkdown({ ...report, date: evil, settings, package: { name: evil, version: evil } });
  expect(markdown).not.toMatch(/(?!\n)\p{C}/u);
  expect(markdown).toContain("`\u{fffd}[2J'<b>|`: medians");
  expect(markdown).toMatch(/^# \u{fffd}\\\[2J\\`&lt;b>/u);
});
