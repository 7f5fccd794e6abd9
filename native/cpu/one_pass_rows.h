// The forward pass and the gradient, row by row while a row is in the cache. Included by token_log_probs_rows.h.
#pragma once

#include "cpu/backward_rows.h"
#include "cpu/forward_rows.h"
#include "cpu/token_log_probs_simd.h"
#include "ops/one_pass.h"

namespace rlvr {
namespace {

// Whether the exponentials of the forward pass are kept, so that the gradient is a multiplication. With wide vectors they
// are computed again, from logits that are still in the cache: that takes less time than to store them, in float32, and
// to read them.
template <class S, class E>
constexpr bool kKeepsTerms = S::kWidth * sizeof(typename E::Element) <= 16;

// Writes a row's gradient from its kept terms, in the blocks and the order of the pass that kept them.
template <class S, class E>
struct KeptGradient {
  using Element = typename E::Element;
  using Float = typename S::Float;
  static constexpr int kWidth = S::kWidth;
  static constexpr int64_t kBlock = RowPass<S, E, false, false>::kBlock;

  const Kept& kept;
  int64_t count;
  double log_sum_exp;
  double alpha;  // -g / T

  // Whether no factor leaves the range in which float32 is precise: where the reference was moved by far, the terms against the
  // first one are not those of the last.
  bool suits() const {
    constexpr double kFar = 44;  // 2^64
    if (!(std::fabs(alpha) < 0x1p60 && std::fabs(alpha) > 0x1p-60)) return false;
    for (int64_t block = 0; block * kBlock < count; ++block) {
      const double exponent = kept.blocks[block].exponent;
      if (exponent != -static_cast<double>(kInfinity) && !(log_sum_exp - exponent < kFar)) return false;
    }
    return true;
  }

  template <bool kStream>
  void write(Element* out) const {
    double exponent = log_sum_exp;
    double probability = 1;  // exp(exponent - log_sum_exp)
    for (int64_t begin = 0; begin < count; begin += kBlock) {
      const KeptBlock& block = kept.blocks[begin / kBlock];
      if (block.exponent != exponent) {
        exponent = block.exponent;
        probability = std::exp(exponent - log_sum_exp);
      }
      const double factor = alpha * block.unit * probability;
      const int64_t length = count - begin < kBlock ? count - begin : kBlock;
      const Float factors = S::set(static_cast<float>(factor));
      if constexpr (kStream)
        stream_block(kept.terms + begin, out + begin, length, factors);
      else
        write_block<false>(kept.terms + begin, out + begin, length, factors);
    }
  }

 private:
  // By non-temporal stores, which need aligned addresses: elsewhere by way of L1, as rows of ordinary arrays begin anywhere.
  static void stream_block(const float* terms, Element* out, int64_t length, Float factor) {
    const int64_t edge = GradientLoop<S, E>::until_aligned(out);
    if (edge == 0) return write_block<true>(terms, out, length, factor);
    constexpr int64_t kVector = sizeof(Float) / sizeof(Element);
    Element block[kBlock];
    write_block<false>(terms, block, length, factor);
    int64_t i = edge < length ? edge : length;
    std::memcpy(out, block, static_cast<size_t>(i) * sizeof(Element));
    for (; i + kVector <= length; i += kVector)
      S::stream(reinterpret_cast<float*>(out + i), S::load(reinterpret_cast<const float*>(block + i)));
    std::memcpy(out + i, block + i, static_cast<size_t>(length - i) * sizeof(Element));
  }

  template <bool kStream>
  static void write_block(const float* terms, Element* out, int64_t length, Float factor) {
    const Float zero = S::set(0.0f);  // added, so that a banned token gets 0, not -0
    const auto entry = [&](int64_t i) { return S::fma(S::load(terms + i), factor, zero); };
    int64_t i = 0;
    for (; i + kMany * kWidth <= length; i += kMany * kWidth) {
      for (int k = 0; k < kMany; k += 2) {
        const int64_t at = i + k * kWidth;
        if constexpr (kStream)
          E::stream_pair(out + at, entry(at), entry(at + kWidth));
        else
          E::store_pair(out + at, entry(at), entry(at + kWidth));
      }
    }
    for (; i + kWidth <= length; i += kWidth) E::store(out + i, entry(i));
    if (i == length) return;
    Element lane[kWidth];  // rounded as all others are
    E::store(lane, entry(i));
    for (int64_t k = i; k < length; ++k) out[k] = lane[k - i];
  }
};

template <class S, class E, bool kExactScale>
struct OnePassRows {
  using Element = typename E::Element;
  using Forward = ForwardRows<S, E, kExactScale>;
  using Backward = BackwardRows<S, E>;
  static constexpr bool kKeeps = kKeepsTerms<S, E>;

  // The row's gradient; returns whether it is finite.
  template <bool kStream>
  static bool kept_gradient_row(const TokenLogProbsBackward& op, int64_t t, const Kept& kept) {
    const double g = upstream_of(op, t);
    const double inverse_temperature = 1 / op.temperature;
    const KeptGradient<S, E> gradient{kept, op.vocab, op.log_sum_exp[t], -g * inverse_temperature};
    if (g == 0 || op.vocab <= kShort || !gradient.suits()) return Backward::backward_rows(op, t, t + 1) != t;
    const auto* x = static_cast<const Element*>(op.logits) + t * op.row_stride;
    auto* out = static_cast<Element*>(op.grad_logits) + t * op.grad_row_stride;
    const int64_t target = op.targets[t];
    if (target < 0 || target >= op.vocab) return false;  // changed under us
    const RowUpstream upstream{g, 0, 0, op.log_sum_exp[t], op.temperature};
    const double entry = Backward::target_entry(upstream, E::widen(x[target]));
    gradient.template write<kStream>(out);
    out[target] = E::narrow(saturate(entry));
    return Backward::finite_row(entry, gradient_bound(g, 0, 0, inverse_temperature), out, op.vocab);
  }

  template <bool kStream>
  static bool gradient_row(const TokenLogProbsBackward& op, int64_t t, const Kept& kept) {
    if constexpr (kKeeps) return kept_gradient_row<kStream>(op, t, kept);
    return Backward::template backward_row<kStream, true>(op, t, typename Backward::Scale(1 / op.temperature, 0.0f));
  }

  template <bool kStream>
  static int64_t rows(const TokenLogProbsOnePass& op, int64_t begin, int64_t end, const Kept& kept) {
    const TokenLogProbsBackward backward = backward_of(op);
    int64_t first = end;
    for (int64_t t = begin; t < end && !cancelled(op.forward.cancel); ++t) {
      Forward::template forward_row<kKeeps>(op.forward, t, kept);
      op.grad_log_probs[t] = upstream_of(op, t);
      const bool finite = !upstream_overflows(backward, t) && gradient_row<kStream>(backward, t, kept);
      if (!finite && first == end) first = t;
    }
    if constexpr (kStream) S::fence();
    return first;
  }

  static int64_t rows(const TokenLogProbsOnePass& op, int64_t begin, int64_t end, double* scratch) {
    Kept kept;
    if constexpr (kKeeps) {
      kept.terms = reinterpret_cast<float*>(scratch);
      kept.blocks = reinterpret_cast<KeptBlock*>(scratch + one_pass_terms(op.forward.vocab) / 2);
    }
    if (streams<S>(op.grad_logits != op.forward.logits, op.forward.tokens * op.forward.vocab))
      return rows<S::kStreams>(op, begin, end, kept);
    return rows<false>(op, begin, end, kept);
  }
};

}  // namespace
}  // namespace rlvr
