// The loops of sample-tokens over a row, written once against a SIMD wrapper `S` and a 16- or 32-bit element type `E`. Included by
// sample_tokens_<simd>.cpp, each with a copy of its own, and without templates of the standard library, as token_log_probs_rows.h.
//
// Masses are float32 within a block, of which there are few enough, and float64 from there on. A block's sum and its terms are the
// same numbers, added in another order.
#pragma once

#include "cpu/logits_elements.h"
#include "cpu/sample_tokens_simd.h"

namespace rlvr {
namespace {

template <class S, class E>
class SampledElements {
 public:
  using Element = typename E::Element;
  using Float = typename S::Float;

  explicit SampledElements(const SampledRow& row)
      : x_(static_cast<const Element*>(row.elements)), count_(row.count) {}

  bool maxima(float* out) const {
    Float none[kMany];
    for (Float& n : none) n = S::set(0.0f);
    for (int64_t block = 0; block < blocks(); ++block) {
      Float best[kMany];
      for (Float& b : best) b = S::set(-kInfinity);
      const Element* x = x_ + block * kSampleBlock;
      const int64_t length = block_length(block);
      int64_t i = 0;
      for (; i + kMany * kWidth <= length; i += kMany * kWidth) {
        fetch_ahead<S>(x + i);
        for (int k = 0; k < kMany; ++k) see(E::load(x + i + k * kWidth), best[k], none[k]);
      }
      rest(block, i, [&](int64_t, int, Float v) { see(v, best[0], none[0]); });
      out[block] = largest_of(best);
    }
    return S::sum(S::add(S::add(none[0], none[1]), S::add(none[2], none[3]))) == 0;
  }

  void masses(const SampledScale& scale, double* out) const {
    const Exponential exponential(scale);
    for (int64_t block = 0; block < blocks(); ++block) {
      Float total[2] = {S::set(0.0f), S::set(0.0f)};
      const Element* x = x_ + block * kSampleBlock;
      const int64_t length = block_length(block);
      int64_t i = 0;
      for (; i + kMany * kWidth <= length; i += kMany * kWidth) {
        Float u[kMany];
        for (int k = 0; k < kMany; ++k) u[k] = E::load(x + i + k * kWidth);
        fetch_ahead<S>(x + i);
        exponential.of(u);
        for (int k = 0; k < kMany; ++k) total[k & 1] = S::add(total[k & 1], u[k]);
      }
      rest(block, i, [&](int64_t, int, Float v) {
        Float u[1] = {v};
        exponential.of(u);
        total[0] = S::add(total[0], u[0]);
      });
      out[block] = S::sum(S::add(total[0], total[1]));
    }
  }

  // `out` has room for whole vectors.
  void terms(const SampledScale& scale, int64_t block, float* out) const {
    const Exponential exponential(scale);
    each(block, [&](int64_t i, int, Float v) {
      Float u[1] = {v};
      exponential.of(u);
      S::store(out + i, u[0]);
    });
  }

  void histogram(const SampledScale& scale, bool with_masses, double* bins) const {
    float bin[kSampleBlock];
    float mass[kSampleBlock];
    const Binning binning(scale);
    for (int b = 0; b < kSampleBins; ++b) bins[b] = 0;
    for (float& m : mass) m = 1;
    for (int64_t block = 0; block < blocks(); ++block) {
      each(block, [&](int64_t i, int, Float v) { S::store(bin + i, binning.of(v)); });
      if (with_masses) terms(scale, block, mass);
      const int64_t length = block_length(block);
      for (int64_t i = 0; i < length; ++i) bins[-static_cast<int>(bin[i])] += static_cast<double>(mass[i]);
    }
  }

  int64_t places_from(float floor, const float* maxima, int32_t* places) const {
    const Float least = S::set(floor);
    int64_t found = 0;
    for (int64_t block = 0; block < blocks(); ++block) {
      if (maxima[block] < floor) continue;
      each(block, [&](int64_t i, int, Float v) { found += put(S::bits_at_least(v, least), block, i, places + found); });
    }
    return found;
  }

  int64_t places_in(const SampledScale& scale, int bin, int32_t* places) const {
    const Binning binning(scale);
    const Float nearest = S::set(-static_cast<float>(bin));
    const Float beyond = S::set(-static_cast<float>(bin + 1));
    int64_t found = 0;
    for (int64_t block = 0; block < blocks(); ++block)
      each(block, [&](int64_t i, int lanes, Float v) {
        const Float b = binning.of(v);
        const uint32_t in = S::bits_at_least(nearest, b) & ~S::bits_at_least(beyond, b);
        found += put(in & ((1u << lanes) - 1), block, i, places + found);
      });
    return found;
  }

 private:
  static constexpr int kWidth = S::kWidth;

  // Replaces elements by their masses.
  class Exponential {
   public:
    explicit Exponential(const SampledScale& scale)
        : scale_(scale.inverse_temperature, 0.0f), polynomial_(1), reference_(S::set(scale.reference)) {}

    template <int N>
    [[gnu::always_inline]] void of(Float (&u)[N]) const {
      Float factor[N];
      Float power[N];
      Float shifted[N];
      const Polynomial& polynomial = S::reread(polynomial_);
      const Scale& scale = S::reread(scale_);
      for (int k = 0; k < N; ++k) u[k] = S::max_keeping_nan(scale.floor, S::sub(u[k], reference_));
      S::exp(u, scale, polynomial, factor, power, shifted);
      for (int k = 0; k < N; ++k) u[k] = S::mul(factor[k], power[k]);
    }

   private:
    using Scale = typename S::template Scale<Precision::kFull, true>;
    using Polynomial = Exp2Multiple<S, Precision::kFull>;
    Scale scale_;
    Polynomial polynomial_;
    Float reference_;
  };

  // The bin of an element, below 0 and yet to be rounded towards it. Within the bins whatever the element: it may be changed under us.
  class Binning {
   public:
    explicit Binning(const SampledScale& scale)
        : reference_(S::set(scale.reference)),
          per_logit_(S::set(static_cast<float>(kBinsPerTemperature * scale.inverse_temperature))),
          first_(S::set(0.0f)),
          last_(S::set(1.0f - kSampleBins)) {}

    Float of(Float x) const {
      const Float distance = S::max_ignoring_nan(S::mul(S::sub(reference_, x), per_logit_), first_);
      return S::max_ignoring_nan(S::sub(first_, distance), last_);
    }

   private:
    Float reference_;
    Float per_logit_;
    Float first_;
    Float last_;
  };

  int64_t blocks() const { return (count_ + kSampleBlock - 1) / kSampleBlock; }

  int64_t block_length(int64_t block) const {
    const int64_t left = count_ - block * kSampleBlock;
    return left < kSampleBlock ? left : kSampleBlock;
  }

  // Calls visit(i, lanes, vector) with the elements of a block from `begin` on, i of the first in the block; beyond `lanes` -inf.
  template <class Visit>
  [[gnu::always_inline]] void rest(int64_t block, int64_t begin, Visit visit) const {
    const Element* x = x_ + block * kSampleBlock;
    const int64_t length = block_length(block);
    int64_t i = begin;
    for (; i + kWidth <= length; i += kWidth) visit(i, kWidth, E::load(x + i));
    visit_tail<S, E>(x, i, length, [&](Float v) { visit(i, static_cast<int>(length - i), v); });
  }

  template <class Visit>
  [[gnu::always_inline]] void each(int64_t block, Visit visit) const {
    rest(block, 0, visit);
  }

  // Takes in a vector: `none` becomes NaN from an element that is NaN or +inf.
  [[gnu::always_inline]] static void see(Float v, Float& best, Float& none) {
    best = S::max_ignoring_nan(v, best);
    none = S::fma(S::max_keeping_nan(S::set(-std::numeric_limits<float>::max()), v), S::set(0.0f), none);
  }

  static float largest_of(const Float (&best)[kMany]) {
    float lane[kWidth];
    S::store(lane, S::max_ignoring_nan(S::max_ignoring_nan(best[0], best[1]), S::max_ignoring_nan(best[2], best[3])));
    float largest = -kInfinity;
    for (float value : lane) largest = value > largest ? value : largest;
    return largest;
  }

  // Writes where the elements of these bits are; returns how many. Without an instruction that finds a bit or counts them:
  // compilers would take those of processors that may not have them.
  static int64_t put(uint32_t bits, int64_t block, int64_t i, int32_t* places) {
    int64_t found = 0;
    const auto first = static_cast<int32_t>(block * kSampleBlock + i);
    for (int32_t lane = 0; bits != 0; bits >>= 1, ++lane)
      if ((bits & 1) != 0) places[found++] = first + lane;
    return found;
  }

  const Element* x_;
  int64_t count_;
};

// Calls visit(elements) with the row's elements in their type.
template <class S, class Visit>
void visit_sampled(const SampledRow& row, Visit visit) {
  switch (row.dtype) {
    case DType::kF32:
      return visit(SampledElements<S, F32<S>>(row));
    case DType::kBF16:
      return visit(SampledElements<S, Bf16<S>>(row));
    case DType::kF16:
      return visit(SampledElements<S, F16<S>>(row));
  }
}

template <class S>
struct SampledFunctions {
  static bool maxima(const SampledRow& row, float* maxima) {
    bool finite = false;
    visit_sampled<S>(row, [&](const auto& elements) { finite = elements.maxima(maxima); });
    return finite;
  }
  static void masses(const SampledRow& row, const SampledScale& scale, double* masses) {
    visit_sampled<S>(row, [&](const auto& elements) { elements.masses(scale, masses); });
  }
  static void terms(const SampledRow& row, const SampledScale& scale, int64_t block, float* terms) {
    visit_sampled<S>(row, [&](const auto& elements) { elements.terms(scale, block, terms); });
  }
  static void histogram(const SampledRow& row, const SampledScale& scale, bool masses, double* bins) {
    visit_sampled<S>(row, [&](const auto& elements) { elements.histogram(scale, masses, bins); });
  }
  static int64_t places_from(const SampledRow& row, float floor, const float* maxima, int32_t* places) {
    int64_t found = 0;
    visit_sampled<S>(row, [&](const auto& elements) { found = elements.places_from(floor, maxima, places); });
    return found;
  }
  static int64_t places_in(const SampledRow& row, const SampledScale& scale, int bin, int32_t* places) {
    int64_t found = 0;
    visit_sampled<S>(row, [&](const auto& elements) { found = elements.places_in(scale, bin, places); });
    return found;
  }
};

template <class S>
constexpr SampleTokensRows make_sampled_rows() {
  using Of = SampledFunctions<S>;
  return {Of::maxima, Of::masses, Of::terms, Of::histogram, Of::places_from, Of::places_in};
}

}  // namespace
}  // namespace rlvr
