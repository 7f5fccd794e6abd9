// linear-log-probs in short steps: hidden states are in the module's memory as a whole, of the weight some columns of the logits at a
// time. A pass is started; each such part is opened, and stepped until there is nothing left; then it is ended.
#include <algorithm>

#include "cpu/linear_log_probs_passes.h"
#include "wasm/values.h"

namespace rlvr::wasm {
namespace {

// Products and sums of a step: a few milliseconds.
constexpr int64_t kStepProducts = int64_t{1} << 23;

int64_t block_size(int64_t others, int64_t width) {
  const int64_t panel = linear_kernels().left.size;
  return std::max(panel, kStepProducts / std::max<int64_t>(others * width, 1) / panel * panel);
}

InputMatrix read_matrix(Values& v) {
  InputMatrix matrix{};
  matrix.data = v.array<const void>();
  matrix.dtype = v.code<DType>();
  matrix.stride = v.integer();
  return matrix;
}

GradientMatrix read_gradient(Values& v) {
  const InputMatrix matrix = read_matrix(v);
  return {const_cast<void*>(matrix.data), matrix.dtype, matrix.stride, v.boolean()};
}

LinearLogits read_logits(Values& v) {
  LinearLogits logits{};
  logits.hidden = read_matrix(v);
  logits.tokens = v.integer();
  logits.vocab = v.integer();
  logits.width = v.integer();
  logits.targets = v.array<const int32_t>();
  logits.mask = v.array<const uint8_t>();
  logits.temperature = v.number();
  return logits;
}

LogitsColumns read_columns(Values& v) {
  LogitsColumns columns{};
  columns.begin = v.integer();
  columns.count = v.integer();
  columns.weight = read_matrix(v);
  columns.bias = read_matrix(v);
  return columns;
}

LinearLogProbsForward read_forward(Values& v) {
  LinearLogProbsForward op{};
  op.logits = read_logits(v);
  op.log_sum_exp = v.array<double>();
  op.log_probs = v.array<double>();
  op.entropy = v.array<double>();
  op.kept = v.array<uint8_t>();
  op.non_finite = v.array<int32_t>();
  return op;
}

LinearLogProbsBackward read_backward(Values& v) {
  LinearLogProbsBackward op{};
  op.logits = read_logits(v);
  op.log_sum_exp = v.array<const double>();
  op.grad_log_probs = v.array<const double>();
  op.entropy = v.array<const double>();
  op.grad_entropy = v.array<const double>();
  op.grad_hidden = read_gradient(v);
  op.bad_rows = v.array<int32_t>();
  return op;
}

class ForwardSteps {
 public:
  explicit ForwardSteps(const LinearLogProbsForward& op) : op_(op), pass_(op_) {}

  void open(Values& v) {
    const LogitsColumns columns = read_columns(v);
    size_ = block_size(columns.count, op_.logits.width);
    next_ = 0;
    if (pass_.row_count() > 0) pass_.open(columns);
  }

  bool step() {
    if (next_ >= pass_.row_count()) return false;
    pass_.add_rows(next_, std::min(size_, pass_.row_count() - next_));
    next_ += size_;
    return true;
  }

  void finish() { pass_.finish(); }

 private:
  const LinearLogProbsForward op_;
  LinearForward pass_;
  int64_t size_ = 0;
  int64_t next_ = 0;
};

// Of each chunk of rows, first the gradients of its logits, then what they give to the weight.
class BackwardSteps {
 public:
  explicit BackwardSteps(const LinearLogProbsBackward& op) : op_(op), pass_(op_) {}

  void open(Values& v) {
    const LogitsColumns columns = read_columns(v);
    const GradientMatrix grad_weight = read_gradient(v);
    const GradientMatrix grad_bias = read_gradient(v);
    pass_.open(columns, grad_weight, grad_bias);
    row_size_ = block_size(columns.count, op_.logits.width);
    first_ = row_ = column_ = 0;
    open_ = true;
  }

  bool step() {
    if (!open_) return false;
    const int64_t count = std::min(kChunkRows, pass_.row_count() - first_);
    if (row_ < count) {
      pass_.gradient_of_rows(first_, row_, std::min(row_size_, count - row_));
      row_ += row_size_;
      if (row_ >= count) pass_.pack_chunk(first_, count);
      return true;
    }
    if (column_ == 0 && count == 0) pass_.pack_chunk(first_, 0);
    const int64_t columns = std::min(block_size(count, op_.logits.width), pass_.columns() - column_);
    pass_.add_columns(first_, count, column_, columns);
    column_ += columns;
    if (column_ < pass_.columns()) return true;
    row_ = column_ = 0;
    first_ += kChunkRows;
    if (first_ < pass_.row_count()) return true;
    pass_.close();
    open_ = false;
    return true;
  }

  void finish() { pass_.finish(); }

 private:
  const LinearLogProbsBackward op_;
  LinearBackward pass_;
  int64_t row_size_ = 0;
  int64_t first_ = 0;   // row of the chunk
  int64_t row_ = 0;     // of the chunk, the next
  int64_t column_ = 0;  // of the tile, the next
  bool open_ = false;
};

}  // namespace

// Columns that are opened at a time.
RLVR_WASM_EXPORT("linearTileColumns") int linear_tile_columns(int width) {
  return static_cast<int>(tile_columns(width));
}

RLVR_WASM_EXPORT("linearForwardStart") ForwardSteps* linear_forward_start(const double* values) {
  Values v(values);
  const LinearLogProbsForward op = read_forward(v);
  clear_outputs(op);
  return new ForwardSteps(op);
}

RLVR_WASM_EXPORT("linearForwardOpen") void linear_forward_open(ForwardSteps* pass, const double* values) {
  Values v(values);
  pass->open(v);
}

RLVR_WASM_EXPORT("linearForwardStep") int linear_forward_step(ForwardSteps* pass) { return pass->step() ? 1 : 0; }

RLVR_WASM_EXPORT("linearForwardEnd") void linear_forward_end(ForwardSteps* pass) {
  pass->finish();
  delete pass;
}

// Null where the gradient from upstream is too large: bad_rows says of which row.
RLVR_WASM_EXPORT("linearBackwardStart") BackwardSteps* linear_backward_start(const double* values) {
  Values v(values);
  const LinearLogProbsBackward op = read_backward(v);
  std::fill_n(op.bad_rows, 4, -1);
  op.bad_rows[0] = first_overflow(op);
  return op.bad_rows[0] >= 0 ? nullptr : new BackwardSteps(op);
}

RLVR_WASM_EXPORT("linearBackwardOpen") void linear_backward_open(BackwardSteps* pass, const double* values) {
  Values v(values);
  pass->open(v);
}

RLVR_WASM_EXPORT("linearBackwardStep") int linear_backward_step(BackwardSteps* pass) { return pass->step() ? 1 : 0; }

RLVR_WASM_EXPORT("linearBackwardEnd") void linear_backward_end(BackwardSteps* pass) {
  pass->finish();
  delete pass;
}

}  // namespace rlvr::wasm
