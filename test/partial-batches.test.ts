// What a batch need not have, and forms that its parts may take.
import { describe, expect, test } from 'vitest';
import {
  cispoSync,
  conspoSync,
  dapoSync,
  drGrpoSync,
  forwardSync,
  grpo,
  grpoSync,
  gspoSync,
  padded,
  RlvrError,
  ratioScoresSync,
  sapoSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { fullBatch } from './support/named-losses.js';

/** A batch with advantages of its own, [N], and the same without rewards and groups. */
function advantaged() {
  const batch = fullBatch(5, { groups: 4 });
  const advantages = Float64Array.from(batch.rewards, (reward, i) => reward - 0.5 + 0.1 * i);
  const { rewards, cuGroups, ...sequences } = batch;
  return { rewards, cuGroups, ungraded: { ...sequences, advantages }, graded: { ...batch, advantages } };
}

const GROUP_METRICS = ['contrastiveGroups', 'degenerateGroups', 'zeroVarianceFraction'];
const REWARD_METRICS = ['positiveScoreMean', 'negativeScoreMean', 'scoreGap', 'rewardMean'];

function without(metrics: object, names: readonly string[]): object {
  return Object.fromEntries(Object.entries(metrics).filter(([name]) => !names.includes(name)));
}

describeBackends('advantages without rewards and groups', (backend) => {
  test.each([
    ['grpo', grpoSync],
    ['dapo', dapoSync],
    ['gspo', gspoSync],
    ['sapo', sapoSync],
  ] as const)('%s is the same, but for metrics of rewards and groups', (_name, loss) => {
    const { graded, ungraded } = advantaged();
    const { metrics: fewer, ...result } = loss(ungraded, { backend });
    const { metrics, ...whole } = loss(graded, { backend });
    expect(result).toEqual(whole);
    expect(Object.keys(metrics)).toEqual(expect.arrayContaining([...GROUP_METRICS, ...REWARD_METRICS]));
    expect(fewer).toEqual(without(metrics, [...GROUP_METRICS, ...REWARD_METRICS]));
  });

  test('rewards alone bring their metrics', () => {
    const { graded, ungraded, rewards } = advantaged();
    const { metrics } = grpoSync({ ...ungraded, rewards }, { backend });
    expect(metrics).toEqual(without(grpoSync(graded, { backend }).metrics, GROUP_METRICS));
  });

  test('what is there is checked', () => {
    const { ungraded, rewards, cuGroups } = advantaged();
    const wrong = { ...ungraded, rewards: rewards.subarray(1), cuGroups };
    expect(() => grpoSync(wrong, { backend })).toThrow('rewards: expected length');
    expect(() => grpoSync({ ...ungraded, cuGroups: Int32Array.of(0, 1) }, { backend })).toThrow('cuGroups: expected');
    const groupOrder = Int32Array.from(rewards, (_, i) => i);
    expect(() => grpoSync({ ...ungraded, groupOrder }, { backend })).toThrow(
      'cuGroups: expected Int32Array, got undefined',
    );
  });

  test('where they are needed they are demanded', () => {
    const { ungraded, rewards, cuGroups } = advantaged();
    const { advantages: _own, ...bare } = ungraded;
    const call = (loss: (batch: never, options: never) => unknown, batch: object) => () =>
      loss(batch as never, { backend } as never);
    expect(call(grpoSync, bare)).toThrow('cuGroups: expected Int32Array, got undefined');
    expect(call(grpoSync, { ...bare, cuGroups })).toThrow(
      'rewards: expected Float32Array or Float64Array, got undefined',
    );
    expect(call(conspoSync, ungraded)).toThrow('cuGroups: expected Int32Array, got undefined');
    expect(call(conspoSync, { ...ungraded, rewards })).toThrow('cuGroups: expected Int32Array, got undefined');
  });

  test('the async form does the same', async () => {
    const { ungraded } = advantaged();
    expect(await grpo(ungraded, { backend })).toEqual(grpoSync(ungraded, { backend }));
  });
});

describeBackends('targets of 64 bits', (backend) => {
  const batch = fullBatch(7);
  const wide = { ...batch, targets: BigInt64Array.from(batch.targets, BigInt) };

  test('are the same ids', () => {
    expect(grpoSync(wide, { backend })).toEqual(grpoSync(batch, { backend }));
    const { logits, targets, mask } = wide;
    const forward = tokenLogProbsSync({ logits, targets, mask }, { backend });
    expect(forward).toEqual(tokenLogProbsSync({ logits, targets: batch.targets, mask }, { backend }));
    const gradLogProbs = forward.logProbs.map((_, t) => Math.sin(t));
    const inputs = { logits, mask, logSumExp: forward.logSumExp, gradLogProbs };
    expect(tokenLogProbsBackwardSync({ ...inputs, targets }, { backend })).toEqual(
      tokenLogProbsBackwardSync({ ...inputs, targets: batch.targets }, { backend }),
    );
    const { scores, backward } = forwardSync(wide, 'logLikelihood', { backend });
    const other = forwardSync(batch, 'logLikelihood', { backend });
    expect(backward(scores)).toEqual(other.backward(scores));
  });

  test('are checked, as those that 32 bits would wrap', () => {
    const { logits, targets, mask } = wide;
    const vocab = logits.length / targets.length;
    const kept = mask.indexOf(1);
    const masked = mask.indexOf(0);
    for (const id of [-1n, BigInt(vocab), 2n ** 32n, 2n ** 53n + 1n, -(2n ** 63n)]) {
      const off = targets.slice();
      off[kept] = id;
      const message = `targets: expected ids in [0, ${vocab}), got ${id} at index ${kept}`;
      expect(() => tokenLogProbsSync({ logits, targets: off, mask }, { backend })).toThrow(message);
      const hidden = targets.slice();
      hidden[masked] = id;
      expect(tokenLogProbsSync({ logits, targets: hidden, mask }, { backend }).logProbs).toEqual(
        tokenLogProbsSync({ logits, targets, mask }, { backend }).logProbs,
      );
    }
  });
});

test('padded takes targets of 64 bits', () => {
  const targets = BigInt64Array.of(0n, 1n);
  const parts = { shape: [1, 2], logits: new Float32Array(6), targets, mask: Uint8Array.of(1, 1) } as const;
  expect(padded(parts).targets).toBe(targets);
});

describeBackends('Infinity as a bound', (backend) => {
  const batch = fullBatch(11, { spread: 2 });
  const none = Infinity;
  const wide = 1e9; // no ratio comes there: log-ratios are clamped to 20

  test('is none', () => {
    const equal = <R>(bounded: R, unbounded: R) => expect(unbounded).toEqual(bounded);
    equal(cispoSync(batch, { ratioMax: wide, backend }), cispoSync(batch, { ratioMax: none, backend }));
    for (const bound of ['epsilonLow', 'epsilonHigh', 'dualClip', 'delta'] as const) {
      equal(grpoSync(batch, { [bound]: wide, backend }), grpoSync(batch, { [bound]: none, backend }));
    }
    for (const level of ['token', 'sequence'] as const) {
      for (const mode of ['truncate', 'mask'] as const) {
        const at = (max: number) => grpoSync(batch, { rolloutCorrection: { level, mode, max }, backend });
        equal(at(wide), at(none));
      }
    }
    const { logits: _logits, targets, ...rest } = batch;
    const logProbs = batch.refLogProbs;
    for (const kind of ['geometricRatio', 'sequenceRatio'] as const) {
      const sides = batch.rewards.map((reward) => 2 * reward - 1);
      const at = (epsilon: number) =>
        ratioScoresSync(
          { logProbs, oldLogProbs: rest.oldLogProbs, cuSeqlens: rest.cuSeqlens, mask: rest.mask, sides },
          { score: { kind, epsilonLow: epsilon, epsilonHigh: epsilon }, backend },
        );
      equal(at(wide), at(none));
    }
    expect(targets.length).toBeGreaterThan(0);
  });

  test('is refused where it is no bound', () => {
    const refused = (options: object) => () => cispoSync(batch, { ...options, backend });
    expect(refused({ ratioMax: -Infinity })).toThrow('ratioMax: expected a number at least 0, got -Infinity');
    expect(refused({ ratioMax: Number.NaN })).toThrow('ratioMax: expected a number at least 0, got NaN');
    expect(refused({ ratioMin: Infinity })).toThrow('ratioMin: expected a finite number at least 0, got Infinity');
    expect(refused({ klCoef: Infinity })).toThrow('klCoef: expected a finite number');
    expect(() => drGrpoSync(batch, { maxLength: Infinity, backend })).toThrow('maxLength: expected a finite number');
  });
});

describeBackends('NaN in rolloutLogProbs', (backend) => {
  const batch = fullBatch(13, { spread: 1 });
  const places = [...batch.mask.keys()].filter((t) => batch.mask[t] === 1 && t % 3 === 0);
  const rolloutLogProbs = batch.rolloutLogProbs.map((value, t) => (places.includes(t) ? Number.NaN : value));
  const withNaN = { ...batch, rolloutLogProbs };
  /** The same weights by hand: where the engine's log-prob is that of the old policy, the ratio is 1. */
  const filled = {
    ...batch,
    rolloutLogProbs: rolloutLogProbs.map((value, t) => (Number.isNaN(value) ? batch.oldLogProbs[t] : value)),
  };

  test('is an error that says what helps', () => {
    expect(places.length).toBeGreaterThan(0);
    const message = `rolloutLogProbs: expected no NaN at unmasked tokens, or rolloutCorrection with missing: 'one', got NaN at index ${places[0]}`;
    for (const options of [{}, { rolloutCorrection: {} }, { rolloutCorrection: { missing: 'error' as const } }]) {
      expect(() => grpoSync(withNaN, { ...options, backend })).toThrow(new RlvrError('ERR_NONFINITE', message));
    }
    const junk = { rolloutCorrection: { missing: 'none' as 'one' } };
    expect(() => grpoSync(batch, { ...junk, backend })).toThrow("rolloutCorrection.missing: expected 'error' or 'one'");
  });

  test.each(['token', 'sequence'] as const)("with missing: 'one' has the weight 1, per %s", (level) => {
    const rolloutCorrection = { level, missing: 'one', max: 1.5 } as const;
    const { metrics: _some, ...result } = grpoSync(withNaN, { rolloutCorrection, backend });
    const { metrics: _all, ...expected } = grpoSync(filled, { rolloutCorrection: { level, max: 1.5 }, backend });
    expect(result).toEqual(expected);
  });

  test("with missing: 'one' has the weight 1 though the bounds leave it out", () => {
    const rolloutCorrection = { missing: 'one', mode: 'mask', min: 2, max: 3 } as const; // all other weights are 0 or above 2
    const all = { ...batch, rolloutLogProbs: batch.rolloutLogProbs.map(() => Number.NaN) };
    const { loss, gradLogits } = grpoSync(all, { rolloutCorrection, backend });
    const { rolloutLogProbs: _none, ...plain } = batch;
    expect({ loss, gradLogits }).toEqual(
      (({ loss, gradLogits }) => ({ loss, gradLogits }))(grpoSync(plain, { backend })),
    );
  });

  test('is left out of the metrics', () => {
    const { metrics } = grpoSync(withNaN, { rolloutCorrection: { missing: 'one' }, backend });
    const mask = batch.mask.map((keep, t) => (places.includes(t) ? 0 : keep));
    const { metrics: expected } = grpoSync({ ...batch, mask }, { backend });
    for (const name of [
      'rolloutLogProbDiffMean',
      'rolloutLogProbDiffMax',
      'rolloutKl',
      'rolloutEffectiveSampleSize',
    ] as const) {
      expect(metrics[name], name).toBeCloseTo(expected[name] ?? Number.NaN, 12);
    }
  });
});

describe('types', () => {
  test('a batch without rewards has no metrics of them', () => {
    const { ungraded, graded } = advantaged();
    const { metrics } = grpoSync(ungraded);
    // @ts-expect-error there are no rewards to take a mean of
    expect(metrics.rewardMean).toBeUndefined();
    expect(grpoSync(graded).metrics.rewardMean).toBeTypeOf('number');
    const { advantages: _own, ...bare } = ungraded;
    // @ts-expect-error without advantages there must be rewards and groups
    expect(() => grpoSync(bare)).toThrow('cuGroups');
    // @ts-expect-error conspo has no use for advantages
    expect(() => conspoSync(ungraded)).toThrow('cuGroups');
  });
});
