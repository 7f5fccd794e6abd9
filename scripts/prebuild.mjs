// Builds the prebuilt addons that this machine can, into prebuilds/<platform>-<arch>/, with prebuildify.
//
//   npm run build:prebuilds                   this machine's, and those with a cross compiler installed
//   npm run build:prebuilds -- linux-arm64    these only
//
// With CUDA if there is an nvcc: for every GPU architecture of a release, or those that CUDA_ARCHS names. On Linux
// the result needs no glibc newer than 2.28, which scripts/check-binary.mjs then reads from the file itself. prebuildify
// works in build-prebuild/<platform>-<arch>, so that build/ stays as it is; its log and the unstripped addon stay there.

import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crossCompiler, onPath } from '../install/toolchain.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const host = `${process.platform}-${process.arch}`;
const CROSS_TARGETS = host === 'linux-x64' ? ['linux-arm64'] : [];

/** @param {string} target @returns {string | undefined} why it cannot be built here */
function obstacle(target) {
  if (target === host) return undefined;
  if (!CROSS_TARGETS.includes(target)) return `not on ${host}`;
  const { cxx } = crossCompiler(target.split('-')[1]);
  return onPath(cxx) ? undefined : `no ${cxx} (on Debian: apt-get install ${cxx.replace(/(.*)-(g\+\+)$/, '$2-$1')})`;
}

/** Links to what binding.gyp refers to; its action finds the tree through them. @param {string} folder */
function stage(folder) {
  mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'CMakeLists.txt', 'binding.gyp', 'native', 'install']) {
    const link = join(folder, name);
    rmSync(link, { force: true });
    symlinkSync(join(root, name), link, ['native', 'install'].includes(name) ? 'junction' : 'file');
  }
}

/** Runs node; quiet unless it fails. @param {string[]} args @param {NodeJS.ProcessEnv} env @param {string} log */
function runQuietly(args, env, log) {
  const output = openSync(log, 'w');
  const { status, error } = spawnSync(process.execPath, args, { env, stdio: ['ignore', output, output] });
  closeSync(output);
  if (error) throw error;
  if (status === 0) return;
  process.stderr.write(readFileSync(log));
  throw new Error(`${args[0]} failed; the log is ${log}`);
}

/** @param {string} target */
function prebuild(target) {
  const [platform, arch] = target.split('-');
  const folder = join(root, 'build-prebuild', target);
  stage(folder);
  rmSync(join(root, 'prebuilds', target), { recursive: true, force: true });

  const build = ['--work', join(folder, 'cmake'), '--arch', arch];
  const args = ['--napi', '--strip', '--name', 'rlvr_kernels', '--platform', platform, '--arch', arch];
  args.push('--cwd', folder, '--out', root, '--target', `node@${process.versions.node}`);
  if (platform === 'linux') {
    build.push('--prebuilt');
    args.push('--tag-libc', 'glibc'); // in the file's name, so that a musl system skips it
  }
  if (target !== host) args.push('--strip-bin', crossCompiler(arch).strip);
  const program = createRequire(import.meta.url).resolve('prebuildify/bin.js');
  const CUDA_ARCHS = process.env.CUDA_ARCHS || 'release';
  const env = { ...process.env, CUDA_ARCHS, RLVR_BUILD_ARGS: JSON.stringify(build) };
  runQuietly([program, ...args], env, join(folder, 'build.log'));
  if (platform !== 'linux') return;
  const file = join(root, 'prebuilds', target, 'rlvr_kernels.glibc.node');
  execFileSync(process.execPath, [join(root, 'scripts', 'check-binary.mjs'), file], { stdio: 'inherit' });
}

if (process.platform !== 'win32' && !onPath('node-gyp'))
  throw new Error('run this as `npm run build:prebuilds`, which brings node-gyp');
const wanted = process.argv.slice(2);
for (const target of wanted.length > 0 ? wanted : [host, ...CROSS_TARGETS]) {
  const reason = obstacle(target);
  if (reason && wanted.length > 0) throw new Error(`cannot build ${target}: ${reason}`);
  if (reason) {
    console.log(`prebuild: ${target} left out: ${reason}`);
    continue;
  }
  const start = Date.now();
  prebuild(target);
  console.log(`prebuild: ${target} in ${Math.round((Date.now() - start) / 1000)} s`);
}
