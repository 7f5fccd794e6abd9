// Copies between host arrays and device memory, the addon's own functions: how rows are copied; and called as the package
// itself never calls them: each throws a TypeError and touches nothing.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type NativeCuda, type NativeDevice, nativeCuda } from '../lib/backend/addon.js';
import type { DeviceMemory, HostMatrix } from '../lib/kernels.js';
import { describeDevices, type Emulation, emulation } from './support/device.js';

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

  describe.runIf(emulation)('rows', () => {
    const { operations, pretend } = emulation ?? ({} as Emulation);
    const [rows, width, stride] = [5, 3, 7];
    const host = (step: number): HostMatrix => {
      const array = Float32Array.from({ length: rows * step }, (_, i) => i);
      return { array, dtype: 0, rows, width, stride: step };
    };
    afterEach(() => {
      pretend('maxPitch', -1);
    });

    /** Writes a matrix to rows `to` apart, reads it back; returns how many copies that took, and how many 2-D ones. */
    function roundTrip(from: number, to: number) {
      const device = new (nativeCuda() as NativeCuda).Device(0, undefined); // asks for the limit
      const room = device.allocate(rows * stride * 4);
      const before = operations();
      const source = host(from);
      room.write(source, to);
      const back = { ...host(from), array: new Float32Array(rows * from).fill(NaN) };
      room.read(back, to);
      for (let r = 0; r < rows; r++) {
        const row = (m: HostMatrix) => [...m.array.subarray(r * from, r * from + width)];
        expect(row(back)).toEqual(row(source));
      }
      const after = operations();
      room.dispose();
      return [after.copies - before.copies, after.copies2d - before.copies2d];
    }

    test('without gaps: one copy, that is not 2-D', () => {
      pretend('maxPitch', 4 * width - 1);
      expect(roundTrip(width, width)).toEqual([2, 0]);
    });

    test.each([
      [stride, width],
      [width, stride],
      [stride, stride],
    ])('with gaps, %i and %i apart: one 2-D copy', (from, to) => {
      expect(roundTrip(from, to)).toEqual([2, 2]);
    });

    test.each([
      [stride, width],
      [width, stride],
    ])('farther apart than a 2-D copy can go, %i and %i: each by itself', (from, to) => {
      pretend('maxPitch', 4 * stride - 1);
      expect(roundTrip(from, to)).toEqual([2 * rows, 0]);
    });
  });

  test('no rows to speak of, at a distance that would overflow', async () => {
    const empty = { ...matrix, rows: 2 ** 48, width: 0, stride: 0 };
    for (const copy of copies) expect(await failure(() => copy(memory, empty, 2 ** 39))).toMatchObject(refused);
  });
});
