// The environment variables that the package reads, against the table that documents them.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const READ = /(?:process\.env\.|setting\('|getenv\("|const \{ |, )(RLVR_[A-Z_]+|CUDA_ARCHS|CXX)\b/g;

function variablesRead(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs|cpp)$/.test(name) && !name.startsWith('dev')) // cli/dev is not in the package
    .flatMap((name) =>
      [...readFileSync(join(root, folder, name), 'utf8').matchAll(READ)].map(([, variable]) => variable),
    );
}

test('docs/guide-platforms.md has every variable in its table, and no other', () => {
  const guide = readFileSync(join(root, 'docs/guide-platforms.md'), 'utf8');
  const documented = [...guide.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, name]) => name);
  const read = ['lib', 'cli', 'install', 'native/cpu', 'native/cuda'].flatMap(variablesRead);
  expect(documented.sort()).toEqual([...new Set(read)].sort());
});
