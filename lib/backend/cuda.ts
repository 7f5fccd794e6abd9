// The CUDA backend: each call of the package is a session on a device (native/cuda/session.h). Kernels are enqueued when
// something is to be read, all at once; only reading waits.
import { badArgument, RlvrError } from '../errors.js';
import type { Backend, Cancel, HostArray, HostMatrix, KernelCall, LogitsData, Run } from '../kernels.js';
import {
  type Absent,
  type CudaInfo,
  type NativeCuda,
  type NativeDevice,
  type NativeSession,
  nativeAddon,
  type Present,
} from './addon.js';
import { installReport } from './install-report.js';
import { onThread } from './threads.js';

type EnqueueAny = (session: NativeSession, args: KernelCall['args']) => void;

let cuda: Present<CudaInfo> | Absent | undefined;

/** The CUDA part of the addon, or the reason why there is none. */
export function nativeCuda(): NativeCuda | Absent {
  const native = nativeAddon();
  if ('reason' in native) return native;
  if (!native.cuda.info) return { reason: installReport(/CUDA/) ?? 'the addon was built without CUDA' };
  return native.cuda;
}

/** The CUDA backend for host arrays, on the first device, or the reason there is none. Looks for a driver once. */
export function cudaBackend(): Present<CudaInfo> | Absent {
  cuda ??= findCuda(nativeCuda());
  return cuda;
}

function findCuda(native: NativeCuda | Absent): Present<CudaInfo> | Absent {
  if ('reason' in native) return native;
  const { reason, ...info } = native.info(0);
  if (reason !== undefined) return { reason };
  return { backend: deviceBackend(native, () => new native.Device(0, undefined)), info };
}

/** The backend of a device, which is opened at the first call. */
export function deviceBackend(native: NativeCuda, open: () => NativeDevice): Backend {
  let device: NativeDevice | undefined;
  return {
    name: 'cuda',
    start() {
      device ??= cudaCall(open);
      checkNotCapturing('logits', device);
      return new DeviceRun(native, device.session());
    },
  };
}

class DeviceRun implements Run {
  #native: Record<string, EnqueueAny>;
  #session: NativeSession;
  #calls: KernelCall[] = []; // not flushed

  constructor(native: NativeCuda, session: NativeSession) {
    this.#native = native as unknown as Record<string, EnqueueAny>;
    this.#session = session;
  }

  kernel(call: KernelCall): void {
    cudaCall(() => {
      checkDeviceMemory(call);
      const matrix = hostMatrix(call);
      if (matrix) this.#session.upload(matrix);
      this.#add(call);
    });
  }

  kernelAsync(call: KernelCall, cancel: Cancel): Promise<void> | undefined {
    return cudaCall(() => {
      checkDeviceMemory(call);
      const matrix = hostMatrix(call);
      const uploaded = matrix && onThread(() => this.#session.uploadAsync(matrix), cancel);
      const enqueue = () => {
        if (cancel.flag[0] === 0) this.#add(call);
      };
      if (uploaded) return cudaPromise(uploaded.then(enqueue));
      enqueue();
      return undefined;
    });
  }

  #add(call: KernelCall): void {
    this.#native[call.kernel](this.#session, call.args);
    this.#calls.push(call);
  }

  /** Enqueues the kernels so far. Of their tensors, some may have been disposed of. */
  #flush(): void {
    for (const call of this.#calls.splice(0)) checkDeviceMemory(call);
    this.#session.flush();
  }

  read(arrays: readonly HostArray[]): void {
    cudaCall(() => {
      this.#flush();
      this.#session.read(arrays);
    });
  }

  readAsync(arrays: readonly HostArray[], cancel: Cancel): Promise<void> | undefined {
    return cudaCall(() => {
      this.#flush(); // whether or not there is a thread to wait on
      return onThread(() => cudaPromise(this.#session.readAsync(arrays)), cancel);
    });
  }

  close(): void {
    this.#session.close();
  }
}

/**
 * Refuses a device whose stream is being captured into a graph: memory cannot come from a pool there, and the graph would get
 * the kernels.
 */
export function checkNotCapturing(name: string, device: NativeDevice): void {
  if (!device.capturing) return;
  const whose = name === 'device' ? 'one' : 'a tensor of a device';
  const expected = `${whose} whose stream is not under capture: nothing can be allocated, copied or read there`;
  throw badArgument('ERR_CUDA', name, expected, 'one under capture');
}

/** The logits of a call that are in host memory. They are uploaded separately: too large for the staging of small arrays. */
function hostMatrix({ args }: KernelCall): HostMatrix | undefined {
  if (!('logits' in args) || !ArrayBuffer.isView(args.logits)) return undefined;
  const { logits: array, dtype, tokens: rows, vocab: width, rowStride: stride } = args;
  return { array, dtype, rows, width, stride };
}

/** A tensor may have been disposed of while a call on it waited for a read. */
function checkDeviceMemory({ args }: KernelCall): void {
  const { logits, gradLogits } = args as { logits?: LogitsData; gradLogits?: LogitsData };
  for (const [name, data] of Object.entries({ logits, gradient: gradLogits })) {
    if (data === undefined || ArrayBuffer.isView(data) || data.pointer !== 0n) continue;
    throw badArgument('ERR_DISPOSED', name, 'a DeviceTensor with its memory', 'a disposed one');
  }
}

/** Runs `call`; errors of the CUDA runtime become errors of this package. */
export function cudaCall<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw cudaError(error);
  }
}

export async function cudaPromise<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw cudaError(error);
  }
}

/** A TypeError from the binding is a bug of this package, and stays as it is. */
function cudaError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof TypeError || error instanceof RlvrError) return error;
  return new RlvrError('ERR_CUDA', error.message, { cause: error });
}
