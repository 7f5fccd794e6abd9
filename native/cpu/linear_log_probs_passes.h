// The passes of linear-log-probs in steps, for who has a part of the weight at a time and calls one step after the other: open some
// columns of the logits, then let blocks of rows, and of columns, be worked on. linear_log_probs.cpp does so on all threads: of the
// blocks of one step each may be on a thread of its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/kept_tiles.h"
#include "cpu/products.h"
#include "ops/linear_log_probs.h"

namespace rlvr {

// Rows whose logits' gradients are held at a time.
#ifdef __wasm__
constexpr int64_t kChunkRows = 256;  // a step is to be short
#else
constexpr int64_t kChunkRows = 1024;
#endif
static_assert(kChunkRows % kDepth == 0);

// Columns [begin, begin + count) of the logits, with what belongs to them: row 0 is that of column `begin`.
struct LogitsColumns {
  int64_t begin;
  int64_t count;
  InputMatrix weight;  // [count, d]
  InputMatrix bias;    // [1, count]; data null: none
};

// From row `first` on; where there is no matrix, none.
InputMatrix rows_from(const InputMatrix& matrix, int64_t first);
GradientMatrix rows_from(const GradientMatrix& matrix, int64_t first);

// These columns of the op's own matrices.
LogitsColumns columns_of(const LinearLogits& logits, int64_t begin, int64_t count);

// Those columns, ready for products.
class LogitsTile {
 public:
  explicit LogitsTile(const LinearLogits& logits) : logits_(logits) {}

  void open(const LogitsColumns& columns) { columns_ = columns; }
  // What compute() needs.
  void pack();

  int64_t begin() const { return columns_.begin; }
  int64_t count() const { return columns_.count; }
  const InputMatrix& weight() const { return columns_.weight; }

  // Of `rows`[first, first + rows).
  void compute(const std::vector<int32_t>& rows, int64_t first, int64_t row_count, float* out, int64_t stride);

 private:
  const LinearLogits& logits_;
  LogitsColumns columns_{};
  Packed weight_;
  Floats bias_;
};

// What a pass begins with: outputs of rows that take no part; the first row whose upstream gradient is beyond float32, or -1.
void clear_outputs(const LinearLogProbsForward& op);
int32_t first_overflow(const LinearLogProbsBackward& op);

class LinearForward {
 public:
  explicit LinearForward(const LinearLogProbsForward& op);

  int64_t row_count() const { return static_cast<int64_t>(rows_.size()); }  // that are not masked
  void open(const LogitsColumns& columns);
  void add_rows(int64_t begin, int64_t count);  // of those
  void finish();                                // after all columns

 private:
  const LinearLogProbsForward& op_;
  const std::vector<int32_t> rows_;
  std::vector<RowSums> sums_;
  KeptTiles<float> kept_;
  LogitsTile tile_;
};

class LinearBackward {
 public:
  explicit LinearBackward(const LinearLogProbsBackward& op);

  int64_t row_count() const { return static_cast<int64_t>(rows_.size()); }  // that take part
  // The gradients are rows of grad_weight, and entries of grad_bias, as those of LogitsColumns.
  void open(const LogitsColumns& columns, const GradientMatrix& grad_weight, const GradientMatrix& grad_bias);
  int64_t columns() const { return tile_.count(); }

  // A chunk of rows: first + [0, count). Where none take part there is one chunk of none, which gives zeros.
  void gradient_of_rows(int64_t first, int64_t begin, int64_t rows);  // first + [begin, begin + rows)
  void pack_chunk(int64_t first, int64_t count);                       // once those are done
  void add_columns(int64_t first, int64_t count, int64_t begin, int64_t columns);
  void close();   // after all chunks
  void finish();  // after all columns

 private:
  bool takes_part(int64_t t) const;
  RowUpstream upstream(int64_t t) const;
  void find_kept();
  void get_logits(int64_t first, int64_t count, float* out);
  float* grad_hidden() { return grad_hidden_.resized(row_count() * op_.logits.width); }
  PanelSource of_gradient(const float* gradient) const { return {{gradient, DType::kF32, stride_}, nullptr}; }
  void write_weight(const float* sums, int64_t begin, int64_t count);

  const LinearLogProbsBackward& op_;
  const std::vector<int32_t> rows_;
  const int64_t stride_;  // of the logits' gradients
  LogitsTile tile_;
  GradientMatrix to_weight_{};
  GradientMatrix to_bias_{};
  KeptTiles<const float> kept_;
  std::vector<int32_t> kept_rows_;  // of rows_
  Packed weight_;
  Packed hidden_;
  Floats logits_gradient_;
  Floats grad_hidden_;              // [rows that take part, d]
  Floats grad_weight_;              // [columns of a tile, d]
  std::vector<double> grad_bias_;   // [columns of a tile]
  std::atomic<int64_t> bad_weight_row_{std::numeric_limits<int64_t>::max()};
};

}  // namespace rlvr
