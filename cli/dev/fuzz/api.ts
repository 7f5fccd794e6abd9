// The first subject: the public functions of the package.
import fc from 'fast-check';
import { HELPER_TARGETS } from './helper-targets.js';
import { HOST_TARGETS } from './host-targets.js';
import { EDITS } from './hostile.js';
import type { Subject } from './job.js';
import { judge } from './judge.js';
import { type Plan, plans } from './plan.js';
import { source } from './source.js';
import { BACKEND_TARGETS, type Target } from './targets.js';
import { victimOf } from './victims.js';

const TARGETS: readonly Target[] = [...BACKEND_TARGETS, ...HOST_TARGETS, ...HELPER_TARGETS];
const byName = new Map(TARGETS.map((target) => [target.name, target]));

function targetOf({ target: name }: Plan): Target {
  const target = byName.get(name);
  if (!target) throw new Error(`no target ${name}`);
  return target;
}

function describe(plan: Plan): string {
  const target = targetOf(plan);
  const args = target.args(plan);
  const { done, names } = victimOf(plan, args);
  return [
    `${plan.target}(${names.join(', ')}), arrays in memory: ${plan.batch.memory}${plan.copies ? ', copyInputs' : ''}`,
    ...args.map((arg, i) => `  ${names[i]} = ${source(arg)}`),
    ...done.map((edit) => `  then ${edit}`),
  ].join('\n');
}

export const api: Subject<Plan> = {
  plans: fc.oneof(
    ...TARGETS.map(({ name, fields, options, signal }) =>
      plans({ target: name, fields, options, edits: EDITS, ...(signal && { signal }) }),
    ),
  ),
  judge: (plan) => judge(targetOf(plan), plan),
  describe,
};
