// One row of token-log-probs, forward and backward, written once against a SIMD wrapper `S` and a 16- or
// 32-bit element type `E`. Included by token_log_probs_<simd>.cpp, each in its own namespace, so that
// code compiled for one instruction set is never linked into another's path. For the same reason no
// standard-library template is used here: the linker keeps one copy of those for the whole addon.
//
// The rows are in forward_rows.h, backward_rows.h and one_pass_rows.h.
#pragma once

#include "cpu/backward_rows.h"
#include "cpu/forward_rows.h"
#include "cpu/one_pass_rows.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr {
namespace {

// The correction of the scale is left out where it does not matter.
template <class S, class E>
void forward_rows_of(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  if constexpr (!S::kCompact)
    if (scale_is_close(1 / op.temperature)) return ForwardRows<S, E, false>::forward_rows(op, begin, end);
  ForwardRows<S, E, true>::forward_rows(op, begin, end);
}

template <class S, class E>
int64_t one_pass_rows_of(const TokenLogProbsOnePass& op, int64_t begin, int64_t end, double* scratch) {
  if constexpr (!S::kCompact)
    if (scale_is_close(1 / op.forward.temperature)) return OnePassRows<S, E, false>::rows(op, begin, end, scratch);
  return OnePassRows<S, E, true>::rows(op, begin, end, scratch);
}

template <class S>
void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  switch (op.dtype) {
    case DType::kF32:
      return forward_rows_of<S, F32<S>>(op, begin, end);
    case DType::kBF16:
      return forward_rows_of<S, Bf16<S>>(op, begin, end);
    case DType::kF16:
      return forward_rows_of<S, F16<S>>(op, begin, end);
  }
}

template <class S>
int64_t backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
  switch (op.dtype) {
    case DType::kF32:
      return BackwardRows<S, F32<S>>::backward_rows(op, begin, end);
    case DType::kBF16:
      return BackwardRows<S, Bf16<S>>::backward_rows(op, begin, end);
    case DType::kF16:
      return BackwardRows<S, F16<S>>::backward_rows(op, begin, end);
  }
  return end;
}

template <class S>
bool keeps_terms(DType dtype) {
  return dtype == DType::kF32 ? kKeepsTerms<S, F32<S>> : kKeepsTerms<S, Bf16<S>>;
}

template <class S>
int64_t one_pass_rows(const TokenLogProbsOnePass& op, int64_t begin, int64_t end, double* scratch) {
  switch (op.forward.dtype) {
    case DType::kF32:
      return one_pass_rows_of<S, F32<S>>(op, begin, end, scratch);
    case DType::kBF16:
      return one_pass_rows_of<S, Bf16<S>>(op, begin, end, scratch);
    case DType::kF16:
      return one_pass_rows_of<S, F16<S>>(op, begin, end, scratch);
  }
  return end;
}

template <class S, class E>
bool sums_of(const void* row, int64_t count, double temperature, float& reference, double& rest) {
  const auto* x = static_cast<const typename E::Element*>(row);
  const double inverse = 1 / temperature;
  Sums sums;
  const bool finite = !S::kCompact && scale_is_close(inverse)
                          ? ForwardRows<S, E, S::kCompact>::template row_sums<false, false>(x, count, inverse, {}, reference, sums)
                          : ForwardRows<S, E, true>::template row_sums<false, false>(x, count, inverse, {}, reference, sums);
  rest = sums.total;
  return finite;
}

template <class S>
bool row_sums(const void* row, DType dtype, int64_t count, double temperature, float& reference, double& rest) {
  switch (dtype) {
    case DType::kF32:
      return sums_of<S, F32<S>>(row, count, temperature, reference, rest);
    case DType::kBF16:
      return sums_of<S, Bf16<S>>(row, count, temperature, reference, rest);
    case DType::kF16:
      return sums_of<S, F16<S>>(row, count, temperature, reference, rest);
  }
  return false;
}

template <class S>
void exp_all(const float* x, float* out, int64_t count) {
  const typename S::template Scale<Precision::kFull, true> scale(1.0, 0.0f);
  const Exp2Multiple<S, Precision::kFull> polynomial(1);
  for (int64_t i = 0; i < count; i += S::kWidth) {
    float lane[S::kWidth] = {};
    for (int64_t k = i; k < count && k < i + S::kWidth; ++k) lane[k - i] = x[k];
    const typename S::Float u[1] = {S::max_keeping_nan(scale.floor, S::load(lane))};
    typename S::Float factor[1];
    typename S::Float power[1];
    typename S::Float shifted[1];
    S::exp(u, scale, polynomial, factor, power, shifted);
    S::store(lane, S::mul(factor[0], power[0]));
    for (int64_t k = i; k < count && k < i + S::kWidth; ++k) out[k] = lane[k - i];
  }
}

template <class S>
constexpr TokenLogProbsRows make_rows() {
  return {forward_rows<S>, backward_rows<S>, keeps_terms<S>, one_pass_rows<S>, row_sums<S>, exp_all<S>};
}

}  // namespace
}  // namespace rlvr
