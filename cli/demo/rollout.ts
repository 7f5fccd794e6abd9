import type { Random } from '../../bench/problems/random.js';
import { offsetsOf } from '../../bench/problems/rollouts.js';
import { endToken, maxTokens, type Question, verify, vocabularySize } from './additions.js';
import { Contexts } from './contexts.js';
import type { Policy } from './policy.js';

/** Rollouts of several questions, packed as the kernels take them: one group per question. */
export interface RolloutBatch {
  readonly questions: readonly Question[]; // [G]
  readonly targets: Int32Array; // [T]
  /** The context of every token, an index into `features`. */
  readonly contexts: Int32Array; // [T]
  readonly features: Int32Array; // [U, featuresPerContext]
  readonly oldLogProbs: Float64Array; // [T] of the policy that sampled them
  readonly cuSeqlens: Int32Array; // [N + 1]
  readonly cuGroups: Int32Array; // [G + 1]
  readonly rewards: Float32Array; // [N]
}

interface Answer {
  readonly question: Question;
  readonly tokens: number[];
  readonly logProbs: number[];
}

/** `groupSize` sampled answers to each question, verified. */
export function sampleRollouts(
  policy: Policy,
  questions: readonly Question[],
  groupSize: number,
  random: Random,
): RolloutBatch {
  const asked = questions.flatMap((question) => new Array<Question>(groupSize).fill(question));
  const answers = answerAll(policy, asked, (logProbs) => sampleToken(logProbs, random.uniform()));
  return pack(questions, answers, groupSize);
}

/** The share of `questions` whose greedy answer is exact. */
export function greedyAccuracy(policy: Policy, questions: readonly Question[]): number {
  const answers = answerAll(policy, questions, mostLikelyToken);
  const correct = answers.filter(({ question, tokens }) => verify(question, tokens) === 1);
  return correct.length / questions.length;
}

/** How likely a sampled answer is exact, as a mean over `questions`: each has one right answer, whose tokens' probabilities say it. */
export function sampledAccuracy(policy: Policy, questions: readonly Question[]): number {
  const right = questions.map((question): Answer => ({ question, tokens: [...question.answer], logProbs: [] }));
  const batch = pack(questions, right, 1);
  const logProbs = targetLogProbs(policy.forward(batch.features).logits, batch);
  let sum = 0;
  for (let i = 0; i < questions.length; i++) {
    const own = logProbs.subarray(batch.cuSeqlens[i], batch.cuSeqlens[i + 1]);
    sum += Math.exp(own.reduce((total, logProb) => total + logProb, 0));
  }
  return sum / questions.length;
}

/** Log-probs, [T], of `rollouts.targets`, given the logits of the distinct contexts, [U, V]. */
export function targetLogProbs(logits: Float64Array, { targets, contexts }: RolloutBatch): Float64Array {
  const logProbs = logSoftmax(logits);
  return Float64Array.from(targets, (target, t) => logProbs[contexts[t] * vocabularySize + target]);
}

/** Writes one answer per question, all of them position by position, until each has its end token or is too long. */
function answerAll(
  policy: Policy,
  questions: readonly Question[],
  choose: (logProbs: Float64Array) => number,
): Answer[] {
  const answers = questions.map((question): Answer => ({ question, tokens: [], logProbs: [] }));
  let open = answers;
  for (let position = 0; position < maxTokens && open.length > 0; position++) {
    const contexts = new Contexts();
    const indices = open.map(({ question, tokens }) => contexts.add(question, position, tokens.at(-1)));
    const logProbs = logSoftmax(policy.forward(contexts.features()).logits);
    open.forEach((answer, i) => {
      const row = logProbs.subarray(indices[i] * vocabularySize, (indices[i] + 1) * vocabularySize);
      const token = choose(row);
      answer.tokens.push(token);
      answer.logProbs.push(row[token]);
    });
    open = open.filter(({ tokens }) => tokens.at(-1) !== endToken);
  }
  return answers;
}

/** Row by row, in float64. */
function logSoftmax(logits: Float64Array): Float64Array {
  const logProbs = new Float64Array(logits.length);
  for (let start = 0; start < logits.length; start += vocabularySize) {
    const row = logits.subarray(start, start + vocabularySize);
    const max = row.reduce((largest, logit) => Math.max(largest, logit));
    const sum = row.reduce((total, logit) => total + Math.exp(logit - max), 0);
    for (let v = 0; v < vocabularySize; v++) logProbs[start + v] = row[v] - max - Math.log(sum);
  }
  return logProbs;
}

function mostLikelyToken(logProbs: Float64Array): number {
  let best = 0;
  for (let token = 1; token < vocabularySize; token++) if (logProbs[token] > logProbs[best]) best = token;
  return best;
}

/** Inverts the cumulative distribution at `quantile` in [0, 1). */
function sampleToken(logProbs: Float64Array, quantile: number): number {
  let token = 0;
  for (let cumulative = Math.exp(logProbs[0]); quantile >= cumulative && token < vocabularySize - 1; ) {
    token++;
    cumulative += Math.exp(logProbs[token]);
  }
  return token;
}

function pack(questions: readonly Question[], answers: readonly Answer[], groupSize: number): RolloutBatch {
  const contexts = new Contexts();
  const contextOfToken = answers.flatMap(({ question, tokens }) =>
    tokens.map((_, position) => contexts.add(question, position, tokens[position - 1])),
  );
  return {
    questions,
    targets: Int32Array.from(answers.flatMap(({ tokens }) => tokens)),
    contexts: Int32Array.from(contextOfToken),
    features: contexts.features(),
    oldLogProbs: Float64Array.from(answers.flatMap(({ logProbs }) => logProbs)),
    cuSeqlens: offsetsOf(answers.map(({ tokens }) => tokens.length)),
    cuGroups: Int32Array.from({ length: questions.length + 1 }, (_, g) => g * groupSize),
    rewards: Float32Array.from(answers, ({ question, tokens }) => verify(question, tokens)),
  };
}
