// One call, made three times: by the reference, by the backend under test, and by that asynchronously. What must hold of
// them is docs/reliability.md.

import { RlvrError, type RlvrErrorCode } from '../../../lib/index.js';
import {
  extentOf,
  GRADIENT_OPTIONS,
  gradientsIn,
  isPlain,
  isTypedArray,
  ownValue,
  withinGradients,
} from './arguments.js';
import { type Attempt, attempt, attemptAsync, finished } from './attempts.js';
import { bitwiseDifference, distantFigure, nonFinite, type Tolerances } from './figures.js';
import type { Victim } from './hostile.js';
import { FUZZED_BACKEND, type Verdict } from './job.js';
import { neighbours } from './neighbours.js';
import type { Plan } from './plan.js';
import type { Target } from './targets.js';
import { victimOf } from './victims.js';

const CODES: ReadonlySet<RlvrErrorCode> = new Set([
  'ERR_SHAPE',
  'ERR_DTYPE',
  'ERR_RANGE',
  'ERR_NONFINITE',
  'ERR_OPTION',
  'ERR_BACKEND',
  'ERR_CUDA',
  'ERR_DISPOSED',
  'ERR_ABORTED',
]);

const LONGEST_MESSAGE = 500;

/** Errors that may come when a gradient was written already: what its memory holds is then unspecified. */
const LATE =
  /keeps its memory until|^logits: expected log-probs that are finite|expected a finite (gradient of every logit|result of finite)|^gradient: expected (finite|values within)|^grad(Hidden|Weight|Bias): expected a finite gradient, got another/;

/** Probabilities far above 1, which only float64 can hold. */
const FOREIGN_LOG_SUM_EXP = /got another at row \d+: .*logSumExp is not theirs/;

/** A class given as an objective, which is called: an error of the caller's own. */
const CLASS_CALLED = /^Class constructor \w+ cannot be invoked without 'new'$/;

/** A getter of the platform's, inherited by an object that it does not belong to: as a getter of the caller's own that throws. */
const PLATFORM_GETTER = /^(Value of "this" must be of type|Method get \S+ called on incompatible receiver)/;
const READ_BY_NAME = /^\s*at take \(.*lib\/options\.js/;

/** Whether an error is not the library's but comes from what the caller handed over, and passes through. */
function passesThrough(error: unknown, victim: Victim): boolean {
  if (error === victim.own) return true;
  if (!(error instanceof TypeError)) return false;
  if (CLASS_CALLED.test(error.message)) return true;
  return PLATFORM_GETTER.test(error.message) && READ_BY_NAME.test(libraryFrames(error)[0] ?? '');
}

/** How a message starts: with an argument, an option, or a place in one of them. */
const NAMED = /^(the objective|loss of the objective|CUDA is not available|[\w$]+(\.[\w$]+|\[\d+\])*): /;

function messageProblem(message: string): string | undefined {
  if (message.length > LONGEST_MESSAGE) return `a message of ${message.length} characters: ${message.slice(0, 120)}...`;
  if (/[^\P{C}]/u.test(message)) return `a message with control characters: ${JSON.stringify(message)}`;
  if (message === 'the operation was aborted' || NAMED.test(message)) return undefined;
  return /^[^:]{0,100}: (no such (option|field)|expected a value, got a revoked Proxy)/s.test(message)
    ? undefined
    : `a message without an argument: ${message}`;
}

/** What is wrong with one attempt, whatever the others did. `args`: before they were edited. */
function illegal(one: Attempt, plan: Plan, args: readonly unknown[], passesOn = false): string | undefined {
  const { victim, error, value, failed, figures } = one;
  if (failed) {
    if (!passesThrough(error, victim)) {
      if (!(error instanceof RlvrError)) return `threw ${describeError(error)}`;
      if (!CODES.has(error.code)) return `code ${String(error.code)}`;
      const wrong = messageProblem(error.message);
      if (wrong) return wrong;
      if (error.code === 'ERR_ABORTED' || LATE.test(error.message)) return elsewhere(victim, plan);
    }
    if (/deferred/.test(plan.gradient)) return elsewhere(victim, plan); // written before the objective can refuse anything
    const changed = victim.memory.change();
    return changed && `refused, and wrote ${changed}`;
  }
  const givenInfinite = plan.edits.length > 0 || args.some(holdsInfinity);
  const infinite = passesOn ? undefined : nonFinite(figures, givenInfinite);
  const mayWrite = ['in-place', 'deferred'].includes(plan.gradient) || plan.gradient.startsWith('out');
  if (infinite) return `not finite: ${infinite}`;
  const gradients = mayWrite ? gradientsIn(value) : [];
  if (!gradients || (mayWrite && gradients.length === 0)) return undefined; // into an object of the caller's own, which cannot be looked into
  const changed = victim.memory.change(withinGradients(gradients));
  return changed && `changed ${changed}`;
}

/** What a call that was refused late has written apart from its gradient. */
function elsewhere({ args, memory }: Victim, { edits }: Plan): string | undefined {
  if (edits.length > 0) return undefined; // where the gradient was to go need not be known any more
  const targets = [...gradientTargets(args)].filter(isTypedArray).map(extentOf);
  const inTarget = (buffer: ArrayBufferLike, byte: number) =>
    targets.some((target) => target.buffer === buffer && byte >= target.start && byte < target.end);
  const changed = memory.change(inTarget);
  return changed && `refused late, and wrote ${changed}`;
}

/** Whether log-probs to compare with are infinite: some metrics are differences of them. */
function holdsInfinity(argument: unknown): boolean {
  const arrays = ['oldLogProbs', 'rolloutLogProbs'].map((name) => ownValue(argument, name)).filter(isTypedArray);
  return arrays.some((array) => Array.from(array as Float64Array).some((value) => Math.abs(value) === Infinity));
}

/** Without those of the platform. */
const libraryFrames = ({ stack = '' }: Error) =>
  stack.split('\n').filter((line) => /^\s*at /.test(line) && !/node:|<anonymous>\)?$/.test(line));

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return `no Error: ${typeof error}`;
  const where = libraryFrames(error)[0]
    ?.replace(/^\s*at /, '')
    .replace(/\(?(file:\/\/)?\/\S*\/(?=(lib|cli|dist)\/)/, '(');
  return `${error.name}: ${error.message.slice(0, 300)} at ${where}`;
}

/** Without the list of all options, of which the asynchronous functions have more. */
const refusal = ({ error, victim }: Attempt) =>
  error === victim.own
    ? "the caller's own error"
    : `${(error as RlvrError).code} ${(error as RlvrError).message.replace(/; it has .*$/s, '')}`;

const usesSignal = (...attempts: Attempt[]) =>
  attempts.some(({ victim }) => victim.done.some((one) => /extra|signal/.test(one)));

/** A refusal with numbers to the digits that backends have in common. Of gradients that overflow, the last digit decides. */
const rounded = (text: string) =>
  text
    .replace(/(got another|got one beyond float32) at row \d+/, '$1')
    .replace(/-?\d+\.\d+(e[+-]?\d+)?/g, (number) => Number(number).toPrecision(6));

/** One is refused and the other is not, or for another reason. */
function differentEnds(a: Attempt, b: Attempt): string | undefined {
  const [first, second] = [a, b].map((one) => (one.failed ? refusal(one) : ''));
  if (a.failed && b.failed) return rounded(first) === rounded(second) ? undefined : `${first}, and ${second}`;
  if (a.failed === b.failed) return undefined;
  return a.failed ? `${refusal(a)}, and a result` : `a result, and ${refusal(b)}`;
}

const FROM_LOGITS: Tolerances = { value: 2e-6, logProb: 1e-6 };
const FROM_HIDDEN: Tolerances = { value: 1e-5, logProb: 1e-5 };
const FROM_LOG_PROBS: Tolerances = { value: 1e-9, logProb: 1e-12 };
function withoutSignal(plan: Plan): Plan {
  return plan.signal === 'none' ? plan : { ...plan, signal: 'none' };
}

const uses = (name: string, args: readonly unknown[]) => args.some((arg) => isPlain(arg) && arg[name] !== undefined);

/** Makes a call and says what is wrong. Everything up to the asynchronous call is done at once. */
export async function judge(target: Target, plan: Plan): Promise<Verdict> {
  const quiet = withoutSignal(plan);
  const args = target.args(quiet);
  const sync = finished(attempt(victimOf(quiet, args), target.sync, FUZZED_BACKEND));
  const end = sync.failed ? 'refused' : 'result';
  if (!target.async) {
    const checked = !sync.failed && plan.edits.length === 0 ? target.check?.(sync.value, args) : undefined;
    return { end, fault: illegal(sync, plan, args, target.passesOn) ?? checked };
  }
  const spoilt = plan.copies && plan.edits.length === 0;
  const victim = victimOf(plan, asyncArguments(target, plan, spoilt));
  const pending = attemptAsync(victim, target.async, () => {
    if (spoilt) victim.memory.spoil(gradientTargets(victim.args));
  });
  const reference = finished(attempt(victimOf(quiet, args), target.sync, 'reference'));
  const async = finished(await pending);
  for (const [form, one] of Object.entries({ sync, async, reference })) {
    const fault = illegal(one, plan, args);
    if (fault !== undefined) return { end, fault: `${form}: ${fault}` };
  }
  return { end, fault: twins(plan, sync, async) ?? apart(quiet, target, args, sync, reference) };
}

/** Arrays that a gradient may be written to. */
function gradientTargets(args: readonly unknown[]): Set<unknown> {
  const [inputs, options] = [args.find(isBatch), args.at(-1)];
  const gradient = ownValue(options, 'gradient');
  const inPlace = gradient === 'in-place' || (ownValue(gradient, 'deferred') === true && !ownValue(gradient, 'out'));
  const targets = inPlace ? [ownValue(inputs, 'logits') ?? ownValue(inputs, 'logProbs')] : [];
  for (const name of GRADIENT_OPTIONS) {
    const option = ownValue(options, name);
    targets.push(ownValue(option, 'out'), ownValue(option, 'accumulate'));
  }
  return new Set(targets.flatMap((target) => [target, ownValue(target, 'data')]));
}

const isBatch = (arg: unknown) => ['logits', 'hidden', 'logProbs'].some((name) => ownValue(arg, name) !== undefined);

/** What only the asynchronous form takes is in the last argument. */
function asyncArguments(target: Target, plan: Plan, copyInputs: boolean): unknown[] {
  const args = target.args(plan);
  if (copyInputs) args.push({ ...(args.pop() as object), copyInputs });
  return args;
}

/** An array that is taken away after it was read may be missed, or not: it depends on the form and the backend. */
const TAKING = /detaches|shrinks/;

/** The blocking form and the other one give the same. */
function twins({ signal, edits }: Plan, sync: Attempt, async: Attempt): string | undefined {
  if (signal === 'aborted' && edits.length === 0)
    return async.failed ? undefined : 'aborted before the call, and there is a result';
  if (signal !== 'none' || usesSignal(sync, async) || edits.some(({ how }) => TAKING.test(how))) return undefined;
  const difference = differentEnds(sync, async) ?? bitwiseDifference(sync.figures, async.figures);
  return difference && `sync and async differ: ${difference}`;
}

/** The backend and the reference give the same, within the roundings of the specification. */
function apart(plan: Plan, target: Target, args: readonly unknown[], cpu: Attempt, reference: Attempt) {
  const ends = differentEnds(cpu, reference);
  if (cpu.failed !== reference.failed && FOREIGN_LOG_SUM_EXP.test(ends ?? '')) return undefined;
  if (ends !== undefined && plan.edits.some(({ how }) => TAKING.test(how))) return undefined;
  if (ends !== undefined) return `${FUZZED_BACKEND} and reference differ: ${ends}`;
  if (cpu.failed) return undefined;
  const fromHidden = uses('hidden', args);
  const fromLogits = fromHidden || uses('logits', args);
  const tolerances = fromHidden ? FROM_HIDDEN : fromLogits ? FROM_LOGITS : FROM_LOG_PROBS;
  const spread = () => neighbours(plan, target, args, fromLogits);
  const distant = distantFigure(cpu.figures, reference.figures, tolerances, spread);
  return distant && `${FUZZED_BACKEND} is too far from the reference: ${distant}`;
}
