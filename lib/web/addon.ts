// lib/backend/addon.ts and cpu.ts for browsers, where no addon can be: nothing is wrong when WebAssembly takes its place.
import type { Absent, Addon, NativeCuda } from '../backend/addon.js';
import type { cpuBackend as nodeBackend } from '../backend/cpu.js';

const ABSENT: Absent = { reason: 'not in a browser: it needs the native addon, which is for Node.js', byNature: true };

export function nativeAddon(): Addon | Absent {
  return ABSENT;
}

export function nativeCuda(): NativeCuda | Absent {
  return ABSENT;
}

export function loadedAddon(): Addon | undefined {
  return undefined;
}

export function cpuBackend(): ReturnType<typeof nodeBackend> {
  return ABSENT;
}
