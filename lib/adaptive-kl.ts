import { namesOf, takeOptions } from './options.js';
import { finiteNumber, objectArgument } from './validate.js';

/** Parameters of {@link AdaptiveKl}. */
export interface AdaptiveKlParameters {
  /** The coefficient to begin with, > 0. */
  klCoef: number;
  /** The KL that is aimed at, > 0, of the same kind as those that `update` is given, such as `metrics.kl`, nats per token. */
  target: number;
  /** Sequences over which the coefficient follows an error of the KL, > 0. Default 10000, that of TRL and verl. */
  horizon?: number | undefined;
}

/**
 * The coefficient of a KL penalty that keeps the KL near a target (Ziegler et al. 2019, arXiv 1909.08593, section 2.2; the adaptive
 * controller of PPO in TRL and verl). After a step on so many sequences: `klCoef *= 1 + e * sequences / horizon`, where `e` is
 * `kl / target - 1`, cut to [-0.2, 0.2]. Its only state is `klCoef`: save that, and make a controller of it to go on.
 *
 * @example
 * ```ts
 * import { AdaptiveKl } from 'rlvr-kernels';
 *
 * const controller = new AdaptiveKl({ klCoef: 0.1, target: 0.05, horizon: 1000 });
 * // after each step of, say, grpo(batch, { klCoef: controller.klCoef }): its metrics.kl, and how many sequences it had
 * console.log(controller.update(0.2, 100)); // => 0.102
 * console.log(controller.update(0.049, 100)); // => 0.1018
 * console.log(controller.klCoef); // => 0.1018
 * ```
 */
export class AdaptiveKl {
  readonly #target: number;
  readonly #horizon: number;
  #klCoef: number;

  /** @throws RlvrError `ERR_DTYPE`, `ERR_RANGE`, `ERR_OPTION`. */
  constructor(parameters: AdaptiveKlParameters) {
    const names = namesOf<AdaptiveKlParameters>({ klCoef: true, target: true, horizon: true });
    const { klCoef, target, horizon } = takeOptions('AdaptiveKl', objectArgument('parameters', parameters), names);
    this.#klCoef = finiteNumber('klCoef', klCoef, { above: 0 });
    this.#target = finiteNumber('target', target, { above: 0 });
    this.#horizon = finiteNumber('horizon', horizon ?? 10_000, { above: 0 });
  }

  /** The coefficient, for the option `klCoef` of a loss. */
  get klCoef(): number {
    return this.#klCoef;
  }

  /**
   * Takes the KL of a step into account.
   *
   * @param kl the mean KL of the step; estimates may be below 0.
   * @param sequences how many sequences the step had, at most `horizon`: it then changes the coefficient by a fifth at most.
   * @returns the new `klCoef`.
   * @throws RlvrError `ERR_RANGE`; the coefficient is then what it was.
   */
  update(kl: number, sequences: number): number {
    const error = finiteNumber('kl', kl) / this.#target - 1;
    const share = finiteNumber('sequences', sequences, { min: 0, max: this.#horizon }) / this.#horizon;
    const next = this.#klCoef * (1 + Math.min(Math.max(error, -0.2), 0.2) * share);
    this.#klCoef = Math.min(Math.max(next, Number.MIN_VALUE), Number.MAX_VALUE);
    return this.#klCoef;
  }
}
