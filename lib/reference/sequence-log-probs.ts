// Defines sequence-log-probs (spec section 3). See native/ops/sequence_log_probs.h.
import type { SequenceLogProbsBackwardArguments, SequenceLogProbsForwardArguments } from '../kernels.js';
import { PAUSE, type Sliced } from '../slices.js';
import { countUnmasked, isUnmasked } from './sequences.js';

export function* sequenceLogProbsForward(args: SequenceLogProbsForwardArguments): Sliced<void> {
  const { logProbs, mask, cuSeqlens, scores, tokenCounts } = args;
  for (let i = 0; i < args.sequences; i++) {
    yield PAUSE;
    let sum = 0;
    for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) {
      if (isUnmasked(mask, t)) sum += logProbs[t];
    }
    tokenCounts[i] = countUnmasked(mask, cuSeqlens[i], cuSeqlens[i + 1]);
    scores[i] = sum / Math.max(tokenCounts[i], 1);
  }
}

export function* sequenceLogProbsBackward(args: SequenceLogProbsBackwardArguments): Sliced<void> {
  const { gradScores, tokenCounts, mask, cuSeqlens, gradLogProbs } = args;
  for (let i = 0; i < args.sequences; i++) {
    yield PAUSE;
    const share = gradScores[i] / Math.max(tokenCounts[i], 1);
    for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) gradLogProbs[t] = isUnmasked(mask, t) ? share : 0;
  }
}
