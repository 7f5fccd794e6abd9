// Copies between host arrays and device memory, the addon's own functions, called as the package itself never calls them:
// each throws a TypeError and touches nothing.
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NativeCuda, NativeDevice } from '../lib/backend/addon.js';
import { nativeCuda } from '../lib/backend/cuda.js';
import type { DeviceMemory, HostMatrix } from '../lib/kernels.js';
import { describeDevices } from './support/device.js';

/** What a call throws or rejects with. */
async function failure(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return expect.fail('no error');
}

describeDevices('copies of the addon', () => {
  const matrix: HostMatrix = { array: new Float32Array(11), dtype: 0, rows: 3, width: 3, stride: 4 };
  const { array: _, ...without } = matrix;
  const refused = { name: 'TypeError', message: expect.stringMatching(/native call: /) };
  const copies: readonly ((memory: DeviceMemory, matrix: unknown, stride: unknown) => unknown)[] = [
    (memory, matrix, stride) => memory.write(matrix as never, stride as never),
    (memory, matrix, stride) => memory.writeAsync(matrix as never, stride as never),
    (memory, matrix, stride) => memory.read(matrix as never, stride as never),
    (memory, matrix, stride) => memory.readAsync(matrix as never, stride as never),
  ];
  const bad: readonly [name: string, matrix: unknown][] = [
    ['no matrix', undefined],
    ['an array alone', matrix.array],
    ['no array', without],
    ['an array of another type', { ...matrix, array: new Uint16Array(11) }],
    ['another dtype than the array has', { ...matrix, dtype: 1 }],
    ['an unknown dtype', { ...matrix, dtype: 3 }],
    ['an array too short', { ...matrix, array: new Float32Array(10) }],
    ['more rows', { ...matrix, rows: 4 }],
    [
      'rows beyond any memory',
      { ...matrix, array: new Float32Array(0), rows: 2 ** 51, width: 2 ** 20, stride: 2 ** 20 },
    ],
    ['negative rows', { ...matrix, rows: -1 }],
    ['half a row', { ...matrix, rows: 0.5 }],
    ['rows that overlap', { ...matrix, stride: 2 }],
    ['a text', { ...matrix, width: '3' }],
  ];
  let native: NativeDevice;
  let memory: DeviceMemory;

  beforeAll(() => {
    native = new (nativeCuda() as NativeCuda).Device(0, undefined);
    memory = native.allocate(9 * 4);
  });
  afterAll(() => memory.dispose());

  test('what they take', async () => {
    for (const copy of copies) await copy(memory, matrix, 3);
    for (const copy of copies) await copy(memory, { ...matrix, rows: 0 }, 2 ** 50);
  });

  test.each(bad)('%s', async (_name, matrix) => {
    for (const copy of copies) expect(await failure(() => copy(memory, matrix, 3))).toMatchObject(refused);
    const session = native.session();
    expect(await failure(() => session.upload(matrix as never))).toMatchObject(refused);
    expect(await failure(() => session.uploadAsync(matrix as never))).toMatchObject(refused);
    session.close();
  });

  test.each([undefined, 2, 4, -1, NaN, 2 ** 52, '3'])('a stride of %s on the device', async (stride) => {
    for (const copy of copies) expect(await failure(() => copy(memory, matrix, stride))).toMatchObject(refused);
  });

  test('no rows to speak of, at a distance that would overflow', async () => {
    const empty = { ...matrix, rows: 2 ** 48, width: 0, stride: 0 };
    for (const copy of copies) expect(await failure(() => copy(memory, empty, 2 ** 39))).toMatchObject(refused);
  });
});
