// Packs what tests and benchmarks need on a GPU machine that has neither Node nor npm: node itself, the packages they
// import, dist/ and the addon, as gpu-bundle/bundle.tar.xz, with a script that unpacks it there beside the tracked files.
//
//   node scripts/pack-for-gpu.mjs [--addon FILE] [--out DIR]
//
// There, in a copy of the tracked files that has the folder gpu-bundle:
//
//   sh gpu-bundle/run.sh node dist/cli/dev/verify-cuda.js
//   sh gpu-bundle/run.sh node dist/cli/dev/bench-cuda.js
//
// That machine needs the same processor family, and a glibc no older than this one's.

import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
/** What dist, test, bench and their runner import. Neither compilers nor linters, nor what builds the addon. */
const IMPORTED = ['asciichart', 'cli-progress', 'commander', 'fast-check', 'node-gyp-build', 'valibot', 'vitest'];
const UNREAD = /\.(map|md|d\.ts|d\.mts|d\.cts)$/i;
const MAX_BYTES = 64 * 2 ** 20; // of everything that travels to the machine, the tracked files too

const { values } = parseArgs({
  options: {
    addon: { type: 'string', default: join(root, 'build', 'Release', 'rlvr_kernels.node') },
    out: { type: 'string', default: join(root, 'gpu-bundle') },
  },
});

/** Where `name` is for code in `folder`, as Node looks for it. @param {string} name @param {string} folder @returns {string | undefined} */
function findPackage(name, folder) {
  const found = join(folder, 'node_modules', name);
  if (existsSync(found)) return found;
  const parent = dirname(folder);
  return folder === resolve(root) || parent === folder ? undefined : findPackage(name, parent);
}

/** The folders of some packages and of all that they depend on. @param {string[]} names @returns {Set<string>} */
function packageFolders(names) {
  /** @type {Set<string>} */
  const folders = new Set();
  /** @param {string} name @param {string} from @param {boolean} optional */
  const add = (name, from, optional) => {
    const folder = findPackage(name, from);
    if (folder === undefined && !optional) throw new Error(`${name} is not installed: npm ci`);
    if (folder === undefined || folders.has(folder)) return;
    folders.add(folder);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      readFileSync(join(folder, 'package.json'), 'utf8'),
    );
    for (const need of Object.keys(dependencies)) add(need, folder, need in optionalDependencies);
    for (const need of Object.keys(optionalDependencies)) add(need, folder, true);
  };
  for (const name of names) add(name, resolve(root), false);
  return folders;
}

/** Lays out, under `stage`, what the bundle unpacks to: bin/node, and in tree/ what is not tracked. @param {string} stage */
function layOut(stage) {
  const tree = join(stage, 'tree');
  mkdirSync(join(stage, 'bin'), { recursive: true });
  copyFileSync(process.execPath, join(stage, 'bin', 'node'));
  for (const folder of packageFolders(IMPORTED)) {
    const to = join(tree, folder.slice(resolve(root).length));
    cpSync(folder, to, {
      recursive: true,
      dereference: true,
      // Nested packages are copied on their own, if they are needed.
      filter: (path) => !UNREAD.test(path) && (path === folder || basename(path) !== 'node_modules'),
    });
  }
  cpSync(join(root, 'dist'), join(tree, 'dist'), { recursive: true });
  const release = join(tree, 'build', 'Release');
  mkdirSync(release, { recursive: true });
  copyFileSync(values.addon, join(release, 'rlvr_kernels.node'));
}

const RUN = `#!/bin/sh
# Written by scripts/pack-for-gpu.mjs. Runs a command, such as "node dist/cli/dev/verify-cuda.js", in a copy of the
# tracked files with the bundle unpacked into it. What it writes to bench/results is copied to $OUT, where that is set.
set -eu
bundle=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$bundle")
sum=$(cksum <"$bundle/bundle.tar.xz" | tr ' ' '-')
home=\${TMPDIR:-/tmp}/rlvr-gpu-$(id -u)-$sum
if [ ! -e "$home/complete" ]; then
  rm -rf "$home"
  mkdir -p "$home"
  if command -v xz >/dev/null; then
    tar -xJf "$bundle/bundle.tar.xz" -C "$home"
  else
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$bundle/bundle.tar.xz" "$home"
  fi
  touch "$home/complete"
fi
cd "$home/tree"
find . -mindepth 1 -maxdepth 1 ! -name node_modules ! -name dist ! -name build -exec rm -rf {} +
(cd "$root" && tar -cf - --exclude="./$(basename "$bundle")" --exclude=./.git --exclude=./node_modules --exclude=./dist \\
  --exclude='./build' --exclude='./build-*' --exclude=./prebuilds .) | tar -xf -
touch "$home/start"
export PATH="$home/bin:$PATH" RLVR_COMMIT="\${RLVR_COMMIT:-$(cat "$bundle/commit")}"
status=0
"$@" || status=$?
if [ -n "\${OUT:-}" ]; then
  find bench/results -type f -newer "$home/start" -exec cp {} "$OUT/" \\;
fi
exit "$status"
`;

/** "<hash>", or "<hash>+dirty": what RLVR_COMMIT holds where there is no git. */
function describeCommit() {
  const git = (/** @type {string[]} */ ...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--', 'lib', 'native', 'bench') !== '';
  return `${git('rev-parse', 'HEAD')}${changed ? '+dirty' : ''}`;
}

/** Bytes of the files that git would send along. */
function trackedBytes() {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root });
  const files = listed.toString().split('\0').filter(Boolean);
  const others = files.filter((name) => !resolve(root, name).startsWith(resolve(values.out)));
  return others.reduce((sum, name) => sum + (statSync(join(root, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

function pack() {
  if (!existsSync(join(root, 'dist', 'lib', 'index.js'))) throw new Error('no dist/: npm run build:ts');
  if (!existsSync(values.addon)) throw new Error(`no ${values.addon}: npm run build:native`);
  if (!createRequire(import.meta.url)(resolve(values.addon)).cuda?.info) throw new Error('the addon has no CUDA');
  const stage = mkdtempSync(join(tmpdir(), 'rlvr-pack-'));
  try {
    layOut(stage);
    mkdirSync(values.out, { recursive: true });
    const archive = join(values.out, 'bundle.tar.xz');
    const env = { ...process.env, XZ_OPT: '-6 -T0' };
    execFileSync('tar', ['-cJf', archive, '-C', stage, 'bin', 'tree'], { env, stdio: 'inherit' });
    writeFileSync(join(values.out, 'commit'), `${describeCommit()}\n`);
    writeFileSync(join(values.out, 'run.sh'), RUN, { mode: 0o755 });
    const total = statSync(archive).size + trackedBytes();
    console.log(`${archive}: ${mebibytes(statSync(archive).size)} MiB; with the tracked files ${mebibytes(total)} MiB`);
    if (total > MAX_BYTES) throw new Error(`more than the ${mebibytes(MAX_BYTES)} MiB that may travel`);
  } finally {
    rmSync(stage, { recursive: true });
  }
}

/** @param {number} bytes */
const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1);

try {
  pack();
} catch (error) {
  console.error(`pack-for-gpu: ${/** @type {Error} */ (error).message}`);
  process.exitCode = 1;
}
