// The native sources: the folder native/ in a checkout. A package brings them as one compressed file, which is a fifth of
// their size, as few installs compile.

import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, brotliDecompressSync } from 'node:zlib';
import { specialCharacter } from './folders.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const packed = join(root, 'dist', 'native.br'); // JSON: texts by path
const CHECKOUT_ONLY = /^native\/(emulation|portable)\//; // for tests, and for prebuilt addons

/** @returns {string[]} what the addon is built from, as paths from the package's root */
export function sources() {
  return readdirSync(join(root, 'native'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(h|cpp|cu)$/.test(name))
    .map((name) => `native/${name.replaceAll('\\', '/')}`);
}

/** Writes what an installed package compiles into one file. */
export function packSources() {
  const names = ['CMakeLists.txt', ...sources().filter((name) => !CHECKOUT_ONLY.test(name))].sort();
  const texts = names.map((name) => [name, readFileSync(join(root, name), 'utf8')]);
  writeFileSync(packed, brotliCompressSync(JSON.stringify(Object.fromEntries(texts))));
}

/** Copies to a folder. @param {string} folder @param {string} from @param {string[]} files as paths from there */
function copyFiles(folder, from, files) {
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    copyFileSync(join(from, file), join(folder, file));
  }
}

/** @param {string} folder for the sources, with package.json, from which CMake takes the version */
function layOut(folder) {
  copyFiles(folder, root, ['package.json']);
  if (existsSync(join(root, 'native'))) return copyFiles(folder, root, ['CMakeLists.txt', ...sources()]);
  const texts = JSON.parse(brotliDecompressSync(readFileSync(packed)).toString());
  for (const [name, text] of Object.entries(texts)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

/**
 * Where CMake finds the sources: a checkout itself, or else a copy, with the headers where one of all these paths is not plain.
 * cmake-js finds headers only from a checkout.
 *
 * @param {string} work
 * @param {string[]} headers folders of header files
 * @returns {{ source: string, include: string[] }} the folder, and cmake-js's arguments for the headers in it
 */
export function plainSources(work, headers) {
  const plain = [root, ...headers].every((folder) => specialCharacter(folder) === undefined);
  if (plain && existsSync(join(root, 'native'))) return { source: root, include: [] };
  const source = join(work, 'source');
  layOut(source);
  if (plain) return { source, include: [`--CDCMAKE_JS_INC=${headers.join(';')}`] };
  const include = join(source, 'include');
  for (const folder of headers) {
    copyFiles(
      include,
      folder,
      readdirSync(folder).filter((name) => name.endsWith('.h')),
    );
  }
  return { source, include: [`--CDCMAKE_JS_INC=${include}`] };
}
