// The rules of the one pass over the logits, shared by the CPU and CUDA backends: what the gradient of a row follows
// from once its log-prob is known. Spec section 9.
#pragma once

#include "ops/ratio_rules.h"
#include "ops/token_log_probs.h"

namespace rlvr {
namespace {  // a copy for every file: the CPU's are compiled for different instruction sets

// The backward half, as a backward pass.
inline TokenLogProbsBackward backward_of(const TokenLogProbsOnePass& op) {
  const TokenRowsForward& forward = op.forward;
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

// The sequence of row t: the last one that begins at or before it.
RLVR_HOST_DEVICE inline int64_t sequence_of(const TokenTerms& terms, int64_t t) {
  int64_t begin = 0;
  for (int64_t end = terms.sequences; end - begin > 1;) {
    const int64_t middle = begin + (end - begin) / 2;
    (terms.cu_seqlens[middle] <= t ? begin : end) = middle;
  }
  return begin;
}

// dL/dlog_prob of row t, whose log-prob is known; 1 where the scale is deferred.
RLVR_HOST_DEVICE inline double upstream_of(const TokenLogProbsOnePass& op, int64_t t) {
  if (op.forward.kept[t] == 0) return 0;
  const TokenTerms& terms = op.terms;
  if (terms.count == 0) return 1;
  const int64_t i = sequence_of(terms, t);
  double sum = 0;
  for (int k = 0; k < terms.count; ++k)
    sum += terms.grad_scores[k][i] * ratio::token_derivative(terms.scores[k], i, t, op.forward.log_probs[t]);
  const double tokens = terms.token_counts[i];
  return sum / (tokens < 1 ? 1 : tokens);
}

}  // namespace
}  // namespace rlvr
