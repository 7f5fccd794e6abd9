import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { stepTime } from '../../bench/report/figures.js';
import { renderMarkdown } from '../../bench/report/markdown.js';
import { type BenchReport, reportJson } from '../../bench/report/report.js';
import { runBench } from '../../bench/run.js';
import { defaultSections, sectionNames } from '../../bench/sections/experiment.js';
import { openInput } from '../input-file.js';
import { OutputFile, onStandardOutput } from '../output-file.js';
import { addBenchOptions, type BenchExtras, type BenchOptions, settingsOf } from './arguments.js';
import { benchRanks, isRanks } from './ranks.js';
import { renderFinding, renderMachine } from './table.js';

const help = `
Sections:
  token       log-probs of logits, forward and backward, in every dtype
  scores      mean log-probs and every ratio score, forward and backward
  objectives  group InfoNCE, advantages; sequence and group level together
  losses      losses from logits to their gradient in place, and the token level alone
  linear      log-probs and gradients from hidden states, against matrix products and arithmetic
  groups      group InfoNCE against group size, at two numbers of sequences
  calls       what a call costs besides its kernel: into the addon, sync and async
  threads     the token level on one thread, two, and so on
  sweep       many shapes, small ones too, against the reference backend
  ranks       losses on several processes, by themselves: mpirun -n 4 rlvr-kernels bench ranks

Every result is checked against float64 before and after it is timed; a wrong one ends the run with
exit code 1. "of mem" is the share of the memory bandwidth, which is measured in the same rounds,
"of peak" that of multiply-adds in registers; "MiB" is the most memory that a call takes. On cuda a
call takes logits in the device's memory and ends when its results are on the host; the kernels
alone, and PyTorch on the same device, are timed by "npm run bench:cuda" in a checkout.`;

const noExtras: BenchExtras = { peers: [], losses: {} };
/** Where results go is not how they were made. */
const outputOptions: readonly string[] = ['json', 'markdown', 'html', 'compare', 'installPeers'];

export function addBenchCommand(program: Command, signal: AbortSignal, extras = noExtras): void {
  const command = program
    .command('bench')
    .description('measure the kernels on this machine, against its memory bandwidth')
    .argument('[sections...]', `all, or some of ${sectionNames.join(', ')} (${defaultSections.join(', ')})`);
  addBenchOptions(command, extras);
  command
    .addHelpText('after', help)
    .action((sections: readonly string[], options: BenchOptions) =>
      runCommand(command, sections, options, extras, signal),
    );
}

async function runCommand(
  command: Command,
  sections: readonly string[],
  options: BenchOptions,
  extras: BenchExtras,
  signal: AbortSignal,
): Promise<void> {
  if (isRanks(sections)) return benchRanks(command, options);
  const changesSince = options.compare === undefined ? undefined : await readPrevious(options.compare, signal);
  if (options.installPeers) extras.installPeers?.();
  const settings = settingsOf(sections, options, extras, commandLine(command, sections, options));
  const { json, markdown, html } = options;
  const withTables = onStandardOutput({ '--json': json, '--markdown': markdown, '--html': html }) === undefined;
  const outputs = await openOutputs(options);
  const print = (text: string) => void (withTables && process.stdout.write(text));
  const running = runBench(settings, signal, (finding) => print(`\n${renderFinding(finding)}`));
  const report = await Promise.race([running, giveUp(signal)]);
  const time = stepTime(report);
  if (time !== undefined) print(`\n${time.step}\n(${time.of})\n`);
  print(`\n${renderMachine(report)}`);
  if (changesSince) print(`\n${changesSince(report)}`);
  for (const { file, render } of outputs) await file.write([await render(report)], signal);
}

/** Nothing aborts a call that a peer's process is in the middle of. Ctrl-C in a terminal ends that process too. */
const GRACE_MS = 500;

async function giveUp(signal: AbortSignal): Promise<never> {
  await once(signal, 'abort');
  await sleep(GRACE_MS);
  throw signal.reason;
}

/** First of all: after the run it would be too late to learn that it is no report. */
async function readPrevious(path: string, signal: AbortSignal): Promise<(report: BenchReport) => string> {
  const { readReport, renderChanges } = await import('./compare.js'); // its library of schemas is not needed otherwise
  const previous = await readReport(openInput(path, signal), '--compare', path);
  return (report) => renderChanges(report, previous);
}

interface Output {
  readonly file: OutputFile;
  readonly render: (report: BenchReport) => string | Promise<string>;
}

/** A file that cannot be written is reported before the work is done. */
async function openOutputs({ json, markdown, html }: BenchOptions): Promise<Output[]> {
  const outputs: Output[] = [];
  const add = async (option: string, path: string | undefined, render: Output['render']) => {
    if (path !== undefined) outputs.push({ file: await OutputFile.open(option, path), render });
  };
  await add('--json', json, reportJson);
  await add('--markdown', markdown, renderMarkdown);
  await add('--html', html, async (report) => {
    const { renderHtml } = await import('../../bench/report/html/page.js'); // its charts are not needed otherwise
    return renderHtml(report);
  });
  return outputs;
}

/** As it was given, without the files. */
function commandLine(command: Command, sections: readonly string[], options: BenchOptions): string {
  const given = Object.entries(options).filter(
    ([name]) => command.getOptionValueSource(name) === 'cli' && !outputOptions.includes(name),
  );
  const spelled = given.map(([name, value]) => {
    const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    if (value === true) return `--${flag}`;
    return value === false ? `--no-${flag}` : `--${flag} ${spellValue(value)}`;
  });
  return ['rlvr-kernels bench', ...sections, ...spelled].join(' ');
}

function spellValue(value: unknown): string {
  if (typeof value === 'object' && value !== null && 'min' in value && 'max' in value)
    return `${value.min}-${value.max}`;
  return String(value); // lists with commas
}
