/** Accuracy after each step, from before the first one: steps + 1 values in [0, 1]. */
export interface Curve {
  readonly name: string;
  readonly values: readonly number[];
}
