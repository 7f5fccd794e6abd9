// Losses of one's own: the ConSPO paper's ablations, objectives written in TypeScript, and the named losses as recipes.
import { describe, expect, test, vi } from 'vitest';
import {
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
  type BackendName,
  conspoSync,
  cosineMargin,
  dapoSync,
  defineLoss,
  discriminative,
  forwardSync,
  gmpoSync,
  groupInfoNCESync,
  grpoSync,
  gspoSync,
  infoNCE,
  type ObjectiveValue,
  type ScoredBatch,
  sapoSync,
  scoreObjective,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { expectGradient } from './support/losses.js';
import { type FullBatch, fromLogProbs, fullBatch } from './support/named-losses.js';
import { groupOracle } from './support/oracle.js';
import { tokenCountsOf } from './support/packed.js';

const signs = (rewards: ArrayLike<number>) => Float64Array.from(rewards, (reward) => (reward > 0 ? 1 : -1));

/** Group InfoNCE on a score, composed by hand from the ops. */
function composed(
  batch: FullBatch,
  score: Parameters<typeof forwardSync>[1],
  options: { tau?: number; margin?: number },
  backend: BackendName,
) {
  const { scores, tokenCounts, backward } = forwardSync(batch, score, { sides: signs(batch.rewards), backend });
  const { rewards, cuGroups } = batch;
  const nce = groupInfoNCESync({ scores, rewards, tokenCounts, cuGroups }, { ...options, backend });
  return { loss: nce.loss, groupLosses: nce.groupLosses, scores, ...backward(nce.gradScores) };
}

interface SpreadParameters {
  power?: number;
}

/** A user's objective: sum over sequences of side * score^power. */
const powers = scoreObjective<SpreadParameters>(({ scores, sides }, { power = 2 }) => ({
  loss: scores.reduce((sum, s, i) => sum - sides[i] * s ** power, 0),
  gradScores: scores.map((s, i) => -sides[i] * power * s ** (power - 1)),
}));

describeBackends('defineLoss', (backend) => {
  const batch = fullBatch(3, { groups: 4 });

  describe("the ConSPO paper's ablations", () => {
    test('its contrast on clipped-ratio scores', () => {
      const score = { kind: 'clippedRatio', epsilonLow: 0.1, epsilonHigh: 0.2 } as const;
      const ablation = defineLoss({ score, objective: infoNCE, defaults: { tau: 0.5 } });
      const result = ablation.runSync(batch, { backend });
      expect(result).toMatchObject(composed(batch, score, { tau: 0.5 }, backend));
      expect(result.metrics.clipFraction).toBeGreaterThan(0);
      expectGradient(backend, fullBatch(3), (moved, on) => ablation.runSync(moved, { backend: on }));
      const published = groupOracle(fromLogProbs(batch), 'infoNCE', 'clipped', { tau: 0.5, ...score });
      const { loss, gradLogProbs } = ablation.runSync(fromLogProbs(batch), { backend });
      expectCloseNumber(loss, published.loss, 1e-12);
      expectClose(gradLogProbs, published.gradient, 1e-12);
    });

    test('a linear objective on log-likelihoods', () => {
      const ablation = defineLoss({ score: 'logLikelihood', objective: discriminative });
      const { loss, gradLogProbs, scores } = ablation.runSync(fromLogProbs(batch), { backend });
      const expected = groupOracle(fromLogProbs(batch), 'discriminative', 'logLikelihood');
      expectCloseNumber(loss, expected.loss, 1e-12);
      expectClose(gradLogProbs, expected.gradient, 1e-12);
      expect(scores).toEqual(conspoSync(fromLogProbs(batch), { backend }).scores);
    });

    test('the same, written by its author', () => {
      const difference = scoreObjective(({ scores, sides, cuGroups }: ScoredBatch) => {
        const gradScores = new Float64Array(scores.length);
        const groupLosses = new Float64Array(cuGroups.length - 1);
        for (let g = 0; g < groupLosses.length; g++) {
          const own = sides.subarray(cuGroups[g], cuGroups[g + 1]);
          const p = own.filter((side) => side > 0).length / own.length;
          if (!(p > 0 && p < 1)) continue;
          for (let i = cuGroups[g]; i < cuGroups[g + 1]; i++) {
            const share = sides[i] > 0 ? -1 / (p * own.length) : 1 / ((1 - p) * own.length);
            gradScores[i] = (Math.sqrt(p * (1 - p)) * share) / groupLosses.length;
            groupLosses[g] += gradScores[i] * groupLosses.length * scores[i];
          }
        }
        return { loss: groupLosses.reduce((sum, l) => sum + l, 0) / groupLosses.length, gradScores, groupLosses };
      });
      const written = defineLoss({ score: 'logLikelihood', objective: difference }).runSync(batch, { backend });
      const shipped = defineLoss({ score: 'logLikelihood', objective: discriminative }).runSync(batch, { backend });
      expectCloseNumber(written.loss, shipped.loss, 1e-12);
      expectClose(written.gradLogits, shipped.gradLogits, 1e-7);
    });

    test.each([
      ['no margin', 0],
      ['a fixed margin', 0.25],
      ['the curriculum', cosineMargin({ target: 0.4, warmup: 0.5 })(0.3)],
    ])('%s', (_name, margin) => {
      const ablation = defineLoss({ score: 'logLikelihood', objective: infoNCE, defaults: { tau: 0.3, margin } });
      const result = ablation.runSync(batch, { backend });
      expect(result).toMatchObject(composed(batch, 'logLikelihood', { tau: 0.3, margin }, backend));
      expect(result).toEqual(conspoSync(batch, { tau: 0.3, margin, backend }));
    });

    test('its contrast on any other score', () => {
      for (const kind of ['ratio', 'sequenceRatio', 'geometricRatio', 'softGate'] as const) {
        const result = defineLoss({ score: { kind }, objective: infoNCE }).runSync(batch, { backend });
        expect(result, kind).toMatchObject(composed(batch, { kind }, {}, backend));
      }
    });
  });

  describe('the named losses are recipes', () => {
    const policy = <P extends object>(score: Parameters<typeof forwardSync>[1], defaults: P) =>
      defineLoss({ score, objective: advantageWeighted, defaults }).runSync(batch, { backend });

    test('conspo, grpo, dapo, gspo, gmpo, sapo', () => {
      const on = { backend };
      expect(defineLoss({ score: 'logLikelihood', objective: infoNCE }).runSync(batch, on)).toEqual(
        conspoSync(batch, on),
      );
      expect(policy({ kind: 'clippedRatio' }, {})).toEqual(grpoSync(batch, on));
      const wide = { kind: 'clippedRatio', epsilonHigh: 0.28 } as const;
      expect(policy(wide, { aggregation: 'token-mean' as const })).toEqual(dapoSync(batch, on));
      expect(policy({ kind: 'sequenceRatio' }, {})).toEqual(gspoSync(batch, on));
      expect(policy({ kind: 'geometricRatio' }, {})).toEqual(gmpoSync(batch, on));
      expect(policy({ kind: 'softGate' }, {})).toEqual(sapoSync(batch, on));
    });

    test('the discriminative form', () => {
      const { runSync } = defineLoss({ score: { kind: 'clippedRatio' }, objective: discriminative });
      expect(runSync(batch, { backend })).toEqual(grpoSync(batch, { form: 'discriminative', backend }));
    });
  });

  describe('scores, options and defaults', () => {
    test('a score may be a function of the options', () => {
      const clipped = defineLoss<AdvantageParameters & { width: number }, AdvantageInputs>({
        score: ({ width }) => ({ kind: 'clippedRatio', epsilonLow: width, epsilonHigh: width }),
        objective: advantageWeighted,
        defaults: { width: 0.1 },
      });
      const at = (width: number) => grpoSync(batch, { epsilonLow: width, epsilonHigh: width, backend });
      expect(clipped.runSync(batch, { backend })).toEqual(at(0.1));
      expect(clipped.runSync(batch, { width: 0.3, backend })).toEqual(at(0.3));
    });

    test('options override defaults, undefined does not', () => {
      const { runSync } = defineLoss({
        score: 'logLikelihood',
        objective: infoNCE,
        defaults: { tau: 0.7, margin: 0.2 },
      });
      const expected = (tau: number, margin: number) => conspoSync(batch, { tau, margin, backend });
      expect(runSync(batch, { backend })).toEqual(expected(0.7, 0.2));
      expect(runSync(batch, { tau: 0.1, backend })).toEqual(expected(0.1, 0.2));
      expect(runSync(batch, { tau: undefined, margin: 0, backend })).toEqual(expected(0.7, 0));
      expect(runSync(batch)).toEqual(conspoSync(batch, { tau: 0.7, margin: 0.2 })); // on the default backend
    });

    test("the objective gets them, and the loss's own; the recipe is not changed", () => {
      const defaults = Object.freeze({ power: 4 });
      const recipe = Object.freeze({ score: 'logLikelihood' as const, objective: powers, defaults });
      const { runSync } = defineLoss(recipe);
      const value = (power: number) => {
        const { scores, loss } = runSync(batch, { power, backend });
        return [loss, scores.reduce((sum, s, i) => sum - (batch.rewards[i] > 0 ? 1 : -1) * s ** power, 0)];
      };
      for (const power of [1, 2, 3]) expect(value(power)[0]).toBe(value(power)[1]);
      expect(runSync(batch, { backend })).toEqual(runSync(batch, { power: 4, backend }));
    });
  });

  describe('an objective of scores', () => {
    const { run, runSync } = defineLoss({ score: { kind: 'softGate' }, objective: powers });

    test('finite differences down to the logits', () => {
      expectGradient(backend, fullBatch(5), (moved, on) => runSync(moved, { backend: on, temperature: 1.2 }));
    });

    test('async and sync, with metrics, log-probs and the gradient where it is asked for', async () => {
      const options = { logProbs: true, entropy: true, backend };
      const result = runSync(batch, options);
      expect(await run(batch, options)).toEqual(result);
      expect([result.logProbs!.length, result.entropy!.length]).toEqual([batch.mask.length, batch.mask.length]);
      const out = new Float32Array(batch.logits.length);
      expect(runSync(batch, { backend, gradient: { out } }).gradLogits).toBe(out);
      expect(out).toEqual(result.gradLogits);
      expect('gradLogits' in runSync(batch, { backend, gradient: 'none' })).toBe(false);
    });

    test('it sees the batch as the loss does', () => {
      const seen = vi.fn((_batch: ScoredBatch, _options: object): ObjectiveValue => {
        return {
          loss: 3,
          gradScores: new Float64Array(_batch.scores.length),
          groupLosses: Float64Array.of(1, 2, 3, 4),
        };
      });
      const spied = defineLoss({ score: 'logLikelihood', objective: scoreObjective(seen) });
      const groupOrder = Int32Array.from(batch.rewards, (_, k) => batch.rewards.length - 1 - k);
      const result = spied.runSync({ ...batch, groupOrder }, { positiveThreshold: 0.5, backend });
      expect(seen).toHaveBeenCalledTimes(1);
      const [scored, options] = seen.mock.calls[0];
      const { scores } = conspoSync(batch, { backend });
      const tokenCounts = tokenCountsOf(batch);
      expect(scored).toEqual({
        scores,
        rewards: Float64Array.from(batch.rewards),
        sides: signs(batch.rewards),
        tokenCounts,
        cuGroups: batch.cuGroups,
        groupOrder,
      });
      expect(options).toMatchObject({ positiveThreshold: 0.5 });
      expect([result.loss, Array.from(result.groupLosses!)]).toEqual([3, [1, 2, 3, 4]]);
      expect(result.gradLogits).toEqual(new Float32Array(batch.logits.length));
    });

    test('it may reuse its arrays from call to call', async () => {
      const gradScores = new Float64Array(batch.rewards.length);
      let calls = 0;
      const reusing = defineLoss({
        score: 'logLikelihood',
        objective: scoreObjective(() => ({ loss: ++calls, gradScores: gradScores.fill(calls) })),
      });
      const both = await Promise.all([reusing.run(batch, { backend }), reusing.run(batch, { backend })]);
      const ordered = both.sort((a, b) => a.loss - b.loss);
      expectClose(
        ordered[1].gradLogits,
        ordered[0].gradLogits.map((g) => 2 * g),
        1e-6,
      );
    });

    test.each<[name: string, value: unknown, code: string, message: string]>([
      ['nothing', undefined, 'ERR_DTYPE', 'the objective: expected an object, got undefined'],
      ['a NaN loss', { loss: NaN, gradScores: 'right' }, 'ERR_NONFINITE', 'loss'],
      ['an infinite loss', { loss: -Infinity, gradScores: 'right' }, 'ERR_NONFINITE', 'loss'],
      ['no loss', { gradScores: 'right' }, 'ERR_DTYPE', 'loss'],
      ['no gradient', { loss: 1 }, 'ERR_DTYPE', 'gradScores: expected Float32Array or Float64Array, got undefined'],
      ['a list', { loss: 1, gradScores: [1, 2] }, 'ERR_DTYPE', 'gradScores: expected Float32Array or Float64Array'],
      ['the wrong length', { loss: 1, gradScores: new Float64Array(1) }, 'ERR_SHAPE', 'gradScores: expected length'],
      ['a NaN gradient', { loss: 1, gradScores: 'NaN' }, 'ERR_NONFINITE', 'gradScores: expected finite values'],
      ['groupLosses of another type', { loss: 1, gradScores: 'right', groupLosses: [1] }, 'ERR_DTYPE', 'groupLosses'],
      [
        'groupLosses of another length',
        { loss: 1, gradScores: 'right', groupLosses: new Float64Array(1) },
        'ERR_SHAPE',
        'groupLosses',
      ],
    ])('bad return values: %s', (_name, value, code, message) => {
      const arrays: Record<string, (N: number) => Float64Array> = {
        right: (N) => new Float64Array(N),
        NaN: (N) => new Float64Array(N).fill(NaN),
      };
      const bad = scoreObjective(({ scores }) => {
        const given = value as { gradScores: string } | undefined;
        const array = arrays[given?.gradScores ?? ''];
        return (array ? { ...given, gradScores: array(scores.length) } : value) as never;
      });
      const out = new Float32Array(batch.logits.length).fill(7);
      const failing = () =>
        defineLoss({ score: 'logLikelihood', objective: bad }).runSync(batch, { backend, gradient: { out } });
      expect(failing).toThrow(rlvrError(code, message));
      expect(out.every((x) => x === 7)).toBe(true);
    });

    test('what it throws is thrown', async () => {
      const failing = defineLoss({
        score: 'logLikelihood',
        objective: scoreObjective(() => {
          throw new TypeError('mine');
        }),
      });
      expect(() => failing.runSync(batch, { backend })).toThrow(new TypeError('mine'));
      await expect(failing.run(batch, { backend })).rejects.toThrow(new TypeError('mine'));
    });
  });
});

describe('bad recipes', () => {
  const recipe = { score: 'logLikelihood', objective: infoNCE };

  test.each<[name: string, recipe: unknown, code: string, message: string]>([
    ['none', undefined, 'ERR_DTYPE', 'recipe: expected an object, got undefined'],
    ['no score', { objective: infoNCE }, 'ERR_DTYPE', 'score: expected an object, got undefined'],
    ['unknown score', { ...recipe, score: 'ratio' }, 'ERR_RANGE', "score: expected 'logLikelihood' or { kind, ... }"],
    ['unknown kind', { ...recipe, score: { kind: 'r' } }, 'ERR_RANGE', 'score.kind: expected'],
    ['bad bounds', { ...recipe, score: { kind: 'clippedRatio', epsilonLow: -1 } }, 'ERR_RANGE', 'epsilonLow: expected'],
    ['no objective', { score: 'logLikelihood' }, 'ERR_DTYPE', 'objective: expected an objective, got undefined'],
    ['defaults of another type', { ...recipe, defaults: 3 }, 'ERR_DTYPE', 'defaults: expected an object, got 3'],
  ])('%s', (_name, bad, code, message) => {
    expect(() => defineLoss(bad as never)).toThrow(rlvrError(code, message));
  });

  test('an objective of scores is made of a function', () => {
    expect(() => scoreObjective(3 as never)).toThrow(
      expect.objectContaining({ code: 'ERR_DTYPE', message: 'evaluate: expected a function of scores, got number' }),
    );
  });
});
