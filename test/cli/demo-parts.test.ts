import { describe, expect, test } from 'vitest';
import { Random } from '../../bench/problems/random.js';
import { additions, endToken, verify, vocabularySize } from '../../cli/demo/additions.js';
import { Contexts } from '../../cli/demo/contexts.js';
import { Policy } from '../../cli/demo/policy.js';
import { recipes } from '../../cli/demo/recipes.js';
import { sampledAccuracy, sampleRollouts, targetLogProbs } from '../../cli/demo/rollout.js';
import { svgChart } from '../../cli/demo/svg-chart.js';
import { terminalChart } from '../../cli/demo/terminal-chart.js';
import { conspoSync } from '../../lib/index.js';
import { expectClose } from '../support/compare.js';

const questions = additions();
const question = (name: string) => questions.find((candidate) => candidate.name === name) ?? expect.fail(name);

test('the verifier takes the exact answer and no other', () => {
  const sum = question('7+8'); // 15 = 30 in base 5
  expect(questions).toHaveLength(100);
  expect(verify(sum, [3, 0, endToken])).toBe(1);
  for (const wrong of [[], [3, 0], [3, endToken], [0, 3, endToken], [3, 0, endToken, endToken], [0, 3, 0, endToken]]) {
    expect(verify(sum, wrong)).toBe(0);
  }
});

test("the policy's gradient is that of its logits, by finite differences", () => {
  const random = new Random(5);
  const policy = new Policy(6, random);
  const contexts = new Contexts();
  for (const name of ['1+2', '9+9', '2+1']) {
    contexts.add(question(name), 0);
    contexts.add(question(name), 1, 3);
  }
  const features = contexts.features();
  const upstream = Float64Array.from({ length: 6 * vocabularySize }, () => random.normal());
  const value = () => policy.forward(features).logits.reduce((sum, logit, i) => sum + logit * upstream[i], 0);
  policy.backward(policy.forward(features), upstream);
  const step = 1e-5;
  const numeric = policy.weights.map((weight, i) => {
    policy.weights[i] = weight + step;
    const above = value();
    policy.weights[i] = weight - step;
    const below = value();
    policy.weights[i] = weight;
    return (above - below) / (2 * step);
  });
  expectClose(policy.gradient, numeric, 1e-8);
});

test('samples follow the policy: log-probs are its own, and frequencies come near them', () => {
  const random = new Random(9);
  const policy = new Policy(16, random);
  const asked = [question('0+0'), question('4+9')];
  const batch = sampleRollouts(policy, asked, 4000, random);
  expect(Array.from(batch.cuGroups)).toEqual([0, 4000, 8000]);
  expectClose(batch.oldLogProbs, targetLogProbs(policy.forward(batch.features).logits, batch), 1e-12);
  const counts = new Float64Array(vocabularySize);
  for (let i = 0; i < 4000; i++) counts[batch.targets[batch.cuSeqlens[i]]] += 1 / 4000;
  const expected = new Float64Array(vocabularySize);
  for (let i = 0; i < 4000; i++) {
    const start = batch.cuSeqlens[i];
    expected[batch.targets[start]] = Math.exp(batch.oldLogProbs[start]);
  }
  expectClose([expected.reduce((sum, p) => sum + p, 0)], [1], 1e-12);
  counts.forEach((frequency, token) => {
    // five standard deviations of a binomial frequency
    expect(Math.abs(frequency - expected[token])).toBeLessThan(5 * Math.sqrt(expected[token] / 4000));
  });
});

test('the accuracy of sampled answers is the share of samples that are right', () => {
  const random = new Random(4);
  const policy = new Policy(16, random);
  const asked = [question('0+0'), question('0+1'), question('2+2')]; // answers of one digit, which chance finds
  const { rewards } = sampleRollouts(policy, asked, 20_000, random);
  const expected = sampledAccuracy(policy, asked);
  const share = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
  expect(expected).toBeGreaterThan(0.01);
  // five standard deviations of a binomial frequency
  expect(Math.abs(share - expected)).toBeLessThan(5 * Math.sqrt(expected / rewards.length));
});

test("ConSPO's margin follows its curriculum, and the gradient replaces the logits", async () => {
  const shape = {
    targets: Int32Array.of(0, 1, 2, 0),
    cuSeqlens: Int32Array.of(0, 1, 2, 4),
    cuGroups: Int32Array.of(0, 3),
    rewards: Float32Array.of(1, 0, 0),
  };
  const start = Float32Array.from({ length: 12 }, (_, i) => Math.sin(i));
  for (const [progress, margin] of [
    [0, 0],
    [0.25, 0.1],
    [0.5, 0.2],
    [0.9, 0.2],
  ]) {
    const logits = start.slice();
    const logProbs = new Float64Array(4);
    const batch = { ...shape, logits, oldLogProbs: logProbs, refLogProbs: logProbs };
    const signal = new AbortController().signal;
    const options = { gradient: 'in-place', backend: 'reference', signal } as const;
    const { loss } = await recipes.conspo.update(batch, options, progress);
    const expected = conspoSync({ ...shape, logits: start }, { tau: 0.1, margin, backend: 'reference' });
    expectClose([loss], [expected.loss], 1e-12);
    expectClose(logits, expected.gradLogits as Float32Array, 1e-7);
  }
});

describe('charts', () => {
  const curves = [
    { name: 'a<b', values: [0, 0.5, 1] },
    { name: 'c', values: [0, 0, 0] },
  ];

  test('the terminal chart puts 1 at the top, 0 at the bottom, and hides no curve', () => {
    const rows = terminalChart(curves, 2, false).split('\n');
    expect(rows[2].startsWith('  1.0')).toBe(true);
    expect(rows[2]).toMatch(/─/);
    expect(rows[12].startsWith('  0.0')).toBe(true);
    expect(rows[12]).toMatch(/═{30}/);
    expect(terminalChart(curves, 2, true)).toContain('\u{1b}[36m');
  });

  test('the terminal chart has a colour of its own for each of ten curves', () => {
    const ten = Array.from({ length: 10 }, (_, i) => ({ name: `${i}`, values: [0, (i + 1) / 10] }));
    const legend = terminalChart(ten, 1, true).split('\n').slice(-12).join('');
    const colours = new Set(legend.split('\u{1b}[').map((piece) => piece.slice(0, piece.indexOf('m'))));
    colours.delete('0');
    expect(colours.size).toBeGreaterThanOrEqual(10);
  });

  test('the terminal chart keeps as many curves apart as there are losses, without colours', () => {
    const names = Object.keys(recipes);
    const many = names.map((name, i) => ({ name, values: [0, (i + 1) / names.length] }));
    const rows = terminalChart(many, 1, false).split('\n');
    expect(Math.max(...rows.map((row) => [...row].length))).toBeLessThanOrEqual(79);
    const text = rows.join('\n');
    names.forEach((name, i) => {
      const letter = String.fromCodePoint('a'.codePointAt(0)! + i);
      expect(text).toContain(`${letter} ${name}`);
      const drawn = rows.findIndex((row) => /^ +\d\.\d\d/.test(row) && row.includes(letter.repeat(2)));
      const nearest = Math.round((20 * (i + 1)) / names.length) / 20; // rows are 0.05 apart
      expect(rows[drawn]?.trimStart().slice(0, 4), name).toBe(nearest.toFixed(2));
    });
  });

  test('the SVG chart escapes names, keeps a label for each loss apart and inside, and draws no two curves alike', () => {
    expect(svgChart(curves, 2)).toContain('>a&lt;b 1.00</text>');
    const count = Object.keys(recipes).length;
    const many = Array.from({ length: count }, (_, i) => ({ name: `n${i}`, values: [0, 0] }));
    const picture = svgChart(many, 1);
    const rows = [...picture.matchAll(/<text x="608" y="([\d.]+)"/g)].map(([, y]) => Number(y));
    expect(rows).toHaveLength(count);
    rows.slice(1).forEach((y, i) => {
      expect(y - rows[i]).toBeGreaterThanOrEqual(18);
    });
    expect(Math.max(...rows)).toBeLessThan(360);
    const strokes = (element: string) =>
      [...picture.matchAll(new RegExp(`<${element} [^>]*( stroke="#[^"]+" stroke-width="2"[^>]*)/>`, 'g'))].map(
        ([, stroke]) => stroke,
      );
    expect(new Set(strokes('polyline')).size).toBe(count);
    expect(strokes('path')).toEqual(strokes('polyline')); // beside each name, a piece of its curve
  });
});
