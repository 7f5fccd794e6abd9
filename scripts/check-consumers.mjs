// The package in what trainers put around it: bundlers, Jest, Bun, Deno and a browser, each with the versions of test/consumers.
//
//   node scripts/check-consumers.mjs [TARBALL]     without one, it packs; needs this machine's prebuilt addon
//
// Each computes losses and gradients (test/consumers/check.cjs), which must be right, and on the cpu backend. A bundle is
// run where it was built; in a project that was moved since; and alone in an empty folder, without the addon and the
// modules for WebAssembly, where it must say once why it runs on the reference. A bundle for browsers runs in Chromium, on wasm.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { launchChromium, resultOfPage, serve, withoutChromium } from './web/chromium.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const TOLERANCE = 1e-5; // of docs/spec.md, for gradients of f32
const NOT_OURS = ['RLVR_ADDON', 'RLVR_BACKEND', 'RLVR_THREADS', 'NODE_OPTIONS'];
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_OURS.includes(name)));

const work = mkdtempSync(join(tmpdir(), 'rlvr-consumers-'));
const project = join(work, 'project');
const at = (/** @type {string[]} */ ...path) => join(project, ...path);

/** @returns {string} the file */
function pack() {
  execFileSync('npm', ['pack', '--silent', '--pack-destination', work], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return join(work, readdirSync(work).find((name) => name.endsWith('.tgz')) ?? '');
}

/** @param {string} tarball */
function installProject(tarball) {
  cpSync(join(root, 'test', 'consumers'), project, {
    recursive: true,
    filter: (name) => basename(name) !== 'node_modules',
  });
  const flags = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--no-save', '--silent'];
  execFileSync('npm', ['install', ...flags, tarball], { cwd: project, env, stdio: 'inherit' });
}

/** A package of the project. @param {string} name @returns {Promise<any>} */
const load = (name) => import(pathToFileURL(createRequire(at('package.json')).resolve(name)).href);

/** @param {'esm' | 'cjs'} format @param {string} program @param {string} out @param {'node' | 'browser'} [platform] */
async function esbuild(format, program, out, platform = 'node') {
  const { build } = await load('esbuild');
  const settings = { bundle: true, platform, logLevel: 'warning' };
  await build({ ...settings, entryPoints: [at(program)], format, outfile: at('out', out) });
}

/** @param {'node' | 'web'} target @param {string} program @param {string} out */
async function webpack(target, program, out) {
  const { default: run } = await load('webpack');
  const output = { path: at('out'), filename: out };
  const performance = { hints: false }; // it would have pages load less than 250 KB
  const settings = { mode: 'production', target, entry: at(program), output, context: project, performance };
  const stats = await new Promise((done, fail) => {
    run(settings, (/** @type {Error} */ error, /** @type {any} */ result) => (error ? fail(error) : done(result)));
  });
  const { errors, warnings } = stats.toJson();
  assert.deepEqual([errors, warnings], [[], []]);
}

/** @param {'node' | 'web'} target @param {string} program @param {string} out */
async function vite(target, program, out) {
  const { build } = await load('vite');
  await build({
    root: project,
    logLevel: 'warn',
    ssr: { noExternal: true },
    build: {
      ssr: target === 'node',
      outDir: at('out'),
      emptyOutDir: false,
      rollupOptions: { input: at(program), output: { entryFileNames: out } },
    },
  });
}

/** @type {Record<string, () => Promise<void>>} how each is made, by its file */
const BUNDLES = {
  'esbuild.mjs': () => esbuild('esm', 'program.mjs', 'esbuild.mjs'),
  'esbuild.cjs': () => esbuild('cjs', 'program.mjs', 'esbuild.cjs'),
  'esbuild-require.cjs': () => esbuild('cjs', 'program.cjs', 'esbuild-require.cjs'),
  'webpack.cjs': () => webpack('node', 'program.mjs', 'webpack.cjs'),
  'vite.mjs': () => vite('node', 'program.mjs', 'vite.mjs'),
};

/** @type {Record<string, () => Promise<void>>} likewise, for browsers */
const PAGES = {
  'esbuild-page.js': () => esbuild('esm', 'page.mjs', 'esbuild-page.js', 'browser'),
  'webpack-page.js': () => webpack('web', 'page.mjs', 'webpack-page.js'),
  'webpack-require-page.js': () => webpack('web', 'page-require.cjs', 'webpack-require-page.js'),
  'vite-page.js': () => vite('web', 'page.mjs', 'vite-page.js'),
};

/** The rest, as commands in the project. @type {Record<string, () => string[]>} */
const RUNTIMES = {
  'node, import': () => [process.execPath, 'program.mjs'],
  'node, require': () => [process.execPath, 'program.cjs'],
  jest: () => [process.execPath, 'node_modules/jest/bin/jest.js', '--testMatch', '**/jest.test.cjs'],
  bun: () => [at('node_modules/@oven/bun-linux-x64/bin/bun'), 'program.mjs'],
  deno: () => [
    at('node_modules/@deno/linux-x64-glibc/deno'),
    'run',
    '--allow-all',
    '--node-modules-dir=manual',
    'program.mjs',
  ],
};

/** @type {number[] | undefined} of the first, which runs in plain Node */
let losses;

/** @param {{ losses: number[], error: number }} result @param {string} said */
function requireRight(result, said) {
  losses ??= result.losses;
  assert.ok(result.error <= TOLERANCE, said);
  for (const [i, loss] of losses.entries()) {
    assert.ok(Math.abs(result.losses[i] - loss) <= TOLERANCE * Math.abs(loss), said);
  }
}

/** @param {string} what @param {string[]} command @param {string} cwd @param {boolean} alone whether no package is at hand */
function runIn(what, [program, ...args], cwd, alone = false) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd, env, encoding: 'utf8' });
  const said = `${what}:\n${stdout}${stderr}`;
  if (error) throw error;
  assert.equal(status, 0, said);
  const result = JSON.parse(stdout.split('\n').find((line) => line.startsWith('{')) ?? '{}');
  requireRight(result, said);
  assert.equal(result.cpu, !alone, said);
  assert.equal(stderr.match(/\[RLVR_REFERENCE\]/g)?.length ?? 0, alone ? 1 : 0, said);
  if (alone) assert.match(stderr, /rlvr-kernels runs in plain TypeScript.*bundler.*--external:rlvr-kernels/, said);
  console.log(`${what}: ${alone ? 'reference, and says why' : 'cpu'}`);
}

async function checkPages() {
  if (withoutChromium('pages', 'NOT RUN')) return;
  const page = { type: 'text/html', body: '<!doctype html><link rel="icon" href="data:,">' };
  const server = await serve((path) => {
    if (path === '/') return page;
    return { type: 'text/javascript', body: readFileSync(at('out', path), 'utf8') };
  });
  const browser = await launchChromium();
  try {
    for (const [name, build] of Object.entries(PAGES)) {
      await build();
      const { result, complaints } = await resultOfPage(browser, server.url, { module: `import '/${name}';` });
      const said = `${name}: ${JSON.stringify(result)}`;
      assert.deepEqual(complaints, [], said);
      requireRight(result, said);
      assert.equal(result.wasm.available, true, said);
      assert.match(result.reason, /^not in a browser/, said);
      console.log(`${name}: wasm, in Chromium`);
    }
  } finally {
    await browser.close();
    server.close();
  }
}

async function checkAll() {
  for (const [name, command] of Object.entries(RUNTIMES)) {
    const words = command();
    if (!existsSync(words[0])) console.log(`${name}: NOT RUN, it is not for this machine`);
    else runIn(name, words, project);
  }
  for (const [name, build] of Object.entries(BUNDLES)) {
    await build();
    runIn(name, [process.execPath, at('out', name)], work);
  }
  await checkPages();
  const moved = join(work, 'moved');
  renameSync(project, moved);
  for (const name of Object.keys(BUNDLES)) runIn(`${name}, moved`, [process.execPath, join(moved, 'out', name)], work);
  for (const name of Object.keys(BUNDLES)) {
    const file = join(work, 'alone', name, name);
    mkdirSync(dirname(file), { recursive: true });
    copyFileSync(join(moved, 'out', name), file);
    runIn(`${name}, alone`, [process.execPath, file], dirname(file), true);
  }
}

try {
  const given = process.argv[2];
  installProject(given ? resolve(given) : pack());
  await checkAll();
  console.log('consumers can load the package');
} finally {
  rmSync(work, { recursive: true, force: true });
}
