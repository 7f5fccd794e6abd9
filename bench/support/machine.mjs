// Where a result was measured, and how busy the machine was.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEFAULT_CACHE = 32 * 2 ** 20;

/** Bytes of the last-level cache, where the system tells; otherwise a large guess. */
export function lastLevelCacheBytes() {
  try {
    const text = readFileSync('/sys/devices/system/cpu/cpu0/cache/index3/size', 'utf8').trim();
    const kibibytes = /^(\d+)K$/.exec(text)?.[1];
    return kibibytes ? Number(kibibytes) * 1024 : DEFAULT_CACHE;
  } catch {
    return DEFAULT_CACHE;
  }
}

export function describeMachine() {
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model.trim() ?? 'unknown',
    cores: cpus.length,
    memoryGiB: Math.round((os.totalmem() / 2 ** 30) * 10) / 10,
    lastLevelCacheMiB: lastLevelCacheBytes() / 2 ** 20,
    platform: `${os.platform()} ${os.arch()}`,
  };
}

export function describePackage() {
  const { name, version } = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8'));
  return { name: String(name), version: String(version) };
}

/** The commit, and whether the code measured differs from it; nulls outside a checkout. */
export function describeCommit() {
  try {
    const git = (/** @type {string[]} */ ...args) =>
      execFileSync('git', ['-C', ROOT, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    return {
      commit: git('rev-parse', 'HEAD'),
      dirty: git('status', '--porcelain', '--', 'lib', 'native', 'bench') !== '',
    };
  } catch {
    return { commit: null, dirty: null };
  }
}

/**
 * Starts to watch how many cores others keep busy. The function it returns ends that.
 * @param {() => Promise<number>} ownSeconds processor time of this benchmark so far, outside this process
 */
export async function watchOthers(ownSeconds) {
  const own = async () => process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6 + (await ownSeconds());
  const before = { ...cpuTimes(), own: await own(), time: performance.now() };
  return async () => {
    const after = { ...cpuTimes(), own: await own(), time: performance.now() };
    const seconds = (after.time - before.time) / 1e3;
    const busy = ((after.all - before.all - (after.idle - before.idle)) / (after.all - before.all)) * os.cpus().length;
    return Math.max(0, Math.round((busy - (after.own - before.own) / seconds) * 100) / 100);
  };
}

/** Cores that others keep busy while this process sleeps for a second, and the load average. */
export async function loadNow() {
  const stop = await watchOthers(async () => 0);
  await sleep(1000);
  return { othersBusyCores: await stop(), loadAverage: os.loadavg() };
}

function cpuTimes() {
  const total = { idle: 0, all: 0 };
  for (const { times } of os.cpus()) {
    total.idle += times.idle;
    total.all += Object.values(times).reduce((a, b) => a + b, 0);
  }
  return total;
}
