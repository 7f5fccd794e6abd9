// The part of check-binary.mjs that reads addons for Windows: what they import and export, and where their functions are.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @typedef {import('./check-binary-code.mjs').Code} Code */

const root = fileURLToPath(new URL('..', import.meta.url));

/** Of every Windows. What a C++ runtime or mingw's threads would be in does not come with it. */
const LIBRARIES = /^(kernel32|msvcrt)\.dll$/i;
/** What Node looks for. */
const EXPORTS = /^(napi_register_module|node_api_module_get_api_version)_v1$/;

/** @param {string} file @param {string} option @returns {string} */
function objdump(file, option) {
  const env = { ...process.env, LC_ALL: 'C' };
  return execFileSync('objdump', [option, file], { encoding: 'utf8', maxBuffer: 1 << 28, env });
}

/** @param {string} file @returns {boolean} */
export function isForWindows(file) {
  return readFileSync(file).subarray(0, 2).toString('latin1') === 'MZ';
}

/** @param {string} file */
export function windowsReport(file) {
  const headers = objdump(file, '--private-headers');
  const libraries = [...headers.matchAll(/DLL Name: (\S+)/g)].map(([, name]) => name);
  const table = headers.slice(headers.indexOf('[Ordinal/Name Pointer] Table'));
  const exported = [...table.matchAll(/^\s+\[ *\d+\] (\w+)$/gm)].map(([, name]) => name);
  const failures = [
    ...libraries.filter((name) => !LIBRARIES.test(name)).map((name) => `needs the library ${name}`),
    ...exported.filter((name) => !EXPORTS.test(name)).map((name) => `exports ${name}`),
  ];
  if (exported.length === 0) failures.push('exports nothing');
  return { libraries, exported, failures };
}

/** Where the code is: in memory, and in the file. @param {string} file */
function textSection(file) {
  const row = /^ +\d+ \.text +(\w+) +(\w+) +\w+ +(\w+)/m.exec(objdump(file, '--section-headers'));
  if (!row) throw new Error(`${file} has no code`);
  const [size, address, offset] = row.slice(1).map((text) => Number.parseInt(text, 16));
  return { address, size, bytes: readFileSync(file).subarray(offset, offset + size) };
}

/** Every function, by address; the table has no sizes. @param {string} file @returns {Code[]} */
export function windowsFunctions(file) {
  const { address, size } = textSection(file);
  let source = '';
  /** @type {Code[]} */
  const functions = [];
  const symbols = objdump(file, '--syms').matchAll(/^\[ *\d+\]\(sec +(-?\d+)\).*\(scl +(\d+)\).* 0x(\w+) (\S+)$/gm);
  for (const [, section, kind, value, name] of symbols) {
    if (kind === '103') source = name;
    else if (section === '1') functions.push({ begin: address + Number.parseInt(value, 16), end: 0, name, source });
  }
  functions.sort((a, b) => a.begin - b.begin);
  functions.forEach((code, i) => {
    code.end = functions[i + 1]?.begin ?? address + size;
  });
  return functions;
}

/** The same build with symbols, where prebuild.mjs leaves it. @param {string} file @returns {string | undefined} */
export function unstrippedForWindows(file) {
  const twin = join(root, 'build-prebuild', basename(dirname(file)), 'cmake', 'Release', 'rlvr_kernels.node');
  return existsSync(twin) && textSection(twin).bytes.equals(textSection(file).bytes) ? twin : undefined;
}
