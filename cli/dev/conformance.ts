// `npm run conformance`: this package's losses against those of other projects, on the same numbers. Writes docs/conformance.md and
// the result that it is made from.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command } from 'commander';
import { conformanceDocument } from '../../bench/conformance/document.js';
import { type ConformanceResult, checkConformance } from '../../bench/conformance/result.js';
import { conformance } from '../../bench/conformance/run.js';
import { packageRoot } from '../../lib/package-root.js';
import { UsageError } from '../errors.js';
import { runProgram } from '../run-program.js';

const DOCUMENT = 'docs/conformance.md';
const RESULT = 'bench/results/conformance.json';

function resultOf(root: string): ConformanceResult {
  return checkConformance(JSON.parse(readFileSync(join(root, RESULT), 'utf8')));
}

const documentOf = (root: string) => conformanceDocument(resultOf(root), RESULT);

/** Why the committed document is not what the result gives; undefined if all is well. */
export function problemWithConformance(root: string): string | undefined {
  const path = join(root, DOCUMENT);
  const same = existsSync(path) && readFileSync(path, 'utf8') === documentOf(root);
  return same ? undefined : `${DOCUMENT} is not what ${RESULT} gives: npm run conformance -- --document`;
}

interface Flags {
  trl?: true;
  verl?: string;
  liger?: string;
  ligerAll?: true;
  python: string;
  document?: true;
}

async function run(flags: Flags, signal: AbortSignal): Promise<void> {
  const root = packageRoot();
  if (!flags.document) {
    if (!flags.trl && flags.verl === undefined && flags.liger === undefined)
      throw new UsageError('name what to compare with: --trl, --verl PATH, --liger PATH');
    if (flags.ligerAll && flags.liger === undefined) throw new UsageError('--liger-all needs --liger PATH');
    const progress = (text: string) => process.stderr.write(`\r${text} `);
    const before = existsSync(join(root, RESULT)) ? resultOf(root) : undefined;
    const wanted = { ...flags, trl: flags.trl === true, ligerAll: flags.ligerAll === true };
    const result = await conformance({ ...wanted, before, progress, signal });
    process.stderr.write('\n');
    writeFileSync(join(root, RESULT), `${JSON.stringify(result, null, 1)}\n`);
  }
  writeFileSync(join(root, DOCUMENT), documentOf(root));
  console.log(DOCUMENT);
}

// A test imports what is above.
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await runProgram(async (signal) => {
    await new Command('npm run conformance --')
      .description(`Compares losses and gradients with those of other projects, and writes ${DOCUMENT}.`)
      .option('--trl', 'with TRL, as the Python has it')
      .option('--verl <path>', "with verl's sources in this folder")
      .option('--liger <path>', 'with Liger-Kernel, by its own tests in this folder of its sources; minutes')
      .option('--liger-all', 'also its tests of large sizes with every option; hours')
      .option('--python <path>', 'that can import them', process.env.RLVR_BENCH_PYTHON || 'python3')
      .option('--document', `only write ${DOCUMENT} again from ${RESULT}`)
      .exitOverride()
      .showHelpAfterError('(--help shows the usage)')
      .action((flags: Flags) => run(flags, signal))
      .parseAsync();
  });
}
