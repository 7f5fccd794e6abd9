const LARGE = 4096; // elements; smaller arrays live in V8's own heap, which is faster still

/** Float64 for a kernel that writes every element: without the zeros that it would only overwrite. */
export function outputArray(length: number): Float64Array {
  if (length < LARGE) return new Float64Array(length);
  return new Float64Array(Buffer.allocUnsafeSlow(length * Float64Array.BYTES_PER_ELEMENT).buffer);
}
