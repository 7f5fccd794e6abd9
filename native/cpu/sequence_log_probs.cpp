// See ops/sequence_log_probs.h. A masked log-prob counts for nothing: it may be NaN or -inf.
#include "cpu/ops.h"
#include "cpu/sequences.h"

namespace rlvr::cpu {
namespace {

// Eight sums side by side: an addition waits for the one before it.
double sum(const double* x, const uint8_t* mask, int64_t begin, int64_t end) {
  constexpr int kLanes = 8;
  double lane[kLanes] = {};
  int64_t t = begin;
  for (; t + kLanes <= end; t += kLanes)
    for (int k = 0; k < kLanes; ++k) lane[k] += unmasked(mask, t + k) ? x[t + k] : 0;
  for (; t < end; ++t) lane[0] += unmasked(mask, t) ? x[t] : 0;
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// The mean over `count` tokens. Where their sum is beyond the range of a double, the sum of their shares is not.
double mean(const double* x, const uint8_t* mask, int64_t begin, int64_t end, double count) {
  const double total = sum(x, mask, begin, end) / count;
  if (representable(total)) return total;
  double shares = 0;
  for (int64_t t = begin; t < end; ++t) shares += unmasked(mask, t) ? x[t] / count : 0;
  return shares;
}

}  // namespace

void sequence_log_probs_forward(const SequenceLogProbsForward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    op.token_counts[i] = count_unmasked(op.mask, begin, end);
    op.scores[i] = mean(op.log_probs, op.mask, begin, end, std::max(op.token_counts[i], 1.0));
  });
}

void sequence_log_probs_backward(const SequenceLogProbsBackward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    const double share = op.grad_scores[i] / std::max(op.token_counts[i], 1.0);
    for (int64_t t = begin; t < end; ++t) op.grad_log_probs[t] = unmasked(op.mask, t) ? share : 0;
  });
}

}  // namespace rlvr::cpu
