// What the compiler knows of arrays that a kernel has still to write: `npm run typecheck` compiles this file; nothing runs it.
import type { HostLogits } from '../../lib/kernels.js';
import type { ScoreChannel } from '../../lib/levels/scores.js';
import type { TokenLevel } from '../../lib/levels/token-level.js';
import { kernel, type Pending, pending, read, readAll, type Task } from '../../lib/run/task.js';

declare const channel: ScoreChannel;
declare const level: TokenLevel;
declare const cuSeqlens: Int32Array;

/** A task that forgets to read does not compile. */
export function* forgets(): Task<number> {
  // @ts-expect-error it has no elements yet
  const first: number = channel.scores[0];
  // @ts-expect-error nor is it an array that one could work on
  channel.scores.map((score) => score);
  // @ts-expect-error nor one for a function of arrays
  Math.max(...channel.scores);
  // @ts-expect-error given log-probs are there, those of a kernel are not: the type is of both
  const logProb: number = level.logProbs[0];
  return first + logProb;
}

/** A task that hands back what is pending does not compile. */
export function* returns(): Task<Float64Array> {
  yield* read();
  // @ts-expect-error the result is to be a Float64Array
  return channel.scores;
}

/** What has been read is an array; other kernels take what is pending. */
export function* reads(): Task<number> {
  const scores = new Float64Array(2);
  const tokenCounts = new Float64Array(2);
  yield kernel('sequenceLogProbsForward', {
    logProbs: level.logProbs,
    cuSeqlens,
    mask: level.mask,
    sequences: 2,
    scores,
    tokenCounts,
  });
  const result = pending({ scores, tokenCounts });
  // @ts-expect-error from here on it is pending
  const early: number = result.scores[0];
  const [counts] = yield* read(result.tokenCounts);
  const opened = yield* readAll({ losses: [result.scores], grads: channel.scoreGrads });
  return early + counts[0] + opened.losses[0][0] + (opened.grads?.[0] ?? 0);
}

/** A kernel takes arrays of its own types only. */
export function* mistakes(wrong: Pending<Int32Array>, logits: HostLogits): Task<void> {
  const args = {
    cuSeqlens,
    mask: undefined,
    sequences: 1,
    scores: new Float64Array(1),
    tokenCounts: new Float64Array(1),
  };
  // @ts-expect-error log-probs are float64
  yield kernel('sequenceLogProbsForward', { ...args, logProbs: wrong });
  // @ts-expect-error nor are they logits
  yield kernel('sequenceLogProbsForward', { ...args, logProbs: logits });
}
