#include "cpu/ops.h"
#include "wasm/values.h"

namespace rlvr::wasm {

RLVR_WASM_EXPORT("sequenceLogProbsForward") void sequence_log_probs_forward(const double* values) {
  Values v(values);
  SequenceLogProbsForward op{};
  op.log_probs = v.array<const double>();
  op.mask = v.array<const uint8_t>();
  op.cu_seqlens = v.array<const int32_t>();
  op.sequences = v.integer();
  op.scores = v.array<double>();
  op.token_counts = v.array<double>();
  cpu::sequence_log_probs_forward(op);
}

RLVR_WASM_EXPORT("sequenceLogProbsBackward") void sequence_log_probs_backward(const double* values) {
  Values v(values);
  SequenceLogProbsBackward op{};
  op.grad_scores = v.array<const double>();
  op.token_counts = v.array<const double>();
  op.mask = v.array<const uint8_t>();
  op.cu_seqlens = v.array<const int32_t>();
  op.sequences = v.integer();
  op.grad_log_probs = v.array<double>();
  cpu::sequence_log_probs_backward(op);
}

}  // namespace rlvr::wasm
