// The memory yardsticks of the addon: reading a [T, V] array with all threads of the package's pool, and copying one to
// another. What no kernel can beat by much.
import { type Addon, nativeAddon } from '../../backend/native.js';
import type { HostTensor } from '../../index.js';
import type { HostArrays } from './arrays.js';
import type { Shape } from './report.js';
import type { Contender, Traffic } from './timing.js';

export function benchAddon(): Addon | undefined {
  const addon = nativeAddon();
  return 'reason' in addon ? undefined : addon;
}

/** What the addon's diagnostics take. */
export const asBytes = ({ data }: HostTensor) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

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
    yardstick('copy, streaming', copying, (k) => addon.streamMemory(copyArguments(k))), // past the caches
  ];
}
