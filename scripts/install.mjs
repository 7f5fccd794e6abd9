// npm's install step. An install never fails because of the addon: what went wrong is kept in build/install-report.json,
// where `backends()` and `rlvr-kernels info` read it, and the reference backend answers.
//
//   prebuilt or already built binary that loads  →  nothing to do
//   else compile, through node-gyp and binding.gyp, or cmake-js alone where node-gyp itself cannot run
//   else a report with the reason
//
// A git checkout always compiles, so that `npm ci` never leaves a binary older than its sources. So do
// `npm install --build-from-source` and RLVR_BUILD_FROM_SOURCE=1.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missingTool } from './toolchain.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const buildDir = join(root, 'build');

/** @typedef {{ ok: boolean, reason?: string, log?: string }} Report what build/install-report.json holds */

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

/** Loads the addon as the package will, in a process of its own: a binary that crashes must not take the install along. */
function loads() {
  return runNode(['-e', `require('node-gyp-build')(${JSON.stringify(root)})`]);
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
  // When our own action ran, its result stands. When node-gyp stopped before it (no python, no headers to be had), CMake
  // can still do the work: it needs neither.
  if (viaGyp.ok || existsSync(join(buildDir, 'cmake'))) return viaGyp;
  rmSync(buildDir, { recursive: true, force: true });
  const direct = runNode([join(root, 'scripts', 'build-addon.mjs')]);
  return { ok: direct.ok, log: `${viaGyp.log}\n${direct.log}` };
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
  const built = compile();
  if (!built.ok) return { ok: false, reason: firstError(built.log), log: built.log };
  const loaded = loads();
  if (!loaded.ok) {
    rmSync(join(buildDir, 'Release'), { recursive: true }); // it may take down whoever tries it next
    const line = loaded.log.split('\n').find((text) => text.includes('Error:')) ?? loaded.log.trim();
    return { ok: false, reason: `built, but does not load: ${line.trim()}`, log: loaded.log };
  }
  return { ok: true };
}

/** @param {Report} report */
function keep(report) {
  mkdirSync(buildDir, { recursive: true });
  writeFileSync(join(buildDir, 'install-report.json'), `${JSON.stringify(report, null, 2)}\n`);
  if (report.ok) return;
  console.error(`rlvr-kernels: no native addon (${report.reason}); the reference backend works without it`);
}

try {
  if (wantsSourceBuild() || !loads().ok) keep(buildFromSource());
} catch (error) {
  console.error(`rlvr-kernels: no native addon (${error}); the reference backend works without it`);
}
