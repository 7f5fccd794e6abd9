// The token level under sampling replay: rows of which only what the sampler left counts. Formulas in ops/token_log_probs.h.
#pragma once

#include "cuda/runtime.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda {

// Writes to `mask` [T], and makes it that of the pass over all ids, which rows that reads: those that are neither masked nor
// replayed. The others get zeros from it.
cudaError_t mask_rows(const Replay& replay, int64_t tokens, const uint8_t* given, uint8_t* mask, cudaStream_t stream);

template <class Rows>
cudaError_t mask_replayed(const Replay& replay, Rows& rows, uint8_t* mask, cudaStream_t stream) {
  if (replay.cu_kept == nullptr) return cudaSuccess;
  const uint8_t* given = rows.mask;
  rows.mask = mask;
  return mask_rows(replay, rows.tokens, given, mask, stream);
}

// Room for that mask of a backward pass.
uint8_t* replay_mask(const TokenLogProbsBackward& op);

// Each does nothing where the op has no replay.
// Writes the results of replayed rows over those that the forward pass over all ids wrote for them.
cudaError_t replay_forward(const TokenLogProbsForward& op, cudaStream_t stream);
// Computes the gradients of what rows keep, before the backward pass over all ids has made these zeros, ...
cudaError_t replay_gradients(const TokenLogProbsBackward& op, cudaStream_t stream);
// ... and puts them there afterwards.
cudaError_t replay_scatter(const TokenLogProbsBackward& op, cudaStream_t stream);

}  // namespace rlvr::cuda
