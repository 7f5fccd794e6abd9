// A number of calls, spread over processes; what they find, once for each distinct fault, as small as it gets.
import { shrunkFatal } from './fatal.js';
import { type Answer, CHUNK, chunkSeed, type Job, signature } from './job.js';
import { type End, runJob } from './processes.js';

export interface CampaignOptions {
  calls: number;
  seed: number;
  workers: number;
  subjects: readonly string[];
  /** To make one call smaller. */
  secondsPerFault: number;
  /** Seconds after which a call hangs. */
  patience: number;
  log(line: string): void;
}

export interface Found {
  subject: string;
  target: string;
  fault: string;
  count: number;
  /** Where it was met first. */
  seed: number;
  path: string;
  tiny: boolean;
}

export interface Campaign {
  /** Calls by subject and by how they ended. */
  ends: Record<string, Record<string, number>>;
  faults: Found[];
  seconds: number;
}

/** Chunks that one process does; the next one has the other setting for tiny kernels. */
const CHUNKS_PER_PROCESS = 50;
/** Of the calls, by subject: the package's own functions are what users reach. */
const SHARES: Readonly<Record<string, number>> = { api: 7, addon: 2, readers: 1 };
const MOST_SHRUNK = 20;

interface Stretch {
  subject: string;
  from: number;
  to: number;
  tiny: boolean;
}

function stretches({ calls, subjects }: CampaignOptions): Stretch[] {
  const shares = subjects.map((subject) => SHARES[subject]);
  const all = shares.reduce((sum, share) => sum + share, 0);
  return subjects.flatMap((subject, s) => {
    const chunks = Math.ceil((calls * shares[s]) / all / CHUNK);
    return Array.from({ length: Math.ceil(chunks / CHUNKS_PER_PROCESS) }, (_, k) => ({
      subject,
      from: k * CHUNKS_PER_PROCESS,
      to: Math.min((k + 1) * CHUNKS_PER_PROCESS, chunks),
      tiny: k % 2 === 1,
    }));
  });
}

class Notes {
  readonly ends: Campaign['ends'] = {};
  readonly found = new Map<string, Found>();

  constructor(readonly seed: number) {}

  hear({ subject, tiny }: Stretch, answer: Answer): void {
    if (!('ends' in answer)) return;
    this.ends[subject] ??= {};
    const ends = this.ends[subject];
    for (const [end, n] of Object.entries(answer.ends)) ends[end] = (ends[end] ?? 0) + n;
    for (const { fault, chunk, at, target } of answer.faults) {
      this.add({ subject, tiny, target, fault, seed: chunkSeed(this.seed, chunk), path: String(at), count: 1 });
    }
  }

  add(one: Found): void {
    const key = `${one.subject} ${signature(one.fault)}`;
    const known = this.found.get(key);
    if (known) known.count++;
    else this.found.set(key, one);
  }
}

/**
 * The calls of a stretch. Where a process ends by a crash or a hang, the calls of that chunk are made once more, one at a time,
 * and go on behind the one that it was.
 */
async function work(stretch: Stretch, notes: Notes, patience: number): Promise<void> {
  const { subject, to, tiny } = stretch;
  const watch = { tiny, patience, onAnswer: (answer: Answer) => notes.hear(stretch, answer) };
  const run = (from: number, start: number, to: number, singly: boolean) =>
    runJob({ kind: 'run', subject, seed: notes.seed, from, start, to, singly }, watch);
  for (let from = stretch.from; from < to; ) {
    const end = await run(from, 0, to, false);
    if (end.ok) return;
    const chunk = end.last?.chunk ?? from;
    let alone = false;
    for (let start = 0; start < CHUNK; ) {
      const single = await run(chunk, start, chunk + 1, true);
      if (single.ok) break;
      notes.add(fatal(stretch, notes.seed, chunk, single));
      alone = true;
      start = (single.last?.at ?? start) + 1;
    }
    if (!alone) notes.add(fatal(stretch, notes.seed, chunk, end)); // several calls together did it
    from = chunk + 1;
  }
}

/** What ended a process, as a fault of the call that it was making. */
function fatal({ subject, tiny }: Stretch, seed: number, chunk: number, { reason, last }: End): Found {
  const path = String(last?.at ?? 0);
  const fault = `the process ${reason}`;
  return { subject, tiny, target: '', fault, seed: chunkSeed(seed, chunk), path, count: 1 };
}

/** Prints a fault, smaller if that can be done in time. */
async function explain(one: Found, { secondsPerFault, patience, log }: CampaignOptions): Promise<void> {
  const { subject, tiny, seed, path, fault } = one;
  let shown = { path, fault, call: '' };
  if (one.target === '') {
    const smaller = await shrunkFatal(one, secondsPerFault, patience);
    if (smaller) shown = { ...shown, ...smaller };
  } else {
    const onAnswer = (answer: Answer) => {
      if ('shrunk' in answer && answer.shrunk) shown = answer.shrunk;
    };
    const job: Job = { kind: 'shrink', subject, seed, path, fault, seconds: secondsPerFault };
    await runJob(job, { tiny, patience: secondsPerFault + patience, onAnswer });
  }
  one.fault = shown.fault;
  const again = `--subject ${subject} --seed ${seed} --path ${shown.path}${tiny ? ' --tiny' : ''}`;
  const [what, ...output] = shown.fault.split('\n');
  log(['', `${one.count} x ${what}`, shown.call, ...output, `  again: npm run fuzz -- ${again}`].join('\n'));
}

export async function campaign(options: CampaignOptions): Promise<Campaign> {
  const start = performance.now();
  const notes = new Notes(options.seed);
  const left = stretches(options);
  const worker = async () => {
    for (let next = left.shift(); next; next = left.shift()) await work(next, notes, options.patience);
  };
  await Promise.all(Array.from({ length: options.workers }, worker));
  const seconds = (performance.now() - start) / 1000;
  const faults = [...notes.found.values()].sort((a, b) => b.count - a.count);
  for (const one of faults.slice(0, MOST_SHRUNK)) await explain(one, options);
  return { ends: notes.ends, faults, seconds };
}
