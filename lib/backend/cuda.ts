// The CUDA backend: each call of the package is a session on a device (native/cuda/session.h), in which kernels are
// enqueued one after the other and only reading waits.
import { badArgument, RlvrError } from '../errors.js';
import type {
  DeviceMemory,
  HostArray,
  HostLogits,
  KernelArguments,
  KernelCall,
  KernelName,
  LogitsData,
} from './kernels.js';
import type { Backend, Run } from './select.js';

/** What cuda.info() says of a device; `reason` is there when it cannot be used. */
export interface CudaInfo {
  reason?: string;
  device: string;
  computeCapability: string;
  memory: number; // bytes
  driver: number; // CUDA version: 1000 * major + 10 * minor
  runtime: number;
  devices: number;
}

type Copy<Result> = (array: HostLogits, rows: number, width: number, stride: number, size: number) => Result;

/** native/binding/cuda_session.h */
export interface NativeSession {
  upload: Copy<void>;
  uploadAsync: Copy<Promise<void> | undefined>;
  read(arrays: readonly HostArray[]): void;
  readAsync(arrays: readonly HostArray[]): Promise<void>;
  close(): void;
}

/** native/binding/cuda_device.cpp */
export interface NativeDevice {
  readonly allocatedBytes: number;
  allocate(bytes: number): DeviceMemory;
  wrap(pointer: bigint, bytes: number): DeviceMemory | string; // or why not
  session(): NativeSession;
  synchronize(): void;
  synchronizeAsync(): Promise<void>;
  /** For the benchmarks: milliseconds of one of `repeats` copies in a row within the device. One runs before, untimed. */
  timeCopy(to: DeviceMemory, from: DeviceMemory, bytes: number, repeats: number): number;
}

type Enqueue = { [K in KernelName]: (session: NativeSession, args: KernelArguments[K]) => void };

type EnqueueAny = (session: NativeSession, args: KernelCall['args']) => void;

/** The addon's `cuda` table. */
export interface NativeCuda extends Enqueue {
  info(index: number): CudaInfo;
  Device: new (index: number, stream: bigint | undefined) => NativeDevice;
}

/** The backend of a device, which is opened at the first call. */
export function deviceBackend(native: NativeCuda, open: () => NativeDevice): Backend {
  let device: NativeDevice | undefined;
  return {
    name: 'cuda',
    start() {
      device ??= cudaCall(open);
      return new DeviceRun(native, device.session());
    },
  };
}

class DeviceRun implements Run {
  #native: { [K in KernelName]: EnqueueAny };
  #session: NativeSession;

  constructor(native: NativeCuda, session: NativeSession) {
    this.#native = native as { [K in KernelName]: EnqueueAny };
    this.#session = session;
  }

  kernel(call: KernelCall): void {
    cudaCall(() => {
      checkDeviceMemory(call);
      const matrix = hostMatrix(call);
      if (matrix) this.#session.upload(...matrix);
      this.#native[call.kernel](this.#session, call.args);
    });
  }

  kernelAsync(call: KernelCall): Promise<void> | undefined {
    return cudaCall(() => {
      checkDeviceMemory(call);
      const matrix = hostMatrix(call);
      const uploaded = matrix && this.#session.uploadAsync(...matrix);
      if (uploaded) return cudaPromise(uploaded.then(() => this.#native[call.kernel](this.#session, call.args)));
      this.#native[call.kernel](this.#session, call.args);
      return undefined;
    });
  }

  read(arrays: readonly HostArray[]): void {
    cudaCall(() => this.#session.read(arrays));
  }

  readAsync(arrays: readonly HostArray[]): Promise<void> {
    return cudaPromise(this.#session.readAsync(arrays));
  }

  close(): void {
    this.#session.close();
  }
}

/** The logits of a call that are in host memory: too large to be staged, so they go up by themselves. */
function hostMatrix({ args }: KernelCall): Parameters<Copy<void>> | undefined {
  if (!('logits' in args) || !ArrayBuffer.isView(args.logits)) return undefined;
  return [args.logits, args.tokens, args.vocab, args.rowStride, args.logits.BYTES_PER_ELEMENT];
}

/** A tensor may have been disposed of while a call on it waited for a read. */
function checkDeviceMemory({ args }: KernelCall): void {
  const { logits, gradLogits } = args as { logits?: LogitsData; gradLogits?: LogitsData };
  for (const [name, data] of Object.entries({ logits, gradient: gradLogits })) {
    if (data === undefined || ArrayBuffer.isView(data) || data.pointer !== 0n) continue;
    throw badArgument('ERR_DISPOSED', name, 'a DeviceTensor with its memory', 'a disposed one');
  }
}

/** Runs `call`; what the CUDA runtime says becomes an error of this package. */
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

/** A TypeError of the binding is a fault of ours, and stays as it is. */
function cudaError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof TypeError || error instanceof RlvrError) return error;
  return new RlvrError('ERR_CUDA', error.message, { cause: error });
}
