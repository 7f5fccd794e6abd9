// One call of a kernel in WebAssembly: its arguments as a list of float64 numbers in the module's memory, in the order in which
// native/wasm reads them, arrays as their addresses. Arrays that live in that memory are used where they are. Of all others there is a
// copy for the length of the call: made before it of what is read, copied back after it if it is written. The memory is that of an instance
// of this thread, or of another's.
import type { DTypeCode, HostArray, HostLogits } from '../kernels.js';
import type { WasmExports, WasmInstance } from './wasm-module.js';
import type { WasmViews } from './wasm-views.js';

/** What a kernel does with an array. */
type Use = 'reads' | 'writes' | 'changes';

/** Rows of an array, row r at element r * stride. */
export interface Rows {
  array: HostLogits;
  dtype: DTypeCode;
  rows: number;
  width: number;
  stride: number;
}

interface Copy {
  array: HostArray;
  use: Use;
  value: number; // the place of its address in the list
  offset: number; // in the arena
  elements: number;
  rows: Rows | undefined;
}

/** Exports that take a list of arguments. */
export type WasmKernel = {
  [K in keyof WasmExports]: WasmExports[K] extends (values: number) => void ? K : never;
}[keyof WasmExports];

const ALIGNMENT = 64; // bytes

export class WasmCall {
  #memory: WasmViews;
  #values: number[] = [];
  #copies: Copy[] = [];
  #bytes = 0;

  constructor(memory: WasmViews) {
    this.#memory = memory;
  }

  number(value: number): this {
    this.#values.push(value);
    return this;
  }

  boolean(value: boolean): this {
    return this.number(value ? 1 : 0);
  }

  reads(array: HostArray | undefined): this {
    return this.#place(array, 'reads');
  }

  writes(array: HostArray | undefined): this {
    return this.#place(array, 'writes');
  }

  changes(array: HostArray | undefined): this {
    return this.#place(array, 'changes');
  }

  /** The address of rows; returns their stride, which is another where they are copied. */
  rows(rows: Rows, use: Use): number {
    const { array, width, stride } = rows;
    if (this.#memory.holds(array)) {
      this.#place(array, use);
      return stride;
    }
    this.#copy(array, use, rows.rows * width, stride === width ? undefined : rows);
    return width;
  }

  /** The address of what was placed before, at the given place of the list. */
  again(place: number): this {
    const copy = this.#copies.find(({ value }) => value === place);
    if (copy) this.#copies.push({ ...copy, use: 'reads', value: this.#values.length, elements: 0 });
    return this.number(this.#values[place]);
  }

  run(instance: WasmInstance, kernel: WasmKernel): void {
    instance.exports[kernel](this.copyIn(instance.arena(this.bytes)));
    this.copyOut();
  }

  /** Of memory, for the copies and the list. */
  get bytes(): number {
    return this.#bytes + this.#values.length * Float64Array.BYTES_PER_ELEMENT;
  }

  /** Copies what is read to where there is memory for it; returns the address of the list. */
  copyIn(address: number): number {
    for (const { value, offset } of this.#copies) this.#values[value] = address + offset;
    for (const copy of this.#copies) if (copy.use !== 'writes') this.#copyIn(copy);
    const list = address + this.#bytes;
    this.#memory.views.f64.set(this.#values, list / Float64Array.BYTES_PER_ELEMENT);
    return list;
  }

  /** Copies what was written to where it belongs. */
  copyOut(): void {
    for (const copy of this.#copies) if (copy.use !== 'reads') this.#copyOut(copy);
  }

  #place(array: HostArray | undefined, use: Use): this {
    if (array === undefined) return this.number(0);
    if (this.#memory.holds(array)) return this.number(array.byteOffset);
    this.#copy(array, use, array.length, undefined);
    return this;
  }

  #copy(array: HostArray, use: Use, elements: number, rows: Rows | undefined): void {
    const offset = this.#reserve(elements * array.BYTES_PER_ELEMENT);
    this.#copies.push({ array, use, value: this.#values.length, offset, elements, rows });
    this.#values.push(0);
  }

  #reserve(bytes: number): number {
    const offset = this.#bytes;
    this.#bytes += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return offset;
  }

  #copyIn({ array, value, elements, rows }: Copy): void {
    if (elements === 0) return;
    const to = this.#memory.at(this.#values[value], array, elements);
    if (rows) copyRows(rows, array, rows.stride, to, rows.width);
    else to.set(array.length === elements ? array : array.subarray(0, elements));
  }

  #copyOut({ array, value, elements, rows }: Copy): void {
    if (elements === 0) return;
    const from = this.#memory.at(this.#values[value], array, elements);
    if (rows) copyRows(rows, from, rows.width, array, rows.stride);
    else array.set(from);
  }
}

/** From rows of one stride to rows of another. */
export function copyRows(
  { rows, width }: { rows: number; width: number },
  from: HostArray,
  fromStride: number,
  to: HostArray,
  toStride: number,
): void {
  if (fromStride === width && toStride === width) to.set(from.subarray(0, rows * width));
  else for (let r = 0; r < rows; r++) to.set(from.subarray(r * fromStride, r * fromStride + width), r * toStride);
}
