// Arrays that the caller takes away while a call uses them: the call fails with an error that names one.
import { checkAttached } from '../backend/extents.js';
import type {
  GradientArgument,
  LinearLogProbsBackwardArguments,
  MatrixArgument,
  TokenLogProbsOnePassArguments,
  TokenTerms,
} from '../kernels.js';
import { elementsOf, typedArrayType } from '../views.js';
import { outputsOf } from './own-memory.js';

export type NamedArrays = [name: string, array: ArrayBufferView][];

/** The arrays that a call begins with. */
export function givenArrays(fields: object, options: object): NamedArrays {
  const arrays: NamedArrays = [];
  const add = (name: string, value: unknown) => {
    if (typedArrayType(value) === undefined) return;
    const array = value as ArrayBufferView;
    if (elementsOf(array) > 0) arrays.push([name, array]);
  };
  for (const name of Object.keys(fields)) add(name, (fields as Record<string, unknown>)[name]);
  for (const { name, value } of outputsOf(options)) add(name, value);
  return arrays;
}

/** Arguments of kernels that hold arrays. */
const NESTED: ReadonlySet<string> = new Set<keyof TokenLogProbsOnePassArguments | keyof TokenTerms>([
  'terms',
  'policy',
  'penalty',
]);

/** Arguments of kernels that are matrices. */
const MATRICES: ReadonlySet<string> = new Set<keyof LinearLogProbsBackwardArguments>([
  'hidden',
  'weight',
  'bias',
  'gradHidden',
  'gradWeight',
  'gradBias',
]);

/** Throws if a matrix has lost its memory; one that is written is the option `{ out }` or `{ accumulate }`. */
function checkMatrix(name: string, matrix: MatrixArgument | GradientArgument | undefined): void {
  if (!matrix) return;
  const key = 'accumulate' in matrix ? (matrix.accumulate ? '.accumulate' : '.out') : '';
  if (ArrayBuffer.isView(matrix.data)) checkAttached(`${name}${key}`, matrix.data);
}

/** Throws if one of the arrays, or of those that a kernel was given, has lost its memory. */
export function checkArrays(arrays: NamedArrays, kernelArguments: object = {}): void {
  for (const [name, array] of arrays) checkAttached(name, array);
  const args = kernelArguments as Record<string, unknown>;
  for (const name in args) {
    const array = args[name];
    if (NESTED.has(name)) checkArrays([], array as object | undefined);
    if (MATRICES.has(name)) checkMatrix(name, array as MatrixArgument | undefined);
    if (!ArrayBuffer.isView(array)) continue;
    checkAttached(name === 'gradLogits' ? (array === args.logits ? 'logits' : 'gradient.out') : name, array);
  }
}
