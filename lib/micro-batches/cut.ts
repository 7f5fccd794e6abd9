// A batch in parts: whole groups, and views of its arrays.
import { DeviceTensor } from '../cuda/device.js';
import { badArgument, describe } from '../errors.js';
import { type HostTensor, hostView } from '../host-tensor.js';
import { contiguous } from '../matrices.js';
import { atOnce } from '../slices.js';
import { arrayOf, ID_ARRAYS, offsets, typedArray } from '../validate.js';

/** Sequences `first ... last` of a batch, its tokens `begin ... end`, and its groups. */
export interface Range {
  first: number;
  last: number;
  begin: number;
  end: number;
  groups: readonly [first: number, last: number];
}

type Fields = Readonly<Record<string, unknown>>;
type Cut = (range: Range) => unknown;

const FLOATS = ['Float32Array', 'Float64Array'] as const;

/** What the arrays of a field may be, for those with an element per token. */
const PER_TOKEN = {
  targets: ID_ARRAYS,
  inputIds: ID_ARRAYS,
  mask: ['Uint8Array'],
  attentionMask: ['Uint8Array'],
  logProbs: FLOATS,
  oldLogProbs: FLOATS,
  refLogProbs: FLOATS,
  rolloutLogProbs: FLOATS,
  rolloutWeights: FLOATS,
  teacherLogProbs: FLOATS,
  tokenWeights: FLOATS,
} as const;

/** How each field of a batch is cut, checked; other fields are the same in every part. */
export function cutters(fields: Fields, cuSeqlens: Int32Array): Record<string, Cut> {
  const sequences = cuSeqlens.length - 1;
  const tokens = cuSeqlens[sequences];
  const cuts: Record<string, Cut> = {};
  const add = (name: string, cutter: (value: unknown) => Cut) => {
    if (fields[name] !== undefined) cuts[name] = cutter(fields[name]);
  };
  for (const [name, types] of Object.entries(PER_TOKEN)) {
    add(name, (value) => {
      const array = arrayOf(name, value, types, tokens, 'T, one value per token');
      return ({ begin, end }) => array.subarray(begin, end);
    });
  }
  add('rewards', (value) => {
    const rewards = arrayOf('rewards', value, FLOATS, sequences, 'N, one reward per sequence');
    return ({ first, last }) => rewards.subarray(first, last);
  });
  add('advantages', (value) => advantagesCut(value, cuSeqlens));
  for (const name of ['logits', 'hidden']) add(name, (value) => rowsCut(name, value, tokens));
  if (fields.cuKept !== undefined || fields.keptIds !== undefined) {
    const ids = typedArray('keptIds', fields.keptIds, ['Int32Array']);
    const cuKept = atOnce(offsets('cuKept', fields.cuKept, ids.length, 'K, the length of keptIds'));
    arrayOf('cuKept', cuKept, ['Int32Array'], tokens + 1, 'T + 1');
    cuts.keptIds = ({ begin, end }) => ids.subarray(cuKept[begin], cuKept[end]);
    cuts.cuKept = ({ begin, end }) => from0(cuKept, begin, end);
  }
  return cuts;
}

/** Offsets `first ... last` of those of a batch, as those of a part. */
export function from0(cumulative: Int32Array, first: number, last: number): Int32Array {
  return cumulative.slice(first, last + 1).map((offset) => offset - cumulative[first]);
}

/** [N], or [T]: a part of the latter must not be taken for one of the former. */
function advantagesCut(value: unknown, cuSeqlens: Int32Array): Cut {
  const sequences = cuSeqlens.length - 1;
  const tokens = cuSeqlens[sequences];
  const { length } = typedArray('advantages', value, FLOATS);
  const perToken = length !== sequences && length === tokens;
  const advantages = arrayOf('advantages', value, FLOATS, perToken ? tokens : sequences, `N, or T = ${tokens}`);
  if (!perToken) return ({ first, last }) => advantages.subarray(first, last);
  return ({ first, last, begin, end }) => {
    const offsets = cuSeqlens.subarray(first, last + 1);
    const isClear = last - first !== end - begin || offsets.every((offset, i) => offset === begin + i);
    if (isClear) return advantages.subarray(begin, end);
    const got = `one of ${last - first} sequences, from ${first} on, and as many tokens`;
    throw badArgument('ERR_RANGE', 'advantages', 'no part in which [T] would pass for [N]', got);
  };
}

/** The rows of logits or hidden states. */
function rowsCut(name: string, value: unknown, tokens: number): Cut {
  if (value instanceof DeviceTensor)
    throw badArgument('ERR_DTYPE', name, 'an array or a tensor in host memory', describe(value));
  if (ArrayBuffer.isView(value)) {
    const { length } = contiguous(name, value).data;
    const width = length / Math.max(tokens, 1);
    if (!Number.isInteger(width)) throw badArgument('ERR_SHAPE', name, `a multiple of ${tokens} elements`, `${length}`);
    return ({ begin, end }) => (value as Float32Array).subarray(begin * width, end * width);
  }
  const { rowStride, vocab, dtypeName, tokens: rows } = hostView(name, value);
  if (rows !== tokens) throw badArgument('ERR_SHAPE', `${name}.shape`, `${tokens} rows (T)`, `${rows}`);
  const tensor = value as HostTensor;
  const { data } = tensor;
  return ({ begin, end }) => ({
    ...tensor,
    data: data.subarray(begin * rowStride, end * rowStride),
    shape: [end - begin, vocab],
    dtype: dtypeName,
    rowStride,
  });
}
