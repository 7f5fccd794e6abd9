// The trainer's own tests; `npm test` here.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { newAdam, update } from '../src/adam.js';
import { creditsOf } from '../src/credit.js';
import { bootstrap, paired } from '../src/experiment/statistics.js';
import { reportFiles, root } from '../src/experiment/write-report.js';
import type { MakeModel, Model } from '../src/model.js';
import { writePage } from '../src/page.js';
import { randomOf } from '../src/random.js';
import { train } from '../src/run.js';
import { DEFAULTS, type Settings } from '../src/settings.js';
import { END, problemsOf, reward, TASKS, type TaskName } from '../src/tasks.js';
import { firstWeights, type ModelShape } from '../src/weights.js';

const folder = mkdtempSync(join(tmpdir(), 'rlvr-trainer-'));
after(() => rmSync(folder, { recursive: true }));

describe('tasks', () => {
  for (const name of Object.keys(TASKS) as TaskName[]) {
    const task = TASKS[name]();
    const textOf = (ids: readonly number[]) => ids.map((id) => task.symbols[id]).join('');

    test(`${name}: right answers are right, others are not`, () => {
      for (const problem of problemsOf(task, 50, randomOf(1))) {
        assert.equal(problem.prompt.length, task.promptLength);
        for (const answer of problem.answers) {
          assert.ok(answer.length <= task.maxAnswer);
          assert.equal(reward(problem, answer), 1);
          assert.equal(reward(problem, answer.slice(0, -1)), 0, 'without its end');
          assert.equal(reward(problem, [...answer, END]), 0, 'with more behind its end');
          assert.equal(reward(problem, [answer[0]! === 1 ? 2 : 1, ...answer.slice(1)]), 0);
        }
      }
    });

    test(`${name}: no problem to train on is among those kept apart`, () => {
      const texts = (heldOut: boolean) => problemsOf(task, 300, randomOf(2), heldOut).map(({ text }) => text);
      const apart = new Set(texts(true));
      assert.equal(texts(false).filter((text) => apart.has(text)).length, 0);
    });

    test(`${name}: reads as it should`, () => {
      const [{ prompt, answers }] = problemsOf(task, 1, randomOf(3)) as [ReturnType<typeof task.draw>];
      const [shown, answer] = [textOf(prompt), textOf(answers[0]!.slice(0, -1))];
      if (name.startsWith('add')) {
        const [a, b] = shown.slice(0, -1).split('+').map(Number) as [number, number];
        assert.equal(Number(answer), a + b);
      } else if (name.startsWith('sort')) assert.equal([...shown.slice(0, -1)].sort().join(''), answer);
      else assert.match(`${shown} ${answer}`, /^\.*[a-z]+> [A-Z]+$/);
    });
  }
});

test('Adam takes steps of the learning rate, against the sign of a steady gradient', () => {
  const weights = { w: { shape: [2], values: Float32Array.of(1, 1) } };
  const adam = newAdam(weights);
  for (let i = 0; i < 3; i++) {
    const norm = update(adam, weights, { w: Float32Array.of(0.3, -0.4) }, 0.1);
    assert.ok(Math.abs(norm - 0.5) < 1e-6);
  }
  assert.ok(Math.abs(weights.w.values[0]! - 0.7) < 1e-5);
  assert.ok(Math.abs(weights.w.values[1]! - 1.3) < 1e-5);
  assert.throws(() => update(adam, weights, { w: Float32Array.of(Number.NaN, 0) }, 0.1), /norm of the gradient is NaN/);
});

test('credit falls as the gap of a group grows, and rises with the margin', () => {
  const credit = (gap: number, margin = 0) => creditsOf([gap, 0], [1, 0], [0, 2], { tau: 0.1, margin })[0]!;
  assert.deepEqual(credit(0), [0, 0.5]);
  assert.ok(credit(-0.5)[1] > 0.99 && credit(0.5)[1] < 0.01);
  assert.deepEqual(credit(0.5, 0.5), [0.5, 0.5]);
  assert.deepEqual(creditsOf([1, 2], [1, 1], [0, 2], {}), [], 'a group of one sign has none');
});

test('the bootstrap has the mean, and an interval around it', () => {
  const { mean, low, high } = bootstrap([1, 2, 3, 4, 5]);
  assert.equal(mean, 3);
  assert.ok(low > 1 && low < 2.2 && high > 3.8 && high < 5);
  assert.deepEqual(paired([1, 2, 3], [0, 1, 2]), { mean: 1, low: 1, high: 1 });
});

const shape: ModelShape = { vocab: 7, maxLength: 6, width: 16, layers: 2, heads: 2 };
const models = new Map<string, Model>();
async function modelOf(framework: string): Promise<Model> {
  const { makeModel }: { makeModel: MakeModel } = await import(`../src/model-${framework}.js`);
  const model = models.get(framework) ?? (await makeModel(shape));
  models.set(framework, model);
  model.setWeights(firstWeights(shape, randomOf(5)));
  return model;
}

test('both frameworks compute the same logits, fed at once or token by token', async () => {
  const ids = Int32Array.of(1, 2, 3, 4, 6, 5, 0, 1); // two rows of four
  const column = (i: number) => Int32Array.of(ids[i]!, ids[4 + i]!);
  const all: Float32Array[] = [];
  for (const framework of ['tfjs', 'jax']) {
    const model = await modelOf(framework);
    const atOnce = model.generate(2);
    all.push(atOnce.feed(ids, 4).slice());
    atOnce.end();
    const generation = model.generate(2);
    for (let i = 0; i < 3; i++) generation.feed(column(i), 1);
    all.push(generation.feed(column(3), 1).slice());
    generation.end();
  }
  for (const logits of all.slice(1)) {
    assert.equal(logits.length, 2 * shape.vocab);
    logits.forEach((value, i) => {
      assert.ok(Math.abs(value - all[0]![i]!) < 1e-4, `${value} ${all[0]![i]}`);
    });
  }
});

const quick: Settings = {
  ...DEFAULTS,
  width: 16,
  heads: 2,
  warm: 3,
  warmBatch: 8,
  steps: 4,
  groups: 4,
  samples: 4,
  updates: 2,
  rows: 8,
  evaluateEvery: 2,
  problems: 8,
  answers: 4,
};

/** A log without its times. */
const logOf = (run: string) =>
  readFileSync(join(folder, run, 'log.jsonl'), 'utf8').replace(/"(model|sampling|kernels)Ms":[^,}]+,?/g, '');

for (const framework of ['tfjs', 'jax'] as const) {
  test(`${framework}: a run that was interrupted twice is the run that was not`, async () => {
    const settings: Settings = { ...quick, framework, loss: 'conspo', margin: { target: 0.2, warmup: 0.5 } };
    const whole = await train(settings, { folder: join(folder, framework) });
    const parts = `${framework}-parts`;
    for (const stopAfter of [2, 4, 99]) await train(settings, { folder: join(folder, parts), stopAfter });
    assert.equal(logOf(parts), logOf(framework));
    const file = (run: string) => readFileSync(join(folder, run, 'checkpoint.safetensors'));
    assert.ok(file(parts).equals(file(framework)), 'weights and optimizer are the same to the bit');
    assert.equal(whole.step, 4);
    await assert.rejects(train({ ...settings, seed: 2 }, { folder: join(folder, parts) }), /a run of other settings/);
  });
}

test('the page of curves has a chart for what was logged', () => {
  const html = readFileSync(writePage(join(folder, 'tfjs'), [join(folder, 'tfjs'), join(folder, 'jax')]), 'utf8');
  for (const title of ['Accuracy on problems kept apart', 'Entropy', 'Milliseconds of a step'])
    assert.ok(html.includes(title));
  assert.ok(!html.includes('NaN'));
});

test('docs/experiments.md and its charts are what the results give', () => {
  for (const [name, text] of reportFiles()) assert.ok(readFileSync(`${root}docs/${name}`, 'utf8') === text, name);
});

const hasMpirun = spawnSync('mpirun.openmpi', ['--version']).status === 0;

test('two processes that train together have the curve of one', { skip: !hasMpirun && 'no mpirun.openmpi' }, () => {
  const flags = {
    ...{ task: 'add2', loss: 'conspo', warm: 3, warmBatch: 7, steps: 3, groups: 6, samples: 3, updates: 2 },
    ...{ width: 16, layers: 1, heads: 2, problems: 8, answers: 2, evaluateEvery: 3 },
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  const program = ['--import', 'tsx', 'src/train.ts', ...args];
  const linesOf = (out: string) =>
    readFileSync(join(out, 'log.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => JSON.parse(line) as Record<string, number>);
  const run = (name: string, command: string, before: string[], more: string[]) => {
    const out = join(folder, name);
    const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };
    const { status, stderr } = spawnSync(command, [...before, ...program, ...more, '--out', out], {
      encoding: 'utf8',
      env,
    });
    assert.equal(status, 0, stderr);
    return linesOf(out);
  };
  const one = run('one', process.execPath, [], []);
  const two = run('two', 'mpirun.openmpi', ['--oversubscribe', '-n', '2', process.execPath], ['--mpi']);
  assert.equal(two.length, one.length);
  one.forEach((line, i) => {
    for (const name of ['loss', 'gradientNorm', 'rewardMean', 'entropy', 'scoreGap', 'answerLength', 'sampled']) {
      const [expected, actual] = [line[name], two[i]![name]];
      assert.equal(actual === undefined, expected === undefined, name);
      if (expected !== undefined) assert.ok(Math.abs(actual! - expected) < 1e-3, `${name} of line ${i}`);
    }
  });
});
