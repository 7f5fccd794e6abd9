// The registry of losses: complete, and the same functions as those exported one by one.
import { expect, test } from 'vitest';
import * as api from '../lib/index.js';
import { LOSS_NAMES, type LossName } from '../lib/losses/list.js';
import { rlvrError } from './support/errors.js';
import { fromLogProbs, fullBatch } from './support/named-losses.js';

const { losses, lossesSync } = api;
const exported: Readonly<Record<string, unknown>> = { ...api };

test('all losses, by their names', () => {
  expect(Object.keys(losses)).toEqual(LOSS_NAMES);
  expect(Object.keys(lossesSync)).toEqual(LOSS_NAMES);
  for (const name of LOSS_NAMES) {
    expect(losses[name]).toBe(exported[name]);
    expect(lossesSync[name]).toBe(exported[`${name}Sync`]);
  }
});

test('one batch and one object of options for any of them', async () => {
  const { rolloutLogProbs: _rollout, ...batch } = fromLogProbs(fullBatch(4));
  const options: api.AnyLossOptions = { temperature: 1, normalizer: 12, maxLength: undefined };
  for (const name of LOSS_NAMES) {
    const own = name === 'drGrpo' ? { ...options, maxLength: 8 } : options;
    expect((await losses[name](batch, own)).loss).toBe(lossesSync[name](batch, own).loss);
  }
});

test('what one cannot do without, or does not have, is refused by name', () => {
  const batch = fromLogProbs(fullBatch(4));
  const call = (name: LossName, options: api.AnyLossOptions) => () => lossesSync[name](batch, options);
  expect(call('drGrpo', {})).toThrow(rlvrError('ERR_RANGE', 'maxLength'));
  expect(call('grpo', { tau: 0.1 })).toThrow(rlvrError('ERR_OPTION', 'tau: no such option of grpo'));
});

test('the registry cannot be changed', () => {
  expect(() => Object.assign(losses, { conspo: losses.grpo })).toThrow(TypeError);
});
