// The addon itself, for what the package does not offer: measuring the memory bandwidth, and using fewer threads.
import { type Addon, nativeAddon } from '../../lib/backend/addon.js';
import type { HostTensor } from '../../lib/index.js';

export function benchAddon(): Addon | undefined {
  const addon = nativeAddon();
  return 'reason' in addon ? undefined : addon;
}

/** What the addon's diagnostics take. */
export const asBytes = ({ data }: HostTensor) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
