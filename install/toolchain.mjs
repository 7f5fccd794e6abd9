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

/** @typedef {{ cc: string, cxx: string, strip: string, package: string, system: string, processor: string }} CrossCompiler */

/** Debian's cross compilers, by what they build for; system and processor are CMake's names. @type {Record<string, CrossCompiler>} */
const CROSS = {
  'linux-arm64': {
    cc: 'aarch64-linux-gnu-gcc',
    cxx: 'aarch64-linux-gnu-g++',
    strip: 'aarch64-linux-gnu-strip',
    package: 'g++-aarch64-linux-gnu',
    system: 'Linux',
    processor: 'aarch64',
  },
  'win32-x64': {
    cc: 'x86_64-w64-mingw32-gcc-posix', // the other one has no std::thread
    cxx: 'x86_64-w64-mingw32-g++-posix',
    strip: 'x86_64-w64-mingw32-strip',
    package: 'g++-mingw-w64-x86-64-posix',
    system: 'Windows',
    processor: 'AMD64',
  },
};
export const CROSS_TARGETS = Object.keys(CROSS);

/**
 * @param {string} target platform and architecture, as in process
 * @returns {CrossCompiler} the tools that build for it on another machine
 */
export function crossCompiler(target) {
  const cross = CROSS[target];
  if (!cross) throw new Error(`no cross compiler is known for ${target}`);
  return cross;
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
