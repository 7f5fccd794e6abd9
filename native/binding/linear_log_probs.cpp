#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

// { data, dtype, rowStride }; without data if it is not there.
void read_matrix(Arguments& a, const char* name, int64_t rows, int64_t width, InputMatrix& matrix) {
  a.within(name, [&](Arguments& inner) {
    matrix.dtype = static_cast<DType>(inner.integer("dtype", 2));
    matrix.stride = inner.integer("rowStride");
    matrix.data = inner.matrix("data", matrix.dtype, rows, width, matrix.stride);
  });
}

void read_gradient(Arguments& a, const char* name, int64_t rows, int64_t width, GradientMatrix& gradient) {
  InputMatrix matrix{};
  read_matrix(a, name, rows, width, matrix);
  gradient = {const_cast<void*>(matrix.data), matrix.dtype, matrix.stride, false};
  a.within(name, [&](Arguments& inner) { gradient.accumulate = inner.boolean("accumulate"); });
}

LinearLogits read_logits(Arguments& a) {
  LinearLogits logits{};
  logits.tokens = a.integer("tokens");
  logits.vocab = a.integer("vocab");
  logits.width = a.integer("width");
  read_matrix(a, "hidden", logits.tokens, logits.width, logits.hidden);
  read_matrix(a, "weight", logits.vocab, logits.width, logits.weight);
  read_matrix(a, "bias", 1, logits.vocab, logits.bias);
  if (a.ok() && logits.tokens > 0 && (logits.hidden.data == nullptr || logits.weight.data == nullptr))
    a.fail("hidden", "to be there, and weight too");
  logits.targets = a.array<const int32_t>("targets", logits.tokens);
  logits.mask = a.optional_array<const uint8_t>("mask", logits.tokens);
  logits.temperature = a.number("temperature");
  logits.chunk_bytes = a.is_placed() ? a.integer("chunkBytes") : 0;
  return logits;
}

// Both arrays, or neither. Where arrays are placed on a device keptRows stands for what is kept there, in memory of the
// session.
template <class Float, class Index>
void read_kept(Arguments& a, [[maybe_unused]] const LinearLogits& logits, KeptLogits<Float, Index>& kept) {
  const int64_t tokens = logits.tokens;
#ifdef RLVR_HAVE_CUDA
  if (a.is_placed()) {
    if (a.optional_host_array<Index>("keptRows", tokens) != nullptr)
      kept.data =
          static_cast<Float*>(a.scratch<std::remove_const_t<Index>>("keptRows", cuda::kept_logits_bytes(logits), 0));
    return;
  }
#endif
  kept.data = a.optional_whole_array<Float>("keptLogits", kept.length);
  kept.rows = a.optional_array<Index>("keptRows", tokens);
  if ((kept.data == nullptr) != (kept.rows == nullptr)) a.fail("keptRows", "to be there, and keptLogits too");
}

LinearLogProbsForward read_forward(Arguments& a) {
  LinearLogProbsForward op{};
  op.logits = read_logits(a);
  const int64_t tokens = op.logits.tokens;
  op.log_probs = a.array<double>("logProbs", tokens);
  op.log_sum_exp = a.array<double>("logSumExp", tokens);
  op.entropy = a.optional_array<double>("entropy", tokens);
  op.kept = a.array<uint8_t>("kept", tokens);
  op.non_finite = a.in_out<int32_t>("nonFinite", 1);
  read_kept(a, op.logits, op.kept_logits);
  op.cancel = a.cancel_flag();
  return op;
}

LinearLogProbsBackward read_backward(Arguments& a) {
  LinearLogProbsBackward op{};
  op.logits = read_logits(a);
  const LinearLogits& logits = op.logits;
  const int64_t tokens = logits.tokens;
  op.log_sum_exp = a.array<const double>("logSumExp", tokens);
  op.grad_log_probs = a.array<const double>("gradLogProbs", tokens);
  op.grad_entropy = a.optional_array<const double>("gradEntropy", tokens);
  if (op.grad_entropy != nullptr) op.entropy = a.array<const double>("entropy", tokens);
  read_kept(a, logits, op.kept_logits);
  read_gradient(a, "gradHidden", tokens, logits.width, op.grad_hidden);
  read_gradient(a, "gradWeight", logits.vocab, logits.width, op.grad_weight);
  read_gradient(a, "gradBias", 1, logits.vocab, op.grad_bias);
  op.bad_rows = a.in_out<int32_t>("badRows", 4);
  op.cancel = a.cancel_flag();
  return op;
}

}  // namespace

void export_linear_log_probs(Napi::Env env, const Exports& exports) {
  export_op<LinearLogProbsForward, read_forward, cpu::linear_log_probs_forward, RLVR_ON_CUDA(linear_log_probs_forward)>(
      env, exports, "linearLogProbsForward");
  export_op<LinearLogProbsBackward, read_backward, cpu::linear_log_probs_backward,
            RLVR_ON_CUDA(linear_log_probs_backward)>(env, exports, "linearLogProbsBackward");
}

}  // namespace rlvr::binding
