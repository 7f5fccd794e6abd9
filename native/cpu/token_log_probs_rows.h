// One row of token-log-probs, forward and backward, written once against a SIMD wrapper `S` and a 16- or
// 32-bit element type `E`. Included by token_log_probs_<simd>.cpp, each in its own namespace, so that
// code compiled for one instruction set is never linked into another's path. For the same reason no
// standard-library template is used here: the linker keeps one copy of those for the whole addon.
//
// Memory: the forward pass streams the row once in blocks that stay in L1: the block's maximum first, then
// the sum of exponentials against the running maximum (a new maximum rescales the sums so far, in float64).
// The maximum's own term is left out of the sum, so log1p(rest) keeps its precision when p -> 1.
// The backward pass reads an element and writes its gradient to the same place in a second array, or over it.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/float16.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr {
namespace {

constexpr int64_t kBlock = 1024;  // elements: 4 KiB of f32, read twice while in L1
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class S>
struct F32 {
  using Element = float;
  static typename S::Float load(const float* p) { return S::load(p); }
  static void store(float* p, typename S::Float x) { S::store(p, x); }
  static float widen(float x) { return x; }
  static float narrow(float x) { return x; }
};

template <class S>
struct Bf16 {
  using Element = uint16_t;
  static typename S::Float load(const uint16_t* p) { return S::load_bf16(p); }
  static void store(uint16_t* p, typename S::Float x) { S::store_bf16(p, x); }
  static float widen(uint16_t x) { return bf16_to_float(x); }
  static uint16_t narrow(float x) { return float_to_bf16(x); }
};

template <class S>
struct F16 {
  using Element = uint16_t;
  static typename S::Float load(const uint16_t* p) { return S::load_f16(p); }
  static void store(uint16_t* p, typename S::Float x) { S::store_f16(p, x); }
  static float widen(uint16_t x) { return f16_to_float(x); }
  static uint16_t narrow(float x) { return float_to_f16(x); }
};

// The nearest finite float32: an upstream gradient beyond its range must not meet p = 0 as infinity.
inline float saturate(double x) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(x > kLargest ? kLargest : x < -kLargest ? -kLargest : x);
}

// Sums over part of a row, against a maximum m, with x in logits units and T the temperature.
struct Sums {
  double total = 0;     // sum exp((x - m) / T)
  double weighted = 0;  // sum exp((x - m) / T) * (x - m)

  void add(const Sums& other) {
    total += other.total;
    weighted += other.weighted;
  }
  // Moves the reference from m to m + shift (shift > 0).
  void rebase(double shift, double inverse_temperature) {
    const double factor = std::exp(-shift * inverse_temperature);
    weighted = factor * (weighted - shift * total);
    total *= factor;
  }
};

template <class S>
double horizontal_sum(typename S::Float x) {
  float lane[S::kWidth];
  S::store(lane, x);
  double sum = 0;
  for (float value : lane) sum += static_cast<double>(value);
  return sum;
}

template <class S, class E>
struct Rows {
  using Element = typename E::Element;
  using Float = typename S::Float;
  using Scale = typename S::Scale;
  static constexpr int kWidth = S::kWidth;

  // Calls visit(vector) for every kWidth elements, the last ones padded with -inf.
  template <class Visit>
  static void tail(const Element* x, int64_t begin, int64_t count, Visit visit) {
    if (begin >= count) return;
    float padded[kWidth];
    for (float& lane : padded) lane = -kInfinity;
    for (int64_t i = begin; i < count; ++i) padded[i - begin] = E::widen(x[i]);
    visit(S::load(padded));
  }

  // The largest element, NaNs ignored; -inf if there is none.
  static float block_max(const Element* x, int64_t count) {
    Float best[4];
    for (Float& b : best) b = S::set(-kInfinity);
    int64_t i = 0;
    for (; i + 4 * kWidth <= count; i += 4 * kWidth)
      for (int k = 0; k < 4; ++k) best[k] = S::max_ignoring_nan(E::load(x + i + k * kWidth), best[k]);
    for (; i + kWidth <= count; i += kWidth) best[0] = S::max_ignoring_nan(E::load(x + i), best[0]);
    tail(x, i, count, [&](Float v) { best[0] = S::max_ignoring_nan(v, best[0]); });
    float lane[kWidth];
    S::store(lane, S::max_ignoring_nan(S::max_ignoring_nan(best[0], best[1]), S::max_ignoring_nan(best[2], best[3])));
    float largest = -kInfinity;
    for (float value : lane) largest = value > largest ? value : largest;
    return largest;
  }

  template <bool kWeighted>
  static void accumulate(Float x, Float maximum, const Scale& scale, Float& total, Float& weighted) {
    const Float u = S::clamp(S::sub(x, maximum), scale);
    Float power;
    Float factor;
    S::exp_parts(u, scale, power, factor);
    if constexpr (kWeighted) {
      const Float e = S::mul(power, factor);
      total = S::add(total, e);
      weighted = S::fma(e, u, weighted);
    } else {
      total = S::fma(power, factor, total);
    }
  }

  template <bool kWeighted>
  static Sums block_sums(const Element* x, int64_t count, float maximum, const Scale& scale) {
    const Float m = S::set(maximum);
    Float total[4];
    Float weighted[4];
    for (int k = 0; k < 4; ++k) total[k] = weighted[k] = S::set(0.0f);
    int64_t i = 0;
    for (; i + 4 * kWidth <= count; i += 4 * kWidth)
      for (int k = 0; k < 4; ++k) accumulate<kWeighted>(E::load(x + i + k * kWidth), m, scale, total[k], weighted[k]);
    for (; i + kWidth <= count; i += kWidth) accumulate<kWeighted>(E::load(x + i), m, scale, total[0], weighted[0]);
    tail(x, i, count, [&](Float v) { accumulate<kWeighted>(v, m, scale, total[0], weighted[0]); });
    Sums sums;
    sums.total = horizontal_sum<S>(S::add(S::add(total[0], total[1]), S::add(total[2], total[3])));
    if constexpr (kWeighted)
      sums.weighted = horizontal_sum<S>(S::add(S::add(weighted[0], weighted[1]), S::add(weighted[2], weighted[3])));
    return sums;
  }

  // The sums of the block that holds the maximum, without it.
  template <bool kWeighted>
  static Sums sums_without_max(const Element* x, int64_t count, float maximum, const Scale& scale) {
    Element copy[kBlock];
    std::memcpy(copy, x, static_cast<size_t>(count) * sizeof(Element));
    int64_t at = 0;
    while (at < count && E::widen(copy[at]) != maximum) ++at;
    if (at < count) copy[at] = E::narrow(-kInfinity);  // else somebody is writing to the logits: wrong, but in bounds
    return block_sums<kWeighted>(copy, count, maximum, scale);
  }

  static int64_t block_length(int64_t count, int64_t begin) { return count - begin < kBlock ? count - begin : kBlock; }

  static bool has_nan(const Element* x, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      if (std::isnan(E::widen(x[i]))) return true;
    return false;
  }

  // False for a non-finite row. `rest` leaves out one term: the maximum's, which is exactly 1.
  template <bool kWeighted>
  static bool row_sums(const Element* x, int64_t count, double inverse_temperature, const Scale& scale, float& maximum,
                       Sums& rest) {
    maximum = -kInfinity;
    int64_t best = 0;  // the block that holds the maximum
    Sums inside;       // that block
    Sums outside;      // all others so far
    for (int64_t begin = 0; begin < count; begin += kBlock) {
      const int64_t length = block_length(count, begin);
      const float block_maximum = block_max(x + begin, length);
      if (block_maximum == kInfinity) return false;
      if (block_maximum > maximum) {
        outside.add(inside);
        if (maximum > -kInfinity)
          outside.rebase(static_cast<double>(block_maximum) - static_cast<double>(maximum), inverse_temperature);
        maximum = block_maximum;
        best = begin;
        inside = block_sums<kWeighted>(x + begin, length, maximum, scale);
      } else if (maximum > -kInfinity) {
        outside.add(block_sums<kWeighted>(x + begin, length, maximum, scale));
      } else if (has_nan(x + begin, length)) {
        return false;
      }
    }
    if (maximum == -kInfinity || std::isnan(inside.total + outside.total)) return false;
    if (inside.total + outside.total < 2) {  // p(max) > 1/2: the float32 sum has lost part of the rest
      inside = sums_without_max<kWeighted>(x + best, block_length(count, best), maximum, scale);
    } else {
      inside.total -= 1;
    }
    rest = outside;
    rest.add(inside);
    return true;
  }

  // Row t. Returns the status; writes outputs only when it is kValid.
  template <bool kEntropy>
  static RowStatus forward_row(const TokenLogProbsForward& op, int64_t t, const Scale& scale) {
    const auto* x = static_cast<const Element*>(op.logits) + t * op.row_stride;
    const int64_t target = op.targets[t];
    if (target < 0 || target >= op.vocab) return RowStatus::kNonFinite;  // changed under us: never read outside
    const double inverse_temperature = 1 / op.temperature;
    float maximum;
    Sums rest;
    if (!row_sums<kEntropy>(x, op.vocab, inverse_temperature, scale, maximum, rest)) return RowStatus::kNonFinite;
    const auto at_target = static_cast<double>(E::widen(x[target]));
    const double log_rest = std::log1p(rest.total);
    const double log_prob = (at_target - static_cast<double>(maximum)) * inverse_temperature - log_rest;
    if (!std::isfinite(log_prob)) return RowStatus::kNonFinite;
    op.log_probs[t] = log_prob;
    op.log_sum_exp[t] = static_cast<double>(maximum) * inverse_temperature + log_rest;
    if constexpr (kEntropy) op.entropy[t] = log_rest - rest.weighted * inverse_temperature / (1 + rest.total);
    return RowStatus::kValid;
  }

  static void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
    const Scale scale(1 / op.temperature);
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) {
      op.log_probs[t] = 0;
      op.log_sum_exp[t] = 0;
      if (op.entropy != nullptr) op.entropy[t] = 0;
      RowStatus status = RowStatus::kMasked;
      if (op.mask == nullptr || op.mask[t] != 0)
        status = op.entropy != nullptr ? forward_row<true>(op, t, scale) : forward_row<false>(op, t, scale);
      op.status[t] = static_cast<uint8_t>(status);
    }
  }

  // out[v] = exp((x[v] - m) / T) * (alpha + beta * (x[v] - m))
  template <bool kEntropy>
  static void gradient(const Element* x, Element* out, int64_t count, float shift, float alpha, float beta,
                       const Scale& scale) {
    const Float m = S::set(shift);
    const Float a = S::set(alpha);
    const Float b = S::set(beta);
    const auto element = [&](Float v) {
      const Float u = S::clamp(S::sub(v, m), scale);
      Float power;
      Float factor;
      S::exp_parts(u, scale, power, factor);
      const Float weight = kEntropy ? S::fma(b, u, a) : a;
      return S::fma(S::mul(power, factor), weight, S::set(0.0f));  // + 0: a banned token gets 0, not -0
    };
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) E::store(out + i, element(E::load(x + i)));
    tail(x, i, count, [&](Float v) {
      float lane[kWidth];
      S::store(lane, element(v));
      for (int64_t k = i; k < count; ++k) out[k] = E::narrow(lane[k - i]);
    });
  }

  static void backward_row(const TokenLogProbsBackward& op, int64_t t, const Scale& scale) {
    const auto* x = static_cast<const Element*>(op.logits) + t * op.row_stride;
    auto* out = static_cast<Element*>(op.grad_logits) + t * op.grad_row_stride;
    const bool masked = op.mask != nullptr && op.mask[t] == 0;
    const double g = masked ? 0 : op.grad_log_probs[t];
    const double h = masked || op.grad_entropy == nullptr ? 0 : op.grad_entropy[t];
    const int64_t target = op.targets[t];
    if ((g == 0 && h == 0) || target < 0 || target >= op.vocab) {
      std::memset(out, 0, static_cast<size_t>(op.vocab) * sizeof(Element));
      return;
    }
    // log p_v = (x_v - shift) / T - residual, with `shift` a float32 so that x_v - shift is nearly exact.
    const double inverse_temperature = 1 / op.temperature;
    const auto shift = static_cast<float>(op.log_sum_exp[t] * op.temperature);
    const double residual = op.log_sum_exp[t] - static_cast<double>(shift) * inverse_temperature;
    const double factor = std::exp(-residual) * inverse_temperature;
    const double entropy = h == 0 ? 0 : op.entropy[t];
    const double log_prob = static_cast<double>(E::widen(x[target])) * inverse_temperature - op.log_sum_exp[t];
    double at_target = -g * std::expm1(log_prob);
    if (h == 0) {
      gradient<false>(x, out, op.vocab, shift, saturate(-g * factor), 0.0f, scale);
    } else {
      const double alpha = -(g + h * (entropy - residual)) * factor;
      const double beta = -h * inverse_temperature * factor;
      gradient<true>(x, out, op.vocab, shift, saturate(alpha), saturate(beta), scale);
      if (std::isfinite(log_prob)) at_target -= h * std::exp(log_prob) * (log_prob + entropy);
    }
    out[target] = E::narrow(saturate(at_target * inverse_temperature + 0.0));
  }

  static void backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
    const Scale scale(1 / op.temperature);
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) backward_row(op, t, scale);
  }
};

template <class S>
void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  switch (op.dtype) {
    case DType::kF32:
      return Rows<S, F32<S>>::forward_rows(op, begin, end);
    case DType::kBF16:
      return Rows<S, Bf16<S>>::forward_rows(op, begin, end);
    case DType::kF16:
      return Rows<S, F16<S>>::forward_rows(op, begin, end);
  }
}

template <class S>
void backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
  switch (op.dtype) {
    case DType::kF32:
      return Rows<S, F32<S>>::backward_rows(op, begin, end);
    case DType::kBF16:
      return Rows<S, Bf16<S>>::backward_rows(op, begin, end);
    case DType::kF16:
      return Rows<S, F16<S>>::backward_rows(op, begin, end);
  }
}

template <class S>
void exp_all(const float* x, float* out, int64_t count) {
  const typename S::Scale scale(1.0);
  for (int64_t i = 0; i < count; i += S::kWidth) {
    float lane[S::kWidth] = {};
    for (int64_t k = i; k < count && k < i + S::kWidth; ++k) lane[k - i] = x[k];
    typename S::Float power;
    typename S::Float factor;
    S::exp_parts(S::clamp(S::load(lane), scale), scale, power, factor);
    S::store(lane, S::mul(power, factor));
    for (int64_t k = i; k < count && k < i + S::kWidth; ++k) out[k] = lane[k - i];
  }
}

template <class S>
constexpr TokenLogProbsRows make_rows() {
  return {forward_rows<S>, backward_rows<S>, exp_all<S>};
}

}  // namespace
}  // namespace rlvr
