// Weights per token in the ratio scores (per-token advantages, importance weights), against a plain loop.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { type RatioScore, ratioScores, ratioScoresSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { tokensOf } from './support/packed.js';
import { randomBatch } from './support/random.js';

const SCORES: RatioScore[] = [
  { kind: 'ratio' },
  { kind: 'clippedRatio', epsilonLow: 0.1, epsilonHigh: 0.2 },
  { kind: 'clippedRatio', epsilonLow: 0.1, epsilonHigh: 0.2, dualClip: 1.1 },
  { kind: 'clippedRatio', epsilonLow: 0.1, epsilonHigh: 0.2, delta: 0.95 },
  { kind: 'sequenceRatio', epsilonLow: 0.03, epsilonHigh: 0.05 },
  { kind: 'stoppedRatio', ratioMin: 0.8, ratioMax: 1.2 },
  { kind: 'softGate', tauPos: 1, tauNeg: 2 },
  { kind: 'sequenceRatio', epsilonLow: 0.03, epsilonHigh: 0.05, dualClip: 1.1 },
  { kind: 'stoppedRatio', ratioLevel: 'sequence', ratioMin: 0.9, ratioMax: 1.1 },
  { kind: 'softGate', ratioLevel: 'sequence', tauPos: 1, tauNeg: 2 },
  { kind: 'k1' },
  { kind: 'k2' },
  { kind: 'k3' },
  { kind: 'k3+' },
  { kind: 'abs' },
];

interface Inputs {
  logProbs: Float64Array;
  oldLogProbs: Float64Array | undefined;
  cuSeqlens: Int32Array;
  mask: Uint8Array;
  sides: Float64Array | undefined;
  tokenWeights: Float64Array | undefined;
}

type Term = [value: number, derivative: number, clipped?: 'low' | 'high'];

/** One token's term, its side known: spec section 3. */
function termOf(score: RatioScore, d: number, logProb: number, side: number): Term {
  const r = Math.exp(d);
  const { epsilonLow = 0, epsilonHigh = 0, dualClip = Infinity, delta = Infinity } = score;
  const clip = (value: number): Term => {
    const high = Math.min(1 + epsilonHigh, delta);
    if (side > 0 && value > high) return [high, 0, 'high'];
    const cap = Math.min(dualClip, Math.max(1 + epsilonHigh, delta));
    const capped = score.delta === undefined ? dualClip : cap;
    if (side < 0 && value > capped) return [capped, 0, 'high'];
    if (side < 0 && value < 1 - epsilonLow) return [1 - epsilonLow, 0, 'low'];
    return [value, value];
  };
  switch (score.kind) {
    case 'ratio':
      return [r, r];
    case 'clippedRatio':
      return clip(r);
    case 'sequenceRatio':
      return clip(r); // of the sequence's log-ratio
    case 'stoppedRatio': {
      const held = Math.min(Math.max(r, score.ratioMin!), score.ratioMax!);
      return [held * logProb, held, held < r ? 'high' : held > r ? 'low' : undefined];
    }
    case 'softGate': {
      const tau = side > 0 ? score.tauPos! : score.tauNeg!;
      const gate = 1 / (1 + Math.exp(-tau * (r - 1)));
      return [(4 / tau) * gate, (4 * gate * r) / (1 + Math.exp(tau * (r - 1)))]; // 1 - gate would cancel
    }
    case 'k1':
      return [d, 1];
    case 'k2':
      return [d ** 2 / 2, d];
    case 'abs':
      return [Math.abs(d), Math.sign(d)];
    case 'k3+':
      return [Math.exp(-d) + d - 1, d];
    default: // k3
      return [Math.exp(-d) + d - 1, 1 - Math.exp(-d)];
  }
}

/** The scores by a plain loop. */
function plainScores(score: RatioScore, { logProbs, oldLogProbs, cuSeqlens, mask, sides, tokenWeights }: Inputs) {
  const N = cuSeqlens.length - 1;
  const [scores, clippedLow, clippedHigh] = [0, 1, 2].map(() => new Array<number>(N).fill(0));
  const scoreGrads = new Array<number>(logProbs.length).fill(0);
  for (let i = 0; i < N; i++) {
    const own = tokensOf({ cuSeqlens, mask }, i);
    const gap = (t: number) => Math.min(Math.max(logProbs[t] - (oldLogProbs?.[t] ?? logProbs[t]), -20), 20);
    const average = own.reduce((sum, t) => sum + gap(t), 0) / own.length;
    for (const t of own) {
      const weight = tokenWeights?.[t] ?? 1;
      const d = score.kind === 'sequenceRatio' || score.ratioLevel === 'sequence' ? average : gap(t);
      const [value, slope, clipped] = termOf(score, d, logProbs[t], sides?.[i] ?? tokenWeights?.[t] ?? 0);
      scores[i] += (weight * value) / own.length;
      const flows = Math.abs(logProbs[t] - (oldLogProbs?.[t] ?? logProbs[t])) <= 20 || score.kind === 'stoppedRatio';
      scoreGrads[t] = flows ? (weight * slope) / own.length : 0;
      clippedLow[i] += clipped === 'low' ? 1 : 0;
      clippedHigh[i] += clipped === 'high' ? 1 : 0;
    }
  }
  return { scores, scoreGrads, clippedLow, clippedHigh };
}

/** Random inputs, with weights of every sign and a few zeros. */
function inputsOf(seed: number, spread: number): Inputs & { sides: Float64Array; tokenWeights: Float64Array } {
  const { refLogProbs: logProbs, cuSeqlens, mask } = randomBatch(seed, { vocab: 4, groups: 4 });
  const random = new Random(seed + 1);
  return {
    logProbs,
    oldLogProbs: logProbs.map((l) => l + spread * random.normal()),
    cuSeqlens,
    mask,
    sides: Float64Array.from({ length: cuSeqlens.length - 1 }, () => Math.round(random.normal())),
    tokenWeights: logProbs.map(() => (random.uniform() < 0.15 ? 0 : random.normal())),
  };
}

const SPREADS = fc.constantFrom(0.2, 0.2, 30);

describeBackends('token weights', (backend) => {
  describe.each(SCORES)('%o', (score) => {
    const expectPlain = (inputs: Inputs) => {
      const actual = ratioScoresSync(inputs, { score, backend });
      const expected = plainScores(score, inputs);
      expectClose(actual.scores, expected.scores, 1e-12);
      expectClose(actual.scoreGrads, expected.scoreGrads, 1e-12);
      expect([Array.from(actual.clippedLow), Array.from(actual.clippedHigh)]).toEqual([
        expected.clippedLow,
        expected.clippedHigh,
      ]);
    };

    test('without sides, the sign of a weight is the side of its token', () => {
      fc.assert(
        fc.property(fc.integer(), SPREADS, (seed, spread) =>
          expectPlain({ ...inputsOf(seed, spread), sides: undefined }),
        ),
        { numRuns: 25 },
      );
    });

    test('with sides, those hold for every token of a sequence', () => {
      fc.assert(
        fc.property(fc.integer(), SPREADS, (seed, spread) => expectPlain(inputsOf(seed, spread))),
        { numRuns: 25 },
      );
    });

    test('on-policy', () => expectPlain({ ...inputsOf(5, 0.2), sides: undefined, oldLogProbs: undefined }));

    test('ones are no weights, on any side', () => {
      const { tokenWeights: _weights, ...inputs } = inputsOf(6, 0.2);
      const ones = new Float64Array(inputs.logProbs.length).fill(1);
      const plain = ratioScoresSync(inputs, { score, backend });
      const weighted = ratioScoresSync({ ...inputs, tokenWeights: ones }, { score, backend });
      // exp of an empty mean is 1, a weighted mean of nothing is 0: an empty sequence has no part in any loss
      const counted = (values: Float64Array) => values.filter((_, i) => plain.tokenCounts[i] > 0);
      expectClose(counted(weighted.scores), counted(plain.scores), 1e-14);
      expectClose(weighted.scoreGrads, plain.scoreGrads, 1e-14);
      expect([weighted.clippedLow, weighted.clippedHigh]).toEqual([plain.clippedLow, plain.clippedHigh]);
    });

    test('a token of weight 0 adds nothing and counts', () => {
      const inputs = inputsOf(7, 0.2);
      const tokenWeights = inputs.tokenWeights.map((w, t) => (t % 2 ? w : 0));
      const result = ratioScoresSync({ ...inputs, tokenWeights }, { score, backend });
      expect(result.scoreGrads.every((g, t) => t % 2 === 1 || g === 0)).toBe(true);
      expect(result.tokenCounts).toEqual(ratioScoresSync(inputs, { score, backend }).tokenCounts);
    });

    test('masked weights are never read; async gives the same bits', async () => {
      const inputs = inputsOf(8, 0.2);
      const { mask, tokenWeights } = inputs;
      const spoilt = { ...inputs, tokenWeights: tokenWeights.map((w, t) => (mask[t] ? w : [NaN, -Infinity][t % 2])) };
      expect(await ratioScores(spoilt, { score, backend })).toEqual(ratioScoresSync(inputs, { score, backend }));
    });
  });

  test("GSPO's token form in numbers", () => {
    const inputs = {
      logProbs: Float64Array.of(-1, -2, -3),
      oldLogProbs: Float64Array.of(-1.3, -2, -3),
      cuSeqlens: Int32Array.of(0, 3),
      tokenWeights: Float64Array.of(2, -1, 0.5),
    };
    const S = Math.exp(0.1);
    const free = ratioScoresSync(inputs, {
      score: { kind: 'sequenceRatio', epsilonLow: 0.5, epsilonHigh: 0.5 },
      backend,
    });
    expectClose(free.scores, [0.5 * S], 1e-14);
    expectClose(free.scoreGrads, [(2 * S) / 3, -S / 3, (0.5 * S) / 3], 1e-14);
    const clipped = ratioScoresSync(inputs, { score: { kind: 'sequenceRatio' }, backend }); // 1.0004 on the positive side
    expectClose(clipped.scores, [(2 * 1.0004 - S + 0.5 * 1.0004) / 3], 1e-14);
    expectClose(clipped.scoreGrads, [0, -S / 3, 0], 1e-14);
    expect([clipped.clippedLow[0], clipped.clippedHigh[0]]).toEqual([0, 2]);
  });

  test('long sequences: every token once, whatever the threads', () => {
    const tokens = 1000;
    const random = new Random(9);
    const logProbs = Float64Array.from({ length: tokens }, () => -Math.abs(random.normal()));
    const inputs = {
      logProbs,
      oldLogProbs: logProbs.map((l) => l + 0.3 * random.normal()),
      cuSeqlens: Int32Array.of(0, 31, 64, 97, 97, tokens), // about a warp, and many
      mask: Uint8Array.from(logProbs, () => (random.uniform() < 0.9 ? 1 : 0)),
      sides: undefined,
      tokenWeights: logProbs.map(() => random.normal()),
    };
    for (const score of SCORES) {
      const actual = ratioScoresSync(inputs, { score, backend });
      const expected = plainScores(score, inputs);
      expectClose(actual.scores, expected.scores, 1e-12, score.kind);
      expectClose(actual.scoreGrads, expected.scoreGrads, 1e-12, score.kind);
    }
  });

  const inputs = inputsOf(1, 0.2);
  const first = inputs.mask.indexOf(1);

  test.each<[name: string, change: object, score: RatioScore, code: string, message: string]>([
    [
      'geometricRatio',
      {},
      { kind: 'geometricRatio' },
      'ERR_RANGE',
      'tokenWeights: expected weights per sequence with geometricRatio',
    ],
    [
      'a wrong length',
      { tokenWeights: new Float64Array(1) },
      { kind: 'ratio' },
      'ERR_SHAPE',
      'tokenWeights: expected length',
    ],
    [
      'another type',
      { tokenWeights: [1] },
      { kind: 'ratio' },
      'ERR_DTYPE',
      'tokenWeights: expected Float32Array or Float64Array',
    ],
    [
      'NaN',
      { tokenWeights: inputs.tokenWeights.map((w, t) => (t === first ? NaN : w)) },
      { kind: 'ratio' },
      'ERR_NONFINITE',
      `NaN at index ${first}`,
    ],
  ])('refused: %s', (_name, change, score, code, message) => {
    expect(() => ratioScoresSync({ ...inputs, ...change } as never, { score, backend })).toThrow(
      rlvrError(code, message),
    );
  });

  test('float32 weights are float64 inside', () => {
    const tokenWeights = Float32Array.from(inputs.tokenWeights);
    const wide = { ...inputs, tokenWeights: Float64Array.from(tokenWeights) };
    expect(ratioScoresSync({ ...inputs, tokenWeights }, { backend })).toEqual(ratioScoresSync(wide, { backend }));
  });
});
