// Packing of matrices for products, and the product of what is packed, written once against a SIMD wrapper `S`. Included by
// linear_log_probs_rows.h.
//
// An element of a product is summed over its indices one after the other, whatever the block it is computed in and whoever
// computes it: that its bits do not depend on threads follows from blocks whose depth does not.
#pragma once

#include "cpu/linear_log_probs_simd.h"
#include "cpu/logits_elements.h"

namespace rlvr {
namespace {

// Packs a source of elements `E` in panels of kSize. What is missing in the last panel is 0.
template <class S, class E, int kSize>
struct PanelReader {
  using Element = typename E::Element;
  const PanelSource& source;

  const Element* row(int64_t r) const {
    const int64_t row = source.rows == nullptr ? r : source.rows[r];
    return static_cast<const Element*>(source.matrix.data) + row * source.matrix.stride;
  }

  // A few indices of the sum at a time: what they read and write then stays in L1, whatever the stride of the rows.
  void along(const PanelBlock& block, float* out) const {
    float rows[kSize][kFew];
    for (int64_t panel = 0; panel < block.count; panel += kSize, out += kSize * block.depth) {
      const int64_t present = block.count - panel < kSize ? block.count - panel : kSize;
      if (present < kSize) clear(&rows[0][0], kSize * kFew);
      for (int64_t k = 0; k < block.depth; k += kFew) {
        const int64_t few = block.depth - k < kFew ? block.depth - k : kFew;
        for (int64_t i = 0; i < present; ++i) read(row(block.begin + panel + i) + block.from + k, few, rows[i]);
        transpose(rows, few, out + k * kSize);
      }
    }
  }

  void across(const PanelBlock& block, float* out) const {
    const int64_t whole = block.count / kSize * kSize;
    if (whole < block.count) clear(out + whole * block.depth, kSize * block.depth);
    for (int64_t k = 0; k < block.depth; ++k) {
      const Element* x = row(block.from + k) + block.begin;
      for (int64_t panel = 0; panel < whole; panel += kSize) {
        float* to = out + panel * block.depth + k * kSize;
        for (int i = 0; i < kSize; ++i) to[i] = E::widen(x[panel + i]);
      }
      for (int64_t i = whole; i < block.count; ++i) out[whole * block.depth + k * kSize + i - whole] = E::widen(x[i]);
    }
  }

 private:
  static constexpr int kFew = 16;

  static void read(const Element* x, int64_t few, float* to) {
    if (few < kFew) {
      for (int64_t i = 0; i < few; ++i) to[i] = E::widen(x[i]);
    } else {
      for (int i = 0; i < kFew; i += S::kWidth) S::store(to + i, E::load(x + i));
    }
  }

  // Four by four: one element at a time would take as many stores as elements.
  static void transpose(const float (&rows)[kSize][kFew], int64_t few, float* out) {
    constexpr int kWhole = kSize / 4 * 4;
    int64_t k = 0;
    for (; k + 4 <= few; k += 4) {
      for (int i = 0; i < kWhole; i += 4) S::transpose4(&rows[i][k], kFew, out + k * kSize + i, kSize);
      for (int i = kWhole; i < kSize; ++i)
        for (int at = 0; at < 4; ++at) out[(k + at) * kSize + i] = rows[i][k + at];
    }
    for (; k < few; ++k)
      for (int i = 0; i < kSize; ++i) out[k * kSize + i] = rows[i][k];
  }

  static void clear(float* x, int64_t count) {
    for (int64_t i = 0; i < count; ++i) x[i] = 0;
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

  static constexpr PanelPacking functions() { return {kSize, along, across}; }
};

// Panels of kRows by panels of two vectors: as many sums as registers hold.
template <class S, int kRows>
struct Product {
  using Float = typename S::Float;
  static constexpr int kWidth = S::kWidth;
  static constexpr int kColumns = 2 * kWidth;

  // out += left . right of one panel each.
  [[gnu::noinline]] static void panels(const float* left, const float* right, int64_t depth, float* out,
                                       int64_t stride) {
    Float sum[kRows][2];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = S::set(0.0f);
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
      S::store(out, S::add(S::load(out), sum[i][0]));
      S::store(out + kWidth, S::add(S::load(out + kWidth), sum[i][1]));
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
  static void part(const float* left, const float* right, int64_t depth, int64_t rows, int64_t columns, float* out,
                   int64_t stride) {
    float whole[kRows * kColumns] = {};
    panels(left, right, depth, whole, kColumns);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < columns; ++k) out[i * stride + k] += whole[i * kColumns + k];
  }

  static void multiply(const float* left, int64_t m, const float* right, int64_t n, int64_t depth, float* out,
                       int64_t stride) {
    for (int64_t j = 0; j < n; j += kColumns) {
      const int64_t columns = n - j < kColumns ? n - j : kColumns;
      for (int64_t i = 0; i < m; i += kRows) {
        const int64_t rows = m - i < kRows ? m - i : kRows;
        const float* a = left + i * depth;
        const float* b = right + j * depth;
        float* to = out + i * stride + j;
        if (rows == kRows && columns == kColumns)
          panels(a, b, depth, to, stride);
        else
          part(a, b, depth, rows, columns, to, stride);
      }
    }
  }
};

}  // namespace
}  // namespace rlvr
