// The entry points of the library: package.json's `exports` is the one list of them.
import { readFileSync } from 'node:fs';

/** @returns {string[]} those for `require` too: paths without extension, below dist/lib */
export function commonJsEntries() {
  const { exports } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return Object.values(exports)
    .map((entry) => entry.require?.default)
    .filter((file) => file !== undefined)
    .map((file) => {
      const name = /^\.\/dist\/lib\/(.+)\.cjs$/.exec(file)?.[1];
      if (name === undefined) throw new Error(`package.json: expected ./dist/lib/NAME.cjs, got ${file}`);
      return name;
    });
}
