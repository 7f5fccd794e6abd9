// Where a result was measured, and how busy the machine was.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { packageRoot } from '../lib/package-root.js';
import type { Machine } from './report/report.js';

const ROOT = packageRoot();
const DEFAULT_CACHE = 32 * 2 ** 20;
/** More than any processor has for each of its cores. */
const CACHE_PER_CORE = 32 * 2 ** 20;
const LOAD_MS = 300;

/** Bytes of the last-level cache, where the system reports it; otherwise a generous guess. */
export function lastLevelCacheBytes(): number {
  try {
    const text = readFileSync('/sys/devices/system/cpu/cpu0/cache/index3/size', 'utf8').trim();
    const kibibytes = /^(\d+)K$/.exec(text)?.[1];
    return kibibytes ? Number(kibibytes) * 1024 : DEFAULT_CACHE;
  } catch {
    return DEFAULT_CACHE;
  }
}

/**
 * The part of it that can be ours: a virtual machine of a few cores is told the size of the cache that it shares with all others
 * on its host, and arrays that outgrow that one may not fit into its memory.
 */
export function ownCacheBytes(): number {
  return Math.min(lastLevelCacheBytes(), os.cpus().length * CACHE_PER_CORE);
}

export function describeMachine(): Machine {
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model.trim() ?? 'unknown',
    cores: cpus.length,
    memoryGiB: Math.round((os.totalmem() / 2 ** 30) * 10) / 10,
    lastLevelCacheMiB: lastLevelCacheBytes() / 2 ** 20,
    platform: `${os.platform()} ${os.arch()}`,
  };
}

export function describePackage(): { name: string; version: string } {
  const { name, version } = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8'));
  return { name: String(name), version: String(version) };
}

/** The commit, and whether the code measured differs from it; nulls outside a checkout of this package. */
export function describeCommit(): { commit: string | null; dirty: boolean | null } {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', ROOT, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    // In somebody's node_modules, the repository around the package is theirs.
    if (git('ls-files', '--', 'package.json') === '') return { commit: null, dirty: null };
    return {
      commit: git('rev-parse', 'HEAD'),
      dirty: git('status', '--porcelain', '--', 'lib', 'native', 'bench') !== '',
    };
  } catch {
    return { commit: null, dirty: null };
  }
}

/**
 * Collects what nothing refers to any more: gigabytes of arrays after an experiment, and devices, whose pools keep memory that the next
 * process may want.
 */
export async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  for (let i = 0; i < 3; ++i) {
    collect();
    await sleep(20); // finalizers run between tasks
  }
}

/** Bytes that are left for arrays, in the system or within the container's limit. */
export function availableMemory(): number {
  return process.availableMemory?.() ?? os.freemem();
}

/**
 * Starts to watch how many cores other processes keep busy; the function it returns stops and gives the number.
 * `ownSeconds`: processor time that this benchmark has used so far in processes of its own.
 */
export async function watchOthers(ownSeconds: () => Promise<number>): Promise<() => Promise<number>> {
  const own = async () => process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6 + (await ownSeconds());
  const before = { ...cpuTimes(), own: await own(), time: performance.now() };
  return async () => {
    const after = { ...cpuTimes(), own: await own(), time: performance.now() };
    const seconds = (after.time - before.time) / 1e3;
    const all = after.all - before.all;
    if (all === 0) return 0;
    const busy = ((all - (after.idle - before.idle)) / all) * os.cpus().length;
    return Math.max(0, Math.round((busy - (after.own - before.own) / seconds) * 100) / 100);
  };
}

/** Cores that other processes keep busy while this one sleeps. */
export async function othersBusyNow(signal?: AbortSignal): Promise<number> {
  const stop = await watchOthers(async () => 0);
  await sleep(LOAD_MS, undefined, { signal });
  return stop();
}

function cpuTimes(): { idle: number; all: number } {
  const total = { idle: 0, all: 0 };
  for (const { times } of os.cpus()) {
    total.idle += times.idle;
    total.all += Object.values(times).reduce((a, b) => a + b, 0);
  }
  return total;
}
