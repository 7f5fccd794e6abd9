// A context takes hundreds of megabytes of a device. Only devices that are used may have one, which the emulation shows.
import { describe, expect, test } from 'vitest';
import { builtFile, childJson } from './boundary/child.js';
import { DEVICES, emulation } from './support/device.js';

/** Which of the first two devices have a context after `source`, in a process of its own. */
function contextsAfter(source: string): Promise<boolean[]> {
  return childJson<boolean[]>(`
    import { openDevice } from ${builtFile('./cuda/index.js')};
    const { emulation, info } = (await import(${builtFile('./backend/addon.js')})).nativeAddon().cuda;
    const batch = {
      targets: Int32Array.of(0, 1), cuSeqlens: Int32Array.of(0, 1, 2), cuGroups: Int32Array.of(0, 2),
      rewards: Float32Array.of(1, 0),
    };
    const host = { data: Float32Array.of(2, 0, 0, 2), shape: [2, 2] };
    ${source}
    if (emulation.misuses()) throw new Error(emulation.misuses());
    console.log(JSON.stringify([0, 1].map(emulation.hasContext)));`);
}

describe.runIf(emulation && DEVICES > 1)('contexts', () => {
  test.each<[name: string, source: string, contexts: boolean[]]>([
    ['a device is asked what it is', 'info(1);', [false, true]],
    ['a device is opened', 'openDevice(1);', [false, true]],
    [
      'a device is used, now and on other threads',
      `const device = openDevice(1);
       const logits = await device.upload(host);
       for (let i = 0; i < 2; i++) {
         await rlvr.conspo({ ...batch, logits });
         rlvr.conspoSync({ ...batch, logits });
       }
       await logits.download();
       await device.synchronize();
       logits.dispose();
       device.dispose();`,
      [false, true],
    ],
    [
      'both are used in turns',
      `for (const i of [0, 1, 0]) {
         const device = openDevice(i);
         rlvr.conspoSync({ ...batch, logits: device.uploadSync(host) });
       }`,
      [true, true],
    ],
  ])('%s', async (_name, source, contexts) => {
    expect(await contextsAfter(source)).toEqual(contexts);
  });
});
