// Hidden states and their layer in device memory.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TOKEN_TOLERANCE } from '../bench/problems/tolerances.js';
import { type Device, type DeviceTensor, openDevice } from '../lib/cuda/index.js';
import {
  conspo,
  conspoSync,
  type DType,
  forward,
  grpoSync,
  type HostTensor,
  linearLogProbs,
  linearLogProbsBackward,
  linearLogProbsBackwardSync,
  linearLogProbsSync,
  padded,
} from '../lib/index.js';
import { childJson } from './boundary/child.js';
import { expectClose } from './support/compare.js';
import { DEVICES, describeDevices, emulation, paddedTensor, writtenPadding } from './support/device.js';
import { rlvrError } from './support/errors.js';
import { type LinearBatch, linearBatch, linearOracle } from './support/linear-rows.js';
import { fullBatch } from './support/named-losses.js';
import { DTYPES, FORMATS, hostTensor, numbers } from './support/tensors.js';

const NAMES = ['gradHidden', 'gradWeight', 'gradBias'] as const;
const MATRICES = ['hidden', 'weight', 'bias'] as const;
const GRADIENT: Readonly<Record<DType, number>> = { ...TOKEN_TOLERANCE.gradient, f32: 1e-5 };

const valuesOf = (tensor: DeviceTensor) => numbers(tensor.downloadSync(), tensor.dtype);

describeDevices('hidden states on a device', () => {
  let device: Device;
  beforeAll(() => {
    device = openDevice();
  });
  afterAll(() => {
    device.dispose();
  });

  /** The layer of a batch on the device. */
  function layerOf({ hidden, weight, bias }: Pick<LinearBatch, 'hidden' | 'weight' | 'bias'>) {
    return { hidden: device.uploadSync(hidden), weight: device.uploadSync(weight), bias: device.uploadSync(bias!) };
  }

  /** A batch for any loss. */
  function lossBatch(seed: number, dtype: DType, { vocab = 300, width = 12 } = {}) {
    const { logits: _logits, targets, ...rollouts } = fullBatch(seed);
    const shape = { tokens: targets.length, vocab, width };
    const { hidden, weight, bias } = linearBatch(seed, shape, { dtypes: [dtype, dtype, dtype] });
    return { hidden, weight, bias: bias!, targets, ...rollouts };
  }

  describe('the op', () => {
    test.each(DTYPES)('%s, rows anywhere: as the oracle has it, in place and with new gradients', async (dtype) => {
      for (const [tokens, vocab, width] of [
        [1, 1, 1],
        [5, 33, 7],
        [40, 1025, 64],
      ]) {
        const shape = { tokens, vocab, width };
        const batch = linearBatch(vocab, shape, { dtypes: [dtype, dtype, dtype], masked: true });
        const expected = linearOracle(batch, 0.9);
        const places = MATRICES.map((name, i) => paddedTensor(device, batch[name]!, { offset: 1 + 2 * i, padding: i }));
        const [hidden, weight, bias] = places.map(({ tensor }) => tensor);
        const inputs = { ...batch, hidden, weight, bias };
        const options = { temperature: 0.9, entropy: true };
        const first = linearLogProbsSync(inputs, options);
        const { logSumExp, entropy } = first;
        expectClose(first.logProbs, expected.logProbs, 1e-5);
        expectClose(entropy!, expected.entropy, 1e-5);
        expect(await linearLogProbs(inputs, options)).toEqual(first);
        const upstream = { ...inputs, logSumExp, entropy };
        const gradients = linearLogProbsBackwardSync(upstream, { temperature: 0.9 });
        const again = await linearLogProbsBackward(upstream, { temperature: 0.9 });
        for (const [i, name] of NAMES.entries()) {
          const { [name]: gradient } = gradients;
          expect([gradient.device, gradient.dtype, gradient.shape]).toEqual([device, dtype, places[i].tensor.shape]);
          expectClose(valuesOf(gradient), expected[name], GRADIENT[dtype], name);
          expect(again[name].downloadSync(), name).toEqual(gradient.downloadSync());
        }
      }
    });

    test.each(DTYPES)('out and sums of %s, which keep what is around them', (dtype) => {
      const shape = { tokens: 11, vocab: 130, width: 9 };
      const batch = linearBatch(8, shape, { masked: true });
      const expected = linearOracle(batch, 1);
      const inputs = { ...batch, ...layerOf(batch) };
      const forward = linearLogProbsSync(inputs, { entropy: true });
      const upstream = { ...inputs, logSumExp: forward.logSumExp, entropy: forward.entropy };
      const before = linearOracle(linearBatch(9, shape), 1);
      for (const key of ['out', 'accumulate'] as const) {
        const places = MATRICES.map((name, i) => {
          const [rows, width] = batch[name]!.shape;
          return paddedTensor(device, hostTensor(before[NAMES[i]], [rows, width], dtype), { padding: i + 1 });
        });
        const sums = places.map(({ tensor }) => valuesOf(tensor));
        const [gradHidden, gradWeight, gradBias] = places.map(
          ({ tensor }) => ({ [key]: tensor }) as { out: DeviceTensor },
        );
        const gradients = linearLogProbsBackwardSync(upstream, { gradHidden, gradWeight, gradBias });
        for (const [i, name] of NAMES.entries()) {
          expect(gradients[name]).toBe(places[i].tensor);
          const sum = expected[name].map((value, at) => value + (key === 'out' ? 0 : sums[i][at]));
          expectClose(valuesOf(places[i].tensor), sum, GRADIENT[dtype], `${name}, ${key}`);
          expect(writtenPadding(places[i])).toBe(0);
        }
      }
    });

    test('what is masked may hold anything, and sums stay what they are', () => {
      const batch = linearBatch(3, { tokens: 6, vocab: 35, width: 4 });
      const { weight, bias } = layerOf(batch);
      const whole = linearBatch(3, { tokens: 6, vocab: 35, width: 4 });
      whole.hidden.data.fill(NaN, 8, 16);
      const hidden = device.uploadSync(whole.hidden);
      const inputs = { ...batch, hidden, weight, bias, mask: Uint8Array.of(1, 1, 0, 0, 1, 1) };
      const { logSumExp, entropy } = linearLogProbsSync(inputs, { entropy: true });
      const expected = linearOracle({ ...batch, mask: inputs.mask }, 1);
      const sum = device.uploadSync({ data: new Float32Array(24).fill(1), shape: [6, 4] });
      const upstream = { ...inputs, logSumExp, entropy };
      const { gradWeight } = linearLogProbsBackwardSync(upstream, { gradHidden: { accumulate: sum } });
      expectClose(valuesOf(gradWeight), expected.gradWeight, 1e-5);
      expectClose(
        valuesOf(sum),
        expected.gradHidden.map((x) => 1 + x),
        1e-6,
      );
      expect([...valuesOf(sum).subarray(8, 16)]).toEqual(new Array(8).fill(1));
    });

    test('a gradient beyond float32 from upstream: nothing is written', () => {
      const batch = linearBatch(4, { tokens: 6, vocab: 35, width: 4 });
      const inputs = { ...batch, ...layerOf(batch), gradEntropy: undefined };
      const { logSumExp } = linearLogProbsSync(inputs);
      const gradLogProbs = Float64Array.of(1, 2, 1e39, 1, 1, 1);
      for (const key of ['out', 'accumulate'] as const) {
        for (const dtype of DTYPES) {
          const full = (rows: number, width: number) => {
            const host = hostTensor(new Float32Array(rows * width).fill(7), [rows, width], dtype);
            return { [key]: device.uploadSync(host) } as { accumulate: DeviceTensor };
          };
          const places = { gradHidden: full(6, 4), gradWeight: full(35, 4), gradBias: full(1, 35) };
          expect(() => linearLogProbsBackwardSync({ ...inputs, logSumExp, gradLogProbs }, places)).toThrow(
            rlvrError('ERR_NONFINITE', /^gradLogProbs: .* at row 2: /),
          );
          for (const place of Object.values(places)) {
            const { [key]: tensor } = place as Record<string, DeviceTensor>;
            expect(valuesOf(tensor).every((x) => x === 7)).toBe(true);
          }
        }
      }
    });

    test('some matrices here, some there', () => {
      const batch = linearBatch(5, { tokens: 9, vocab: 50, width: 6 });
      const there = layerOf(batch);
      const { logSumExp, logProbs } = linearLogProbsSync({ ...batch, ...there });
      const mixed = { ...batch, weight: there.weight, gradEntropy: undefined, logSumExp };
      expect(linearLogProbsSync(mixed).logProbs).toEqual(logProbs);
      const { gradHidden, gradWeight } = linearLogProbsBackwardSync(mixed);
      expect(gradHidden.data).toBeInstanceOf(Float32Array);
      const expected = linearLogProbsBackwardSync({ ...mixed, ...there });
      expect(gradHidden.data).toEqual(expected.gradHidden.downloadSync());
      expect(gradWeight.downloadSync()).toEqual(expected.gradWeight.downloadSync());
    });

    test('matrices that begin at the same place of host memory', () => {
      const data = linearBatch(6, { tokens: 1, vocab: 12, width: 3 }).weight.data as Float32Array;
      const same = {
        hidden: data.subarray(0, 6),
        weight: data,
        bias: data.subarray(0, 12),
        targets: Int32Array.of(3, 7),
      };
      const apart = { ...same, hidden: data.slice(0, 6), bias: data.slice(0, 12) };
      expect(linearLogProbsSync(same, { backend: 'cuda' })).toEqual(linearLogProbsSync(apart, { backend: 'cuda' }));
    });
  });

  describe('losses', () => {
    test.each(DTYPES)('%s: the bits of host arrays; forward and back', async (dtype) => {
      const batch = lossBatch(1, dtype);
      const onHost = conspoSync(batch, { backend: 'cuda' });
      const there = { ...batch, ...layerOf(batch) };
      for (const result of [conspoSync(there), await conspo(there)]) {
        expect(result.loss).toBe(onHost.loss);
        expect(result.scores).toEqual(onHost.scores);
        for (const name of NAMES) expect(result[name].downloadSync(), name).toEqual(onHost[name].data);
      }
      const pass = await forward(there, 'logLikelihood');
      const gradScores = pass.scores.map((_, i) => i - 1.5);
      const { gradWeight } = await pass.backward(gradScores);
      const again = await pass.backward(gradScores, { gradHidden: 'none' });
      expect(again.gradWeight.downloadSync()).toEqual(gradWeight.downloadSync());
    });

    test('a sum of several chunks is rounded once', () => {
      const batch = lossBatch(2, 'bf16');
      const there = { ...batch, ...layerOf(batch) };
      const options = { chunkBytes: 0, entropyCoef: 0.1 };
      const sum = device.empty(there.weight.shape, 'f32');
      const exact = grpoSync(there, { ...options, gradWeight: { out: sum } }).gradWeight;
      const rounded = grpoSync(there, options).gradWeight.downloadSync();
      expect(rounded).toEqual(Uint16Array.from(exact.downloadSync(), FORMATS.bf16.toBits));
    });

    test('a frozen head, from a padded batch', () => {
      const batch = lossBatch(3, 'bf16', { vocab: 70 });
      const { cuSeqlens: _c, targets, mask, oldLogProbs: _o, refLogProbs: _r, rolloutLogProbs: _p, ...rest } = batch;
      const shape = [1, targets.length] as const;
      const given = { ...rest, targets, mask, shape, rewards: Float64Array.of(1), cuGroups: Int32Array.of(0, 1) };
      const {
        advantages: _a,
        groupOrder: _g,
        tokenWeights: _t,
        ...one
      } = given as typeof given & Record<string, unknown>;
      const options = { gradWeight: 'none', gradBias: 'none' } as const;
      const expected = grpoSync(padded({ ...one, advantages: Float64Array.of(0.5) }), { ...options, backend: 'cuda' });
      const there = { ...one, ...layerOf(batch), advantages: Float64Array.of(0.5) };
      const result = grpoSync(padded(there), options);
      expect(Object.keys(result).filter((key) => key.startsWith('grad'))).toEqual(['gradHidden']);
      expect((result.gradHidden as DeviceTensor).downloadSync()).toEqual((expected.gradHidden as HostTensor).data);
    });

    test('rows that are not finite: an error that leaves the gradients alone, or dropped', () => {
      const batch = lossBatch(4, 'f32');
      batch.mask.fill(1);
      batch.hidden.data[5 * 12] = NaN;
      const there = { ...batch, ...layerOf(batch) };
      const out = device.uploadSync({
        data: new Float32Array(batch.hidden.data.length).fill(7),
        shape: batch.hidden.shape,
      });
      expect(() => conspoSync(there, { gradHidden: { out } })).toThrow(
        rlvrError('ERR_NONFINITE', /^hidden: .*1 non-finite row\(s\), the first at row 5$/),
      );
      expect(out.downloadSync().every((x) => x === 7)).toBe(true);
      const skipped = conspoSync(there, { onNonFinite: 'skip', gradHidden: { out } });
      expect(skipped.metrics.nonFiniteTokens).toBe(1);
      expect([...out.downloadSync().subarray(60, 72)]).toEqual(new Array(12).fill(0));
    });

    test('memory comes back', () => {
      const batch = lossBatch(5, 'bf16');
      const there = { ...batch, ...layerOf(batch) };
      const before = device.allocatedBytes;
      for (let i = 0; i < 3; i++) {
        for (const chunkBytes of [0, 2 ** 26]) {
          const result = conspoSync(there, { chunkBytes });
          for (const name of NAMES) result[name].dispose();
        }
      }
      expect(device.allocatedBytes).toBe(before);
    });
  });

  describe('refused', () => {
    const batch = linearBatch(7, { tokens: 4, vocab: 6, width: 3 });
    const inputs = () => ({ ...batch, ...layerOf(batch), gradEntropy: undefined, logSumExp: new Float64Array(4) });
    const refused = (given: object, options: object, code: string, message: RegExp) =>
      expect(() => linearLogProbsBackwardSync({ ...inputs(), ...given }, options)).toThrow(rlvrError(code, message));

    test('another backend, another device, another place', () => {
      const other = openDevice();
      const weight = other.uploadSync(batch.weight);
      const elsewhere = /: expected a tensor of the device of (hidden|weight), got one of another Device$/;
      refused({}, { backend: 'cpu' }, 'ERR_BACKEND', /^backend: expected 'cuda' for hidden in a DeviceTensor/);
      refused({ hidden: batch.hidden }, { backend: 'cpu' }, 'ERR_BACKEND', /'cuda' for weight in a DeviceTensor/);
      refused({ weight }, {}, 'ERR_BACKEND', elsewhere);
      refused({}, { gradWeight: { out: weight } }, 'ERR_BACKEND', elsewhere);
      refused(
        {},
        { gradWeight: { out: new Float32Array(18) } },
        'ERR_DTYPE',
        /^gradWeight\.out: expected a DeviceTensor/,
      );
      const there = { gradBias: { accumulate: device.empty([1, 6]) } };
      refused({ bias: batch.bias }, there, 'ERR_DTYPE', /^gradBias\.accumulate: expected host memory, as bias/);
      other.dispose();
    });

    test('shapes, overlaps, disposed tensors', () => {
      const hidden = device.empty([4, 2]);
      refused({ hidden }, {}, 'ERR_SHAPE', /^weight\.shape: expected \[V, d\] = \[6, 2\], got \[6, 3\]$/);
      const given = inputs();
      refused(
        given,
        { gradHidden: { out: given.hidden } },
        'ERR_RANGE',
        /^gradHidden: expected memory apart from hidden/,
      );
      given.weight.dispose();
      refused(given, {}, 'ERR_DISPOSED', /^weight: expected a DeviceTensor with its memory/);
    });
  });
});

describeDevices(
  'hidden states on a second device',
  () => {
    test('the bits of the first', () => {
      const batch = linearBatch(11, { tokens: 7, vocab: 40, width: 5 });
      const [first, second] = [0, 1].map((index) => {
        const device = openDevice(index);
        const [hidden, weight] = [device.uploadSync(batch.hidden), device.uploadSync(batch.weight)];
        const inputs = { ...batch, bias: undefined, gradEntropy: undefined, hidden, weight };
        const { logSumExp } = linearLogProbsSync(inputs);
        const { gradHidden, gradWeight } = linearLogProbsBackwardSync({ ...inputs, logSumExp });
        const bits = [logSumExp, gradHidden.downloadSync(), gradWeight.downloadSync()];
        device.dispose();
        return bits;
      });
      expect(second).toEqual(first);
    });
  },
  2,
);

test.runIf(emulation && DEVICES > 0)('without cuBLASLt: what was looked for, and what to install', async () => {
  const source = `
    const batch = { hidden: Float32Array.of(1, 2), weight: Float32Array.of(1, 2), targets: Int32Array.of(0) };
    const failure = async (call) => { try { await call(); } catch ({ code, message }) { return { code, message }; } };
    const options = { backend: 'cuda' };
    const failures = [await failure(() => rlvr.linearLogProbsSync(batch, options)), await failure(() => rlvr.linearLogProbs(batch, options))];
    process.env.RLVR_CUBLASLT = '';
    console.log(JSON.stringify({ failures, logProb: rlvr.linearLogProbsSync(batch, options).logProbs[0] }));`;
  const env = { RLVR_CUBLASLT: '/no/such/libcublasLt.so' };
  const { failures, logProb } = await childJson<{ failures: object[]; logProb: number }>(source, { env });
  const message = /^backend: expected cuBLASLt 12 or 13.*\/no\/such\/libcublasLt\.so.*apt-get install.*RLVR_CUBLASLT/;
  for (const failure of failures) {
    expect(failure).toEqual({ code: 'ERR_BACKEND', message: expect.stringMatching(message) });
  }
  expect(logProb).toBe(0);
});
