// What compiling needs from npm, in an installed package, which does not bring it: with a stand-in for npm.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cpuOf, install, layOutPackage, put, realAddon, root, temporaryFolder, toolchain } from './package.js';

const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** "Installs" by links to this checkout's packages, or ends with `error`; writes down how it was called. */
const npm = (log: string, error: string) => `
const { appendFileSync, mkdirSync, readFileSync, symlinkSync } = require('node:fs');
const args = process.argv.slice(2);
const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const given = Object.keys(process.env).filter((name) => name.startsWith('npm_config_'));
appendFileSync(${JSON.stringify(log)}, JSON.stringify({ args, given, dependencies }) + '\\n');
if (${JSON.stringify(error)}) { console.error(${JSON.stringify(error)}); process.exit(1); }
mkdirSync('node_modules');
for (const name in dependencies) symlinkSync(${JSON.stringify(join(root, 'node_modules'))} + '/' + name, 'node_modules/' + name);
`;

interface NpmCall {
  args: string[];
  given: string[];
  dependencies: Record<string, string>;
}

function setting({ error = '' } = {}) {
  const folder = temporaryFolder();
  const home = layOutPackage(folder, ['node-gyp-build']);
  const log = join(folder, 'npm.jsonl');
  const npm_execpath = put(folder, 'npm-cli.js', npm(log, error));
  const { PATH, calls: cmakeCalls } = toolchain(folder);
  const npmCalls = (): NpmCall[] =>
    existsSync(log)
      ? readFileSync(log, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
      : [];
  return { home, folder, env: { PATH, npm_execpath }, npmCalls, cmakeCalls };
}

describe.runIf(realAddon)('an installed package that has to compile', () => {
  test('fetches the pinned tools into build/tools, once', async () => {
    const { home, env, npmCalls } = setting();
    const outer = { npm_config_global: 'true', npm_config_prefix: '/usr', npm_config_cache: '/c' };
    const { status, said, report } = await install(home, { ...env, ...outer });
    expect({ status, report }).toMatchObject({ status: 0, report: { ok: true, addon: 'source build' } });
    expect(said).toMatch(/^rlvr-kernels: no prebuilt addon for .*; compiled here for .*\n$/);
    expect(readdirSync(join(home, 'build')).sort()).toEqual(['Release', 'install-report.json', 'tools']);
    const [{ args, given, dependencies }] = npmCalls();
    expect(dependencies).toEqual({
      'cmake-js': devDependencies['cmake-js'],
      'node-addon-api': devDependencies['node-addon-api'],
    });
    for (const version of Object.values(dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(args).toEqual(expect.arrayContaining(['install', '--ignore-scripts']));
    expect(given).toEqual(['npm_config_cache']);
    await install(home, { ...env, RLVR_BUILD_FROM_SOURCE: '1' });
    expect(npmCalls()).toHaveLength(1);
    expect(await cpuOf(home)).toMatchObject({ available: true });
  });

  test('does not take those of another version that lie near', async () => {
    const { home, folder, env, npmCalls } = setting();
    for (const name of ['cmake-js', 'node-addon-api']) {
      put(folder, `node_modules/${name}/package.json`, '{ "version": "1.0.0" }');
    }
    expect(await install(home, env)).toMatchObject({ status: 0, report: { ok: true } });
    expect(npmCalls()).toHaveLength(1);
  });

  test('and cannot fetch them: one line with the reason, and the reference', async () => {
    const said = 'npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error request failed: no network';
    const { home, env, cmakeCalls } = setting({ error: said });
    const installed = await install(home, env);
    expect(installed.status).toBe(0);
    const reason = `cannot fetch cmake-js@${devDependencies['cmake-js']} and node-addon-api@${devDependencies['node-addon-api']}`;
    expect(installed.said).toContain(
      `; ${reason}, which compiling needs: request failed: no network); the reference backend works without it\n`,
    );
    expect(installed.said.match(/\n/g)).toHaveLength(1);
    expect(cmakeCalls()).toEqual([]);
    expect(readdirSync(join(home, 'build'))).toEqual(['install-report.json']);
    expect((await cpuOf(home)).reason).toContain(reason);
  });

  test('and needs no npm where there is no compiler', async () => {
    const { home, env, npmCalls } = setting();
    await install(home, { ...env, PATH: '/nonexistent' });
    expect(npmCalls()).toEqual([]);
  });
});
