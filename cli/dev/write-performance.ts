// `npm run docs:performance`: docs/performance.md from a result of `rlvr-kernels bench --json`, with a section on GPUs where
// bench/results/sass.json is (`npm run check:sass -- --json`).
//
//   npm run docs:performance -- [bench/results/NAME.json]   by default the file that the document names, or the only one
//   npm run docs:performance -- --check                     fails unless the document is what the file it names gives
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Counts, performanceDocument } from '../../bench/report/performance.js';
import { checkReport, claimsToBeReport } from '../../bench/report/read-report.js';
import type { BenchReport } from '../../bench/report/report.js';
import { checkSassResult } from '../../bench/report/sass-result.js';
import { packageRoot } from '../../lib/package-root.js';

const DOCUMENT = 'docs/performance.md';
const RESULTS = 'bench/results';
const COUNTS = `${RESULTS}/sass.json`;

/** Undefined for a file of another form. */
function readReport(path: string): BenchReport | undefined {
  const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
  return claimsToBeReport(value) ? checkReport(value) : undefined;
}

function readCounts(root: string): Counts | undefined {
  const path = join(root, COUNTS);
  if (!existsSync(path)) return undefined;
  return { result: checkSassResult(JSON.parse(readFileSync(path, 'utf8'))), file: COUNTS };
}

/** The result files of the form that the document is made from. */
function reportFiles(root: string): string[] {
  const folder = join(root, RESULTS);
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : [];
  return files.filter((name) => readReport(join(folder, name)) !== undefined).map((name) => `${RESULTS}/${name}`);
}

/** The file that the document names. */
function namedFile(root: string): string | undefined {
  const path = join(root, DOCUMENT);
  return existsSync(path) ? /^<!-- Generated from (\S+) by/.exec(readFileSync(path, 'utf8'))?.[1] : undefined;
}

/** Why the committed document is not what it claims to be; undefined if all is well. */
export function problemWithDocument(root: string): string | undefined {
  const again = 'npm run docs:performance';
  const path = join(root, DOCUMENT);
  if (!existsSync(path)) {
    const [file] = reportFiles(root);
    return file && `${DOCUMENT} is missing, and there is ${file}: ${again} -- ${file}`;
  }
  const file = namedFile(root);
  const report = file !== undefined && existsSync(join(root, file)) ? readReport(join(root, file)) : undefined;
  if (file === undefined || report === undefined)
    return `${DOCUMENT} names no result file that is there: ${again} -- FILE`;
  const same = readFileSync(path, 'utf8') === performanceDocument(report, file, readCounts(root));
  return same ? undefined : `${DOCUMENT} is not what ${file} and ${COUNTS} give: ${again}`;
}

/** Says what was written from what. */
export function writeDocument(root: string, asked: string | undefined): string {
  const files = reportFiles(root);
  const file = asked?.replace(/^\.\//, '') ?? namedFile(root) ?? (files.length === 1 ? files[0] : undefined);
  if (file === undefined)
    throw new Error(`name the result file to write from; there are: ${files.join(', ') || 'none'}`);
  const report = readReport(join(root, file));
  if (report === undefined) throw new Error(`${file} is not a result of \`rlvr-kernels bench --json\``);
  writeFileSync(join(root, DOCUMENT), performanceDocument(report, file, readCounts(root)));
  return `${DOCUMENT} from ${file}`;
}

function main(): void {
  const root = packageRoot();
  const [argument] = process.argv.slice(2);
  if (argument === '--check') {
    const problem = problemWithDocument(root);
    if (problem !== undefined) throw new Error(problem);
  } else {
    console.log(writeDocument(root, argument));
  }
}

// A test imports what is above.
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
