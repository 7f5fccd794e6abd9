// Token level on the CPU: picks the instruction set and spreads rows over threads. The rows themselves
// are in token_log_probs_rows.h.
#include <cstring>

#include "cpu/first_bad_row.h"
#include "cpu/ops.h"
#include "cpu/replay.h"
#include "cpu/row_scratch.h"
#include "cpu/simd_table.h"
#include "cpu/thread_pool.h"
#include "cpu/token_log_probs_simd.h"
#include "ops/one_pass.h"

namespace rlvr {

const TokenLogProbsRows& token_log_probs_rows() { return RLVR_SIMD_TABLE(token_log_probs_rows); }

namespace cpu {
namespace {

// Roughly what a row takes where memory bandwidth is not the limit.
double nanoseconds(int64_t vocab) { return 20 + 0.25 * static_cast<double>(vocab); }

void count_non_finite(const TokenRowsForward& op) {
  int32_t non_finite = 0;
  for (int64_t t = 0; t < op.tokens; ++t)
    non_finite += op.kept[t] == 0 && (op.mask == nullptr || op.mask[t] != 0) ? 1 : 0;
  op.non_finite[0] = non_finite;
}

// The first row whose upstream gradient is beyond float32, or -1.
int32_t first_overflow(const TokenLogProbsBackward& op) {
  for (int64_t t = 0; t < op.tokens; ++t)
    if (upstream_overflows(op, t)) return static_cast<int32_t>(t);
  return -1;
}

}  // namespace

void token_log_probs_forward(const TokenLogProbsForward& op) {
  const auto forward = op.replay.cu_kept == nullptr ? token_log_probs_rows().forward : replay_forward;
  const int64_t elements = elements_in_order(op.replay, op.tokens, op.vocab);
  parallel_for(op.tokens, nanoseconds(elements), [&](int64_t begin, int64_t end) { forward(op, begin, end); });
  count_non_finite(op);
}

void token_log_probs_backward(const TokenLogProbsBackward& op) {
  op.bad_rows[0] = op.bad_rows[1] = -1;
  if (op.halt != nullptr && op.halt[0] != 0) return;
  op.bad_rows[0] = first_overflow(op);
  if (op.bad_rows[0] >= 0) return;
  const auto backward = op.replay.cu_kept == nullptr ? token_log_probs_rows().backward : replay_backward;
  op.bad_rows[1] = first_bad_row(op.tokens, nanoseconds(op.vocab),
                                 [&](int64_t begin, int64_t end) { return backward(op, begin, end); });
}

void token_log_probs_one_pass(const TokenLogProbsOnePass& op) {
  const TokenLogProbsRows& rows = token_log_probs_rows();
  const TokenRowsForward& forward = op.forward;
  const int64_t numbers = rows.keeps_terms(forward.dtype) ? one_pass_scratch(forward.vocab) : 0;
  op.bad_rows[1] = first_bad_row(forward.tokens, 2 * nanoseconds(forward.vocab), [&](int64_t begin, int64_t end) {
    return rows.one_pass(op, begin, end, numbers == 0 ? nullptr : row_scratch(numbers));
  });
  op.bad_rows[0] = first_overflow(backward_of(op));
  count_non_finite(forward);
}

void zero_rows(const ZeroRows& op) {
  const int64_t size = op.dtype == DType::kF32 ? 4 : 2;
  auto* out = static_cast<unsigned char*>(op.grad_logits);
  parallel_for(op.tokens, nanoseconds(op.vocab) / 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t)
      if (op.row_scale[t] == 0)
        std::memset(out + t * op.grad_row_stride * size, 0, static_cast<size_t>(op.vocab * size));
  });
}

}  // namespace cpu
}  // namespace rlvr
