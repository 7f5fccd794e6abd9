// Packing of matrices for products, and the product of what is packed, written once against a SIMD wrapper `S`. Included by
// linear_log_probs_rows.h.
//
// An element of a product is summed over its indices one after the other, whatever the block it is computed in and whoever
// computes it: that its bits do not depend on threads follows from blocks whose depth does not.
#pragma once

#include "cpu/linear_log_probs_simd.h"
#include "cpu/logits_elements.h"
#include "cpu/prefetch.h"

namespace rlvr {
namespace {

// Packs a source of elements `E` in panels of kSize. What is missing in the last panel is 0. Vectors are stored from the first
// to the last, and a panel may be narrower than one: what is written past its end is written over, or is the overhang.
template <class S, class E, int kSize>
struct PanelReader {
  using Element = typename E::Element;
  static constexpr int kOverhang = (S::kWidth - kSize % S::kWidth) % S::kWidth;
  static_assert(kOverhang == 0 || kSize < S::kWidth);
  const PanelSource& source;

  const Element* row(int64_t r) const {
    const int64_t row = source.rows == nullptr ? r : source.rows[r];
    return static_cast<const Element*>(source.matrix.data) + row * source.matrix.stride;
  }

  void read(int64_t r, int64_t begin, int64_t count, float* out) const { widen(row(r) + begin, count, out); }

  // A vector of indices of the sum at a time, transposed in registers.
  void along(const PanelBlock& block, float* out) const {
    for (int64_t panel = 0; panel < block.count; panel += kSize, out += kSize * block.panel_depth) {
      const int64_t present = block.count - panel < kSize ? block.count - panel : kSize;
      const Element* rows[kSize];
      for (int64_t i = 0; i < present; ++i) rows[i] = row(block.begin + panel + i) + block.from;
      int64_t k = 0;
      if (present == kSize)
        for (; k + S::kWidth <= block.depth; k += S::kWidth) transpose<true>(rows, kSize, k, S::kWidth, out);
      for (; k < block.depth; k += S::kWidth) {
        const int64_t left = block.depth - k;
        transpose<false>(rows, present, k, left < S::kWidth ? left : S::kWidth, out);
      }
    }
  }

  void across(const PanelBlock& block, float* out) const {
    for (int64_t panel = 0; panel < block.count; panel += kSize)
      for (int64_t k = 0; k < block.depth; ++k)
        copy(row(block.from + k) + block.begin + panel, block.count - panel,
             out + panel * block.panel_depth + k * kSize);
  }

 private:
  using Float = typename S::Float;

  static void widen(const Element* x, int64_t count, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = E::widen(x[i]);
  }

  static Float load(const Element* x, int64_t count) {
    float padded[S::kWidth] = {};
    widen(x, count, padded);
    return S::load(padded);
  }

  // Indices [k, k + few) of the sum of a panel. Whole: it has all rows, and `few` is a vector.
  template <bool kWhole>
  static void transpose(const Element* const (&rows)[kSize], int64_t present, int64_t k, int64_t few, float* out) {
    for (int first = 0; first < kSize; first += S::kWidth) {
      Float x[S::kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < S::kWidth; ++i) {
        if (first + i >= (kWhole ? kSize : present))
          x[i] = S::set(0.0f);
        else
          x[i] = kWhole ? E::load(rows[first + i] + k) : load(rows[first + i] + k, few);
      }
      S::transpose(x);
#pragma GCC unroll 16
      for (int i = 0; i < S::kWidth; ++i)
        if (kWhole || i < few) S::store(out + (k + i) * kSize + first, x[i]);
    }
  }

  // One index of the sum of a panel: elements of a row, of which `count` are there.
  static void copy(const Element* x, int64_t count, float* out) {
    for (int i = 0; i < kSize; i += S::kWidth, count -= S::kWidth)
      S::store(out + i, count >= S::kWidth ? E::load(x + i) : load(x + i, count));
  }
};

template <class S, int kSize>
struct Packing {
  template <class Visit>
  static void visit(const PanelSource& source, Visit visit) {
    switch (source.matrix.dtype) {
      case DType::kF32:
        return visit(PanelReader<S, F32<S>, kSize>{source});
      case DType::kBF16:
        return visit(PanelReader<S, Bf16<S>, kSize>{source});
      case DType::kF16:
        return visit(PanelReader<S, F16<S>, kSize>{source});
    }
  }

  static void along(const PanelSource& source, const PanelBlock& block, float* out) {
    visit(source, [&](const auto& reader) { reader.along(block, out); });
  }

  static void across(const PanelSource& source, const PanelBlock& block, float* out) {
    visit(source, [&](const auto& reader) { reader.across(block, out); });
  }

  static constexpr PanelPacking functions() { return {kSize, PanelReader<S, F32<S>, kSize>::kOverhang, along, across}; }
};

// Panels of kRows by panels of two vectors: as many sums as registers hold.
template <class S, int kRows>
struct Product {
  using Float = typename S::Float;
  static constexpr int kWidth = S::kWidth;
  static constexpr int kColumns = 2 * kWidth;

  // out = left . right of one panel each; add: out += that.
  template <bool kAdd>
  [[gnu::noinline]] static void panels(const float* left, const float* right, int64_t depth, float* out,
                                       int64_t stride) {
    Float sum[kRows][2];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      prefetch_to_write(out + i * stride);
      prefetch_to_write(out + i * stride + kWidth);
      sum[i][0] = sum[i][1] = S::set(0.0f);
    }
    for (int64_t k = 0; k < depth; ++k, left += kRows, right += kColumns) {
      const Float a = S::load(right);
      const Float b = S::load(right + kWidth);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Float x = S::set(left[i]);
        sum[i][0] = S::fma(x, a, sum[i][0]);
        sum[i][1] = S::fma(x, b, sum[i][1]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, out += stride) {
      S::store(out, kAdd ? S::add(S::load(out), sum[i][0]) : sum[i][0]);
      S::store(out + kWidth, kAdd ? S::add(S::load(out + kWidth), sum[i][1]) : sum[i][1]);
    }
  }

  // What panels() does without its loads: a product and a sum on each lane of as many vectors as leave room for the constants.
  // They differ, or a compiler would make one of them, and go towards 2. The result depends on all of them.
  static constexpr int kChains = 2 * (kRows - 1);
  [[gnu::noinline]] static double multiply_add(int64_t steps) {
    const Float half = S::set(0.5f);
    const Float one = S::set(1.0f);
    Float sum[kChains];
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) sum[i] = S::set(static_cast<float>(i));
    for (int64_t k = 0; k < steps; ++k) {
#pragma GCC unroll 32
      for (int i = 0; i < kChains; ++i) sum[i] = S::fma(sum[i], half, one);
    }
    Float all = S::set(0.0f);
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) all = S::add(all, sum[i]);
    return S::sum(all);
  }

  // As panels(), of which only `rows` and `columns` count.
  template <bool kAdd>
  static void part(const float* left, const float* right, int64_t depth, int64_t rows, int64_t columns, float* out,
                   int64_t stride) {
    float whole[kRows * kColumns];
    panels<false>(left, right, depth, whole, kColumns);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < columns; ++k)
        out[i * stride + k] = whole[i * kColumns + k] + (kAdd ? out[i * stride + k] : 0.0f);
  }

  template <bool kAdd>
  static void all(const float* left, int64_t m, const float* right, int64_t n, int64_t depth, float* out,
                  int64_t stride) {
    for (int64_t j = 0; j < n; j += kColumns) {
      const int64_t columns = n - j < kColumns ? n - j : kColumns;
      for (int64_t i = 0; i < m; i += kRows) {
        const int64_t rows = m - i < kRows ? m - i : kRows;
        const float* a = left + i * depth;
        const float* b = right + j * depth;
        float* to = out + i * stride + j;
        if (rows == kRows && columns == kColumns)
          panels<kAdd>(a, b, depth, to, stride);
        else
          part<kAdd>(a, b, depth, rows, columns, to, stride);
      }
    }
  }

  static void multiply(const float* left, int64_t m, const float* right, int64_t n, int64_t depth, bool add, float* out,
                       int64_t stride) {
    (add ? all<true> : all<false>)(left, m, right, n, depth, out, stride);
  }
};

}  // namespace
}  // namespace rlvr
