// Numbers that record their own derivatives, for the oracle.

interface Step {
  of: Scalar;
  by: number;
}

let made = 0;

/** A number that knows what it was made of. */
export class Scalar {
  readonly #order = made++;
  gradient = 0;
  constructor(
    readonly value: number,
    readonly parents: readonly Step[] = [],
  ) {}

  plus(other: Scalar): Scalar {
    return new Scalar(this.value + other.value, [
      { of: this, by: 1 },
      { of: other, by: 1 },
    ]);
  }
  minus(other: Scalar): Scalar {
    return this.plus(other.times(-1));
  }
  times(factor: number | Scalar): Scalar {
    if (typeof factor === 'number') return new Scalar(this.value * factor, [{ of: this, by: factor }]);
    return new Scalar(this.value * factor.value, [
      { of: this, by: factor.value },
      { of: factor, by: this.value },
    ]);
  }
  over(divisor: Scalar): Scalar {
    return new Scalar(this.value / divisor.value, [
      { of: this, by: 1 / divisor.value },
      { of: divisor, by: -this.value / divisor.value ** 2 },
    ]);
  }
  exp(): Scalar {
    const value = Math.exp(this.value);
    return new Scalar(value, [{ of: this, by: value }]);
  }
  log(): Scalar {
    return new Scalar(Math.log(this.value), [{ of: this, by: 1 / this.value }]);
  }
  sigmoid(): Scalar {
    const one = new Scalar(1);
    return one.over(one.plus(this.times(-1).exp()));
  }
  min(other: Scalar): Scalar {
    return new Scalar(Math.min(this.value, other.value), [{ of: this.value <= other.value ? this : other, by: 1 }]);
  }
  max(other: Scalar): Scalar {
    return new Scalar(Math.max(this.value, other.value), [{ of: this.value >= other.value ? this : other, by: 1 }]);
  }
  clip(low: number, high: number): Scalar {
    return this.max(new Scalar(low)).min(new Scalar(high));
  }
  /** sg: the same value, a constant. */
  stop(): Scalar {
    return new Scalar(this.value);
  }

  /** Fills in `gradient` of everything this was made of. */
  backward(): void {
    const seen = new Set<Scalar>([this]);
    for (const node of seen) for (const { of } of node.parents) seen.add(of);
    this.gradient = 1;
    for (const node of [...seen].sort((a, b) => b.#order - a.#order)) {
      for (const { of, by } of node.parents) if (node.gradient !== 0) of.gradient += node.gradient * by;
    }
  }
}
