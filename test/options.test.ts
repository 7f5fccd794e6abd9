// Names that nobody knows: refused, with what was probably meant, where they would change nothing unnoticed.
import { describe, expect, test } from 'vitest';
import * as api from '../lib/index.js';
import { LOSS_NAMES, type LossName } from '../lib/losses/list.js';

type Call = (batch: unknown, options?: unknown) => Promise<unknown>;
type CallSync = (batch: unknown, options?: unknown) => { loss: number };

const functions = api as unknown as Record<string, Call> & Record<`${string}Sync`, CallSync>;

const batch = () => ({
  logProbs: Float64Array.of(-0.1, -0.5, -0.9),
  cuSeqlens: Int32Array.of(0, 1, 3),
  cuGroups: Int32Array.of(0, 2),
  rewards: Float32Array.of(1, 0),
});

/** What a loss cannot do without. */
const NEEDED: Partial<Record<LossName, object>> = { drGrpo: { maxLength: 4 } };
const neededBy = (loss: string) => NEEDED[loss as LossName];

async function expectRefused(loss: string, options: object, message: string | RegExp): Promise<void> {
  const given = { ...neededBy(loss), ...options };
  const thrown: unknown = await functions[loss](batch(), given).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(api.RlvrError);
  expect((thrown as api.RlvrError).code).toBe('ERR_OPTION');
  expect((thrown as api.RlvrError).message).toMatch(message);
  expect(() => functions[`${loss}Sync`](batch(), given)).toThrow((thrown as Error).message.split(';')[0]);
}

describe.each(LOSS_NAMES)('options of %s', (loss) => {
  test('an unknown one', () => expectRefused(loss, { nonsense: 1 }, `nonsense: no such option of ${loss}; it has `));

  test('one misspelt', async () => {
    await expectRefused(loss, { temprature: 1 }, `temprature: no such option of ${loss}; did you mean temperature?`);
    await expectRefused(loss, { on_non_finite: 'skip' }, 'did you mean onNonFinite?');
  });

  test('one within another', () =>
    expectRefused(
      loss,
      { gradient: { out: new Float64Array(3), into: 1 } },
      `gradient.into: no such option of ${loss};`,
    ));

  test('that are undefined count as left out', async () => {
    const options = { ...neededBy(loss), nonsense: undefined };
    const { loss: value } = functions[`${loss}Sync`](batch(), options);
    expect(value).toBe(functions[`${loss}Sync`](batch(), neededBy(loss)).loss);
  });
});

test('undefined within an option counts as left out', () => {
  const logProbs = Float64Array.of(-0.2, -0.4, -0.8);
  const off = { ...batch(), oldLogProbs: logProbs, rolloutLogProbs: logProbs };
  const plain = functions.grpoSync(off, { klCov: {}, advantage: {}, rolloutCorrection: {} });
  const given = functions.grpoSync(
    { ...off, mask: undefined, refLogProbs: undefined, advantages: undefined },
    {
      klCov: { ratio: undefined, coef: undefined },
      advantage: { estimator: undefined, ddof: undefined, eps: undefined, scale: undefined, weights: undefined },
      rolloutCorrection: {
        level: undefined,
        max: undefined,
        reject: undefined,
        sequenceMask: undefined,
        missing: undefined,
      },
      distillation: undefined,
      gradient: undefined,
      expectOnPolicy: undefined,
    },
  );
  expect(given).toEqual(plain);
  const klConstraint = { beta: undefined, delta: undefined };
  expect(functions.discoSync(batch(), { klConstraint })).toEqual(functions.discoSync(batch(), { klConstraint: true }));
});

test('a signal, which a blocking call cannot hear', async () => {
  const { signal } = new AbortController();
  await expect(functions.grpo(batch(), { signal })).resolves.toBeDefined();
  expect(() => functions.grpoSync(batch(), { signal })).toThrow('signal: no such option of grpo; it has ');
});

test.each([
  ['grpo', { epsilon: 0.1 }, 'epsilon: no such option of grpo; did you mean epsilonLow and epsilonHigh?'],
  ['grpo', { beta: 0.04 }, 'beta: no such option of grpo; did you mean klCoef?'],
  ['grpo', { epsilon_high: 0.28 }, 'epsilon_high: no such option of grpo; did you mean epsilonHigh?'],
  ['grpo', { clip_ratio_c: 3 }, 'clip_ratio_c: no such option of grpo; did you mean dualClip?'],
  ['grpo', { kl_loss_coef: 0.1 }, 'did you mean klCoef?'],
  ['grpo', { loss_agg_mode: 'token-mean' }, 'did you mean aggregation?'],
  ['grpo', { max_completion_length: 8 }, 'did you mean maxLength?'],
  ['grpo', { scale_rewards: false }, 'did you mean advantage.scale?'],
  ['grpo', { reward_weights: [1] }, 'did you mean advantage.weights?'],
  ['grpo', { off_policy_mask_threshold: 0.1 }, 'did you mean offPolicyMask.delta?'],
  ['grpo', { top_entropy_quantile: 0.2 }, 'did you mean entropyQuantile?'],
  ['grpo', { clip_cov_ub: 5 }, 'did you mean clipCov.high?'],
  ['grpo', { ppo_kl_coef: 0.1 }, 'did you mean klCov.coef?'],
  ['grpo', { rollout_is_batch_normalize: true }, 'did you mean rolloutCorrection.normalize?'],
  ['grpo', { rollout_rs_threshold: 2 }, 'did you mean rolloutCorrection.reject.max?'],
  ['grpo', { eps: 1e-6 }, 'did you mean advantage.eps?'],
  ['grpo', { agregation: 'token-mean' }, 'did you mean aggregation?'],
  ['grpo', { tau: 0.1 }, 'tau: no such option of grpo; it has '],
  [
    'grpo',
    { advantage: { estimatr: 'rloo' } },
    'advantage.estimatr: no such option of grpo; did you mean advantage.estimator?',
  ],
  ['grpo', { rolloutCorrection: { cap: 2 } }, 'rolloutCorrection.cap: no such option of grpo;'],
  ['cispo', { epsilon_high: 5 }, 'epsilon_high: no such option of cispo; did you mean ratioMax?'],
  ['sapo', { sapo_temperature_pos: 1 }, 'did you mean tauPos?'],
  ['conspo', { klCoef: 0.1 }, 'klCoef: no such option of conspo; it has '],
  ['disco', { klConstraint: { betta: 1 } }, 'did you mean klConstraint.beta?'],
])('%s with %j', (loss, options, message) => expectRefused(loss, options, message));

describe('a loss of your own', () => {
  const evaluate = ({ scores }: api.ScoredBatch) => ({ loss: 0, gradScores: new Float64Array(scores.length) });
  const objective = api.scoreObjective<{ beta: number }>(evaluate);
  const run = (recipe: object, options: object) =>
    (api.defineLoss(recipe as never) as { runSync: CallSync }).runSync(batch(), options);

  test('on an objective of this package has its parameters alone', () => {
    const recipe = { score: 'logLikelihood', objective: api.infoNCE };
    expect(() => run(recipe, { tau: 1, margin: 0.1 })).not.toThrow();
    expect(() => run(recipe, { tua: 1 })).toThrow('tua: no such option of this loss; did you mean tau?');
    expect(() => run(recipe, { beta: 1 })).toThrow('beta: no such option of this loss;');
  });

  test('may have parameters that only its author knows', () => {
    expect(() => run({ score: 'logLikelihood', objective }, { beta: 1 })).not.toThrow();
    expect(() => run({ score: 'logLikelihood', objective }, { temprature: 1 })).toThrow('did you mean temperature?');
  });

  test('may say which they are', () => {
    const recipe = { score: 'logLikelihood', objective, parameters: ['beta'] };
    expect(() => run(recipe, { beta: 1 })).not.toThrow();
    expect(() => run(recipe, { betta: 1 })).toThrow('betta: no such option of this loss; did you mean beta?');
    expect(() => run(recipe, { other: 1 })).toThrow('other: no such option of this loss;');
    expect(() => run({ ...recipe, parameters: 'beta' }, {})).toThrow(
      'parameters: expected an array of names, got "beta"',
    );
  });
});

test('an op refuses what looks misspelt, and leaves alone the options of others', () => {
  const { logProbs, cuSeqlens } = batch();
  const call = (options: object) => functions.ratioScoresSync({ logProbs, cuSeqlens }, options);
  expect(() => call({ aggregation: 'token-mean' })).not.toThrow();
  expect(() => call({ scores: { kind: 'ratio' } })).toThrow(
    'scores: no such option of ratioScores; did you mean score?',
  );
  const score = { kind: 'clippedRatio', epsilon_low: 0.1 };
  expect(() => call({ score })).toThrow(
    'score.epsilon_low: no such option of ratioScores; did you mean score.epsilonLow?',
  );
  expect(() => functions.cosineMargin({ taget: 0.1 })).toThrow(
    'taget: no such option of cosineMargin; did you mean target?',
  );
  expect(() => functions.advantages(batch(), { ddoff: 0 })).toThrow('did you mean ddof?');
});

describe('fields of a batch', () => {
  test.each([
    ['old_log_probs', 'oldLogProbs'],
    ['oldLogprobs', 'oldLogProbs'],
    ['old_log_prob', 'oldLogProbs'],
    ['old_per_token_logps', 'oldLogProbs'],
    ['ref_per_token_logps', 'refLogProbs'],
    ['sampling_per_token_logps', 'rolloutLogProbs'],
    ['completion_mask', 'mask'],
    ['response_mask', 'mask'],
    ['maks', 'mask'],
    ['advantage', 'advantages'],
    ['group_order', 'groupOrder'],
  ])('%s resembles %s', async (field, meant) => {
    const message = `${field}: no such field of a batch; did you mean ${meant}?`;
    for (const loss of LOSS_NAMES) {
      const given = { ...batch(), [field]: new Float64Array(3) };
      const expected = expect.objectContaining({ code: 'ERR_OPTION', message });
      await expect(functions[loss](given, neededBy(loss))).rejects.toEqual(expected);
      expect(() => functions[`${loss}Sync`](given, neededBy(loss))).toThrow(message);
    }
    expect(() => api.forwardSync({ ...batch(), [field]: new Float64Array(3) }, 'logLikelihood')).toThrow(message);
  });

  test('of the trainer alone are left alone', () => {
    const own = {
      prompts: ['a'],
      completions: ['b', 'c'],
      task: ['sum'],
      step: 3,
      uid: [1, 2],
      reward_model: {},
      ids: [1],
    };
    const scalars = { reward: 0.5, masks: true, target: 'forty-two' }; // data of ours are arrays
    const { loss } = functions.grpoSync({ ...batch(), ...own, ...scalars });
    expect(loss).toBe(functions.grpoSync(batch()).loss);
  });

  test('beside the one that they resemble are left alone', () => {
    const oldLogProbs = Float64Array.of(-0.2, -0.5, -0.8);
    const given = { ...batch(), oldLogProbs };
    const { loss } = functions.grpoSync({ ...given, old_log_probs: oldLogProbs });
    expect(loss).toBe(functions.grpoSync(given).loss);
  });
});
