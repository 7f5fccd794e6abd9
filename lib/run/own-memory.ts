// Calls on memory of their own: with `copyInputs` on copies of what the caller gave, so that whatever happens to that
// meanwhile does not matter. What such a call writes is copied to the caller's array in the end.

import { addressesKnown, mayAlias } from '../backend/extents.js';
import { preparedForWriting } from '../backend/outputs.js';
import { DeviceTensor } from '../cuda/device.js';
import { badArgument, isArray, isRevoked, itemsOf } from '../errors.js';
import { HALF_ARRAY, type HostTensor } from '../host-tensor.js';
import { isInPlace } from '../logits.js';
import { newArray } from '../memory.js';
import { PAUSE, type Sliced, slices } from '../slices.js';
import { attachedView, typedArrayType } from '../views.js';

type Values = Record<string, unknown>;
type Numbers = Float64Array; // or another typed array

/** What the caller gave, an array or a tensor, and the array in it, read once. */
interface Original {
  name: string; // in errors
  value: unknown;
  array: Numbers;
}

/** What copies were made of. A copy is not copied again, and what it was made of is written to in its place. */
const originals = new WeakMap<object, Original>();

/** The options that say where a gradient goes. */
const GRADIENT_OPTIONS = ['gradient', 'gradHidden', 'gradWeight', 'gradBias'] as const;

/** What results call gradients. */
const GRADIENTS = ['gradLogits', 'gradLogProbs', 'gradHidden', 'gradWeight', 'gradBias'] as const;

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
  let own = options;
  for (const name of GRADIENT_OPTIONS) {
    const option = (options as Values)[name];
    const apart = option === undefined ? undefined : writtenApart(name, option, fields, copyInputs);
    if (apart !== undefined) own = { ...own, [name]: apart };
  }
  const overCopy = isInPlace((own as Values).gradient) && originals.has(inPlaceOf(fields).value as object);
  return own !== options || overCopy ? delivering(op(fields, own)) : op(fields, own);
}

/** Where a gradient is written: what the caller gave for it, by which key of the option, and how errors call it. */
interface Output {
  name: string;
  key: 'out' | 'accumulate';
  value: unknown;
}

/** The option with an array of our own in place of the caller's; undefined if the caller's may be written at once. */
function writtenApart(name: string, option: unknown, fields: object, copyInputs: boolean): object | undefined {
  const inPlace = isInPlace(option);
  const output = inPlace ? inPlaceOf(fields) : outputOf(name, option);
  if (!output || (copyInputs ? inPlace : !isUndecided(output.value, fields))) return undefined;
  const apart = alike(name, output.value, output.key === 'accumulate', output.name);
  return { ...(typeof option === 'object' && option), [output.key]: apart };
}

/** The input that a gradient in place overwrites. */
function inPlaceOf(fields: object): Output {
  const { logits, logProbs } = fields as Values;
  const name = logits === undefined ? 'logProbs' : 'logits';
  return { name, key: 'out', value: logits ?? logProbs };
}

/** The array of an option `{ out }` or `{ accumulate }`. */
function outputOf(name: string, option: unknown): Output | undefined {
  if (typeof option !== 'object' || option === null) return undefined;
  const { out, accumulate } = option as { out?: unknown; accumulate?: unknown };
  if (out !== undefined) return { name: `${name}.out`, key: 'out', value: out };
  return accumulate === undefined ? undefined : { name: `${name}.accumulate`, key: 'accumulate', value: accumulate };
}

/** Where the options have gradients written. */
export function outputsOf(options: object): Output[] {
  return GRADIENT_OPTIONS.flatMap((name) => outputOf(name, (options as Values)[name]) ?? []);
}

/** Whether nothing can tell whether an output overlaps an input: then it must not matter. */
function isUndecided(output: unknown, fields: object): boolean {
  const written = addressesKnown() ? undefined : arrayIn(output);
  return written !== undefined && Object.values(fields).some((value) => aliases(written, arrayIn(value)));
}

function aliases(written: Numbers, read: Numbers | undefined): boolean {
  return read !== undefined && mayAlias(written, read);
}

/** The caller's array that gets, in the end, what is written to a copy; undefined for what is no copy. */
export function callersArray(copy: object): ArrayBufferView | undefined {
  return originals.get(copy)?.array;
}

/** Inputs that may be tensors. */
const TENSORS: ReadonlySet<string> = new Set(['logits', 'hidden', 'weight', 'bias']);

function copyEach(values: Values): void {
  for (const [name, value] of Object.entries(values)) {
    const isInput = attachedView(value) !== undefined || (TENSORS.has(name) && isHostTensor(value));
    if (isInput && !originals.has(value as object)) values[name] = alike(name, value, true);
  }
}

function isHostTensor(value: unknown): value is HostTensor {
  if (typeof value !== 'object' || value === null || isRevoked(value)) return false;
  return 'data' in value && !(value instanceof DeviceTensor);
}

function arrayIn(value: unknown): Numbers | undefined {
  return attachedView(isHostTensor(value) ? value.data : value) as Numbers | undefined;
}

/**
 * An array or tensor like the given one, with its contents or without. What is neither, or detached, remains what it is.
 * `original` is what errors call the given one.
 */
function alike(name: string, value: unknown, contents: boolean, original = name): unknown {
  const array = attachedView(value) as Numbers | undefined;
  if (array) return remembered(like(name, value, array, contents), { name: original, value, array });
  if (!isHostTensor(value)) return value;
  const { data, shape, dtype, rowStride } = value;
  const elements = attachedView(data) as Numbers | undefined;
  const copy = {
    data: elements ? like(name, data, elements, contents) : data,
    shape: isArray(shape) ? itemsOf(shape, 3) : shape,
    ...(dtype !== undefined && { dtype }),
    ...(rowStride !== undefined && { rowStride }),
  };
  return elements ? remembered(copy, { name: original, value, array: elements }) : copy;
}

function remembered(copy: object, original: Original): object {
  originals.set(copy, original);
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

/** The task, whose result has the caller's arrays, written, in place of their copies. */
function* delivering<Step, Result>(task: Generator<Step, Result, void>): Generator<Step | typeof PAUSE, Result, void> {
  const result = yield* task;
  const values = result as Values;
  for (const key of GRADIENTS) {
    const copy = values[key];
    const original = copy === undefined ? undefined : originals.get(copy as object);
    if (!original) continue;
    yield* writeBack(original.name, copy as HostTensor | Numbers, original.array);
    values[key] = original.value;
  }
  return result;
}

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
