// The tests of every op and loss on a real GPU, and a record of what passed there: bench/results/verify-<device>.json.
// Exits with 1 where there is no device, on the emulation, and when anything fails.
//
//   npm run verify:cuda -- [--json FILE] [--skip-large] [--allow-emulated] [test files]
//   npm run verify:cuda -- --sanitizer [--json FILE] [--allow-emulated]
//
// With --sanitizer not the tests run but compute-sanitizer's memcheck, racecheck and initcheck, on every op and loss on small
// shapes, and the record is bench/results/sanitizers-<device>.json.
//
// Builds nothing: needs the addon, and runs from dist/ (`npm run build:ts`). --skip-large leaves out the test with 2^31
// logits, which takes 4.3 GB of memory on either side. --allow-emulated runs on the emulation, and never writes a file.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import {
  commitOfRun,
  type DeviceDescription,
  describeDevice,
  deviceLine,
  deviceSlug,
  RESULTS,
} from '../../bench/cuda/machine.js';
import { describePackage } from '../../bench/machine.js';
import { packageRoot } from '../../lib/package-root.js';
import { runSanitizers } from './sanitizers.js';

/** What vitest says of a file. */
interface FileReport {
  readonly status: string;
  readonly message?: string;
  readonly name: string;
  readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
}

interface FileCount {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly string[];
}

const root = packageRoot();
const OPS = ['token-log-probs', 'sequence-log-probs', 'ratio-scores', 'group-info-nce', 'advantage-objective'];
const LOSSES = ['conspo', 'grpo', 'policy-losses', 'disco', 'define-loss', 'custom-objective', 'policy-extensions'];
const MORE = ['token-weights', 'group-order', 'metrics', 'known-failures', 'partial-batches'];
const DEVICE = ['cuda-backend', 'device-tensor', 'boundary/determinism', 'boundary/device-garbage'];
const LARGE = 'degenerate-large';
const BACKENDS = 'reference,cpu,cuda';

/** The files named above, and all others about devices. */
function allFiles(large: boolean): string[] {
  const others = ['', 'boundary/'].flatMap((folder) => {
    const names = readdirSync(join(root, 'test', folder)).filter((name) => /^device-.*\.test\.ts$/.test(name));
    return names.map((name) => folder + name.replace(/\.test\.ts$/, ''));
  });
  const names = new Set([...OPS, ...LOSSES, ...MORE, ...DEVICE, ...others, ...(large ? [LARGE] : [])]);
  return [...names].map((name) => `test/${name}.test.ts`);
}

/** What vitest says of the files; nothing where it did not come that far. */
function runVitest(files: readonly string[]): { reports: FileReport[]; ok: boolean } {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-verify-'));
  const report = join(folder, 'report.json');
  // Without the *-simd projects, which run the cpu backend once more.
  const projects = ['--project', 'default', '--project', 'alone'];
  try {
    const { error, status } = spawnSync(
      process.execPath,
      ['node_modules/vitest/vitest.mjs', 'run', ...projects, ...files],
      {
        cwd: root,
        stdio: 'inherit',
        env: { ...process.env, REQUIRE_BACKENDS: BACKENDS, RLVR_TEST_REPORT: report },
      },
    );
    if (error) throw error;
    const reports = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')).testResults : [];
    return { reports, ok: status === 0 };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function countFile(file: string, reports: readonly FileReport[]): FileCount {
  const of = reports.filter(({ name }) => relative(root, name).replaceAll('\\', '/') === file);
  const tests = of.flatMap(({ assertionResults }) => assertionResults);
  const failures = tests.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName);
  // A file that breaks before its first test has no failed test, and one that vitest did not find has none at all.
  const broken = of.length === 0 ? ['it did not run'] : failures.length > 0 ? [] : brokenReasons(of);
  return {
    file,
    passed: tests.filter(({ status }) => status === 'passed').length,
    failed: failures.length + broken.length,
    skipped: tests.filter(({ status }) => status !== 'passed' && status !== 'failed').length,
    failures: [...failures, ...broken],
  };
}

function brokenReasons(reports: readonly FileReport[]): string[] {
  const broken = reports.filter(({ status }) => status === 'failed');
  return broken.map(({ message }) => message?.split('\n')[0] || 'it broke outside of its tests');
}

/** What was verified, where and when. */
function origin(device: Omit<DeviceDescription, 'emulated'>) {
  return {
    date: new Date().toISOString(),
    device,
    node: process.version,
    package: describePackage(),
    git: commitOfRun(),
  };
}

function record({ emulated: _, ...device }: DeviceDescription, files: readonly FileCount[]) {
  const total = (key: 'passed' | 'failed' | 'skipped') => files.reduce((sum, file) => sum + file[key], 0);
  return {
    verification: 'cuda',
    ...origin(device),
    backends: BACKENDS,
    passed: total('passed'),
    failed: total('failed'),
    skipped: total('skipped'),
    files,
  };
}

function readOptions(args: string[]) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      json: { type: 'string' },
      sanitizer: { type: 'boolean', default: false },
      'skip-large': { type: 'boolean', default: false },
      'allow-emulated': { type: 'boolean', default: false },
    },
  });
  const { sanitizer, json } = values;
  if (sanitizer && positionals.length > 0) throw new Error('--sanitizer: expected no test files, which do not run');
  const files = positionals.length > 0 ? positionals : allFiles(!values['skip-large']);
  return { files, json, sanitizer, allowEmulated: values['allow-emulated'] };
}

/** The device to verify. */
function realDevice(allowEmulated: boolean): DeviceDescription {
  const device = describeDevice();
  if ('reason' in device) throw new Error(`no CUDA device: ${device.reason}`);
  if (device.emulated && !allowEmulated) throw new Error('this device is the emulation, which verifies no GPU');
  console.log(deviceLine(device));
  return device;
}

/** Whether no sanitizer found anything. */
function sanitize({ json, allowEmulated }: ReturnType<typeof readOptions>): boolean {
  const { emulated, ...device } = realDevice(allowEmulated);
  const command = [process.execPath, 'dist/cli/main.js', 'verify', '--backend', 'cuda', '--no-nccl'];
  const sanitizers = runSanitizers(command, root);
  for (const { tool, clean, summary } of sanitizers) console.log(`${clean ? 'pass' : 'FAIL'}  ${tool}: ${summary}`);
  write(
    { verification: 'cuda sanitizers', ...origin(device), sanitizers },
    json ?? resultFile('sanitizers', device),
    emulated,
  );
  return sanitizers.every(({ clean }) => clean);
}

const resultFile = (kind: string, { name }: Pick<DeviceDescription, 'name'>) =>
  join(RESULTS, `${kind}-${deviceSlug(name)}.json`);

function write(result: object, path: string, emulated: boolean): void {
  if (emulated) {
    console.log('the emulation: nothing is written');
    return;
  }
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  console.log(path);
}

/** Whether all is well. */
function verify({ files, json, allowEmulated }: ReturnType<typeof readOptions>): boolean {
  const device = realDevice(allowEmulated);
  const { reports, ok } = runVitest(files);
  const counts = files.map((file) => countFile(file, reports));
  if (!ok && counts.every(({ failed }) => failed === 0)) {
    counts.push({ file: 'vitest', passed: 0, failed: 1, skipped: 0, failures: ['it failed outside of the tests'] });
  }
  const result = record(device, counts);
  for (const { file, passed, failed, skipped, failures } of result.files) {
    console.log(`${failed > 0 ? 'FAIL' : 'pass'}  ${file}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
    for (const failure of failures) console.log(`        ${failure}`);
  }
  write(result, json ?? resultFile('verify', device), device.emulated);
  console.log(`${result.passed} passed, ${result.failed} failed, ${result.skipped} skipped`);
  return result.failed === 0 && result.passed > 0;
}

try {
  const options = readOptions(process.argv.slice(2));
  if (!(options.sanitizer ? sanitize(options) : verify(options))) process.exitCode = 1;
} catch (error) {
  console.error(`verify-cuda: ${(error as Error).message}`);
  process.exitCode = 1;
}
