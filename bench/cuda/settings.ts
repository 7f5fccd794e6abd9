// What the GPU benchmark is asked for.
import type { DType } from '../../lib/index.js';

/** Logits, [T, V]. */
export interface CudaShape {
  readonly tokens: number;
  readonly vocab: number;
  readonly dtype: DType;
}

/** The arrays of the small ops: [N] and [T]. */
export interface SmallShape {
  readonly sequences: number;
  readonly tokens: number;
}

export interface CudaSettings {
  readonly shapes: readonly CudaShape[];
  readonly small: readonly SmallShape[];
  /** Rounds; each times every contender once. */
  readonly repeats: number;
  /** Runs in a row of one such timing, for kernels on [T, V] arrays. */
  readonly inner: number;
  /** The same for the small ops. */
  readonly smallInner: number;
  readonly seed: number;
  /** Whether PyTorch is to run too. */
  readonly peers: boolean;
  /** After so long, PyTorch starts no new shape. */
  readonly peerSeconds: number;
}
