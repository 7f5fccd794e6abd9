import { namesOf, takeOptions } from './options.js';
import { finiteNumber, objectArgument } from './validate.js';

/** Parameters of {@link cosineMargin}. */
export interface CosineMarginParameters {
  /** M: the margin reached after the warm-up. Default 0 (this package's choice; the paper's value is not known to us). */
  target?: number | undefined;
  /** alpha: the fraction of training over which the margin grows, in (0, 1]. Default 1. */
  warmup?: number | undefined;
}

/**
 * ConSPO's curriculum margin (arXiv 2605.12969): `m = (M / 2) * (1 - cos(pi * min(progress / warmup, 1)))`.
 *
 * Progress and warm-up are fractions of the training; the margin is in units of the score (for ConSPO, nats per token).
 *
 * @example
 * ```ts
 * import { cosineMargin } from 'rlvr-kernels';
 *
 * const marginAt = cosineMargin({ target: 0.2, warmup: 0.5 });
 * console.log([0, 0.25, 0.5, 1].map(marginAt)); // => [ 0, 0.1, 0.2, 0.2 ]
 * ```
 *
 * @returns a function of training progress in [0, 1], for the `margin` option of a loss.
 * @throws RlvrError `ERR_DTYPE`, `ERR_RANGE`, `ERR_OPTION`.
 */
export function cosineMargin(parameters?: CosineMarginParameters): (progress: number) => number {
  const names = namesOf<CosineMarginParameters>({ target: true, warmup: true });
  const { target = 0, warmup = 1 }: CosineMarginParameters = takeOptions(
    'cosineMargin',
    parameters === undefined ? {} : objectArgument('parameters', parameters),
    names,
  );
  finiteNumber('target', target);
  finiteNumber('warmup', warmup, { above: 0, max: 1 });
  return (progress) => {
    finiteNumber('progress', progress, { min: 0, max: 1 });
    return (target / 2) * (1 - Math.cos(Math.PI * Math.min(progress / warmup, 1)));
  };
}
