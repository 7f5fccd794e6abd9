// One row of token-log-probs, forward and backward, written once against a SIMD wrapper `S` and a 16- or
// 32-bit element type `E`. Included by token_log_probs_<simd>.cpp, each in its own namespace, so that
// code compiled for one instruction set is never linked into another's path. For the same reason no
// standard-library template is used here: the linker keeps one copy of those for the whole addon.
//
// Memory: the forward pass streams the row once. Sums of exponentials are taken against a reference, at first the
// maximum of the first block; a block with an element well above it (2^kSlack times as likely) is taken as the new
// reference and done again while it is in L1 (the sums so far are rescaled, in float64). So an element costs one pass,
// and no search for the exact maximum. The reference's own term is left out of the sum, and one term that is more than
// half of all is made the reference: log1p(rest) keeps its precision when p -> 1.
// Vectors go through the exponential four at a time, stage by stage: one alone waits for its own chain of operations.
// The backward pass reads an element and writes its gradient to the same place in a second array, or over it.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/logits_elements.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr {
namespace {

constexpr int64_t kBlock = 1024;  // elements: 4 KiB of f32, still in L1 if they must be read again
constexpr float kSlack = 2;       // how far, in powers of 2, an element may rise above the reference
constexpr int64_t kStreamed = int64_t{1} << 23;  // elements of a gradient that outgrows the caches
constexpr int kMany = 4;          // vectors in one go
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Sums over part of a row, against a maximum m, with x in logits units and T the temperature.
struct Sums {
  double total = 0;     // sum exp((x - m) / T)
  double weighted = 0;  // sum exp((x - m) / T) * (x - m)

  void add(const Sums& other) {
    total += other.total;
    weighted += other.weighted;
  }
  // Moves the reference from m to m + shift.
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

template <class S, class E, class Exp2ForSums = typename E::Exp2ForSums>
struct Rows {
  using Element = typename E::Element;
  using Float = typename S::Float;
  using Scale = typename S::Scale;
  static constexpr int kWidth = S::kWidth;

  // Calls visit(vector) for every kWidth elements, the last ones padded with -inf.
  template <class Visit>
  static void tail(const Element* x, int64_t begin, int64_t count, Visit visit) {
    if (begin >= count) return;
    if constexpr (S::kMasks) {
      visit(E::load_first(x + begin, static_cast<int>(count - begin)));
    } else {
      float padded[kWidth];
      for (float& lane : padded) lane = -kInfinity;
      for (int64_t i = begin; i < count; ++i) padded[i - begin] = E::widen(x[i]);
      visit(S::load(padded));
    }
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

  // Sums in progress. Lanes of `top` hold the largest exponent so far, as exp_parts returns it.
  struct Lanes {
    Float total[2] = {S::set(0.0f), S::set(0.0f)};
    Float weighted[2] = {S::set(0.0f), S::set(0.0f)};
    Float top[2] = {S::set(0.0f), S::set(0.0f)};
  };

  template <bool kWeighted, int N>
  static void accumulate(Float (&u)[N], Float reference, const Scale& scale, Lanes& lanes) {
    Float power[N];
    Float factor[N];
    Float shifted[N];
    for (int k = 0; k < N; ++k) u[k] = S::clamp(S::sub(u[k], reference), scale);
    S::template exp_parts<Exp2ForSums>(u, scale, power, factor, shifted);
    for (int k = 0; k < N; ++k) lanes.top[k & 1] = S::raise(lanes.top[k & 1], shifted[k]);
    if constexpr (kWeighted) {
      for (int k = 0; k < N; ++k) power[k] = S::mul(power[k], factor[k]);
      for (int k = 0; k < N; ++k) lanes.total[k & 1] = S::add(lanes.total[k & 1], power[k]);
      for (int k = 0; k < N; ++k) lanes.weighted[k & 1] = S::fma(power[k], u[k], lanes.weighted[k & 1]);
    } else {
      for (int k = 0; k < N; ++k) lanes.total[k & 1] = S::fma(power[k], factor[k], lanes.total[k & 1]);
    }
  }

  // True if no term is above about 2^kSlack: then the sums are right. A NaN is above, or turns the total into NaN.
  static bool within_slack(const Lanes& lanes) {
    float lane[kWidth];
    S::store(lane, S::raise(lanes.top[0], lanes.top[1]));
    bool within = true;
    for (float value : lane) within = within && value - kExponentMagic <= kSlack;
    return within;
  }

  template <bool kWeighted>
  static Sums block_sums(const Element* x, int64_t count, float reference, const Scale& scale, bool& right) {
    const Float m = S::set(reference);
    Lanes lanes;
    int64_t i = 0;
    for (; i + kMany * kWidth <= count; i += kMany * kWidth) {
      Float u[kMany];
      for (int k = 0; k < kMany; k += 2) E::load_pair(x + i + k * kWidth, u[k], u[k + 1]);
      accumulate<kWeighted>(u, m, scale, lanes);
    }
    const auto one = [&](Float v) {
      Float u[1] = {v};
      accumulate<kWeighted>(u, m, scale, lanes);
    };
    for (; i + kWidth <= count; i += kWidth) one(E::load(x + i));
    tail(x, i, count, one);
    right = within_slack(lanes);
    Sums sums;
    sums.total = horizontal_sum<S>(S::add(lanes.total[0], lanes.total[1]));
    if constexpr (kWeighted) sums.weighted = horizontal_sum<S>(S::add(lanes.weighted[0], lanes.weighted[1]));
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
    bool right;
    return block_sums<kWeighted>(copy, count, maximum, scale, right);
  }

  static int64_t block_length(int64_t count, int64_t begin) { return count - begin < kBlock ? count - begin : kBlock; }

  static bool has_nan(const Element* x, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      if (std::isnan(E::widen(x[i]))) return true;
    return false;
  }

  // What is known of a row from its blocks so far; sums are against `reference`, an element.
  struct Progress {
    float reference = -kInfinity;
    int64_t home = 0;  // the block of which the reference is the maximum
    int64_t best = 0;  // the block with the largest sum
    Sums inside;       // that block
    Sums outside;      // all others

    void rebase(float to, double inverse_temperature) {
      outside.rebase(static_cast<double>(to) - static_cast<double>(reference), inverse_temperature);
      reference = to;
    }
    void add(const Sums& block, int64_t begin) {
      if (block.total > inside.total) {
        outside.add(inside);
        inside = block;
        best = begin;
      } else {
        outside.add(block);
      }
    }
  };

  // False for a non-finite block.
  template <bool kWeighted>
  static bool add_block(const Element* x, int64_t begin, int64_t length, double inverse_temperature, const Scale& scale,
                        Progress& row) {
    bool right;
    if (row.reference > -kInfinity) {
      const Sums block = block_sums<kWeighted>(x + begin, length, row.reference, scale, right);
      if (right) {
        row.add(block, begin);
        return true;
      }
    }
    const float maximum = block_max(x + begin, length);
    if (maximum == kInfinity) return false;
    if (maximum == -kInfinity) return !has_nan(x + begin, length);
    row.outside.add(row.inside);
    if (row.reference > -kInfinity) row.rebase(maximum, inverse_temperature);
    row.reference = maximum;
    row.best = row.home = begin;
    row.inside = block_sums<kWeighted>(x + begin, length, maximum, scale, right);
    return true;
  }

  // False for a non-finite row. `rest` leaves out one term: the reference's, which is exactly 1.
  template <bool kWeighted>
  static bool row_sums(const Element* x, int64_t count, double inverse_temperature, const Scale& scale,
                       float& reference, Sums& rest) {
    if (count == 1) {
      reference = E::widen(x[0]);
      rest = Sums{};
      return std::isfinite(reference);
    }
    Progress row;
    for (int64_t begin = 0; begin < count; begin += kBlock)
      if (!add_block<kWeighted>(x, begin, block_length(count, begin), inverse_temperature, scale, row)) return false;
    const double total = row.inside.total + row.outside.total;
    if (row.reference == -kInfinity || std::isnan(total)) return false;
    const bool home = row.best == row.home;
    if (home ? total < 2 : row.inside.total > 0.499 * total) {  // if p(max) > 1/2, the sum has lost part of the rest
      const int64_t length = block_length(count, row.best);
      if (!home) row.rebase(block_max(x + row.best, length), inverse_temperature);
      row.inside = sums_without_max<kWeighted>(x + row.best, length, row.reference, scale);
    } else {
      row.inside.total -= 1;
    }
    reference = row.reference;
    rest = row.outside;
    rest.add(row.inside);
    return true;
  }

  // Row t. Returns whether it is finite, and writes its outputs if so.
  template <bool kEntropy>
  static bool forward_row(const TokenLogProbsForward& op, int64_t t, const Scale& scale) {
    const auto* x = static_cast<const Element*>(op.logits) + t * op.row_stride;
    const int64_t target = op.targets[t];
    if (target < 0 || target >= op.vocab) return false;  // changed under us: never read outside
    const double inverse_temperature = 1 / op.temperature;
    float reference;
    Sums rest;
    if (!row_sums<kEntropy>(x, op.vocab, inverse_temperature, scale, reference, rest)) return false;
    const auto at_target = static_cast<double>(E::widen(x[target]));
    const double log_rest = std::log1p(rest.total);
    const double log_prob = (at_target - static_cast<double>(reference)) * inverse_temperature - log_rest;
    if (!std::isfinite(log_prob)) return false;
    op.log_probs[t] = log_prob;
    op.log_sum_exp[t] = static_cast<double>(reference) * inverse_temperature + log_rest;
    if constexpr (kEntropy) op.entropy[t] = log_rest - rest.weighted * inverse_temperature / (1 + rest.total);
    return true;
  }

  static void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
    const Scale scale(1 / op.temperature);
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) {
      op.log_probs[t] = 0;
      op.log_sum_exp[t] = 0;
      if (op.entropy != nullptr) op.entropy[t] = 0;
      op.kept[t] = 0;
      if (op.mask != nullptr && op.mask[t] == 0) continue;
      op.kept[t] = op.entropy != nullptr ? forward_row<true>(op, t, scale) : forward_row<false>(op, t, scale);
    }
  }

  // out[v] = exp((x[v] - m) / T) * (alpha + beta * (x[v] - m)). With kStream the stores pass the caches by.
  template <bool kEntropy, bool kStream>
  static void gradient(const Element* x, Element* out, int64_t count, float shift, float alpha, float beta,
                       const Scale& scale) {
    const Float m = S::set(shift);
    const Float a = S::set(alpha);
    const Float b = S::set(beta);
    const auto elements = [&]<int N>(Float(&u)[N]) {
      Float power[N];
      Float factor[N];
      Float shifted[N];
      for (int k = 0; k < N; ++k) u[k] = S::clamp(S::sub(u[k], m), scale);
      S::template exp_parts<typename E::Exp2ForGradient>(u, scale, power, factor, shifted);
      for (int k = 0; k < N; ++k) power[k] = S::mul(power[k], factor[k]);
      const Float zero = S::set(0.0f);  // added, so that a banned token gets 0, not -0
      for (int k = 0; k < N; ++k) u[k] = S::fma(power[k], kEntropy ? S::fma(b, u[k], a) : a, zero);
    };
    const auto element = [&](Float v) {
      Float u[1] = {v};
      elements(u);
      return u[0];
    };
    const auto few = [&](int64_t begin, int64_t end) {  // at most kWidth
      tail(x, begin, end, [&](Float v) {
        float lane[kWidth];
        S::store(lane, element(v));
        for (int64_t k = begin; k < end; ++k) out[k] = E::narrow(lane[k - begin]);
      });
    };
    // Up to an aligned address first: a streamed store needs one, any other is slow where it crosses a cache line.
    const int64_t aligned = until_aligned(out) < count ? until_aligned(out) : count;
    for (int64_t k = 0; k < aligned; k += kWidth) few(k, aligned - k < kWidth ? aligned : k + kWidth);
    int64_t i = aligned;
    for (; i + kMany * kWidth <= count; i += kMany * kWidth) {
      Float u[kMany];
      for (int k = 0; k < kMany; k += 2) E::load_pair(x + i + k * kWidth, u[k], u[k + 1]);
      elements(u);
      for (int k = 0; k < kMany; k += 2) {
        if constexpr (kStream)
          E::stream_pair(out + i + k * kWidth, u[k], u[k + 1]);
        else
          E::store_pair(out + i + k * kWidth, u[k], u[k + 1]);
      }
    }
    for (; i + kWidth <= count; i += kWidth) E::store(out + i, element(E::load(x + i)));
    few(i, count);
  }

  // Elements before the next address that is a multiple of a vector's size.
  static int64_t until_aligned(const Element* p) {
    const auto bytes = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) % sizeof(Float));
    return bytes == 0 ? 0 : (static_cast<int64_t>(sizeof(Float)) - bytes) / static_cast<int64_t>(sizeof(Element));
  }

  template <bool kStream>
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
      gradient<false, kStream>(x, out, op.vocab, shift, saturate(-g * factor), 0.0f, scale);
    } else {
      const double alpha = -(g + h * (entropy - residual)) * factor;
      const double beta = -h * inverse_temperature * factor;
      gradient<true, kStream>(x, out, op.vocab, shift, saturate(alpha), saturate(beta), scale);
      if (std::isfinite(log_prob)) at_target -= h * std::exp(log_prob) * (log_prob + entropy);
    }
    out[target] = E::narrow(saturate(at_target * inverse_temperature + 0.0));
  }

  static void backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
    const Scale scale(1 / op.temperature);
    // A gradient that no cache will hold until it is used need not be fetched first, nor push out what is there.
    const bool stream = S::kStreams && op.grad_logits != op.logits && op.tokens * op.vocab >= kStreamed;
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t)
      stream ? backward_row<S::kStreams>(op, t, scale) : backward_row<false>(op, t, scale);
    if constexpr (S::kStreams) S::fence();
  }
};

// 16-bit logits are bound by instructions: the correction of the scale is left out where it does not matter.
template <class S, class E>
void forward_16_bit_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  if (scale_is_close(1 / op.temperature)) return Rows<S, E, Exp2CloseScale>::forward_rows(op, begin, end);
  Rows<S, E>::forward_rows(op, begin, end);
}

template <class S>
void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  switch (op.dtype) {
    case DType::kF32:
      return Rows<S, F32<S>>::forward_rows(op, begin, end);
    case DType::kBF16:
      return forward_16_bit_rows<S, Bf16<S>>(op, begin, end);
    case DType::kF16:
      return forward_16_bit_rows<S, F16<S>>(op, begin, end);
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
    const typename S::Float u[1] = {S::clamp(S::load(lane), scale)};
    typename S::Float power[1];
    typename S::Float factor[1];
    typename S::Float shifted[1];
    S::template exp_parts<Exp2Full>(u, scale, power, factor, shifted);
    S::store(lane, S::mul(power[0], factor[0]));
    for (int64_t k = i; k < count && k < i + S::kWidth; ++k) out[k] = lane[k - i];
  }
}

template <class S>
constexpr TokenLogProbsRows make_rows() {
  return {forward_rows<S>, backward_rows<S>, exp_all<S>};
}

}  // namespace
}  // namespace rlvr
