// Options and batches are read once, by name: own properties, inherited ones and getters alike, by losses as by ops.
import { describe, expect, test } from 'vitest';
import * as api from '../lib/index.js';
import { LOSS_NAMES, LOSSES, type LossName } from '../lib/losses/list.js';
import { fullBatch } from './support/named-losses.js';

type Call = (batch: unknown, options?: unknown) => unknown;

const NEEDED: Partial<Record<LossName, object>> = { drGrpo: { maxLength: 4 } };

/** The same properties as getters of a class, with how often each was asked for. */
function behindGetters(properties: object) {
  const reads: Record<string, number> = {};
  class Getters {}
  for (const [name, value] of Object.entries(properties)) {
    const get = () => {
      reads[name] = (reads[name] ?? 0) + 1;
      return reads[name] > 1 ? `${name}, read again` : value;
    };
    Object.defineProperty(Getters.prototype, name, { get });
  }
  return { object: new Getters(), reads };
}

const batch = () => ({ ...fullBatch(17), advantages: undefined });

/** Options that change something, each other than the default. */
const OPTIONS: Partial<Record<LossName, object>> = {
  conspo: { tau: 0.5, margin: 0.2 },
  vespo: { kPos: 1, klCoef: 0.1, advantage: { estimator: 'rloo' }, normalizer: 3 },
  real: { tau: 0.3, normalizer: 3 },
  disco: { tau: 0.5, klConstraint: { beta: 10, delta: 0 } },
};
const further = {
  klCoef: 0.1,
  advantage: { estimator: 'rloo' },
  rolloutCorrection: { level: 'sequence', max: 1.1 },
  normalizer: 3,
};
const optionsOf = (name: LossName) => ({
  ...NEEDED[name],
  ...(OPTIONS[name] ?? further),
  temperature: 2,
  entropy: true,
});

describe.each(LOSS_NAMES)('%s', (name) => {
  const options = optionsOf(name);
  const { run, runSync } = LOSSES[name] as unknown as { run: Call; runSync: Call };
  const expected = runSync(batch(), options);

  test('takes options that are inherited, or getters of a class', async () => {
    expect(runSync(batch(), NEEDED[name])).not.toEqual(expected);
    expect(runSync(batch(), Object.create(options))).toEqual(expected);
    const { object, reads } = behindGetters(options);
    expect(runSync(batch(), object)).toEqual(expected);
    expect(reads).toEqual(Object.fromEntries(Object.keys(options).map((key) => [key, 1])));
    const { signal } = new AbortController();
    const other = behindGetters({ ...options, signal, backend: 'reference', gradient: 'none' });
    await run(batch(), other.object);
    expect(new Set(Object.values(other.reads))).toEqual(new Set([1]));
  });

  test('takes a batch that is inherited, or of getters', async () => {
    const { advantages: _none, ...fields } = batch();
    expect(runSync(Object.create(fields), options)).toEqual(expected);
    const { object, reads } = behindGetters(fields);
    expect(runSync(object, options)).toEqual(expected);
    expect(new Set(Object.values(reads))).toEqual(new Set([1]));
    expect(await run(behindGetters(fields).object, options)).toEqual(expected);
  });

  test('takes nested options and tensors of getters', () => {
    const nested = Object.fromEntries(
      Object.entries(options).map(([key, value]) => [
        key,
        typeof value === 'object' ? behindGetters(value).object : value,
      ]),
    );
    const { logits, ...fields } = batch();
    const vocab = logits.length / fields.targets.length;
    const tensor = { data: logits, shape: [fields.targets.length, vocab], dtype: 'f32' };
    const { gradLogits, ...value } = runSync({ ...fields, logits: behindGetters(tensor).object }, nested) as {
      gradLogits: api.HostTensor;
    };
    expect(gradLogits.data).toEqual((expected as { gradLogits: Float32Array }).gradLogits);
    const { gradLogits: _flat, ...expectedValue } = expected as { gradLogits: Float32Array };
    expect(value).toEqual(expectedValue);
  });
});

describe('ops', () => {
  const { logits, targets, mask, cuSeqlens, cuGroups, rewards, oldLogProbs } = fullBatch(17);
  const { logProbs, logSumExp } = api.tokenLogProbsSync({ logits, targets, mask });
  const { scores, tokenCounts } = api.sequenceLogProbsSync({ logProbs, cuSeqlens, mask });
  const { scoreGrads } = api.ratioScoresSync({ logProbs, cuSeqlens, mask });
  const layer = {
    hidden: Float32Array.from(oldLogProbs),
    weight: new Float32Array(logits.length / targets.length).fill(0.5),
    bias: logits.slice(0, logits.length / targets.length),
  };
  const CALLS: [string, object, object][] = [
    ['tokenLogProbs', { logits, targets, mask }, { temperature: 2, entropy: true, onNonFinite: 'skip' }],
    ['tokenLogProbsBackward', { logits, targets, mask, logSumExp, gradLogProbs: logProbs }, { temperature: 2 }],
    ['linearLogProbs', { ...layer, targets, mask }, { temperature: 2, entropy: true, onNonFinite: 'skip' }],
    [
      'linearLogProbsBackward',
      { ...layer, targets, mask, logSumExp, gradLogProbs: logProbs },
      { temperature: 2, gradHidden: 'none', gradWeight: 'new', gradBias: 'new' },
    ],
    ['sequenceLogProbs', { logProbs, cuSeqlens, mask }, { backend: 'reference' }],
    ['sequenceLogProbsBackward', { gradScores: scores, tokenCounts, cuSeqlens, mask }, { gradient: 'new' }],
    ['ratioScores', { logProbs, oldLogProbs, cuSeqlens, mask }, { score: { kind: 'k3' } }],
    ['ratioScoresBackward', { gradScores: scores, scoreGrads, cuSeqlens }, { backend: 'reference' }],
    ['groupInfoNCE', { scores, rewards, cuGroups, tokenCounts }, { tau: 0.5, margin: 0.1 }],
    ['advantageObjective', { scores, advantages: rewards, tokenCounts }, { aggregation: 'token-mean' }],
  ];

  test.each(CALLS)('%s', async (name, inputs, options) => {
    const functions = api as unknown as Record<string, Call>;
    const sync = functions[`${name}Sync`];
    const expected = sync(inputs, options);
    const [fields, own] = [behindGetters(inputs), behindGetters(options)];
    expect(sync(fields.object, own.object)).toEqual(expected);
    expect(new Set([...Object.values(fields.reads), ...Object.values(own.reads)])).toEqual(new Set([1]));
    expect(await functions[name](behindGetters(inputs).object, behindGetters(options).object)).toEqual(expected);
  });

  test('advantages and cosineMargin', () => {
    const options = { estimator: 'grpo', ddof: 0, eps: 0 } as const;
    const expected = api.advantages({ rewards, cuGroups }, options);
    const of = behindGetters({ rewards, cuGroups }).object as api.AdvantagesInputs;
    expect(api.advantages(of, behindGetters(options).object)).toEqual(expected);
    expect(api.cosineMargin(behindGetters({ target: 0.2, warmup: 0.5 }).object)(0.25)).toBeCloseTo(0.1, 12);
  });

  test('forward and backward', async () => {
    const fields = { logits, targets, cuSeqlens, mask };
    const expected = api.forwardSync(fields, { kind: 'ratio' }, { temperature: 2 }).backward(scores);
    const of = behindGetters(fields).object as typeof fields;
    const score = behindGetters({ kind: 'ratio' }).object as api.RatioScore;
    const { backward } = await api.forward(of, score, behindGetters({ temperature: 2 }).object);
    expect(await backward(scores, behindGetters({ gradient: 'new' }).object)).toEqual(expected);
  });
});

test('an objective of your own sees the whole batch, and each of our fields once', () => {
  const seen: unknown[] = [];
  const objective: api.Objective<object, { weights: number[] }> = (score, given, checked, options) => {
    seen.push(given.weights, given.rewards);
    return api.advantageWeighted(score, given, checked, options);
  };
  const { advantages: _none, ...fields } = batch();
  const { object, reads } = behindGetters({ ...fields, weights: [1, 2] });
  api.defineLoss({ score: 'logLikelihood', objective }).runSync(object as never);
  expect(seen).toEqual([[1, 2], fields.rewards]);
  expect(reads.rewards).toBe(1);
});
