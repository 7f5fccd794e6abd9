// The policy loss of each token, before any aggregation.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { advantageWeighted, defineLoss, grpo, grpoSync, gspoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import {
  type AnyOptions,
  byName,
  fromLogProbs,
  fullBatch,
  type NamedLoss,
  POLICY_LOSSES,
} from './support/named-losses.js';
import { tokenCountsOf, tokensOf } from './support/packed.js';

const reinforce = defineLoss({ score: 'logLikelihood', objective: advantageWeighted });
const unclipped = defineLoss({ score: { kind: 'ratio' }, objective: advantageWeighted });
const LOSSES: NamedLoss[] = [
  ...POLICY_LOSSES.filter(({ name }) => name !== 'dapo' && name !== 'bnpo'), // grpo with other options
  ...POLICY_LOSSES.filter(({ name }) => ['grpo', 'cispo', 'sapo'].includes(name)).map(
    (loss): NamedLoss => ({
      ...loss,
      name: `${loss.name}, sequence`,
      options: { ...loss.options, ratioLevel: 'sequence' } as AnyOptions,
    }),
  ),
  { name: 'reinforce', over: 'advantages', options: {}, run: reinforce.run, runSync: reinforce.runSync },
  { name: 'ratios', over: 'advantages', options: {}, run: unclipped.run, runSync: unclipped.runSync },
];

const EXTRAS = fc.record({
  rolloutCorrection: fc.constantFrom(undefined, { max: 1.2 }, { level: 'sequence', max: 1.5 } as const),
  offPolicyMask: fc.constantFrom(undefined, { delta: 0.05 }),
  distillation: fc.constantFrom(undefined, { coef: 0.5 }),
  perToken: fc.boolean(),
});

type Extras = typeof EXTRAS extends fc.Arbitrary<infer D> ? D : never;

/** As far as the loss has them. */
function drawn(
  seed: number,
  { name, options }: NamedLoss,
  { perToken, ...extras }: Extras,
  backend: AnyOptions['backend'],
) {
  const batch = fromLogProbs(fullBatch(seed, { vocab: 3, groups: 4 }));
  const random = new Random(seed);
  const advantages = batch.logProbs.map(() => random.normal());
  const sequences = { ...extras, distillation: undefined, rolloutCorrection: { level: 'sequence', max: 1.5 } };
  const own = { ...options, ...(name === 'gmpo' ? sequences : extras), backend } as AnyOptions;
  return {
    batch: { ...batch, teacherLogProbs: batch.refLogProbs, ...(perToken && name !== 'gmpo' && { advantages }) },
    options: { ...own, normalizer: 1, maxLength: 1 },
  };
}

describeBackends('perToken', (backend) => {
  describe.each(byName(LOSSES))('%s', (name, loss) => {
    test('sums up to the policy term', () => {
      fc.assert(
        fc.property(fc.integer(), EXTRAS, (seed, extras) => {
          const { batch, options } = drawn(seed, loss, extras, backend);
          const all = { ...options, klCoef: 0.3, perToken: true } as AnyOptions;
          const { tokenLosses = new Float64Array(), scores, ...result } = loss.runSync(batch, all);
          const plain = { ...options, aggregation: 'constant-length' } as AnyOptions;
          const sum = tokenLosses.reduce((total, value) => total + value, 0);
          expectCloseNumber(sum, loss.runSync(batch, plain).loss, 1e-12, 1);
          const counts = tokenCountsOf(batch);
          const means = Array.from(scores, (_, i) =>
            tokensOf(batch, i).reduce((total, t) => total + tokenLosses[t] / counts[i], 0),
          );
          const policy = loss.runSync(batch, { ...options, aggregation: 'sequence-mean' }).loss;
          expectCloseNumber(
            means.reduce((total, value) => total + value, 0),
            policy,
            1e-12,
            1,
          );
          expect(tokenLosses.length).toBe(batch.mask.length);
          expect(Array.from(tokenLosses).filter((value, t) => batch.mask[t] === 0 && value !== 0)).toEqual([]);
          const { tokenLosses: none, ...without } = loss.runSync(batch, { ...all, perToken: false });
          expect([none, without]).toEqual([undefined, { ...result, scores }]);
        }),
        { numRuns: 15 },
      );
    });

    test('of a token: the loss of that token alone', () => {
      if (name === 'gmpo') return; // has no weights per token
      fc.assert(
        fc.property(fc.integer(), EXTRAS, (seed, extras) => {
          const { batch, options } = drawn(seed, loss, extras, backend);
          const { tokenLosses } = loss.runSync(batch, { ...options, perToken: true });
          const random = new Random(seed + 9);
          const t = Math.floor(random.uniform() * batch.mask.length);
          const tokenWeights = batch.logProbs.map((_, k) => Number(k === t));
          const own = { ...options, aggregation: 'constant-length' } as AnyOptions;
          const alone = batch.mask.length > 0 ? loss.runSync({ ...batch, tokenWeights }, own).loss : 0;
          expectCloseNumber(tokenLosses?.[t] ?? 0, alone, 1e-12, 1e-2);
        }),
        { numRuns: 15 },
      );
    });
  });

  test('in numbers: clipped ratios, and a ratio of sequences', () => {
    const batch = {
      logProbs: Float64Array.of(-0.1, -0.5, -0.9),
      oldLogProbs: Float64Array.of(-0.4, -0.5, -0.6),
      cuSeqlens: Int32Array.of(0, 1, 3),
      advantages: Float64Array.of(2, -1),
    };
    const { tokenLosses } = grpoSync(batch, { perToken: true, backend });
    expectClose(tokenLosses!, [-2 * 1.2, 1, 0.8], 1e-12);
    const ofSequences = gspoSync(batch, { perToken: true, epsilonLow: 0.2, epsilonHigh: 0.2, backend });
    expectClose(ofSequences.tokenLosses!, [-2 * 1.2, Math.exp(-0.15), Math.exp(-0.15)], 1e-12);
  });

  test('from logits, in one pass too; from none', async () => {
    const batch = fullBatch(5);
    const { gradLogits, ...values } = await grpo(batch, { logProbs: true, perToken: true, backend });
    const { logits: _logits, targets: _targets, ...rest } = batch;
    const own = grpoSync({ ...rest, logProbs: values.logProbs! }, { perToken: true, backend });
    expectClose(values.tokenLosses!, own.tokenLosses!, 1e-13);
    expect(grpoSync(batch, { backend }).gradLogits).toEqual(gradLogits);
    const none = { logProbs: new Float64Array(), cuSeqlens: Int32Array.of(0), advantages: new Float64Array() };
    expect(grpoSync(none, { perToken: true, backend }).tokenLosses).toEqual(new Float64Array());
    const masked = { ...batch, mask: new Uint8Array(batch.mask.length) };
    expect(gspoSync(masked, { perToken: true, backend }).tokenLosses).toEqual(new Float64Array(batch.mask.length));
  });

  test('refused, by name', () => {
    const batch = fullBatch(5);
    expect(() => grpoSync(batch, { perToken: 1 as never, backend })).toThrow(
      rlvrError('ERR_RANGE', /^perToken: expected true or false, got 1$/),
    );
    expect(() => grpoSync(batch, { form: 'discriminative', perToken: true, backend })).toThrow(
      rlvrError('ERR_RANGE', /^perToken: expected none/),
    );
  });
});
