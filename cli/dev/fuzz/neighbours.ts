// What roundings may do to a result: the reference's results on inputs that differ by about as much.
import { Random } from '../../../bench/problems/random.js';
import { tag } from '../../../lib/errors.js';
import { honest, isPlain, isTypedArray, ownValue } from './arguments.js';
import { attempt } from './attempts.js';
import { below, widened } from './data.js';
import { type Figure, figuresOf, scaledFigures } from './figures.js';
import type { Plan } from './plan.js';
import type { Target } from './targets.js';
import { victimOf } from './victims.js';

const NEIGHBOURS = 12;

/** The reference's results on inputs that differ by about as much as the backends' roundings do; undefined if it refuses some. */
export function neighbours(
  plan: Plan,
  target: Target,
  args: readonly unknown[],
  fromLogits: boolean,
): Figure[][] | undefined {
  const found: Figure[][] = [];
  const wide = fromLogits ? args.map(widenedTensors) : args;
  const heat = fromLogits ? Math.max(1, temperatureIn(args)) : 0;
  for (let k = 1; k <= NEIGHBOURS; k++) {
    const random = new Random(k);
    const width = (fromLogits ? 1e-6 : 1e-13) * [1, 0.3, 2][below(random, 3)];
    const direction = () => (k % 3 === 0 ? 1 : 2 * random.uniform() - 1);
    const alter = (array: unknown) => {
      if (!(array instanceof Float64Array || array instanceof Float32Array)) return;
      const own = array instanceof Float32Array ? Math.max(width, 2e-7) : width;
      for (let i = 0; i < array.length; i++) {
        if (array[i] === 0 || !Number.isFinite(array[i])) continue; // exact: no token, no advantage
        const size = Math.max(Math.abs(array[i]), array instanceof Float32Array ? heat : Math.min(heat, 1));
        array[i] += own * size * direction();
      }
    };
    const victim = victimOf(plan, wide, alter);
    if (fromLogits) moveZeroLogits(victim.args, () => Math.max(width, 2e-7) * heat * direction());
    const { failed, value } = attempt(victim, target.sync, 'reference');
    if (failed) return undefined;
    found.push(scaledFigures(figuresOf(value)));
  }
  return found;
}

/** 16-bit tensors as float32 ones, which can be moved by less than a rounding; everything else as it is. */
function widenedTensors(argument: unknown): unknown {
  if (!isPlain(argument)) return argument;
  if (!('data' in argument)) {
    return Object.fromEntries(Object.entries(argument).map(([key, value]) => [key, widenedTensors(value)]));
  }
  const { data } = argument;
  if (data instanceof Float32Array) return argument;
  const { buffer, byteOffset, byteLength } = data as Uint16Array;
  const bits = new Uint16Array(buffer, byteOffset, byteLength / 2);
  const wide = { ...argument, data: Float32Array.from(widened(bits, String(argument.dtype))) };
  return 'dtype' in wide ? { ...wide, dtype: 'f32' } : wide;
}

/**
 * Logits of 0 are as rounded as others are, also those of an array that an edit has put there, or of hidden states: moves these by
 * what `by` gives.
 */
function moveZeroLogits(args: readonly unknown[], by: () => number): void {
  for (const argument of args) {
    const logits = ownValue(argument, 'logits') ?? ownValue(argument, 'hidden');
    const data = isTypedArray(logits) ? logits : ownValue(logits, 'data');
    if (!isTypedArray(data) || tag(data) !== 'Float32Array') continue;
    const numbers = honest(data);
    for (let i = 0; i < numbers.length; i++) if (numbers[i] === 0) numbers[i] = by();
  }
}

function temperatureIn(args: readonly unknown[]): number {
  const { temperature } = (args.find((arg) => isPlain(arg) && 'temperature' in arg) as { temperature?: unknown }) ?? {};
  return typeof temperature === 'number' ? temperature : 1;
}
