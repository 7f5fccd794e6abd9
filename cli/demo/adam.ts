const decay1 = 0.9;
const decay2 = 0.999;
/** Large enough that a gradient which is only rounding noise stays noise: Adam would otherwise scale it to a full step. */
const epsilon = 1e-6;

/** Adam (Kingma and Ba, arXiv 1412.6980) over one flat array of weights. */
export class Adam {
  readonly #mean: Float64Array;
  readonly #variance: Float64Array;
  #steps = 0;

  constructor(
    size: number,
    readonly learningRate: number,
  ) {
    this.#mean = new Float64Array(size);
    this.#variance = new Float64Array(size);
  }

  /** Moves `weights` one step against `gradient` and clears `gradient` for the next one. */
  step(weights: Float64Array, gradient: Float64Array): void {
    this.#steps++;
    const correction1 = 1 - decay1 ** this.#steps;
    const correction2 = 1 - decay2 ** this.#steps;
    for (let i = 0; i < weights.length; i++) {
      this.#mean[i] = decay1 * this.#mean[i] + (1 - decay1) * gradient[i];
      this.#variance[i] = decay2 * this.#variance[i] + (1 - decay2) * gradient[i] ** 2;
      const deviation = Math.sqrt(this.#variance[i] / correction2) + epsilon;
      weights[i] -= (this.learningRate * this.#mean[i]) / correction1 / deviation;
    }
    gradient.fill(0);
  }
}
