// The arguments of one call: copied into watched memory, then edited as the plan says.
import { copied, Memory } from './arguments.js';
import { edit, type Victim } from './hostile.js';
import type { Plan } from './plan.js';

const OWN = new Error("the caller's own");

export function freshArguments(plan: Plan, args: readonly unknown[], alter?: Parameters<typeof copied>[2]): Victim {
  const memory = new Memory(plan.batch.memory);
  return {
    args: copied(args, memory, alter) as unknown[],
    names: ['first', 'second', 'third', 'fourth', 'fifth'].slice(0, args.length),
    memory,
    own: OWN,
    done: [],
    lent: new Map(),
  };
}

/** The same arguments, after the plan's edits: what they hold now must not change but where a result is written. */
export function editedArguments(victim: Victim, { edits }: Plan, afterEach = () => {}): Victim {
  for (const one of edits) {
    edit(victim, one);
    afterEach();
  }
  victim.memory.snapshot();
  return victim;
}

export function victimOf(plan: Plan, args: readonly unknown[], alter?: Parameters<typeof copied>[2]): Victim {
  return editedArguments(freshArguments(plan, args, alter), plan);
}
