// The CUDA backend: each call of the package is a session on a device (native/cuda/session.h). Kernels are enqueued when
// something is to be read, all at once; only reading waits.
import { badArgument, RlvrError } from '../errors.js';
import type {
  Backend,
  Cancel,
  GradientArgument,
  HostArray,
  HostMatrix,
  KernelArguments,
  KernelCall,
  LogitsData,
  MatrixArgument,
  Run,
} from '../kernels.js';
import {
  type Absent,
  type CudaInfo,
  type NativeCuda,
  type NativeDevice,
  type NativeSession,
  nativeCuda,
  type Present,
} from './addon.js';
import { onThread } from './threads.js';

type EnqueueAny = (session: NativeSession, args: KernelCall['args']) => void;

let cuda: Present<CudaInfo> | Absent | undefined;

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

/** Throws unless there is the library for what starts from hidden states. */
export function checkProducts(): void {
  const native = nativeCuda();
  const reason = 'reason' in native ? native.reason : native.findProducts();
  if (reason === '') return;
  const expected = 'cuBLASLt 12 or 13, which multiplies matrices where a batch has hidden states';
  const install =
    'Install it (Debian, Ubuntu: apt-get install libcublas-13-0 from the NVIDIA repository; pip install nvidia-cublas), ' +
    'and set RLVR_CUBLASLT to its file if the system does not find it there';
  throw new RlvrError('ERR_BACKEND', `backend: expected ${expected}, got ${reason}. ${install}`);
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
      for (const matrix of hostMatrices(call)) this.#session.upload(matrix);
      this.#add(call);
    });
  }

  kernelAsync(call: KernelCall, cancel: Cancel): Promise<void> | undefined {
    return cudaCall(() => {
      checkDeviceMemory(call);
      const uploaded = this.#uploadAll(hostMatrices(call), cancel);
      const enqueue = () => {
        if (cancel.flag[0] === 0) this.#add(call);
      };
      if (uploaded) return cudaPromise(uploaded.then(enqueue));
      enqueue();
      return undefined;
    });
  }

  /** One after the other. Undefined where there is nothing to wait for. */
  #uploadAll([matrix, ...others]: HostMatrix[], cancel: Cancel): Promise<void> | undefined {
    const first = matrix && onThread(() => this.#session.uploadAsync(matrix), cancel);
    if (others.length === 0) return first;
    return first ? first.then(() => this.#uploadAll(others, cancel)) : this.#uploadAll(others, cancel);
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

/** What a call reads of matrices in host memory. They are uploaded separately: too large for the staging of small arrays. */
function hostMatrices({ args }: KernelCall): HostMatrix[] {
  if ('hidden' in args) return layerMatrices(args);
  if (!('logits' in args) || !ArrayBuffer.isView(args.logits)) return [];
  const { logits: array, dtype, tokens: rows, vocab: width, rowStride: stride } = args;
  return [{ array, dtype, rows, width, stride }];
}

type LayerArguments = KernelArguments['linearLogProbsForward'] | KernelArguments['linearLogProbsBackward'];

function layerMatrices(args: LayerArguments): HostMatrix[] {
  const { tokens, vocab, width } = args;
  const matrices: HostMatrix[] = [];
  const add = (matrix: MatrixArgument | undefined, rows: number, columns: number) => {
    if (!matrix || !ArrayBuffer.isView(matrix.data)) return;
    matrices.push({ array: matrix.data, dtype: matrix.dtype, rows, width: columns, stride: matrix.rowStride });
  };
  const addSum = (gradient: GradientArgument | undefined, rows: number, columns: number) => {
    if (gradient?.accumulate) add(gradient, rows, columns);
  };
  add(args.hidden, tokens, width);
  add(args.weight, vocab, width);
  add(args.bias, 1, vocab);
  if (!('gradHidden' in args)) return matrices;
  addSum(args.gradHidden, tokens, width);
  addSum(args.gradWeight, vocab, width);
  addSum(args.gradBias, 1, vocab);
  return matrices;
}

/** A tensor may have been disposed of while a call on it waited for a read. */
function checkDeviceMemory({ args }: KernelCall): void {
  const { logits, gradLogits } = args as { logits?: LogitsData; gradLogits?: LogitsData };
  checkLive('logits', logits);
  checkLive('gradient', gradLogits);
  if (!('hidden' in args)) return;
  for (const name of ['hidden', 'weight', 'bias', 'gradHidden', 'gradWeight', 'gradBias'] as const) {
    checkLive(name, (args as Partial<Record<typeof name, MatrixArgument>>)[name]?.data);
  }
}

function checkLive(name: string, data: LogitsData | undefined): void {
  if (data === undefined || ArrayBuffer.isView(data) || data.pointer !== 0n) return;
  throw badArgument('ERR_DISPOSED', name, 'a DeviceTensor with its memory', 'a disposed one');
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
