// A small batch as a trainer has it, and the loss of its logits computed without any framework.
import { Random } from '../../bench/problems/random.js';
import { fromRollouts, lossesSync, padded } from '../../lib/index.js';
import type { LossName } from '../../lib/losses/list.js';

export const VOCAB = 7;

/** Two prompts with two answers each, [B, L] = [4, 5]; the sampler's log-probs are those of `logits` with some noise. */
export function rolloutsOf(seed: number) {
  const random = new Random(seed);
  const id = () => Math.floor(random.uniform() * VOCAB);
  const answer = (length: number) => Array.from({ length }, id);
  const answers = [
    [answer(3), answer(1)],
    [answer(2), answer(3)],
  ];
  const logProbs = answers.map((some) => some.map((ids) => ids.map(() => -1.5 - random.uniform())));
  return fromRollouts({
    promptIds: [[1, 2], [3]],
    answers,
    logProbs,
    rewards: [
      [1, 0],
      [0, 1],
    ],
  });
}

export type Rollouts = ReturnType<typeof rolloutsOf>;

/** Logits [B * L, V] for those. */
export function logitsOf(seed: number, { shape: [rows, length] }: Rollouts): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: rows * length * VOCAB }, () => 4 * random.uniform() - 2);
}

/** The loss of a padded batch without any framework. */
export function plain(name: LossName, rollouts: Rollouts, logits: Float32Array, options: object = {}) {
  return lossesSync[name](padded({ ...rollouts, logits: logits.slice(), vocab: VOCAB }), options);
}
