import { endToken } from './additions.js';
import type { LastStep } from './trainer.js';

/** Six decimals: as much as an inference engine's log-probs are good for, in a third of the space. */
const rounded = (values: Float64Array) => Array.from(values, (value) => Math.round(value * 1e6) / 1e6);

/** The rollouts of a training step as JSON Lines, what `rlvr-kernels loss` reads. */
export function* rolloutLines({ rollouts, logProbs, refLogProbs }: LastStep): Generator<string> {
  const { questions, targets, oldLogProbs, cuSeqlens, cuGroups, rewards } = rollouts;
  for (const [g, question] of questions.entries()) {
    for (let i = cuGroups[g]; i < cuGroups[g + 1]; i++) {
      const [start, end] = [cuSeqlens[i], cuSeqlens[i + 1]];
      const line = {
        group: question.name,
        answer: Array.from(targets.subarray(start, end), tokenText).join(''),
        reward: rewards[i],
        logprobs: rounded(logProbs.subarray(start, end)),
        old_logprobs: rounded(oldLogProbs.subarray(start, end)),
        ref_logprobs: rounded(refLogProbs.subarray(start, end)),
      };
      yield `${JSON.stringify(line)}\n`;
    }
  }
}

/** Digits as they are, the end token as a full stop. */
function tokenText(token: number): string {
  return token === endToken ? '.' : String(token);
}
