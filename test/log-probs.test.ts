// Probabilities and logits given as log-probs are refused by name; what rounding puts above 0 is not.
import { describe, expect, test } from 'vitest';
import { forwardSync, grpoSync, sapoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { rlvrError } from './support/errors.js';
import { byName, NAMED_LOSSES } from './support/named-losses.js';

const MEANING = 'expected log-probs, which are at most 0 (were probabilities or logits given?)';
const TOKENS = 12;

/** Two groups of two sequences, of three tokens each. */
const batch = () => ({
  logProbs: Float64Array.from({ length: TOKENS }, (_, t) => -0.1 - t / 10),
  cuSeqlens: Int32Array.of(0, 3, 6, 9, 12),
  cuGroups: Int32Array.of(0, 2, 4),
  rewards: Float32Array.of(1, 0, 0, 1),
  mask: Uint8Array.from({ length: TOKENS }, (_, t) => (t === 5 ? 0 : 1)),
});

const probabilities = batch().logProbs.map(Math.exp);
const logits = Float64Array.from({ length: TOKENS }, (_, t) => 9 + 5 * Math.sin(t));

describeBackends('what is no log-prob', (backend) => {
  describe.each(byName(NAMED_LOSSES))('%s', (_name, { runSync, options: own }) => {
    const run = (fields: object) => runSync({ ...batch(), ...fields }, { ...own, backend });

    test('the log-probs themselves, by the first one', () => {
      const logProbs = batch().logProbs.map((l, t) => (t === 3 || t === 5 || t === 7 ? 0.2 : l));
      expect(() => run({ logProbs })).toThrow(rlvrError('ERR_RANGE', `logProbs: ${MEANING}, got 0.2 at index 3`));
      expect(() => run({ logProbs: probabilities })).toThrow(rlvrError('ERR_RANGE', 'logProbs: '));
    });

    test.each(['oldLogProbs', 'rolloutLogProbs'])('%s as a whole', (name) => {
      const most = probabilities[0];
      const message = `${name}: ${MEANING}, got ${most} at index 0, and 0 of 11 below 0`;
      expect(() => run({ [name]: probabilities })).toThrow(rlvrError('ERR_RANGE', message));
      expect(() => run({ [name]: logits })).toThrow(rlvrError('ERR_RANGE', `${name}: ${MEANING}`));
      expect(() => run({ [name]: Float32Array.from(logits) })).toThrow(rlvrError('ERR_RANGE', `${name}: ${MEANING}`));
    });

    test('rounding, and what is masked', () => {
      const { logProbs, mask } = batch();
      const rounded = logProbs.map((l, t) => (mask[t] ? Math.max(l, t % 2 ? 0.06 : 1e-7) : 3));
      expect(() => run({ logProbs: rounded, oldLogProbs: rounded, rolloutLogProbs: rounded })).not.toThrow();
    });

    test('single ones among constants', () => {
      const { logProbs, mask } = batch();
      const noisy = logProbs.map((l, t) => (t % 2 ? 1.9 : l));
      expect(() => run({ mask, oldLogProbs: noisy, rolloutLogProbs: noisy })).not.toThrow();
    });
  });

  test('of a reference, and of a teacher', () => {
    const given = (name: string) => ({ ...batch(), [name]: probabilities });
    const refused = (name: string) => rlvrError('ERR_RANGE', `${name}: ${MEANING}`);
    expect(() => grpoSync(given('refLogProbs'), { klCoef: 0.1, backend })).toThrow(refused('refLogProbs'));
    const options = { distillation: { coef: 0.1 }, backend };
    expect(() => sapoSync(given('teacherLogProbs'), options)).toThrow(refused('teacherLogProbs'));
  });

  test('of rollouts some of which are missing', () => {
    const rolloutLogProbs = probabilities.map((p, t) => (t === 4 ? NaN : p));
    const options = { rolloutCorrection: { missing: 'one' as const }, backend };
    expect(() => grpoSync({ ...batch(), rolloutLogProbs }, options)).toThrow(
      rlvrError('ERR_RANGE', `rolloutLogProbs: ${MEANING}`),
    );
  });

  test('in forward()', () => {
    const refused = (name: string) => rlvrError('ERR_RANGE', `${name}: ${MEANING}`);
    expect(() => forwardSync({ ...batch(), logProbs: logits }, 'logLikelihood', { backend })).toThrow(
      refused('logProbs'),
    );
    expect(() => forwardSync({ ...batch(), oldLogProbs: logits }, { kind: 'ratio' }, { backend })).toThrow(
      refused('oldLogProbs'),
    );
  });
});
