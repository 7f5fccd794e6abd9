// Memory that a device keeps after it was freed: who can have it. Only the emulation can be made small enough.
import { afterEach, describe, expect, test } from 'vitest';
import { openDevice } from '../lib/cuda/index.js';
import { DEVICES, emulation } from './support/device.js';

describe.runIf(emulation && DEVICES > 0)('memory of a device', () => {
  const MIB = 2 ** 20;
  afterEach(() => {
    emulation!.pretend('memory', -1);
    expect(emulation!.misuses()).toBeUndefined();
  });

  test('trim gives back what was kept, and leaves what is in use', async () => {
    const device = openDevice();
    const [first, kept] = [device.empty([1, MIB]), device.empty([1, 3])];
    first.dispose();
    device.synchronizeSync();
    emulation!.pretend('memory', emulation!.liveBytes() + 4 * MIB);
    expect(emulation!.allocate(3 * MIB)).toBe(0n); // the pool has them
    await device.trim();
    const pointer = emulation!.allocate(3 * MIB);
    expect(pointer).not.toBe(0n);
    emulation!.free(pointer);
    expect(device.allocatedBytes).toBe(12);
    device.empty([1, MIB / 2]).dispose();
    device.trimSync();
    kept.dispose();
  });

  test('a call that finds no memory takes what other devices of the process keep', () => {
    const [first, second] = [openDevice(), openDevice()];
    emulation!.pretend('memory', emulation!.liveBytes() + 4 * MIB);
    first.empty([1, MIB / 2]).dispose();
    const tensor = second.empty([1, MIB - 100]);
    expect(second.allocatedBytes).toBe(4 * (MIB - 100));
    tensor.dispose();
    expect(first.empty([1, MIB / 2]).disposed).toBe(false);
  });
});
