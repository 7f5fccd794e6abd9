// What the package holds of dist/, after tsc, with rolldown:
//
//   dist/lib/**/*.js          the library as ES modules, one file per source; white space and the names of locals go
//   dist/lib/**/*.cjs         the same as CommonJS: an entry each of package.json's `exports` with a `require`, and
//                             shared.cjs, which holds everything, so that all entries share one state
//   dist/cli/main.js          the command line, and dist/cli/parts/ what it loads: `cli/`, `bench/` and other packages, with
//                             their licenses in parts/LICENSES.txt. The library stays outside, in dist/lib
//
// Names of functions and classes stay, for stack traces. dist/cli/dev and what it imports is as tsc leaves it.

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { minifySync } from 'rolldown/utils';
import { commonJsEntries } from './entries.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const minify = { compress: false, mangle: { toplevel: false }, codegen: { removeWhitespace: true } };

/** @param {string} folder @returns {string[]} its JavaScript, as paths */
function modules(folder) {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.js')).map((name) => join(folder, name));
}

function shrinkLibrary() {
  for (const file of modules(join(dist, 'lib'))) {
    const { code, errors } = minifySync(file, readFileSync(file, 'utf8'), minify);
    if (errors.length > 0) throw new Error(`${file}: ${errors[0].message}`);
    writeFileSync(file, code);
  }
}

async function bundleCommonJs() {
  const input = Object.fromEntries(commonJsEntries().map((name) => [name, join(dist, 'lib', `${name}.js`)]));
  const bundle = await rolldown({
    input,
    platform: 'node',
    // Code that a bundler moves into an ES module has no __filename, by which rolldown would replace this.
    transform: { define: { 'import.meta.url': 'undefined' } },
  });
  await bundle.write({
    dir: join(dist, 'lib'),
    format: 'cjs',
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name].cjs',
    codeSplitting: { groups: [{ name: 'shared', test: /./ }] },
    minify,
  });
  await bundle.close();
}

/** Imports of `lib/` become those of dist/lib, from dist/cli/parts. */
const outside = {
  name: 'library outside',
  /** @param {string} id @param {string | undefined} importer */
  resolveId(id, importer) {
    if (importer === undefined || !id.startsWith('.')) return undefined;
    const file = join(dirname(importer), id);
    if (!file.startsWith(join(root, 'lib/'))) return undefined;
    return { id: `../../${file.slice(root.length).replaceAll('\\', '/')}`, external: true };
  },
};

/** The folder of a package in node_modules that a module is part of. @param {string} module */
function packageOf(module) {
  return /^.*[\\/]node_modules[\\/](?:@[^\\/]+[\\/])?[^\\/]+/.exec(module)?.[0];
}

/** @param {string} folder @returns {string} the name, version and license of a package */
function licenseOf(folder) {
  const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (!file) throw new Error(`${name} has no file with its license`);
  return `${name} ${version}\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
}

async function bundleCommandLine() {
  const parts = join(dist, 'cli', 'parts');
  rmSync(parts, { recursive: true, force: true });
  const bundle = await rolldown({
    input: {
      main: join(root, 'cli/main.ts'),
      'linear-peak-process': join(root, 'bench/sections/linear-peak-process.ts'), // a process of its own
    },
    platform: 'node',
    transform: { target: 'es2023' }, // as tsconfig.json
    plugins: [outside],
  });
  const { output } = await bundle.write({
    dir: parts,
    format: 'es',
    chunkFileNames: '[name].js',
    comments: false,
    minify,
  });
  await bundle.close();
  const bundled = output.flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []));
  const folders = new Set(bundled.map(packageOf).filter((folder) => folder !== undefined && existsSync(folder)));
  const licenses = [.../** @type {Set<string>} */ (folders)].map(licenseOf).sort();
  writeFileSync(join(dist, 'cli', 'main.js'), "#!/usr/bin/env node\nimport './parts/main.js';\n");
  writeFileSync(join(parts, 'LICENSES.txt'), licenses.join(`\n${'-'.repeat(80)}\n\n`));
}

shrinkLibrary();
await bundleCommonJs();
await bundleCommandLine();
