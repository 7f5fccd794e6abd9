// Runs the sections that were asked for, one experiment after another, and gathers the report.

import { setImmediate as eventLoop } from 'node:timers/promises';
import { backends } from '../lib/index.js';
import { interruptible } from './interruptible.js';
import {
  collectGarbage,
  describeCommit,
  describeMachine,
  describePackage,
  othersBusyNow,
  watchOthers,
} from './machine.js';
import { type AbsentPeer, type OpenPeer, openPeers, type PeerProvider } from './peer.js';
import { startProgress } from './progress.js';
import { type BenchReport, type Comparison, type PeerEntry, type Row, reportFormat } from './report/report.js';
import { rowsOf } from './rows.js';
import type { Experiment, Plan, SectionName } from './sections/experiment.js';
import { threadsOf } from './sections/own.js';
import { experimentsOf } from './sections/sections.js';
import { measure, type RoundWatch } from './timing.js';

/** Above this, other processes are at work, and the figures mean little. */
const BUSY_CORES = 0.2;

export interface BenchSettings extends Plan {
  readonly sections: readonly SectionName[];
  readonly repeats: number;
  readonly warmup: number;
  readonly quiet: boolean;
  /** As the report repeats it. */
  readonly command: string;
  readonly peers: readonly PeerProvider[];
}

/** What one experiment found. */
export interface Finding {
  readonly title: string;
  readonly rows: readonly Row[];
  readonly comparisons: readonly Comparison[];
}

const note = (text: string) => void process.stderr.write(`${text}\n`);

function warnIfBusy(cores: number): void {
  if (cores > BUSY_CORES) note(`warning: other processes keep ${cores} cores busy, so these figures are unreliable`);
}

export async function runBench(
  settings: BenchSettings,
  signal: AbortSignal,
  onFinding: (finding: Finding) => void,
): Promise<BenchReport> {
  const date = new Date().toISOString();
  const { present, absent } = await openPeers(peersOf(settings), threadsOf('cpu') ?? 1);
  try {
    for (const { name, reason } of absent) note(`${name}: not run: ${reason}`);
    const before = await othersBusyNow(signal);
    warnIfBusy(before);
    const load = { during: 0 };
    const rows: Row[] = [];
    const comparisons: Comparison[] = [];
    for (const experiment of plannedExperiments(settings, present)) {
      const finding = await runExperiment(experiment, settings, present, load, signal);
      onFinding(finding);
      rows.push(...finding.rows);
      comparisons.push(...finding.comparisons);
    }
    warnIfBusy(load.during);
    const after = await othersBusyNow(signal);
    return {
      benchmark: 'rlvr-kernels bench',
      format: reportFormat,
      date,
      machine: describeMachine(),
      node: process.version,
      package: describePackage(),
      git: describeCommit(),
      backends: describeBackends(rows),
      load: { before, during: load.during, after },
      settings: {
        command: settings.command,
        repeats: settings.repeats,
        warmup: settings.warmup,
        seed: settings.seed,
        quiet: settings.quiet,
      },
      peers: peerEntries(present, absent),
      rows,
      comparisons,
    };
  } finally {
    for (const peer of present) await peer.close();
  }
}

/** Those with something to do: they run in f32, some in bf16 too. */
function peersOf({ sections, dtypes, peers }: BenchSettings): PeerProvider[] {
  return peers.filter((peer) => dtypes.includes('f32') && peer.sections.some((section) => sections.includes(section)));
}

function plannedExperiments(settings: BenchSettings, peers: readonly OpenPeer[]): Experiment[] {
  const planned = settings.sections.flatMap((section) => {
    const experiments = experimentsOf(section, settings, peers);
    if (Array.isArray(experiments)) return experiments;
    note(`${section}: not run: ${experiments.reason}`);
    return [];
  });
  if (planned.length === 0) throw new Error('none of the sections can run here');
  return planned;
}

async function runExperiment(
  experiment: Experiment,
  { repeats, warmup, quiet }: BenchSettings,
  peers: readonly OpenPeer[],
  load: { during: number },
  signal: AbortSignal,
): Promise<Finding> {
  const { title, rounds } = experiment;
  note(`${title}: making and checking data`);
  if (experiment.note) note(experiment.note);
  const bar = '{bar} {percentage}%, about {eta_formatted} left';
  const progress = startProgress({ total: 100, bar, clearOnComplete: true, lines: 4, signal });
  try {
    await eventLoop(undefined, { signal });
    await collectGarbage(); // of the experiment before, or there may not be enough for this one
    const contenders = await interruptible(() => experiment.open(), experiment.elements, signal);
    const measurements = await measure(contenders, {
      repeats: Math.min(repeats, rounds?.repeats ?? repeats),
      warmup: Math.min(warmup, rounds?.warmup ?? warmup),
      pauseMs: rounds?.pauseMs,
      wakingMs: rounds?.wakingMs,
      budgetSeconds: rounds?.budgetSeconds,
      signal,
      othersAtWork: roundWatch(quiet, peers, load),
      onProgress: (done) => progress.update(100 * done, `${title}: ${25 * Math.floor(4 * done)} % of the rounds`),
    });
    const rows = rowsOf(measurements);
    noteFailures(peers);
    const measured = new Map(rows.map((row, i) => [row, measurements[i]]));
    return { title, rows, comparisons: experiment.compare(measured) };
  } finally {
    progress.stop();
    experiment.close?.();
  }
}

function noteFailures(peers: readonly OpenPeer[]): void {
  for (const { name, failures } of peers) {
    for (const [what, reason] of failures) note(`${name}: not run: ${what}: ${reason}`);
  }
}

/** Notes the most cores that other processes used in a round that counts; with `quiet`, busy rounds do not count. */
function roundWatch(quiet: boolean, peers: readonly OpenPeer[], load: { during: number }): RoundWatch {
  const peerSeconds = async () => {
    const seconds = await Promise.all(peers.map((peer) => peer.cpuSeconds()));
    return seconds.reduce((sum, s) => sum + s, 0);
  };
  return async (round) => {
    const stop = await watchOthers(peerSeconds);
    await round();
    const cores = await stop();
    const discard = quiet && cores > BUSY_CORES;
    if (!discard) load.during = Math.max(load.during, cores);
    return discard;
  };
}

function describeBackends(rows: readonly Row[]): BenchReport['backends'] {
  return backends()
    .filter(({ name }) => rows.some(({ backend }) => backend === name))
    .map(({ available, reason, ...info }) => info);
}

function peerEntries(present: readonly OpenPeer[], absent: readonly AbsentPeer[]): PeerEntry[] {
  const failures = ({ failures }: OpenPeer) => [...failures].map(([what, reason]) => `${what}: ${reason}`);
  const entries = present.map((peer): PeerEntry => {
    const { name, version } = peer;
    return peer.failures.size === 0 ? { name, version } : { name, version, reason: failures(peer).join('; ') };
  });
  return [...entries, ...absent];
}
