#include "binding/score_rules.h"
#include "binding/sequences.h"
#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

// The ids that tokens keep, and how many there are. Where there are none, every row is over all ids: no replay.
Replay read_replay(Arguments& a, int64_t tokens, int64_t& ids) {
  ids = 0;
  if (a.optional_host_array<const int32_t>("cuKept", tokens + 1) == nullptr) return {};
  const int32_t* cu_kept = offsets(a, "cuKept", tokens, ids);
  if (ids == 0) return {};
  return {a.array<const int32_t>("keptIds", ids), cu_kept};
}

// What both passes know of the rows.
template <class Op>
void read_rows(Arguments& a, Op& op) {
  op.dtype = static_cast<DType>(a.integer("dtype", 2));
  op.tokens = a.integer("tokens");
  op.vocab = a.integer("vocab");
  op.row_stride = a.integer("rowStride");
  op.logits = a.matrix("logits", op.dtype, op.tokens, op.vocab, op.row_stride);
  op.targets = a.array<const int32_t>("targets", op.tokens);
  op.mask = a.optional_array<const uint8_t>("mask", op.tokens);
  op.temperature = a.number("temperature");
}

TokenLogProbsForward read_forward(Arguments& a) {
  TokenLogProbsForward op{};
  read_rows(a, op);
  op.log_probs = a.array<double>("logProbs", op.tokens);
  op.log_sum_exp = a.array<double>("logSumExp", op.tokens);
  op.entropy = a.optional_array<double>("entropy", op.tokens);
  op.kept = a.array<uint8_t>("kept", op.tokens);
  op.non_finite = a.in_out<int32_t>("nonFinite", 1);
#ifdef RLVR_HAVE_CUDA
  const cuda::ScratchBytes scratch = cuda::token_log_probs_scratch(op);
  op.scratch = a.scratch("kept", scratch.bytes, scratch.zeros);
#endif
  op.cancel = a.cancel_flag();
  int64_t ids = 0;
  op.replay = read_replay(a, op.tokens, ids);
  return op;
}

void read_term(Arguments& a, int64_t tokens, TokenTerms& terms) {
  RatioScoresForward& score = terms.scores[terms.count];
  score.tokens = tokens;
  score.sequences = terms.sequences;
  read_score_rules(a, score);
  terms.grad_scores[terms.count] = a.array<const double>("gradScores", terms.sequences);
  ++terms.count;
}

void read_terms(Arguments& a, int64_t tokens, TokenTerms& terms) {
  int64_t in_sequences = 0;
  terms.sequences = a.integer("sequences");
  terms.cu_seqlens = offsets(a, "cuSeqlens", terms.sequences, in_sequences);
  if (a.ok() && in_sequences != tokens) return a.fail("cuSeqlens", "offsets up to T");
  terms.token_counts = a.array<const double>("tokenCounts", terms.sequences);
  a.within("policy", [&](Arguments& term) { read_term(term, tokens, terms); });
  a.within("penalty", [&](Arguments& term) { read_term(term, tokens, terms); });
}

TokenLogProbsOnePass read_one_pass(Arguments& a) {
  TokenLogProbsOnePass op{};
  op.forward = read_forward(a);
  op.grad_log_probs = a.array<double>("gradLogProbs", op.forward.tokens);
  op.grad_row_stride = a.integer("gradRowStride");
  op.grad_logits =
      a.matrix("gradLogits", op.forward.dtype, op.forward.tokens, op.forward.vocab, op.grad_row_stride);
  op.bad_rows = a.in_out<int32_t>("badRows", 2);
  a.within("terms", [&](Arguments& terms) { read_terms(terms, op.forward.tokens, op.terms); });
  return op;
}

ZeroRows read_zero_rows(Arguments& a) {
  ZeroRows op{};
  op.dtype = static_cast<DType>(a.integer("dtype", 2));
  op.tokens = a.integer("tokens");
  op.vocab = a.integer("vocab");
  op.grad_row_stride = a.integer("gradRowStride");
  op.grad_logits = a.matrix("gradLogits", op.dtype, op.tokens, op.vocab, op.grad_row_stride);
  op.row_scale = a.array<const double>("rowScale", op.tokens);
  op.cancel = a.cancel_flag();
  return op;
}

TokenLogProbsBackward read_backward(Arguments& a) {
  TokenLogProbsBackward op{};
  read_rows(a, op);
  op.log_sum_exp = a.array<const double>("logSumExp", op.tokens);
  op.grad_log_probs = a.array<const double>("gradLogProbs", op.tokens);
  op.grad_entropy = a.optional_array<const double>("gradEntropy", op.tokens);
  if (op.grad_entropy != nullptr) op.entropy = a.array<const double>("entropy", op.tokens);
  op.halt = a.optional_array<const int32_t>("halt", 1);
  op.deferred = a.boolean("deferred");
  op.watch = a.boolean("watch");
  op.grad_row_stride = a.integer("gradRowStride");
  op.grad_logits = a.matrix("gradLogits", op.dtype, op.tokens, op.vocab, op.grad_row_stride);
  op.bad_rows = a.in_out<int32_t>("badRows", 2);
  op.cancel = a.cancel_flag();
  int64_t ids = 0;
  op.replay = read_replay(a, op.tokens, ids);
#ifdef RLVR_HAVE_CUDA
  if (ids > 0) op.replay_scratch = a.scratch<int32_t>("keptIds", cuda::replay_scratch(op.tokens, ids), 0);
#endif
  return op;
}

}  // namespace

void export_token_log_probs(Napi::Env env, const Exports& exports) {
  export_op<TokenLogProbsForward, read_forward, cpu::token_log_probs_forward, RLVR_ON_CUDA(token_log_probs_forward)>(
      env, exports, "tokenLogProbsForward");
  export_op<TokenLogProbsBackward, read_backward, cpu::token_log_probs_backward,
            RLVR_ON_CUDA(token_log_probs_backward)>(env, exports, "tokenLogProbsBackward");
  export_op<TokenLogProbsOnePass, read_one_pass, cpu::token_log_probs_one_pass,
            RLVR_ON_CUDA(token_log_probs_one_pass)>(env, exports, "tokenLogProbsOnePass");
  export_op<ZeroRows, read_zero_rows, cpu::zero_rows, RLVR_ON_CUDA(zero_rows)>(env, exports, "zeroRows");
}

}  // namespace rlvr::binding
