// The token level under sampling replay: rows of which only what the sampler left counts. Formulas in ops/token_log_probs.h.
#pragma once

#include "cuda/runtime.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda {

// Each does nothing where the op has no replay.
// Writes to op.kept which rows are read as a whole: a mask for the forward pass over those.
cudaError_t replay_mask(const TokenLogProbsForward& op, cudaStream_t stream);
// Writes the results of replayed rows over those that the forward pass over all rows wrote for them.
cudaError_t replay_forward(const TokenLogProbsForward& op, cudaStream_t stream);
// Computes the gradients of what rows keep, before the backward pass over all rows has made these zeros, ...
cudaError_t replay_gradients(const TokenLogProbsBackward& op, cudaStream_t stream);
// ... and puts them there afterwards.
cudaError_t replay_scatter(const TokenLogProbsBackward& op, cudaStream_t stream);

}  // namespace rlvr::cuda
