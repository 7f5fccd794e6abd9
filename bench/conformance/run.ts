// Runs the comparisons: each in a Python process of its own, which calls this package through the server.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../lib/package-root.js';
import { fromTrl } from '../../lib/translations/from-trl.js';
import { describeCommit, describePackage } from '../machine.js';
import { encodeFrame } from './frames.js';
import { type LigerTest, ligerOutcomes, ligerRows } from './liger.js';
import type { AccuracyRow, ConformanceResult, ConformanceRow, LigerResult } from './result.js';
import { callText, settingText } from './text.js';
import { TRL_SETTINGS, type TrlSetting } from './trl-settings.js';
import { VERL_SETTINGS } from './verl-settings.js';

const SERVER = [process.execPath, fileURLToPath(new URL('server.js', import.meta.url))];

/** What to compare with. */
export interface Wanted {
  python: string;
  /** TRL as that Python has it. */
  trl: boolean;
  /** The folder of verl's sources. */
  verl?: string | undefined;
  /** The folder of Liger-Kernel's sources, with its tests. */
  liger?: string | undefined;
  /** Also those of Liger's tests that take hours. */
  ligerAll: boolean;
  /** The result so far: what is not wanted stays as it is there. */
  before?: ConformanceResult | undefined;
  /** Told of every row. */
  progress: (text: string) => void;
  signal: AbortSignal;
}

type Versions = Record<string, string>;

/** The lines that a script answers a job with: versions first. The script is killed when the signal says so. */
async function* answers(script: string, job: object, { python, signal }: Wanted): AsyncGenerator<unknown> {
  const path = join(packageRoot(), 'bench', 'conformance', script);
  const child = spawn(python, ['-u', path], { stdio: ['pipe', 'pipe', 'inherit'], signal });
  const ended = new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code) => resolve(code === 0 ? undefined : `it ended with ${code}`));
  });
  child.stdin.on('error', () => {}); // the process has ended, and says how
  child.stdin.end(encodeFrame({ server: SERVER, ...job }));
  for await (const line of createInterface({ input: child.stdout })) yield JSON.parse(line);
  const problem = await ended;
  if (problem !== undefined) throw new Error(`${python} ${script}: ${problem}`);
}

type Differences = Pick<ConformanceRow, 'loss' | 'gradient' | 'advantages' | 'refused'>;

/** How far ours is from theirs in every setting, in order. */
async function differences(
  script: string,
  job: { settings: readonly object[]; verl?: string | undefined },
  wanted: Wanted,
  versions: Versions,
): Promise<Differences[]> {
  const lines = answers(script, job, wanted);
  Object.assign(versions, (await lines.next()).value);
  const found: Differences[] = [];
  for await (const line of lines) {
    found.push(line as Differences);
    wanted.progress(`${script}: ${found.length} of ${job.settings.length}`);
  }
  return found;
}

async function trlRows(wanted: Wanted, versions: Versions): Promise<ConformanceRow[]> {
  const settings = TRL_SETTINGS.map((setting) => ({
    ...{ onPolicy: false, ownAdvantages: false, unscored: false },
    ...setting,
    call: fromTrl(setting.config),
  }));
  const found = await differences('trl_loss.py', { settings }, wanted, versions);
  return settings.map((setting, i) => ({
    ...{ trainer: 'TRL' as const, part: setting.part },
    ...{ setting: settingText(setting.config) + remark(setting), call: callText(setting.call) },
    ...found[i],
    without: [...setting.call.without],
  }));
}

async function verlRows(wanted: Wanted, versions: Versions): Promise<ConformanceRow[]> {
  const settings = VERL_SETTINGS.map((setting) => ({
    ...{ perTokenAdvantages: false, emptySequence: false, farReference: false },
    ...setting,
  }));
  const found = await differences('verl_loss.py', { verl: wanted.verl, settings }, wanted, versions);
  return settings.map(({ part, config, call }, i) => ({
    ...{ trainer: 'verl' as const, part, setting: settingText(config), call: callText(call) },
    ...found[i],
    ...(call.nearly !== undefined && { nearly: call.nearly }),
    without: [...call.without],
  }));
}

const remark = ({ unscored }: TrlSetting) => (unscored ? ', a token without a sampling log-prob' : '');

async function accuracyRows(wanted: Wanted, versions: Versions): Promise<AccuracyRow[]> {
  const lines = answers('accuracy.py', { trl: wanted.trl, verl: wanted.verl ?? null }, wanted);
  Object.assign(versions, (await lines.next()).value);
  const rows: AccuracyRow[] = [];
  for await (const line of lines) {
    rows.push(line as AccuracyRow);
    wanted.progress(`accuracy.py: ${rows.length}`);
  }
  return rows;
}

async function ligerResult(wanted: Wanted): Promise<LigerResult> {
  const about = aboutRun();
  const lines = answers('liger_tests.py', { liger: wanted.liger, every: wanted.ligerAll }, wanted);
  Object.assign(about.versions, (await lines.next()).value);
  const found = (await lines.next()).value as { tests: number } | undefined; // none where it ends with an error, thrown here
  const tests: LigerTest[] = [];
  for await (const line of lines) {
    tests.push(line as LigerTest);
    wanted.progress(`liger_tests.py: ${tests.length} of ${found?.tests}`);
  }
  return { ...about, ...ligerOutcomes(tests), rows: ligerRows(tests) };
}

function aboutRun() {
  const versions: Versions = { 'rlvr-kernels': describePackage().version, Node: process.versions.node };
  return { date: new Date().toISOString(), git: describeCommit(), versions };
}

/** Losses and accuracy. */
async function trainers(wanted: Wanted): Promise<ConformanceResult> {
  const about = aboutRun();
  const rows = wanted.trl ? await trlRows(wanted, about.versions) : [];
  if (wanted.verl !== undefined) rows.push(...(await verlRows(wanted, about.versions)));
  const accuracy = await accuracyRows(wanted, about.versions);
  return { measurement: 'rlvr-kernels conformance', ...about, rows, accuracy };
}

/** Compares with what is wanted; minutes. */
export async function conformance(wanted: Wanted): Promise<ConformanceResult> {
  const nothing = { measurement: 'rlvr-kernels conformance' as const, ...aboutRun(), rows: [], accuracy: [] };
  const result = wanted.trl || wanted.verl !== undefined ? await trainers(wanted) : (wanted.before ?? nothing);
  const liger = wanted.liger === undefined ? wanted.before?.liger : await ligerResult(wanted);
  return { ...result, ...(liger && { liger }) };
}
