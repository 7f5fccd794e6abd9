// The last layer of a model as users hand it over, with its input, and where its gradients go.

import { badArgument } from './errors.js';
import type { HostLogits } from './kernels.js';
import { givenMatrix, type Matrix, type MatrixGradientOption, type MatrixView, shapedMatrix } from './matrices.js';
import { namesOf, type OptionNames } from './options.js';

/** Where the gradients of hidden states and their layer go: `H`, `W` and `C` are the options of the call. */
export interface LayerPlaces<
  H extends MatrixGradientOption = MatrixGradientOption,
  W extends MatrixGradientOption = MatrixGradientOption,
  C extends MatrixGradientOption = MatrixGradientOption,
> {
  /** From hidden states: where their gradient goes, [T, d]. Default `'new'`: in the form and dtype of `hidden`. */
  gradHidden?: H;
  /** Where the gradient of `weight` goes, [V, d]. Default `'new'`. `'none'` for a layer that is not trained saves its time. */
  gradWeight?: W;
  /** Where the gradient of `bias` goes, [V]. Default `'new'` if there is a bias. */
  gradBias?: C;
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
      : Input;

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

/** T is the length of `targets`; V and d are found in whichever array has a shape, or else by division. */
export function layerOf(inputs: { hidden: Matrix; weight: Matrix; bias?: Matrix }, tokens: number): Layer {
  const hidden = givenMatrix('hidden', inputs.hidden, '[T, d]');
  const weight = givenMatrix('weight', inputs.weight, '[V, d]');
  const bias = inputs.bias === undefined ? undefined : givenMatrix('bias', inputs.bias, '[1, V]');
  const known = ('width' in hidden && hidden.width) || ('width' in weight && weight.width);
  const width = known || (tokens > 0 ? quotient('hidden', hidden, tokens, 'T * d') : anyWidth(weight, bias));
  const vocab = 'rows' in weight ? weight.rows : quotient('weight', weight, width, 'V * d', tokens === 0);
  if (tokens > 0 && vocab === 0) throw badArgument('ERR_SHAPE', 'weight', 'at least one row, [V, d]', 'none');
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
function anyWidth(weight: { data: HostLogits }, bias: { data: HostLogits; width?: number } | undefined): number {
  const vocab = bias && (bias.width ?? bias.data.length);
  return (vocab && quotient('weight', weight, vocab, 'V * d', true)) || 1;
}

/** How many elements of an array each of `parts` has; at least one, unless it may be `empty`. */
function quotient(name: string, { data }: { data: HostLogits }, parts: number, product: string, empty = false): number {
  const each = data.length / parts;
  if (Number.isInteger(each) && (each > 0 || empty)) return each;
  throw badArgument('ERR_SHAPE', name, `a multiple of ${parts} elements (${product})`, `${data.length}`);
}
