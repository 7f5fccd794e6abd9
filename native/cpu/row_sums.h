// The sums over one row's exponentials, written once against a SIMD wrapper `S` and a 16- or 32-bit element type `E`.
// Each instruction set has a copy of its own, as of token_log_probs_rows.h, which includes this.
//
// Memory: the row is streamed once. Sums of exponentials are taken against a reference, at first the maximum of the
// first block; a block with an element so far above it that floats might overflow (2^kSlack times as likely) is taken
// as the new reference and done again while it is in L1 (the sums so far are rescaled, in float64). So an element costs
// one pass, and no search for the exact maximum. The reference's own term is left out of the sum, and where one block
// has half of it all, its maximum is made the reference: log1p(rest) keeps its precision when p -> 1.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/logits_elements.h"

namespace rlvr {
namespace {

constexpr float kSlack = 60;  // how far, in powers of 2, an element may rise above the reference

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

template <class S, class E, bool kExactScale>
struct RowSums {
  using Element = typename E::Element;
  using Float = typename S::Float;
  using Scale = typename S::Scale;
  static constexpr int kWidth = S::kWidth;
  static constexpr int64_t kBlock = kWidth > 8 ? 2048 : 1024;  // elements, still in L1 if they must be read again

  // The largest element, NaNs ignored; -inf if there is none.
  static float block_max(const Element* x, int64_t count) {
    Float best[4];
    for (Float& b : best) b = S::set(-kInfinity);
    int64_t i = 0;
    for (; i + 4 * kWidth <= count; i += 4 * kWidth)
      for (int k = 0; k < 4; ++k) best[k] = S::max_ignoring_nan(E::load(x + i + k * kWidth), best[k]);
    for (; i + kWidth <= count; i += kWidth) best[0] = S::max_ignoring_nan(E::load(x + i), best[0]);
    visit_tail<S, E>(x, i, count, [&](Float v) { best[0] = S::max_ignoring_nan(v, best[0]); });
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
    S::template exp_parts<E::kSums, kExactScale>(u, scale, power, factor, shifted);
    for (int k = 0; k < N; ++k) lanes.top[k & 1] = S::raise(lanes.top[k & 1], shifted[k]);
    // Log-probs are the same with entropy as without: where the factor is a power of 2, the product is exact.
    constexpr bool kExactProduct = S::entries(E::kSums) == 1;
    if constexpr (!kWeighted || !kExactProduct)
      for (int k = 0; k < N; ++k) lanes.total[k & 1] = S::fma(power[k], factor[k], lanes.total[k & 1]);
    if constexpr (kWeighted) {
      for (int k = 0; k < N; ++k) power[k] = S::mul(power[k], factor[k]);
      if constexpr (kExactProduct)
        for (int k = 0; k < N; ++k) lanes.total[k & 1] = S::add(lanes.total[k & 1], power[k]);
      for (int k = 0; k < N; ++k) lanes.weighted[k & 1] = S::fma(power[k], u[k], lanes.weighted[k & 1]);
    }
  }

  // True if no term is above about 2^kSlack: then the sums are right. A NaN is above, or turns the total into NaN.
  static bool within_slack(const Lanes& lanes) {
    float lane[kWidth];
    S::store(lane, S::raise(lanes.top[0], lanes.top[1]));
    bool within = true;
    for (float value : lane) within = within && value - kExponentMagic<S::entries(E::kSums)> <= kSlack;
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
    visit_tail<S, E>(x, i, count, one);
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
};

}  // namespace
}  // namespace rlvr
