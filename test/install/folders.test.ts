// Installs in folders whose names mean something to shells, make, CMake or nvcc.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { specialCharacter, workFolder } from '../../install/folders.mjs';
import { cpuOf, install, layOutPackage, realAddon, temporaryFolder, toolchain } from './package.js';

const INJECTED = ['a$(touch pwned)b', 'back`touch pwned`tick', "it's; touch pwned; here", '"a" & #100%, [x]*?:\n🙂'];
const PLAIN = 'sp ace (x) ünï 漢字 a+b=c~d@e';

describe.runIf(realAddon)('an install from source', () => {
  test.each(INJECTED)('in %j hands only plain paths to the tools', async (name) => {
    const folder = temporaryFolder();
    const { PATH, calls } = toolchain(folder);
    const home = layOutPackage(join(folder, name));
    const { status, said, report } = await install(home, { PATH, RLVR_BUILD_FROM_SOURCE: '1' });
    expect({ status, said, report }).toMatchObject({
      status: 0,
      said: '',
      report: { ok: true, addon: 'source build' },
    });
    expect(calls().length).toBe(2); // configure, build
    for (const { args, cwd, TMPDIR } of calls()) {
      expect([...args, cwd, TMPDIR].filter((text) => text.includes(name))).toEqual([]);
      expect(existsSync(cwd)).toBe(false); // removed
    }
    expect(readdirSync(folder, { recursive: true }).filter((path) => /(^|\/)pwned$/.test(String(path)))).toEqual([]);
    expect(readdirSync(join(home, 'build')).sort()).toEqual(['Release', 'install-report.json']);
    expect(await cpuOf(home)).toMatchObject({ available: true, addon: 'source build' });
  });

  test('in spaces, letters and digits of all scripts, and the rest that tools take, builds there', async () => {
    const folder = temporaryFolder();
    const { PATH, calls } = toolchain(folder);
    const home = layOutPackage(join(folder, PLAIN));
    expect(await install(home, { PATH, RLVR_BUILD_FROM_SOURCE: '1' })).toMatchObject({ status: 0, said: '' });
    for (const { cwd } of calls()) expect(cwd).toContain(join(home, 'build'));
    expect(readdirSync(join(home, 'build')).sort()).toEqual(['Release', 'install-report.json']);
    expect(await cpuOf(home)).toMatchObject({ available: true });
  });

  test.each([
    ['absent', 'a;b'],
    ['a$(touch pwned)b', 'plain'],
  ])('with TMPDIR=%s, in %s', async (name, place) => {
    const folder = temporaryFolder();
    const { PATH, calls } = toolchain(folder);
    const TMPDIR = join(folder, name);
    if (name !== 'absent') mkdirSync(TMPDIR);
    const home = layOutPackage(join(folder, place));
    expect(await install(home, { PATH, TMPDIR, RLVR_BUILD_FROM_SOURCE: '1' })).toMatchObject({ status: 0, said: '' });
    expect(calls().length).toBe(2);
    for (const call of calls()) expect(JSON.stringify(call)).not.toContain(TMPDIR);
  });
});

test('what is plain', () => {
  for (const special of '$`\'";&|<>,#%*?[]{}!^\n\t🙂') expect(specialCharacter(`/home/x${special}y/z`)).toBe(special);
  expect(specialCharacter(`/home/${PLAIN}/a_b-c.d`)).toBeUndefined();
  expect(specialCharacter("/it's;/")).toBe("'");
});

test('without any plain folder the reason names the character, and where it looked', () => {
  expect(() => workFolder('/a;b/build', ['/tmp/$x', '/nonexistent'])).toThrow(
    'compilers cannot take the ";" in /a;b/build, and there is no other folder to build in (tried /tmp/$x, /nonexistent)',
  );
});
