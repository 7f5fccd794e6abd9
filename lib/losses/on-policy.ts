// The check of a first step: that the log-probs are those of the policy that sampled.

import { badArgument, describe } from '../errors.js';
import type { ScoreChannel } from '../levels/scores.js';
import { readResults, type TokenLevel } from '../levels/token-level.js';
import type { CheckedBatch } from '../objectives/objective.js';
import { sumOverRanks, type Whole } from '../objectives/whole-batch.js';
import type { Task } from '../run/task.js';
import { ratioMetrics, ratioSums } from './metrics.js';

/**
 * How far the token means of r and of the log-ratio may be from 1 and 0. A trainer in bf16 and an inference engine, or the trainer
 * itself in other micro-batches, differ by 0.05 per token (standard deviation; huggingface/trl#6789), the means of a hundred tokens
 * thus by 0.005. A forgotten shift gives ratios around 0.5. Of tokens that were sampled from the old policy the mean ratio is near 1
 * whatever the current one is; the mean log-ratio is not.
 */
const TOLERANCE = 0.05;

/** The option, checked: whether to expect that. */
export function onPolicyExpected(option: unknown, { oldLogProbs }: CheckedBatch): boolean {
  if (option === undefined || option === false) return false;
  if (option !== true) throw badArgument('ERR_RANGE', 'expectOnPolicy', 'true or false', describe(option));
  if (oldLogProbs) return true;
  throw badArgument('ERR_DTYPE', 'oldLogProbs', 'Float32Array or Float64Array with expectOnPolicy', 'undefined');
}

/** Throws where the current policy is not the old one. */
export function* checkOnPolicy(level: TokenLevel, { ratioStats, tokenCounts }: ScoreChannel, whole: Whole): Task<void> {
  const { nonFinite } = level;
  const read = yield* readResults(level, { nonFinite, ratioStats, tokenCounts });
  if (!read.ratioStats) return;
  const own = yield* ratioSums(read.ratioStats);
  const counted = read.tokenCounts.reduce((sum, count) => sum + count, 0);
  const numbers = [counted, own.ratios, own.logRatios];
  const [tokens, ratios, logRatios] = yield* sumOverRanks(whole.ranks, numbers);
  if (tokens === 0) return;
  const { ratioMean, policyKl } = ratioMetrics({ ...own, ratios, logRatios }, tokens);
  if (Math.abs(ratioMean - 1) <= TOLERANCE && Math.abs(policyKl) <= TOLERANCE) return;
  const causes =
    'targets or log-probs that are not shifted, another temperature or other weights than those that sampled';
  throw badArgument(
    'ERR_RANGE',
    'oldLogProbs',
    `those of the current policy, as expectOnPolicy says, with a ratioMean of 1 and a policyKl of 0 up to ${TOLERANCE}`,
    `${ratioMean.toPrecision(3)} and ${policyKl.toPrecision(3)} (likely causes: ${causes})`,
  );
}
