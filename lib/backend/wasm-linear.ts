// linear-log-probs in WebAssembly (native/wasm/linear_log_probs.cpp): hidden states are copied as a whole, the weight and its gradient
// some columns of the logits at a time. A call has an instance to itself, since its memory is in use until it ends. The forward pass
// leaves no logits to the backward pass.
import type {
  DTypeCode,
  GradientArgument,
  HostArray,
  HostLogits,
  LinearLogProbsBackwardArguments,
  LinearLogProbsForwardArguments,
  MatrixArgument,
} from '../kernels.js';
import { PAUSE, type Sliced } from '../slices.js';
import { copyRows } from './wasm-call.js';
import type { WasmInstance } from './wasm-module.js';

type Linear = LinearLogProbsForwardArguments | LinearLogProbsBackwardArguments;

const BLOCK = 2 ** 18; // elements that are copied between two pauses
const LIST = 64; // numbers

/** Rows of a matrix in the module's memory, one after the other. */
interface Matrix {
  address: number; // 0: there is none
  dtype: DTypeCode;
  width: number;
}

const NONE: Matrix = { address: 0, dtype: 0, width: 0 };

/** The memory of one pass, and its lists of arguments. */
class Pass {
  #instance: WasmInstance;
  #addresses: number[] = [];
  #written: { array: HostArray; address: number }[] = [];
  #list: number;

  constructor(instance: WasmInstance) {
    this.#instance = instance;
    this.#list = this.#allocate(LIST * Float64Array.BYTES_PER_ELEMENT);
  }

  #allocate(bytes: number): number {
    const address = this.#instance.allocate(bytes);
    this.#addresses.push(address);
    return address;
  }

  /** The address of a list of arguments, which the next one takes the place of. */
  list(values: readonly number[]): number {
    this.#instance.views.f64.set(values, this.#list / Float64Array.BYTES_PER_ELEMENT);
    return this.#list;
  }

  input(array: HostArray | undefined): number {
    if (array === undefined) return 0;
    const address = this.#allocate(array.byteLength);
    this.#instance.at(address, array, array.length).set(array);
    return address;
  }

  output(array: HostArray | undefined): number {
    if (array === undefined) return 0;
    const address = this.#allocate(array.byteLength);
    this.#written.push({ array, address });
    return address;
  }

  /** Brings the outputs into their arrays. */
  deliver(): void {
    for (const { array, address } of this.#written) array.set(this.#instance.at(address, array, array.length));
  }

  /** Memory for rows like those of a matrix. */
  room(like: MatrixArgument | undefined, rows: number, width: number): Matrix {
    if (!like) return NONE;
    const bytes = rows * width * (like.data as HostLogits).BYTES_PER_ELEMENT;
    return { address: this.#allocate(bytes), dtype: like.dtype, width };
  }

  /** Copies rows [first, first + rows) of a matrix in. */
  *copyIn(to: Matrix, from: MatrixArgument | undefined, first: number, rows: number): Sliced<void> {
    if (!from || to.address === 0) return;
    const { data, rowStride } = from as { data: HostLogits; rowStride: number };
    yield* inBlocks(rows, to.width, (begin, count) => {
      const there = this.#rows(to, data, begin, count);
      copyRows(
        { rows: count, width: to.width },
        data.subarray((first + begin) * rowStride),
        rowStride,
        there,
        to.width,
      );
    });
  }

  *copyOut(from: Matrix, to: MatrixArgument | undefined, first: number, rows: number): Sliced<void> {
    if (!to || from.address === 0) return;
    const { data, rowStride } = to as { data: HostLogits; rowStride: number };
    yield* inBlocks(rows, from.width, (begin, count) => {
      const there = this.#rows(from, data, begin, count);
      copyRows(
        { rows: count, width: from.width },
        there,
        from.width,
        data.subarray((first + begin) * rowStride),
        rowStride,
      );
    });
  }

  #rows({ address, width }: Matrix, like: HostLogits, begin: number, count: number): HostArray {
    return this.#instance.at(address + begin * width * like.BYTES_PER_ELEMENT, like, count * width);
  }

  release(): void {
    for (const address of this.#addresses) this.#instance.exports.release(address);
  }
}

function* inBlocks(rows: number, width: number, work: (begin: number, count: number) => void): Sliced<void> {
  const most = Math.max(1, Math.floor(BLOCK / width));
  for (let begin = 0; begin < rows; begin += most) {
    if (begin > 0) yield PAUSE;
    work(begin, Math.min(most, rows - begin));
  }
}

/** A matrix of one row as one of one column, of which some rows can be had. */
function entries<M extends MatrixArgument>(matrix: M | undefined): M | undefined {
  return matrix && { ...matrix, rowStride: 1 };
}

const inList = ({ address, dtype, width }: Matrix) => [address, dtype, width];

/** Hidden states and what belongs to tokens, in the order of read_logits(). */
function* placeTokens(pass: Pass, args: Linear): Generator<typeof PAUSE, number[], void> {
  const { hidden, tokens, vocab, width } = args;
  const there = pass.room(hidden, tokens, width);
  yield* pass.copyIn(there, hidden, 0, tokens);
  const targets = pass.input(args.targets);
  return [...inList(there), tokens, vocab, width, targets, pass.input(args.mask), args.temperature];
}

/** Opens one tile of columns after the other, and has the pass work on it. */
function* overTiles(
  instance: WasmInstance,
  args: Linear,
  work: (begin: number, count: number) => Sliced<void>,
): Sliced<void> {
  const most = instance.exports.linearTileColumns(args.width);
  for (let begin = 0; begin < args.vocab; begin += most) yield* work(begin, Math.min(most, args.vocab - begin));
}

export function* linearLogProbsForward(instance: WasmInstance, args: LinearLogProbsForwardArguments): Sliced<void> {
  const { exports } = instance;
  const pass = new Pass(instance);
  const tokens = yield* placeTokens(pass, args);
  const outputs = [args.logSumExp, args.logProbs, args.entropy, args.kept, args.nonFinite];
  const steps = exports.linearForwardStart(pass.list([...tokens, ...outputs.map((array) => pass.output(array))]));
  const tile = new Tile(instance, pass, args);
  yield* overTiles(instance, args, function* (begin, count) {
    yield* tile.copyIn(begin, count);
    exports.linearForwardOpen(steps, pass.list([begin, count, ...tile.inList()]));
    while (exports.linearForwardStep(steps) !== 0) yield PAUSE;
  });
  exports.linearForwardEnd(steps);
  pass.deliver();
  pass.release();
}

export function* linearLogProbsBackward(instance: WasmInstance, args: LinearLogProbsBackwardArguments): Sliced<void> {
  const { exports } = instance;
  const { gradHidden, tokens, width } = args;
  const pass = new Pass(instance);
  const rows = yield* placeTokens(pass, args);
  const inputs = [args.logSumExp, args.gradLogProbs, args.entropy, args.gradEntropy].map((array) => pass.input(array));
  const hidden = new GradientCopy(pass, gradHidden, tokens, width);
  yield* hidden.copyIn(0, tokens);
  const steps = exports.linearBackwardStart(
    pass.list([...rows, ...inputs, ...hidden.inList(), pass.output(args.badRows)]),
  );
  if (steps !== 0) {
    yield* backwardTiles(instance, pass, args, steps);
    exports.linearBackwardEnd(steps);
    yield* hidden.copyOut(0, tokens);
  }
  pass.deliver();
  pass.release();
}

function* backwardTiles(
  instance: WasmInstance,
  pass: Pass,
  args: LinearLogProbsBackwardArguments,
  steps: number,
): Sliced<void> {
  const { exports } = instance;
  const tile = new Tile(instance, pass, args);
  const columns = exports.linearTileColumns(args.width);
  const weight = new GradientCopy(pass, args.gradWeight, columns, args.width);
  const bias = new GradientCopy(pass, entries(args.gradBias), columns, 1);
  yield* overTiles(instance, args, function* (begin, count) {
    yield* tile.copyIn(begin, count);
    yield* weight.copyIn(begin, count);
    yield* bias.copyIn(begin, count);
    const list = [begin, count, ...tile.inList(), ...weight.inList(), ...bias.inList()];
    exports.linearBackwardOpen(steps, pass.list(list));
    while (exports.linearBackwardStep(steps) !== 0) yield PAUSE;
    yield* weight.copyOut(begin, count);
    yield* bias.copyOut(begin, count);
  });
}

/** What belongs to some columns of the logits: rows of the weight, entries of the bias. */
class Tile {
  #pass: Pass;
  #args: Linear;
  #weight: Matrix;
  #bias: Matrix;

  constructor(instance: WasmInstance, pass: Pass, args: Linear) {
    const columns = Math.min(instance.exports.linearTileColumns(args.width), args.vocab);
    this.#pass = pass;
    this.#args = args;
    this.#weight = pass.room(args.weight, columns, args.width);
    this.#bias = pass.room(args.bias, columns, 1);
  }

  *copyIn(begin: number, count: number): Sliced<void> {
    yield* this.#pass.copyIn(this.#weight, this.#args.weight, begin, count);
    yield* this.#pass.copyIn(this.#bias, entries(this.#args.bias), begin, count);
  }

  inList(): number[] {
    return [...inList(this.#weight), ...inList(this.#bias)];
  }
}

/** Rows of a gradient: what is there is read if it is added to. */
class GradientCopy {
  #pass: Pass;
  #gradient: GradientArgument | undefined;
  #there: Matrix;

  constructor(pass: Pass, gradient: GradientArgument | undefined, rows: number, width: number) {
    this.#pass = pass;
    this.#gradient = gradient;
    this.#there = pass.room(gradient, rows, width);
  }

  *copyIn(first: number, rows: number): Sliced<void> {
    if (this.#gradient?.accumulate) yield* this.#pass.copyIn(this.#there, this.#gradient, first, rows);
  }

  *copyOut(first: number, rows: number): Sliced<void> {
    yield* this.#pass.copyOut(this.#there, this.#gradient, first, rows);
  }

  inList(): number[] {
    return [...inList(this.#there), this.#gradient?.accumulate ? 1 : 0];
  }
}
