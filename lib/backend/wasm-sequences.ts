// Kernels of the sequence and group levels in WebAssembly. Those that go over tokens take blocks of whole sequences.
import type {
  AdvantageObjectiveArguments,
  GroupInfoNceArguments,
  RatioScoresBackwardArguments,
  RatioScoresForwardArguments,
  SequenceLogProbsBackwardArguments,
  SequenceLogProbsForwardArguments,
} from '../kernels.js';
import { PAUSE, type Sliced } from '../slices.js';
import { WasmCall } from './wasm-call.js';
import type { WasmInstance } from './wasm-module.js';
import { addScoreRules, part, type Span } from './wasm-tokens.js';

const BLOCK = 2 ** 16; // tokens and sequences, if a sequence is not longer

interface Packed {
  cuSeqlens: Int32Array; // [N + 1]
  sequences: number; // N
}

/** Calls `work` for one block after the other, with its offsets from 0. */
function* blocksOfSequences(
  { cuSeqlens, sequences }: Packed,
  work: (span: Span, offsets: Int32Array, count: number) => void,
): Sliced<void> {
  for (let first = 0; first < sequences; ) {
    if (first > 0) yield PAUSE;
    const begin = cuSeqlens[first];
    let last = first + 1;
    while (last < sequences && cuSeqlens[last + 1] - begin + last - first < BLOCK) last++;
    const offsets = cuSeqlens.slice(first, last + 1);
    for (let k = 0; begin > 0 && k < offsets.length; k++) offsets[k] -= begin;
    work({ begin, end: cuSeqlens[last], first, last }, offsets, last - first);
    first = last;
  }
}

export function* sequenceLogProbsForward(instance: WasmInstance, args: SequenceLogProbsForwardArguments): Sliced<void> {
  yield* blocksOfSequences(args, ({ begin, end, first, last }, offsets, count) => {
    new WasmCall(instance)
      .reads(part(args.logProbs, begin, end))
      .reads(part(args.mask, begin, end))
      .reads(offsets)
      .number(count)
      .writes(part(args.scores, first, last))
      .writes(part(args.tokenCounts, first, last))
      .run(instance, 'sequenceLogProbsForward');
  });
}

export function* sequenceLogProbsBackward(
  instance: WasmInstance,
  args: SequenceLogProbsBackwardArguments,
): Sliced<void> {
  yield* blocksOfSequences(args, ({ begin, end, first, last }, offsets, count) => {
    new WasmCall(instance)
      .reads(part(args.gradScores, first, last))
      .reads(part(args.tokenCounts, first, last))
      .reads(part(args.mask, begin, end))
      .reads(offsets)
      .number(count)
      .writes(part(args.gradLogProbs, begin, end))
      .run(instance, 'sequenceLogProbsBackward');
  });
}

export function* ratioScoresForward(instance: WasmInstance, args: RatioScoresForwardArguments): Sliced<void> {
  yield* blocksOfSequences(args, (span, offsets, count) => {
    const { begin, end, first, last } = span;
    const call = new WasmCall(instance);
    addScoreRules(call, args, span);
    call
      .reads(part(args.logProbs, begin, end))
      .reads(part(args.mask, begin, end))
      .reads(offsets)
      .number(count);
    call.writes(part(args.scores, first, last)).writes(part(args.tokenCounts, first, last));
    call.writes(part(args.scoreGrads, begin, end));
    call.writes(part(args.clippedLow, first, last)).writes(part(args.clippedHigh, first, last));
    call.writes(part(args.ratioStats, 4 * first, 4 * last));
    call.run(instance, 'ratioScoresForward');
  });
}

export function* ratioScoresBackward(instance: WasmInstance, args: RatioScoresBackwardArguments): Sliced<void> {
  yield* blocksOfSequences(args, ({ begin, end, first, last }, offsets, count) => {
    const call = new WasmCall(instance);
    call.reads(part(args.gradScores, first, last)).reads(part(args.scoreGrads, begin, end));
    call.reads(offsets).number(count).boolean(args.accumulate);
    const gradient = part(args.gradLogProbs, begin, end);
    if (args.accumulate) call.changes(gradient);
    else call.writes(gradient);
    call.run(instance, 'ratioScoresBackward');
  });
}

// biome-ignore lint/correctness/useYield: of the kind of the others, and over at once
export function* groupInfoNCE(instance: WasmInstance, args: GroupInfoNceArguments): Sliced<void> {
  new WasmCall(instance)
    .reads(args.scores)
    .reads(args.rewards)
    .reads(args.tokenCounts)
    .reads(args.cuGroups)
    .reads(args.groupOrder)
    .number(args.groups)
    .number(args.tau)
    .number(args.margin)
    .number(args.positiveThreshold)
    .number(args.normalizer)
    .writes(args.groupLosses)
    .writes(args.gradScores)
    .writes(args.loss)
    .run(instance, 'groupInfoNCE');
}

// biome-ignore lint/correctness/useYield: likewise
export function* advantageObjective(instance: WasmInstance, args: AdvantageObjectiveArguments): Sliced<void> {
  new WasmCall(instance)
    .reads(args.scores)
    .reads(args.advantages)
    .reads(args.tokenCounts)
    .number(args.sequences)
    .boolean(args.perToken)
    .number(args.scale)
    .number(args.normalizer)
    .writes(args.gradScores)
    .writes(args.loss)
    .run(instance, 'advantageObjective');
}
