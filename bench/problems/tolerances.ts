import type { DType } from '../../lib/kernels.js';

/** How far the package's token level may be from float64, relative: its log-probs and entropies, and its gradients. */
export const TOKEN_TOLERANCE: { readonly value: number; readonly gradient: Readonly<Record<DType, number>> } = {
  value: 1e-6,
  gradient: { f32: 2e-6, bf16: 4e-3, f16: 5e-4 },
};

/** The same from hidden states: each logit is a sum of float32 products. */
export const LINEAR_TOLERANCE: typeof TOKEN_TOLERANCE = {
  value: 1e-6,
  gradient: { f32: 5e-6, bf16: 4e-3, f16: 5e-4 },
};
