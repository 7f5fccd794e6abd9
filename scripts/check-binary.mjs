// Reports what addons for Linux and for Windows need from a machine; fails if that is more than a prebuilt addon may need.
//
//   node scripts/check-binary.mjs [--max-glibc 2.28] [--json] FILE...
//
// A failure is, on Linux: a symbol of a newer glibc; a shared library outside glibc; a search path for libraries; no
// NODELETE; an undefined symbol that is neither glibc's nor Node-API's. On Windows: a library that is not the system's; an
// export that is not Node's. On both: an instruction that not every processor of the
// architecture has, unless in code that is called after a check of the processor. Only the unstripped addon tells which
// code that is: FILE itself, or the one of the same build in build-prebuild/. Needs binutils for the file's architecture.

import { readFileSync, statSync } from 'node:fs';
import { relative } from 'node:path';
import { parseArgs } from 'node:util';
import { findUnstripped, functionsOf, instructionReport, readelf, rowsOf } from './check-binary-code.mjs';
import { gpuReport } from './check-binary-gpu.mjs';
import { isForWindows, unstrippedForWindows, windowsFunctions, windowsReport } from './check-binary-pe.mjs';
import { compareVersions } from './prebuild-glibc.mjs';

/**
 * @typedef {{ name: string, version?: string, weak: boolean }} Wanted
 * @typedef {{ file: string, arch: string, bytes: number, glibc?: string, newest?: string[], libraries: string[],
 *   unversioned?: { nodeApi: number, weak: string[] }, exported?: string[], instructions: string[],
 *   gpu: Record<string, number>, failures: string[] }} Report
 */

const LIBRARIES =
  /^(libc\.so\.6|libm\.so\.6|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|ld-linux-(x86-64|aarch64)\.so\.\d)$/;
const NODE_API = /^(napi|node_api)_\w+$/;
/** Optional symbols that compilers add: transactional memory, profiling, a hook for calls of pure functions. */
const COMPILER_WEAK = /^(_ITM_\w+|_ZGTt\w+|__gmon_start__|__cxa_finalize|__cxa_pure_virtual)$/;

/** @param {string} file @returns {Wanted[]} */
function undefinedSymbols(file) {
  return rowsOf(file, ['--dyn-syms']).flatMap(([, , , , binding, , section, text]) => {
    if (section !== 'UND' || !text) return [];
    const [name, version] = text.split('@');
    return [{ name, version, weak: binding === 'WEAK' }];
  });
}

/** The newest version wanted, and for what. @param {Wanted[]} symbols @param {string} limit */
function glibcReport(symbols, limit) {
  const versioned = symbols.filter(({ version }) => version);
  const strange = versioned.filter(({ version }) => !/^GLIBC_[\d.]+$/.test(version ?? ''));
  const own = versioned.filter((symbol) => !strange.includes(symbol));
  const versions = [...new Set(own.map(({ version }) => version ?? ''))].sort(compareVersions);
  const glibc = versions.at(-1) ?? 'none';
  const newest = own.filter(({ version }) => version === glibc).map(({ name }) => name);
  const failures = [
    ...own.filter(({ version }) => compareVersions(version ?? '', limit) > 0),
    ...strange, // another library's version, or one of glibc's marks for a new file format
  ].map(({ name, version }) => `needs ${name}@${version}`);
  return { glibc, newest, failures };
}

/** @param {Wanted[]} symbols */
function unversionedReport(symbols) {
  const bare = symbols.filter(({ version }) => !version);
  const others = bare.filter(({ name }) => !NODE_API.test(name));
  const weak = others.filter(({ weak, name }) => weak && COMPILER_WEAK.test(name)).map(({ name }) => name);
  const failures = others.filter(({ name }) => !weak.includes(name)).map(({ name }) => `undefined symbol ${name}`);
  return { nodeApi: bare.length - others.length, weak, failures };
}

/** @param {string} file */
function libraryReport(file) {
  const dynamic = readelf(file, ['--dynamic']);
  const libraries = [...dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map(([, name]) => name);
  const failures = libraries.filter((name) => !LIBRARIES.test(name)).map((name) => `needs the shared library ${name}`);
  if (!/\bNODELETE\b/.test(dynamic)) failures.push('can be unloaded before the process ends');
  for (const [, path] of dynamic.matchAll(/\((?:RPATH|RUNPATH)\).*\[(.+)\]/g)) failures.push(`searches ${path}`);
  return { libraries, failures };
}

/** @param {string} file @returns {Report} */
function checkForWindows(file) {
  const { libraries, exported, failures } = windowsReport(file);
  const unstripped = unstrippedForWindows(file);
  const code = instructionReport(file, 'x64', unstripped ? windowsFunctions(unstripped) : undefined);
  const found = {
    file,
    arch: 'x64',
    bytes: statSync(file).size,
    libraries,
    exported,
    instructions: code.lines,
    gpu: {},
  };
  return { ...found, failures: [...failures, ...code.failures] };
}

/** @param {string} file @param {string} maxGlibc @returns {Report} */
function check(file, maxGlibc) {
  if (isForWindows(file)) return checkForWindows(file);
  if (readFileSync(file).subarray(0, 4).toString('latin1') !== '\x7fELF')
    throw new Error(`${file} is not an addon for Linux or Windows`);
  const machine = /Machine:\s+(.+)/.exec(readelf(file, ['--file-header']))?.[1] ?? 'unknown';
  const arch = /X86-64/.test(machine) ? 'x64' : machine === 'AArch64' ? 'arm64' : machine;
  const symbols = undefinedSymbols(file);
  const glibc = glibcReport(symbols, `GLIBC_${maxGlibc}`);
  const unversioned = unversionedReport(symbols);
  const libraries = libraryReport(file);
  const unstripped = findUnstripped(file);
  const code = instructionReport(file, arch, unstripped ? functionsOf(unstripped) : undefined);
  return {
    file,
    arch,
    bytes: statSync(file).size,
    glibc: glibc.glibc,
    newest: glibc.newest,
    libraries: libraries.libraries,
    unversioned: { nodeApi: unversioned.nodeApi, weak: unversioned.weak },
    instructions: code.lines,
    gpu: gpuReport(file),
    failures: [...glibc.failures, ...libraries.failures, ...unversioned.failures, ...code.failures],
  };
}

/** @param {Report} report @param {string} maxGlibc */
function render(report, maxGlibc) {
  const { glibc, newest, unversioned, exported } = report;
  const gpu = Object.entries(report.gpu).map(([name, bytes]) => `${name} ${(bytes / 1e6).toFixed(2)} MB`);
  const lines = [
    `${relative('.', report.file)}: ${report.arch}, ${(report.bytes / 1e6).toFixed(2)} MB`,
    newest && `  newest glibc symbols  ${glibc} (${newest.join(' ')}); the limit is ${maxGlibc}`,
    `  shared libraries      ${report.libraries.join(' ')}`,
    unversioned &&
      `  without a version     ${unversioned.nodeApi} of Node-API, ${unversioned.weak.length} weak ones from the compiler`,
    exported && `  exports               ${exported.join(' ')}`,
    ...report.instructions.map((line) => `  instructions          ${line}`),
    `  GPU code              ${gpu.join(', ') || 'none'}`,
    ...report.failures.map((failure) => `  FAILS: ${failure}`),
  ];
  return lines.filter(Boolean).join('\n');
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'max-glibc': { type: 'string', default: '2.28' }, json: { type: 'boolean', default: false } },
});
if (positionals.length === 0) throw new Error('name the files to check');
const reports = positionals.map((file) => check(file, values['max-glibc']));
if (values.json) console.log(JSON.stringify(reports, null, 2));
else for (const report of reports) console.log(render(report, values['max-glibc']));
if (reports.some(({ failures }) => failures.length > 0)) process.exitCode = 1;
