// Where a build works. CMake, make and nvcc give some characters of a path meanings of their own: a list ends at `;` or
// `,`, a name at `'`, and nvcc hands its commands to a shell, which runs what is in `$()`. So nothing but plain paths
// reaches them; the sources of a package in any other folder are copied to one for temporary files.

import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const windows = process.platform === 'win32';
const SPECIAL = windows ? /[^\p{L}\p{M}\p{N} _./+@~=()\\:-]/u : /[^\p{L}\p{M}\p{N} _./+@~=()-]/u;

/**
 * @param {string} path
 * @returns {string | undefined} its first character that a build's tools may take for something else
 */
export function specialCharacter(path) {
  return SPECIAL.exec(path)?.[0];
}

/** Folders for temporary files. TMPDIR may name one that is not there. */
const TEMPORARY = [...new Set([tmpdir(), ...(windows ? [] : ['/tmp', '/var/tmp'])])];

/**
 * @param {string} folder
 * @param {string[]} [temporary]
 * @returns {string} a new folder, in this one if its path is plain, or else in one for temporary files
 */
export function workFolder(folder, temporary = TEMPORARY) {
  const special = specialCharacter(folder);
  if (special === undefined) {
    mkdirSync(folder, { recursive: true });
    return mkdtempSync(join(folder, 'work-'));
  }
  for (const parent of temporary.filter((path) => specialCharacter(path) === undefined)) {
    try {
      return mkdtempSync(join(parent, 'rlvr-kernels-'));
    } catch {} // absent, or not to be written to
  }
  throw new Error(
    `compilers cannot take the ${JSON.stringify(special)} in ${folder}, and there is no other folder to build in ` +
      `(tried ${temporary.join(', ')})`,
  );
}
