// linear-log-probs on the CPU: some columns of the logits at a time, for all rows, so that the weight is packed once in each
// direction. Blocks of rows are handed to threads; what is done with them is in linear_log_probs_passes.cpp.
#include <algorithm>
#include <new>

#include "cpu/linear_log_probs_passes.h"
#include "cpu/ops.h"

namespace rlvr {
namespace {

template <class Body>
void for_tiles(const LinearLogits& logits, CancelFlag cancel, Body body) {
  const int64_t columns = tile_columns(logits.width);
  for (int64_t begin = 0; begin < logits.vocab && !cancelled(cancel); begin += columns)
    body(columns_of(logits, begin, std::min(columns, logits.vocab - begin)));
}

void forward(const LinearLogProbsForward& op) {
  LinearForward pass(op);
  if (pass.row_count() == 0) return;
  for_tiles(op.logits, op.cancel, [&](const LogitsColumns& columns) {
    pass.open(columns);
    for_blocks(pass.row_count(), op.cancel, [&](int64_t begin, int64_t count) { pass.add_rows(begin, count); });
  });
  if (!cancelled(op.cancel)) pass.finish();
}

void backward(const LinearLogProbsBackward& op) {
  LinearBackward pass(op);
  const int64_t rows = pass.row_count();
  const GradientMatrix bias{op.grad_bias.data, op.grad_bias.dtype, 1, op.grad_bias.accumulate};
  const auto chunk = [&](int64_t first, int64_t count) {
    for_blocks(count, op.cancel, [&](int64_t begin, int64_t some) { pass.gradient_of_rows(first, begin, some); });
    pass.pack_chunk(first, count);
    for_blocks(pass.columns(), op.cancel,
               [&](int64_t begin, int64_t columns) { pass.add_columns(first, count, begin, columns); });
  };
  if (op.grad_weight.data != nullptr || op.grad_bias.data != nullptr || rows > 0)
    for_tiles(op.logits, op.cancel, [&](const LogitsColumns& columns) {
      pass.open(columns, rows_from(op.grad_weight, columns.begin), rows_from(bias, columns.begin));
      for (int64_t first = 0; (first == 0 || first < rows) && !cancelled(op.cancel); first += kChunkRows)
        chunk(first, std::min(kChunkRows, rows - first));
      if (!cancelled(op.cancel)) pass.close();
    });
  if (!cancelled(op.cancel)) pass.finish();
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
    backward(op);
  } catch (const std::bad_alloc&) {
    op.bad_rows[0] = -2;
  }
}

}  // namespace cpu
}  // namespace rlvr
