// The sums over one row's exponentials, written once against a SIMD wrapper `S` and a 16- or 32-bit element type `E`.
// Each instruction set has a copy of its own, as of token_log_probs_rows.h, which includes this.
//
// Memory: the row is streamed once. Sums of exponentials are taken against a reference, at first the largest of the
// first elements; a block with an element about twice as likely or more has its maximum taken as the new reference (the
// sums so far are rescaled, in float64), and is done again while it is in L1 if that is far above the old one. So an
// element costs one pass, and no search for the exact maximum. Only where one block has half of the total is its
// maximum sought; if that alone has half, its term is left out: log1p(rest) keeps its precision when p -> 1.
//
// Whether an element is above the reference is seen from the bits of all exponents together, which takes no comparison.
// Weights are distances from the reference: of these, as of the terms themselves, none is large. Log-probs do not
// depend on the weights: they are bit-identical with entropy and without.
//
// What runs once for a row or a block is not inlined: the two dozen versions of a pass would each hold copies of it.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/logits_elements.h"

namespace rlvr {
namespace {

// How far, in nats, an element of a block that is not done again may be above the reference.
constexpr double kSlack = 5;

// Sums over part of a row, against a reference r, with x in logits units and T the temperature.
struct Sums {
  double total = 0;     // sum exp((x - r) / T)
  double weighted = 0;  // sum exp((x - r) / T) * (x - r)

  void add(const Sums& other) {
    total += other.total;
    weighted += other.weighted;
  }
  // Moves the reference by `distance`; factor = exp(-distance / T).
  void move(double distance, double factor) {
    weighted = (weighted - distance * total) * factor;
    total *= factor;
  }
};

constexpr int64_t kShort = 8;  // elements: up to so many, one by one is faster than vectors

// As RowPass::sums, of a row of kShort elements or fewer, in float64.
template <class E, bool kWeighted>
[[gnu::noinline]] bool short_row_sums(const typename E::Element* x, int64_t count, double inverse_temperature,
                                      float& reference, Sums& rest) {
  int64_t largest = 0;
  reference = -kInfinity;
  for (int64_t i = 0; i < count; ++i) {
    const float value = E::widen(x[i]);
    if (std::isnan(value)) reference = value;
    if (!(value > reference)) continue;
    reference = value;
    largest = i;
  }
  if (!std::isfinite(reference)) return false;
  for (int64_t i = 0; i < count; ++i) {
    if (i == largest) continue;
    const double distance = static_cast<double>(E::widen(x[i])) - static_cast<double>(reference);
    const double term = std::exp(distance * inverse_temperature);
    rest.total += term;
    if (kWeighted && term > 0) rest.weighted += term * distance;
  }
  return !std::isnan(rest.total);
}

// The largest element, NaNs ignored; -inf if there is none.
template <class S, class E>
[[gnu::noinline]] float largest(const typename E::Element* x, int64_t count) {
  constexpr int kWidth = S::kWidth;
  using Float = typename S::Float;
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

template <class E>
bool has_nan(const typename E::Element* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (std::isnan(E::widen(x[i]))) return true;
  return false;
}

// What the terms of a block are to its probabilities: p = term * unit * exp(exponent - log_sum_exp).
struct KeptBlock {
  double exponent;  // of the reference; -inf: the terms are 0
  double unit;
};

// The terms of the sums of a row, for who needs them again.
struct Kept {
  float* terms = nullptr;  // [count and a vector], in the order in which E loads them from the block's start
  KeptBlock* blocks = nullptr;
};

// The pass over a row, and the state of it.
template <class S, class E, bool kExactScale, bool kWeighted, bool kKeep = false>
class RowPass {
 public:
  using Element = typename E::Element;
  // Elements, still in L1 if they must be read again: few enough for sums in float32, which equal terms round alike.
  static constexpr int64_t kBlock = 128 * S::kWidth;

  RowPass(const Element* x, int64_t count, double inverse_temperature, const Kept& kept = {})
      : x_(x),
        count_(count),
        inverse_temperature_(inverse_temperature),
        reference_(largest<S, E>(x, count < kFirst ? count : kFirst)),
        far_(is_far()),
        scale_(inverse_temperature, far_ ? 0.0f : reference_),
        kept_(kept) {}

  // False for a non-finite row; its reference is -inf if all elements are, and else is not. `rest` leaves out one term:
  // the reference's, which is exactly 1.
  bool sums(float& reference, Sums& rest) {
    reference = kInfinity;
    if (reference_ == kInfinity) return false;
    for (int64_t begin = 0; begin < count_; begin += kBlock)
      if (!add_block(begin)) return false;
    const double total = inside_.total + outside_.total;
    if (std::isnan(total)) return false;
    if (reference_ == -kInfinity) return reference = reference_, false;
    const bool left_out = leave_out_maximum(total);
    reference = reference_;
    rest = outside_;
    rest.add(inside_);
    if (!left_out) rest.total -= 1;
    return true;
  }

 private:
  using Float = typename S::Float;
  using Scale = typename S::template Scale<E::kSums, kExactScale>;
  static constexpr bool kFull = E::kSums == Precision::kFull;
  using Polynomial = Exp2Monic<S, E::kSums>;
  static constexpr int kWidth = S::kWidth;
  // Whether there is a loop for references near 0. In WebAssembly there is for float32 alone: each has its size.
  static constexpr bool kNear = !S::kCompact || (kExactScale && kFull);
  // Vectors at a time: more in WebAssembly, where each turn of a loop has a cost of its own. Most is gained for
  // float32.
  static constexpr int kTurn = S::kCompact && kFull ? 2 * kMany : kMany;
  static constexpr int64_t kFirst = 512;  // elements among which the first reference is sought

  // Sums in progress, and the exponents of all terms, as S::exp gives them, united bit by bit.
  struct Lanes {
    Float total[2] = {S::set(0.0f), S::set(0.0f)};
    Float weighted[2] = {S::set(0.0f), S::set(0.0f)};
    Float exponents = S::set(0.0f);
  };

  template <bool kFar, bool kStore, int N>
  [[gnu::always_inline]] void accumulate(Float (&u)[N], Lanes& lanes, float* terms) const {
    Float factor[N];
    Float power[N];
    Float shifted[N];
    const Polynomial& polynomial = S::reread(polynomial_);
    const Scale& scale = S::reread(scale_);
    if constexpr (kFar)
      for (int k = 0; k < N; ++k) u[k] = S::sub(u[k], S::set(reference_));
    for (int k = 0; k < N; ++k) u[k] = S::max_keeping_nan(scale.floor, u[k]);
    S::exp(u, scale, polynomial, factor, power, shifted);
    for (int k = 0; k < N; ++k) lanes.exponents = S::unite(lanes.exponents, shifted[k]);
    for (int k = 0; k < N; ++k) lanes.total[k & 1] = S::fma(factor[k], power[k], lanes.total[k & 1]);
    if constexpr (kStore)
      for (int k = 0; k < N; ++k) S::store(terms + k * kWidth, S::mul(factor[k], power[k]));
    if constexpr (kWeighted) {
      if constexpr (!kFar)
        for (int k = 0; k < N; ++k) u[k] = S::sub(u[k], S::set(reference_));
      for (int k = 0; k < N; ++k)
        lanes.weighted[k & 1] = S::fma(S::mul(factor[k], power[k]), u[k], lanes.weighted[k & 1]);
    }
  }

  static double difference(float a, float b) { return static_cast<double>(a) - static_cast<double>(b); }

  struct Block {
    Sums sums;
    bool below;  // no element is above the reference, or about twice as likely at most; else the sums may mean nothing
  };

  // Not inlined: there are five callers, and the loop is best looked at, and counted, in one place.
  template <bool kFar, bool kStore>
  [[gnu::noinline]] Block sums_of(const Element* x, int64_t count, float* terms) const {
    Lanes lanes;
    int64_t i = 0;
    for (; i + kTurn * kWidth <= count; i += kTurn * kWidth) {
      Float u[kTurn];
      for (int k = 0; k < kTurn; k += 2) E::load_pair(x + i + k * kWidth, u[k], u[k + 1]);
      fetch_ahead<S>(x + i);
      accumulate<kFar, kStore>(u, lanes, kStore ? terms + i : nullptr);
    }
    const auto one = [&](Float v) {
      Float u[1] = {v};
      accumulate<kFar, kStore>(u, lanes, kStore ? terms + i : nullptr);
    };
    for (; i + kWidth <= count; i += kWidth) one(E::load(x + i));
    visit_tail<S, E>(x, i, count, one);
    Block block;
    block.below = exponents_of_probabilities<S>(united_bits<S>(lanes.exponents));
    const double unit = scale_.unit * Polynomial::kUnit;
    block.sums.total = S::sum(S::add(lanes.total[0], lanes.total[1])) * unit;
    if constexpr (kWeighted) block.sums.weighted = S::sum(S::add(lanes.weighted[0], lanes.weighted[1])) * unit;
    return block;
  }

  template <bool kStore = false>
  Block block_sums(const Element* x, int64_t count, float* terms = nullptr) const {
    if constexpr (kNear)
      if (!far_) return sums_of<false, kStore>(x, count, terms);
    return sums_of<true, kStore>(x, count, terms);
  }

  // As block_sums; keeps the terms.
  Block kept_sums(int64_t begin) const {
    keep_reference(begin);
    return block_sums<kKeep>(x_ + begin, block_length(begin), kKeep ? kept_.terms + begin : nullptr);
  }

  // Of a block without finite logits before the first one that has some.
  void keep_zeros(int64_t begin) const {
    if constexpr (!kKeep) return;
    keep_reference(begin);
    std::memset(kept_.terms + begin, 0, static_cast<size_t>(block_length(begin)) * sizeof(float));
  }

  void keep_reference(int64_t begin) const {
    if constexpr (kKeep) {
      const double exponent = static_cast<double>(reference_) * inverse_temperature_;
      kept_.blocks[begin / kBlock] = {exponent, scale_.unit * Polynomial::kUnit};
    }
  }

  // The sums of the block that holds the maximum, without it.
  [[gnu::noinline]] Sums sums_without_max(const Element* x, int64_t count) const {
    Element copy[kBlock];
    std::memcpy(copy, x, static_cast<size_t>(count) * sizeof(Element));
    int64_t at = 0;
    while (at < count && E::widen(copy[at]) != reference_) ++at;
    if (at < count) copy[at] = E::narrow(-kInfinity);  // else somebody is writing to the logits: wrong, but in bounds
    return block_sums(copy, count).sums;
  }

  int64_t block_length(int64_t begin) const { return count_ - begin < kBlock ? count_ - begin : kBlock; }

  // Whether the reference is so far from 0 that it must be taken from the elements themselves, which costs an
  // operation; else it is taken from their exponents. True if there is none.
  bool is_far() const {
    constexpr double kFar = S::kFarthest;
    const double exponent = static_cast<double>(reference_) * inverse_temperature_;
    return !kNear || !(exponent < kFar && exponent > -kFar);
  }

  [[gnu::noinline]] void move_reference(float to) {
    if (reference_ > -kInfinity) {
      const double distance = difference(to, reference_);
      const double factor = std::exp(-distance * inverse_temperature_);
      inside_.move(distance, factor);
      outside_.move(distance, factor);
    }
    reference_ = to;
    far_ = is_far();
    scale_ = Scale(inverse_temperature_, far_ ? 0.0f : reference_);
  }

  // False for a non-finite block.
  bool add_block(int64_t begin) {
    const Element* x = x_ + begin;
    const int64_t length = block_length(begin);
    Block block;
    block.below = false;
    if (reference_ > -kInfinity) block = kept_sums(begin);
    if (block.below) {
      add(block.sums, begin);
      return true;
    }
    const float maximum = largest<S, E>(x, length);
    if (maximum == kInfinity) return false;
    if (maximum == -kInfinity) return keep_zeros(begin), !has_nan<E>(x, length);
    const bool again = !(difference(maximum, reference_) * inverse_temperature_ <= kSlack);
    if (!again) add(block.sums, begin);
    if (maximum > reference_) move_reference(maximum);
    if (again) add(kept_sums(begin).sums, begin);
    return true;
  }

  void add(const Sums& block, int64_t begin) {
    if (block.total > inside_.total) {
      outside_.add(inside_);
      inside_ = block;
      best_ = begin;
    } else {
      outside_.add(block);
    }
  }

  // If one element has about half of the total or more, makes it the reference and leaves out its term.
  bool leave_out_maximum(double total) {
    constexpr double kHalf = 0.499;
    if (inside_.total < kHalf * total) return false;
    const Element* x = x_ + best_;
    const int64_t length = block_length(best_);
    const float maximum = count_ <= kFirst ? reference_ : largest<S, E>(x, length);
    if (std::exp(difference(maximum, reference_) * inverse_temperature_) < kHalf * total) return false;
    if (maximum != reference_) move_reference(maximum);
    inside_ = sums_without_max(x, length);
    return true;
  }

  const Element* x_;
  int64_t count_;
  double inverse_temperature_;
  float reference_;
  bool far_;
  Scale scale_;
  Polynomial polynomial_;
  Kept kept_;
  int64_t best_ = 0;  // the block with the largest sum
  Sums inside_;       // that block
  Sums outside_;      // all others
};

}  // namespace
}  // namespace rlvr
