// A memory of WebAssembly as arrays.
import type { HostArray } from '../kernels.js';

export interface Memory {
  readonly buffer: ArrayBufferLike;
}

interface Views {
  f64: Float64Array;
  f32: Float32Array;
  i32: Int32Array;
  u16: Uint16Array;
  u8: Uint8Array;
}

export class WasmViews {
  #memory: Memory;
  #views: Views | undefined;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  get buffer(): ArrayBufferLike {
    return this.#memory.buffer;
  }

  /** The memory as arrays; others once it has grown. */
  get views(): Views {
    const { buffer } = this.#memory;
    if (this.#views?.u8.buffer === buffer) return this.#views;
    this.#views = {
      f64: new Float64Array(buffer),
      f32: new Float32Array(buffer),
      i32: new Int32Array(buffer),
      u16: new Uint16Array(buffer),
      u8: new Uint8Array(buffer),
    };
    return this.#views;
  }

  /** Elements from an address on, as an array of the type of `like`. */
  at(address: number, like: HostArray, elements: number): HostArray {
    const { f64, f32, i32, u16, u8 } = this.views;
    const all = [f32, f64, i32, u16].find((view) => view.constructor === like.constructor) ?? u8;
    const begin = address / all.BYTES_PER_ELEMENT;
    return all.subarray(begin, begin + elements);
  }

  /** Whether an array lives in this memory. */
  holds(array: ArrayBufferView): boolean {
    return array.buffer === this.#memory.buffer;
  }
}
