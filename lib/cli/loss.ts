import { createReadStream } from 'node:fs';
import { addAbortSignal, type Readable } from 'node:stream';
import { type Command, Option } from 'commander';
import type { BackendName } from '../index.js';
import { UsageError } from './errors.js';
import { type PackedRollouts, packRollouts } from './loss/pack.js';
import { type LossFlags, type LossName, type LossOutcome, lossNames, recipeOf } from './loss/recipes.js';
import { renderGroups, reportGroups, reportTotals } from './loss/report.js';
import { type Rollout, readRollouts } from './loss/rollout-lines.js';
import { backendOption, jsonOption, numberWithin, resolveBackend } from './options.js';
import { OutputFile } from './output-file.js';

interface LossCommandOptions extends LossFlags {
  readonly loss: LossName;
  readonly backend?: BackendName;
  readonly json?: boolean;
  readonly out?: string;
}

const help = `
FILE holds JSON Lines, one rollout a line, groups in any order:
  {"group": "q1", "reward": 1, "logprobs": [-0.1, -2.3],
   "old_logprobs": [...], "ref_logprobs": [...], "mask": [1, 0]}
The last three are optional; old_logprobs and ref_logprobs on all lines or on none.

Examples:
  rlvr-kernels loss rollouts.jsonl --tau 0.1 --margin 0.2
  rlvr-kernels loss - --loss grpo --out graded.jsonl < rollouts.jsonl`;

export function addLossCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command('loss')
    .description('compute a loss over recorded rollouts: a table per group, and per-token gradients with --out')
    .argument('<file>', 'rollouts as JSON Lines, or - for standard input')
    .addOption(new Option('--loss <name>', 'which loss').choices(lossNames).default('conspo'));
  addLossFlags(command);
  command
    .addOption(backendOption())
    .addOption(jsonOption('print one line of JSON instead of the table'))
    .option('--out <file>', 'write each line back, in the same order, with "score" and "grad_logprobs"')
    .addHelpText('after', help)
    .action((file: string, options: LossCommandOptions) => runLoss(file, options, signal));
}

function addLossFlags(command: Command): void {
  const number = (flag: string, description: string, bounds: Parameters<typeof numberWithin>[0] = {}) =>
    command.option(`${flag} <number>`, description, numberWithin(bounds));
  number('--tau', 'conspo: temperature of the contrast (default 0.1)', { above: 0 });
  number('--margin', 'conspo: margin taken off the positive scores (default 0)');
  number('--positive-threshold', 'a rollout is positive if its reward is above this (default 0)');
  number('--epsilon-low', 'grpo: lower clip, 1 - epsilon (default 0.2)', { min: 0 });
  number('--epsilon-high', 'grpo: upper clip, 1 + epsilon (default 0.2)', { min: 0 });
  command.addOption(
    new Option('--aggregation <name>', 'grpo: how sequences are weighted (default sequence-mean)').choices([
      'sequence-mean',
      'token-mean',
      'constant-length',
    ]),
  );
  number('--kl-coef', 'grpo: weight of the KL penalty to ref_logprobs (default 0)', { min: 0 });
  command.addOption(new Option('--kl-estimator <name>', 'grpo: k1, k2 or k3 (default k3)').choices(['k1', 'k2', 'k3']));
  number('--max-length', 'grpo: length that constant-length divides by', { min: 1, integer: true });
}

async function runLoss(file: string, options: LossCommandOptions, signal: AbortSignal): Promise<void> {
  const { loss: name, backend: wanted, json, out, ...flags } = options;
  const recipe = recipeOf(name);
  requireKnownFlags(name, flags);
  const backend = resolveBackend(wanted);
  const output = out === undefined ? undefined : await OutputFile.open('--out', out);
  const rollouts = await readInput(file, signal);
  const packed = packRollouts(rollouts);
  recipe.check?.(flags, packed.batch);
  const outcome = await recipe.run(packed.batch, flags, { backend, signal });
  await output?.write(gradedLines(rollouts, packed, outcome), signal);
  const threshold = flags.positiveThreshold ?? 0;
  const groups = reportGroups(packed, outcome, threshold);
  const totals = reportTotals(packed, outcome, threshold);
  if (json) {
    const { loss, metrics } = outcome;
    const result = { name, backend, loss, options: flags, groups, totals, metrics };
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } else {
    const table = renderGroups(groups, { ...totals, loss: outcome.loss }, outcome.groupLosses !== undefined);
    const counts = `rollouts ${totals.size}, groups ${totals.groups}`;
    process.stdout.write(`${table}\n\n${name} loss ${outcome.loss} (${counts}, backend ${backend})\n`);
  }
}

function requireKnownFlags(name: LossName, flags: LossFlags): void {
  const stray = (Object.keys(flags) as (keyof LossFlags)[]).find((flag) => !recipeOf(name).flags.includes(flag));
  if (stray === undefined) return;
  const option = stray.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new UsageError(`--${option}: expected only with a loss that has it, got --loss ${name}`);
}

async function readInput(file: string, signal: AbortSignal): Promise<Rollout[]> {
  const stream: Readable = file === '-' ? process.stdin : createReadStream(file);
  stream.setEncoding('utf8');
  addAbortSignal(signal, stream);
  try {
    return await readRollouts(stream, file === '-' ? 'stdin' : file);
  } catch (error) {
    const systemError = error instanceof Error && 'syscall' in error;
    throw systemError ? new UsageError(`${file}: expected a file that can be read, got ${error.message}`) : error;
  }
}

/** The input lines in their own order, each with its score and the gradient of the loss to its log-probs. */
function* gradedLines(
  rollouts: readonly Rollout[],
  { order, batch }: PackedRollouts,
  { scores, gradLogProbs }: LossOutcome,
): Generator<string> {
  const gradients = Float64Array.from(gradLogProbs);
  const sequenceOf = new Int32Array(order.length);
  order.forEach((rollout, sequence) => {
    sequenceOf[rollout] = sequence;
  });
  for (const [i, { text }] of rollouts.entries()) {
    const sequence = sequenceOf[i];
    const gradient = gradients.subarray(batch.cuSeqlens[sequence], batch.cuSeqlens[sequence + 1]);
    yield `${JSON.stringify({ ...JSON.parse(text), score: scores[sequence], grad_logprobs: [...gradient] })}\n`;
  }
}
