// What an install without an addon says, and what backends() says of the modules for WebAssembly where something is wrong with them.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { packageVersion } from '../../lib/version.js';
import { infoOf, install, layOutPackage, put, root, temporaryFolder } from './package.js';

const version = packageVersion();
const NAMES = ['rlvr_kernels.wasm.br', 'rlvr_kernels.relaxed.wasm.br'];

/** The package with the modules of this checkout, changed. */
function withModules(change: (packed: Buffer) => Buffer = (packed) => packed): string {
  const home = layOutPackage(temporaryFolder());
  for (const name of NAMES) {
    const file = join('prebuilds', 'wasm', name);
    put(home, file, change(readFileSync(join(root, file))));
  }
  return home;
}

describe.runIf(existsSync(join(root, 'prebuilds', 'wasm')))('modules for WebAssembly', () => {
  test('serve where there is no compiler, and the install says so', async () => {
    const home = withModules();
    const { status, said } = await install(home, { PATH: '/nonexistent' });
    expect({ status, said }).toEqual({
      status: 0,
      said: expect.stringMatching(/; the wasm backend works without it\n$/),
    });
    expect(await infoOf(home, 'wasm')).toMatchObject({ available: true, simd: expect.any(String) });
  });

  test('of another version are not used', async () => {
    const other = version.replace(/^\d/, '9');
    const home = withModules((packed) => {
      const bytes = brotliDecompressSync(packed);
      bytes.write(other, bytes.indexOf(`${version}\0`), 'latin1');
      return brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
    });
    const { available, reason } = await infoOf(home, 'wasm');
    expect(available).toBe(false);
    expect(reason).toMatch(new RegExp(`\\.wasm is of version ${other}, this is version ${version}$`));
  });

  test.each([0, 100, 0.9])('cut short at %d are not used', async (at) => {
    const home = withModules((packed) => packed.subarray(0, at < 1 ? Math.floor(at * packed.length) : at));
    expect(await infoOf(home, 'wasm')).toEqual({ name: 'wasm', available: false, reason: expect.stringMatching(/./) });
  });

  test('that are no modules are not used', async () => {
    const home = withModules(() => brotliCompressSync(Buffer.from('not a module')));
    expect((await infoOf(home, 'wasm')).reason).toMatch(/WebAssembly/);
  });
});
