// The KL penalty: its estimators, references, cap and weight. Against the oracle it is in policy-extensions.test.ts.
import { expect, test } from 'vitest';
import { grpoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { goldenBatch, laterGoldenCases } from './support/golden.js';
import { fromLogProbs, fullBatch } from './support/named-losses.js';

describeBackends('KL penalty', (backend) => {
  const batch = fromLogProbs(fullBatch(4, { groups: 4 }));
  const { refLogProbs: _ref, ...withoutReference } = batch;

  test.each(laterGoldenCases('grpoKl'))('golden: %s', (_name, golden) => {
    const given = goldenBatch(golden);
    const { loss, gradLogits } = grpoSync(given, { ...golden.options, backend });
    expectCloseNumber(loss, golden.expected.loss, 2e-6, 1e-2);
    expectClose(gradLogits, golden.expected.gradLogits, 2e-6);
  });

  test("k1+ and k3+ have k2's gradient", () => {
    const of = (klEstimator: 'k1+' | 'k2' | 'k3' | 'k3+') => grpoSync(batch, { klCoef: 0.3, klEstimator, backend });
    expect(of('k1+').gradLogProbs).toEqual(of('k2').gradLogProbs);
    expect(of('k3+').gradLogProbs).toEqual(of('k2').gradLogProbs);
    expect(of('k3+').loss).toBe(of('k3').loss);
  });

  test('to the old policy, without a reference', () => {
    const options = { klCoef: 0.3, klReference: 'old', backend } as const;
    const expected = grpoSync({ ...batch, refLogProbs: batch.oldLogProbs }, { klCoef: 0.3, backend });
    expect(grpoSync(withoutReference, options)).toEqual(expected);
  });

  test("on-policy, k3 times the ratio has k2's gradient", () => {
    const { oldLogProbs: _old, ...onPolicy } = batch;
    const weighted = grpoSync(onPolicy, { klCoef: 0.3, klWeight: 'ratio', backend });
    const k2 = grpoSync(onPolicy, { klCoef: 0.3, klEstimator: 'k2', backend });
    expectClose(weighted.gradLogProbs, k2.gradLogProbs, 1e-13);
  });

  test('a cap that nothing reaches changes nothing; one that all reach leaves no gradient', () => {
    const plain = grpoSync(batch, { klCoef: 0.3, backend });
    expect(grpoSync(batch, { klCoef: 0.3, klMax: 1e9, backend })).toEqual(plain);
    const refLogProbs = batch.logProbs.map((l) => l + 3);
    const capped = grpoSync({ ...batch, refLogProbs }, { klCoef: 0.3, klMax: 1e-3, backend });
    expect(capped.gradLogProbs).toEqual(grpoSync(batch, { backend }).gradLogProbs);
    expectCloseNumber(capped.metrics.kl!, 1e-3, 1e-12);
  });
});
