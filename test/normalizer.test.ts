// Micro-batches: with the whole batch's normalizer, their losses and gradients add up to the whole batch's, wherever it was
// cut. DisCO's constraint is the one term that cannot: it is a square of the whole batch's KL.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Batch, discoSync, grpoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { expectSum } from './support/losses.js';
import {
  AGGREGATIONS,
  type AnyOptions,
  byName,
  fromLogProbs,
  fullBatch,
  GROUP_LOSSES,
  groupsOf,
  NAMED_LOSSES,
  POLICY_LOSSES,
} from './support/named-losses.js';

const ADDITIONS = fc.record({
  kl: fc.option(
    fc.record({
      klCoef: fc.constant(0.3),
      klEstimator: fc.constantFrom('k1', 'k2', 'k3', 'abs'),
      klWeight: fc.constantFrom('none', 'ratio'),
    }),
  ),
  rolloutCorrection: fc.option(fc.constantFrom({ level: 'sequence', max: 1.5 } as const), { nil: undefined }),
  estimator: fc.constantFrom('grpo', 'drGrpo', 'rloo', 'opo'),
});

type Additions = typeof ADDITIONS extends fc.Arbitrary<infer D> ? D : never;

const withAdditions = ({ kl, rolloutCorrection, estimator }: Additions): AnyOptions =>
  ({ ...kl, rolloutCorrection, advantage: { estimator } }) as AnyOptions;

/** The denominator of the whole batch, by hand (spec section 4). */
function denominator({ cuGroups, rewards, mask }: Batch, over: string, { aggregation, maxLength = 1 }: AnyOptions) {
  if (over === 'groups') return cuGroups.length - 1;
  if (aggregation === 'token-mean')
    return Math.max(
      mask!.reduce((sum, m) => sum + m, 0),
      1,
    );
  return Math.max(rewards.length * (aggregation === 'constant-length' ? maxLength : 1), 1);
}

const CUTS = fc.uniqueArray(fc.integer({ min: 1, max: 5 }), { maxLength: 5 });

/** A batch of six groups in pieces. */
const pieces = <B extends Batch>(batch: B, cuts: number[]) => {
  const ends = [0, ...[...cuts].sort(), 6];
  return ends.slice(1).map((last, k) => groupsOf(batch, ends[k], last));
};

describeBackends('normalizer', (backend) => {
  const expectPiecesAddUp = (
    { over, runSync, options: own }: (typeof NAMED_LOSSES)[number],
    options: AnyOptions,
    seed: number,
    cuts: number[],
  ) => {
    const batch = fromLogProbs(fullBatch(seed, { vocab: 2, groups: 6 }));
    const all = { ...own, ...options, backend };
    const whole = runSync(batch, all);
    const normalizer = denominator(batch, over, all);
    expect(runSync(batch, { ...all, normalizer })).toEqual(whole); // it is what the default denominator is
    const micro = pieces(batch, cuts).map((piece) => runSync(piece, { ...all, normalizer }));
    expectSum(micro, whole, 1e-12, 1e-2);
  };

  describe.each(byName(POLICY_LOSSES))('%s', (_name, loss) => {
    test.each(AGGREGATIONS)('$aggregation', (aggregation) => {
      fc.assert(
        fc.property(fc.integer(), CUTS, ADDITIONS, (seed, cuts, additions) => {
          expectPiecesAddUp(loss, { ...aggregation, ...withAdditions(additions) }, seed, cuts);
        }),
        { numRuns: 12 },
      );
    });
  });

  test.each(byName([...GROUP_LOSSES, ...NAMED_LOSSES.slice(-1)]))('%s', (_name, loss) => {
    fc.assert(
      fc.property(fc.integer(), CUTS, (seed, cuts) => expectPiecesAddUp(loss, {}, seed, cuts)),
      { numRuns: 20 },
    );
  });

  test.each(AGGREGATIONS)('an entropy bonus, from logits: $aggregation', (aggregation) => {
    fc.assert(
      fc.property(fc.integer(), CUTS, (seed, cuts) => {
        const batch = fullBatch(seed, { vocab: 4, groups: 6 }); // aligned in every piece, as in from-dense.test.ts
        const options: AnyOptions = { ...aggregation, entropyCoef: 0.2, klCoef: 0.1, backend };
        const whole = grpoSync(batch, options);
        const normalizer = denominator(batch, 'advantages', options);
        const micro = pieces(batch, cuts).map((piece) => grpoSync(piece, { ...options, normalizer }));
        const sum = micro.reduce((all, { loss }) => all + loss, 0);
        expectCloseNumber(sum, whole.loss, 1e-12, 1e-2);
        const gradients = micro.flatMap(({ gradLogits }) => Array.from(gradLogits));
        expectClose(gradients, whole.gradLogits, 1e-7); // float32
      }),
      { numRuns: 12 },
    );
  });

  test('any other normalizer scales value and gradient, KL and entropy too', () => {
    const batch = fullBatch(29, { groups: 6 });
    for (const { name, over, runSync, options: own } of NAMED_LOSSES) {
      const additions = over === 'groups' ? {} : { klCoef: 0.2, entropyCoef: 0.1 };
      const options = { ...own, ...additions, backend };
      const [one, four] = [1, 4].map((normalizer) => runSync(batch, { ...options, normalizer }));
      expectCloseNumber(4 * four.loss, one.loss, 1e-14);
      expect(
        Array.from(four.gradLogits, (g) => 4 * g),
        name,
      ).toEqual(Array.from(one.gradLogits));
      expect(four.metrics, name).toEqual(one.metrics);
    }
  });

  test("DisCO's constraint is not of the sum over groups", () => {
    const batch = fromLogProbs(fullBatch(29, { groups: 6 }));
    const oldLogProbs = batch.oldLogProbs.map((old) => old + 1);
    const far = { ...batch, oldLogProbs };
    const penalty = (normalizer: number) =>
      discoSync(far, { normalizer, klConstraint: true, backend }).loss - discoSync(far, { normalizer, backend }).loss;
    expect(penalty(6)).toBeGreaterThan(1);
    expectCloseNumber(penalty(1), penalty(6), 1e-12);
  });
});
