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

template <class E>
struct PanelReader {
  using Element = typename E::Element;
  const PanelSource& source;

  const Element* row(int64_t r) const {
    const int64_t row = source.rows == nullptr ? r : source.rows[r];
    return static_cast<const Element*>(source.matrix.data) + row * source.matrix.stride;
  }

  // A few indices of the sum at a time: what they read and write then stays in L1, whatever the stride of the rows.
  void along(int64_t begin, int64_t count, int64_t from, int64_t depth, int size, float* out) const {
    constexpr int64_t kFew = 16;
    for (int64_t panel = 0; panel < count; panel += size, out += size * depth) {
      const int64_t present = count - panel < size ? count - panel : size;
      for (int64_t k = 0; k < depth; k += kFew) {
        const int64_t end = depth - k < kFew ? depth : k + kFew;
        for (int64_t i = 0; i < present; ++i) {
          const Element* x = row(begin + panel + i) + from;
          for (int64_t at = k; at < end; ++at) out[at * size + i] = E::widen(x[at]);
        }
        for (int64_t at = k; at < end; ++at)
          for (int64_t i = present; i < size; ++i) out[at * size + i] = 0;
      }
    }
  }

  void across(int64_t begin, int64_t count, int64_t from, int64_t depth, int size, float* out) const {
    for (int64_t k = 0; k < depth; ++k) {
      const Element* x = row(from + k) + begin;
      for (int64_t panel = 0; panel < count; panel += size) {
        float* to = out + panel * depth + k * size;
        const int64_t present = count - panel < size ? count - panel : size;
        for (int64_t i = 0; i < present; ++i) to[i] = E::widen(x[panel + i]);
        for (int64_t i = present; i < size; ++i) to[i] = 0;
      }
    }
  }
};

template <class S>
struct Packing {
  template <class Visit>
  static void visit(const PanelSource& source, Visit visit) {
    switch (source.matrix.dtype) {
      case DType::kF32:
        return visit(PanelReader<F32<S>>{source});
      case DType::kBF16:
        return visit(PanelReader<Bf16<S>>{source});
      case DType::kF16:
        return visit(PanelReader<F16<S>>{source});
    }
  }

  static void along(const PanelSource& source, int64_t begin, int64_t count, int64_t from, int64_t depth, int size,
                    float* out) {
    visit(source, [&](const auto& reader) { reader.along(begin, count, from, depth, size, out); });
  }

  static void across(const PanelSource& source, int64_t begin, int64_t count, int64_t from, int64_t depth, int size,
                     float* out) {
    visit(source, [&](const auto& reader) { reader.across(begin, count, from, depth, size, out); });
  }
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
    for (int i = 0; i < kRows; ++i, out += stride)
      for (int k = 0; k < 2; ++k) S::store(out + k * kWidth, S::add(S::load(out + k * kWidth), sum[i][k]));
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
