import { asBytes, benchAddon } from '../problems/addon.js';
import type { HostArrays } from '../problems/arrays.js';
import { COPIES, copyOnDevice, type DeviceArrays } from '../problems/device-arrays.js';
import type { Shape } from '../report/report.js';
import type { Contender, Traffic } from '../timing.js';

/** None without the addon. */
export function yardsticks(
  arrays: HostArrays,
  shape: Shape,
  threads = benchAddon()?.cpuInfo().threads ?? 1,
): Contender[] {
  const addon = benchAddon();
  if (!addon) return [];
  const { bytes, slots, dtype } = arrays;
  const sources = arrays.logits.map(asBytes);
  const destinations = arrays.out.map(asBytes);
  const copyArguments = (k: number) => ({ source: sources[k], destination: destinations[k], bytes });
  const yardstick = (op: string, moves: Traffic, run: Contender['run']): Contender => ({
    section: 'memory',
    op,
    by: 'memory',
    backend: null,
    threads,
    dtype,
    shape,
    moves,
    memoryBound: true,
    slots,
    check: () => null,
    run,
  });
  const reading = { read: bytes, copied: 0 };
  const copying = { read: 0, copied: bytes };
  return [
    yardstick('read', reading, (k) => addon.readMemory({ source: sources[k], bytes })),
    yardstick('copy', copying, (k) => addon.copyMemory(copyArguments(k))),
    yardstick('copy, streaming', copying, (k) => addon.streamMemory(copyArguments(k))), // with non-temporal stores
  ];
}

export function deviceYardstick({ bytes, dtype, slots, logits, out }: DeviceArrays, shape: Shape): Contender {
  return {
    section: 'memory',
    op: 'copy',
    by: 'memory',
    backend: 'cuda',
    threads: null,
    dtype,
    shape,
    moves: { read: 0, copied: bytes },
    memoryBound: true,
    slots,
    check: () => null,
    run: async (slot) => copyOnDevice(out[slot], logits[slot], bytes, COPIES),
  };
}
