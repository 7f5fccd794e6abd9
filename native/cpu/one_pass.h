// The backward half of the one pass, as a backward pass.
#pragma once

#include "ops/token_log_probs.h"

namespace rlvr {
namespace {  // a copy for every file: they are compiled for different instruction sets

inline TokenLogProbsBackward backward_of(const TokenLogProbsOnePass& op) {
  const TokenLogProbsForward& forward = op.forward;
  TokenLogProbsBackward backward{};
  backward.logits = forward.logits;
  backward.dtype = forward.dtype;
  backward.tokens = forward.tokens;
  backward.vocab = forward.vocab;
  backward.row_stride = forward.row_stride;
  backward.targets = forward.targets;
  backward.mask = forward.kept;
  backward.temperature = forward.temperature;
  backward.log_sum_exp = forward.log_sum_exp;
  backward.grad_log_probs = op.grad_log_probs;
  backward.deferred = op.terms.count == 0;
  backward.grad_logits = op.grad_logits;
  backward.grad_row_stride = op.grad_row_stride;
  backward.bad_rows = op.bad_rows;
  backward.cancel = forward.cancel;
  return backward;
}

}  // namespace
}  // namespace rlvr
