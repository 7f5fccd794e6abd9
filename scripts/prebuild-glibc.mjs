// Stub libraries of an old glibc, for linking a prebuilt addon: they hold no code, only the symbols of the build
// machine's libraries, each in the newest version that the old glibc has too. So the linker binds every reference to a
// version that exists there, and finds no symbol that came later; those few are defined in native/portable.
//
// The functions that glibc 2.34 moved into libc.so.6 go back to where old systems look for them: their old versions are
// still in the table of the new libc, and the empty libraries that it keeps for old programs answer for the rest.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** @typedef {{ name: string, version: string, type: string, size: string }} Symbol */

/** @type {Record<string, string>} */
const LOADERS = { x64: 'ld-linux-x86-64.so.2', arm64: 'ld-linux-aarch64.so.1' };
/** The version that marks a name as one of those that moved. */
const MERGED = 'GLIBC_2.34';

/** @param {string} a @param {string} b @returns {number} below 0 where the version a is older than b */
export function compareVersions(a, b) {
  const [left, right] = [a, b].map((text) => text.replace('GLIBC_', '').split('.').map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** What a library defines. @param {string} file @returns {(Symbol & { isDefault: boolean })[]} */
function definedSymbols(file) {
  const table = execFileSync('readelf', ['--dyn-syms', '--wide', file], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, LC_ALL: 'C' },
  });
  return table.split('\n').flatMap((line) => {
    const [, , size, type, binding, , section, text] = line.trim().split(/\s+/);
    const match = /^(\w+)(@@?)(GLIBC_[\d.]+)$/.exec(text ?? '');
    if (!match || binding === 'LOCAL' || section === 'UND' || section === 'ABS') return [];
    return [{ name: match[1], version: match[3], isDefault: match[2] === '@@', type, size }];
  });
}

/** Where a glibc before 2.34 has a name now in libc; nothing where it does not matter. @param {string} name */
function formerLibrary(name) {
  if (/^__libc_start_main$/.test(name)) return 'libc.so.6';
  if (/^_*dl[a-z]/.test(name)) return 'libdl.so.2';
  if (/^_*(timer|mq|aio|lio|shm)_/.test(name)) return 'librt.so.1';
  return /^_*(pthread|sem|mtx|cnd|thrd|tss)_|^call_once$/.test(name) ? 'libpthread.so.0' : undefined;
}

/**
 * @param {string} file a library of the build machine
 * @param {string} soname
 * @param {string} limit the newest version to offer
 * @returns {(Symbol & { library: string })[]}
 */
function offered(file, soname, limit) {
  const symbols = definedSymbols(file);
  if (symbols.length === 0) throw new Error(`${file} defines no symbol with a version`);
  const moved = new Set(symbols.filter((s) => s.isDefault && s.version === MERGED).map(({ name }) => name));
  /** @type {Map<string, Symbol>} */
  const newest = new Map();
  for (const symbol of symbols) {
    const known = newest.get(symbol.name);
    if (compareVersions(symbol.version, limit) > 0) continue;
    if (!known || compareVersions(symbol.version, known.version) > 0) newest.set(symbol.name, symbol);
  }
  return [...newest.values()].flatMap((symbol) => {
    const library = moved.has(symbol.name) ? formerLibrary(symbol.name) : soname;
    return library ? [{ ...symbol, library }] : [];
  });
}

/**
 * @template T
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @returns {Map<string, T[]>}
 */
function groups(items, key) {
  const map = new Map();
  for (const item of items) map.set(key(item), [...(map.get(key(item)) ?? []), item]);
  return map;
}

/** @param {Symbol[]} symbols @returns {string} assembly that defines them */
function assembly(symbols) {
  const lines = symbols.map(({ name, type, size }) => {
    const kind = type === 'OBJECT' ? 'object' : type === 'TLS' ? 'tls_object' : 'function';
    const section = { object: '.bss', tls_object: '.section .tbss,"awT",%nobits', function: '.text' }[kind];
    const body = kind === 'function' ? '.space 4' : `.size ${name}, ${Number(size)}\n.space ${Number(size) || 1}`;
    return `${section}\n.globl ${name}\n.type ${name}, %${kind}\n${name}:\n${body}`;
  });
  return `${lines.join('\n')}\n.section .note.GNU-stack,"",%progbits\n`;
}

/** @param {Symbol[]} symbols @returns {string} a version script that gives each its version */
function versionScript(symbols) {
  const nodes = groups(symbols, ({ version }) => version);
  const texts = [...nodes.entries()].map(
    ([version, members]) => `${version} { global: ${members.map(({ name }) => `${name};`).join(' ')} };`,
  );
  return `${texts.join('\n')}\n`;
}

/**
 * Writes the stubs, to be linked against with -L.
 *
 * @param {{ folder: string, cxx: string, arch: string, limit?: string }} options
 */
export function writeGlibcStubs({ folder, cxx, arch, limit = 'GLIBC_2.28' }) {
  const compiler = (/** @type {string[]} */ ...args) => execFileSync(cxx, args, { encoding: 'utf8' }).trim();
  const systemFile = (/** @type {string} */ name) => compiler(`-print-file-name=${name}`);
  mkdirSync(folder, { recursive: true });

  const loader = LOADERS[arch];
  const symbols = ['libc.so.6', 'libm.so.6', loader].flatMap((name) => offered(systemFile(name), name, limit));
  for (const [library, members] of groups(symbols, (symbol) => symbol.library)) {
    const base = join(folder, library);
    writeFileSync(`${base}.s`, assembly(members));
    writeFileSync(`${base}.map`, versionScript(members));
    const link = [`-Wl,-soname,${library}`, `-Wl,--version-script=${base}.map`, '-Wl,--build-id=none'];
    compiler('-shared', '-nostdlib', ...link, `${base}.s`, '-o', base);
  }
  const others = ['libpthread.so.0', 'libdl.so.2', 'librt.so.1', 'libm.so.6', loader];
  const paths = others.map((name) => join(folder, name)).join(' ');
  const libc = `${join(folder, 'libc.so.6')} ${systemFile('libc_nonshared.a')}`;
  writeFileSync(join(folder, 'libc.so'), `GROUP ( ${libc} AS_NEEDED ( ${paths} ) )\n`);
  writeFileSync(join(folder, 'libm.so'), `INPUT ( AS_NEEDED ( ${join(folder, 'libm.so.6')} ) )\n`);
}
