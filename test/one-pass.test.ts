// The gradient written while the logits are read (spec section 9): with the scale of each row left to the caller, and for losses whose
// gradient of a token follows from its own log-prob. Everything but the gradient is as from two passes; the gradient is, within a
// rounding.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  advantageWeighted,
  type BackendName,
  conspo,
  conspoSync,
  type DType,
  defineLoss,
  grpo,
  grpoSync,
  type HostTensor,
} from '../lib/index.js';
import { BACKENDS, describeBackends } from './support/backends.js';
import { expectClose } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import {
  type AnyOptions,
  byName,
  fromLogProbs,
  fullBatch,
  NAMED_LOSSES,
  POLICY_LOSSES,
} from './support/named-losses.js';
import { DTYPES, FORMATS, hostTensor, numbers, unpadded } from './support/tensors.js';

const VOCAB = 37;
const ROUNDING: Record<DType, number> = { f32: 2 ** -23, bf16: FORMATS.bf16.ulp, f16: FORMATS.f16.ulp };

/** A batch in each element type, with padding between the rows. */
function typedBatch(seed: number, dtype: DType, vocab = VOCAB) {
  const batch = fullBatch(seed, { vocab, groups: 4 });
  return { ...batch, logits: hostTensor(batch.logits, [batch.targets.length, vocab], dtype, 3) };
}

/** Those of [T, V], row t times scale t. */
function scaled({ data, shape, dtype = 'f32', rowStride }: HostTensor, rowScale: Float64Array): Float64Array {
  const values = numbers(unpadded({ data, shape, dtype, rowStride: rowStride ?? shape[1] }), dtype);
  return Float64Array.from(values, (value, i) => value * rowScale[Math.floor(i / shape[1])]);
}

const plain = ({ data, shape, dtype = 'f32', rowStride }: HostTensor) =>
  numbers(unpadded({ data, shape, dtype, rowStride: rowStride ?? shape[1] }), dtype);

const copyOf = (tensor: HostTensor): HostTensor => ({ ...tensor, data: tensor.data.slice() });

/** The emulation is slow: there, each variant with every type and with every loss, but not with each pair of the two. */
function inTurn<T>(variants: readonly T[], backend: BackendName, dtype: DType, loss: number): readonly T[] {
  const turn = DTYPES.indexOf(dtype) + loss;
  return backend === 'cuda' ? variants.filter((_, v) => (v + turn) % 3 === 0) : variants;
}

describeBackends('a deferred row scale', (backend) => {
  describe.each(byName(NAMED_LOSSES))('%s', (name, { options, runSync }) => {
    test.each(DTYPES)('%s: onehot - p in place, and what to multiply it with', (dtype) => {
      const variants = [{}, { temperature: 0.7 }, { entropy: true, logProbs: true, onNonFinite: 'skip' as const }];
      const loss = NAMED_LOSSES.findIndex((one) => one.name === name);
      for (const more of inTurn(variants, backend, dtype, loss)) {
        const batch = typedBatch(3, dtype);
        const { gradLogits: expected, ...values } = runSync(batch, { ...options, ...more, backend });
        const logits = copyOf(batch.logits);
        const given = { ...options, ...more, backend, gradient: { deferred: true } as const };
        const { gradLogits, rowScale, ...same } = runSync({ ...batch, logits }, given);
        expect(same).toEqual(values);
        expect(gradLogits).toBe(logits);
        expectClose(scaled(gradLogits, rowScale), plain(expected), 2 * ROUNDING[dtype]);
        const rows = unpadded(gradLogits);
        const isZero = (t: number) => rows.subarray(t * VOCAB, (t + 1) * VOCAB).every((bits) => bits === 0);
        for (let t = 0; t < batch.targets.length; t++) expect(isZero(t), `row ${t}`).toBe(rowScale[t] === 0);
        for (let t = 0; t + 1 < batch.targets.length; t++)
          expect(gradLogits.data[t * (VOCAB + 3) + VOCAB + 1]).toEqual(FORMATS[dtype].nan); // the padding
      }
    });
  });

  test('into another array, the logits as they were; awaited, and on copies', async () => {
    const batch = typedBatch(4, 'bf16');
    const before = batch.logits.data.slice();
    const out = hostTensor(new Float64Array(batch.targets.length * VOCAB), [batch.targets.length, VOCAB], 'bf16', 1);
    const expected = conspoSync(batch, { backend, gradient: { deferred: true, out } });
    const written = unpadded(out);
    expect(batch.logits.data).toEqual(before);
    expect(expected.gradLogits).toBe(out);
    const over = copyOf(batch.logits);
    const inPlace = await conspo(
      { ...batch, logits: over },
      { backend, gradient: { deferred: true }, copyInputs: true },
    );
    expect(inPlace.gradLogits).toBe(over);
    expect([unpadded(over), inPlace.rowScale]).toEqual([written, expected.rowScale]);
    out.data.fill(0);
    const again = await conspo(batch, { backend, gradient: { deferred: true, out }, copyInputs: true });
    expect([unpadded(out), again.rowScale]).toEqual([written, expected.rowScale]);
  });

  test('rows without a gradient become 0 whatever they hold', () => {
    const batch = fullBatch(6, { vocab: VOCAB });
    const spoiled = batch.logits.slice();
    spoiled.fill(NaN, 0, VOCAB);
    const mask = batch.mask.slice();
    mask[0] = 0;
    const { gradLogits, rowScale } = conspoSync(
      { ...batch, logits: spoiled, mask },
      { backend, gradient: { deferred: true } },
    );
    expect(rowScale[0]).toBe(0);
    expect(Array.from(gradLogits.subarray(0, VOCAB))).toEqual(Array(VOCAB).fill(0));
  });

  test('where it cannot be', async () => {
    const batch = fullBatch(7);
    const before = batch.logits.slice();
    const gradient = { deferred: true } as const;
    const refused = (expected: string) =>
      rlvrError('ERR_RANGE', new RegExp(`^gradient\\.deferred: expected ${expected}`));
    await expect(grpo(batch, { backend, gradient, entropyCoef: 0.1 })).rejects.toEqual(refused('a loss without'));
    expect(() => conspoSync(batch, { backend, gradient: { deferred: 'yes' } as never })).toThrow(refused('true or'));
    const given = fromLogProbs(batch);
    expect(() => conspoSync(given, { backend, gradient: gradient as never })).toThrow(refused('a batch of logits'));
    expect(batch.logits).toEqual(before);
  });
});

/** Where the exponentials of one read do not serve for the gradient, or only just. */
const ROWS: [name: string, logit: (v: number, random: Random) => number][] = [
  ['plain', (_v, random) => 3 * random.normal()],
  ['rising far beyond the range of float32', (v) => v / 20],
  ['falling', (v) => -v / 20],
  ['-Infinity at first', (v, random) => (v < 4000 ? -Infinity : random.normal())],
  ['-Infinity in between', (v, random) => (v > 1500 && v < 4300 ? -Infinity : random.normal())],
  ['far from 0', (_v, random) => 90_000 + random.normal()],
  ['one token nearly certain', (v, random) => (v === 4321 ? 40 : random.normal())],
  ['a late maximum', (v, random) => (v === 5998 ? 300 : random.normal())],
];

describeBackends('a gradient with the forward pass', (backend) => {
  describe.each(byName(POLICY_LOSSES))('%s', (name, { options, runSync }) => {
    test.each(DTYPES)('%s: as by two passes', (dtype) => {
      const variants: AnyOptions[] = [
        {},
        { temperature: 1.3 },
        { klCoef: 0.2 },
        { klCoef: 0.2, klEstimator: 'k2', aggregation: 'token-mean' as const },
        { klCoef: 0.2, klWeight: 'ratio' as const, klMax: 0.1 },
        { klCoef: 0.2, klEstimator: 'k1+', klReference: 'old' as const },
        { rolloutCorrection: { level: 'token' as const, max: 1.1 } },
        { rolloutCorrection: { level: 'sequence' as const, mode: 'mask' as const } },
        { advantage: { estimator: 'opo' as const }, entropy: true },
        { advantage: { estimator: 'reinforcePlusPlus' as const }, perToken: true },
      ];
      const loss = POLICY_LOSSES.findIndex((one) => one.name === name);
      for (const more of inTurn(variants, backend, dtype, loss)) {
        if (name === 'gmpo' && more.rolloutCorrection?.level === 'token') continue; // has no terms of tokens
        const batch = typedBatch(11, dtype);
        const one = runSync(batch, { ...options, ...more, backend });
        const two = runSync(batch, { ...options, ...more, backend, onNonFinite: 'skip' });
        const { gradLogits, ...values } = one;
        const { gradLogits: expected, ...others } = two;
        expect(values).toEqual(others);
        expectClose(plain(gradLogits), plain(expected), ROUNDING[dtype]);
      }
    });
  });

  test('on-policy, per-token advantages, scores of log-probs', () => {
    const { oldLogProbs: _old, rolloutLogProbs: _rollout, ...batch } = fullBatch(12, { vocab: VOCAB });
    const random = new Random(5);
    const advantages = Float64Array.from(batch.targets, () => random.normal());
    const reinforce = defineLoss({ score: 'logLikelihood', objective: advantageWeighted });
    for (const run of [grpoSync, reinforce.runSync] as (typeof grpoSync)[]) {
      const tokenWeights = advantages.map(Math.abs);
      for (const given of [batch, { ...batch, advantages }, { ...batch, tokenWeights }]) {
        const { gradLogits, ...values } = run(given, { backend });
        const { gradLogits: expected, ...others } = run(given, { backend, onNonFinite: 'skip' });
        expect(values).toEqual(others);
        expectClose(gradLogits, expected, ROUNDING.f32);
      }
    }
  });

  test.each(ROWS)('rows %s', (_name, logit) => {
    const vocab = 6001;
    const random = new Random(8);
    const targets = Int32Array.of(4321, 5998, 5000, 4999);
    const values = Float64Array.from({ length: 4 * vocab }, (_, i) => logit(i % vocab, random));
    for (const dtype of DTYPES) {
      if (dtype === 'f16' && values.some((value) => Number.isFinite(value) && Math.abs(value) > 65504)) continue;
      const sequences = {
        cuSeqlens: Int32Array.of(0, 2, 4),
        cuGroups: Int32Array.of(0, 2),
        rewards: Float32Array.of(1, 0),
      };
      const batch = { logits: hostTensor(values, [4, vocab], dtype), targets, ...sequences };
      for (const temperature of [1, 0.25]) {
        const exact = grpoSync(batch, { backend: 'reference', temperature });
        const { gradLogits } = grpoSync(batch, { backend, temperature });
        const tolerance = dtype === 'f32' ? 2e-6 : FORMATS[dtype].ulp;
        for (let t = 0; t < 4; t++) {
          const row = (tensor: HostTensor) => plain(tensor).subarray(t * vocab, (t + 1) * vocab);
          expectClose(row(gradLogits), row(exact.gradLogits), tolerance, `row ${t}, ${dtype}`);
        }
      }
    }
  });

  test('non-finite logits: an error that names the row, or dropped', () => {
    const batch = fullBatch(13, { vocab: VOCAB });
    const t = batch.mask.indexOf(1);
    batch.logits[t * VOCAB + 4] = NaN;
    const message = new RegExp(`^logits: .*1 non-finite.*row ${t}$`);
    const out = new Float32Array(batch.logits.length);
    for (const gradient of ['new', { out }] as const) {
      expect(() => grpoSync(batch, { backend, gradient })).toThrow(rlvrError('ERR_NONFINITE', message));
    }
    const { gradLogits, metrics } = grpoSync(batch, { backend, onNonFinite: 'skip' });
    expect(metrics.nonFiniteTokens).toBe(1);
    expect(Array.from(gradLogits.subarray(t * VOCAB, (t + 1) * VOCAB))).toEqual(Array(VOCAB).fill(0));
  });

  test('a gradient beyond float32 is refused', () => {
    const { rolloutLogProbs: _, ...batch } = fullBatch(14, { vocab: VOCAB });
    const advantages = new Float64Array(batch.cuSeqlens.length - 1).fill(1e300);
    const refusal = rlvrError('ERR_NONFINITE', /^gradient: expected a finite gradient of every logit/);
    expect(() => grpoSync({ ...batch, advantages }, { backend })).toThrow(refusal);
  });
});

test.runIf(BACKENDS.includes('cpu'))('the same bits wherever the gradient goes', () => {
  const backend: BackendName = 'cpu';
  for (const dtype of DTYPES) {
    const batch = typedBatch(15, dtype, 5003);
    const tokens = batch.targets.length;
    const fresh = unpadded(grpoSync(batch, { backend }).gradLogits);
    for (const padding of [0, 1, 6]) {
      const out = hostTensor(new Float64Array(tokens * 5003), [tokens, 5003], dtype, padding);
      expect(unpadded(grpoSync(batch, { backend, gradient: { out } }).gradLogits)).toEqual(fresh);
    }
    expect(unpadded(grpoSync(batch, { backend, gradient: 'in-place' }).gradLogits)).toEqual(fresh);
  }
});
