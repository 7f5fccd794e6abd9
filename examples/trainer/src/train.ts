// One run from the command line: supervised warm start, then RLVR.
//   npx tsx src/train.ts --task add2 --loss dapo --options '{"epsilonHigh":0.3}' --out runs/add2-dapo
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openMpi } from 'rlvr-kernels/mpi';
import { writePage } from './page.js';

import { withBar } from './progress.js';
import { RECIPES } from './recipes.js';
import { type Run, train } from './run.js';
import { DEFAULTS, type Settings } from './settings.js';
import { TASKS } from './tasks.js';

const CHOICES: Readonly<Record<string, readonly string[]>> = {
  framework: ['tfjs', 'jax'],
  task: Object.keys(TASKS),
  loss: Object.keys(RECIPES),
};

const names = [...Object.keys(DEFAULTS), 'margin', 'out'];
const strings = Object.fromEntries(names.map((name) => [name, { type: 'string' }] as const));
const { mpi, ...given } = parseArgs({ options: { ...strings, mpi: { type: 'boolean' } } }).values;

function parsed(name: string, text: string): unknown {
  const known = CHOICES[name];
  if (known && !known.includes(text)) throw new Error(`--${name}: expected one of ${known.join(', ')}, got ${text}`);
  if (known) return text;
  const value: unknown = JSON.parse(text);
  const expected = name === 'options' || name === 'margin' ? 'object' : 'number';
  if (typeof value !== expected)
    throw new Error(`--${name}: expected ${expected === 'object' ? 'JSON' : 'a number'}, got ${text}`);
  return value;
}

const { out, ...flags } = given as Record<string, string | undefined>;
const chosen = Object.entries(flags).map(([name, text]) => [name, parsed(name, text as string)]);
const settings: Settings = { ...DEFAULTS, ...Object.fromEntries(chosen) };
const folder = out ?? join('runs', `${settings.task}-${settings.loss}-${settings.framework}-${settings.seed}`);
const ranks = mpi ? openMpi() : undefined;
const isFirst = (ranks?.rank ?? 0) === 0;
const run = (onStep?: Run['onStep']) => train(settings, { folder, ranks, ...(onStep && { onStep }) });
await (isFirst ? withBar(run) : run());
await ranks?.close();
if (isFirst) console.log(`${folder}/log.jsonl, checkpoint.safetensors; curves: ${writePage(folder, [folder])}`);
