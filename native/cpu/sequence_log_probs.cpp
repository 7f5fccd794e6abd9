// See ops/sequence_log_probs.h. Masked log-probs are never read: they may hold NaN or -inf.
#include "cpu/ops.h"
#include "cpu/sequences.h"

namespace rlvr::cpu {

void sequence_log_probs_forward(const SequenceLogProbsForward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t t = begin; t < end; ++t)
      if (unmasked(op.mask, t)) sum += op.log_probs[t];
    op.token_counts[i] = count_unmasked(op.mask, begin, end);
    op.scores[i] = sum / std::max(op.token_counts[i], 1.0);
  });
}

void sequence_log_probs_backward(const SequenceLogProbsBackward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    const double share = op.grad_scores[i] / std::max(op.token_counts[i], 1.0);
    for (int64_t t = begin; t < end; ++t) op.grad_log_probs[t] = unmasked(op.mask, t) ? share : 0;
  });
}

}  // namespace rlvr::cpu
