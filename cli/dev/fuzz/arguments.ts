// Fresh copies of a call's arguments in memory that is watched: a write anywhere but where the gradient belongs shows.
import { types } from 'node:util';
import type { BatchPlan } from './plan.js';

type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array | BigInt64Array;
export type View = TypedArray | ArrayBufferView;
type ViewClass = new (buffer: ArrayBufferLike, byteOffset?: number, length?: number) => TypedArray;

const MARGIN = 16; // bytes, on either side
const FILLER = 0xa5;

export function isTypedArray(value: unknown): value is TypedArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

const prototype = Object.getPrototypeOf(Uint8Array.prototype);

/** What a typed array is, whatever properties of its own say. */
function intrinsic(array: TypedArray, key: string | symbol): unknown {
  return Object.getOwnPropertyDescriptor(prototype, key)?.get?.call(array);
}

const LIES = ['length', 'byteLength', 'byteOffset', 'buffer', 'constructor', Symbol.toStringTag, Symbol.iterator];

/** The same memory without an array's own properties, which may lie about it. */
export function honest<A extends TypedArray>(array: A): A {
  if (!LIES.some((key) => Object.hasOwn(array, key))) return array;
  const [buffer, byteOffset, length] = ['buffer', 'byteOffset', 'length'].map((key) => intrinsic(array, key));
  const Class = (globalThis as unknown as Record<string, ViewClass>)[intrinsic(array, Symbol.toStringTag) as string];
  const gone = (buffer as ArrayBuffer).byteLength === 0; // detached, or of no bytes
  return new Class(
    gone ? new ArrayBuffer(0) : (buffer as ArrayBuffer),
    gone ? 0 : (byteOffset as number),
    gone ? 0 : (length as number),
  ) as A;
}

/** Where an array's memory is. */
export function extentOf(array: TypedArray): { buffer: ArrayBufferLike; start: number; end: number } {
  const { buffer, byteOffset, byteLength } = honest(array);
  return { buffer, start: byteOffset, end: byteOffset + byteLength };
}

/** As Array.isArray, which looks through proxies. */
export function isList(value: unknown): value is unknown[] {
  return !types.isProxy(value) && Array.isArray(value);
}

export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return false;
  return Object.getPrototypeOf(value) === Object.prototype;
}

/** Its memory; nothing of a detached one. */
function bytesOf(buffer: ArrayBufferLike): Buffer {
  return buffer.byteLength === 0 ? Buffer.alloc(0) : Buffer.from(buffer as ArrayBuffer);
}

/** Buffers that a call may see, and what they held before it. */
export class Memory {
  readonly #buffers: ArrayBufferLike[] = [];
  readonly arrays: TypedArray[] = [];
  #before: Buffer[] = [];

  constructor(readonly kind: BatchPlan['memory']) {}

  /** Watches memory that came from elsewhere, unless a lying array has none. */
  add(buffer: ArrayBufferLike | undefined): void {
    if (types.isAnyArrayBuffer(buffer) && !this.#buffers.includes(buffer)) this.#buffers.push(buffer);
  }

  copy<A extends TypedArray>(source: A, kind = this.kind): A {
    const Class = source.constructor as unknown as ViewClass;
    const margin = kind === 'own' ? 0 : MARGIN;
    const bytes = source.byteLength + 2 * margin;
    const buffer = kind === 'shared' ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
    if (margin > 0) new Uint8Array(buffer).fill(FILLER);
    const array = new Class(buffer, margin, source.length) as A;
    (array as Float64Array).set(source as Float64Array);
    this.#buffers.push(buffer);
    this.arrays.push(array);
    return array;
  }

  /** Writes over every array but some, and takes away what can be; after that, nothing is watched. */
  spoil(except: ReadonlySet<unknown>): void {
    for (const array of this.arrays) {
      if (except.has(array)) continue;
      if (array instanceof BigInt64Array) array.fill(1n << 40n);
      else array.fill(77);
      if (array.buffer instanceof ArrayBuffer) structuredClone(array.buffer, { transfer: [array.buffer] });
    }
    this.#before = [];
  }

  snapshot(): void {
    this.#before = this.#buffers.map((buffer) => Buffer.from(bytesOf(buffer)));
  }

  /** The first byte that has changed since, other than where `mayChange` allows it. */
  change(mayChange?: (buffer: ArrayBufferLike, byte: number) => boolean): string | undefined {
    for (const [k, buffer] of this.#buffers.entries()) {
      const before: Buffer | undefined = this.#before[k];
      const now = bytesOf(buffer);
      if (before === undefined || now.equals(before)) continue; // or made by a getter since
      if (now.length === 0) continue; // detached by a getter of the caller's
      if (now.length !== before.length) return `a buffer of ${before.length} bytes has ${now.length}`;
      for (let i = 0; i < now.length; i++) {
        if (now[i] !== before[i] && !mayChange?.(buffer, i)) return `byte ${i} of a buffer of ${now.length} bytes`;
      }
    }
    return undefined;
  }
}

/** A copy in `memory`, of whatever is plain data; the same array twice stays the same array. `alter` sees each new array. */
export function copied(
  value: unknown,
  memory: Memory,
  alter: (array: TypedArray) => void = () => {},
  seen = new Map<unknown, unknown>(),
): unknown {
  if (seen.has(value)) return seen.get(value);
  if (isTypedArray(value)) {
    const array = memory.copy(value);
    alter(array);
    seen.set(value, array);
    return array;
  }
  if (!isPlain(value) && !isList(value)) return value;
  const copy: Record<string, unknown> = isList(value) ? ([] as never) : {};
  seen.set(value, copy);
  for (const [key, part] of Object.entries(value)) copy[key] = copied(part, memory, alter, seen);
  return copy;
}

/** Rows of memory. */
interface Rows {
  data: TypedArray;
  rows: number;
  columns: number;
  stride: number;
}

const GRADIENTS = ['gradLogits', 'gradLogProbs', 'gradHidden', 'gradWeight', 'gradBias'];

/**
 * The gradients in a result; undefined if one is not plainly there. Their properties are not read where that would run a caller's
 * code.
 */
export function gradientsIn(result: unknown): Rows[] | undefined {
  const gradients = GRADIENTS.map((name) => ownValue(result, name)).filter((found) => found !== undefined);
  const rows = gradients.map((found) => (isTypedArray(found) ? wholeArray(honest(found)) : tensorIn(found)));
  return rows.every((one) => one !== undefined) ? rows : undefined;
}

function wholeArray(data: TypedArray): Rows {
  return { data, rows: 1, columns: data.length, stride: data.length };
}

/** The options that say where they go. */
export const GRADIENT_OPTIONS = ['gradient', 'gradHidden', 'gradWeight', 'gradBias'];

/** A [T, V] tensor, if its properties hold plain values. */
export function tensorIn(value: unknown): Rows | undefined {
  const [data, shape, stride] = ['data', 'shape', 'rowStride'].map((key) => ownValue(value, key));
  if (!isTypedArray(data) || !isList(shape) || !isNumberOrAbsent(value, 'rowStride', stride)) return undefined;
  const [rows, columns] = [0, 1].map((i) => ownValue(shape, String(i)));
  if (typeof rows !== 'number' || typeof columns !== 'number') return undefined;
  return { data: honest(data), rows, columns, stride: stride ?? columns };
}

function isNumberOrAbsent(holder: unknown, key: string, value: unknown): value is number | undefined {
  return typeof value === 'number' || (value === undefined && !Object.hasOwn(holder as object, key));
}

/** A property that holds a value. */
export function ownValue(holder: unknown, key: string): unknown {
  if (typeof holder !== 'object' || holder === null || types.isProxy(holder)) return undefined;
  return Object.getOwnPropertyDescriptor(holder, key)?.value;
}

/** Whether a byte belongs to an element of one of the gradients. */
export function withinGradients(gradients: readonly Rows[]) {
  const within = gradients.map(withinGradient);
  return (buffer: ArrayBufferLike, byte: number): boolean => within.some((one) => one(buffer, byte));
}

function withinGradient({ data, rows, columns, stride }: Rows) {
  const size = data.BYTES_PER_ELEMENT;
  return (buffer: ArrayBufferLike, byte: number): boolean => {
    if (buffer !== data.buffer || byte < data.byteOffset) return false;
    const element = Math.floor((byte - data.byteOffset) / size);
    return Math.floor(element / stride) < rows && element % stride < columns;
  };
}
