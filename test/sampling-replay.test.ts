// Spec section 11: the token level over what a sampler left of the vocabulary.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TOKEN_TOLERANCE } from '../bench/problems/tolerances.js';
import {
  conspoSync,
  forwardSync,
  grpo,
  grpoSync,
  type HostTensor,
  linearLogProbsSync,
  padded,
  tokenLogProbs,
  tokenLogProbsBackward,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectLogProbsClose } from './support/compare.js';
import { failureOf } from './support/errors.js';
import { replayGoldenCases } from './support/golden.js';
import { keeps, randomKept, replaced } from './support/kept.js';
import { expectGradient } from './support/losses.js';
import { fullBatch, NAMED_LOSSES } from './support/named-losses.js';
import { randomBatch } from './support/random.js';
import { DTYPES, FORMATS, numbers, unpadded } from './support/tensors.js';
import { oracleRows, randomRows } from './support/token-rows.js';

const gradientOf = (tensor: HostTensor) => numbers(unpadded(tensor), tensor.dtype ?? 'f32');

/** Batches of one vocabulary size, with what a sampler kept. */
function replayBatch(seed: number, vocab: number, groups = 4) {
  const batch = randomBatch(seed, { vocab, groups });
  return { ...batch, ...randomKept(seed, batch.targets, vocab) };
}

/** The same without replay: what was not kept is banned. */
function banned<B extends ReturnType<typeof replayBatch>>({ keptIds, cuKept, ...batch }: B, vocab: number) {
  return { ...batch, logits: replaced(batch.logits, { keptIds, cuKept }, vocab, -Infinity) };
}

describeBackends('sampling replay', (backend) => {
  test.each(replayGoldenCases())('%s', async (_name, { batch, temperature, gradLogProbs, expected }) => {
    const { logits, targets, keptIds, cuKept } = batch;
    const inputs = { logits, targets, keptIds, cuKept };
    const { logProbs, logSumExp } = await tokenLogProbs(inputs, { temperature, backend });
    expectLogProbsClose(logProbs, expected.logProbs);
    expectClose(logSumExp, expected.logSumExp, 1e-6);
    const upstream = { ...inputs, logSumExp, gradLogProbs };
    const { gradLogits } = await tokenLogProbsBackward(upstream, { temperature, backend });
    expectClose(gradLogits, expected.gradLogits, 2e-6);
  });

  describe.each(DTYPES)('%s, against float64 of banned logits', (dtype) => {
    const tolerance = TOKEN_TOLERANCE.gradient[dtype];

    test.each([1, 2, 9, 33, 300, 5000])('V = %i, odd row stride, in place and out', (vocab) => {
      const tokens = vocab > 1000 ? 6 : 17;
      const rows = randomRows(vocab, tokens, vocab, { dtype, padding: 3 });
      const { logits, targets, gradLogProbs, gradEntropy } = rows;
      for (const [temperature, share] of [
        [1, 0.02],
        [0.7, 0.6],
      ]) {
        const kept = randomKept(vocab, targets, vocab, share);
        const inputs = { logits, targets, ...kept };
        const forward = tokenLogProbsSync(inputs, { temperature, entropy: true, backend });
        const values = replaced(rows.values, kept, vocab, -Infinity);
        const expected = oracleRows({ ...rows, values }, temperature);
        expectLogProbsClose(forward.logProbs, expected.logProbs);
        expectClose(forward.logSumExp, expected.logSumExp, 1e-6, 'logSumExp');
        expectClose(forward.entropy!, expected.entropy, 1e-6, 'entropy');
        const both = { ...inputs, gradLogProbs, gradEntropy, logSumExp: forward.logSumExp, entropy: forward.entropy };
        const { gradLogits } = tokenLogProbsBackwardSync(both, { temperature, backend });
        expectClose(gradientOf(gradLogits), expected.gradLogitsWithEntropy, tolerance, 'with entropy');
        const policy = { ...both, gradEntropy: undefined };
        const fresh = tokenLogProbsBackwardSync(policy, { temperature, backend }).gradLogits;
        expectClose(gradientOf(fresh), expected.gradLogits, tolerance, 'gradLogits');
        const own: HostTensor = { ...logits, data: logits.data.slice() };
        const inPlace = { temperature, backend, gradient: 'in-place' } as const;
        expect(tokenLogProbsBackwardSync({ ...policy, logits: own }, inPlace).gradLogits).toBe(own);
        expect(unpadded(own)).toEqual(unpadded(fresh));
        expect(own.data.filter((_, i) => i % (vocab + 3) >= vocab)).toEqual(
          logits.data.filter((_, i) => i % (vocab + 3) >= vocab),
        );
      }
    });

    test('what is not kept is not read: it may be anything, and gets 0', () => {
      const [tokens, vocab] = [10, 50];
      const rows = randomRows(1, tokens, vocab, { dtype });
      const kept = randomKept(2, rows.targets, vocab);
      const spoiled = rows.logits.data.map((x, i) =>
        keeps(kept, Math.floor(i / vocab), i % vocab) ? x : FORMATS[dtype].nan,
      ) as Float32Array;
      const inputs = { ...rows, gradEntropy: undefined, ...kept };
      const clean = tokenLogProbsSync(inputs, { backend });
      const logits = { ...rows.logits, data: spoiled };
      const dirty = tokenLogProbsSync({ ...inputs, logits }, { backend });
      expect(dirty).toEqual(clean);
      const { logSumExp } = clean;
      const { gradLogits } = tokenLogProbsBackwardSync({ ...inputs, logits, logSumExp }, { backend });
      expect(gradLogits).toEqual(tokenLogProbsBackwardSync({ ...inputs, logSumExp }, { backend }).gradLogits);
      gradientOf(gradLogits).forEach((value, i) => {
        if (!keeps(kept, Math.floor(i / vocab), i % vocab)) expect(value).toBe(0);
      });
    });
  });

  test('all ids kept, or none named: the whole vocabulary', () => {
    const [tokens, vocab] = [6, 77];
    const rows = randomRows(3, tokens, vocab);
    const all = {
      keptIds: Int32Array.from({ length: tokens * vocab }, (_, k) => k % vocab),
      cuKept: Int32Array.from({ length: tokens + 1 }, (_, t) => t * vocab),
    };
    const none = { keptIds: new Int32Array(0), cuKept: new Int32Array(tokens + 1) };
    const plain = tokenLogProbsSync(rows, { entropy: true, backend });
    expect(tokenLogProbsSync({ ...rows, ...none }, { entropy: true, backend })).toEqual(plain);
    const upstream = { ...rows, gradEntropy: undefined, logSumExp: plain.logSumExp };
    const { gradLogits } = tokenLogProbsBackwardSync(upstream, { backend });
    expect(tokenLogProbsBackwardSync({ ...upstream, ...none }, { backend }).gradLogits).toEqual(gradLogits);
    const kept = tokenLogProbsSync({ ...rows, ...all }, { entropy: true, backend });
    expectLogProbsClose(kept.logProbs, plain.logProbs);
    expectClose(kept.entropy!, plain.entropy!, 1e-6);
  });

  test('one id kept: its log-prob is 0, and there is no gradient', () => {
    const { logits, targets, gradLogProbs } = randomRows(4, 5, 9);
    const inputs = { logits, targets, keptIds: targets, cuKept: Int32Array.from([0, 1, 2, 3, 4, 5]) };
    const { logProbs, logSumExp, entropy } = tokenLogProbsSync(inputs, { entropy: true, backend });
    expect([...logProbs, ...entropy!]).toEqual(new Array(10).fill(0));
    const { gradLogits } = tokenLogProbsBackwardSync({ ...inputs, logSumExp, gradLogProbs }, { backend });
    expectClose(gradientOf(gradLogits), new Float32Array(45), 0);
  });

  test('peaked rows keep their precision, and logits may be far from 0', () => {
    const vocab = 400;
    const keptIds = Int32Array.from({ length: 40 }, (_, k) => 10 * k);
    for (const center of [0, 3e4, -3e8, 3e30]) {
      const gap = Math.max(25, Math.abs(center) * 1e-6);
      const logits = new Float32Array(vocab).fill(Math.fround(center - gap)).fill(Infinity, 1, 10);
      logits[370] = center;
      const inputs = { logits, targets: Int32Array.of(370), keptIds, cuKept: Int32Array.of(0, 40) };
      const [logProb] = tokenLogProbsSync(inputs, { backend }).logProbs;
      expectCloseNumber(logProb, -Math.log1p(39 * Math.exp(logits[0] - logits[370])), 1e-6, 1e-30); // floats end at 1e-38
    }
  });

  test('kept logits that are not finite are found, also by a loss', async () => {
    const [tokens, vocab] = [9, 20];
    const rows = randomRows(6, tokens, vocab);
    const kept = randomKept(7, rows.targets, vocab);
    const at = (t: number) => t * vocab + kept.keptIds[kept.cuKept[t]];
    const data = rows.logits.data as Float32Array;
    data[at(2)] = NaN;
    data[at(6)] = Infinity;
    data[7 * vocab + rows.targets[7]] = -Infinity;
    data.fill(-Infinity, 8 * vocab, 9 * vocab);
    const inputs = { ...rows, ...kept };
    expect(await failureOf(() => tokenLogProbsSync(inputs, { backend }))).toMatchObject({
      code: 'ERR_NONFINITE',
      message: expect.stringMatching(/4 non-finite row\(s\), the first at row 2$/),
    });
    const skipped = tokenLogProbsSync(inputs, { onNonFinite: 'skip', entropy: true, backend });
    expect(skipped.nonFiniteTokens).toBe(4);
    expect(Array.from(skipped.mask!)).toEqual([1, 1, 0, 1, 1, 1, 0, 0, 0]);
    const batch = {
      ...inputs,
      cuSeqlens: Int32Array.of(0, 5, 9),
      cuGroups: Int32Array.of(0, 2),
      rewards: Float32Array.of(0, 1),
    };
    expect(grpoSync(batch, { onNonFinite: 'skip', backend }).metrics.nonFiniteTokens).toBe(4);
    expect(await failureOf(() => grpoSync(batch, { backend }))).toMatchObject({ code: 'ERR_NONFINITE' });
  });

  test('a gradient beyond float32 is refused, and nothing is written', async () => {
    const { logits, targets } = randomRows(8, 5, 30);
    const kept = randomKept(9, targets, 30);
    const { logSumExp } = tokenLogProbsSync({ logits, targets, ...kept }, { backend });
    const out = new Float32Array(150).fill(7);
    for (const [value, row] of [
      [1e39, 1],
      [3e38, 3],
    ]) {
      const gradLogProbs = new Float64Array(5);
      gradLogProbs[row] = value;
      const options = { gradient: { out }, backend, temperature: 0.5 };
      const inputs = { logits: logits.data as Float32Array, targets, ...kept, logSumExp, gradLogProbs };
      const error = await failureOf(() => tokenLogProbsBackwardSync(inputs, options));
      expect(error).toMatchObject({ code: 'ERR_NONFINITE', message: expect.stringContaining(`at row ${row}`) });
      expect(out.every((x) => x === 7)).toBe(true);
    }
  });

  test('any kept set means what banning the others means', () => {
    fc.assert(
      fc.property(
        fc.nat(1e6),
        fc.integer({ min: 1, max: 70 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (seed, vocab, share) => {
          const rows = randomRows(seed, 5, vocab);
          const kept = randomKept(seed, rows.targets, vocab, share);
          const { logProbs, logSumExp } = tokenLogProbsSync({ ...rows, ...kept }, { backend });
          const values = replaced(rows.values, kept, vocab, -Infinity);
          const expected = oracleRows({ ...rows, values }, 1);
          expectLogProbsClose(logProbs, expected.logProbs);
          const upstream = { ...rows, ...kept, gradEntropy: undefined, logSumExp };
          const { gradLogits } = tokenLogProbsBackwardSync(upstream, { backend });
          expectClose(gradientOf(gradLogits), expected.gradLogits, 2e-6);
        },
      ),
      { numRuns: backend === 'cuda' ? 10 : 40 },
    );
  });

  describe('losses', () => {
    test.each(NAMED_LOSSES.map((loss) => [loss.name, loss] as const))('%s', async (_name, loss) => {
      const batch = fullBatch(5, { groups: 3 });
      const width = batch.logits.length / batch.targets.length;
      const kept = randomKept(5, batch.targets, width, 0.5);
      const options = { ...loss.options, entropyCoef: 0.01, entropy: true, backend };
      const taken = loss.over === 'groups' ? { ...loss.options, entropy: true, backend } : options;
      const result = loss.runSync({ ...batch, ...kept }, taken);
      const other = { ...batch, logits: replaced(batch.logits, kept, width, -Infinity) };
      const expected = loss.runSync(other, { ...taken, backend: 'reference' });
      expectClose([result.loss], [expected.loss], 1e-5);
      expectClose(result.gradLogits, expected.gradLogits, 1e-5);
      expectClose(result.entropy!, expected.entropy!, 1e-6);
      expect(await loss.run({ ...batch, ...kept }, taken)).toEqual(result);
    });

    test('in place, deferred, into an array, and by parts', () => {
      const vocab = 30;
      const batch = replayBatch(10, vocab);
      const { gradLogits } = conspoSync(batch, { backend });
      const out = new Float32Array(batch.logits.length).fill(7);
      expect(conspoSync(batch, { backend, gradient: { out } }).gradLogits).toBe(out);
      expect(out).toEqual(gradLogits);
      const deferred = conspoSync(
        { ...batch, logits: batch.logits.slice() },
        { backend, gradient: { deferred: true } },
      );
      expectClose(
        deferred.gradLogits.map((x, i) => x * deferred.rowScale[Math.floor(i / vocab)]),
        gradLogits,
        2e-6,
      );
      const own = { ...batch, logits: batch.logits.slice() };
      expect(conspoSync(own, { backend, gradient: 'in-place' }).gradLogits).toBe(own.logits);
      expect(own.logits).toEqual(gradLogits);
      const forward = forwardSync(batch, 'logLikelihood', { backend });
      const gradScores = new Float64Array(forward.scores.length).fill(1);
      const without = forwardSync(banned(batch, vocab), 'logLikelihood', { backend });
      expectClose(forward.scores, without.scores, 1e-6);
      expectClose(forward.backward(gradScores).gradLogits, without.backward(gradScores).gradLogits, 2e-6);
    });

    test('finite differences', () => {
      const batch = replayBatch(11, 6);
      expectGradient(backend, batch, (given, on) => conspoSync(given, { tau: 1, temperature: 0.9, backend: on }));
    });

    test('the arrays may change once they were copied', async () => {
      const batch = replayBatch(12, 25);
      const expected = grpoSync(batch, { backend });
      const own = structuredClone(batch);
      const pending = grpo(own, { backend, copyInputs: true });
      own.keptIds.fill(0);
      own.cuKept.fill(0);
      expect(await pending).toEqual(expected);
    });

    test('a padded batch: cuKept goes over all of its tokens', () => {
      const logits = Float32Array.of(1, 2, 3, 4, 5, 6, 1, 1, 1, 2, 0, 1);
      const targets = Int32Array.of(2, 0, 1, 0);
      const [keptIds, cuKept] = [Int32Array.of(1, 2, 0, 1, 0, 2), Int32Array.of(0, 2, 2, 4, 6)];
      const fields = { logits, targets, mask: Uint8Array.of(1, 0, 1, 1), keptIds, cuKept };
      const others = { rewards: Float32Array.of(1, 0), cuGroups: Int32Array.of(0, 2) };
      const { logProbs } = conspoSync(padded({ shape: [2, 2], ...fields, ...others }), { logProbs: true, backend });
      expectClose(logProbs!, [-Math.log1p(Math.exp(-1)), 0, -Math.log(2), -Math.log1p(Math.exp(-1))], 1e-6);
    });
  });

  describe('refused', () => {
    const inputs = {
      logits: new Float32Array(12),
      targets: Int32Array.of(1, 0, 3),
      keptIds: Int32Array.of(0, 1, 0, 2, 3),
      cuKept: Int32Array.of(0, 2, 2, 5),
    };
    const ids = (...list: number[]) => ({ keptIds: Int32Array.from(list) });

    test.each<[what: string, given: object, code: string, message: string]>([
      ['ids alone', { cuKept: undefined }, 'ERR_DTYPE', 'cuKept: expected Int32Array, got undefined'],
      ['offsets alone', { keptIds: undefined }, 'ERR_DTYPE', 'keptIds: expected Int32Array, got undefined'],
      [
        'ids of another type',
        { keptIds: new Uint32Array(5) },
        'ERR_DTYPE',
        'keptIds: expected Int32Array, got Uint32Array of length 5',
      ],
      [
        'too few offsets',
        { cuKept: Int32Array.of(0, 2, 5) },
        'ERR_SHAPE',
        'cuKept: expected length 4 (T + 1), got length 3',
      ],
      [
        'an end beyond the ids',
        { cuKept: Int32Array.of(0, 2, 2, 6) },
        'ERR_SHAPE',
        'cuKept: expected a last offset of 5 (K, the length of keptIds), got 6',
      ],
      [
        'decreasing offsets',
        { cuKept: Int32Array.of(0, 2, 1, 5) },
        'ERR_RANGE',
        'cuKept: expected offsets that do not decrease, got 1 after 2 at index 2',
      ],
      [
        'an id beyond the vocabulary',
        ids(0, 1, 0, 3, 4),
        'ERR_RANGE',
        'keptIds: expected ids in [0, 4), got 4 at index 4',
      ],
      ['a negative id', ids(-1, 1, 0, 2, 3), 'ERR_RANGE', 'keptIds: expected ids in [0, 4), got -1 at index 0'],
      [
        'an id twice',
        ids(1, 1, 0, 2, 3),
        'ERR_RANGE',
        'keptIds: expected ids that ascend for each token, got 1 after 1 at index 1',
      ],
      [
        'ids in another order',
        ids(0, 1, 3, 2, 0),
        'ERR_RANGE',
        'keptIds: expected ids that ascend for each token, got 2 after 3 at index 3',
      ],
      [
        'a target that was not kept',
        ids(0, 2, 0, 2, 3),
        'ERR_RANGE',
        'keptIds: expected the target 1 among the ids of token 0, got others only',
      ],
    ])('%s', async (_what, given, code, message) => {
      const batch = {
        ...inputs,
        ...given,
        cuSeqlens: Int32Array.of(0, 3),
        cuGroups: Int32Array.of(0, 1),
        rewards: Float32Array.of(1),
      };
      expect(await failureOf(() => tokenLogProbsSync({ ...inputs, ...given }, { backend }))).toMatchObject({
        code,
        message,
      });
      expect(await failureOf(() => grpoSync(batch, { backend }))).toMatchObject({ code, message });
      const upstream = { logSumExp: new Float64Array(3), gradLogProbs: new Float64Array(3) };
      const backward = () => tokenLogProbsBackwardSync({ ...inputs, ...upstream, ...given }, { backend });
      expect(await failureOf(backward)).toMatchObject({ code, message });
    });

    test('nothing of a masked token is checked but its offsets', () => {
      const masked = { ...inputs, ...ids(0, 7, 3, 2, 0), mask: Uint8Array.of(0, 1, 0) };
      expect(tokenLogProbsSync(masked, { backend }).logProbs[1]).toBeCloseTo(-Math.log(4), 6);
    });

    test('log-probs and hidden states, which have no logits to leave out', async () => {
      const { keptIds, cuKept, targets } = inputs;
      const sequences = {
        cuSeqlens: Int32Array.of(0, 3),
        cuGroups: Int32Array.of(0, 1),
        rewards: Float32Array.of(1),
        keptIds,
        cuKept,
      };
      const ofLogProbs = { ...sequences, logProbs: new Float64Array(3) } as never;
      const layer = { hidden: new Float32Array(6), weight: new Float32Array(8), targets };
      const refusal = (got: string) => ({
        code: 'ERR_RANGE',
        message: `keptIds: expected a batch of logits, got ${got}`,
      });
      expect(await failureOf(() => grpoSync(ofLogProbs, { backend }))).toMatchObject(refusal('log-probs'));
      expect(await failureOf(() => grpoSync({ ...sequences, ...layer } as never, { backend }))).toMatchObject(
        refusal('hidden states'),
      );
      const op = () => linearLogProbsSync({ ...layer, keptIds, cuKept } as never, { backend });
      expect(await failureOf(op)).toMatchObject(refusal('hidden states'));
    });
  });
});
