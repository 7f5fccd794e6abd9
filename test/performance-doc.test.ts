// docs/performance.md is what its results file gives, and the generator says only what the figures do.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { performanceDocument } from '../bench/report/performance.js';
import type { BenchReport, Row } from '../bench/report/report.js';
import { problemWithDocument, writeDocument } from '../cli/dev/write-performance.js';
import { benchReport, hostile } from './support/bench-report.js';

const file = 'bench/results/fixture.json';
const report = benchReport();
const document = performanceDocument(report, file);
const parts = Object.fromEntries(document.split(/^## /m).map((part) => [part.split('\n', 1)[0], part]));
/** The lines of a part that are rows of tables, less their headers and rules. */
const tableRows = (part: string) =>
  part
    .split('\n')
    .filter((line, i, lines) => line.startsWith('|') && !line.startsWith('|---') && !lines[i + 1]?.startsWith('|---'));

test('the committed document is what the results file that it names gives', () => {
  expect(problemWithDocument(fileURLToPath(new URL('..', import.meta.url)))).toBeUndefined();
});

describe('the check of the committed document', () => {
  const folders: string[] = [];
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  function checkout(files: Record<string, string>): string {
    const root = mkdtempSync(join(tmpdir(), 'rlvr-performance-'));
    folders.push(root);
    for (const folder of ['docs', 'bench/results']) mkdirSync(join(root, folder), { recursive: true });
    for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
    return root;
  }
  const result = { [file]: JSON.stringify(report) };

  test('asks for a document as soon as there is a report', () => {
    const older = { 'bench/results/older.json': '{"benchmark":"token-log-probs"}' };
    expect(problemWithDocument(checkout(older))).toBeUndefined();
    expect(problemWithDocument(checkout({ ...older, ...result }))).toMatch(/missing.*fixture\.json/);
  });

  test('finds an edited document, and one whose file changed or is gone', () => {
    const root = checkout(result);
    expect(writeDocument(root, undefined)).toContain(file);
    expect(problemWithDocument(root)).toBeUndefined();
    const path = join(root, 'docs/performance.md');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.replace('2.43', '2.44'));
    expect(problemWithDocument(root)).toMatch(/is not what/);
    writeFileSync(path, text);
    writeFileSync(join(root, file), JSON.stringify({ ...report, node: 'v22.0.0' }));
    expect(problemWithDocument(root)).toMatch(/is not what/);
    rmSync(join(root, file));
    expect(problemWithDocument(root)).toMatch(/names no result file/);
  });

  test('writes from no file of another form, and asks where there are two', () => {
    const root = checkout({ ...result, 'bench/results/second.json': result[file], 'bench/results/older.json': '{}' });
    expect(() => writeDocument(root, 'bench/results/older.json')).toThrow('is not a result');
    expect(() => writeDocument(root, undefined)).toThrow('fixture.json, bench/results/second.json');
  });
});

describe('the document', () => {
  test('says where it comes from, and on which machine', () => {
    expect(document.split('\n', 1)[0]).toBe(
      `<!-- Generated from ${file} by cli/dev/write-performance.ts (npm run docs:performance). Do not edit. -->`,
    );
    expect(parts.Machine).toContain('AMD EPYC, 2 cores, 32 MiB last-level cache');
    expect(parts.Machine).toContain('1c868d1c7852, with changes that are not in it');
    expect(parts.Method).toContain('onnxruntime-node 1.30.0, PyTorch 2.13.0+cpu');
  });

  test('has every row and every comparison, and of a sweep the slowest shapes', () => {
    const [results, sweep] = parts.Results.split('### Sweep over shapes\n');
    const kept = (all: readonly { section: string }[]) => all.filter(({ section }) => section !== 'sweep');
    expect(tableRows(results)).toHaveLength(kept(report.rows).length);
    expect(tableRows(parts.Comparisons)).toHaveLength(kept(report.comparisons).length);
    const counts = /(\d+) measured, (\d+) slower than the reference backend beyond chance/.exec(sweep)?.slice(1);
    expect(counts).toEqual([`${report.comparisons.length - kept(report.comparisons).length}`, '1']);
    expect(tableRows(sweep)[0]).toBe('| forward f32, cpu against reference | T=1, V=1 | 0.803 × | 0.723 – 0.964 |');
    expect(parts.Comparisons).toContain('| forward f32, against onnxruntime-node | T=512, V=32000 | 2.43 × |  |');
  });

  test('escapes names', () => {
    for (const text of [hostile.peer, hostile.reason]) expect(document.includes(text), text).toBe(false);
    expect(document).not.toMatch(/<(?!!-- Generated)/);
    for (const row of tableRows(parts.Comparisons)) expect(row.match(/(?<!\\)\|/g), row).toHaveLength(5);
  });

  test('calls a row compute-bound only where half the bytes took the time of all', () => {
    const limits = parts['What the limit is'];
    expect(limits).toMatch(/^36 of the 51 rows .* 70 % .*lowest is at 42 %, the highest at 130 %/m);
    const rows = tableRows(limits);
    expect(rows.filter((row) => row.includes('mostly arithmetic'))).toHaveLength(10);
    expect(rows).toContain(
      '| T=512, V=32000 | forward, cpu bf16 | 48 % | mostly arithmetic: bf16 has 1.07 × the rows/s of f32 |',
    );
    expect(rows).toContain(
      '| T=512, V=32000 | forward with entropy, cpu f16 | 60 % | mostly the bytes: f16 has 1.52 × the rows/s of f32 |',
    );
  });

  test('claims nothing where there is nothing to compare', () => {
    const only = (keep: (row: Row) => boolean): BenchReport => ({ ...report, rows: report.rows.filter(keep) });
    const narrow = performanceDocument(
      only(({ dtype }) => dtype === 'bf16'),
      file,
    );
    expect(narrow).toContain('nothing to compare with in this run');
    expect(narrow).not.toContain('compute-bound');
    expect(
      performanceDocument(
        only(({ section }) => section === 'scores'),
        file,
      ),
    ).toContain('No row of this run is compared');
  });
});
