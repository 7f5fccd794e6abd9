#include "cpu/ops.h"
#include "wasm/score_rules.h"
#include "wasm/values.h"

namespace rlvr::wasm {
namespace {

template <class Op>
void read_rows(Values& v, Op& op) {
  op.logits = v.array<const void>();
  op.dtype = v.code<DType>();
  op.tokens = v.integer();
  op.vocab = v.integer();
  op.row_stride = v.integer();
  op.targets = v.array<const int32_t>();
  op.mask = v.array<const uint8_t>();
  op.temperature = v.number();
}

Replay read_replay(Values& v) {
  Replay replay{};
  replay.kept_ids = v.array<const int32_t>();
  replay.cu_kept = v.array<const int32_t>();
  return replay;
}

TokenLogProbsForward read_forward(Values& v) {
  TokenLogProbsForward op{};
  read_rows(v, op);
  op.log_sum_exp = v.array<double>();
  op.log_probs = v.array<double>();
  op.entropy = v.array<double>();
  op.kept = v.array<uint8_t>();
  op.non_finite = v.array<int32_t>();
  op.replay = read_replay(v);
  return op;
}

TokenLogProbsBackward read_backward(Values& v) {
  TokenLogProbsBackward op{};
  read_rows(v, op);
  op.log_sum_exp = v.array<const double>();
  op.grad_log_probs = v.array<const double>();
  op.entropy = v.array<const double>();
  op.grad_entropy = v.array<const double>();
  op.deferred = v.boolean();
  op.watch = v.boolean();
  op.grad_logits = v.array<void>();
  op.grad_row_stride = v.integer();
  op.bad_rows = v.array<int32_t>();
  op.replay = read_replay(v);
  return op;
}

void read_term(Values& v, int64_t tokens, TokenTerms& terms) {
  RatioScoresForward& score = terms.scores[terms.count];
  score.tokens = tokens;
  score.sequences = terms.sequences;
  read_score_rules(v, score);
  terms.grad_scores[terms.count++] = v.array<const double>();
}

TokenLogProbsOnePass read_one_pass(Values& v) {
  TokenLogProbsOnePass op{};
  op.forward = read_forward(v);
  op.grad_log_probs = v.array<double>();
  op.grad_logits = v.array<void>();
  op.grad_row_stride = v.integer();
  op.bad_rows = v.array<int32_t>();
  const int64_t terms = v.integer();
  if (terms == 0) return op;
  op.terms.cu_seqlens = v.array<const int32_t>();
  op.terms.sequences = v.integer();
  op.terms.token_counts = v.array<const double>();
  for (int64_t k = 0; k < terms; ++k) read_term(v, op.forward.tokens, op.terms);
  return op;
}

}  // namespace

RLVR_WASM_EXPORT("tokenLogProbsForward") void token_log_probs_forward(const double* values) {
  Values v(values);
  cpu::token_log_probs_forward(read_forward(v));
}

RLVR_WASM_EXPORT("tokenLogProbsBackward") void token_log_probs_backward(const double* values) {
  Values v(values);
  cpu::token_log_probs_backward(read_backward(v));
}

RLVR_WASM_EXPORT("tokenLogProbsOnePass") void token_log_probs_one_pass(const double* values) {
  Values v(values);
  cpu::token_log_probs_one_pass(read_one_pass(v));
}

}  // namespace rlvr::wasm
