#include "cpu/ops.h"
#include "wasm/score_rules.h"
#include "wasm/values.h"

namespace rlvr::wasm {

RLVR_WASM_EXPORT("ratioScoresForward") void ratio_scores_forward(const double* values) {
  Values v(values);
  RatioScoresForward op{};
  read_score_rules(v, op);
  op.log_probs = v.array<const double>();
  op.mask = v.array<const uint8_t>();
  op.cu_seqlens = v.array<const int32_t>();
  op.sequences = v.integer();
  op.tokens = op.cu_seqlens[op.sequences];
  op.scores = v.array<double>();
  op.token_counts = v.array<double>();
  op.score_grads = v.array<double>();
  op.clipped_low = v.array<int32_t>();
  op.clipped_high = v.array<int32_t>();
  op.ratio_stats = v.array<double>();
  cpu::ratio_scores_forward(op);
}

RLVR_WASM_EXPORT("ratioScoresBackward") void ratio_scores_backward(const double* values) {
  Values v(values);
  RatioScoresBackward op{};
  op.grad_scores = v.array<const double>();
  op.score_grads = v.array<const double>();
  op.cu_seqlens = v.array<const int32_t>();
  op.sequences = v.integer();
  op.tokens = op.cu_seqlens[op.sequences];
  op.accumulate = v.boolean();
  op.grad_log_probs = v.array<double>();
  cpu::ratio_scores_backward(op);
}

}  // namespace rlvr::wasm
