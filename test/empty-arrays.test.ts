// An array without elements is there: it is not one that was left out. Every op and loss on no tokens, no sequences, no
// vocabulary, with each optional array present but empty or left out: every backend gives what the reference gives.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { RATIO_SCORE_KINDS } from '../lib/kernels.js';
import { BACKENDS } from './support/backends.js';
import { AGGREGATIONS, byName, NAMED_LOSSES, POLICY_LOSSES } from './support/named-losses.js';
import type { Fields } from './support/refusals.js';

type Sync = (inputs: never, options: never) => unknown;

/** Every choice of some of the fields. */
function subsets(fields: Fields): Fields[] {
  let chosen: Fields[] = [{}];
  for (const [name, value] of Object.entries(fields)) {
    chosen = chosen.concat(chosen.map((some) => ({ ...some, [name]: value })));
  }
  return chosen;
}

/** The same outcome on all backends, whichever of the optional fields are there; returns those of all and of none. */
function expectAlike(call: Sync, required: Fields, optional: Fields, options: object = {}) {
  const outcomes = subsets(optional).map((some) => {
    const run = (backend: string) => call({ ...required, ...some } as never, { ...options, backend } as never);
    const expected = run('reference');
    for (const backend of BACKENDS) {
      expect(run(backend), `${backend}, ${Object.keys(some).join(' ')} ${JSON.stringify(options)}`).toEqual(expected);
    }
    return expected;
  });
  return { none: outcomes[0], all: outcomes.at(-1) };
}

const none = () => new Float64Array(0);
const noMask = () => new Uint8Array(0);
const EMPTY_SEQUENCES = { cuSeqlens: Int32Array.of(0, 0, 0) };
const NO_SEQUENCES = { cuSeqlens: Int32Array.of(0) };
const PER_TOKEN = { mask: noMask(), oldLogProbs: none(), rolloutLogProbs: none(), refLogProbs: none() };
const FROM_LOG_PROBS = { logProbs: none() };

/** No rows of so many columns. */
const noRows = (vocab: number) => ({ data: new Float32Array(0), shape: [0, vocab] as const });

describe('losses', () => {
  describe.each(byName(NAMED_LOSSES))('%s', (_name, { runSync, options }) => {
    test.each([
      ['log-probs', FROM_LOG_PROBS],
      ['logits, V = 0', { logits: noRows(0), targets: new Int32Array(0) }],
      ['logits, V = 1', { logits: noRows(1), targets: new Int32Array(0) }],
    ])('no tokens, of %s', (_form, tokens) => {
      const graded = { cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) };
      const { all, none } = expectAlike(runSync, { ...tokens, ...EMPTY_SEQUENCES, ...graded }, PER_TOKEN, options);
      for (const result of [all, none] as rlvr.LossResult<rlvr.Batch>[]) expect(result.loss).toBe(0);
      const nothing = { cuGroups: Int32Array.of(0), rewards: new Float32Array(0) };
      expectAlike(
        runSync,
        { ...tokens, ...NO_SEQUENCES, ...nothing },
        { ...PER_TOKEN, groupOrder: new Int32Array(0) },
        options,
      );
    });
  });

  test.each(byName(POLICY_LOSSES.filter(({ name }) => name !== 'gmpo')))('%s, advantages per token', (_name, loss) => {
    for (const aggregation of AGGREGATIONS) {
      const options = { ...loss.options, ...aggregation, klCoef: 0.1, rolloutCorrection: { level: 'token' } };
      const required = { ...FROM_LOG_PROBS, ...EMPTY_SEQUENCES, refLogProbs: none(), rolloutLogProbs: none() };
      const { refLogProbs: _ref, rolloutLogProbs: _rollout, ...optional } = PER_TOKEN;
      for (const advantages of [none(), Float64Array.of(1, -1)]) {
        const { all } = expectAlike(loss.runSync, { ...required, advantages }, optional, options);
        expect(all).toMatchObject({ loss: 0, advantages });
      }
    }
  });
});

describe('ops', () => {
  test('tokenLogProbs', () => {
    for (const vocab of [0, 1, 5]) {
      const inputs = { logits: noRows(vocab), targets: new Int32Array(0) };
      for (const entropy of [false, true]) {
        const { all } = expectAlike(rlvr.tokenLogProbsSync, inputs, { mask: noMask() }, { entropy });
        expect(all).toMatchObject({ logProbs: none(), nonFiniteTokens: 0 });
      }
      const upstream = { logSumExp: none(), gradLogProbs: none() };
      const backward = (gradient: object) => (given: never, options: never) =>
        rlvr.tokenLogProbsBackwardSync(given, { ...(options as object), gradient } as never);
      for (const further of [{}, { entropy: none(), gradEntropy: none() }]) {
        expectAlike(rlvr.tokenLogProbsBackwardSync, { ...inputs, ...upstream, ...further }, { mask: noMask() });
        expectAlike(backward({ out: noRows(vocab) }), { ...inputs, ...upstream, ...further }, { mask: noMask() });
      }
    }
  });

  test.each([1, 2])('tokenLogProbs of a vocabulary of one, T = %i', (tokens) => {
    const inputs = { logits: new Float32Array(tokens).fill(7), targets: new Int32Array(tokens) };
    const mask = new Uint8Array(tokens);
    const { none: unmasked } = expectAlike(rlvr.tokenLogProbsSync, inputs, { mask }, { entropy: true });
    expect(unmasked).toMatchObject({ logProbs: new Float64Array(tokens), entropy: new Float64Array(tokens) });
  });

  test.each([
    ['empty sequences', EMPTY_SEQUENCES, 2],
    ['no sequences', NO_SEQUENCES, 0],
  ])('scores of %s', (_name, { cuSeqlens }, sequences) => {
    const zeros = new Float64Array(sequences);
    const given = { logProbs: none(), cuSeqlens };
    const mean = expectAlike(rlvr.sequenceLogProbsSync, given, { mask: noMask() });
    expect(mean.all).toEqual({ scores: zeros, tokenCounts: zeros });
    const upstream = { gradScores: zeros, cuSeqlens };
    expectAlike(rlvr.sequenceLogProbsBackwardSync, { ...upstream, tokenCounts: zeros }, { mask: noMask() });
    expectAlike(rlvr.ratioScoresBackwardSync, { ...upstream, scoreGrads: none() }, {});
    for (const kind of RATIO_SCORE_KINDS) {
      const tokenWeights = kind === 'geometricRatio' ? {} : { tokenWeights: none() };
      const optional = { mask: noMask(), oldLogProbs: none(), sides: zeros, ...tokenWeights };
      const { all, none: plain } = expectAlike(rlvr.ratioScoresSync, given, optional, { score: { kind } });
      const scores = (outcome: unknown) => Array.from((outcome as rlvr.RatioScores).scores);
      const ofNothing = kind === 'sequenceRatio' || kind === 'geometricRatio' ? 1 : 0; // exp of a mean of 0
      expect(scores(plain), kind).toEqual(Array(sequences).fill(ofNothing));
      // Token weights make a sequence ratio a mean over tokens, of which there are none.
      expect(scores(all), kind).toEqual(Array(sequences).fill(kind === 'sequenceRatio' ? 0 : ofNothing));
    }
  });

  test.each([0, 2])('objectives of no sequences, G = %i', (groups) => {
    const scored = { scores: none(), rewards: none(), cuGroups: new Int32Array(groups + 1) };
    const optional = { tokenCounts: none(), groupOrder: new Int32Array(0) };
    const { all } = expectAlike(rlvr.groupInfoNCESync, scored, optional);
    expect(all).toEqual({ loss: 0, groupLosses: new Float64Array(groups), gradScores: none() });
    for (const aggregation of AGGREGATIONS) {
      const weighted = { scores: none(), advantages: none(), tokenCounts: none() };
      expect(expectAlike(rlvr.advantageObjectiveSync, weighted, {}, aggregation).all).toEqual({
        loss: 0,
        gradScores: none(),
      });
    }
    expect(rlvr.advantages({ rewards: none(), cuGroups: new Int32Array(groups + 1), ...optional })).toEqual(none());
  });
});
