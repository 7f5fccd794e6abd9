#include <climits>

#include "binding/sequences.h"
#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

template <class Op>
void read_rows(Arguments& a, Op& op) {
  op.dtype = static_cast<DType>(a.integer("dtype", 2));
  op.tokens = a.integer("tokens");
  op.vocab = a.integer("vocab", INT_MAX);
  op.row_stride = a.integer("rowStride");
  op.logits = a.matrix("logits", op.dtype, op.tokens, op.vocab, op.row_stride);
  op.cancel = a.cancel_flag();
}

SampleTokens read_sample(Arguments& a) {
  constexpr int64_t kLargest = (int64_t{1} << 53) - 1;
  SampleTokens op{};
  read_rows(a, op);
  op.temperature = a.number("temperature");
  if (!(op.temperature > 0)) a.fail("temperature", "a number above 0");
  op.top_k = a.integer("topK");
  if (op.top_k == 0) a.fail("topK", "a number above 0");
  op.top_p = a.number("topP");
  op.min_distance = a.number("minDistance");
  op.seed = static_cast<uint64_t>(a.integer("seed", kLargest));
  op.offset = static_cast<uint64_t>(a.integer("offset", kLargest));
  op.ids = a.array<int32_t>("ids", op.tokens);
  op.log_probs = a.array<double>("logProbs", op.tokens);
  op.cut_logits = a.optional_array<double>("cutLogits", op.tokens);
  if (op.cut_logits == nullptr) return op;
  op.cut_ids = a.array<int32_t>("cutIds", op.tokens);
  op.kept_counts = a.array<int32_t>("keptCounts", op.tokens);
  return op;
}

SampleTokensKept read_kept(Arguments& a) {
  SampleTokensKept op{};
  read_rows(a, op);
  op.cut_logits = a.array<const double>("cutLogits", op.tokens);
  op.cut_ids = a.array<const int32_t>("cutIds", op.tokens);
  int64_t ids = 0;
  op.cu_kept = offsets(a, "cuKept", op.tokens, ids);
  op.kept_ids = a.array<int32_t>("keptIds", ids);
  return op;
}

}  // namespace

void export_sample_tokens(Napi::Env env, const Exports& exports) {
  export_op<SampleTokens, read_sample, cpu::sample_tokens, RLVR_ON_CUDA(sample_tokens)>(env, exports, "sampleTokens");
  export_op<SampleTokensKept, read_kept, cpu::sample_tokens_kept, RLVR_ON_CUDA(sample_tokens_kept)>(
      env, exports, "sampleTokensKept");
}

}  // namespace rlvr::binding
