// `npm run fuzz`: calls with generated arguments, valid and hostile, in processes that a fault may end. Prints each distinct
// fault with a seed, a path and the call; exits with 1 if there is one.
//
//   npm run fuzz -- [--calls N] [--seed S] [--workers W] [--subject NAME] [--backend NAME]
//                   [--patience SECONDS] [--seconds-per-fault N] [--json FILE]
//   npm run fuzz -- --subject NAME --seed S --path P [--tiny]    the call of a report, once more
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { type Campaign, campaign } from './fuzz/campaign.js';
import { runJob } from './fuzz/processes.js';
import { type FuzzRecord, origin } from './records.js';

const SUBJECTS = ['api', 'addon', 'readers'];

function whole(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value)) return value;
  throw new Error(`--${name}: expected a whole number, got ${JSON.stringify(text)}`);
}

function readOptions(args: string[]) {
  const { values } = parseArgs({
    args,
    options: {
      calls: { type: 'string', default: '20000' },
      seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
      workers: { type: 'string', default: String(availableParallelism()) },
      subject: { type: 'string', multiple: true, default: SUBJECTS },
      backend: { type: 'string', default: 'cpu' },
      path: { type: 'string' },
      tiny: { type: 'boolean', default: false },
      'seconds-per-fault': { type: 'string', default: '20' },
      patience: { type: 'string', default: '30' },
      json: { type: 'string' },
    },
  });
  const unknown = values.subject.find((name) => !SUBJECTS.includes(name));
  if (unknown !== undefined) throw new Error(`--subject: expected ${SUBJECTS.join(' or ')}, got ${unknown}`);
  process.env.RLVR_FUZZED_BACKEND = values.backend; // for the processes
  return {
    calls: whole('calls', values.calls),
    seed: whole('seed', values.seed),
    workers: whole('workers', values.workers),
    secondsPerFault: whole('seconds-per-fault', values['seconds-per-fault']),
    patience: whole('patience', values.patience),
    subjects: values.subject,
    path: values.path,
    tiny: values.tiny,
    json: values.json,
  };
}

type Options = ReturnType<typeof readOptions>;

async function replay({ subjects: [subject], seed, tiny, patience }: Options, path: string): Promise<boolean> {
  let fault: string | undefined = 'no answer';
  const { ok, reason } = await runJob(
    { kind: 'replay', subject, seed, path },
    {
      tiny,
      patience,
      onAnswer(answer) {
        if (!('replayed' in answer)) return;
        fault = answer.replayed.fault;
        console.log(`${answer.replayed.call}\n${fault ?? 'nothing is wrong'}`);
      },
    },
  );
  if (!ok) console.log(reason);
  return ok && fault === undefined;
}

/** The figures of a run, as JSON. */
function record({ seed }: Options, { ends, faults }: Campaign, started: number): FuzzRecord {
  return {
    measurement: 'rlvr-kernels fuzz',
    ...origin(seed, started),
    sanitizers: process.env.LD_PRELOAD?.includes('asan') === true,
    calls: ends,
    faults: faults.map(({ subject, target, fault, count }) => ({ subject, target, fault, count })),
  };
}

async function run(options: Options): Promise<boolean> {
  const { calls, seed, subjects } = options;
  console.log(`fuzz: ${calls} calls of ${subjects.join(', ')}, seed ${seed}, Node ${process.version}`);
  const started = performance.now();
  const result = await campaign({ ...options, log: (line) => console.log(line) });
  for (const [subject, ends] of Object.entries(result.ends)) {
    const all = Object.values(ends).reduce((sum, n) => sum + n, 0);
    const parts = Object.entries(ends).map(([end, n]) => `${n} ${end}`);
    console.log(`${subject}: ${all} calls (${parts.join(', ')})`);
  }
  console.log(`${result.faults.length} distinct faults in ${result.seconds.toFixed(0)} seconds, seed ${seed}`);
  if (options.json !== undefined)
    writeFileSync(options.json, `${JSON.stringify(record(options, result, started), null, 2)}\n`);
  return result.faults.length === 0;
}

try {
  const options = readOptions(process.argv.slice(2));
  const good = options.path === undefined ? await run(options) : await replay(options, options.path);
  if (!good) process.exitCode = 1;
} catch (error) {
  console.error(`fuzz: ${(error as Error).message}`);
  process.exitCode = 2;
}
