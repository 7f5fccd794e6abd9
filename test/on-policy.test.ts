// expectOnPolicy: the first step of a run, on which the log-probs should be those of the policy that sampled.
import { describe, expect, test } from 'vitest';
import { conspoSync, grpo } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { rlvrError } from './support/errors.js';
import { byName, fromLogProbs, fullBatch, NAMED_LOSSES } from './support/named-losses.js';

const VOCAB = 5;
const EXPECTED =
  'oldLogProbs: expected those of the current policy, as expectOnPolicy says, with a ratioMean of 1 and a policyKl of 0 up to 0.05, got ';

/** Logits, and as old log-probs those of the same logits with up to 0.1 of an engine's noise on each. */
function firstStep(seed: number, temperature = 1) {
  const batch = fullBatch(seed, { vocab: VOCAB, groups: 4 });
  const logProbs = conspoSync(batch, { temperature, logProbs: true, backend: 'reference' }).logProbs!;
  return { ...batch, oldLogProbs: logProbs.map((l, t) => l - 0.1 * Math.sin(2 * t)) };
}

describeBackends('expectOnPolicy', (backend) => {
  describe.each(byName(NAMED_LOSSES))('%s', (_name, { runSync, options: own }) => {
    const options = { ...own, expectOnPolicy: true, backend };
    const batch = firstStep(3);

    test('holds on a first step: the same result', () => {
      const [checked, plain] = [runSync(batch, options), runSync(batch, { ...own, backend })];
      expect(checked.loss).toBe(plain.loss);
      expect(checked.metrics).toEqual(plain.metrics);
      expect(Math.abs(checked.metrics.ratioMean! - 1)).toBeLessThan(0.05);
    });

    test('a forgotten shift of the targets, and nothing is written', () => {
      const targets = batch.targets.map((_, t) => batch.targets[Math.max(t - 1, 0)]);
      const logits = batch.logits.slice();
      const shifted = { ...batch, logits, targets };
      expect(() => runSync(shifted, { ...options, gradient: 'in-place' })).toThrow(rlvrError('ERR_RANGE', EXPECTED));
      expect(logits).toEqual(batch.logits);
    });

    test('another temperature', () => {
      const sampled = firstStep(3, 0.5);
      expect(() => runSync(sampled, options)).toThrow(rlvrError('ERR_RANGE', EXPECTED));
      expect(() => runSync(sampled, { ...options, temperature: 0.5 })).not.toThrow();
    });

    test('nothing to compare with', () => {
      const { oldLogProbs: _old, ...without } = batch;
      expect(() => runSync(without, options)).toThrow(
        rlvrError('ERR_DTYPE', 'oldLogProbs: expected Float32Array or Float64Array with expectOnPolicy, got undefined'),
      );
      expect(() => runSync({ ...batch, mask: batch.mask.map(() => 0) }, options)).not.toThrow(); // no token, no drift
    });

    test('false is as none', () => {
      expect(runSync(batch, { ...own, expectOnPolicy: false, backend })).toEqual(runSync(batch, { ...own, backend }));
    });
  });

  test('log-ratios whose ratios are 1 on average', async () => {
    const batch = fromLogProbs(fullBatch(4, { groups: 4 }));
    const up = Math.log(1.6); // ratios of 1.6 and 0.4 by turns
    const oldLogProbs = batch.logProbs.map((l, t) => l - (t % 2 ? up : Math.log(0.4)));
    const logProbs = batch.logProbs.map((l) => l - 1);
    const moved = { ...batch, logProbs, oldLogProbs: oldLogProbs.map((l) => l - 1), mask: batch.mask.fill(1) };
    await expect(grpo(moved, { expectOnPolicy: true, backend })).rejects.toThrow(rlvrError('ERR_RANGE', EXPECTED));
  });

  test('the message says what it was, and why that may be', () => {
    const batch = { ...firstStep(3), oldLogProbs: new Float64Array(firstStep(3).targets.length).fill(-30) };
    expect(() => conspoSync(batch, { expectOnPolicy: true, backend })).toThrow(
      /got 4\.85e\+8 and -\d+\.\d+ \(likely causes: targets or log-probs that are not shifted, another temperature or/,
    );
  });

  test('anything but true or false', () => {
    expect(() => conspoSync(firstStep(3), { expectOnPolicy: 1 as never, backend })).toThrow(
      rlvrError('ERR_RANGE', 'expectOnPolicy: expected true or false, got 1'),
    );
  });
});
