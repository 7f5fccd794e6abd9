/** Where a step's time goes: sampling with the model, its passes with gradients, the calls of rlvr-kernels. */
export type Phase = 'model' | 'sampling' | 'kernels';

/** Milliseconds of each phase; a phase inside another is taken out of that. */
export class Stopwatch {
  #spent: Record<Phase, number> = { model: 0, sampling: 0, kernels: 0 };
  #inner = 0;

  time<T>(phase: Phase, run: () => T): T {
    const outer = this.#inner;
    this.#inner = 0;
    const start = performance.now();
    try {
      return run();
    } finally {
      const whole = performance.now() - start;
      this.#spent[phase] += whole - this.#inner;
      this.#inner = outer + whole;
    }
  }

  /** The milliseconds since it was last asked. */
  lap(): Record<`${Phase}Ms`, number> {
    const { model, sampling, kernels } = this.#spent;
    this.#spent = { model: 0, sampling: 0, kernels: 0 };
    return { modelMs: model, samplingMs: sampling, kernelsMs: kernels };
  }
}
