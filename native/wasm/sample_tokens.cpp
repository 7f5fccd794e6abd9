#include "cpu/ops.h"
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
}

}  // namespace

RLVR_WASM_EXPORT("sampleTokens") void sample_tokens(const double* values) {
  Values v(values);
  SampleTokens op{};
  read_rows(v, op);
  op.temperature = v.number();
  op.top_k = v.integer();
  op.top_p = v.number();
  op.min_distance = v.number();
  op.seed = static_cast<uint64_t>(v.integer());
  op.offset = static_cast<uint64_t>(v.integer());
  op.ids = v.array<int32_t>();
  op.log_probs = v.array<double>();
  op.cut_logits = v.array<double>();
  op.cut_ids = v.array<int32_t>();
  op.kept_counts = v.array<int32_t>();
  cpu::sample_tokens(op);
}

RLVR_WASM_EXPORT("sampleTokensKept") void sample_tokens_kept(const double* values) {
  Values v(values);
  SampleTokensKept op{};
  read_rows(v, op);
  op.cut_logits = v.array<const double>();
  op.cut_ids = v.array<const int32_t>();
  op.cu_kept = v.array<const int32_t>();
  op.kept_ids = v.array<int32_t>();
  cpu::sample_tokens_kept(op);
}

}  // namespace rlvr::wasm
