// Every metric against a plain loop over the batch; and absent where it does not belong.
import { describe, expect, test } from 'vitest';
import { advantageWeighted, type BackendName, defineLoss, type Metrics } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectCloseNumber } from './support/compare.js';
import {
  type AnyOptions,
  byName,
  fromLogProbs,
  fullBatch,
  NAMED_LOSSES,
  type NamedLoss,
} from './support/named-losses.js';
import { tokensOf } from './support/packed.js';

const ALWAYS = [
  'tokens',
  'nonFiniteTokens',
  'contrastiveGroups',
  'degenerateGroups',
  'positiveScoreMean',
  'negativeScoreMean',
  'scoreGap',
  'rewardMean',
  'zeroVarianceFraction',
] as const;
const OF_CLIPS = ['clipFractionLow', 'clipFractionHigh', 'clipFraction'] as const;
const OF_RATIOS = ['ratioMean', 'ratioMax', 'policyKl', 'effectiveSampleSize'] as const;
const OF_ROLLOUTS = [
  'rolloutLogProbDiffMean',
  'rolloutLogProbDiffMax',
  'rolloutKl',
  'rolloutEffectiveSampleSize',
] as const;

const WITHOUT_RATIOS = ['conspo', 'disco', 'disco, plain difference'];
const WITHOUT_CLIP = [...WITHOUT_RATIOS, 'disco on ratios', 'sapo', 'vespo', 'real'];

type MetricsBatch = ReturnType<typeof metricsBatch>;

/** Log-probs of six groups, one of them empty, with sequences in no order and a mask. */
function metricsBatch(seed: number) {
  const batch = fromLogProbs(fullBatch(seed, { vocab: 2, groups: 5 }));
  const N = batch.rewards.length;
  const cuGroups = Int32Array.from([0, ...batch.cuGroups]);
  const groupOrder = Int32Array.from({ length: N }, (_, k) => (5 * k + 2) % N);
  return { ...batch, cuGroups, groupOrder, rewards: batch.rewards.map((r, i) => r + (i % 3 ? 0 : 0.5)) };
}

const mean = (values: number[]) => (values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length);
const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

/** The groups of a batch as lists of sequences. */
const groupsIn = ({ cuGroups, groupOrder }: MetricsBatch) =>
  Array.from(cuGroups.slice(1), (end, g) => Array.from(groupOrder.slice(cuGroups[g], end)));

/** What the metrics of groups and rewards should be. */
function expectedOfRewards(batch: MetricsBatch, scores: Float64Array, threshold: number) {
  const { rewards } = batch;
  const groups = groupsIn(batch);
  const contrastive = groups.filter(
    (g) => g.some((i) => rewards[i] > threshold) && g.some((i) => rewards[i] <= threshold),
  );
  const filled = groups.filter((g) => g.length > 0);
  const side = (positive: boolean) => Array.from(scores).filter((_, i) => rewards[i] > threshold === positive);
  return {
    contrastiveGroups: contrastive.length,
    degenerateGroups: groups.length - contrastive.length,
    positiveScoreMean: mean(side(true)),
    negativeScoreMean: mean(side(false)),
    scoreGap: mean(side(true)) - mean(side(false)),
    rewardMean: mean(Array.from(rewards)),
    zeroVarianceFraction: filled.filter((g) => new Set(g.map((i) => rewards[i])).size === 1).length / filled.length,
  };
}

const kept = ({ mask }: MetricsBatch) => Array.from(mask).flatMap((m, t) => (m ? [t] : []));

function sampleSize(weights: number[]) {
  return sum(weights) ** 2 / (weights.length * sum(weights.map((w) => w * w)));
}

/** What the metrics of the ratios should be. */
function expectedOfRatios(batch: MetricsBatch) {
  const gaps = kept(batch).map((t) => batch.logProbs[t] - batch.oldLogProbs[t]);
  const ratios = gaps.map(Math.exp);
  return {
    ratioMean: mean(ratios),
    ratioMax: Math.max(...ratios),
    policyKl: -mean(gaps),
    effectiveSampleSize: sampleSize(ratios),
  };
}

function expectedOfRollouts(batch: MetricsBatch) {
  const gaps = kept(batch).map((t) => batch.oldLogProbs[t] - batch.rolloutLogProbs[t]);
  return {
    rolloutLogProbDiffMean: mean(gaps.map(Math.abs)),
    rolloutLogProbDiffMax: Math.max(...gaps.map(Math.abs)),
    rolloutKl: -mean(gaps),
    rolloutEffectiveSampleSize: sampleSize(gaps.map(Math.exp)),
  };
}

/** Clip fractions as the spec's table says who is clipped where; sides by advantage, or by reward for group objectives. */
function expectedOfClips(name: string, batch: MetricsBatch, sides: ArrayLike<number>) {
  const { logProbs, oldLogProbs } = batch;
  const counts = { low: 0, high: 0 };
  const bounds: Record<string, [low: number, high: number]> = {
    dapo: [0.8, 1.28],
    gspo: [0.97, 1.05],
    luspo: [0.97, 1.05],
    gmpo: [Math.exp(-0.3), Math.exp(0.2)],
    cispo: [0.7, 1.3],
  };
  const [low, high] = bounds[name] ?? [0.8, 1.2];
  for (let i = 0; i < sides.length; i++) {
    const own = tokensOf(batch, i);
    const whole = Math.exp(mean(own.map((t) => logProbs[t] - oldLogProbs[t])));
    for (const t of own) {
      if (name === 'dppo') {
        const moved = Math.exp(logProbs[t]) - Math.exp(oldLogProbs[t]);
        counts.low += sides[i] <= 0 && moved < -0.05 ? 1 : 0;
        counts.high += sides[i] > 0 && moved > 0.04 ? 1 : 0;
        continue;
      }
      const ratio = name === 'gspo' || name === 'luspo' ? whole : Math.exp(logProbs[t] - oldLogProbs[t]);
      counts.low += ratio < low && (name === 'cispo' || sides[i] < 0) ? 1 : 0;
      counts.high += ratio > high && (name === 'cispo' || sides[i] > 0) ? 1 : 0;
    }
  }
  const tokens = kept(batch).length;
  return {
    clipFractionLow: counts.low / tokens,
    clipFractionHigh: counts.high / tokens,
    clipFraction: (counts.low + counts.high) / tokens,
  };
}

function expectMetrics(actual: Metrics, expected: Partial<Metrics>): void {
  for (const [name, value] of Object.entries(expected)) {
    expect(Object.keys(actual)).toContain(name);
    expectCloseNumber(actual[name as keyof Metrics]!, value, 1e-12, 1e-2);
  }
}

const keysOf = (loss: NamedLoss, batch: MetricsBatch, options: AnyOptions, backend: BackendName) =>
  Object.keys(loss.runSync(batch, { ...loss.options, ...options, backend }).metrics).sort();

describeBackends('metrics', (backend) => {
  describe.each(byName(NAMED_LOSSES))('%s', (name, loss) => {
    const batch = metricsBatch(4);
    const result = loss.runSync(batch, { ...loss.options, backend });
    const withRatios = !WITHOUT_RATIOS.includes(name);
    const withClip = !WITHOUT_CLIP.includes(name);

    test('groups, rewards and scores', () => {
      expect(result.metrics.tokens).toBe(kept(batch).length);
      expect(result.metrics.nonFiniteTokens).toBe(0);
      expectMetrics(result.metrics, expectedOfRewards(batch, result.scores, 0));
      expect(result.metrics.contrastiveGroups).toBeGreaterThan(0);
    });

    test('another positiveThreshold', () => {
      const moved = loss.runSync(batch, { ...loss.options, positiveThreshold: 1.2, backend });
      expectMetrics(moved.metrics, expectedOfRewards(batch, moved.scores, 1.2));
      expect(moved.metrics.positiveScoreMean).not.toBe(result.metrics.positiveScoreMean);
    });

    test.each([4, 9, 11])('ratios %#', (seed) => {
      const other = metricsBatch(seed);
      expectMetrics(loss.runSync(other, { ...loss.options, backend }).metrics, expectedOfRatios(other));
    });

    if (!withRatios) {
      test('ratios change nothing else', () => {
        const { oldLogProbs: _old, ...without } = batch;
        const { metrics, ...value } = loss.runSync(without as MetricsBatch, { ...loss.options, backend });
        expect(result).toMatchObject(value);
        expect(metrics).not.toHaveProperty('ratioMean');
      });
    }

    test('rollouts, corrected or not', () => {
      expectMetrics(result.metrics, expectedOfRollouts(batch));
      if (loss.over === 'groups') return;
      const options: AnyOptions = { ...loss.options, rolloutCorrection: { level: 'sequence', max: 1.01 }, backend };
      expectMetrics(loss.runSync(batch, options).metrics, expectedOfRollouts(batch)); // of the uncorrected weights
    });

    if (withClip) {
      test('clip fractions', () => {
        const sides = result.advantages ?? batch.rewards.map((reward) => (reward > 0 ? 1 : -1));
        const expected = expectedOfClips(name, batch, sides);
        expectMetrics(result.metrics, expected);
        expect(expected.clipFraction).toBeGreaterThan(0);
      });
    }

    test('the metrics that belong, and no others', () => {
      const own = [...ALWAYS, ...(withClip ? OF_CLIPS : []), ...OF_RATIOS];
      const { rolloutLogProbs: _rollout, ...plain } = batch;
      const keys = (options: AnyOptions, b: object = plain) => keysOf(loss, b as MetricsBatch, options, backend);
      expect(keys({})).toEqual([...own].sort());
      expect(keys({}, batch)).toEqual([...own, ...OF_ROLLOUTS].sort());
      const { oldLogProbs: _old, ...onPolicy } = plain;
      const ofRatios: readonly string[] = withRatios ? [] : OF_RATIOS;
      expect(keys({}, onPolicy)).toEqual(own.filter((name) => !ofRatios.includes(name)).sort());
      if (loss.over === 'advantages') expect(keys({ klCoef: 0.1 })).toEqual([...own, 'kl'].sort());
      const fromLogits = fullBatch(4) as unknown as MetricsBatch;
      expect(keys({ entropy: true }, fromLogits)).toEqual([...own, ...OF_ROLLOUTS, 'entropy'].sort());
    });

    test('on-policy: ratios of 1, no KL', () => {
      const { oldLogProbs: _old, rolloutLogProbs: _rollout, ...onPolicy } = batch;
      const { metrics } = loss.runSync({ ...onPolicy, rolloutLogProbs: batch.logProbs }, { ...loss.options, backend });
      if (withRatios) {
        expect(metrics).toMatchObject({ ratioMean: 1, ratioMax: 1, policyKl: 0, effectiveSampleSize: 1 });
      }
      if (withClip) expect(metrics).toMatchObject({ clipFractionLow: 0, clipFractionHigh: 0, clipFraction: 0 });
      expect(metrics).toMatchObject({
        rolloutLogProbDiffMean: 0,
        rolloutLogProbDiffMax: 0,
        rolloutKl: 0,
        rolloutEffectiveSampleSize: 1,
      });
    });

    test('for a batch of nothing they are 0', () => {
      const { metrics } = loss.runSync(
        { ...batch, mask: new Uint8Array(batch.mask.length) },
        { ...loss.options, backend },
      );
      for (const key of ['tokens', ...OF_CLIPS, ...OF_RATIOS, ...OF_ROLLOUTS] as (keyof Metrics)[]) {
        expect(metrics[key] ?? 0, key).toBe(0);
      }
    });
  });

  const grpo = NAMED_LOSSES[0];

  test.each(['k1', 'k2', 'k3', 'k1+', 'k3+', 'abs'] as const)('kl: the token mean of %s', (klEstimator) => {
    const batch = metricsBatch(4);
    const d = kept(batch).map((t) => batch.refLogProbs[t] - batch.logProbs[t]);
    const [k1, k3] = [d.map((x) => -x), d.map((x) => Math.exp(x) - x - 1)];
    const estimates = { k1, 'k1+': k1, k2: d.map((x) => x ** 2 / 2), k3, 'k3+': k3, abs: d.map(Math.abs) };
    const { metrics } = grpo.runSync(batch, { klCoef: 1e-3, klEstimator, backend });
    expectCloseNumber(metrics.kl!, mean(estimates[klEstimator]), 1e-12);
  });

  test.each(['token', 'sequence-mean', 'sequence-max'] as const)('what is rejected, by %s', (level) => {
    const batch = metricsBatch(9);
    const reject = { by: 'k3', level, max: 0.1 } as const;
    const k3 = (t: number) => {
      const d = batch.oldLogProbs[t] - batch.rolloutLogProbs[t];
      return Math.exp(d) - 1 - d;
    };
    const sequences = Array.from(batch.rewards, (_, i) => tokensOf(batch, i));
    const dropped = sequences.map((own) => {
      const [all, most] = [mean(own.map(k3)), Math.max(...own.map(k3))];
      return own.filter((t) => (level === 'token' ? k3(t) : level === 'sequence-mean' ? all : most) > 0.1);
    });
    const { metrics } = grpo.runSync(batch, { rolloutCorrection: { reject }, backend });
    const rejected = sum(dropped.map(({ length }) => length));
    expect(rejected).toBeGreaterThan(0);
    expect(metrics.tokens).toBe(kept(batch).length - rejected);
    expectMetrics(metrics, {
      rejectedFraction: rejected / kept(batch).length,
      rejectedSequenceFraction: dropped.filter(({ length }) => length > 0).length / sequences.length,
    });
    const none = { rolloutCorrection: { reject: { ...reject, max: 100 } }, backend };
    expect(grpo.runSync(batch, none).metrics).toMatchObject({ rejectedFraction: 0, rejectedSequenceFraction: 0 });
    const empty = grpo.runSync({ ...batch, mask: new Uint8Array(batch.mask.length) }, none);
    expect(empty.metrics).toMatchObject({ rejectedFraction: 0, rejectedSequenceFraction: 0 });
  });

  test('what clipCov takes out', () => {
    const batch = metricsBatch(4);
    const clipCov = { ratio: 0.2, low: -9, high: 9 };
    const { metrics } = grpo.runSync(batch, { clipCov, backend });
    const tokens = kept(batch).length;
    expectMetrics(metrics, { clipCovFraction: Math.floor(0.2 * tokens) / tokens });
    expect(grpo.runSync(batch, { clipCov: { low: 9, high: 9 }, backend }).metrics.clipCovFraction).toBe(0);
  });

  test.each<[name: string, options: AnyOptions]>([
    ['on request', { entropy: true }],
    ['with a bonus', { entropyCoef: 0.1 }],
  ])('entropy %s: its token mean', (_name, options) => {
    const { logits, mask, ...batch } = fullBatch(4);
    const entropies = Array.from(mask).flatMap((m, t) => {
      const row = Array.from(logits.slice(5 * t, 5 * t + 5));
      const p = row.map((z) => Math.exp(z) / sum(row.map(Math.exp)));
      return m ? [-sum(p.map((x) => x * Math.log(x)))] : [];
    });
    const { metrics } = grpo.runSync({ ...batch, logits, mask }, { ...options, backend });
    expectCloseNumber(metrics.entropy!, mean(entropies), 1e-6);
  });

  test('skipped tokens are counted, and count in nothing else', () => {
    const batch = fullBatch(4);
    const first = batch.mask.indexOf(1);
    const logits = batch.logits.map((z, k) => (Math.floor(k / 5) === first ? NaN : z));
    const mask = batch.mask.map((m, t) => (t === first ? 0 : m));
    const options: AnyOptions = { klCoef: 0.1, entropyCoef: 0.1, rolloutCorrection: {}, backend };
    const skipped = grpo.runSync({ ...batch, logits }, { ...options, onNonFinite: 'skip' });
    const masked = grpo.runSync({ ...batch, mask }, options);
    expect(skipped.metrics).toEqual({ ...masked.metrics, nonFiniteTokens: 1 });
    expect(skipped.loss).toBe(masked.loss);
    expect(skipped.gradLogits).toEqual(masked.gradLogits);
  });

  test('REINFORCE has ratios to old log-probs only', () => {
    const { runSync } = defineLoss({ score: 'logLikelihood', objective: advantageWeighted });
    const { rolloutLogProbs: _rollout, ...batch } = metricsBatch(4);
    const advantages = batch.logProbs.map((_, t) => t - 3);
    const { oldLogProbs: _old, ...onPolicy } = batch;
    for (const more of [{}, { advantages }]) {
      expect(Object.keys(runSync({ ...onPolicy, ...more }, { backend }).metrics).sort()).toEqual([...ALWAYS].sort());
      expectMetrics(runSync({ ...batch, ...more }, { backend }).metrics, expectedOfRatios(metricsBatch(4)));
    }
  });
});
