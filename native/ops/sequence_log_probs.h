// sequence-log-probs: the log-likelihood score of ConSPO and DisCO. Spec section 3.
//   scores[i] = sum_t m_t * log_probs[t] / max(n_i, 1)      over the tokens of sequence i
//   dL/dlog_probs[t] = grad_scores[i] * m_t / max(n_i, 1)
#pragma once

#include "ops/common.h"

namespace rlvr {

struct SequenceLogProbsForward {
  const double* log_probs;    // [T]
  const uint8_t* mask;        // [T] or null
  const int32_t* cu_seqlens;  // [N + 1]
  int64_t tokens;             // T
  int64_t sequences;          // N
  double* scores;             // [N] out
  double* token_counts;       // [N] out: n_i, the unmasked tokens
  CancelFlag cancel;
};

struct SequenceLogProbsBackward {
  const double* grad_scores;   // [N]
  const double* token_counts;  // [N] from the forward pass
  const uint8_t* mask;         // [T] or null
  const int32_t* cu_seqlens;   // [N + 1]
  int64_t tokens;              // T
  int64_t sequences;           // N
  double* grad_log_probs;      // [T] out
  CancelFlag cancel;
};

}  // namespace rlvr
