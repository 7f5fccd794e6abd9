// token-log-probs: logits -> log-prob of the sampled token, logsumexp, entropy; and the gradient back
// to the logits. Spec section 2.
//
// With z = logits / temperature:
//   log_probs[t]   = z[t, y] - log_sum_exp[t]            y = targets[t]
//   log_sum_exp[t] = log sum_v exp(z[t, v])
//   entropy[t]     = log_sum_exp[t] - sum_v p[t, v] * z[t, v]
// all from one read of the row. Backward, given g = dL/dlog_prob and h = dL/dentropy:
//   dL/dlogits[t, v] = (1/temperature) * (g*([v == y] - p_v) - h*p_v*(log p_v + entropy))
#pragma once

#include "ops/common.h"
#include "ops/ratio_scores.h"

namespace rlvr {

// Sampling replay (spec section 11): a token's row may be over part of the vocabulary only, what the sampler left of it. The other
// entries are not read, and their gradients are 0.
struct Replay {
  const int32_t* kept_ids;  // [K] ascending within a row, the target among them
  const int32_t* cu_kept;   // [T + 1] or null: row t is over kept_ids[cu_kept[t] ... cu_kept[t + 1]]; none: over all ids
};

// The target of a row whose own is not among these columns of a vocabulary that ranks share (spec section 12): the row's log-prob is then
// -log_sum_exp, as of a logit of 0, and no entry of its gradient is a target's.
constexpr int32_t kNoTarget = -1;

// A row is non-finite when it holds NaN or +inf, is all -inf, or is -inf at its target. Such a row, and a masked one,
// gets 0 in every output, but -inf in log_sum_exp where it is all -inf: of the columns that one rank holds of it (kNoTarget) that is no
// error. A masked one is not read.
struct TokenRowsForward {
  const void* logits;  // [T, V] dtype, row t starts at element t * row_stride
  DType dtype;
  int64_t tokens;          // T
  int64_t vocab;           // V
  int64_t row_stride;      // elements, >= V
  const int32_t* targets;  // [T], 0 <= id < V, or kNoTarget, wherever the mask is not 0
  const uint8_t* mask;     // [T] or null: 0 drops the token
  double temperature;      // > 0
  double* log_probs;       // [T] out, natural log
  double* log_sum_exp;     // [T] out, of the scaled logits
  double* entropy;         // [T] out, nats; null: not computed
  uint8_t* kept;           // [T] out: 1, or 0 for masked and non-finite rows; the mask for later ops
  int32_t* non_finite;     // [1] in: 0; out: number of non-finite rows
  void* scratch;           // of CUDA: token_log_probs_scratch() in cuda/ops.h; null: rows are not shared by blocks
  CancelFlag cancel;
};

// Replay is apart from the rows for CUDA: with more arguments the kernels over all ids need more registers than there are.
struct TokenLogProbsForward : TokenRowsForward {
  Replay replay;
};

struct TokenRowsBackward {
  const void* logits;            // [T, V] dtype
  DType dtype;                   // of logits and grad_logits
  int64_t tokens;                // T
  int64_t vocab;                 // V
  int64_t row_stride;            // elements, of logits
  const int32_t* targets;        // [T]
  const uint8_t* mask;           // [T] or null: 0 gives a zero row
  double temperature;            // > 0
  const double* log_sum_exp;     // [T] from the forward pass
  const double* grad_log_probs;  // [T] g; rows with g == 0 and h == 0 are zero-filled, not read
  const double* entropy;         // [T] from the forward pass; null when grad_entropy is null
  const double* grad_entropy;    // [T] h; null: no entropy term
  const int32_t* halt;           // [1] or null: nothing is written if it is not 0
  bool deferred;                 // true: rows with g != 0 get [v == y] - p_v, which is yet to be scaled
  bool watch;                    // false: logits and log_sum_exp are known to belong together, all finite or -inf
  void* grad_logits;             // [T, V] out, dtype; may be the same memory as logits (same stride)
  int64_t grad_row_stride;       // elements, of grad_logits
  // [2] in: -1; out: the first row with an upstream gradient beyond the range of float32 (then nothing is written), and the
  // first with an entry that is not finite, which is found as it is written; -1 for none.
  int32_t* bad_rows;
  CancelFlag cancel;
};

struct TokenLogProbsBackward : TokenRowsBackward {
  Replay replay;
  void* replay_scratch;  // of CUDA, with replay: replay_scratch() in cuda/ops.h
};

// A loss as a sum of ratio scores that are means of terms that each depend on one token, times dL/dscores: what a row's g follows from once its log-prob is known.
struct TokenTerms {
  const int32_t* cu_seqlens;   // [N + 1]
  int64_t sequences;           // N
  const double* token_counts;  // [N] n_i
  int count;                   // of scores; 0: there are none
  RatioScoresForward scores[2];  // of each the kind, the parameters, old_log_probs, sides and token_weights
  const double* grad_scores[2];  // [N] each
};

// The forward pass, and the gradient of a row while it is in the cache. Without terms the gradient is deferred: rows that
// are kept get [v == y] - p_v. Rows that are not kept get 0. Without replay, under which there is little to read.
struct TokenLogProbsOnePass {
  TokenRowsForward forward;
  TokenTerms terms;
  double* grad_log_probs;   // [T] out: dL/dlog_prob; without terms 1, 0 for rows that are not kept
  void* grad_logits;        // [T, V] out, dtype; may be the same memory as logits (same stride)
  int64_t grad_row_stride;  // elements
  int32_t* bad_rows;        // [2] in: -1; out, as of the backward pass; but rows are written all the same
};

// Rows where the scale is 0 become 0.
struct ZeroRows {
  void* grad_logits;  // [T, V] out, dtype
  DType dtype;
  int64_t tokens;           // T
  int64_t vocab;            // V
  int64_t grad_row_stride;  // elements
  const double* row_scale;  // [T]
  CancelFlag cancel;
};

namespace {  // a copy for every file: the CPU's are compiled for different instruction sets

// How many ids row t is over; 0: all of them.
RLVR_HOST_DEVICE inline int64_t kept_count(const Replay& replay, int64_t t) {
  return replay.cu_kept == nullptr ? 0 : int64_t{replay.cu_kept[t + 1]} - replay.cu_kept[t];
}

constexpr double kLargestFloat = 3.4028234663852886e38;

// A bound on every entry of row t, with a probability of at most 1. An entry takes -log p of up to 127 ln(2), where p
// becomes 0, times h.
RLVR_HOST_DEVICE inline double gradient_bound(double g, double h, double entropy, double inverse_temperature) {
  return (magnitude(g) + (h == 0 ? 0 : magnitude(h) * (magnitude(entropy) + 128))) * inverse_temperature;
}

// dL/dlog_prob of row t, or what stands for it where the scale is deferred.
RLVR_HOST_DEVICE inline double upstream_of(const TokenRowsBackward& op, int64_t t) {
  if (op.mask != nullptr && op.mask[t] == 0) return 0;
  const double g = op.grad_log_probs[t];
  return op.deferred && g != 0 ? op.temperature : g;
}

// Whether what comes from upstream for row t is beyond the range of float32. Such a row could only be written wrong.
RLVR_HOST_DEVICE inline bool upstream_overflows(const TokenRowsBackward& op, int64_t t) {
  if (op.mask != nullptr && op.mask[t] == 0) return false;
  const double g = upstream_of(op, t);
  const double h = op.grad_entropy == nullptr ? 0 : op.grad_entropy[t];
  return !(gradient_bound(g, h, h == 0 ? 0 : op.entropy[t], 1 / op.temperature) <= kLargestFloat);
}

}  // namespace
}  // namespace rlvr
