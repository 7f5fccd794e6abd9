// Machines on which CUDA is there but cannot be used: why not is said before anything runs. The emulation plays them.
import { afterEach, describe, expect, test } from 'vitest';
import { nativeCuda } from '../lib/backend/addon.js';
import { openDevice } from '../lib/cuda/index.js';
import type { BackendInfo } from '../lib/index.js';
import { childJson } from './boundary/child.js';
import { runCli } from './cli/run-cli.js';
import { DEVICES, emulation } from './support/device.js';
import { failureOf, rlvrError } from './support/errors.js';

const MACHINES: [name: string, what: 'driver' | 'pools' | 'images', value: number, reason: RegExp][] = [
  [
    'an old driver',
    'driver',
    12040,
    /^the NVIDIA driver is for CUDA 12\.4, and this addon was built with CUDA 13\.0, which needs driver 580 or newer$/,
  ],
  ['no memory pools', 'pools', 0, /^emulated has no memory pools/],
  [
    'no kernels for the device',
    'images',
    0,
    /^no kernels for emulated in this addon: cudaErrorNoKernelImageForDevice: /,
  ],
];

describe.runIf(emulation && DEVICES > 0)('machines', () => {
  afterEach(() => {
    for (const what of ['driver', 'pools', 'images'] as const) emulation!.pretend(what, -1);
  });

  test.each(MACHINES)('%s: no device is opened', async (_name, what, value, reason) => {
    emulation!.pretend(what, value);
    const message = new RegExp(`^index: expected a CUDA device, got 0: ${reason.source.slice(1)}`);
    expect(await failureOf(() => openDevice())).toEqual(rlvrError('ERR_BACKEND', message));
  });

  test.each(MACHINES)('%s: backends() says so, and host arrays are refused', async (_name, what, value, reason) => {
    const env = { [`RLVR_EMULATION_${what.toUpperCase()}`]: String(value) };
    const { found, message } = await childJson<{ found: BackendInfo; message: string }>(
      `const found = rlvr.backends().find(({ name }) => name === 'cuda');
       const batch = { logits: Float32Array.of(0, 1), targets: Int32Array.of(0) };
       const message = await rlvr.tokenLogProbs(batch, { backend: 'cuda' }).catch((error) => error.message);
       console.log(JSON.stringify({ found, message }));`,
      { env },
    );
    expect(found).toEqual({ name: 'cuda', available: false, reason: expect.stringMatching(reason) });
    expect(message).toBe(`backend: expected an available backend, got 'cuda': ${found.reason}`);
  });

  test('a driver newer than the runtime, or older within its major version, will do', () => {
    for (const driver of [13000, 13010, 14020]) {
      emulation!.pretend('driver', driver);
      const cuda = nativeCuda();
      expect('info' in cuda && cuda.info(0)).toMatchObject({ driver, runtime: 13000, device: 'emulated' });
      expect(openDevice().computeCapability).toBe('9.0');
    }
  });

  test('info prints the reason', async () => {
    const { status, stdout } = await runCli(['info'], { env: { RLVR_EMULATION_DRIVER: '12040' } });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ *cuda +.*the NVIDIA driver is for CUDA 12\.4, .* needs driver 580 or newer/m);
  });
});
