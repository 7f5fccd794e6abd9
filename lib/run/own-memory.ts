// Calls on memory of their own: with `copyInputs` on copies of what the caller gave, so that whatever happens to that
// meanwhile does not matter. What such a call writes is copied to the caller's array in the end.

import { addressesKnown, mayAlias } from '../backend/extents.js';
import { preparedForWriting } from '../backend/outputs.js';
import { DeviceTensor } from '../cuda/device.js';
import { badArgument, isArray, isRevoked, itemsOf } from '../errors.js';
import { HALF_ARRAY, type HostTensor } from '../host-tensor.js';
import { isDeferred, isInPlace } from '../logits.js';
import { newArray } from '../memory.js';
import { PAUSE, type Sliced, slices } from '../slices.js';
import { attachedView, typedArrayType } from '../views.js';

type Values = Record<string, unknown>;
type Numbers = Float64Array; // or another typed array

/** What the caller gave, an array or a tensor, and the array in it, read once. */
interface Original {
  value: unknown;
  array: Numbers;
}

/** What copies were made of. A copy is not copied again, and what it was made of is written to in its place. */
const originals = new WeakMap<object, Original>();

/**
 * The task of `op` on a call's `fields` and options; with `copyInputs` on copies, which it puts there at once. Where the caller's
 * array is to be written in the end only, the task writes to another, and copies that.
 */
export function onOwnMemory<F extends object, O extends object, Step, Result>(
  op: (fields: F, options: O) => Generator<Step, Result, void>,
  fields: F,
  options: O,
  copyInputs: boolean,
): Generator<Step | typeof PAUSE, Result, void> {
  if (copyInputs) {
    copyEach(fields as Values);
    copyEach(options as Values);
  }
  const { gradient } = options as Values;
  if (gradient === undefined) return op(fields, options);
  const output = copyInputs ? outOf(options) : undecidedOutput(fields, options);
  if (output !== undefined) {
    const out = alike('gradient', output, false);
    const apart = { ...options, gradient: isDeferred(gradient) ? { deferred: true, out } : { out } };
    return delivering(op(fields, apart), isInPlace(gradient) ? undefined : 'gradient.out');
  }
  const overCopy = isInPlace(gradient) && originals.has(gradientOf(fields) as object);
  return overCopy ? delivering(op(fields, options)) : op(fields, options);
}

/** The input that the gradient is of. */
function gradientOf(fields: object): unknown {
  const { logits, logProbs } = fields as Values;
  return logits ?? logProbs;
}

function copyEach(values: Values): void {
  for (const [name, value] of Object.entries(values)) {
    const isInput = attachedView(value) !== undefined || (name === 'logits' && isHostTensor(value));
    if (isInput && !originals.has(value as object)) values[name] = alike(name, value, true);
  }
}

/** The array of the option `gradient: { out }`. */
export function outOf(options: object): unknown {
  const { gradient } = options as Values;
  return typeof gradient === 'object' && gradient !== null ? (gradient as { out?: unknown }).out : undefined;
}

/** An output of which nothing can tell whether it overlaps an input: then it must not matter. */
function undecidedOutput(fields: object, options: object): unknown {
  const output = isInPlace((options as Values).gradient) ? gradientOf(fields) : outOf(options);
  if (output === undefined || addressesKnown()) return undefined;
  const written = arrayIn(output);
  const inputs = Object.values(fields).map(arrayIn);
  return inputs.some((read) => written && read && mayAlias(written, read)) ? output : undefined;
}

function isHostTensor(value: unknown): value is HostTensor {
  if (typeof value !== 'object' || value === null || isRevoked(value)) return false;
  return 'data' in value && !(value instanceof DeviceTensor);
}

function arrayIn(value: unknown): Numbers | undefined {
  return attachedView(isHostTensor(value) ? value.data : value) as Numbers | undefined;
}

/** An array or tensor like the given one, with its contents or without. What is neither, or detached, remains what it is. */
function alike(name: string, value: unknown, contents: boolean): unknown {
  const array = attachedView(value) as Numbers | undefined;
  if (array) return remembered(like(name, value, array, contents), value, array);
  if (!isHostTensor(value)) return value;
  const { data, shape, dtype, rowStride } = value;
  const elements = attachedView(data) as Numbers | undefined;
  const copy = {
    data: elements ? like(name, data, elements, contents) : data,
    shape: isArray(shape) ? itemsOf(shape, 3) : shape,
    ...(dtype !== undefined && { dtype }),
    ...(rowStride !== undefined && { rowStride }),
  };
  return elements ? remembered(copy, value, elements) : copy;
}

function remembered(copy: object, value: unknown, array: Numbers): object {
  originals.set(copy, { value, array });
  return copy;
}

/** An array of the type of `given`, which `array` is our view of. */
function like(name: string, given: unknown, array: Numbers, contents: boolean): object {
  const copy = preparedForWriting(newArray(name, array.constructor as typeof Float64Array, array.length));
  if (contents) copy.set(array);
  if (typedArrayType(given) !== HALF_ARRAY) return copy;
  const { Float16Array } = globalThis as unknown as { Float16Array: new (buffer: ArrayBufferLike) => object };
  return new Float16Array(copy.buffer);
}

/** The task, whose result has the caller's arrays, written, in place of their copies; `name` where they are no inputs. */
function* delivering<Step, Result>(
  task: Generator<Step, Result, void>,
  name?: string,
): Generator<Step | typeof PAUSE, Result, void> {
  const result = yield* task;
  const values = result as Values;
  for (const key in INPUT_OF) {
    const copy = values[key];
    const original = copy === undefined ? undefined : originals.get(copy as object);
    if (!original) continue;
    yield* writeBack(name ?? INPUT_OF[key], copy as HostTensor | Numbers, original.array);
    values[key] = original.value;
  }
  return result;
}

const INPUT_OF: Record<string, string> = { gradLogits: 'logits', gradLogProbs: 'logProbs' };

function* writeBack(name: string, copy: HostTensor | Numbers, to: Numbers): Sliced<void> {
  const from = arrayIn(copy)!;
  const { shape, rowStride } = isHostTensor(copy) ? copy : { shape: [1, from.length] };
  const [rows, width] = shape;
  const put = (begin: number, end: number) => {
    if (to.length < end) {
      const lost = 'one that was detached or shrunk meanwhile';
      throw badArgument('ERR_DTYPE', name, 'an array that keeps its memory until the call is done', lost);
    }
    to.set(from.subarray(begin, end), begin);
  };
  if (rowStride === undefined || rowStride === width) return yield* slices(rows * width, put);
  for (let t = 0; t < rows; t++) {
    put(t * rowStride, t * rowStride + width);
    yield PAUSE;
  }
}
