// The wasm backend: the CPU kernels as WebAssembly, wherever there is no addon. Rows of logits are shared out to threads. Memory of its own
// that kernels used is there for the next call, unless it is much.
import { RlvrError } from '../errors.js';
import type { Backend, KernelArguments, KernelCall, KernelName } from '../kernels.js';
import { pausingBackend, startReference } from '../reference/backend.js';
import type { Sliced } from '../slices.js';
import type { Absent, Present } from './addon.js';
import { wrongThreads } from './settings.js';
import { isTiny } from './tiny.js';
import { linearLogProbsBackward, linearLogProbsForward } from './wasm-linear.js';
import { NoWasmMemory, type WasmInstance, type WasmModule, type WasmSimd, wasmModule } from './wasm-module.js';
import type { Place } from './wasm-rows.js';
import { sampleTokens, sampleTokensKept } from './wasm-samples.js';
import {
  advantageObjective,
  groupInfoNCE,
  ratioScoresBackward,
  ratioScoresForward,
  sequenceLogProbsBackward,
  sequenceLogProbsForward,
} from './wasm-sequences.js';
import { Threads } from './wasm-threads.js';
import { tokenLogProbsBackward, tokenLogProbsForward, tokenLogProbsOnePass } from './wasm-tokens.js';

interface WasmInfo {
  simd: WasmSimd;
  threads: number;
}

let wasm: (Present<WasmInfo> & { module: WasmModule }) | Absent | undefined;

/** The wasm backend, or the reason there is none. */
export function wasmBackend(): (Present<WasmInfo> & { module: WasmModule }) | Absent {
  wasm ??= findWasm(wasmModule());
  return wasm;
}

function findWasm(module: WasmModule | Absent): (Present<WasmInfo> & { module: WasmModule }) | Absent {
  if ('reason' in module) return module;
  const wrong = wrongThreads();
  if (wrong) return { reason: wrong.message, asked: true };
  const threads = new Threads(module);
  return { backend: hostBackend(module, threads), info: { simd: module.simd, threads: threads.count }, module };
}

type Kernel<P, K extends KernelName> = (place: P, args: KernelArguments[K]) => Sliced<void>;

/** Kernels whose every step leaves nothing in memory that the next one needs: those of rows, which have threads. */
const OF_ROWS = {
  tokenLogProbsForward,
  tokenLogProbsBackward,
  tokenLogProbsOnePass,
  sampleTokens,
  sampleTokensKept,
} satisfies { [K in KernelName]?: Kernel<Place, K> };

/** And those of what rows come to. */
const OF_SCORES = {
  sequenceLogProbsForward,
  sequenceLogProbsBackward,
  ratioScoresForward,
  ratioScoresBackward,
  groupInfoNCE,
  advantageObjective,
} satisfies { [K in KernelName]?: Kernel<WasmInstance, K> };

type Stateless = keyof typeof OF_ROWS | keyof typeof OF_SCORES;

const KEPT_BYTES = 2 ** 26; // of memory, between calls

/** An instance for calls that leave nothing behind, and idle ones for those that do. */
class Instances {
  #module: WasmModule;
  #shared: WasmInstance | undefined;
  #idle: WasmInstance | undefined;

  constructor(module: WasmModule) {
    this.#module = module;
  }

  get shared(): WasmInstance {
    if (this.#shared && this.#shared.buffer.byteLength > KEPT_BYTES) this.#shared = undefined;
    this.#shared ??= this.#module.instantiate();
    return this.#shared;
  }

  /** After a failure, which may have left it in any state. */
  dropShared(): void {
    this.#shared = undefined;
  }

  /** An instance of the caller's own, until it is given back; one that is not is collected. */
  take(): WasmInstance {
    const instance = this.#idle ?? this.#module.instantiate();
    this.#idle = undefined;
    return instance;
  }

  giveBack(instance: WasmInstance): void {
    if (instance.buffer.byteLength <= KEPT_BYTES) this.#idle = instance;
  }
}

/** Instances whose memory the caller has arrays in. */
const owners = new WeakMap<ArrayBufferLike, WasmInstance>();

/** An instance with room for so many bytes of arrays, which kernels then work on where they are. */
export function instanceFor(module: WasmModule, bytes: number): WasmInstance {
  const instance = module.instantiate(bytes + WORKING_BYTES);
  owners.set(instance.buffer, instance);
  return instance;
}

/** Besides the caller's arrays: a row of logits and of its gradient, and what kernels need for one, for V up to 2^20. */
const WORKING_BYTES = 2 ** 25;

function ownerOf(args: KernelCall['args']): WasmInstance | undefined {
  for (const array of 'logits' in args ? [args.logits, 'gradLogits' in args && args.gradLogits] : []) {
    const owner = ArrayBuffer.isView(array) ? owners.get(array.buffer) : undefined;
    if (owner) return owner;
  }
  return undefined;
}

/** Tiny kernels, and the one that only fills rows with zeros, are the reference's. */
function hostBackend(module: WasmModule, threads: Threads): Backend {
  const instances = new Instances(module);
  return pausingBackend('wasm', (call) => {
    if (call.kernel === 'zeroRows' || isTiny(call)) return startReference(call);
    if (call.kernel === 'linearLogProbsForward') return onOwnInstance(instances, call, call.args.nonFinite, -1);
    if (call.kernel === 'linearLogProbsBackward') return onOwnInstance(instances, call, call.args.badRows, -2);
    return onSharedInstance({ instances, threads }, call.kernel, call.args);
  });
}

function* onSharedInstance(
  { instances, threads }: { instances: Instances; threads: Threads },
  name: Stateless,
  args: KernelCall['args'],
): Sliced<void> {
  try {
    const instance = ownerOf(args) ?? instances.shared;
    yield* started(name, { instance, threads }, args);
  } catch (error) {
    instances.dropShared();
    if (error instanceof NoWasmMemory) throw new RlvrError('ERR_RANGE', error.message, { cause: error });
    throw error;
  }
}

function started(name: Stateless, place: Place, args: KernelCall['args']): Sliced<void> {
  type Any<P> = (place: P, args: KernelCall['args']) => Sliced<void>;
  if (name in OF_ROWS) return (OF_ROWS[name as keyof typeof OF_ROWS] as Any<Place>)(place, args);
  return (OF_SCORES[name as keyof typeof OF_SCORES] as Any<WasmInstance>)(place.instance, args);
}

type LinearCall = Extract<KernelCall, { kernel: 'linearLogProbsForward' | 'linearLogProbsBackward' }>;

/** Where there is no memory, `answer` gets `code`, as of the addon's kernels. */
function* onOwnInstance(instances: Instances, call: LinearCall, answer: Int32Array, code: number): Sliced<void> {
  try {
    const instance = instances.take();
    if (call.kernel === 'linearLogProbsForward') yield* linearLogProbsForward(instance, call.args);
    else yield* linearLogProbsBackward(instance, call.args);
    instances.giveBack(instance);
  } catch (error) {
    if (!(error instanceof NoWasmMemory)) throw error;
    answer[0] = code;
  }
}
