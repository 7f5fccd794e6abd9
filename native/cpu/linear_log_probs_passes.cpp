// See linear_log_probs_passes.h. Which rows are in a block changes no bit of them (panels.h), and how many columns there are at a
// time depends on d alone: results do not depend on threads.
#include "cpu/linear_log_probs_passes.h"

#include <cmath>
#include <cstring>

#include "cpu/first_bad_row.h"
#include "cpu/per_thread.h"

namespace rlvr {
namespace {

// From one row of a tile to the next: not a power of two, which would map a column to few lines of a cache.
int64_t padded(int64_t columns) { return columns + 16; }

int64_t element_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

bool is_masked(const LinearLogits& logits, int64_t t) { return logits.mask != nullptr && logits.mask[t] == 0; }

// The rows that take part.
template <class Keep>
std::vector<int32_t> rows_where(int64_t tokens, Keep keep) {
  std::vector<int32_t> rows;
  for (int64_t t = 0; t < tokens; ++t)
    if (keep(t)) rows.push_back(static_cast<int32_t>(t));
  return rows;
}

// Where the logits of rows go that are to be kept.
KeptTiles<float> keep_rows(const LinearLogProbsForward& op, const std::vector<int32_t>& rows) {
  const auto& [data, length, index] = op.kept_logits;
  if (data == nullptr || rows.empty()) return {};
  const auto count = static_cast<int32_t>(rows.size());
  for (int32_t i = 0; i < count; ++i) index[rows[static_cast<size_t>(i)]] = i;
  return {data, length, count, tile_columns(op.logits.width), op.logits.vocab};
}

// Writes the outputs of row t; returns whether it is finite.
bool finish_row(const LinearLogProbsForward& op, int64_t t, const RowSums& sums) {
  if (!sums.finite) return false;
  const double inverse_temperature = 1 / op.logits.temperature;
  const auto reference = static_cast<double>(sums.reference);
  if (std::isinf(reference)) return op.log_sum_exp[t] = reference, false;  // all are -inf
  const double log_rest = std::log1p(sums.rest);
  const double at_target = op.logits.targets[t] == kNoTarget ? 0 : static_cast<double>(sums.at_target);
  const double log_prob = (at_target - reference) * inverse_temperature - log_rest;
  if (!std::isfinite(log_prob)) return false;
  op.log_probs[t] = log_prob;
  op.log_sum_exp[t] = reference * inverse_temperature + log_rest;
  if (op.entropy != nullptr) op.entropy[t] = log_rest - sums.weighted * inverse_temperature / (1 + sums.rest);
  op.kept[t] = 1;
  return true;
}

// Rows [begin, end) of `out`, of which row i is at row_of(i). The first i of a bad one, or `end`.
template <class RowOf>
int64_t write_rows(const GradientMatrix& out, int64_t width, int64_t begin, int64_t end, RowOf row_of) {
  int64_t bad = end;
  for (int64_t i = begin; i < end; ++i)
    if (!linear_kernels().write(row_of(i), width, out, i) && bad == end) bad = i;
  return bad;
}

}  // namespace

InputMatrix rows_from(const InputMatrix& matrix, int64_t first) {
  if (matrix.data == nullptr) return matrix;
  const auto* data = static_cast<const unsigned char*>(matrix.data);
  return {data + first * matrix.stride * element_size(matrix.dtype), matrix.dtype, matrix.stride};
}

GradientMatrix rows_from(const GradientMatrix& matrix, int64_t first) {
  if (matrix.data == nullptr) return matrix;
  auto* data = static_cast<unsigned char*>(matrix.data);
  return {data + first * matrix.stride * element_size(matrix.dtype), matrix.dtype, matrix.stride, matrix.accumulate};
}

LogitsColumns columns_of(const LinearLogits& logits, int64_t begin, int64_t count) {
  const InputMatrix entries{logits.bias.data, logits.bias.dtype, 1};
  return {begin, count, rows_from(logits.weight, begin), rows_from(entries, begin)};
}

void LogitsTile::pack() {
  weight_.pack({columns_.weight, nullptr}, true, 0, columns_.count, 0, logits_.width);
  if (columns_.bias.data != nullptr)
    linear_kernels().read(columns_.bias, 0, 0, columns_.count, bias_.resized(columns_.count));
}

void LogitsTile::compute(const std::vector<int32_t>& rows, int64_t first, int64_t row_count, float* out,
                         int64_t stride) {
  const bool biased = columns_.bias.data != nullptr;
  for (int64_t i = 0; i < row_count && biased; ++i)
    std::memcpy(out + i * stride, bias_.resized(count()), static_cast<size_t>(count()) * sizeof(float));
  multiply_block({logits_.hidden, rows.data()}, true, first, row_count, weight_, biased, out, stride);
}

void clear_outputs(const LinearLogProbsForward& op) {
  for (double* out : {op.log_probs, op.log_sum_exp, op.entropy})
    if (out != nullptr) std::fill_n(out, op.logits.tokens, 0.0);
  std::fill_n(op.kept, op.logits.tokens, uint8_t{0});
  if (op.kept_logits.rows != nullptr) std::fill_n(op.kept_logits.rows, op.logits.tokens, -1);
  op.non_finite[0] = 0;
}

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

LinearForward::LinearForward(const LinearLogProbsForward& op)
    : op_(op),
      rows_(rows_where(op.logits.tokens, [&](int64_t t) { return !is_masked(op.logits, t); })),
      sums_(rows_.size(), RowSums{-std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), true, 0, 0}),
      kept_(keep_rows(op, rows_)),
      tile_(op.logits) {}

void LinearForward::open(const LogitsColumns& columns) {
  tile_.open(columns);
  tile_.pack();
}

void LinearForward::add_rows(int64_t begin, int64_t count) {
  struct Block : Floats {};
  auto& memory = per_thread<Block>();
  const int64_t columns = tile_.count();
  const bool keep = kept_.hold(tile_.begin());
  const int64_t stride = keep ? columns : padded(columns);
  float* block = keep ? kept_.row(tile_.begin(), columns, begin) : memory.resized(count * stride);
  tile_.compute(rows_, begin, count, block, stride);
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(begin + i);
    linear_kernels().add_columns(block + i * stride, tile_.begin(), columns, op_.logits.targets[rows_[at]],
                                 op_.logits.temperature, op_.entropy != nullptr, sums_[at]);
  }
}

void LinearForward::finish() {
  for (size_t i = 0; i < rows_.size(); ++i)
    if (!finish_row(op_, rows_[i], sums_[i])) ++op_.non_finite[0];
}

LinearBackward::LinearBackward(const LinearLogProbsBackward& op)
    : op_(op),
      rows_(rows_where(op.logits.tokens, [&](int64_t t) { return takes_part(t); })),
      stride_(padded(std::min(tile_columns(op.logits.width), op.logits.vocab))),
      tile_(op.logits) {
  find_kept();
  logits_gradient_.resized(kChunkRows * stride_);
  if (op_.grad_hidden.data != nullptr) grad_hidden();
}

bool LinearBackward::takes_part(int64_t t) const {
  if (is_masked(op_.logits, t)) return false;
  return op_.grad_log_probs[t] != 0 || (op_.grad_entropy != nullptr && op_.grad_entropy[t] != 0);
}

RowUpstream LinearBackward::upstream(int64_t t) const {
  const double h = op_.grad_entropy == nullptr ? 0 : op_.grad_entropy[t];
  return {op_.grad_log_probs[t], h, h == 0 ? 0 : op_.entropy[t], op_.log_sum_exp[t], op_.logits.temperature};
}

// The array of rows may be anything: what it says is not there is computed.
void LinearBackward::find_kept() {
  const auto& [data, length, rows] = op_.kept_logits;
  if (data == nullptr) return;
  const int64_t kept = std::count_if(rows, rows + op_.logits.tokens, [](int32_t row) { return row >= 0; });
  for (const int32_t t : rows_) kept_rows_.push_back(rows[t]);
  const auto is_there = [&](int32_t row) { return row >= 0 && row < kept; };
  if (kept > 0 && std::all_of(kept_rows_.begin(), kept_rows_.end(), is_there))
    kept_ = {data, length, kept, tile_columns(op_.logits.width), op_.logits.vocab};
}

void LinearBackward::open(const LogitsColumns& columns, const GradientMatrix& grad_weight,
                          const GradientMatrix& grad_bias) {
  tile_.open(columns);
  to_weight_ = grad_weight;
  to_bias_ = grad_bias;
  grad_bias_.assign(to_bias_.data == nullptr ? 0 : static_cast<size_t>(columns.count), 0.0);
  if (to_weight_.data != nullptr) grad_weight_.resized(columns.count * op_.logits.width);
  if (rows_.empty()) return;
  if (!kept_.hold(columns.begin)) tile_.pack();
  if (op_.grad_hidden.data != nullptr)
    weight_.pack({columns.weight, nullptr}, false, 0, op_.logits.width, 0, columns.count);
}

void LinearBackward::gradient_of_rows(int64_t first, int64_t begin, int64_t rows) {
  float* block = logits_gradient_.resized(0) + begin * stride_;
  get_logits(first + begin, rows, block);
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t t = rows_[static_cast<size_t>(first + begin + i)];
    linear_kernels().gradient(block + i * stride_, tile_.begin(), tile_.count(), op_.logits.targets[t], upstream(t));
  }
  if (op_.grad_hidden.data == nullptr) return;
  const int64_t width = op_.logits.width;
  multiply_block(of_gradient(block), true, 0, rows, weight_, tile_.begin() > 0,
                 grad_hidden() + (first + begin) * width, width);
}

// Of rows_[first, first + count), in the tile.
void LinearBackward::get_logits(int64_t first, int64_t count, float* out) {
  if (!kept_.hold(tile_.begin())) return tile_.compute(rows_, first, count, out, stride_);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t row = kept_rows_[static_cast<size_t>(first + i)];
    std::memcpy(out + i * stride_, kept_.row(tile_.begin(), tile_.count(), row),
                static_cast<size_t>(tile_.count()) * sizeof(float));
  }
}

void LinearBackward::pack_chunk(int64_t first, int64_t count) {
  if (to_weight_.data != nullptr)
    hidden_.pack({op_.logits.hidden, rows_.data()}, false, 0, op_.logits.width, first, count);
}

// What the chunk of rows gives to columns [begin, begin + columns) of the tile; the last chunk writes them to grad_weight.
void LinearBackward::add_columns(int64_t first, int64_t count, int64_t begin, int64_t columns) {
  const float* gradient = logits_gradient_.resized(0);
  if (to_weight_.data != nullptr) {
    const int64_t width = op_.logits.width;
    float* sums = grad_weight_.resized(0) + begin * width;
    multiply_block(of_gradient(gradient), false, begin, columns, hidden_, first > 0, sums, width);
    if (first + kChunkRows >= row_count()) write_weight(sums, begin, columns);
  }
  if (to_bias_.data == nullptr) return;
  for (int64_t t = 0; t < count; ++t)
    for (int64_t v = begin; v < begin + columns; ++v)
      grad_bias_[static_cast<size_t>(v)] += static_cast<double>(gradient[t * stride_ + v]);
}

void LinearBackward::write_weight(const float* sums, int64_t begin, int64_t count) {
  const int64_t width = op_.logits.width;
  const int64_t bad = write_rows(to_weight_, width, begin, begin + count,
                                 [&](int64_t v) { return sums + (v - begin) * width; });
  if (bad < begin + count) lower(bad_weight_row_, tile_.begin() + bad);
}

// The bias as rows of one entry each: the first that is not finite has a name.
void LinearBackward::close() {
  if (to_bias_.data == nullptr) return;
  const GradientMatrix bias{to_bias_.data, to_bias_.dtype, 1, to_bias_.accumulate};
  std::vector<float> rounded(grad_bias_.size());
  for (size_t v = 0; v < rounded.size(); ++v) rounded[v] = static_cast<float>(grad_bias_[v]);
  const int32_t bad = first_bad_row(tile_.count(), 20, [&](int64_t begin, int64_t end) {
    return write_rows(bias, 1, begin, end, [&](int64_t v) { return rounded.data() + v; });
  });
  if (op_.bad_rows[3] < 0 && bad >= 0) op_.bad_rows[3] = static_cast<int32_t>(tile_.begin()) + bad;
}

// grad_hidden, with zeros for rows that take no part; and the first bad row of grad_weight.
void LinearBackward::finish() {
  const int64_t width = op_.logits.width;
  if (bad_weight_row_ < op_.logits.vocab) op_.bad_rows[2] = static_cast<int32_t>(bad_weight_row_);
  if (op_.grad_hidden.data == nullptr) return;
  const std::vector<float> zeros(static_cast<size_t>(width), 0.0f);
  std::vector<const float*> rows(static_cast<size_t>(op_.logits.tokens), zeros.data());
  for (int64_t i = 0; i < row_count(); ++i)
    rows[static_cast<size_t>(rows_[static_cast<size_t>(i)])] = grad_hidden() + i * width;
  op_.bad_rows[1] =
      first_bad_row(op_.logits.tokens, 20 + 0.25 * static_cast<double>(width), [&](int64_t begin, int64_t end) {
        return write_rows(op_.grad_hidden, width, begin, end, [&](int64_t t) { return rows[static_cast<size_t>(t)]; });
      });
}

}  // namespace rlvr
