// How a trainer's settings are written here.

export type Options = Readonly<Record<string, unknown>>;

/** A call of this package that stands for a trainer's settings. */
export interface Translation {
  /** The function's name, without `Sync`. */
  loss: string;
  options: Options;
  /** The option `normalizer`, where the default is not theirs: so many times a number of the micro-batch. */
  normalizer?: { of: 'tokens' | 'sequences' | 'sequencesWithTokens'; times: number };
  /** Whether the batch has `oldLogProbs`; true where nothing is said. */
  old?: boolean;
  /** Fields that the batch needs beside those of every batch; `refLogProbs` may be those of the sampling policy. */
  fields: readonly ('refLogProbs' | 'refLogProbs: oldLogProbs' | 'rolloutLogProbs')[];
  /** Why the two agree to 1e-7 only. */
  nearly?: string;
  /** Settings that have no counterpart, each with the reason. */
  without: readonly string[];
}

/** Values, less those that are the usual ones. */
export function unless<T>(usual: Readonly<Record<string, T>>, values: Readonly<Record<string, T>>): Options {
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== usual[name]));
}

/** `reasons`: by the setting's name, why it has no counterpart; false where it was not set. */
export function withReasons(reasons: Readonly<Record<string, string | false>>): string[] {
  return Object.entries(reasons).flatMap(([name, reason]) => (reason === false ? [] : [`${name}: ${reason}`]));
}
