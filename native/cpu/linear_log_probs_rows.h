// What linear-log-probs does with a block of logits, written once against a SIMD wrapper `S`. Included by
// linear_log_probs_<simd>.cpp; as in token_log_probs_rows.h, no standard-library template is used here.
#pragma once

#include "cpu/backward_rows.h"
#include "cpu/forward_rows.h"
#include "cpu/panels.h"

namespace rlvr {
namespace {

// Some columns of a row: what the row kernels of token-log-probs do for all of them.
template <class S>
struct LinearRows {
  using E = F32<S>;
  using Loop = GradientLoop<S, E>;

  // Puts two parts of a row together, of which either may be the one with the larger reference.
  static void merge(RowSums& sums, float reference, const Sums& rest, double inverse_temperature) {
    Sums ours{sums.rest, sums.weighted};
    Sums theirs = rest;
    const bool first = sums.reference == -kInfinity;
    const double distance = first ? 0 : static_cast<double>(reference) - static_cast<double>(sums.reference);
    const double factor = std::exp(-std::fabs(distance) * inverse_temperature);
    if (first) {
      ours = {};
    } else if (distance > 0) {
      ours.total += 1;
      ours.move(distance, factor);
    } else {
      theirs.total += 1;
      theirs.move(-distance, factor);
    }
    if (first || distance > 0) sums.reference = reference;
    sums.rest = ours.total + theirs.total;
    sums.weighted = ours.weighted + theirs.weighted;
  }

  template <bool kExactScale, bool kEntropy>
  static void add(const float* x, int64_t count, double inverse_temperature, RowSums& sums) {
    float reference;
    Sums rest;
    if (ForwardRows<S, E, kExactScale>::template row_sums<kEntropy, false>(x, count, inverse_temperature, {}, reference,
                                                                          rest)) {
      merge(sums, reference, rest, inverse_temperature);
    } else if (reference != -kInfinity) {  // banned tokens alone add nothing
      sums.finite = false;
    }
  }

  static void add_columns(const float* x, int64_t begin, int64_t count, int64_t target, double temperature, bool entropy,
                          RowSums& sums) {
    if (target >= begin && target < begin + count) sums.at_target = x[target - begin];
    const double inverse_temperature = 1 / temperature;
    const auto add_with = [&](auto close) {
      constexpr bool kExactScale = !decltype(close)::value;
      if (entropy)
        add<kExactScale, true>(x, count, inverse_temperature, sums);
      else
        add<kExactScale, false>(x, count, inverse_temperature, sums);
    };
    if constexpr (!S::kCompact)
      if (scale_is_close(inverse_temperature)) return add_with(Constant<true>{});
    add_with(Constant<false>{});
  }

  static void gradient(float* x, int64_t begin, int64_t count, int64_t target, const RowUpstream& upstream) {
    const bool here = target >= begin && target < begin + count;
    const float at_target = here ? x[target - begin] : 0;
    const typename Loop::Scale scale(1 / upstream.temperature, 0.0f);
    BackwardRows<S, E>::template entries<false, S::kCompact>(upstream, scale, x, x, count);
    if (here) x[target - begin] = saturate(BackwardRows<S, E>::target_entry(upstream, at_target));
  }

  template <bool kValue>
  struct Constant {
    static constexpr bool value = kValue;
  };
};

// A row of a gradient, in the type it is wanted in.
template <class S, class Out>
struct RowWriter {
  using Element = typename Out::Element;
  using Float = typename S::Float;

  // 0 times what is not finite is NaN.
  static bool write(const float* x, int64_t count, Element* out, bool accumulate) {
    Float zeros = S::set(0.0f);
    int64_t i = 0;
    for (; i + S::kWidth <= count; i += S::kWidth) {
      Float value = S::load(x + i);
      if (accumulate) value = S::add(value, Out::load(out + i));
      Out::store(out + i, value);
      zeros = S::fma(value, S::set(0.0f), zeros);
      zeros = S::fma(Out::load(out + i), S::set(0.0f), zeros);
    }
    double sum = S::sum(zeros);
    if (i < count) {  // rounded as all others are
      float last[S::kWidth] = {};
      Element rounded[S::kWidth];
      for (int64_t k = i; k < count; ++k) last[k - i] = x[k] + (accumulate ? Out::widen(out[k]) : 0.0f);
      Out::store(rounded, S::load(last));
      for (int64_t k = i; k < count; ++k) {
        out[k] = rounded[k - i];
        sum += 0.0 * static_cast<double>(last[k - i]) + 0.0 * static_cast<double>(Out::widen(out[k]));
      }
    }
    return sum == 0;
  }
};

template <class S>
bool write_row(const float* x, int64_t count, const GradientMatrix& out, int64_t row) {
  const auto write = [&](auto type) {
    using Out = decltype(type);
    auto* to = static_cast<typename Out::Element*>(out.data) + row * out.stride;
    return RowWriter<S, Out>::write(x, count, to, out.accumulate);
  };
  switch (out.dtype) {
    case DType::kF32:
      return write(F32<S>{});
    case DType::kBF16:
      return write(Bf16<S>{});
    case DType::kF16:
      return write(F16<S>{});
  }
  return false;
}

template <class S, int kRows>
void read_row(const InputMatrix& matrix, int64_t row, int64_t begin, int64_t count, float* out) {
  Packing<S, kRows>::visit({matrix, nullptr}, [&](const auto& reader) { reader.read(row, begin, count, out); });
}

template <class S, int kRows>
constexpr LinearKernels make_linear_kernels() {
  using Panels = Product<S, kRows>;
  return {Packing<S, kRows>::functions(),
          Packing<S, Panels::kColumns>::functions(),
          Panels::multiply,
          Panels::multiply_add,
          Panels::kChains * S::kWidth,
          read_row<S, kRows>,
          LinearRows<S>::add_columns,
          LinearRows<S>::gradient,
          write_row<S>};
}

}  // namespace
}  // namespace rlvr
