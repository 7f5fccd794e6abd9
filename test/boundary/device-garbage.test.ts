// Device tensors that nobody disposes of. V8 knows their bytes as external memory (native/binding/cuda_memory.cpp), so
// it collects the small objects that own them long before the device is full (small tensors go with the ordinary garbage of
// their calls even before that); the memory goes back at the next turn of the event loop.
import { describe, expect, test } from 'vitest';
import { DEVICES } from '../support/device.js';
import { builtFile, childJson } from './child.js';

const gc = { nodeOptions: ['--expose-gc'] };

interface Bytes {
  total: number; // of all tensors made
  most: number; // at any time: what the device counts, and what the emulation does
  left: number; // after the garbage was collected
  misuses: string | undefined;
}

const DEVICE = `
  const { openDevice } = await import(${builtFile('./cuda/index.js')});
  const { nativeAddon } = await import(${builtFile('./backend/addon.js')});
  const { emulation } = nativeAddon().cuda;
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  async function collect() {
    for (let i = 0; i < 20; i++) {
      gc();
      await turn();
    }
  }`;

/** Makes `count` things that hold `size` bytes each, and forgets them. */
function measure(count: number, size: number, make: string): string {
  return `
    ${DEVICE}
    const device = openDevice();
    const before = emulation?.liveBytes() ?? 0;
    const held = () => Math.max(device.allocatedBytes, (emulation?.liveBytes() ?? 0) - before);
    const host = { data: new Float32Array(16 * 1024), shape: [16, 1024] };
    const make = (() => { ${make} })();
    let most = 0;
    for (let i = 0; i < ${count}; i++) {
      await make(i);
      most = Math.max(most, held());
    }
    await collect();
    device.synchronizeSync(); // memory is given back in the stream's order
    const left = device.allocatedBytes;
    const total = ${count} * ${size};
    console.log(JSON.stringify({ total, most, left, misuses: emulation?.misuses() }));`;
}

const TENSOR = 64 * 1024;
const GRADIENT = 4 * 65536 * 4;
// Masked tokens keep the emulation fast: their gradient is written, their logits are not read.
const LOSS = `
  const logits = device.uploadSync({ data: new Float32Array(4 * 65536), shape: [4, 65536] });
  const batch = {
    logits, targets: new Int32Array(4), mask: new Uint8Array(4), cuSeqlens: Int32Array.of(0, 2, 4),
    cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0),
  };`;

describe.runIf(DEVICES > 0)('forgotten device memory is bounded', () => {
  test.each<[name: string, count: number, size: number, kept: number, make: string]>([
    [
      'uploadSync',
      10_000,
      TENSOR,
      0,
      'return (i) => { device.uploadSync(host); return i % 10 ? undefined : turn(); };',
    ],
    [
      'uploadSync of large tensors',
      1000,
      16 * TENSOR,
      0,
      `const large = { data: new Float32Array(16 * 16 * 1024), shape: [256, 1024] };
      return () => { device.uploadSync(large); return turn(); };`,
    ],
    ['upload', 10_000, TENSOR, 0, 'return async () => { await device.upload(host); };'],
    [
      'gradients of losses',
      400,
      GRADIENT,
      GRADIENT, // the logits
      `${LOSS} return async (i) => { await (i % 2 ? rlvr.conspo(batch) : rlvr.conspoSync(batch)); await turn(); };`,
    ],
    [
      'wrapped tensors',
      10_000,
      TENSOR,
      0,
      `return (i) => {
        const owner = device.uploadSync(host);
        device.wrap({ pointer: owner.pointer, shape: [16, 1024], dtype: 'f32', owner });
        return i % 10 ? undefined : turn();
      };`,
    ],
  ])('%s', async (_name, count, size, kept, make) => {
    const { total, most, left, misuses } = await childJson<Bytes>(measure(count, size, make), gc);
    expect(most).toBeGreaterThan(size); // something was forgotten
    expect(most).toBeLessThan(0.2 * total);
    expect(left).toBe(kept);
    expect(misuses).toBeUndefined();
  });

  test('a device that nobody holds goes with all it has', async () => {
    const { after, misuses } = await childJson<{ after: number; misuses?: string }>(
      `
      ${DEVICE}
      async function use(i) {
        const device = openDevice();
        ${LOSS}
        await Promise.all([rlvr.conspo(batch), rlvr.tokenLogProbs(batch)]);
        if (i % 2) device.dispose();
      }
      for (let i = 0; i < 50; i++) await use(i);
      await collect();
      console.log(JSON.stringify({ after: emulation?.liveAllocations() ?? 0, misuses: emulation?.misuses() }));`,
      gc,
    );
    expect([after, misuses]).toEqual([0, undefined]);
  });
});
