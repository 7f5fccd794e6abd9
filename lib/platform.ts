// What the library takes of Node, but for the addon (lib/backend/addon.ts). lib/web/platform.ts is the same for browsers, and takes its place
// in the bundle for them.
import { constants } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { brotliDecompressSync } from 'node:zlib';
import { packageRoot } from './package-root.js';

export { isSharedArrayBuffer } from 'node:util/types';

/** The environment variable of a name. */
export function setting(name: string): string | undefined {
  return process.env[name];
}

export function warn(message: string, code: string, detail: string): void {
  process.emitWarning(message, { code, detail });
}

/** Has the event loop call `work` when it has done what is waiting. */
export function nextTurn(work: () => void): void {
  setImmediate(work);
}

/** Has `work` called when this thread ends, by an error too. */
export function atExit(work: () => void): void {
  process.once('exit', work);
}

/** Memory whose contents may be anything, as zeroing it would only cost time. */
export function newMemory(bytes: number): ArrayBufferLike {
  // Node 20 has no buffers of over 4 GiB. The system gives arrays so long as zeros, without anybody writing them.
  return bytes > constants.MAX_LENGTH ? new ArrayBuffer(bytes) : Buffer.allocUnsafeSlow(bytes).buffer;
}

/** A module of prebuilds/wasm, by its name there. Throws where there is none. */
export function wasmBytes(name: string): Uint8Array {
  return brotliDecompressSync(readFileSync(join(packageRoot(), 'prebuilds', 'wasm', `${name}.br`)));
}

/** How many threads can run at a time. */
export function threadsAtOnce(): number {
  return availableParallelism();
}

/**
 * Runs `work` on a thread of its own, as the text of that function, which a bundle has no file for: so it uses nothing from outside. The
 * process does not wait for it.
 */
export function startThread<Data>(work: (data: Data) => void, data: Data, onError: () => void): void {
  const script = `(${work})(process.getBuiltinModule('node:worker_threads').workerData)`; // a script or a module
  const worker = new Worker(script, { eval: true, workerData: data, execArgv: [], env: {}, name: 'rlvr-kernels' });
  worker.unref();
  worker.on('error', onError);
}
