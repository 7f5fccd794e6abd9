// What the sequence-level loops share.

export function isUnmasked(mask: Uint8Array | undefined, t: number): boolean {
  return mask === undefined || mask[t] !== 0;
}

/** Unmasked tokens in [begin, end). */
export function countUnmasked(mask: Uint8Array | undefined, begin: number, end: number): number {
  let count = 0;
  for (let t = begin; t < end; t++) count += isUnmasked(mask, t) ? 1 : 0;
  return count;
}
