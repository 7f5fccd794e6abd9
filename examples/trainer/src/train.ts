// Supervised warm start, then RLVR; JSON Lines on standard output.
//   npx tsx src/train.ts --framework jax --task add2 --loss dapo --options '{"epsilonHigh":0.3}' > add2.jsonl
import { parseArgs } from 'node:util';
import { type LossName, losses } from 'rlvr-kernels';
import { evaluate, problemsOf, reinforce, warmStart } from './loop.js';
import type { MakeModel } from './model.js';
import { seeded } from './random.js';
import { TASKS, VOCAB } from './tasks.js';

const words = { framework: 'tfjs', task: 'add2', loss: 'grpo', options: '{}' };
const sizes = { seed: 1, warm: 300, steps: 100, groups: 16, samples: 8, microBatch: 64 };
const numbers = { ...sizes, learningRate: 3e-4, temperature: 1 };
const defaults = Object.entries({ ...words, ...numbers });
const options = Object.fromEntries(
  defaults.map(([name, value]) => [name, { type: 'string', default: `${value}` }] as const),
);
const flags = parseArgs({ options }).values as Record<keyof typeof words | keyof typeof numbers, string>;

/** The flag as one of the words that it may be. */
function choice<W extends string>(name: keyof typeof words, known: readonly W[]): W {
  const word = known.find((one) => one === flags[name]);
  if (word === undefined) throw new Error(`--${name}: expected one of ${known.join(', ')}, got ${flags[name]}`);
  return word;
}

const log = (line: object) =>
  console.log(JSON.stringify(line, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value)));

const given = Object.fromEntries(Object.keys(numbers).map((name) => [name, Number(flags[name as 'seed'])]));
const settings = { ...numbers, ...given, loss: choice('loss', Object.keys(losses) as LossName[]) };
if (Object.values(given).some(Number.isNaN)) throw new Error(`expected numbers for ${Object.keys(numbers).join(', ')}`);
const task = TASKS[choice('task', Object.keys(TASKS))]!;
const ofLoss = { ...(settings.loss === 'drGrpo' && { maxLength: task.maxAnswer }), ...JSON.parse(flags.options) };

const random = seeded(settings.seed);
const evaluation = seeded(123);
const { makeModel }: { makeModel: MakeModel } = await import(`./model-${choice('framework', ['jax', 'tfjs'])}.js`);
const model = await makeModel({ vocab: VOCAB, maxLength: 24, width: 64, layers: 2, heads: 4 }, random);
const heldOut = problemsOf(task, 256, evaluation);
const accuracy = () => evaluate(model, task, heldOut, settings.temperature, evaluation);
log({ ...flags, parameters: model.parameters });
for (const line of settings.warm > 0 ? warmStart(model, task, random) : []) {
  if (line.warm % 50 === 0) log(line);
  if (line.warm === settings.warm) break;
}
log({ step: 0, ...accuracy() });
for (const line of reinforce(model, task, { ...settings, options: ofLoss }, random)) {
  log(line.step % 25 === 0 ? { ...line, ...accuracy() } : line);
  if (line.step === settings.steps) break;
}
