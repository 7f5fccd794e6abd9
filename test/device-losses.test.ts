// Every loss and op on logits in device memory, against the reference on the same numbers.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TOKEN_TOLERANCE } from '../bench/problems/tolerances.js';
import { type Device, DeviceTensor, openDevice } from '../lib/cuda/index.js';
import {
  type AsyncOptions,
  type BackendOptions,
  conspo,
  conspoSync,
  disco,
  discoSync,
  forward,
  forwardSync,
  type GradientOption,
  type GrpoOptions,
  grpo,
  grpoSync,
  type Logits,
  type LossValue,
  tokenLogProbs,
  tokenLogProbsBackward,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { expectClose, expectCloseNumber, expectLogProbsClose } from './support/compare.js';
import { describeDevices, paddedTensor, roundedBatch, writtenPadding } from './support/device.js';
import { randomBatch } from './support/random.js';
import { DTYPES, FORMATS, nanArray, numbers } from './support/tensors.js';

type TestBatch = Omit<ReturnType<typeof randomBatch>, 'logits'> & { logits: Logits };
type Choice = { gradient?: GradientOption<Logits>; onNonFinite?: 'skip' };
type Value = Pick<LossValue, 'loss' | 'scores'> & Partial<LossValue> & { gradLogits?: Logits };

interface Loss {
  run(batch: TestBatch, options: Choice & AsyncOptions): Promise<Value>;
  runSync(batch: TestBatch, options: Choice & BackendOptions): Value;
  /** Tolerance of the gradient in float32 (spec section 8). */
  tolerance?: (logProbs: Float64Array) => number;
  /** Reads something of the device before it enqueues the gradient. */
  readsBetween?: true;
  /** Its gradient is written in one pass (spec section 9), so that an error leaves the memory unspecified. */
  onePass?: true;
}

function grpoWith(fixed: GrpoOptions): Loss {
  return {
    ...(fixed.form === 'discriminative' ? {} : { onePass: true }),
    run: (batch, options) => grpo(batch, { ...fixed, ...options }),
    runSync: (batch, options) => grpoSync(batch, { ...fixed, ...options }),
  };
}

const CONSPO = { tau: 0.3, margin: 0.05, temperature: 1.2, entropy: true, logProbs: true };
const MASKS = {
  offPolicyMask: { delta: 0.05 },
  entropyQuantile: 0.4,
  clipCov: { ratio: 0.2, low: 0 },
  klCov: { ratio: 0.2 },
  distillation: { coef: 0.5 },
  perToken: true,
  advantage: { estimator: 'reinforcePlusPlusBaseline' },
} as const;
const taught = (batch: TestBatch) => ({ ...batch, teacherLogProbs: batch.refLogProbs });
const weighted = (batch: TestBatch) => ({ ...batch, tokenWeights: batch.refLogProbs.map((_, t) => (t % 3) / 2) });
const SOFT_GATE = { kind: 'softGate' } as const;

/** A loss that a user might write: sum of (i + 1) s_i^2 / 2. */
function ownObjective(scores: Float64Array) {
  const gradScores = scores.map((s, i) => (i + 1) * s);
  return { loss: scores.reduce((sum, s, i) => sum + (gradScores[i] * s) / 2, 0), gradScores };
}

const LOSSES: Record<string, Loss> = {
  conspo: {
    run: (batch, options) => conspo(batch, { ...CONSPO, ...options }),
    runSync: (batch, options) => conspoSync(batch, { ...CONSPO, ...options }),
    tolerance: (logProbs) => 2e-6 * Math.max(1, Math.max(...logProbs.map(Math.abs)) / CONSPO.tau),
  },
  grpo: grpoWith({}),
  'grpo, KL, token-mean': grpoWith({ klCoef: 0.1, aggregation: 'token-mean', logProbs: true }),
  'grpo, opo': grpoWith({ advantage: { estimator: 'opo' }, temperature: 0.8 }),
  'grpo, weights, in one pass': {
    onePass: true,
    run: (batch, options) => grpo(weighted(batch), options),
    runSync: (batch, options) => grpoSync(weighted(batch), options),
  },
  'grpo, masks and a teacher': {
    run: (batch, options) => grpo(taught(batch), { ...MASKS, ...options }),
    runSync: (batch, options) => grpoSync(taught(batch), { ...MASKS, ...options }),
    readsBetween: true,
  },
  'grpo, discriminative': grpoWith({ form: 'discriminative', entropy: true }),
  'disco, constrained': {
    run: (batch, options) => disco(batch, { klConstraint: { beta: 1 }, ...options }),
    runSync: (batch, options) => discoSync(batch, { klConstraint: { beta: 1 }, ...options }),
    readsBetween: true,
  },
  'own objective': {
    async run(batch, { gradient, ...options }) {
      const { scores, backward } = await forward(batch, SOFT_GATE, { ...options, sides: batch.rewards });
      const { loss, gradScores } = ownObjective(scores);
      return { loss, scores, ...(await backward(gradScores, { gradient })) };
    },
    runSync(batch, { gradient, ...options }) {
      const { scores, backward } = forwardSync(batch, SOFT_GATE, { ...options, sides: batch.rewards });
      const { loss, gradScores } = ownObjective(scores);
      return { loss, scores, ...backward(gradScores, { gradient }) };
    },
    readsBetween: true,
  },
};

/** The number of columns at which each way to call is tried: one for each element type. */
const WAYS_AT = { f32: 3, bf16: 258, f16: 1031 };

/** Everything of a result but the gradient. */
function values({ gradLogits: _, ...rest }: Value): Omit<Value, 'gradLogits'> {
  return rest;
}

function download(gradient: Logits | undefined): Float32Array | Uint16Array {
  if (gradient instanceof DeviceTensor) return gradient.downloadSync();
  return expect.fail('the gradient is no DeviceTensor');
}

describeDevices('losses on device tensors', () => {
  let device: Device;
  beforeAll(() => {
    device = openDevice();
  });
  afterAll(() => {
    device.dispose();
  });

  describe.each(Object.entries(LOSSES))('%s', (_name, { run, runSync, tolerance, onePass }) => {
    test.each(DTYPES)('%s agrees with the reference; the same bits whichever way', async (dtype) => {
      for (const [seed, vocab, groups] of [
        [3, 1, 4],
        [4, 3, 4],
        [5, 258, 4],
        [1, 1031, 1],
      ]) {
        const { host, batch } = roundedBatch(seed, { vocab, groups, dtype, padding: seed % 3 });
        const upload = () => device.uploadSync(host);
        const expected = runSync(batch, { backend: 'reference' });
        const { logProbs } = tokenLogProbsSync(batch, { temperature: 0.8, backend: 'reference' });
        const bound = dtype === 'f32' ? (tolerance?.(logProbs) ?? 2e-6) : FORMATS[dtype].ulp;

        const logits = upload();
        const first = runSync({ ...batch, logits }, {});
        expectCloseNumber(first.loss, expected.loss, tolerance?.(logProbs) ?? 2e-6, 1);
        expectClose(first.scores, expected.scores, 1e-6);
        for (const [name, value] of Object.entries(expected.metrics ?? {})) {
          expectCloseNumber(first.metrics?.[name as 'tokens'] ?? NaN, value, 1e-5, 1e-2);
        }
        const bits = download(first.gradLogits);
        expectClose(numbers(bits, dtype), expected.gradLogits as Float32Array, bound, 'gradient');
        expect(first.gradLogits).toMatchObject({ device, dtype, shape: logits.shape, rowStride: vocab });
        expect(first.gradLogits).not.toBe(logits);
        expect(logits.downloadSync(), 'the logits').toEqual(upload().downloadSync());
        if (vocab !== WAYS_AT[dtype]) continue;

        const again = await run({ ...batch, logits }, { gradient: 'new' });
        expect(values(again)).toEqual(values(first));
        expect(download(again.gradLogits)).toEqual(bits);

        for (const way of [run, runSync]) {
          const none = await way({ ...batch, logits }, { gradient: 'none' });
          expect(values(none)).toEqual(values(first));
          const out = device.uploadSync({ ...host, data: nanArray(dtype, host.data.length) });
          const given = await way({ ...batch, logits }, { gradient: { out } });
          expect(given.gradLogits).toBe(out);
          expect(values(given)).toEqual(values(first));
          expect(out.downloadSync()).toEqual(bits);
          const own = upload();
          const inPlace = await way({ ...batch, logits: own }, { gradient: 'in-place' });
          expect(inPlace.gradLogits).toBe(own);
          expect(values(inPlace)).toEqual(values(first));
          expect(own.downloadSync()).toEqual(bits);
        }
      }
    });

    test('no rows at all', async () => {
      const batch = { ...randomBatch(1, { vocab: 4, groups: 0 }), logits: device.empty([0, 4]) };
      for (const result of [await run(batch, {}), runSync(batch, { gradient: 'in-place' })]) {
        expect(result.loss).toBe(0);
        expect(download(result.gradLogits)).toEqual(new Float32Array(0));
      }
    });

    test('several at once, on one device and on two Device objects', async () => {
      const other = openDevice();
      // Each element type on each of the two.
      const jobs = Array.from({ length: 6 }, (_, i) => {
        const { host, batch } = roundedBatch(30 + i, { vocab: 20 + 7 * i, groups: 2, dtype: DTYPES[i % 3] });
        const alone = runSync({ ...batch, logits: device.uploadSync(host) }, {});
        return { host, batch, alone, bits: download(alone.gradLogits) };
      });
      const logits = await Promise.all(jobs.map(({ host }, i) => (i % 2 ? device : other).upload(host)));
      const pending = jobs.map(({ batch }, i) => run({ ...batch, logits: logits[i] }, { gradient: 'in-place' }));
      for (const [i, result] of (await Promise.all(pending)).entries()) {
        expect(values(result)).toEqual(values(jobs[i].alone));
        expect(result.gradLogits).toBe(logits[i]);
        expect(await logits[i].download()).toEqual(jobs[i].bits);
      }
      other.dispose();
    });

    test('a row that is not finite: the error names it and, but in one pass, nothing is written; or it is skipped', async () => {
      const { host, batch } = roundedBatch(9, { vocab: 40, dtype: 'bf16' });
      batch.mask.fill(1);
      host.data[2 * 40 + 5] = FORMATS.bf16.nan;
      host.data.fill(0xff80, 4 * 40, 5 * 40); // -Infinity
      for (const way of [run, runSync]) {
        const padded = paddedTensor(device, host);
        const logits = padded.tensor;
        const before = padded.whole.downloadSync();
        const call = async (choice: Choice) => way({ ...batch, logits }, choice);
        await expect(call({ gradient: 'in-place' })).rejects.toMatchObject({
          code: 'ERR_NONFINITE',
          message: expect.stringMatching(/^logits: .*2 non-finite row\(s\), the first at row 2$/),
        });
        if (onePass) device.uploadSync(host, { out: logits });
        expect(padded.whole.downloadSync()).toEqual(before);

        const kept = { ...batch, logits: numbers(host.data, 'bf16'), mask: batch.mask.slice() };
        kept.mask[2] = kept.mask[4] = 0;
        const expected = runSync(kept, { backend: 'reference' });
        const skipped = await call({ gradient: 'in-place', onNonFinite: 'skip' });
        expectCloseNumber(skipped.loss, expected.loss, 1e-5, 1);
        const { metrics } = skipped;
        if (metrics) expect(metrics).toMatchObject({ nonFiniteTokens: 2, tokens: batch.targets.length - 2 });
        const actual = numbers(download(skipped.gradLogits), 'bf16');
        expectClose(actual, expected.gradLogits as Float32Array, 2 * FORMATS.bf16.ulp);
        expect(actual.subarray(80, 120)).toEqual(new Float32Array(40));
        expect(writtenPadding(padded)).toBe(0);
      }
    });
  });

  test.each(Object.entries(LOSSES).filter(([, { readsBetween }]) => !readsBetween))(
    '%s is enqueued before the call returns',
    async (_name, { run, runSync }) => {
      for (const gradient of ['out', 'in-place'] as const) {
        const { host, batch } = roundedBatch(8, { vocab: 130 });
        const expected = download(runSync({ ...batch, logits: device.uploadSync(host) }, {}).gradLogits);
        const logits = device.uploadSync(host);
        const out = gradient === 'out' ? device.empty([batch.targets.length, 130]) : logits;
        const pending = run({ ...batch, logits }, { gradient: gradient === 'out' ? { out } : gradient });
        expect(out.downloadSync()).toEqual(expected);
        expect((await pending).gradLogits).toBe(out);
        expect(out.downloadSync()).toEqual(expected);
      }
    },
  );

  test.each(DTYPES)('token log-probs and their gradient, %s', async (dtype) => {
    for (const vocab of [1, 2, 33, 1025]) {
      const { host, batch } = roundedBatch(40 + vocab, { vocab, dtype });
      const { targets, mask } = batch;
      const options = { temperature: 0.7, entropy: true };
      const expected = tokenLogProbsSync(batch, { ...options, backend: 'reference' });
      const logits = device.uploadSync(host);
      const actual = tokenLogProbsSync({ logits, targets, mask }, options);
      expectLogProbsClose(actual.logProbs, expected.logProbs);
      expectClose(actual.logSumExp, expected.logSumExp, 1e-6);
      expectClose(actual.entropy!, expected.entropy!, 1e-6);
      expect(await tokenLogProbs({ logits, targets, mask }, options)).toEqual(actual);

      const gradients = { gradLogProbs: batch.oldLogProbs, gradEntropy: batch.refLogProbs };
      const upstream = { targets, mask, logSumExp: expected.logSumExp, entropy: expected.entropy, ...gradients };
      const inReference = { temperature: 0.7, backend: 'reference' } as const;
      const gradient = tokenLogProbsBackwardSync({ ...upstream, logits: batch.logits }, inReference).gradLogits;
      const out = device.empty(logits.shape, dtype);
      const pending = tokenLogProbsBackward({ ...upstream, logits }, { temperature: 0.7, gradient: { out } });
      const bits = out.downloadSync();
      expectClose(numbers(bits, dtype), gradient, TOKEN_TOLERANCE.gradient[dtype]);
      expect((await pending).gradLogits).toBe(out);
      const fresh = tokenLogProbsBackwardSync({ ...upstream, logits }, { temperature: 0.7 }).gradLogits;
      expect([fresh.device, fresh === logits, fresh.downloadSync()]).toEqual([device, false, bits]);
      const { gradLogits } = tokenLogProbsBackwardSync(
        { ...upstream, logits },
        { temperature: 0.7, gradient: 'in-place' },
      );
      expect(gradLogits).toBe(logits);
      expect(logits.downloadSync()).toEqual(bits);
    }
  });

  test('arrays may change once a call has returned', async () => {
    const { host, batch } = roundedBatch(12, { vocab: 64 });
    const expected = conspoSync({ ...batch, logits: device.uploadSync(host) });
    const pending = conspo({ ...batch, logits: device.uploadSync(host) });
    for (const array of [batch.targets, batch.mask, batch.cuSeqlens, batch.cuGroups]) array.fill(0);
    const actual = await pending;
    expect(values(actual)).toEqual(values(expected));
    expect(actual.gradLogits.downloadSync()).toEqual(expected.gradLogits.downloadSync());
  });

  test("backend: 'cuda' may be said of a device tensor", () => {
    const { host, batch } = roundedBatch(13, { vocab: 9 });
    const logits = device.uploadSync(host);
    expect(conspoSync({ ...batch, logits }, { backend: 'cuda' }).gradLogits.device).toBe(device);
  });

  test('from log-probs, on the device', async () => {
    const { logits: _, targets, refLogProbs, ...rest } = randomBatch(14, { vocab: 5, groups: 6 });
    const batch = { ...rest, logProbs: refLogProbs };
    const out = new Float64Array(targets.length);
    for (const [expected, actual, given] of [
      [
        conspoSync(batch, { backend: 'reference' }),
        conspoSync(batch, { backend: 'cuda' }),
        conspo(batch, { backend: 'cuda', gradient: { out } }),
      ],
      [
        grpoSync(batch, { backend: 'reference' }),
        grpoSync(batch, { backend: 'cuda' }),
        grpo(batch, { backend: 'cuda', gradient: { out } }),
      ],
    ] as const) {
      expectCloseNumber(actual.loss, expected.loss, 1e-12, 1);
      expectClose(actual.gradLogProbs, expected.gradLogProbs, 1e-12);
      expect((await given).gradLogProbs).toBe(out);
      expect(out).toEqual(actual.gradLogProbs);
    }
  });

  test('a forward pass, and several ways back', async () => {
    const { host, batch } = roundedBatch(15, { vocab: 30 });
    const logits = device.uploadSync(host);
    const onHost = forwardSync(batch, 'logLikelihood', { backend: 'reference' });
    const there = await forward({ ...batch, logits }, 'logLikelihood', { entropy: true });
    expectClose(there.scores, onHost.scores, 1e-6);
    expectLogProbsClose(there.logProbs, onHost.logProbs);
    for (const factor of [1, -2]) {
      const gradScores = onHost.scores.map((_, i) => factor * (i - 2));
      const { gradLogits } = await there.backward(gradScores);
      expectClose(gradLogits.downloadSync(), onHost.backward(gradScores).gradLogits, 2e-6);
    }
    const { gradLogits } = await there.backward(onHost.scores, { gradient: 'in-place' });
    expect(gradLogits).toBe(logits);
  });
});
