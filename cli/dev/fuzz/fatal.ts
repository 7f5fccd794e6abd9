// Calls that end their process, made smaller: each candidate in a process of its own.
import { deserialize, serialize } from 'node:v8';
import fc from 'fast-check';
import { type Job, signature } from './job.js';
import { runJob } from './processes.js';
import { subjects } from './subjects.js';

/** A plan as text; JSON has no NaN and no -0. */
export function encoded(plan: unknown): string {
  return serialize(plan).toString('base64');
}

export function decoded(text: string): unknown {
  return deserialize(Buffer.from(text, 'base64'));
}

export interface Fatal {
  subject: string;
  seed: number;
  path: string;
  tiny: boolean;
  fault: string;
}

/** The smallest call found in the time that still ends its process in the same way. */
export async function shrunkFatal(
  { subject: name, seed, path, tiny, fault }: Fatal,
  seconds: number,
  patience: number,
) {
  const subject = subjects[name];
  const ends = async (plan: unknown) => {
    const job: Job = { kind: 'once', subject: name, plan: encoded(plan) };
    const { ok, reason } = await runJob(job, { tiny, patience, onAnswer: () => {} });
    return !ok && signature(`the process ${reason}`) === signature(fault);
  };
  const found = await fc.check(
    fc.asyncProperty(subject.plans, async (plan) => !(await ends(plan))),
    { seed, path, numRuns: Number(path) + 1, interruptAfterTimeLimit: seconds * 1000 },
  );
  if (found.counterexample === null || found.counterexamplePath === null) return undefined;
  return { path: found.counterexamplePath, call: subject.describe(found.counterexample[0]) };
}
