// What a caller may do to arguments, by mistake or on purpose. Each is deterministic, so that one call can be made thrice.
import { types } from 'node:util';
import { runInNewContext } from 'node:vm';
import { isTypedArray, type Memory, ownValue } from './arguments.js';
import { NUMBERS, odd } from './odd-values.js';
import type { Edit } from './plan.js';

/** One set of arguments under edit. */
export interface Victim {
  args: unknown[];
  names: readonly string[];
  memory: Memory;
  /** What getters and traps throw: the caller's own error, which passes through. */
  own: Error;
  /** What was done, in words. */
  done: string[];
  /** Arrays that getters hand out, by the getters' names. */
  lent: Map<string, ArrayBufferView>;
}

interface Place {
  holder: Record<string, unknown>;
  key: string;
  path: string;
  value: unknown;
  top: boolean;
}

const MOST_DEPTH = 4;

/** Every argument, and every property of those that are plain objects or lists. */
function places({ args, names }: Victim): Place[] {
  const found: Place[] = [];
  const visit = (holder: Record<string, unknown>, key: string, path: string, depth: number): void => {
    const descriptor = Object.getOwnPropertyDescriptor(holder, key);
    if (descriptor === undefined || !('value' in descriptor)) return;
    const { value } = descriptor;
    found.push({ holder, key, path, value, top: depth === 0 });
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || types.isProxy(value)) return;
    if (depth === MOST_DEPTH) return;
    const keys = Object.keys(value).slice(0, 40);
    for (const name of keys) visit(value as Record<string, unknown>, name, `${path}.${name}`, depth + 1);
  };
  for (const [i, name] of names.entries()) visit(args as never, String(i), name, 0);
  return found;
}

type Replacement = (value: unknown, by: number, victim: Victim) => unknown;

const same = (value: unknown) => value;

/** For arrays; other values are left alone. */
function ofArrays(change: (array: Float64Array, by: number, victim: Victim) => unknown): Replacement {
  return (value, by, victim) => (isTypedArray(value) ? change(value as Float64Array, by, victim) : value);
}

function ofObjects(change: (object: Record<string, unknown>, by: number, victim: Victim) => unknown): Replacement {
  return (value, by, victim) =>
    typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !types.isProxy(value)
      ? change(value as Record<string, unknown>, by, victim)
      : value;
}

type AnyClass = new (...args: unknown[]) => Float64Array;
const classOf = (array: Float64Array) => array.constructor as unknown as AnyClass;
const CLASSES: AnyClass[] = [
  Float32Array,
  Float64Array,
  Int32Array,
  Uint8Array,
  Uint16Array,
  Int8Array,
  Uint8ClampedArray,
  Uint32Array,
] as never;

/** The elements on another buffer. */
function onBuffer(array: Float64Array, buffer: ArrayBufferLike, { memory }: Victim): Float64Array {
  const moved = new (classOf(array))(buffer, 0, array.length);
  moved.set(array);
  memory.add(buffer);
  return moved;
}

let realm: Record<string, new (...args: unknown[]) => unknown> | undefined;

/** Constructors of another realm. */
function foreign(): NonNullable<typeof realm> {
  realm ??= runInNewContext(
    '({ Float32Array, Float64Array, Int32Array, Uint8Array, Uint16Array, BigInt64Array, Object, Array, Error })',
  ) as NonNullable<typeof realm>;
  return realm;
}

const resizable = (bytes: number) =>
  new (ArrayBuffer as new (bytes: number, options: object) => ArrayBuffer)(bytes, { maxByteLength: bytes + 64 });
const growable = (bytes: number) =>
  new (SharedArrayBuffer as new (bytes: number, options: object) => SharedArrayBuffer)(bytes, {
    maxByteLength: bytes + 64,
  });

/** An own property that lies about an array. */
function lying(array: Float64Array, by: number): Float64Array {
  const lies: [string | symbol, unknown][] = [
    ['length', array.length + 1000],
    ['length', 0],
    ['byteLength', 0],
    ['byteOffset', 8],
    ['buffer', new ArrayBuffer(8)],
    ['constructor', Array],
    [Symbol.toStringTag, 'Float32Array'],
    [Symbol.toStringTag, 'Float64Array'],
    [Symbol.toStringTag, 'Int32Array'],
    ['slice', () => new Int32Array(1)],
    ['map', () => new Float64Array(1)],
    ['set', () => undefined],
    [Symbol.iterator, null],
  ];
  const [key, value] = lies[by % lies.length];
  Object.defineProperty(array, key, { value, configurable: true });
  return array;
}

function poke(array: Float64Array, by: number): Float64Array {
  if (array.length === 0) return array;
  const number = NUMBERS[by % NUMBERS.length];
  const at = by % array.length;
  if ((array as unknown) instanceof BigInt64Array) {
    (array as unknown as BigInt64Array)[at] = BigInt(Number.isFinite(number) ? Math.trunc(number) : -1);
  } else array[at] = number;
  return array;
}

const traps = (own: Error): ProxyHandler<object> => {
  const refuse = () => {
    throw own;
  };
  return { get: refuse, has: refuse, ownKeys: refuse, getPrototypeOf: refuse, getOwnPropertyDescriptor: refuse };
};

function revoked(value: object): unknown {
  const { proxy, revoke } = Proxy.revocable(value, {});
  revoke();
  return proxy;
}

const REPLACEMENTS: Record<string, Replacement> = {
  'odd value': (_value, by, { memory }) => odd(by, memory),
  'odd number': (_value, by) => NUMBERS[by % NUMBERS.length],
  'odd element': ofArrays(poke),
  shorter: ofArrays((array) => array.subarray(0, -1)),
  longer: ofArrays((array, _by, { memory }) => memory.copy(new (classOf(array))(array.length + 1))),
  'other type': ofArrays((array, by, { memory }) => memory.copy(new CLASSES[by % CLASSES.length](array.length))),
  'subclassed array': ofArrays((array) => {
    class Own extends classOf(array) {}
    return new Own(array.buffer, array.byteOffset, array.length);
  }),
  'array of another realm': ofArrays((array, _by, victim) => {
    const Class = foreign()[classOf(array).name];
    if (!Class) return array;
    const moved = new Class(array.length) as Float64Array;
    moved.set(array);
    victim.memory.add(moved.buffer);
    return moved;
  }),
  'shared array': ofArrays((array, _by, victim) => onBuffer(array, new SharedArrayBuffer(array.byteLength), victim)),
  'resizable array': ofArrays((array, _by, victim) => onBuffer(array, resizable(array.byteLength), victim)),
  'growable array': ofArrays((array, _by, victim) => onBuffer(array, growable(array.byteLength), victim)),
  'detached array': ofArrays((array) => {
    if (array.buffer instanceof SharedArrayBuffer) return array;
    structuredClone(array.buffer, { transfer: [array.buffer] });
    return array;
  }),
  'array of the same memory': ofArrays((array, by, { memory }) => {
    const other = memory.arrays[by % memory.arrays.length];
    const room = Math.floor((other.buffer.byteLength - other.byteOffset) / array.BYTES_PER_ELEMENT);
    const fits = other.byteOffset % array.BYTES_PER_ELEMENT === 0 && room >= array.length;
    return fits ? new (classOf(array))(other.buffer, other.byteOffset, array.length) : other;
  }),
  'shifted array of the same memory': ofArrays((array, by, { memory }) => {
    const other = memory.arrays[by % memory.arrays.length];
    const size = array.BYTES_PER_ELEMENT;
    const start = size * Math.ceil((other.byteOffset + size) / size);
    const fits = start + array.byteLength <= other.buffer.byteLength;
    return fits ? new (classOf(array))(other.buffer, start, array.length) : array;
  }),
  'another argument': (_value, by, { memory }) => memory.arrays[by % Math.max(memory.arrays.length, 1)],
  'array that lies': ofArrays(lying),
  'list in place of an array': ofArrays((array) => Array.from(array)),
  'DataView that lies': ofArrays((array) => {
    const view = new DataView(array.buffer, array.byteOffset, array.byteLength);
    return Object.defineProperty(view, Symbol.toStringTag, { value: classOf(array).name });
  }),
  'object that lies': ofArrays((array) => ({ length: array.length, [Symbol.toStringTag]: classOf(array).name })),
  'proxy of an array': ofArrays((array) => new Proxy(array, {})),
  'proxy that throws': (value, _by, victim) =>
    typeof value === 'object' && value !== null ? new Proxy(value, traps(victim.own)) : value,
  'revoked proxy': (value) => revoked(typeof value === 'object' ? (value ?? {}) : {}),
  'proxy of an object': ofObjects((object) => new Proxy(object, {})),
  'null prototype': ofObjects((object) =>
    Array.isArray(object) ? object : Object.assign(Object.create(null), object),
  ),
  inherited: ofObjects((object) => Object.create(object)),
  frozen: ofObjects((object) => Object.freeze(object)),
  'object of another realm': ofObjects((object) => {
    const { Object: ForeignObject, Array: ForeignArray } = foreign();
    return Object.assign(new (Array.isArray(object) ? ForeignArray : ForeignObject)() as object, object);
  }),
  'polluted prototype': ofObjects((object) => Object.setPrototypeOf(object, { klCoef: 1, tau: 'x', mask: 3 })),
  'circular object': ofObjects((object) =>
    Object.isExtensible(object) ? Object.assign(object, { self: object }) : object,
  ),
};

type PropertyEdit = (place: Place, by: number, victim: Victim) => void;

const define = ({ holder, key }: Place, property: PropertyDescriptor) =>
  Object.defineProperty(holder, key, { configurable: true, enumerable: true, ...property });

const PROPERTIES: Record<string, PropertyEdit> = {
  getter: (place) => define(place, { get: () => place.value }),
  'getter that changes its value': (place, by, { memory }) => {
    let reads = 0;
    define(place, { get: () => (reads++ === 0 ? place.value : odd(by, memory)) });
  },
  'getter that throws': (place, _by, { own }) => {
    define(place, {
      get: () => {
        throw own;
      },
    });
  },
  'getter that detaches': (place, by, { memory }) => {
    const { buffer } = memory.arrays[by % memory.arrays.length] ?? {};
    const get = () => {
      if (buffer instanceof ArrayBuffer && buffer.byteLength > 0) structuredClone(buffer, { transfer: [buffer] });
      return place.value;
    };
    if (memory.arrays.length > 0) define(place, { get });
  },
  'getter that shrinks another array': (place, by, { memory, lent }) => {
    const { holder } = place;
    const others = Object.keys(holder).filter((key) => key !== place.key && isTypedArray(ownValue(holder, key)));
    if (others.length === 0) return;
    const key = others[by % others.length];
    const array = holder[key] as Float64Array;
    const buffer = resizable(array.byteLength);
    const moved = new (classOf(array))(buffer);
    memory.add(buffer);
    lent.set(key, moved);
    holder[key] = moved;
    const get = () => {
      if (buffer.byteLength > 0) (buffer as unknown as { resize(bytes: number): void }).resize(0);
      return place.value;
    };
    define(place, { get });
  },
  removed: ({ holder, key }) => {
    delete holder[key];
  },
  misspelt: ({ holder, key, value }, by) => {
    const at = by % key.length;
    const names = [key.slice(0, at) + key.slice(at + 1), `${key}s`, key.toUpperCase(), `${key}${'x'.repeat(by)}`];
    delete holder[key];
    holder[names[by % names.length]] = value;
  },
  'extra property': ({ holder }, by, { memory }) => {
    const keys = [
      'backend',
      'signal',
      'gradient',
      'tau',
      '__proto__',
      'x'.repeat(2000),
      'constructor',
      '',
      'beta',
      'logps',
    ];
    Object.defineProperty(holder, keys[by % keys.length], {
      value: odd(by, memory),
      enumerable: true,
      configurable: true,
    });
  },
};

export const EDITS = [...Object.keys(REPLACEMENTS), ...Object.keys(PROPERTIES)];

/** Those after which a property has the same value whenever it is read, and arrays share no memory. */
export const PLAIN_EDITS = EDITS.filter((how) => !/^getter that|same memory|another argument/.test(how));

/** Edits of what earlier edits made hostile may fail: then they are left out. */
export function edit(victim: Victim, one: Edit): void {
  try {
    apply(victim, one);
  } catch (error) {
    victim.done.push(`nothing: ${one.how} (${(error as Error).message})`);
  }
}

function apply(victim: Victim, { at, how, by }: Edit): void {
  const all = places(victim);
  if (all.length === 0) return;
  const place = all[at % all.length];
  const { holder, key, path, value } = place;
  if (!Object.isExtensible(holder)) return;
  const property = PROPERTIES[how];
  if (property) {
    if (place.top) return; // an argument itself has no getter
    property(place, by, victim);
  } else {
    const replaced = (REPLACEMENTS[how] ?? same)(value, by, victim);
    Object.defineProperty(holder, key, { value: replaced, configurable: true, enumerable: true, writable: true });
  }
  victim.done.push(`${path}: ${how} (${by})`);
}
