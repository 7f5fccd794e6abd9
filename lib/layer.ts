// The last layer of a model as users hand it over, with its input, and where its gradients go.

import { DeviceTensor } from './cuda/device.js';
import { badArgument } from './errors.js';
import type { LikeTensor } from './host-tensor.js';
import type { BackendName } from './kernels.js';
import { givenMatrix, type Matrix, type MatrixGradientOption, type MatrixView, shapedMatrix } from './matrices.js';
import { newArray } from './memory.js';
import { namesOf, type OptionNames } from './options.js';
import { finiteNumber } from './validate.js';

/** Where the gradients of hidden states and their layer go: `H`, `W` and `C` are the options of the call. */
export interface LayerPlaces<
  H extends MatrixGradientOption = MatrixGradientOption,
  W extends MatrixGradientOption = MatrixGradientOption,
  C extends MatrixGradientOption = MatrixGradientOption,
> {
  /** From hidden states: where their gradient goes, [T, d]. Default `'new'`: in the form and dtype of `hidden`. */
  gradHidden?: H | undefined;
  /** Where the gradient of `weight` goes, [V, d]. Default `'new'`. `'none'` for a layer that is not trained saves its time. */
  gradWeight?: W | undefined;
  /** Where the gradient of `bias` goes, [V]. Default `'new'` if there is a bias. */
  gradBias?: C | undefined;
}

const PLACE: OptionNames = { out: true, accumulate: true };

/** Names of {@link LayerPlaces}. */
export const LAYER_PLACES = namesOf<LayerPlaces>({
  gradHidden: PLACE,
  gradWeight: PLACE,
  gradBias: PLACE,
});

/** The gradient of an input: what is in the option, or a matrix like the input. */
type GradientBy<Option, Input> = Option extends { out: infer Out }
  ? Out
  : Option extends { accumulate: infer Sum }
    ? Sum
    : Option extends 'none'
      ? undefined
      : LikeTensor<Input>;

type OptionIn<Options, Name extends string> = Options extends { [K in Name]?: infer Option } ? Option : 'new';

/** Result of {@link linearLogProbsBackward}: the arrays and tensors of the options, or new ones in the form of the inputs. */
export interface LinearGradients<Inputs, Options> {
  /** [T, d]; absent for `'none'`. */
  gradHidden: GradientBy<OptionIn<Options, 'gradHidden'>, Inputs extends { hidden: infer H } ? H : never>;
  /** [V, d]; absent for `'none'`. */
  gradWeight: GradientBy<OptionIn<Options, 'gradWeight'>, Inputs extends { weight: infer W } ? W : never>;
  /** [V]; absent for `'none'`, and without a bias. */
  gradBias: GradientBy<OptionIn<Options, 'gradBias'>, Inputs extends { bias?: infer B } ? B : undefined>;
}

/** The last layer, checked. */
export interface Layer {
  hidden: MatrixView; // [T, d]
  weight: MatrixView; // [V, d]
  bias: MatrixView | undefined; // [1, V]
}

/** How many of the logits there are at a time. */
export interface Chunks {
  chunkBytes: number;
  keepOn?: BackendName | undefined; // where a backward pass will follow in the same call, or on the host in any
}

export const DEFAULT_CHUNK_BYTES = 2 ** 26;

/** The bytes of logits that a forward pass may keep, and that CUDA holds at a time. */
export function chunkBytesOption(value: unknown): number {
  return finiteNumber('chunkBytes', value ?? DEFAULT_CHUNK_BYTES, { min: 0, max: 2 ** 40, integer: true });
}

/** What a forward pass leaves of the logits. */
interface KeptArrays {
  keptLogits: Float32Array | undefined; // some columns of the rows that the mask leaves; on CUDA all stay on the device
  keptRows: Int32Array; // [T] which of those rows is row t
}

/** Memory for as many of the logits as fit in `chunkBytes`; on CUDA all or none, in WebAssembly none. */
export function keptArrays(
  { hidden, weight }: Layer,
  mask: Uint8Array | undefined,
  { chunkBytes, keepOn }: Chunks,
): KeptArrays | undefined {
  if (chunkBytes === 0 || keepOn === undefined || keepOn === 'wasm') return undefined;
  const [tokens, vocab] = [hidden.rows, weight.rows];
  if (keepOn === 'cuda' && 4 * tokens * vocab > chunkBytes) return undefined;
  const keptRows = newArray('targets', Int32Array, tokens);
  if (keepOn === 'cuda') return { keptLogits: undefined, keptRows };
  const rows = mask ? mask.reduce((count, keeps) => count + (keeps === 0 ? 0 : 1), 0) : tokens;
  const length = Math.min(rows * vocab, Math.floor(chunkBytes / 4));
  return { keptLogits: newArray('chunkBytes', Float32Array, length), keptRows };
}

type Given = ReturnType<typeof givenMatrix>;

/** T is the length of `targets`; V and d are found in whichever array has a shape, or else by division. */
export function layerOf(inputs: { hidden: Matrix; weight: Matrix; bias?: Matrix }, tokens: number): Layer {
  const hidden = givenMatrix('hidden', inputs.hidden, '[T, d]');
  const weight = givenMatrix('weight', inputs.weight, '[V, d]');
  const bias = inputs.bias === undefined ? undefined : givenMatrix('bias', inputs.bias, '[1, V]');
  const known = ('width' in hidden && hidden.width) || ('width' in weight && weight.width);
  const width = known || (tokens > 0 ? quotient('hidden', hidden, tokens, 'T * d') : anyWidth(weight, bias));
  const vocab = 'rows' in weight ? weight.rows : quotient('weight', weight, width, 'V * d', tokens === 0);
  if (tokens > 0 && vocab === 0) throw badArgument('ERR_SHAPE', 'weight', 'at least one row, [V, d]', 'none');
  checkOneDevice(inputs);
  return {
    hidden: shapedMatrix('hidden', hidden, [tokens, width], '[T, d]'),
    weight: shapedMatrix('weight', weight, [vocab, width], '[V, d]'),
    bias: bias && shapedMatrix('bias', bias, [1, vocab], '[1, V]'),
  };
}

/**
 * Without tokens or shapes any V and d will do whose product is the length of the weight, as there is nothing but zeros; a bias has
 * its V.
 */
function anyWidth(weight: Given, bias: Given | undefined): number {
  const vocab = bias && ('width' in bias ? bias.width : bias.data.length);
  return (vocab && quotient('weight', weight, vocab, 'V * d', true)) || 1;
}

/** How many elements of an array each of `parts` has; at least one, unless it may be `empty`. */
function quotient(name: string, given: Given, parts: number, product: string, empty = false): number {
  const length = 'rows' in given ? given.rows * given.width : given.data.length;
  const each = length / parts;
  if (Number.isInteger(each) && (each > 0 || empty)) return each;
  throw badArgument('ERR_SHAPE', name, `a multiple of ${parts} elements (${product})`, `${length}`);
}

/** What is on a device must be on the device of the others that are. */
function checkOneDevice(inputs: object): void {
  let first: [name: string, tensor: DeviceTensor] | undefined;
  for (const name of ['hidden', 'weight', 'bias']) {
    const tensor = (inputs as Record<string, unknown>)[name];
    if (!(tensor instanceof DeviceTensor)) continue;
    first ??= [name, tensor];
    if (tensor.device === first[1].device) continue;
    throw badArgument('ERR_BACKEND', name, `a tensor of the device of ${first[0]}`, 'one of another Device');
  }
}
