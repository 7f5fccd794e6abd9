import { describe, expect, test } from 'vitest';
import { TOKEN_TOLERANCE } from '../bench/problems/tolerances.js';
import {
  type BackendName,
  conspoSync,
  type DType,
  grpoSync,
  type HostTensor,
  linearLogProbsBackwardSync,
  linearLogProbsSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { dtypeNamed } from '../lib/kernels.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { linearGoldenCases, sequenceFields } from './support/golden.js';
import { type LinearBatch, linearBatch, linearOracle, valuesOf } from './support/linear-rows.js';
import { DTYPES, FORMATS, hostTensor, nanArray } from './support/tensors.js';

/** The contract for hidden states: log-probs absolute, gradients relative; 16-bit gradients are rounded besides. */
const LOG_PROB = 1e-5;
const GRADIENT: Readonly<Record<DType, number>> = { ...TOKEN_TOLERANCE.gradient, f32: 1e-5 };

/** Every value within so much. */
function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, bound: number, what: string): void {
  expect(actual.length, what).toBe(expected.length);
  const far = Array.from(expected).findIndex((value, i) => !(Math.abs(actual[i] - value) <= bound));
  if (far >= 0) expect.fail(`${what} ${far}: ${actual[far]} is not within ${bound} of ${expected[far]}`);
}

function expectForward(actual: ReturnType<typeof linearLogProbsSync>, expected: ReturnType<typeof linearOracle>): void {
  expectNear(actual.logProbs, expected.logProbs, LOG_PROB, 'logProbs');
  expectNear(actual.logSumExp, expected.logSumExp, LOG_PROB, 'logSumExp');
  expectNear(actual.entropy!, expected.entropy, LOG_PROB, 'entropy');
}

type Gradients = Record<'gradHidden' | 'gradWeight' | 'gradBias', HostTensor>;
const NAMES = ['gradHidden', 'gradWeight', 'gradBias'] as const;

function expectGradients(actual: Partial<Gradients>, expected: ReturnType<typeof linearOracle>): void {
  for (const name of NAMES) {
    const gradient = actual[name];
    if (gradient) expectClose(valuesOf(gradient), expected[name], GRADIENT[dtypeNamed(gradient.dtype ?? 'f32')], name);
  }
}

/** Both passes of a batch. */
function bothPasses(batch: LinearBatch, backend: BackendName, temperature = 1, options = {}) {
  const forward = linearLogProbsSync(batch, { temperature, entropy: true, backend });
  const { logSumExp, entropy } = forward;
  const gradients = linearLogProbsBackwardSync({ ...batch, logSumExp, entropy }, { temperature, backend, ...options });
  return { forward, gradients: gradients as Gradients };
}

describeBackends('linear-log-probs', (backend) => {
  describe('golden cases', () => {
    const losses = { 'linear/conspo': conspoSync, 'linear/grpo': grpoSync } as unknown as Record<
      string,
      typeof grpoSync
    >;
    test.each(linearGoldenCases('linear/conspo', 'linear/grpo'))('%s', (_name, { kind, input, options, expected }) => {
      const { temperature, ...own } = options;
      const [hidden, weight, bias] = [input.hidden, input.weight, input.bias].map((x) => Float32Array.from(x));
      const { targets, ...rest } = sequenceFields(input);
      const result = losses[kind]({ hidden, weight, bias, targets, ...rest }, { temperature, ...own, backend });
      expectCloseNumber(result.loss, expected.loss, 1e-5, 1e-2);
      for (const each of NAMES) expectClose(result[each], expected[each], 1e-5, each);
    });
  });

  describe('against an independent float64 oracle', () => {
    // Below, at and above the kernels' panels and their depth of 256; one and two tiles of 1024 columns, and the start of a third.
    const SHAPES: [tokens: number, vocab: number, width: number][] = [
      [1, 1, 1],
      [13, 17, 7],
      [1, 1025, 257],
      [13, 2050, 7],
      [300, 17, 257],
      [77, 1025, 64],
    ];
    test.each(SHAPES)('T = %i, V = %i, d = %i, temperature, mask', (tokens, vocab, width) => {
      for (const temperature of [1, 0.7]) {
        const options = { masked: temperature !== 1, bias: temperature === 1, padding: 3 };
        const batch = linearBatch(tokens + vocab, { tokens, vocab, width }, options);
        const { forward, gradients } = bothPasses(batch, backend, temperature);
        const expected = linearOracle(batch, temperature);
        expectForward(forward, expected);
        expectGradients(gradients, expected);
        expect('gradBias' in gradients).toBe(temperature === 1);
      }
    });

    test.each([
      [2, 40_003, 3],
      [5, 20, 8192],
    ])('large: T = %i, V = %i, d = %i', (tokens, vocab, width) => {
      const batch = linearBatch(vocab, { tokens, vocab, width });
      const { forward, gradients } = bothPasses(batch, backend);
      const expected = linearOracle(batch, 1);
      expectForward(forward, expected);
      expectGradients(gradients, expected);
    });

    const MIXED: [DType, DType, DType][] = [
      ['f32', 'bf16', 'f32'],
      ['bf16', 'bf16', 'bf16'],
      ['f16', 'f16', 'f16'],
      ['f16', 'bf16', 'f32'],
      ['bf16', 'f32', 'f16'],
    ];
    test.each(MIXED)('hidden %s, weight %s, bias %s', (...dtypes) => {
      const shape = { tokens: 21, vocab: 300, width: 33 };
      const batch = linearBatch(5, shape, { dtypes, padding: 1, masked: true });
      const { forward, gradients } = bothPasses(batch, backend, 1.3);
      const expected = linearOracle(batch, 1.3);
      expectForward(forward, expected);
      expectGradients(gradients, expected);
      expect(NAMES.map((name) => gradients[name].dtype)).toEqual(dtypes);
      for (const [i, name] of NAMES.entries()) {
        const { toBits, toNumber, ulp } = FORMATS[dtypes[i]];
        const size = Math.hypot(...expected[name]) / Math.sqrt(expected[name].length);
        valuesOf(gradients[name]).forEach((value, at) => {
          expectCloseNumber(value, toNumber(toBits(expected[name][at])), 2 * ulp + 1e-5, size);
        });
      }
    });

    test('without an entropy term', () => {
      const batch = linearBatch(6, { tokens: 9, vocab: 40, width: 5 });
      const { logSumExp } = linearLogProbsSync(batch, { backend });
      const inputs = { ...batch, gradEntropy: undefined, logSumExp };
      const gradients = linearLogProbsBackwardSync(inputs, { backend }) as Gradients;
      expectGradients(gradients, linearOracle(batch, 1, false));
    });
  });

  test('finite differences of all three inputs', () => {
    const shape = { tokens: 3, vocab: 5, width: 4 };
    const batch = linearBatch(31, shape, { scale: 1 });
    const value = (moved: LinearBatch) => {
      const { logProbs, entropy } = linearLogProbsSync(moved, {
        temperature: 0.8,
        entropy: true,
        backend: 'reference',
      });
      const { gradLogProbs: g, gradEntropy: h } = batch;
      return logProbs.reduce((sum, logProb, t) => sum + g[t] * logProb + h[t] * entropy![t], 0);
    };
    const { gradients } = bothPasses(batch, backend, 0.8);
    for (const [input, gradient] of [
      ['hidden', 'gradHidden'],
      ['weight', 'gradWeight'],
      ['bias', 'gradBias'],
    ] as const) {
      const tensor = batch[input]!;
      const numeric = Array.from(tensor.data, (x, i) => {
        const at = (step: number) => {
          const data = Float32Array.from(tensor.data);
          data[i] = x + step;
          return { value: value({ ...batch, [input]: { ...tensor, data } }), moved: data[i] };
        };
        const central = (step: number) => {
          const [up, down] = [at(step), at(-step)];
          return (up.value - down.value) / (up.moved - down.moved);
        };
        return (4 * central(2 ** -8) - central(2 ** -7)) / 3; // Richardson
      });
      expectClose(gradients[gradient].data, numeric, 1e-5, gradient);
    }
  });

  describe('plain arrays', () => {
    const batch = linearBatch(7, { tokens: 4, vocab: 6, width: 3 });
    const [hidden, weight, bias] = [batch.hidden, batch.weight, batch.bias!].map(({ data }) => data as Float32Array);
    const expected = bothPasses(batch, backend);

    test.each([
      ['all', { hidden, weight, bias }],
      ['hidden alone', { hidden, weight: batch.weight, bias: batch.bias! }],
      ['weight alone', { hidden: batch.hidden, weight, bias: batch.bias! }],
    ] as const)('%s: gradients in their form, the same bits', (_what, matrices) => {
      const inputs = { ...batch, ...matrices };
      const forward = linearLogProbsSync(inputs, { entropy: true, backend });
      expect(forward).toEqual(expected.forward);
      const { logSumExp, entropy } = forward;
      const gradients = linearLogProbsBackwardSync({ ...inputs, logSumExp, entropy }, { backend });
      for (const [i, name] of NAMES.entries()) {
        const given = Object.values(matrices)[i];
        const like = given instanceof Float32Array ? expected.gradients[name].data : expected.gradients[name];
        expect(gradients[name], name).toEqual(like);
      }
    });

    test('half-precision arrays come back as such', (context) => {
      const { Float16Array } = globalThis as { Float16Array?: new (buffer: ArrayBufferLike) => never };
      if (!Float16Array) return context.skip();
      const bits = hostTensor(hidden, [4, 3], 'f16');
      const half = new Float16Array(bits.data.buffer);
      const { logSumExp } = linearLogProbsSync({ ...batch, hidden: half }, { backend });
      const given = { ...batch, gradEntropy: undefined, logSumExp };
      const { gradHidden } = linearLogProbsBackwardSync({ ...given, hidden: half }, { backend });
      expect(gradHidden).toBeInstanceOf(Float16Array);
      const { gradHidden: ofBits } = linearLogProbsBackwardSync({ ...given, hidden: bits }, { backend });
      expect(new Uint16Array((gradHidden as Float32Array).buffer)).toEqual(ofBits.data);
    });
  });

  describe('where gradients go', () => {
    const shape = { tokens: 11, vocab: 130, width: 9 };
    const batch = linearBatch(8, shape, { masked: true, padding: 2 });
    const expected = linearOracle(batch, 1);
    const shapes = { gradHidden: batch.hidden.shape, gradWeight: batch.weight.shape, gradBias: batch.bias!.shape };

    test.each(DTYPES)('out, as padded tensors of %s', (dtype) => {
      const outs = Object.fromEntries(
        NAMES.map((name) => {
          const [rows, width] = shapes[name];
          return [
            name,
            { out: { data: nanArray(dtype, rows * (width + 3)), shape: shapes[name], dtype, rowStride: width + 3 } },
          ];
        }),
      );
      const { gradients } = bothPasses(batch, backend, 1, outs);
      for (const name of NAMES) {
        expect(gradients[name]).toBe(outs[name].out);
        const {
          data,
          rowStride,
          shape: [, width],
        } = outs[name].out;
        const padding = data.filter((_, i) => i % rowStride >= width);
        expect(padding).toEqual(nanArray(dtype, padding.length)); // not written
      }
      expectGradients(gradients, expected);
    });

    test('accumulate, in each dtype: what was there and the gradient', () => {
      for (const dtype of DTYPES) {
        const before = linearOracle(linearBatch(9, shape), 1);
        const sums = Object.fromEntries(
          NAMES.map((name) => [name, { accumulate: hostTensor(before[name], [...shapes[name]], dtype, 1) }]),
        );
        const rounded = Object.fromEntries(NAMES.map((name) => [name, valuesOf(sums[name].accumulate)]));
        const { gradients } = bothPasses(batch, backend, 1, sums);
        for (const name of NAMES) {
          expect(gradients[name]).toBe(sums[name].accumulate);
          const sum = expected[name].map((value, i) => value + rounded[name][i]);
          expectClose(valuesOf(gradients[name]), sum, GRADIENT[dtype], `${name}, ${dtype}`);
        }
      }
    });

    test('micro-batches into one array add up to the whole', () => {
      const whole = bothPasses(batch, backend).gradients;
      const sum = new Float32Array(shape.vocab * shape.width);
      const half = (from: number, to: number): LinearBatch => ({
        ...batch,
        hidden: { ...batch.hidden, data: batch.hidden.data.subarray(from * 11), shape: [to - from, shape.width] },
        targets: batch.targets.slice(from, to),
        mask: batch.mask!.slice(from, to),
        gradLogProbs: batch.gradLogProbs.slice(from, to),
        gradEntropy: batch.gradEntropy.slice(from, to),
      });
      for (const part of [half(0, 5), half(5, 11)]) bothPasses(part, backend, 1, { gradWeight: { accumulate: sum } });
      expectClose(sum, valuesOf(whole.gradWeight), 1e-5);
    });

    test('none: the others have the same bits', () => {
      const all = bothPasses(batch, backend).gradients;
      for (const without of NAMES) {
        const { gradients } = bothPasses(batch, backend, 1, { [without]: 'none' });
        const { [without]: _none, ...others } = all;
        expect(gradients).toEqual(others);
      }
      const none = { gradHidden: 'none', gradWeight: 'none', gradBias: 'none' };
      expect(bothPasses(batch, backend, 1, none).gradients).toEqual({});
    });
  });
});

test('the identity for a weight: hidden states are logits', () => {
  const [tokens, vocab] = [5, 40];
  const { hidden, targets, gradLogProbs } = linearBatch(10, { tokens, vocab, width: vocab });
  const logits = hidden.data as Float32Array;
  const weight = Float32Array.from({ length: vocab * vocab }, (_, i) => (i % (vocab + 1) === 0 ? 1 : 0));
  const forward = linearLogProbsSync({ hidden: logits, weight, targets }, { entropy: true });
  const expected = tokenLogProbsSync({ logits, targets }, { entropy: true });
  const { logSumExp } = expected;
  expectClose(forward.logProbs, expected.logProbs, 1e-6);
  expectClose(forward.entropy!, expected.entropy!, 1e-6);
  const { gradLogits } = tokenLogProbsBackwardSync({ logits, targets, logSumExp, gradLogProbs });
  const { gradHidden } = linearLogProbsBackwardSync({ hidden: logits, weight, targets, logSumExp, gradLogProbs });
  expectClose(gradHidden, gradLogits, 2e-6);
});
