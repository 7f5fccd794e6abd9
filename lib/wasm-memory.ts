import { instanceFor, wasmBackend } from './backend/wasm.js';
import type { WasmInstance } from './backend/wasm-module.js';
import { badArgument, describe, RlvrError } from './errors.js';
import { finiteNumber } from './validate.js';

/** Arrays that {@link WasmMemory.allocate} makes, by the names of their types. */
export interface WasmArrays {
  /** Logits and gradients in float32. */
  Float32Array: Float32Array;
  /** Those in 16 bits. */
  Uint16Array: Uint16Array;
  /** Log-probs and the like. */
  Float64Array: Float64Array;
  /** Targets and offsets. */
  Int32Array: Int32Array;
  /** Masks. */
  Uint8Array: Uint8Array;
}

const TYPES = { Float32Array, Uint16Array, Float64Array, Int32Array, Uint8Array } as const;

/** What a memory of WebAssembly can be, less what kernels need of it. */
const MOST_BYTES = 2 ** 32 - 2 ** 26;

/**
 * A piece of the memory of WebAssembly, from {@link wasmMemory}. Its arrays are arrays like any other; the memory is collected with the last
 * of them.
 *
 * @example
 * ```ts
 * import { backends, wasmMemory } from 'rlvr-kernels';
 *
 * if (backends().some(({ name, available }) => name === 'wasm' && available)) {
 *   const memory = wasmMemory(4096 + 128); // of each array rounded up to 64 bytes
 *   const logits = memory.allocate('Float32Array', 1000);
 *   const logProbs = memory.allocate('Float64Array', 16);
 *   console.log(logits.buffer === logProbs.buffer); // => true
 * }
 * ```
 */
export class WasmMemory {
  readonly #buffer: ArrayBuffer;
  #next: number;
  #left: number;

  /** @internal */
  constructor(instance: WasmInstance, bytes: number) {
    this.#next = instance.allocate(bytes);
    this.#buffer = instance.buffer as ArrayBuffer; // which no other thread shares
    this.#left = bytes;
  }

  /**
   * A new array of zeros in this memory, which it stays in: there is no way to free it alone.
   *
   * @param type - such as `'Float32Array'`.
   * @param length - elements.
   * @throws RlvrError `ERR_RANGE` if that is more than is left of the memory.
   */
  allocate<K extends keyof WasmArrays>(type: K, length: number): WasmArrays[K] {
    if (!Object.hasOwn(TYPES, type)) {
      const names = Object.keys(TYPES).map((name) => `'${name}'`);
      throw badArgument('ERR_DTYPE', 'type', names.join(' or '), describe(type));
    }
    finiteNumber('length', length, { min: 0, max: MOST_BYTES, integer: true });
    const bytes = Math.ceil((length * TYPES[type].BYTES_PER_ELEMENT) / 64) * 64;
    if (bytes > this.#left) {
      throw badArgument('ERR_RANGE', 'length', `at most the ${this.#left} bytes that are left`, `${bytes} bytes`);
    }
    const array = new TYPES[type](this.#buffer, this.#next, length) as WasmArrays[K];
    this.#next += bytes;
    this.#left -= bytes;
    return array;
  }
}

/**
 * Memory for arrays that the wasm backend then works on where they are: logits that are made there, or copied there once, and a
 * gradient in place need no copy in any call, but of the rows that other threads take. Other backends take these arrays too.
 *
 * @param bytes - how much: the sum of what is to be allocated, each rounded up to 64.
 * @throws RlvrError `ERR_BACKEND` if there is no wasm backend, `ERR_RANGE` if there is no memory.
 *
 * @example
 * ```ts
 * import { backends, conspoSync, wasmMemory } from 'rlvr-kernels';
 *
 * if (backends().some(({ name, available }) => name === 'wasm' && available)) {
 *   const [tokens, vocab] = [4, 1000];
 *   const logits = wasmMemory(4 * tokens * vocab).allocate('Float32Array', tokens * vocab);
 *   const batch = { logits, targets: Int32Array.of(1, 2, 3, 4), cuSeqlens: Int32Array.of(0, 2, 4) };
 *   const groups = { cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) };
 *   conspoSync({ ...batch, ...groups }, { backend: 'wasm', gradient: 'in-place' });
 * }
 * ```
 */
export function wasmMemory(bytes: number): WasmMemory {
  finiteNumber('bytes', bytes, { min: 0, max: MOST_BYTES, integer: true });
  const wasm = wasmBackend();
  if ('reason' in wasm)
    throw new RlvrError('ERR_BACKEND', `wasmMemory: expected WebAssembly, got none: ${wasm.reason}`);
  try {
    return new WasmMemory(instanceFor(wasm.module, bytes), bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = `bytes: expected a size for which there is memory, got ${bytes}`;
    throw new RlvrError('ERR_RANGE', message, { cause: error });
  }
}
