// The second subject: the addon's own functions, which the package calls with checked arguments only. Called wrongly, each
// throws a TypeError or returns, and writes to nothing but its outputs. Arguments there are plain, and outputs lie apart
// from offsets and ids, which are checked before a kernel runs: what the package hands over is always so.
import fc from 'fast-check';
import { ADDON_CALLS, type AddonCall } from './addon-calls.js';
import { extentOf, isTypedArray, ownValue } from './arguments.js';
import { PLAIN_EDITS, type Victim } from './hostile.js';
import type { Subject, Verdict } from './job.js';
import { type Plan, plans } from './plan.js';
import { source } from './source.js';
import { editedArguments, freshArguments } from './victims.js';

const byName = new Map(ADDON_CALLS.map((each) => [each.name, each]));

/** Memory that a call may write to. */
function outputsIn({ args, lent }: Victim, names: readonly string[]) {
  const named = args.flatMap((arg) => names.map((name) => ownValue(arg, name)));
  const held = named.flatMap((value) => [value, ownValue(value, 'data')]); // of a matrix
  const handedOut = names.map((name) => lent.get(name));
  return [...held, ...handedOut].filter(isTypedArray).map(extentOf);
}

function problem(error: unknown, own: Error, { mayFail = false }: AddonCall): string | undefined {
  if (error === own || error instanceof TypeError) return undefined;
  if (mayFail && error instanceof Error) return undefined;
  return `threw ${error instanceof Error ? `${error.name}: ${error.message.slice(0, 200)}` : typeof error}`;
}

async function judge(plan: Plan): Promise<Verdict> {
  const each = byName.get(plan.target);
  if (!each) throw new Error(`no function ${plan.target}`);
  const victim = freshArguments(plan, each.args(plan));
  const outputs = outputsIn(victim, each.outputs);
  // After every edit: a later one may hide what holds an output.
  editedArguments(victim, plan, () => outputs.push(...outputsIn(victim, each.outputs)));
  try {
    await each.call(...victim.args);
  } catch (error) {
    const fault = problem(error, victim.own, each);
    const changed = victim.memory.change();
    return { end: 'refused', fault: fault ?? (changed && `refused, and wrote ${changed}`) };
  }
  const changed = victim.memory.change((buffer, byte) =>
    outputs.some((out) => out.buffer === buffer && byte >= out.start && byte < out.end),
  );
  return { end: 'result', fault: changed && `wrote ${changed}` };
}

function describe(plan: Plan): string {
  const args = byName.get(plan.target)?.args(plan) ?? [];
  const { done, names } = editedArguments(freshArguments(plan, args), plan);
  return [
    `addon.${plan.target}(${names.join(', ')}), arrays in memory: ${plan.batch.memory}`,
    ...args.map((arg, i) => `  ${names[i]} = ${source(arg)}`),
    ...done.map((edit) => `  then ${edit}`),
  ].join('\n');
}

export const addonSubject: Subject<Plan> = {
  plans: fc.oneof(
    ...ADDON_CALLS.map(({ name }) => plans({ target: name, fields: [], options: [], edits: PLAIN_EDITS })),
  ),
  judge,
  describe,
};
