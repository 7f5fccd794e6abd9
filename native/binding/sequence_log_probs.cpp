#include "binding/sequences.h"
#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

SequenceLogProbsForward read_forward(Arguments& a) {
  SequenceLogProbsForward op{};
  op.sequences = a.integer("sequences");
  op.cu_seqlens = offsets(a, "cuSeqlens", op.sequences, op.tokens);
  op.log_probs = a.array<const double>("logProbs", op.tokens);
  op.mask = a.optional_array<const uint8_t>("mask", op.tokens);
  op.scores = a.array<double>("scores", op.sequences);
  op.token_counts = a.array<double>("tokenCounts", op.sequences);
  op.cancel = a.cancel_flag();
  return op;
}

SequenceLogProbsBackward read_backward(Arguments& a) {
  SequenceLogProbsBackward op{};
  op.sequences = a.integer("sequences");
  op.cu_seqlens = offsets(a, "cuSeqlens", op.sequences, op.tokens);
  op.grad_scores = a.array<const double>("gradScores", op.sequences);
  op.token_counts = a.array<const double>("tokenCounts", op.sequences);
  op.mask = a.optional_array<const uint8_t>("mask", op.tokens);
  op.grad_log_probs = a.array<double>("gradLogProbs", op.tokens);
  op.cancel = a.cancel_flag();
  return op;
}

}  // namespace

void export_sequence_log_probs(Napi::Env env, const Exports& exports) {
  export_op<SequenceLogProbsForward, read_forward, cpu::sequence_log_probs_forward,
            RLVR_ON_CUDA(sequence_log_probs_forward)>(env, exports, "sequenceLogProbsForward");
  export_op<SequenceLogProbsBackward, read_backward, cpu::sequence_log_probs_backward,
            RLVR_ON_CUDA(sequence_log_probs_backward)>(env, exports, "sequenceLogProbsBackward");
}

}  // namespace rlvr::binding
