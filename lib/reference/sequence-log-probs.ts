// Defines sequence-log-probs (spec section 3). See native/ops/sequence_log_probs.h.
import type { SequenceLogProbsBackwardArguments, SequenceLogProbsForwardArguments } from '../kernels.js';
import { PAUSE, type Sliced } from '../slices.js';
import { countUnmasked, isUnmasked } from './sequences.js';

/** The mean over `count` tokens. Where their sum is beyond the range of a double, the sum of their shares is not. */
function mean({ logProbs, mask, cuSeqlens }: SequenceLogProbsForwardArguments, i: number, count: number): number {
  let sum = 0;
  for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) if (isUnmasked(mask, t)) sum += logProbs[t];
  if (Number.isFinite(sum)) return sum / count;
  let shares = 0;
  for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) if (isUnmasked(mask, t)) shares += logProbs[t] / count;
  return shares;
}

export function* sequenceLogProbsForward(args: SequenceLogProbsForwardArguments): Sliced<void> {
  const { mask, cuSeqlens, scores, tokenCounts } = args;
  for (let i = 0; i < args.sequences; i++) {
    yield PAUSE;
    tokenCounts[i] = countUnmasked(mask, cuSeqlens[i], cuSeqlens[i + 1]);
    scores[i] = mean(args, i, Math.max(tokenCounts[i], 1));
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
