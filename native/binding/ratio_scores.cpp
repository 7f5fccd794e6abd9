#include "binding/score_rules.h"
#include "binding/sequences.h"
#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

RatioScoresForward read_forward(Arguments& a) {
  RatioScoresForward op{};
  op.sequences = a.integer("sequences");
  op.cu_seqlens = offsets(a, "cuSeqlens", op.sequences, op.tokens);
  op.log_probs = a.array<const double>("logProbs", op.tokens);
  op.mask = a.optional_array<const uint8_t>("mask", op.tokens);
  read_score_rules(a, op);
  op.scores = a.array<double>("scores", op.sequences);
  op.token_counts = a.array<double>("tokenCounts", op.sequences);
  op.score_grads = a.array<double>("scoreGrads", op.tokens);
  op.clipped_low = a.array<int32_t>("clippedLow", op.sequences);
  op.clipped_high = a.array<int32_t>("clippedHigh", op.sequences);
  op.ratio_stats = a.optional_array<double>("ratioStats", 4 * op.sequences);
  op.cancel = a.cancel_flag();
  return op;
}

RatioScoresBackward read_backward(Arguments& a) {
  RatioScoresBackward op{};
  op.sequences = a.integer("sequences");
  op.cu_seqlens = offsets(a, "cuSeqlens", op.sequences, op.tokens);
  op.grad_scores = a.array<const double>("gradScores", op.sequences);
  op.score_grads = a.array<const double>("scoreGrads", op.tokens);
  op.accumulate = a.boolean("accumulate");
  op.grad_log_probs =
      op.accumulate ? a.in_out<double>("gradLogProbs", op.tokens) : a.array<double>("gradLogProbs", op.tokens);
  op.cancel = a.cancel_flag();
  return op;
}

}  // namespace

void export_ratio_scores(Napi::Env env, const Exports& exports) {
  export_op<RatioScoresForward, read_forward, cpu::ratio_scores_forward, RLVR_ON_CUDA(ratio_scores_forward)>(
      env, exports, "ratioScoresForward");
  export_op<RatioScoresBackward, read_backward, cpu::ratio_scores_backward, RLVR_ON_CUDA(ratio_scores_backward)>(
      env, exports, "ratioScoresBackward");
}

}  // namespace rlvr::binding
