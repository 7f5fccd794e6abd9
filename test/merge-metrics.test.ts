import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { grpoSync, mergeMetrics, microBatches } from '../lib/index.js';
import type { LossName } from '../lib/losses/list.js';
import { describeBackends } from './support/backends.js';
import { rlvrError } from './support/errors.js';
import { byName, fullBatch, NAMED_LOSSES, POLICY_LOSSES } from './support/named-losses.js';

/** Equal to 1e-6, as log-probs of logits elsewhere in memory are, metric by metric, with the same names. */
function expectMetrics(actual: object, expected: object): void {
  const { rolloutEffectiveSampleSize: _none, ...others } = expected as Record<string, number>;
  expect(Object.keys(actual).sort()).toEqual(Object.keys(others).sort());
  for (const [name, value] of Object.entries(others)) {
    const difference = Math.abs((actual as Record<string, number>)[name] - value);
    expect(difference, name).toBeLessThanOrEqual(1e-6 * Math.max(1e-3, Math.abs(value)));
  }
}

describeBackends('mergeMetrics', (backend) => {
  test.each(byName(NAMED_LOSSES))('%s: metrics of the parts are those of the batch', (name, { runSync, options }) => {
    const loss = name.split(/,| on /)[0] as LossName;
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 6 }), (seed, groups) => {
        const batch = fullBatch(seed, { groups });
        const ofLoss = { ...options, entropy: true, positiveThreshold: 0.5 };
        const parts = microBatches(batch, { sequences: 6, loss, options: ofLoss });
        const results = parts.map((part) => runSync(part.batch, { ...part.options, backend }));
        expectMetrics(mergeMetrics(parts, results), runSync(batch, { ...ofLoss, backend }).metrics);
      }),
      { numRuns: 10 },
    );
  });

  test('with a penalty, rejected tokens, and tokens that the engine could not score', () => {
    const [, grpo] = byName(POLICY_LOSSES).find(([name]) => name === 'grpo')!;
    for (const seed of [1, 2, 3, 4]) {
      const batch = fullBatch(seed, { groups: 6 });
      for (const [given, options] of [
        [batch, { klCoef: 0.1, rolloutCorrection: { reject: { by: 'k3', level: 'token', max: 0.05 } } }],
        [
          { ...batch, rolloutLogProbs: batch.rolloutLogProbs.map((value, t) => (t % 3 ? value : NaN)) },
          { rolloutCorrection: { missing: 'one' } },
        ],
      ] as const) {
        const parts = microBatches(given, { sequences: 5, loss: 'grpo', options });
        expect(parts.length).toBeGreaterThan(1);
        const results = parts.map((part) => grpo.runSync(part.batch, { ...part.options, backend }));
        expectMetrics(mergeMetrics(parts, results), grpo.runSync(given, { ...options, backend }).metrics);
      }
    }
  });
});

describe('mergeMetrics', () => {
  const batch = {
    logProbs: Float32Array.of(-0.4, -1, -0.6),
    cuSeqlens: Int32Array.of(0, 1, 2, 3),
    cuGroups: Int32Array.of(0, 2, 3),
    rewards: Float32Array.of(1, 0, 1),
  };
  const parts = microBatches(batch, { sequences: 2, loss: 'grpo' });
  const results = parts.map((part) => grpoSync(part.batch, part.options));

  test('one part is itself, and none has no metrics', () => {
    const [whole] = microBatches(batch, { sequences: 3, loss: 'grpo' });
    const { metrics } = grpoSync(whole.batch, whole.options);
    expect(mergeMetrics([whole], [{ metrics }])).toEqual(metrics);
    expect(mergeMetrics([], [])).toEqual({});
  });

  test('a metric that a part lacks is left out', () => {
    const { clipFraction: _none, ...fewer } = results[1].metrics;
    const merged = mergeMetrics<Partial<(typeof results)[0]['metrics']>>(parts, [results[0], { metrics: fewer }]);
    expect(merged).not.toHaveProperty('clipFraction');
    expect(merged.tokens).toBe(3);
  });

  test('large means stay within the range of a double', () => {
    const huge = results.map(({ metrics }) => ({ metrics: { ...metrics, rewardMean: 1.5e308 } }));
    expect(mergeMetrics(parts, huge).rewardMean / 1.5e308).toBeCloseTo(1, 12);
  });

  test('parts of a padded batch, before it is packed', () => {
    const shaped = parts.map(({ batch: { cuSeqlens, ...part }, options }) => ({
      batch: { ...part, shape: [cuSeqlens.length - 1, 1] as const },
      options,
    }));
    expect(mergeMetrics(shaped, results)).toEqual(mergeMetrics(parts, results));
  });

  const metricsWith = (more: object) => ({ metrics: { ...results[1].metrics, ...more } });
  const partWith = (more: object) => ({ ...parts[1], batch: { ...parts[1].batch, ...more } });
  const revoked = () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  };

  test.each<[parts: unknown, results: unknown, code: string, message: string]>([
    [undefined, results, 'ERR_DTYPE', 'parts: expected an array, got undefined'],
    [parts, undefined, 'ERR_DTYPE', 'results: expected an array, got undefined'],
    [parts, [results[0]], 'ERR_SHAPE', 'results: expected length 2, one for each part, got length 1'],
    [parts, [results[0], {}], 'ERR_DTYPE', 'results[1].metrics: expected an object, got undefined'],
    [[parts[0], 3], results, 'ERR_DTYPE', 'parts[1]: expected an object, got 3'],
    [
      [parts[0], { batch: {} }],
      results,
      'ERR_DTYPE',
      'parts[1].batch: expected cuSeqlens, or the shape of a padded batch',
    ],
    [parts, [results[0], undefined], 'ERR_DTYPE', 'results[1]: expected an object, got undefined'],
    [
      parts,
      Object.setPrototypeOf([...results].fill(undefined as never), {}),
      'ERR_DTYPE',
      'results[0]: expected an object',
    ],
    [
      parts,
      [results[0], metricsWith({ ratioMax: revoked() })],
      'ERR_DTYPE',
      'results[1].metrics.ratioMax: expected a number',
    ],
    [parts, [results[0], metricsWith({ kl: NaN })], 'ERR_DTYPE', 'results[1].metrics.kl: expected a number, got NaN'],
    [
      parts,
      [results[0], metricsWith({ tokens: '3' })],
      'ERR_DTYPE',
      'results[1].metrics.tokens: expected a number, got "3"',
    ],
    [
      parts,
      [metricsWith({ policyKl: Infinity }), metricsWith({ policyKl: -Infinity })],
      'ERR_NONFINITE',
      'results: expected a policyKl that can be merged, got others',
    ],
    [
      [parts[0], partWith({ cuSeqlens: true })],
      results,
      'ERR_DTYPE',
      'parts[1].batch.cuSeqlens: expected Int32Array, got true',
    ],
    [
      [parts[0], partWith({ cuGroups: [0, 0.5] })],
      results,
      'ERR_RANGE',
      'parts[1].batch.cuGroups: expected whole numbers',
    ],
    [
      [parts[0], partWith({ rewards: 'abc' })],
      results,
      'ERR_DTYPE',
      'parts[1].batch.rewards: expected Float32Array or',
    ],
    [[parts[0], partWith({ mask: new Uint8Array(99) })], results, 'ERR_SHAPE', 'parts[1].batch.mask: expected length'],
    [[parts[0], { ...parts[1], options: 7 }], results, 'ERR_DTYPE', 'parts[1].options: expected an object, got 7'],
  ])('bad input %#', (ofParts, ofResults, code, message) => {
    expect(() => mergeMetrics(ofParts as never, ofResults as never)).toThrow(rlvrError(code, message));
  });
});
