// The named losses with one signature, for trainers that choose theirs by name.

import type { LossGradient } from '../levels/gradient.js';
import type { AdvantageInputs } from '../objectives/advantage-weighted.js';
import type { LossBatch, LossOptions } from '../objectives/objective.js';
import type { AsyncOptions } from '../run/task.js';
import { LOSS_NAMES, LOSSES, type LossName } from './list.js';
import type { GradientOptions, LossResult, NamedLoss } from './loss.js';

/** The parameters of a loss of the list. */
type ParametersOf<L> = L extends NamedLoss<infer P, infer _I, infer _A, infer _N> ? Partial<P> : never;
type AllParameters = { [N in LossName]: ParametersOf<(typeof LOSSES)[N]> }[LossName];
type NamesIn<U> = U extends unknown ? keyof U : never;
type ValueIn<U, K extends PropertyKey> = U extends { readonly [N in K]?: infer V } ? V : never;

/** Every option that some loss has. Those that the one called does not have are refused when it is called, with `ERR_OPTION`. */
export type AnyLossOptions = LossOptions & { [K in NamesIn<AllParameters>]?: ValueIn<AllParameters, K> | undefined };

/** Any of the losses. */
export type AnyLoss = <B extends LossBatch<AdvantageInputs>, G extends LossGradient<B> = 'new'>(
  batch: B,
  options?: AnyLossOptions & AsyncOptions & GradientOptions<G>,
) => Promise<LossResult<B, G>>;

/** Any of the losses, blocking. */
export type AnyLossSync = <B extends LossBatch<AdvantageInputs>, G extends LossGradient<B> = 'new'>(
  batch: B,
  options?: AnyLossOptions & GradientOptions<G>,
) => LossResult<B, G>;

const byName = <F>(functionOf: (name: LossName) => unknown) =>
  Object.freeze(Object.fromEntries(LOSS_NAMES.map((name) => [name, functionOf(name)]))) as Readonly<
    Record<LossName, F>
  >;

/**
 * Every loss by its name, all with one signature, so that a trainer can switch them: `losses[name](batch, options)`. They are the same
 * functions as those exported one by one, whose types know more: which options a loss has, and what `drGrpo` needs.
 *
 * @example
 * ```ts
 * import { type LossName, losses } from 'rlvr-kernels';
 *
 * const name: LossName = 'dapo'; // from a configuration, say; Object.keys(losses) are all of them
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs } = await losses[name](batch, { epsilonHigh: 0.3 });
 * console.log(loss, gradLogProbs); // => 0.118 Float64Array(3) [ 0, 0.236, 0 ]
 * ```
 */
export const losses: Readonly<Record<LossName, AnyLoss>> = byName<AnyLoss>((name) => LOSSES[name].run);

/** {@link losses}, blocking. */
export const lossesSync: Readonly<Record<LossName, AnyLossSync>> = byName<AnyLossSync>((name) => LOSSES[name].runSync);
