// What the build needs from the machine, looked up on PATH before anything runs, so that what is missing can be named.

import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';

const windows = process.platform === 'win32';

/**
 * @param {string} name a command, or an absolute path
 * @returns {boolean}
 */
export function onPath(name) {
  const folders = isAbsolute(name) ? [''] : (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const suffixes = windows ? ['.exe', '.cmd', '.bat'] : [''];
  return folders.some((folder) =>
    suffixes.some((suffix) => {
      const file = join(folder, name + suffix);
      try {
        accessSync(file, constants.X_OK);
        return statSync(file).isFile();
      } catch {
        return false;
      }
    }),
  );
}

/**
 * cmake-js looks for g++ and clang++ only; a compiler under another name must be passed to it.
 *
 * @returns {string | undefined} that compiler, where it is the only one
 */
export function onlyNamedCxx() {
  if (windows || onPath('g++') || onPath('clang++')) return undefined;
  const cxx = process.env.CXX?.split(' ')[0];
  if (cxx && onPath(cxx)) return cxx;
  return onPath('c++') ? 'c++' : undefined;
}

/** Debian's cross compilers. @type {Record<string, { prefix: string, processor: string }>} */
const CROSS = { arm64: { prefix: 'aarch64-linux-gnu-', processor: 'aarch64' } };

/**
 * @param {string} arch as in process.arch
 * @returns {{ cc: string, cxx: string, strip: string, processor: string }} the tools that build for it on another machine
 */
export function crossCompiler(arch) {
  const cross = CROSS[arch];
  if (!cross) throw new Error(`no cross compiler is known for ${arch}`);
  const { prefix, processor } = cross;
  return { cc: `${prefix}gcc`, cxx: `${prefix}g++`, strip: `${prefix}strip`, processor };
}

/** @returns {string | undefined} one line about the first tool that is missing */
export function missingTool() {
  // Visual Studio is not on PATH: on Windows cmake-js searches for it, and says so itself when there is none.
  if (!windows && !onPath('g++') && !onPath('clang++') && !onlyNamedCxx()) {
    return 'no C++ compiler found (tried c++, g++, clang++)';
  }
  if (!onPath('cmake')) return 'cmake not found';
  if (!windows && !onPath('ninja') && !onPath('make')) return 'neither make nor ninja found';
  return undefined;
}
