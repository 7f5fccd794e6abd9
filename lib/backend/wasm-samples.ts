// Tokens drawn at random in WebAssembly, on blocks of rows. A row's number, which its draw follows from, does not depend on the block.
import type { HostLogits, SampleTokensArguments, SampleTokensKeptArguments } from '../kernels.js';
import type { Sliced } from '../slices.js';
import { WasmCall } from './wasm-call.js';
import { overRows, type Place } from './wasm-rows.js';
import { fromZero, part, rowsOf } from './wasm-tokens.js';

type Samples = SampleTokensArguments | SampleTokensKeptArguments;

function addRows(call: WasmCall, args: Samples, begin: number, end: number): void {
  const stride = call.rows(rowsOf(args.logits as HostLogits, args.rowStride, args, begin, end), 'reads');
  call
    .number(args.dtype)
    .number(end - begin)
    .number(args.vocab)
    .number(stride);
}

export function* sampleTokens(place: Place, args: SampleTokensArguments): Sliced<void> {
  yield* overRows(place, args, (memory, begin, end) => {
    const call = new WasmCall(memory);
    addRows(call, args, begin, end);
    call.number(args.temperature).number(args.topK).number(args.topP).number(args.minDistance);
    call.number(args.seed).number(args.offset + begin);
    call.writes(part(args.ids, begin, end)).writes(part(args.logProbs, begin, end));
    call.writes(part(args.cutLogits, begin, end)).writes(part(args.cutIds, begin, end));
    call.writes(part(args.keptCounts, begin, end));
    return { call, kernel: 'sampleTokens' };
  });
}

export function* sampleTokensKept(place: Place, args: SampleTokensKeptArguments): Sliced<void> {
  const { cuKept } = args;
  yield* overRows(place, args, (memory, begin, end) => {
    const call = new WasmCall(memory);
    addRows(call, args, begin, end);
    call.reads(part(args.cutLogits, begin, end)).reads(part(args.cutIds, begin, end));
    call.reads(fromZero(cuKept, begin, end)).writes(part(args.keptIds, cuKept[begin], cuKept[end]));
    return { call, kernel: 'sampleTokensKept' };
  });
}
