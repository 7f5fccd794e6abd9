// Array views as the language sees them. A subclass, or the caller, may put accessors of its own before those of the
// language (`length`, `Symbol.toStringTag`), which could say anything, another thing each time, or throw.

/** The types of typed arrays that arguments may have, and those of the views made of them: of half-precision floats, the bits. */
const CONSTRUCTORS = {
  Float32Array,
  Float64Array,
  Int32Array,
  BigInt64Array,
  Uint8Array,
  Uint16Array,
  Float16Array: Uint16Array, // Node 20 has none
};

/** A typed array's type by name. */
export type ElementType = keyof typeof CONSTRUCTORS;

/** The views of those types. */
export type ArrayTypes = { [K in ElementType]: InstanceType<(typeof CONSTRUCTORS)[K]> };

const prototype: object = Object.getPrototypeOf(Uint8Array.prototype);

/** The language's getter of a property, for values of any realm; undefined where this version has no such property. */
function getter<Value>(of: object, name: PropertyKey): ((this: unknown) => Value) | undefined {
  return Object.getOwnPropertyDescriptor(of, name)?.get;
}

const typeOf = getter<string | undefined>(prototype, Symbol.toStringTag)!;
const lengthOf = getter<number>(prototype, 'length')!;
const byteOffsetOf = getter<number>(prototype, 'byteOffset')!;
const bufferOf = getter<ArrayBuffer>(prototype, 'buffer')!;
const resizable = getter<boolean>(ArrayBuffer.prototype, 'resizable');
/** Absent from pages of browsers that are not isolated from other origins, which have no shared memory then. */
const SharedMemory = (globalThis as { SharedArrayBuffer?: typeof SharedArrayBuffer }).SharedArrayBuffer;
const growable = SharedMemory && getter<boolean>(SharedMemory.prototype, 'growable');

/** The type of a typed array, such as `Float32Array`; undefined for any other value. Cannot be forged, never throws. */
export function typedArrayType(value: unknown): string | undefined {
  return typeOf.call(value);
}

/** The elements of a typed array, 0 where its buffer was detached. */
export function elementsOf(array: ArrayBufferView): number {
  return lengthOf.call(array);
}

/** As plainView, of an array that has its memory; undefined for any other value, and for types that arguments never have. */
export function attachedView(value: unknown): ArrayTypes[ElementType] | undefined {
  const type = typedArrayType(value);
  if (type === undefined || !Object.hasOwn(CONSTRUCTORS, type)) return undefined;
  const array = value as ArrayBufferView;
  return isDetached(array) ? undefined : plainView(type as ElementType, array);
}

/** Whether an array's buffer was transferred, or its WebAssembly memory grew. */
export function isDetached(array: ArrayBufferView): boolean {
  if (elementsOf(array) > 0) return false;
  try {
    new Uint8Array(memoryOf(array)); // throws on a detached buffer; ArrayBuffer.prototype.detached came after Node 20
    return false;
  } catch {
    return true;
  }
}

/** The memory of a typed array. */
export function memoryOf(array: ArrayBufferView): ArrayBuffer {
  return bufferOf.call(array);
}

/** Whether the memory of a typed array may shrink or grow. */
export function isResizable(array: ArrayBufferView): boolean {
  const buffer: ArrayBufferLike = memoryOf(array);
  try {
    return (SharedMemory && buffer instanceof SharedMemory ? growable : resizable)?.call(buffer) === true;
  } catch {
    return growable?.call(buffer) === true; // shared, and of another realm
  }
}

/** The same memory as an array of a type, with nothing of a subclass or of the caller's about it. */
export function plainView<K extends ElementType>(type: K, array: ArrayBufferView): ArrayTypes[K] {
  return new CONSTRUCTORS[type](memoryOf(array), byteOffsetOf.call(array), lengthOf.call(array)) as ArrayTypes[K];
}
