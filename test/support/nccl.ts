// The NCCL of the tests, which needs no GPU: compiled where there is a compiler, for the emulated CUDA.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openDevice } from '../../lib/cuda/index.js';
import { inProcess } from '../../lib/index.js';
import { type NcclCommunicator, type NcclOptions, openNccl } from '../../lib/nccl/index.js';
import { DEVICES, emulation } from './device.js';
import { isInstalled } from './mpirun.js';

const compiler = process.env.CXX ?? 'g++';

/** Whether there can be one. */
export const HAS_FAKE = process.platform === 'linux' && emulation !== undefined && DEVICES > 1 && isInstalled(compiler);

/** The file of the library, and where its ranks meet; `remove()` when done. */
export function fakeNccl() {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-nccl-'));
  const library = join(folder, 'libnccl.so.2');
  const source = fileURLToPath(new URL('../ranks/fake_nccl.cpp', import.meta.url));
  const flags = ['-std=c++20', '-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-fvisibility=hidden'];
  const { LD_PRELOAD: _, ...env } = process.env; // a sanitizer's, which compilers do not survive
  execFileSync(compiler, [...flags, source, '-o', library], { env });
  process.env.FAKE_NCCL_FOLDER = folder;
  return { library, folder, remove: () => rmSync(folder, { recursive: true }) };
}

/** What each rank makes of a communicator, all on this thread; how each ended. */
export async function settledOverNccl<R>(
  size: number,
  options: Partial<NcclOptions> | ((rank: number) => Partial<NcclOptions>),
  work: (comm: NcclCommunicator) => Promise<R>,
): Promise<PromiseSettledResult<R>[]> {
  const ranks = inProcess(size);
  try {
    return await Promise.allSettled(
      ranks.map(async (via) => {
        using device = openDevice(via.rank % DEVICES);
        const own = typeof options === 'function' ? options(via.rank) : options;
        await using comm = await openNccl({ via, device, timeout: 20_000, ...own });
        return await work(comm);
      }),
    );
  } finally {
    for (const rank of ranks) rank.close();
  }
}

/** As {@link settledOverNccl}, where all end well. */
export async function overNccl<R>(
  size: number,
  options: Partial<NcclOptions>,
  work: (comm: NcclCommunicator) => Promise<R>,
): Promise<R[]> {
  const settled = await settledOverNccl(size, options, work);
  return settled.map((each) => {
    if (each.status === 'rejected') throw each.reason;
    return each.value;
  });
}
