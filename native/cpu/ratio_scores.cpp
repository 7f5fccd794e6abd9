// See ops/ratio_scores.h. Picks the instruction set and spreads sequences over threads; the loops are in
// ratio_scores_rows.h.
#include "cpu/cpu_features.h"
#include "cpu/ops.h"
#include "cpu/ratio_scores_simd.h"
#include "cpu/sequences.h"

namespace rlvr::cpu {
namespace {

RatioScoresRows rows_of_this_processor() {
#ifdef RLVR_HAVE_AVX2
  if (simd_level() == SimdLevel::kAvx512) return ratio_scores_rows_avx512;
  if (simd_level() == SimdLevel::kAvx2) return ratio_scores_rows_avx2;
#endif
  return ratio_scores_rows_portable;
}

}  // namespace

void ratio_scores_forward(const RatioScoresForward& op) {
  const RatioScoresRows rows = rows_of_this_processor();
  for_sequences(op.cu_seqlens, op.sequences, [&](int64_t begin, int64_t end) { rows(op, begin, end); });
}

void ratio_scores_backward(const RatioScoresBackward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double gradient = op.grad_scores[i] * op.score_grads[t];
      op.grad_log_probs[t] = (op.accumulate ? op.grad_log_probs[t] : 0) + gradient;
    }
  });
}

}  // namespace rlvr::cpu
