// The package as it is published: its entry points for import and for require, what is bundled in it, what is not.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../lib/package-root.js';
import { packageVersion } from '../lib/version.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (name: string) => readFileSync(join(root, name), 'utf8');
const manifest = JSON.parse(read('package.json'));

/** Runs a CommonJS program in the package's folder, where `rlvr-kernels` is its own dist; what it prints as JSON. */
function run<T>(program: string, ...flags: string[]): T {
  const said = execFileSync(process.execPath, [...flags, '-e', program], { cwd: root, encoding: 'utf8' });
  return JSON.parse(said);
}

test('the version that the code has is that of package.json', () => {
  expect(packageVersion()).toBe(manifest.version);
  expect(JSON.parse(read('package-lock.json')).packages[''].version).toBe(manifest.version);
  expect(join(packageRoot(), '/')).toBe(root);
});

const entries = Object.entries<{ require?: object }>(manifest.exports)
  .filter(([, { require }]) => require)
  .map(([name]) => name.replace(/^\./, 'rlvr-kernels'));

describe.each(entries)('%s', (entry) => {
  test('import and require give one module', () => {
    const program = `const required = require('${entry}');
      import('${entry}').then((imported) => {
        const same = Object.keys(imported).filter((name) => imported[name] === required[name]);
        console.log(JSON.stringify([Object.keys(imported), same]));
      });`;
    const [names, same] = run<string[][]>(program);
    expect(names).not.toEqual([]);
    expect(same).toEqual(names);
  });

  test('is CommonJS where require takes nothing else, with the same exports', () => {
    const program = `const required = require('${entry}');
      import('${entry}').then((imported) => {
        const other = Object.keys(imported).filter((name) => imported[name] !== required[name]);
        console.log(JSON.stringify([Object.keys(imported), Object.keys(required).sort(), other]));
      });`;
    const [imported, required, other] = run<string[][]>(program, '--no-experimental-require-module');
    expect(required).toEqual(imported.sort());
    expect(other).not.toEqual([]); // not the ES module
  });
});

test('the CommonJS entry points share one state, and find the addon', () => {
  const program = `const { backends, RlvrError } = require('rlvr-kernels');
    const { openDevice } = require('rlvr-kernels/cuda');
    let error;
    try { openDevice(-1); } catch (thrown) { error = thrown; }
    console.log(JSON.stringify({ ours: error instanceof RlvrError, all: backends() }));`;
  const commonJs = run<{ ours: boolean; all: object }>(program, '--no-experimental-require-module');
  expect(commonJs.ours).toBe(true);
  expect(commonJs).toEqual(run(program));
});

test('what the command line bundles is in THIRD-PARTY.md, each with its license', () => {
  const licenses = read('dist/cli/parts/LICENSES.txt').split(`\n${'-'.repeat(80)}\n\n`);
  const bundled = licenses.map((text) => text.split(' ')[0]);
  const row = /\| ([^|]+) \| `dist\/cli\/parts\/\*\.js` \|/.exec(read('THIRD-PARTY.md'))?.[1];
  expect(row?.split(', ')).toEqual(bundled);
  for (const text of licenses) expect(text).toMatch(/permission/i);
});

describe('the packed files', () => {
  const said = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  });
  const paths: string[] = JSON.parse(said)[0].files.map(({ path }: { path: string }) => path);

  test('are every file that package.json points to', () => {
    const pointed = JSON.stringify([manifest.exports, manifest.main, manifest.types, manifest.bin]);
    for (const [, file] of pointed.matchAll(/"(?:\.\/)?(dist\/[^"]+)"/g)) expect(paths).toContain(file);
  });

  test('hold no types but those of the library, and nothing that only a checkout uses', () => {
    expect(paths.filter((path) => /\.d\.c?ts$/.test(path) && !path.startsWith('dist/lib/'))).toEqual([]);
    expect(paths.filter((path) => /^dist\/(bench|cli\/(?!main\.js|parts\/))|\.map$|^test\//.test(path))).toEqual([]);
    expect(Object.keys(manifest.dependencies)).toEqual(['node-gyp-build']);
  });

  test('hold the files that the documentation names', () => {
    const pages = paths.filter((path) => /^(README|docs\/guide-.+)\.md$/.test(path));
    const named = pages.flatMap((page) =>
      [...read(page).matchAll(/\b(examples\/[\w./-]+\w)/g)].map(([, path]) => path),
    );
    expect(named).toContain('examples/rollouts.jsonl');
    for (const path of named)
      expect(
        paths.some((packed) => `${packed}/`.startsWith(`${path}/`)),
        path,
      ).toBe(true);
  });
});
