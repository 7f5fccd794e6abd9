// Ranks over NCCL: on the emulated CUDA with an NCCL of the tests' own (test/ranks/fake_nccl.cpp), whose ranks are threads and processes.
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type NativeCuda, nativeCuda } from '../lib/backend/addon.js';
import { memoryOf, nativeDeviceOf } from '../lib/cuda/device.js';
import { openDevice } from '../lib/cuda/index.js';
import { inProcess } from '../lib/index.js';
import { openNccl } from '../lib/nccl/index.js';
import { conformance, expectedMistakes, mistakes } from './ranks/conformance.mjs';
import { DEVICES, emulation } from './support/device.js';
import { failureOf, rlvrError } from './support/errors.js';
import { isPresent, LAUNCHERS, mpirun, REQUIRED, run } from './support/mpirun.js';
import { fakeNccl, HAS_FAKE, overNccl, settledOverNccl } from './support/nccl.js';

const one = () => Float64Array.of(1);
const reasons = (settled: PromiseSettledResult<unknown>[]) =>
  settled.map((each) => (each.status === 'rejected' ? `${each.reason.code} ${each.reason.message}` : 'well'));

test('options', async () => {
  const [via] = inProcess(1);
  const refused = async (options: object, code: string, message: string) =>
    expect(await failureOf(() => openNccl(options as never))).toEqual(rlvrError(code, message));
  await refused({}, 'ERR_DTYPE', 'via: expected a Communicator, got undefined');
  await refused({ via, com: 1n }, 'ERR_OPTION', 'com');
  await refused({ via, comm: 5 }, 'ERR_RANGE', 'comm: expected an address as a bigint, got 5');
  await refused({ via, device: 0 }, 'ERR_DTYPE', 'device: expected a Device, got 0');
  await refused({ via, library: '' }, 'ERR_DTYPE', 'library: expected the name of a file');
  await refused({ via, timeout: 0 }, 'ERR_RANGE', 'timeout: expected a whole number at least 1');
});

test.runIf(process.platform === 'linux' && DEVICES > 0)('a library that is not there, or is none', async () => {
  const [via] = inProcess(1);
  expect(await failureOf(() => openNccl({ via, library: 'libother.so.2' }))).toEqual(
    rlvrError(
      'ERR_BACKEND',
      /^library: expected NCCL 2\.18 .*apt-get install libnccl2.*got none: libother\.so\.2: .*No such file/,
    ),
  );
  expect(await failureOf(() => openNccl({ via, library: 'libm.so.6' }))).toEqual(
    rlvrError('ERR_BACKEND', 'libm.so.6: it has no ncclGetVersion'),
  );
});

test.runIf(DEVICES === 0)('without a device it is refused, on all ranks', async () => {
  const settled = await Promise.allSettled(inProcess(2).map((via) => openNccl({ via })));
  for (const each of reasons(settled))
    expect(each).toMatch(/^ERR_BACKEND (openNccl: expected an addon with CUDA|library: )/);
});

describe.runIf(HAS_FAKE)('over an NCCL without GPUs', () => {
  let fake: ReturnType<typeof fakeNccl>;
  const failing = async <R>(how: string, work: () => Promise<R>): Promise<R> => {
    process.env.FAKE_NCCL_FAIL = how;
    try {
      return await work();
    } finally {
      delete process.env.FAKE_NCCL_FAIL;
    }
  };
  beforeAll(() => {
    fake = fakeNccl();
    process.env.FAKE_NCCL_VERSION = '21703';
  });
  /** Those that were given up go on threads of their own. */
  const left = (communicators: number) =>
    vi.waitFor(() => expect(emulation!.ncclLive(fake.library)).toBe(communicators));
  afterAll(async () => {
    expect(emulation!.misuses()).toBeUndefined();
    await left(3); // those of another library, below
    fake.remove();
  });

  test('an NCCL that is too old', async () => {
    const [via] = inProcess(1);
    const { library } = fake;
    expect(await failureOf(() => openNccl({ via, library }))).toEqual(
      rlvrError('ERR_BACKEND', 'it is version 21703, older than 2.18 (21800)'),
    );
    delete process.env.FAKE_NCCL_VERSION;
    await overNccl(1, { library }, async () => undefined);
    expect(await failureOf(() => openNccl({ via, library: 'libother.so' }))).toEqual(
      rlvrError('ERR_BACKEND', `got none: libother.so: the process uses ${library} already`),
    );
  });

  test.each([1, 2, 4])('sums, maxima and lists, on %d ranks of a thread', async (size) => {
    const { library } = fake;
    const wrong = await overNccl(size, { library }, async (comm) => {
      expect([comm.size, comm.library]).toEqual([size, { file: library, version: '2.18.5' }]);
      const found = await conformance(comm, { sync: size === 1, rankOrder: true });
      if (size === 1) return found;
      const [errors, expected] = [await mistakes(comm, false), expectedMistakes(comm.rank, size)];
      return [...found, ...errors.filter((error, i) => error !== expected[i])];
    });
    expect(wrong.flat()).toEqual([]);
  });

  test('more numbers than travel at a time', async () => {
    const length = 2 ** 20 + 5;
    const sums = await overNccl(2, { library: fake.library }, async (comm) => {
      const [sum] = [await comm.allReduce(new Float64Array(length).fill(comm.rank + 1), 'sum')];
      const lists = await comm.allGather(new Float64Array(comm.rank * length).fill(7));
      return [sum.every((x) => x === 3), lists.map((list) => list.length), lists[1].every((x) => x === 7)];
    });
    expect(sums).toEqual(Array(2).fill([true, [0, length], true]));
  });

  test('a blocking call beside a rank of the same thread is refused', async () => {
    const got = await settledOverNccl(2, { library: fake.library }, async (comm) => comm.allReduceSync(one(), 'sum'));
    expect(reasons(got)).toEqual(
      [1, 0].map(
        (other) =>
          `ERR_RANK allReduceSync: expected the other ranks on threads of their own, got rank ${other} on this one, which would wait for it`,
      ),
    );
  });

  test('a closed rank fails the calls of the others, and closing gives all memory back', async () => {
    const before = emulation!.liveBytes();
    const got = await settledOverNccl(2, { library: fake.library }, async (comm) => {
      if (comm.rank === 0) return;
      await comm.allGather(one());
    });
    expect(reasons(got)).toEqual(['well', 'ERR_RANK rank 0 of 2 was closed']);
    expect(emulation!.liveBytes()).toBeLessThanOrEqual(before);
  });

  test('an error of one rank before the beginning reaches the others', async () => {
    const got = await settledOverNccl(
      3,
      (rank) => ({ library: fake.library, ...(rank === 1 && { timeout: -1 }) }),
      async () => undefined,
    );
    const message = 'timeout: expected a whole number at least 1 and at most 2147483647, got -1';
    expect(reasons(got)).toEqual([
      `ERR_RANK rank 1 failed: ${message}`,
      `ERR_RANGE ${message}`,
      `ERR_RANK rank 1 failed: ${message}`,
    ]);
  });

  test('a beginning that fails on one rank ends on the others', async () => {
    const got = await failing('init 1', () => settledOverNccl(3, { library: fake.library }, async () => undefined));
    const reported = `${fake.library} (2.18.5) reported unhandled system error (as it was told)`;
    expect(reasons(got)).toEqual([
      'ERR_RANK rank 1 failed: unhandled system error (as it was told)',
      `ERR_RANK openNccl: ${reported}`,
      'ERR_RANK rank 1 failed: unhandled system error (as it was told)',
    ]);
  });

  test('an error in the middle ends the call on every rank, and every call after it', async () => {
    const got = await failing('error 1 4', () =>
      settledOverNccl(2, { library: fake.library }, async (comm) => {
        await comm.allReduce(one(), 'sum'); // two calls of NCCL
        const failure = await failureOf(() => comm.allReduce(one(), 'max'));
        expect(await failureOf(() => comm.allGather(one()))).toBe(failure);
        throw failure;
      }),
    );
    expect(reasons(got)).toEqual(
      [0, 1].map((rank) =>
        expect.stringMatching(
          `ERR_RANK (reduce|gather) on rank ${rank}: NCCL reported remote process exited .*as it was told`,
        ),
      ),
    );
  });

  test('a rank that nobody hears of again is waited for until the time is up', async () => {
    const got = await failing('silence 0 3', () =>
      settledOverNccl(2, { library: fake.library, timeout: 300 }, async (comm) => {
        await comm.allReduce(one(), 'sum');
        return comm.allReduce(one(), 'sum');
      }),
    );
    expect(reasons(got)).toEqual(
      [0, 1].map((rank) => `ERR_RANK gather on rank ${rank}: NCCL reported that not all ranks came within 300 ms`),
    );
  });

  test('communicators of another library are used, and left to it', async () => {
    const { library } = fake;
    const comms = emulation!.ncclInitAll(library, 2);
    await left(2);
    for (let i = 0; i < 2; i++) {
      const got = await settledOverNccl(
        2,
        (rank) => ({ library, comm: comms[rank] }),
        async (comm) => conformance(comm, { sync: false, rankOrder: true }),
      );
      expect(got.map((each) => each.status === 'fulfilled' && each.value)).toEqual([[], []]);
    }
    const swapped = await settledOverNccl(
      2,
      (rank) => ({ library, comm: comms[1 - rank] }),
      async () => undefined,
    );
    expect(reasons(swapped).sort()).toEqual([
      `ERR_RANK openNccl: ${library} (2.18.5) reported it is rank 0 of 2`,
      `ERR_RANK openNccl: ${library} (2.18.5) reported it is rank 1 of 2`,
    ]);
    const alone = await settledOverNccl(
      2,
      (rank) => ({ library, ...(rank === 0 && { comm: comms[0] }) }),
      async () => undefined,
    );
    expect(reasons(alone)).toEqual(
      [0, 1].map(
        (rank) =>
          `ERR_RANK comm: expected one on every rank, or on none, got others on rank ${1 - rank} than on rank ${rank}`,
      ),
    );
    const [via] = inProcess(1);
    using device = openDevice(1);
    const single = emulation!.ncclInitAll(library, 1);
    expect(await failureOf(() => openNccl({ via, device, library, comm: single[0] }))).toEqual(
      rlvrError('ERR_RANK', 'it is of device 0'),
    );
    await left(3);
  });

  test('the command verify finds it, and a rank on each device', async () => {
    const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
    const verify = [process.execPath, main, 'verify', '--backend', 'cuda'];
    const { output } = await run('env', [`LD_LIBRARY_PATH=${fake.folder}`, ...verify]);
    expect(output).toMatch(/^conspo, NCCL, 2 ranks +f32 +cuda .* pass$/m);
  });

  test("the addon's own functions refuse junk", async () => {
    using device = openDevice(0);
    const native = nativeDeviceOf(device).nccl(1000);
    const doubles = (length: number) => new Float64Array(length);
    const { nccl } = nativeCuda() as NativeCuda;
    await native.openAsync({ id: nccl.uniqueId(), rank: 0, size: 1 });
    const memory = memoryOf('memory', device.empty([2, 3]));
    const shape = { dtype: 0, rows: 2, width: 3, stride: 3, accumulate: false, bad: new Int32Array(1) };
    const valid: Record<string, Record<string, unknown>> = {
      openAsync: { id: new Uint8Array(128), rank: 0, size: 1 },
      adopt: { comm: 1n, rank: 0, size: 1 },
      reduce: { values: doubles(3), count: 3, maximum: true, out: doubles(3) },
      gather: { values: doubles(3), counts: Int32Array.of(3), out: doubles(3) },
      sum: { part: memory, to: memory, ...shape },
    };
    const junk = [undefined, null, -1, 0.5, 2 ** 40, Number.NaN, 'text', {}, [], doubles(2), Int32Array.of(-1), device];
    let refused = 0;
    for (const [name, args] of Object.entries(valid)) {
      for (const key of Object.keys(args)) {
        for (const value of junk) {
          const call = (native as unknown as Record<string, (args: object) => unknown>)[name];
          const error = await Promise.resolve()
            .then(() => call.call(native, { ...args, [key]: value }))
            .catch((reason) => reason as Error);
          if (error instanceof TypeError) refused++;
          else
            expect(error instanceof Error ? error.message : '', `${name}, ${key}`).toMatch(/^(it was opened before)?$/);
        }
      }
    }
    expect(refused).toBeGreaterThan(200);
    native.gather({ values: doubles(1), counts: Int32Array.of(1), out: doubles(1) });
    native.close({ together: true });
    native.dispose();
    expect(() => native.close({ together: true })).toThrow('expected an open communicator');
    expect(await failureOf(() => nccl.load(5 as never))).toBeInstanceOf(TypeError);
  });

  const program = fileURLToPath(new URL('./ranks/nccl-program.mjs', import.meta.url));
  const onWorkers = (name: string) => run(process.execPath, [program, fake.library, name, '--workers']);

  describe('ranks on worker threads', () => {
    test('calls of both forms, and a closed communicator', async () => {
      const { code, lines, output } = await onWorkers('conformance');
      expect(code, output).toBe(0);
      const said = lines as { wrong?: string[] }[];
      expect(said.flatMap(({ wrong }) => (wrong ? [wrong] : []))).toEqual([[], [], []]);
      const closed = 'ERR_DISPOSED allReduceSync: expected an open communicator, got a closed one';
      expect(lines.filter((line) => typeof line === 'string')).toEqual([closed, closed, closed]);
    });

    test.each(['ends', 'throws'])('a thread that %s is closed for the others', async (name) => {
      const { code, lines, output } = await onWorkers(name);
      expect(code, output).toBe(0);
      const others = lines.filter((line) => line !== 'error: broken here');
      expect(others).toEqual(Array(2).fill('ERR_RANK rank 2 of 3 was closed'));
    });
  });

  describe.each(LAUNCHERS)('ranks that are processes, which $name starts', (launcher) => {
    describe.skipIf(!isPresent(launcher) && !REQUIRED)('and connects', () => {
      test('calls of both forms', async () => {
        const { code, lines, output } = await mpirun(launcher, 3, program, fake.library, 'conformance');
        expect(code, output).toBe(0);
        expect((lines as { wrong?: string[] }[]).flatMap(({ wrong }) => (wrong ? [wrong] : []))).toEqual([[], [], []]);
      });

      test('a rank that ends is closed for the others', async () => {
        const { code, lines, output } = await mpirun(launcher, 2, program, fake.library, 'ends');
        expect(code, output).toBe(0);
        expect(lines).toEqual(['ERR_RANK rank 1 of 2 was closed']);
      });
    });
  });

  const [first] = LAUNCHERS;

  describe.skipIf(!isPresent(first) && !REQUIRED)('ranks that are processes', () => {
    test('a waiting rank leaves the event loop free, and its core to others', async () => {
      const { code, lines, output } = await mpirun(first, 2, program, fake.library, 'idle');
      expect(code, output).toBe(0);
      const [{ turns, cpu }] = lines as { turns: number; cpu: number }[];
      expect(turns).toBeGreaterThan(25); // of 100
      expect(cpu).toBeLessThan(0.6); // of the second
    });

    test('a killed rank ends all', async () => {
      const before = Date.now();
      const { code, end, output } = await mpirun(first, 2, program, fake.library, 'killed');
      expect(code, output).not.toBe(0);
      expect(end - before).toBeLessThan(15_000); // before the time is up for those that wait
    });
  });
});

/** Why the NCCL of this machine cannot be used; on the emulation there is none. */
function whyNoNccl(): string | undefined {
  const cuda = nativeCuda();
  if ('reason' in cuda) return cuda.reason;
  if (emulation) return 'an emulated device';
  try {
    cuda.nccl.load('libnccl.so.2');
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const absent = DEVICES === 0 ? 'no device' : whyNoNccl();
if (absent !== undefined) console.warn(`nccl: on GPUs it was not tested: ${absent}`);

test.skipIf(absent !== undefined)('sums, maxima and lists, and mistakes, over the NCCL of this machine', async () => {
  const size = Math.min(DEVICES, 8);
  const wrong = await overNccl(size, { timeout: 60_000 }, async (comm) => {
    const found = await conformance(comm, { sync: size === 1, rankOrder: false });
    if (size === 1) return found;
    const [errors, expected] = [await mistakes(comm, false), expectedMistakes(comm.rank, size)];
    return [...found, ...errors.filter((error, i) => error !== expected[i])];
  });
  expect(wrong.flat()).toEqual([]);
});
