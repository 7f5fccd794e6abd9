// What must hold of a result, in words.

/** The first claim that does not hold. */
export function problem(...claims: [claim: string, holds: boolean][]): string | undefined {
  const failed = claims.find(([, holds]) => !holds);
  return failed && `not so: ${failed[0]}`;
}
