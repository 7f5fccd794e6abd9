import { type Command, Option } from 'commander';
import type { BackendName } from '../../lib/index.js';
import { LOSSES, type LossName } from '../../lib/losses/list.js';
import { isSystemError, UsageError } from '../errors.js';
import { openInput } from '../input-file.js';
import { backendOption, jsonOption, resolveBackend } from '../options.js';
import { OutputFile, onStandardOutput } from '../output-file.js';
import { flagNames, flagOf, type LossFlags, libraryOptions, spell } from './flags.js';
import { objectText, rawMembers } from './json-members.js';
import { packRollouts } from './pack.js';
import { completeFlags, flagsOf, type LossOutcome, lossNames, requireInputs, runLoss } from './recipes.js';
import { lossText, renderGroups, reportGroups, reportTotals } from './report.js';
import { type Rollout, readRollouts } from './rollout-lines.js';

interface LossCommandOptions extends LossFlags {
  readonly loss: LossName;
  readonly backend?: BackendName;
  readonly json?: boolean;
  readonly out?: string;
}

const nameWidth = Math.max(...lossNames.map(({ length }) => length));

const help = `
Losses, and those of their defaults that differ:
${lossNames.map((name) => `  ${name.padEnd(nameWidth)}  ${LOSSES[name].summary}`).join('\n')}

FILE holds JSON Lines, one rollout a line, groups in any order:
  {"group": "q1", "reward": 1, "logprobs": [-0.1, -2.3], "mask": [1, 0],
   "old_logprobs": [...], "ref_logprobs": [...], "rollout_logprobs": [...],
   "teacher_logprobs": [...], "token_weights": [...], "rollout_weights": [...],
   "advantage": 0.5}
Optional: "mask"; and, on all lines or on none, the others. Without old_logprobs
every ratio is 1. "advantage" replaces the estimator's; both kinds of weights
multiply the policy term of their tokens. Log-probs alone tell no entropies: what
needs those (an entropy bonus or quantile) has no flag. Keys may be spelt as in the
library too: "logProbs", "oldLogProbs".

Examples:
  rlvr-kernels loss rollouts.jsonl --tau 0.1 --margin 0.2
  rlvr-kernels loss - --loss grpo --out graded.jsonl < rollouts.jsonl
  rlvr-kernels loss rollouts.jsonl --out - | jq .score`;

export function addLossCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command('loss')
    .description('compute a loss over recorded rollouts: a table per group, and per-token gradients with --out')
    .argument('<file>', 'rollouts as JSON Lines, or - for standard input')
    .addOption(new Option('--loss <name>', 'which loss, see below').choices(lossNames).default('conspo'))
    .addOption(backendOption())
    .addOption(jsonOption('print one line of JSON instead of the table'))
    .option(
      '--out <file>',
      'write each line back, in the same order, with "score" and "grad_logprobs"; - for standard output, in place of the table',
    );
  addLossFlags(command);
  command
    .addHelpText('after', help)
    .action((file: string, options: LossCommandOptions) => runFile(file, options, signal));
}

/** Under the names of the losses that have them. */
function addLossFlags(command: Command): void {
  for (const name of flagNames) {
    const { argument, description, parse } = flagOf(name);
    const owners = lossNames.filter((loss) => flagsOf(loss).includes(name));
    const heading = owners.length === lossNames.length ? 'every loss' : owners.join(', ');
    const option = new Option(`${spell(name)} ${argument}`.trim(), description).argParser(parse);
    command.addOption(option.helpGroup(`Options of ${heading}:`));
  }
}

async function runFile(file: string, options: LossCommandOptions, signal: AbortSignal): Promise<void> {
  const { loss: name, backend: wanted, json, out, ...flags } = options;
  const withTable = onStandardOutput({ '--json': json ? '-' : undefined, '--out': out }) === undefined;
  const complete = completeFlags(name, flags);
  const backend = resolveBackend(wanted);
  const output = out === undefined ? undefined : await OutputFile.open('--out', out);
  const rollouts = await readInput(file, signal);
  const packed = packRollouts(rollouts);
  requireInputs(flags, packed.batch);
  const outcome = await runLoss(name, packed.batch, { ...libraryOptions(complete), backend, signal });
  await output?.write(gradedLines(rollouts, packed.batch.cuSeqlens, outcome), signal);
  const threshold = flags.positiveThreshold ?? 0;
  const groups = reportGroups(packed, outcome, threshold);
  const totals = reportTotals(packed, outcome, threshold);
  if (json) {
    const { loss, metrics } = outcome;
    const result = { name, backend, loss, options: flags, groups, totals, metrics };
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
  if (withTable) {
    const table = renderGroups(groups, { ...totals, loss: outcome.loss }, outcome.groupLosses !== undefined);
    const counts = `rollouts ${totals.size}, groups ${totals.groups}`;
    process.stdout.write(
      `${table}\n\n${name} loss ${lossText(outcome.loss, packed.batch.logProbs)} (${counts}, backend ${backend})\n`,
    );
  }
}

async function readInput(file: string, signal: AbortSignal): Promise<Rollout[]> {
  try {
    return await readRollouts(openInput(file, signal), file === '-' ? 'stdin' : file);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new UsageError(`${file}: expected a file that can be read, got ${error.message}`);
  }
}

/** The input lines as they were written, each with its score and the gradient of the loss to its log-probs. */
function* gradedLines(
  rollouts: readonly Rollout[],
  cuSeqlens: Int32Array,
  { scores, gradLogProbs }: LossOutcome,
): Generator<string> {
  const gradients = Float64Array.from(gradLogProbs);
  for (const [i, { text }] of rollouts.entries()) {
    const gradient = gradients.subarray(cuSeqlens[i], cuSeqlens[i + 1]);
    const members = rawMembers(text);
    members.set('score', JSON.stringify(scores[i]));
    members.set('grad_logprobs', JSON.stringify([...gradient]));
    yield `${objectText(members)}\n`;
  }
}
