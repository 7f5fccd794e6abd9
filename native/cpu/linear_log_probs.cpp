// linear-log-probs on the CPU: some columns of the logits at a time, for all rows, so that the weight is packed once in each
// direction. Blocks of rows are handed to threads. Which rows are in a block changes no bit of them (panels.h), and how many
// columns there are at a time depends on d alone: results do not depend on threads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "cpu/first_bad_row.h"
#include "cpu/kept_tiles.h"
#include "cpu/ops.h"
#include "cpu/products.h"

namespace rlvr {
namespace {

constexpr int64_t kChunkRows = 1024;  // rows whose logits' gradients are held at a time
static_assert(kChunkRows % kDepth == 0);

// From one row of a tile to the next: not a power of two, which would map a column to few lines of a cache.
int64_t padded(int64_t columns) { return columns + 16; }

// The rows that take part.
template <class Keep>
std::vector<int32_t> rows_where(int64_t tokens, Keep keep) {
  std::vector<int32_t> rows;
  for (int64_t t = 0; t < tokens; ++t)
    if (keep(t)) rows.push_back(static_cast<int32_t>(t));
  return rows;
}

bool is_masked(const LinearLogits& logits, int64_t t) { return logits.mask != nullptr && logits.mask[t] == 0; }

// Columns [begin, begin + count) of the logits of some rows.
class Tile {
 public:
  explicit Tile(const LinearLogits& logits) : logits_(logits) {}

  void open(int64_t begin, int64_t count) {
    begin_ = begin;
    count_ = count;
  }

  // What compute() needs.
  void pack() {
    weight_.pack({logits_.weight, nullptr}, true, begin_, count_, 0, logits_.width);
    if (logits_.bias.data != nullptr) linear_kernels().read(logits_.bias, 0, begin_, count_, bias_.resized(count_));
  }

  int64_t begin() const { return begin_; }
  int64_t count() const { return count_; }

  // Of `rows`[first, first + rows).
  void compute(const std::vector<int32_t>& rows, int64_t first, int64_t row_count, float* out, int64_t stride) {
    const bool biased = logits_.bias.data != nullptr;
    for (int64_t i = 0; i < row_count && biased; ++i)
      std::memcpy(out + i * stride, bias_.resized(count_), static_cast<size_t>(count_) * sizeof(float));
    multiply_block({logits_.hidden, rows.data()}, true, first, row_count, weight_, biased, out, stride);
  }

 private:
  const LinearLogits& logits_;
  Packed weight_;
  Floats bias_;
  int64_t begin_ = 0;
  int64_t count_ = 0;
};

template <class Body>
void for_tiles(const LinearLogits& logits, CancelFlag cancel, Body body) {
  const int64_t columns = tile_columns(logits.width);
  for (int64_t begin = 0; begin < logits.vocab && !cancelled(cancel); begin += columns)
    body(begin, std::min(columns, logits.vocab - begin));
}

// Writes the outputs of row t; returns whether it is finite.
bool finish_row(const LinearLogProbsForward& op, int64_t t, const RowSums& sums) {
  if (!sums.finite || !std::isfinite(sums.reference)) return false;
  const double inverse_temperature = 1 / op.logits.temperature;
  const auto reference = static_cast<double>(sums.reference);
  const double log_rest = std::log1p(sums.rest);
  const double log_prob = (static_cast<double>(sums.at_target) - reference) * inverse_temperature - log_rest;
  if (!std::isfinite(log_prob)) return false;
  op.log_probs[t] = log_prob;
  op.log_sum_exp[t] = reference * inverse_temperature + log_rest;
  if (op.entropy != nullptr) op.entropy[t] = log_rest - sums.weighted * inverse_temperature / (1 + sums.rest);
  op.kept[t] = 1;
  return true;
}

void clear_outputs(const LinearLogProbsForward& op) {
  for (double* out : {op.log_probs, op.log_sum_exp, op.entropy})
    if (out != nullptr) std::fill_n(out, op.logits.tokens, 0.0);
  std::fill_n(op.kept, op.logits.tokens, uint8_t{0});
  if (op.kept_logits.rows != nullptr) std::fill_n(op.kept_logits.rows, op.logits.tokens, -1);
  op.non_finite[0] = 0;
}

// The backward pass.
class Backward {
 public:
  explicit Backward(const LinearLogProbsBackward& op)
      : op_(op),
        rows_(rows_where(op.logits.tokens, [&](int64_t t) { return takes_part(t); })),
        columns_(padded(std::min(tile_columns(op.logits.width), op.logits.vocab))),
        tile_(op.logits) {
    find_kept();
  }

  void run() {
    if (op_.grad_weight.data != nullptr || op_.grad_bias.data != nullptr || !rows_.empty())
      for_tiles(op_.logits, op_.cancel, [&](int64_t begin, int64_t count) { add_tile(begin, count); });
    finish();
  }

 private:
  int64_t row_count() const { return static_cast<int64_t>(rows_.size()); }

  bool takes_part(int64_t t) const {
    if (is_masked(op_.logits, t)) return false;
    return op_.grad_log_probs[t] != 0 || (op_.grad_entropy != nullptr && op_.grad_entropy[t] != 0);
  }

  RowUpstream upstream(int64_t t) const {
    const double h = op_.grad_entropy == nullptr ? 0 : op_.grad_entropy[t];
    return {op_.grad_log_probs[t], h, h == 0 ? 0 : op_.entropy[t], op_.log_sum_exp[t], op_.logits.temperature};
  }

  // The array of rows may be anything: what it says is not there is computed.
  void find_kept() {
    const auto& [data, length, rows] = op_.kept_logits;
    if (data == nullptr) return;
    const int64_t kept = std::count_if(rows, rows + op_.logits.tokens, [](int32_t row) { return row >= 0; });
    for (const int32_t t : rows_) kept_rows_.push_back(rows[t]);
    const auto is_there = [&](int32_t row) { return row >= 0 && row < kept; };
    if (kept > 0 && std::all_of(kept_rows_.begin(), kept_rows_.end(), is_there))
      kept_ = {data, length, kept, tile_columns(op_.logits.width), op_.logits.vocab};
  }

  // Columns [begin, begin + count) of the logits.
  void add_tile(int64_t begin, int64_t count) {
    tile_.open(begin, count);
    grad_bias_.assign(op_.grad_bias.data == nullptr ? 0 : static_cast<size_t>(count), 0.0);
    if (!rows_.empty()) {
      if (!kept_.hold(begin)) tile_.pack();
      if (op_.grad_hidden.data != nullptr)
        weight_.pack({op_.logits.weight, nullptr}, false, 0, op_.logits.width, begin, count);
    }
    // Without rows there is one chunk of none of them, which gives zeros.
    for (int64_t first = 0; (first == 0 || first < row_count()) && !cancelled(op_.cancel); first += kChunkRows)
      add_chunk(first, std::min(kChunkRows, row_count() - first));
    if (op_.grad_bias.data != nullptr && !cancelled(op_.cancel)) write_bias();
  }

  // rows_[first, first + count).
  void add_chunk(int64_t first, int64_t count) {
    float* grad_hidden =
        op_.grad_hidden.data == nullptr ? nullptr : grad_hidden_.resized(row_count() * op_.logits.width);
    float* gradient = logits_gradient_.resized(kChunkRows * columns_);
    for_blocks(count, op_.cancel, [&](int64_t begin, int64_t rows) {
      float* block = gradient + begin * columns_;
      get_logits(first + begin, rows, block);
      for (int64_t i = 0; i < rows; ++i) {
        const int32_t t = rows_[static_cast<size_t>(first + begin + i)];
        linear_kernels().gradient(block + i * columns_, tile_.begin(), tile_.count(), op_.logits.targets[t],
                                  upstream(t));
      }
      if (grad_hidden == nullptr) return;
      multiply_block(of_gradient(block), true, 0, rows, weight_, tile_.begin() > 0,
                     grad_hidden + (first + begin) * op_.logits.width, op_.logits.width);
    });
    float* weight_sums = nullptr;
    if (op_.grad_weight.data != nullptr) {
      hidden_.pack({op_.logits.hidden, rows_.data()}, false, 0, op_.logits.width, first, count);
      weight_sums = grad_weight_.resized(tile_.count() * op_.logits.width);
    }
    for_blocks(tile_.count(), op_.cancel, [&](int64_t begin, int64_t columns) {
      if (weight_sums != nullptr) add_to_weight(gradient, first, begin, columns, weight_sums);
      if (op_.grad_bias.data == nullptr) return;
      for (int64_t t = 0; t < count; ++t)
        for (int64_t v = begin; v < begin + columns; ++v)
          grad_bias_[static_cast<size_t>(v)] += static_cast<double>(gradient[t * columns_ + v]);
    });
  }

  // Adds what the chunk of rows from `first` on gives to rows [begin, begin + count) of the tile's part of grad_weight, which
  // the last chunk writes.
  void add_to_weight(const float* gradient, int64_t first, int64_t begin, int64_t count, float* sums) {
    const int64_t width = op_.logits.width;
    multiply_block(of_gradient(gradient), false, begin, count, hidden_, first > 0, sums + begin * width, width);
    if (first + kChunkRows < row_count()) return;
    const int64_t end = begin + count;
    const int64_t bad = write_rows(op_.grad_weight, width, tile_.begin(), begin, end,
                                   [&](int64_t v) { return sums + v * width; });
    if (bad < end) lower(bad_weight_row_, tile_.begin() + bad);
  }

  // Of rows_[first, first + count), in the tile.
  void get_logits(int64_t first, int64_t count, float* out) {
    if (!kept_.hold(tile_.begin())) return tile_.compute(rows_, first, count, out, columns_);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t row = kept_rows_[static_cast<size_t>(first + i)];
      std::memcpy(out + i * columns_, kept_.row(tile_.begin(), tile_.count(), row),
                  static_cast<size_t>(tile_.count()) * sizeof(float));
    }
  }

  PanelSource of_gradient(const float* gradient) const { return {{gradient, DType::kF32, columns_}, nullptr}; }

  // As rows of one entry each: the first that is not finite has a name.
  void write_bias() {
    const GradientMatrix bias{op_.grad_bias.data, op_.grad_bias.dtype, 1, op_.grad_bias.accumulate};
    std::vector<float> rounded(grad_bias_.size());
    for (size_t v = 0; v < rounded.size(); ++v) rounded[v] = static_cast<float>(grad_bias_[v]);
    const int32_t bad = first_bad_row(tile_.count(), 20, [&](int64_t begin, int64_t end) {
      return write_rows(bias, 1, tile_.begin(), begin, end, [&](int64_t v) { return rounded.data() + v; });
    });
    if (op_.bad_rows[3] < 0 && bad >= 0) op_.bad_rows[3] = static_cast<int32_t>(tile_.begin()) + bad;
  }

  // Rows first + [begin, end) of `out`, of which row first + i is at row_of(i). The first i of a bad one, or `end`.
  template <class RowOf>
  static int64_t write_rows(const GradientMatrix& out, int64_t width, int64_t first, int64_t begin, int64_t end,
                            RowOf row_of) {
    int64_t bad = end;
    for (int64_t i = begin; i < end; ++i)
      if (!linear_kernels().write(row_of(i), width, out, first + i) && bad == end) bad = i;
    return bad;
  }

  // grad_hidden, with zeros for rows that take no part; and the first bad row of grad_weight.
  void finish() {
    if (cancelled(op_.cancel)) return;
    if (bad_weight_row_ < op_.logits.vocab) op_.bad_rows[2] = static_cast<int32_t>(bad_weight_row_);
    if (op_.grad_hidden.data == nullptr) return;
    const float* grad_hidden = grad_hidden_.resized(row_count() * op_.logits.width);
    const std::vector<float> zeros(static_cast<size_t>(op_.logits.width), 0.0f);
    std::vector<const float*> rows(static_cast<size_t>(op_.logits.tokens), zeros.data());
    for (int64_t i = 0; i < row_count(); ++i)
      rows[static_cast<size_t>(rows_[static_cast<size_t>(i)])] = grad_hidden + i * op_.logits.width;
    const double nanoseconds = 20 + 0.25 * static_cast<double>(op_.logits.width);
    op_.bad_rows[1] = first_bad_row(op_.logits.tokens, nanoseconds, [&](int64_t begin, int64_t end) {
      return write_rows(op_.grad_hidden, op_.logits.width, 0, begin, end,
                        [&](int64_t t) { return rows[static_cast<size_t>(t)]; });
    });
  }

  const LinearLogProbsBackward& op_;
  const std::vector<int32_t> rows_;
  const int64_t columns_;
  Tile tile_;
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

int32_t first_overflow(const LinearLogProbsBackward& op) {
  for (int64_t t = 0; t < op.logits.tokens; ++t) {
    if (is_masked(op.logits, t)) continue;
    const double h = op.grad_entropy == nullptr ? 0 : op.grad_entropy[t];
    const double entropy = h == 0 ? 0 : op.entropy[t];
    const double bound = gradient_bound(op.grad_log_probs[t], h, entropy, 1 / op.logits.temperature);
    if (!(bound <= kLargestFloat)) return static_cast<int32_t>(t);
  }
  return -1;
}

// Where the logits of rows go that are to be kept.
KeptTiles<float> keep_rows(const LinearLogProbsForward& op, const std::vector<int32_t>& rows) {
  const auto& [data, length, index] = op.kept_logits;
  if (data == nullptr) return {};
  const auto count = static_cast<int32_t>(rows.size());
  for (int32_t i = 0; i < count; ++i) index[rows[static_cast<size_t>(i)]] = i;
  return {data, length, count, tile_columns(op.logits.width), op.logits.vocab};
}

void forward(const LinearLogProbsForward& op) {
  const LinearLogits& logits = op.logits;
  const std::vector<int32_t> rows = rows_where(logits.tokens, [&](int64_t t) { return !is_masked(logits, t); });
  if (rows.empty()) return;
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  std::vector<RowSums> sums(rows.size(), RowSums{kNone, kNone, true, 0, 0});
  const KeptTiles<float> kept = keep_rows(op, rows);
  Tile tile(logits);
  for_tiles(logits, op.cancel, [&](int64_t first, int64_t columns) {
    tile.open(first, columns);
    tile.pack();
    const bool keep = kept.hold(first);
    const int64_t stride = keep ? columns : padded(columns);
    for_blocks(static_cast<int64_t>(rows.size()), op.cancel, [&](int64_t begin, int64_t count) {
      thread_local Floats memory;
      float* block = keep ? kept.row(first, columns, begin) : memory.resized(count * stride);
      tile.compute(rows, begin, count, block, stride);
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(begin + i);
        linear_kernels().add_columns(block + i * stride, first, columns, logits.targets[rows[at]], logits.temperature,
                                     op.entropy != nullptr, sums[at]);
      }
    });
  });
  if (cancelled(op.cancel)) return;
  for (size_t i = 0; i < rows.size(); ++i)
    if (!finish_row(op, rows[i], sums[i])) ++op.non_finite[0];
}

}  // namespace

namespace cpu {

void linear_log_probs_forward(const LinearLogProbsForward& op) {
  clear_outputs(op);
  try {
    forward(op);
  } catch (const std::bad_alloc&) {
    op.non_finite[0] = -1;
  }
}

void linear_log_probs_backward(const LinearLogProbsBackward& op) {
  std::fill_n(op.bad_rows, 4, -1);
  op.bad_rows[0] = first_overflow(op);
  if (op.bad_rows[0] >= 0) return;
  try {
    Backward(op).run();
  } catch (const std::bad_alloc&) {
    op.bad_rows[0] = -2;
  }
}

}  // namespace cpu
}  // namespace rlvr
