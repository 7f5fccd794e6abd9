// What an install leaves, what it says, and what backends() says afterwards, where something is not as it should be.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { onPath } from '../../install/toolchain.mjs';
import {
  cpuOf,
  install,
  layOutPackage,
  PREBUILD,
  put,
  realAddon,
  SOURCE_BUILD,
  temporaryFolder,
  toolchain,
} from './package.js';

const home = () => layOutPackage(temporaryFolder());
const real = () => readFileSync(realAddon!);
const NO_COMPILER = { PATH: '/nonexistent' };

test('without an install script and a prebuilt addon, the reason is that and what to do', async () => {
  const { available, reason } = await cpuOf(home());
  expect(available).toBe(false);
  expect(reason).toMatch(/^no prebuilt addon for \w+-\w+.*install script that compiles one did not run/);
  for (const way of ['npm rebuild rlvr-kernels', '--ignore-scripts', 'pnpm approve-builds', 'enableScripts']) {
    expect(reason).toContain(way);
  }
});

test('an addon that is gone after the install', async () => {
  const folder = home();
  put(folder, 'build/install-report.json', '{ "ok": true, "addon": "prebuild" }');
  expect((await cpuOf(folder)).reason).toMatch(
    /^no addon for \w+-\w+.* is left of the install: .*rebuild rlvr-kernels$/,
  );
});

test('without a compiler, the reason is the one of the install', async () => {
  const folder = home();
  const { status, said, report } = await install(folder, NO_COMPILER);
  expect(status).toBe(0);
  expect(said).toMatch(/^rlvr-kernels: no native addon \(no prebuilt addon for .*; no C\+\+ compiler found .*\n$/);
  expect((await cpuOf(folder)).reason).toBe(report?.reason);
});

describe.runIf(realAddon)('build/ cannot be written to', () => {
  const blocked = () => {
    const folder = home();
    put(folder, 'build', ''); // a file in its place, which stops root too
    return folder;
  };

  test('with a prebuilt addon: it is used, without a word', async () => {
    const folder = blocked();
    put(folder, PREBUILD, real());
    expect(await install(folder, NO_COMPILER)).toEqual({ status: 0, said: '' });
    expect(await cpuOf(folder)).toMatchObject({ available: true, addon: 'prebuild' });
  });

  test('without one: the install says why before it compiles, backends() what can be told', async () => {
    const folder = blocked();
    const { PATH, calls } = toolchain(temporaryFolder());
    const { status, said } = await install(folder, { PATH });
    expect({ status, calls: calls() }).toEqual({ status: 0, calls: [] });
    expect(said).toMatch(/; cannot write to .*build.Release \(E[A-Z]+\)\); the reference backend works without it\n$/);
    expect((await cpuOf(folder)).reason).toMatch(/could not write to build\//);
  });
});

describe.runIf(realAddon && process.platform === 'linux')('a prebuilt addon that is damaged', () => {
  const files = (change: (file: Buffer) => Buffer) => {
    const folder = home();
    put(folder, PREBUILD, change(real()));
    return folder;
  };

  test.each([0, 40, 100, 5000, 0.5, 0.999])('cut short at %d', async (at) => {
    const folder = files((file) => file.subarray(0, at < 1 ? Math.floor(at * file.length) : at));
    expect(await cpuOf(folder)).toMatchObject({
      available: false,
      reason: expect.stringMatching(/too short|cut short/),
    });
  });

  test('zeros behind its header: the install has tried, and the package does not try again', async () => {
    const folder = files((file) => file.fill(0, 4096, file.length - 4096));
    const { status, report } = await install(folder, NO_COMPILER);
    expect({ status, report }).toMatchObject({ status: 0, report: { ok: false, crashed: PREBUILD } });
    expect(report?.reason).toMatch(/^the prebuilt addon does not load: ended by SIG.*; no C\+\+ compiler found/);
    expect(await cpuOf(folder)).toEqual({ name: 'cpu', available: false, reason: report?.reason });
    put(folder, SOURCE_BUILD, real()); // compiled later
    expect(await cpuOf(folder)).toMatchObject({ available: true });
  });

  test('for another processor', async () => {
    const machine = process.arch === 'x64' ? 183 : 62;
    const folder = files((file) => {
      file.writeUInt16LE(machine, 18);
      return file;
    });
    const other = process.arch === 'x64' ? 'arm64' : 'x64';
    expect((await cpuOf(folder)).reason).toMatch(
      new RegExp(`rlvr_kernels.node is for ${other}, this is ${process.arch}$`),
    );
  });
});

// Node 20 ends with a segmentation fault where it should throw.
test.runIf(onPath('g++'))('an addon for a Node-API that this Node does not have', async () => {
  const folder = home();
  const source = `#define EXPORT extern "C" __attribute__((visibility("default")))
    EXPORT int node_api_module_get_api_version_v1() { return 999; }
    EXPORT void* napi_register_module_v1(void*, void* exports) { return exports; }`;
  const file = put(folder, 'other.cpp', source);
  expect(spawnSync('g++', ['-shared', '-fPIC', file, '-o', put(folder, PREBUILD, '')]).status).toBe(0);
  const { status, report } = await install(folder, NO_COMPILER);
  expect(status).toBe(0);
  expect(report?.reason).toMatch(/^the prebuilt addon does not load: ./);
  expect((await cpuOf(folder)).reason).toBe(report?.reason);
});

describe.runIf(realAddon)('a build', () => {
  test('two at once in one folder each have their own place, and both succeed', async () => {
    const folder = home();
    const { PATH, calls } = toolchain(temporaryFolder());
    const env = { PATH, RLVR_BUILD_FROM_SOURCE: '1' };
    const both = await Promise.all([install(folder, env), install(folder, env)]);
    for (const each of both) expect(each).toMatchObject({ status: 0, said: '', report: { ok: true } });
    const places = calls()
      .filter(({ args }) => args[0] === '--build')
      .map(({ args }) => args[1]);
    expect(new Set(places).size).toBe(2);
    expect(await cpuOf(folder)).toMatchObject({ available: true, addon: 'source build' });
  });

  test('that fails leaves no addon from before, and the first error', async () => {
    const folder = home();
    put(folder, SOURCE_BUILD, 'from before');
    const { PATH } = toolchain(temporaryFolder(), { error: 'native/cpu/a.cpp:1:2: error: no such thing' });
    const { status, said } = await install(folder, { PATH, RLVR_BUILD_FROM_SOURCE: '1' });
    const reason = 'compiling failed: native/cpu/a.cpp:1:2: error: no such thing';
    expect({ status, said }).toEqual({
      status: 0,
      said: `rlvr-kernels: no native addon (${reason}); the reference backend works without it\n`,
    });
    expect(existsSync(join(folder, SOURCE_BUILD))).toBe(false);
    expect((await cpuOf(folder)).reason).toBe(reason);
  });

  test('needs no home folder, no network and no node-gyp', async () => {
    const folder = home();
    const npm_config_node_gyp = put(folder, 'node-gyp.cjs', `require('fs').writeFileSync('ran', '');`);
    const { PATH } = toolchain(temporaryFolder());
    const { status, report } = await install(folder, { PATH, HOME: '/nonexistent', npm_config_node_gyp });
    expect({ status, report }).toMatchObject({ status: 0, report: { ok: true, addon: 'source build' } });
    expect(existsSync(join(folder, 'ran'))).toBe(false);
  });

  test.each([
    ['RLVR_CUDA', 'on', 'AUTO, ON or OFF'],
    ['CUDA_ARCHS', 'sm_80', "'release', or GPU architectures as CMake takes them, such as '80-real;90'"],
    ['RLVR_BUILD_ARGS', '--cuda', 'a JSON array of strings'],
  ])('%s=%s is refused, and a prebuilt addon used', async (name, value, expected) => {
    const folder = home();
    put(folder, PREBUILD, real());
    const { PATH, calls } = toolchain(temporaryFolder());
    const { status, said, report } = await install(folder, { PATH, RLVR_BUILD_FROM_SOURCE: '1', [name]: value });
    const reason = `${name}: expected ${expected}, got ${JSON.stringify(value)}`;
    expect({ status, calls: calls(), report }).toMatchObject({ status: 0, calls: [], report: { ok: true, reason } });
    expect(said).toBe(`rlvr-kernels: the addon was not compiled (${reason}); the prebuilt one is used\n`);
  });
});

test.runIf(realAddon).each([
  ['0', ''],
  ['false', ''],
  ['', ''],
  ['maybe', 'rlvr-kernels: RLVR_BUILD_FROM_SOURCE: expected 1 or 0, got "maybe"; taken as not set\n'],
])('RLVR_BUILD_FROM_SOURCE=%s does not compile', async (value, said) => {
  const folder = home();
  put(folder, PREBUILD, real());
  const { PATH, calls } = toolchain(temporaryFolder());
  const installed = await install(folder, { PATH, RLVR_BUILD_FROM_SOURCE: value });
  expect({ ...installed, calls: calls() }).toMatchObject({ status: 0, said, report: { addon: 'prebuild' }, calls: [] });
});
