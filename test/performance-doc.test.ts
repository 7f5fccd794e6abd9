// docs/performance.md is what its results file gives, and the generator says only what the figures do.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { performanceDocument } from '../bench/report/performance.js';
import { budget, clock, GPUS, reach } from '../bench/report/predicted.js';
import type { BenchReport, Row } from '../bench/report/report.js';
import { checkSassResult, type SassResult } from '../bench/report/sass-result.js';
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

const counts: SassResult = {
  measurement: 'rlvr-kernels check:sass',
  date: '2026-11-29T13:00:00.000Z',
  git: { commit: '0123456789abcdef', dirty: true },
  nvcc: '13.0.88',
  rows: [80, 90, 100, 120].flatMap((architecture) =>
    (['forward', 'backward'] as const).map((pass) => ({
      ...{ pass, dtype: 'bf16', architecture, registers: 94, shared: 192, threads: 256, residentBlocks: 2 },
      ...{ instructions: 818, elements: 32, loadBytes: 64, limit: 9 },
    })),
  ),
};

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

  test('asks for the section on GPUs as soon as there are counts, and again when they change', () => {
    const root = checkout(result);
    writeDocument(root, undefined);
    const path = join(root, 'bench/results/sass.json');
    for (const nvcc of ['13.0.88', '13.1.2']) {
      writeFileSync(path, JSON.stringify({ ...counts, nvcc }));
      expect(problemWithDocument(root)).toMatch(/is not what .*sass\.json give/);
      writeDocument(root, undefined);
      expect(problemWithDocument(root)).toBeUndefined();
    }
    writeFileSync(path, JSON.stringify({ ...counts, rows: [{ ...counts.rows[0], elements: 0 }] }));
    expect(() => problemWithDocument(root)).toThrow('rows.0.elements');
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

describe('the section on GPUs', () => {
  const [h100, h200, b200, rtx5090] = GPUS;

  test('is there only with counts, and says that it is predicted', () => {
    expect(document).not.toContain('GPU');
    const text = performanceDocument(report, file, { result: counts, file: 'bench/results/sass.json' });
    const section = text.slice(document.length);
    expect(text.startsWith(document.trimEnd())).toBe(true);
    expect(section).toContain('## GPUs: predicted, not measured');
    expect(section).toContain('kernels (commit 0123456789ab, changed) with nvcc 13.0.88');
    // Each count, each GPU, and each count on the GPUs of its architecture, of which sm_80 has none here.
    expect(tableRows(section)).toHaveLength(8 + 4 + 2 * 4);
    expect(section).toContain('| sm\\_90 | forward bf16 | 25.56 | 9 | 94 | 192 | 256 | 2 | 32 |');
    expect(section).toContain('| H200 SXM | forward bf16 | 14.0 | 25.56 | 55 % | 35 % |');
    expect(section).toContain('| H200 SXM | backward bf16 | 27.9 | 25.56 | 100 % | 71 % |');
  });

  test('takes the clock from the peak of float32: 2 flops of 128 lanes in each SM', () => {
    // The boost clocks that NVIDIA names: 1.98 GHz for H100, 2.41 GHz for RTX 5090.
    expect([h100, h200, b200, rtx5090].map((gpu) => clock(gpu).toFixed(2))).toEqual(['1.98', '1.98', '1.98', '2.41']);
  });

  test('has time for what lanes issue in the time of an element', () => {
    const lanes = 67e3 / 2; // 10⁹ a second, at a fused multiply-add each
    expect(budget(h200, { pass: 'forward', dtype: 'bf16' })).toBeCloseTo(lanes / (4800 / 2), 2);
    expect(budget(h200, { pass: 'forward with entropy', dtype: 'f32' })).toBeCloseTo(lanes / (4800 / 4), 2);
    expect(budget(h200, { pass: 'backward', dtype: 'f16' })).toBeCloseTo(lanes / (4800 / 4), 2);
    expect(budget(h100, { pass: 'backward', dtype: 'f32' })).toBeCloseTo(lanes / (3350 / 8), 2);
  });

  test('reaches no more than the speed of the memory', () => {
    const row = { ...counts.rows[0], instructions: 9 * 32 };
    expect(reach(h200, row, 1)).toBe(1);
    expect(reach(h200, row, 0.5)).toBeCloseTo(13.96 / 18, 3);
  });

  test('is made from a result of that form only', () => {
    expect(checkSassResult(counts)).toEqual(counts);
    expect(() => checkSassResult({ ...counts, measurement: 'other' })).toThrow('measurement: ');
    expect(() => checkSassResult(null)).toThrow('the file: ');
  });
});
