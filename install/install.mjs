// npm's install step. An install never fails because of the addon, and prints nothing if a prebuilt one loads. If not,
// it goes through these steps and prints one line at the end:
//
//   1. a prebuilt addon, or one that was built here before, that loads
//   2. compiled here by build-addon.mjs; with CUDA where there is an nvcc, and without where only that part fails
//   3. none: the wasm backend is used, or the reference where its modules were not built
//
// The outcome is kept in build/install-report.json, where `backends()` and `rlvr-kernels info` read why there is none.
//
// A git checkout always compiles, so that `npm ci` never leaves a binary older than its sources. So do
// `npm install --build-from-source[=rlvr-kernels]` and RLVR_BUILD_FROM_SOURCE=1. RLVR_CUDA and CUDA_ARCHS set targets.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { specialCharacter, workFolder } from './folders.mjs';
import { cudaArchitectures, cudaMode, extraArguments, wantsSourceBuild } from './settings.mjs';
import { missingTool } from './toolchain.mjs';
import { buildTools } from './tools.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const buildDir = join(root, 'build');
const inCheckout = existsSync(join(root, '.git'));
const instead = existsSync(join(root, 'prebuilds', 'wasm')) ? 'wasm' : 'reference'; // of the backends

/**
 * What build/install-report.json holds: whether an addon is there, of what kind, and why no better one. The log is that of
 * a build that failed. `crashed` is an addon, by its path from the package's root, that ended the process it was loaded in.
 *
 * @typedef {{ ok: boolean, addon?: 'prebuild' | 'source build', cuda?: boolean, reason?: string, log?: string,
 *   crashed?: string }} Report
 */

/** @param {string[]} args arguments to node */
function runNode(args) {
  const { status, signal, error, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    env: { ...process.env, LC_ALL: 'C' }, // messages that firstError can read
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const end = error ? `\n${error.message}` : signal ? `\nended by ${signal}` : '';
  const crashed = !error && status !== 0 && status !== 1; // what throws ends with 1
  return { ok: status === 0, crashed, log: `${stdout ?? ''}${stderr ?? ''}${end}` };
}

/**
 * Loads the addon as the package will, in its own process: a crash must not take the install down with it.
 *
 * @returns {{ report?: Report, why: string, log: string, crashed?: string }}
 */
function load() {
  let file;
  try {
    file = createRequire(import.meta.url)('node-gyp-build').resolve(root);
  } catch (error) {
    const why = messageOf(error);
    return { why, log: why };
  }
  const program = `
    const { cuda, version } = require(process.argv[1]);
    const own = require(process.argv[2]).version;
    if (version !== own) throw new Error('it is the addon of version ' + version + ', this is version ' + own);
    console.log(JSON.stringify({ cuda: Boolean(cuda.info) }));`;
  const { ok, crashed, log } = runNode(['-e', program, file, join(root, 'package.json')]);
  const inPackage = relative(root, file);
  if (ok) {
    const { cuda } = JSON.parse(log.slice(log.lastIndexOf('{"cuda"')));
    const addon = inPackage.startsWith('prebuilds') ? /** @type {const} */ ('prebuild') : 'source build';
    return { report: { ok, addon, cuda }, why: '', log };
  }
  const line = log.split('\n').find((text) => text.includes('Error:')) ?? log.trim().split('\n')[0];
  return { why: line.replace(/^\s*Error: /, '').trim(), log, ...(crashed && { crashed: inPackage }) };
}

/** @param {unknown} error @returns {string} */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {string} why @returns {string} why there is no prebuilt addon */
function prebuildMissing(why) {
  if (!why.startsWith('No native build was found')) return `the prebuilt addon does not load: ${why}`;
  const libc = /\blibc=(\w+)/.exec(why)?.[1];
  return `no prebuilt addon for ${process.platform}-${process.arch}${libc && process.platform === 'linux' ? ` with ${libc}` : ''}`;
}

/** @param {string} work @param {string[]} [more] */
function compile(work, more = []) {
  return runNode([join(root, 'install', 'build-addon.mjs'), '--work', work, ...more]);
}

/** Whether the build that failed had found an nvcc, and can be tried without it. @param {string} work */
function triedCuda(work) {
  const cache = join(work, 'CMakeCache.txt');
  if (cudaMode() === 'ON' || !existsSync(cache)) return false;
  return /^CMAKE_CUDA_COMPILER:\w+=.*(?<!NOTFOUND)$/m.test(readFileSync(cache, 'utf8'));
}

/** @param {string} work @returns {{ ok: boolean, log: string, reason?: string }} the reason is that of the part that failed */
function compileWhatCanBe(work) {
  const whole = compile(work);
  if (whole.ok) return whole;
  const reason = firstError(whole.log, work);
  if (!triedCuda(work)) return { ...whole, reason };
  rmSync(work, { recursive: true, force: true });
  const withoutCuda = compile(work, ['--cuda', 'OFF']);
  if (!withoutCuda.ok) return { ...withoutCuda, reason: firstError(withoutCuda.log, work) };
  return { ok: true, log: whole.log, reason: `without CUDA: ${reason}` };
}

/**
 * @param {string} log
 * @param {string} work
 * @returns {string} the line a person would look for first
 */
function firstError(log, work) {
  const lines = log.replaceAll(`${work}/source/`, '').replaceAll(`${root}/`, '').split(/\r?\n/);
  const compilerError = lines.find((line) => /(^|[\s:])(fatal )?error( [A-Z]+\d+)?: /.test(line));
  if (compilerError) return `compiling failed: ${compilerError.trim()}`;
  const at = lines.findIndex((line) => line.startsWith('CMake Error'));
  if (at >= 0) {
    const message = lines.slice(at + 1, at + 8).map((line) => line.trim());
    return `configuring failed: ${message.filter(Boolean).slice(0, 3).join(' ')}`;
  }
  const last = lines.findLast((line) => /\b(ERR|Error|error)\b/.test(line)) ?? 'no message';
  return `building failed: ${last.trim()}`;
}

/** Where the build's files go: each install has its own, a checkout keeps one for `npm run build:native`. */
function newWorkFolder() {
  const kept = join(buildDir, 'cmake');
  if (!inCheckout || specialCharacter(kept) !== undefined) return workFolder(buildDir);
  rmSync(kept, { recursive: true, force: true });
  return kept;
}

/** @returns {Report} */
function build() {
  const missing = missingTool();
  if (missing) return { ok: false, reason: missing, log: '' };
  const product = join(buildDir, 'Release');
  try {
    mkdirSync(product, { recursive: true });
    accessSync(product, constants.W_OK);
  } catch (error) {
    return { ok: false, reason: `cannot write to ${product} (${messageOf(error).split(':')[0]})` };
  }
  buildTools();
  const work = newWorkFolder();
  try {
    const { ok, reason, log } = compileWhatCanBe(work);
    if (!ok) return { ok, reason, log };
    const loaded = load();
    if (loaded.report) return { ...loaded.report, ...(reason && { reason, log }) };
    return { ok: false, reason: `built, but does not load: ${loaded.why}`, log: loaded.log };
  } finally {
    if (work !== join(buildDir, 'cmake')) discard(work);
  }
}

/** Removes a folder where that can be done: an install does not fail over what is left. @param {string} folder */
function discard(folder) {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {}
}

/** Builds the addon, or leaves none: one from before would be older than its sources, or crash the next process. @returns {Report} */
function buildAddon() {
  /** @type {Report} */
  let report;
  try {
    for (const check of [cudaMode, cudaArchitectures, extraArguments]) check();
    report = build();
  } catch (error) {
    report = { ok: false, reason: messageOf(error) };
  }
  if (!report.ok) discard(join(buildDir, 'Release'));
  return report;
}

/** What cannot be kept is left out: a package in a read-only folder works as well. @param {Report} report */
function keep(report) {
  const file = join(buildDir, 'install-report.json');
  try {
    mkdirSync(buildDir, { recursive: true });
    writeFileSync(`${file}.${process.pid}`, `${JSON.stringify(report, null, 2)}\n`);
    renameSync(`${file}.${process.pid}`, file); // another install may be at work here
  } catch {}
}

/** @param {string} line */
function say(line) {
  console.error(`rlvr-kernels: ${line}`);
}

/** Compiles because the user asked to: a prebuilt addon is only the fallback. */
function installFromSource() {
  const built = buildAddon();
  const { reason, log } = built;
  const other = built.ok ? undefined : load();
  keep(other?.report ? { ...other.report, reason, log } : { ...built, crashed: other?.crashed });
  if (built.ok && reason) say(`the addon was compiled ${reason}`);
  if (other?.report) say(`the addon was not compiled (${reason}); the prebuilt one is used`);
  else if (other) say(`no native addon (${reason}); the ${instead} backend works without it`);
}

function installBest() {
  const { report, why, crashed } = load();
  if (report) return keep(report);
  const missing = prebuildMissing(why);
  const built = buildAddon();
  const reason = [missing, built.reason].filter(Boolean).join('; ');
  keep({ ...built, reason, ...(!built.ok && { crashed }) });
  if (built.ok) say(`${reason}; compiled here for ${built.cuda ? 'the CPU and CUDA' : 'the CPU'}`);
  else say(`no native addon (${reason}); the ${instead} backend works without it`);
}

function asksForSource() {
  try {
    return inCheckout || wantsSourceBuild();
  } catch (error) {
    say(`${messageOf(error)}; taken as not set`);
    return false;
  }
}

try {
  if (asksForSource()) installFromSource();
  else installBest();
} catch (error) {
  say(`no native addon (${messageOf(error)}); the ${instead} backend works without it`);
}
