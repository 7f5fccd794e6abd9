// A process that makes calls: whatever they do to it, the process that started it goes on.
import { writeSync } from 'node:fs';
import fc from 'fast-check';
import { decoded } from './fatal.js';
import { type Answer, CHUNK, chunkSeed, type Job, type Outcome, type Subject, signature } from './job.js';
import { subjects } from './subjects.js';

/** Where answers go. */
const ANSWERS = 3;
/** Asynchronous calls in flight at once. */
const TOGETHER = 20;

/** At once, before whatever may end this process. */
function answer(what: Answer): void {
  writeSync(ANSWERS, `${JSON.stringify(what)}\n`);
}

/** Says what came of a chunk at its end or, singly, of each call: a process that dies has said nothing of the calls before. */
async function run<P>(subject: Subject<P>, { seed, from, start, to, singly }: Job & { kind: 'run' }): Promise<void> {
  const together = singly ? 1 : TOGETHER;
  for (let chunk = from; chunk < to; chunk++) {
    const plans = fc.sample(subject.plans, { seed: chunkSeed(seed, chunk), numRuns: CHUNK });
    let outcome: Outcome = { ends: {}, faults: [] };
    for (let at = chunk === from ? start : 0; at < CHUNK; at += together) {
      if (at === 0 || singly) answer({ chunk, at });
      const some = plans.slice(at, at + together);
      const verdicts = await Promise.all(some.map((plan) => subject.judge(plan)));
      for (const [k, { end, fault }] of verdicts.entries()) {
        outcome.ends[end] = (outcome.ends[end] ?? 0) + 1;
        if (fault !== undefined) outcome.faults.push({ fault, chunk, at: at + k, target: targetOf(some[k]) });
      }
      if (singly) answer(outcome);
      if (singly) outcome = { ends: {}, faults: [] };
    }
    answer(outcome);
    for (const name in {}) throw new Error(`Object.prototype has got a property ${name}`);
  }
}

function targetOf(plan: unknown): string {
  return String((plan as { target?: unknown }).target ?? '');
}

class Fault extends Error {}

/** A smaller call with the same fault. */
async function shrink<P>(subject: Subject<P>, job: Job & { kind: 'shrink' }): Promise<void> {
  const wanted = signature(job.fault);
  const found = await fc.check(
    fc.asyncProperty(subject.plans, async (plan) => {
      const { fault } = await subject.judge(plan);
      if (fault !== undefined && signature(fault) === wanted) throw new Fault(fault);
    }),
    { seed: job.seed, path: job.path, numRuns: Number(job.path) + 1, interruptAfterTimeLimit: job.seconds * 1000 },
  );
  const { counterexample, counterexamplePath: path, errorInstance } = found;
  if (counterexample === null || path === null) answer({ shrunk: undefined });
  else answer({ shrunk: { path, fault: (errorInstance as Error).message, call: subject.describe(counterexample[0]) } });
}

/** The call of a seed and a path, made once. */
async function replay<P>(subject: Subject<P>, { seed, path }: Job & { kind: 'replay' }): Promise<void> {
  let made: { fault: string | undefined; call: string } | undefined;
  await fc.check(
    fc.asyncProperty(subject.plans, async (plan) => {
      made ??= { call: subject.describe(plan), fault: (await subject.judge(plan)).fault };
      throw new Fault('once');
    }),
    { seed, path, numRuns: CHUNK, endOnFailure: true },
  );
  answer({ replayed: made ?? { call: 'no such call', fault: undefined } });
}

Error.stackTraceLimit = 6; // traces are a large part of the time of a refused call
const job = JSON.parse(process.argv[2]) as Job;
const subject = subjects[job.subject] as Subject<unknown>;
if (job.kind === 'run') await run(subject, job);
else if (job.kind === 'shrink') await shrink(subject, job);
else if (job.kind === 'replay') await replay(subject, job);
else await subject.judge(decoded(job.plan));
