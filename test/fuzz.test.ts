// The fuzzer finds what is planted, makes it small, and says how to see it again.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect, promisify } from 'node:util';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { HELPER_TARGETS } from '../cli/dev/fuzz/helper-targets.js';
import { EDITS } from '../cli/dev/fuzz/hostile.js';
import { judge } from '../cli/dev/fuzz/judge.js';
import type { Plan } from '../cli/dev/fuzz/plan.js';
import type { Target } from '../cli/dev/fuzz/targets.js';
import { freshArguments, victimOf } from '../cli/dev/fuzz/victims.js';
import { RlvrError } from '../lib/index.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'rlvr-fuzz-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
  vi.unstubAllEnvs();
});

const PLAN: Plan = {
  target: 'planted',
  batch: {
    groups: [[2, 1], [3]],
    vocab: 3,
    seed: 5,
    from: 'logProbs',
    form: 'flat',
    padding: 0,
    logits: 'normal',
    others: 'near',
    weights: 'normal',
    memory: 'inside',
  },
  fields: [],
  options: [],
  score: { kind: 'ratio', parameters: [] },
  gradient: 'default',
  signal: 'none',
  copies: false,
  variant: 1,
  edits: [],
};

describe('what must hold of the functions around a loss', () => {
  const SPOILT: Record<string, (result: never) => unknown> = {
    fromRollouts: (batch: { targets: Int32Array }) => ({ ...batch, targets: batch.targets.map((id) => id + 1) }),
    microBatches: (parts: unknown[]) => parts.slice(1),
    mergeMetrics: (metrics: { rewardMean: number }) => ({ ...metrics, rewardMean: metrics.rewardMean + 1e-6 }),
    passAtK: ({ groups, mean }: { groups: Float64Array; mean: number }) => ({ groups, mean: mean + 1e-6 }),
    AdaptiveKl: ({ next }: { next: number }) => ({ next: next * 1.001, klCoef: next * 1.001 }),
    RunningRewards: (made: { state: { mean: number } }) => {
      const state = { ...made.state, mean: made.state.mean + 1e-3 };
      return { ...made, state, restored: state };
    },
  };

  test.each(HELPER_TARGETS.filter(({ check }) => check).map((target) => [target.name, target] as const))(
    '%s: holds, and a planted fault shows',
    (name, { args, sync, check, fields }) => {
      for (let variant = 0; variant < 14; variant++) {
        const given = args({ ...PLAN, fields: [...fields], variant });
        const result = sync(...given);
        expect(check!(result, given), `variant ${variant}`).toBeUndefined();
        if (variant === 0) expect(check!(SPOILT[name](result as never), given)).toMatch(/^not so: /);
      }
    },
  );
});

describe('a planted fault of one function', () => {
  type Inputs = { logProbs: Float64Array };
  type Planted = (inputs: Inputs, backend: string) => unknown;

  /** A function that sums its input, but for what is planted. */
  function target(planted: Planted, plantedAsync = planted): Target {
    const honest = ({ logProbs }: Inputs) => ({ sum: logProbs.reduce((a, b) => a + b, 0) });
    const call = (fault: Planted) => (inputs: unknown) => {
      return fault(inputs as Inputs, process.env.RLVR_BACKEND ?? '') ?? honest(inputs as Inputs);
    };
    return {
      name: 'planted',
      fields: [],
      options: [],
      sync: call(planted),
      async: async (inputs) => call(plantedAsync)(inputs),
      args: () => [{ logProbs: Float64Array.of(-1, -2, -3.5) }],
    };
  }
  const judged = async (of: Target, plan = PLAN) => (await judge(of, plan)).fault;
  const nothing = () => undefined;
  const refuse = (message: string) => {
    throw new RlvrError('ERR_RANGE', message);
  };

  test.each<[found: RegExp, planted: Planted, plantedAsync?: Planted]>([
    [/^sync: not finite: sum\[0\] is NaN$/, () => ({ sum: Number.NaN })],
    [/^sync: threw RangeError: planted/, () => refuseWith(new RangeError('planted'))],
    [/^sync: threw no Error: string/, () => refuseWith('planted')],
    [/^async: threw TypeError: planted/, nothing, () => refuseWith(new TypeError('planted'))],
    [
      /^sync: a message of 610 characters/,
      () => refuseWith(Object.assign(new RlvrError('ERR_RANGE', ''), { message: `logProbs: ${'x'.repeat(600)}` })),
    ],
    [/^sync: a message without an argument/, () => refuse('something is wrong')],
    [/^sync: refused, and wrote byte 30 /, ({ logProbs }) => refuse(`logProbs: ${logProbs.fill(-1)}`)],
    [/^sync: changed byte 30 /, ({ logProbs }) => void logProbs.fill(-1)],
    [/^sync: changed byte 0 /, ({ logProbs }) => void new Uint8Array(logProbs.buffer).fill(0, 0, 1)],
    [/^sync: changed byte 55 /, ({ logProbs }) => void new Uint8Array(logProbs.buffer).fill(0, 55)],
    [/^sync and async differ: sum\[0\] is -6.5 and -7$/, nothing, () => ({ sum: -7 })],
    [/^sync and async differ: a result, and ERR_RANGE logProbs: no$/, nothing, () => refuse('logProbs: no')],
    [/^cpu is too far .* sum is \[-6.50001\]/, (_inputs, at) => (at === 'cpu' ? { sum: -6.50001 } : undefined)],
    [/^cpu and reference differ: ERR_RANGE/, (_inputs, at) => (at === 'cpu' ? refuse('logProbs: no') : undefined)],
    [
      /^cpu is too far .*sum number 1, more number 1/,
      (_inputs, at) => (at === 'cpu' ? { sum: -6.5, more: 1 } : undefined),
    ],
  ])('%s', async (found, planted, plantedAsync) => {
    expect(await judged(target(planted, plantedAsync))).toMatch(found);
  });

  function refuseWith(error: unknown): never {
    throw error;
  }

  test('and none where there is none', async () => {
    expect(await judged(target(nothing))).toBeUndefined();
    expect(await judged(target(() => refuse('logProbs: expected something else')))).toBeUndefined();
    expect(await judged(target((_inputs, at) => (at === 'cpu' ? { sum: -6.5 - 1e-12 } : undefined)))).toBeUndefined();
    const throwing = { ...PLAN, edits: [{ at: 1, how: 'getter that throws', by: 0 }] };
    expect(await judged(target(nothing), throwing)).toBeUndefined(); // the caller's own error passes
  });
});

test('every way to be hostile does something to some argument', () => {
  const args = [{ logits: new Float32Array(8), shape: [2, 4], more: { tau: 1 } }, { gradient: 'new' }];
  const shown = (value: unknown) => inspect(value, { depth: 9, showProxy: true });
  const places = Array.from({ length: 12 }, (_, at) => at);
  const inert = EDITS.filter((how) => {
    const untouched = freshArguments(PLAN, args).args;
    return !places.some((at) => {
      const { done, args: edited } = victimOf({ ...PLAN, edits: [{ at, how, by: 3 }] }, args);
      return done.length === 1 && shown(edited) !== shown(untouched);
    });
  });
  // What does not show: other memory, another prototype of an empty object.
  const unseen =
    /another realm|shared|growable|resizable|subclassed|frozen|proxy of|^getter$|null prototype|lies|same memory/;
  expect(inert.filter((how) => !unseen.test(how))).toEqual([]);
});

describe('npm run fuzz', () => {
  const addon = process.env.RLVR_ADDON ?? createRequire(import.meta.url)('node-gyp-build').path(root);

  /** The addon with a fault, as RLVR_ADDON. */
  function planted(name: string, source: string): string {
    const path = join(folder, `${name}.cjs`);
    writeFileSync(path, `const real = require(${JSON.stringify(addon)});\nmodule.exports = { ...real, ${source} };\n`);
    return path;
  }

  async function fuzz(args: string[], env: Record<string, string> = {}): Promise<{ code: number; stdout: string }> {
    const fixed = ['dist/cli/dev/fuzz.js', '--workers', '1', '--seconds-per-fault', '3', ...args];
    const { RLVR_TINY_NATIVE: _, ...inherited } = process.env;
    try {
      const { stdout } = await promisify(execFile)(process.execPath, fixed, {
        cwd: root,
        env: { ...inherited, ...env },
      });
      return { code: 0, stdout };
    } catch (error) {
      const { code, stdout } = error as { code: number; stdout: string };
      return { code, stdout };
    }
  }

  /** The report of a fault. */
  const reportOf = (stdout: string, fault: RegExp) =>
    stdout.split('\n\n').find((report) => fault.test(report)) ?? stdout;
  const again = (report: string) => /again: npm run fuzz -- (.*)/.exec(report)?.[1].split(' ') ?? [];

  test('finds a wrong loss and a foreign error, shrinks them, and shows them again', async () => {
    const RLVR_ADDON = planted(
      'wrong',
      `groupInfoNCE(args) { real.groupInfoNCE(args); args.loss[0] += args.scores.length; },
       sequenceLogProbsBackward(args) { if (args.sequences > 1) throw new RangeError('planted'); return real.sequenceLogProbsBackward(args); }`,
    );
    const { code, stdout } = await fuzz(['--subject', 'api', '--calls', '200', '--seed', '1'], { RLVR_ADDON });
    expect(code).toBe(1);
    const wrong = reportOf(stdout, /too far from the reference: loss/);
    const foreign = reportOf(stdout, /threw RangeError: planted/);
    expect(wrong).toMatch(/--path \d+(:\d+)+/);
    expect(foreign).toMatch(/cuSeqlens: Int32Array.of\(0, 0, 0\)/); // two sequences, neither with a token
    const shown = await fuzz(again(foreign), { RLVR_ADDON });
    expect(shown.code).toBe(1);
    expect(shown.stdout).toContain('threw RangeError: planted');
    expect((await fuzz(again(foreign))).stdout).toContain('nothing is wrong');
  });

  test('finds a crash and a hang', async () => {
    const RLVR_ADDON = planted(
      'fatal',
      `advantageObjective(args) { if (args.scores?.length > 2) process.abort(); real.advantageObjective(args); },
       readMemory(args) { while (args); }`,
    );
    const args = ['--subject', 'addon', '--calls', '240', '--seed', '5', '--patience', '2'];
    const { code, stdout } = await fuzz(args, { RLVR_ADDON });
    expect(code).toBe(1);
    expect(reportOf(stdout, /process ended with SIGABRT/)).toMatch(/addon\.advantageObjective\(first\)/);
    expect(reportOf(stdout, /no word for 2 seconds/)).toMatch(/addon\.readMemory\(first\)/);
  });

  test('has nothing to say of the readers as they are, and counts the calls', async () => {
    const { code, stdout } = await fuzz(['--subject', 'readers', '--calls', '400', '--seed', '1']);
    expect(stdout).toMatch(/^readers: 400 calls \(\d+ \w+, \d+ \w+\)$/m);
    expect(code, stdout).toBe(0);
  });
});
