// npm's install step. An install never fails because of the addon, and prints nothing if a prebuilt one loads. If not,
// it goes through these steps and prints one line at the end:
//
//   1. a prebuilt addon, or one that was built here before, that loads
//   2. compiled here, through node-gyp and binding.gyp, or cmake-js alone where node-gyp itself cannot run; with CUDA
//      where there is an nvcc, and without where only that part fails
//   3. none: the reference backend is used
//
// The outcome is kept in build/install-report.json, where `backends()` and `rlvr-kernels info` read why there is none.
//
// A git checkout always compiles, so that `npm ci` never leaves a binary older than its sources. So do
// `npm install --build-from-source[=rlvr-kernels]` and RLVR_BUILD_FROM_SOURCE=1. RLVR_CUDA and CUDA_ARCHS set targets.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missingTool } from './toolchain.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const buildDir = join(root, 'build');

/**
 * What build/install-report.json holds: whether an addon is there, of what kind, and why no better one. The log is that of
 * a build that failed.
 *
 * @typedef {{ ok: boolean, addon?: 'prebuild' | 'source build', cuda?: boolean, reason?: string, log?: string }} Report
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
  return { ok: status === 0, log: `${stdout ?? ''}${stderr ?? ''}${end}` };
}

/** Loads the addon as the package will, in its own process: a crash must not take the install down with it. */
function load() {
  const program = `
    const build = require('node-gyp-build');
    const { cuda, version } = build(process.argv[1]);
    const own = require(process.argv[1] + '/package.json').version;
    if (version !== own) throw new Error('it is the addon of version ' + version + ', this is version ' + own);
    console.log(JSON.stringify({ file: build.resolve(process.argv[1]), cuda: Boolean(cuda.info) }));`;
  const { ok, log } = runNode(['-e', program, root]);
  if (ok) {
    const { file, cuda } = JSON.parse(log.slice(log.lastIndexOf('{"file"')));
    const addon = file.startsWith(join(root, 'prebuilds')) ? /** @type {const} */ ('prebuild') : 'source build';
    return { ok, report: /** @type {Report} */ ({ ok, addon, cuda }), why: '', log };
  }
  const line = log.split('\n').find((text) => text.includes('Error:')) ?? log.trim().split('\n')[0];
  return { ok, report: undefined, why: line.replace(/^\s*Error: /, '').trim(), log };
}

/** @param {string} why @returns {string} why there is no prebuilt addon */
function prebuildMissing(why) {
  if (!why.startsWith('No native build was found')) return `the prebuilt addon does not load: ${why}`;
  const libc = /\blibc=(\w+)/.exec(why)?.[1];
  return `no prebuilt addon for ${process.platform}-${process.arch}${libc && process.platform === 'linux' ? ` with ${libc}` : ''}`;
}

function wantsSourceBuild() {
  const asked = process.env.npm_config_build_from_source ?? '';
  const fromSource = asked === 'true' || asked.split(',').includes('rlvr-kernels');
  return fromSource || Boolean(process.env.RLVR_BUILD_FROM_SOURCE) || existsSync(join(root, '.git'));
}

/** @returns {{ ok: boolean, log: string }} */
function compile() {
  const nodeGyp = process.env.npm_config_node_gyp; // the copy that comes with npm
  const viaGyp = nodeGyp ? runNode([nodeGyp, 'rebuild']) : { ok: false, log: 'no node-gyp in this package manager\n' };
  // When our own action ran, its result stands. When node-gyp stopped before it (no python, no headers found), CMake
  // can still do the work: it needs neither.
  if (viaGyp.ok || existsSync(join(buildDir, 'cmake'))) return viaGyp;
  rmSync(buildDir, { recursive: true, force: true });
  const direct = runNode([join(root, 'install', 'build-addon.mjs')]);
  return { ok: direct.ok, log: `${viaGyp.log}\n${direct.log}` };
}

/** Whether the build that failed had found an nvcc, and can be tried without it. */
function triedCuda() {
  const cache = join(buildDir, 'cmake', 'CMakeCache.txt');
  if (process.env.RLVR_CUDA === 'ON' || !existsSync(cache)) return false;
  return /^CMAKE_CUDA_COMPILER:\w+=.*(?<!NOTFOUND)$/m.test(readFileSync(cache, 'utf8'));
}

/** @returns {{ ok: boolean, log: string, reason?: string }} the reason is that of the part that failed */
function compileWhatCanBe() {
  const whole = compile();
  if (whole.ok) return whole;
  const reason = firstError(whole.log);
  if (!triedCuda()) return { ...whole, reason };
  rmSync(buildDir, { recursive: true, force: true });
  const withoutCuda = runNode([join(root, 'install', 'build-addon.mjs'), '--cuda', 'OFF']);
  if (!withoutCuda.ok) return { ...withoutCuda, reason: firstError(withoutCuda.log) };
  return { ok: true, log: whole.log, reason: `without CUDA: ${reason}` };
}

/**
 * @param {string} log
 * @returns {string} the line a person would look for first
 */
function firstError(log) {
  const lines = log.split(/\r?\n/);
  const compilerError = lines.find((line) => /(^|[\s:])(fatal )?error( [A-Z]+\d+)?: /.test(line));
  if (compilerError) return `compiling failed: ${compilerError.trim().replaceAll(`${root}/`, '')}`;
  const at = lines.findIndex((line) => line.startsWith('CMake Error'));
  if (at >= 0) {
    const message = lines.slice(at + 1, at + 8).map((line) => line.trim());
    return `configuring failed: ${message.filter(Boolean).slice(0, 3).join(' ')}`;
  }
  const last = lines.findLast((line) => /\b(ERR|Error|error)\b/.test(line)) ?? 'no message';
  return `building failed: ${last.trim()}`;
}

/** @returns {Report} */
function buildFromSource() {
  rmSync(buildDir, { recursive: true, force: true });
  const missing = missingTool();
  if (missing) return { ok: false, reason: missing, log: '' };
  const { ok, reason, log } = compileWhatCanBe();
  if (!ok) return { ok, reason, log };
  const loaded = load();
  if (loaded.report) return { ...loaded.report, ...(reason && { reason, log }) };
  rmSync(join(buildDir, 'Release'), { recursive: true }); // it may crash the next process that loads it
  return { ok: false, reason: `built, but does not load: ${loaded.why}`, log: loaded.log };
}

/** @param {Report} report */
function keep(report) {
  mkdirSync(buildDir, { recursive: true });
  writeFileSync(join(buildDir, 'install-report.json'), `${JSON.stringify(report, null, 2)}\n`);
}

/** @param {string} line */
function say(line) {
  console.error(`rlvr-kernels: ${line}`);
}

/** Compiles because the user asked to: a prebuilt addon is only the fallback. */
function installFromSource() {
  const built = buildFromSource();
  const { reason, log } = built;
  const other = built.ok ? undefined : load().report;
  keep(other ? { ...other, reason, log } : built);
  if (built.ok && reason) say(`the addon was compiled ${reason}`);
  if (other) say(`the addon was not compiled (${reason}); the prebuilt one is used`);
  if (!built.ok && !other) say(`no native addon (${reason}); the reference backend works without it`);
}

function install() {
  if (wantsSourceBuild()) return installFromSource();
  const { report, why } = load();
  if (report) return keep(report);
  const missing = prebuildMissing(why);
  const built = buildFromSource();
  const reason = [missing, built.reason].filter(Boolean).join('; ');
  keep({ ...built, reason });
  if (built.ok) say(`${reason}; compiled here for ${built.cuda ? 'the CPU and CUDA' : 'the CPU'}`);
  else say(`no native addon (${reason}); the reference backend works without it`);
}

try {
  install();
} catch (error) {
  say(`no native addon (${error}); the reference backend works without it`);
}
