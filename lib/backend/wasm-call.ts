// One call of a kernel in WebAssembly: its arguments as a list of float64 numbers in the module's memory, in the order in which
// native/wasm reads them, arrays as their addresses. Arrays that live in that memory are used where they are. Of all others there is a
// copy for the length of the call: made before it of what is read, copied back after it if it is written.
import type { DTypeCode, HostArray, HostLogits } from '../kernels.js';
import type { WasmExports, WasmInstance } from './wasm-module.js';

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

type Kernels = { [K in keyof WasmExports as WasmExports[K] extends (values: number) => void ? K : never]: unknown };

const ALIGNMENT = 64; // bytes

export class WasmCall {
  #instance: WasmInstance;
  #values: number[] = [];
  #copies: Copy[] = [];
  #bytes = 0;

  constructor(instance: WasmInstance) {
    this.#instance = instance;
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
    if (this.#instance.holds(array)) {
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

  run(kernel: keyof Kernels): void {
    const list = this.#reserve(this.#values.length * Float64Array.BYTES_PER_ELEMENT);
    const arena = this.#instance.arena(this.#bytes);
    for (const { value, offset } of this.#copies) this.#values[value] = arena + offset;
    for (const copy of this.#copies) if (copy.use !== 'writes') this.#copyIn(copy);
    this.#instance.views.f64.set(this.#values, (arena + list) / Float64Array.BYTES_PER_ELEMENT);
    this.#instance.exports[kernel](arena + list);
    for (const copy of this.#copies) if (copy.use !== 'reads') this.#copyOut(copy);
  }

  #place(array: HostArray | undefined, use: Use): this {
    if (array === undefined) return this.number(0);
    if (this.#instance.holds(array)) return this.number(array.byteOffset);
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
    const to = this.#instance.at(this.#values[value], array, elements);
    if (rows) copyRows(rows, array, rows.stride, to, rows.width);
    else to.set(array.length === elements ? array : array.subarray(0, elements));
  }

  #copyOut({ array, value, elements, rows }: Copy): void {
    if (elements === 0) return;
    const from = this.#instance.at(this.#values[value], array, elements);
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
