// The numbers of a plan as arrays: every field that an op or a loss takes, by name.
import { Random } from '../../../bench/problems/random.js';
import { offsetsOf } from '../../../bench/problems/rollouts.js';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../../../lib/reference/float16.js';
import type { BatchPlan } from './plan.js';

type Floats = Float32Array | Float64Array;

/** Absent before Node 24. */
export const HalfArray = (globalThis as { Float16Array?: new (buffer: ArrayBufferLike) => ArrayBufferView })
  .Float16Array;

/** Whole numbers in [0, n). */
export function below(random: Random, n: number): number {
  return Math.floor(random.uniform() * n);
}

/** Draws each field from a stream of its own, so that leaving one out changes no other. */
export class Fields {
  readonly tokens: number; // T
  readonly sequences: number; // N
  readonly cuSeqlens: Int32Array;
  readonly cuGroups: Int32Array;
  #rows: Float32Array | undefined; // [T, V]
  #base: Float64Array | undefined; // [T]

  constructor(readonly plan: BatchPlan) {
    this.cuGroups = offsetsOf(plan.groups.map((group) => group.length));
    this.cuSeqlens = offsetsOf(plan.groups.flat());
    this.sequences = this.cuSeqlens.length - 1;
    this.tokens = this.cuSeqlens[this.sequences];
  }

  random(name: string): Random {
    let hash = this.plan.seed;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
    return new Random(hash);
  }

  /** Float32 or float64, by the name. */
  floats(name: string, length: number, value: (random: Random, i: number) => number): Floats {
    const random = this.random(name);
    const array = random.uniform() < 0.5 ? new Float32Array(length) : new Float64Array(length);
    for (let i = 0; i < length; i++) array[i] = value(random, i);
    return array;
  }

  /** [N] or [G] or [T], of the plan's weights. */
  weights(name: string, length: number): Floats {
    const kinds = {
      binary: (random: Random) => below(random, 2),
      normal: (random: Random) => random.normal(),
      equal: () => 1,
      huge: (random: Random) => random.normal() * 1e300,
      tiny: (random: Random) => random.normal() * 1e-310,
    };
    return this.floats(name, length, kinds[this.plan.weights]);
  }

  mask(): Uint8Array {
    const random = this.random('mask');
    const share = [0, 0.5, 0.9, 1][below(random, 4)];
    return Uint8Array.from({ length: this.tokens }, () => (random.uniform() < share ? 1 + 254 * below(random, 2) : 0));
  }

  targets(): Int32Array | BigInt64Array {
    const random = this.random('targets');
    const ids = Array.from({ length: this.tokens }, () => below(random, this.plan.vocab));
    return below(random, 2) === 0 ? Int32Array.from(ids) : BigInt64Array.from(ids, BigInt);
  }

  /** What a sampler left: of the vocabulary all, half or the target alone, token by token. */
  kept(): Record<'keptIds' | 'cuKept', Int32Array> {
    const random = this.random('kept');
    const ids: number[] = [];
    const cuKept = [0];
    for (const target of Array.from(this.targets(), Number)) {
      const share = [0, 0.5, undefined][below(random, 3)];
      for (let v = 0; v < this.plan.vocab && share !== undefined; v++)
        if (v === target || random.uniform() < share) ids.push(v);
      cuKept.push(ids.length);
    }
    return { keptIds: Int32Array.from(ids), cuKept: Int32Array.from(cuKept) };
  }

  /** [T, V] in float32, without padding. */
  rows(): Float32Array {
    if (this.#rows) return this.#rows;
    const random = this.random('logits');
    const targets = Array.from(this.targets(), Number);
    const { vocab, logits } = this.plan;
    const kinds = {
      normal: () => 2 * random.normal(),
      wide: () => 40 * random.normal(),
      huge: () => 1e37 * random.normal(),
      tiny: () => 1e-40 * random.normal(),
      equal: () => 1.5,
      banned: (i: number) =>
        random.uniform() < 0.4 && i % vocab !== targets[Math.floor(i / vocab)] ? -Infinity : random.normal(),
      broken: () => (random.uniform() < 0.02 ? [NaN, Infinity, -Infinity][below(random, 3)] : random.normal()),
    };
    this.#rows = Float32Array.from({ length: this.tokens * vocab }, (_, i) => kinds[logits](i));
    return this.#rows;
  }

  logits(): unknown {
    return this.#inForm(this.rows(), this.plan.vocab);
  }

  /** In the plan's form. */
  #inForm(values: Float32Array, columns: number): unknown {
    const { form, padding } = this.plan;
    if (form === 'flat') return values;
    const rows = columns === 0 ? 0 : values.length / columns;
    const dtype = form === 'half' ? 'f16' : form;
    const stride = columns + padding;
    const data = new (form === 'f32' ? Float32Array : Uint16Array)(rows * stride).fill(7);
    const bits = { f32: (x: number) => x, bf16: numberToBf16, f16: numberToF16 }[dtype];
    values.forEach((x, i) => {
      data[Math.floor(i / columns) * stride + (i % columns)] = bits(x);
    });
    const half = form === 'half' && HalfArray !== undefined;
    return {
      data: half ? new HalfArray!(data.buffer) : data,
      shape: [rows, columns],
      ...(half ? {} : { dtype }),
      ...(padding > 0 && { rowStride: stride }),
    };
  }

  /** An array of the same form and size as the logits, with something in it. */
  likeLogits(padding: number): unknown {
    return this.matrix(this.tokens, this.plan.vocab, padding);
  }

  /** A matrix in the plan's form, with something in it. */
  matrix(rows: number, columns: number, padding: number): unknown {
    const { form } = this.plan;
    if (form === 'flat' && padding === 0) return new Float32Array(rows * columns).fill(3);
    const dtype = form === 'half' ? 'f16' : form === 'flat' ? 'f32' : form;
    const data = new (dtype === 'f32' ? Float32Array : Uint16Array)(rows * (columns + padding)).fill(3);
    return { data, shape: [rows, columns], dtype, rowStride: columns + padding };
  }

  /** d, of hidden states. */
  get width(): number {
    return 1 + (this.plan.seed % 7);
  }

  /** [T, d], so that the logits are about as large as the plan's. */
  hidden(): unknown {
    const random = this.random('hidden');
    const { logits } = this.plan;
    const size = { wide: 10, tiny: 1e-20, equal: 0 }[logits as string] ?? 1;
    const broken = () => logits === 'broken' && random.uniform() < 0.02;
    const value = () => (broken() ? [NaN, Infinity, -Infinity][below(random, 3)] : size * random.normal());
    return this.#inForm(Float32Array.from({ length: this.tokens * this.width }, value), this.width);
  }

  /** [V, d] */
  weight(): unknown {
    const random = this.random('weight');
    return this.#inForm(
      Float32Array.from({ length: this.plan.vocab * this.width }, () => random.normal()),
      this.width,
    );
  }

  /** [V], some of it banned. */
  bias(): unknown {
    const random = this.random('bias');
    const { vocab, logits } = this.plan;
    const targets = new Set(Array.from<number | bigint, number>(this.targets(), Number));
    const banned = (v: number) => logits === 'banned' && random.uniform() < 0.4 && !targets.has(v);
    return Float32Array.from({ length: vocab }, (_, v) => (banned(v) ? -Infinity : random.normal()));
  }

  /** [T] log-probs of the targets, roughly: what other log-probs are near to. */
  base(): Float64Array {
    if (this.#base) return this.#base;
    const { vocab, from } = this.plan;
    const random = this.random('base');
    if (from !== 'logits') return Float64Array.from({ length: this.tokens }, () => -2 * Math.abs(random.normal()));
    const rows = this.rows();
    const targets = Array.from<number | bigint, number>(this.targets(), Number);
    this.#base = Float64Array.from(targets, (target, t) => {
      const row = rows.subarray(t * vocab, (t + 1) * vocab);
      const max = row.reduce((a, b) => Math.max(a, b), -1e38);
      const logProb = row[target] - max - Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
      return Number.isFinite(logProb) ? logProb : -1;
    });
    return this.#base;
  }

  /** [T] log-probs of another policy. */
  others(name: string): Floats {
    const base = this.base();
    const kinds = {
      near: (random: Random, t: number) => Math.min(base[t] + 0.3 * random.normal(), 0),
      far: (random: Random, t: number) => Math.min(base[t] + 15 * random.normal(), 0),
      extreme: (random: Random) => -1e300 * random.uniform(),
      infinite: (random: Random, t: number) =>
        random.uniform() < 0.2 ? [Infinity, -Infinity][below(random, 2)] : base[t],
    };
    return this.floats(name, this.tokens, kinds[this.plan.others]);
  }

  /** [T] of the policy itself. */
  logProbs(): Floats {
    const { others } = this.plan;
    const base = this.base();
    const value = (t: number) => (others === 'extreme' && t % 7 === 3 ? -1e300 : base[t]);
    return this.floats('logProbs', this.tokens, (_random, t) => value(t));
  }

  groupOrder(): Int32Array {
    const indices = Array.from({ length: this.sequences }, (_, i) => i);
    return Int32Array.from(this.random('groupOrder').sample(indices, indices.length));
  }

  tokenCounts(): Floats {
    return this.floats('tokenCounts', this.sequences, (_random, i) => this.cuSeqlens[i + 1] - this.cuSeqlens[i]);
  }
}

/** Numbers of bits of a 16-bit type. */
export function widened(bits: Uint16Array, dtype: string): Float64Array {
  return Float64Array.from(bits, dtype === 'bf16' ? bf16ToNumber : f16ToNumber);
}
