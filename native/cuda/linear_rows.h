// Small kernels around the products of linear-log-probs: rows gathered and converted, gradients written, columns summed
// up.
#pragma once

#include "cuda/runtime.h"
#include "ops/linear_log_probs.h"

namespace rlvr::cuda {

// Rows to rows, converted: float32 from any type, bf16 from float32, and each type from itself.
struct RowsConverted {
  InputMatrix from;  // [rows, width]; stride 0: the same row each time
  void* to;          // [rows, width]
  DType to_dtype;
  int64_t to_stride;
  int64_t rows;
  int64_t width;
  const uint8_t* part;  // [rows] or null: where 0, zeros, and nothing is read
};
cudaError_t convert_rows(const RowsConverted& op, cudaStream_t stream);

// Rows of a gradient where the caller wants them.
struct RowsWritten {
  const float* from;  // [rows, width]; null: zeros
  int64_t from_stride;
  GradientMatrix to;  // may be `from`, which is then only looked at
  int64_t rows;
  int64_t width;
  const uint8_t* part;  // [rows] or null: where 0, zeros
  const int32_t* halt;  // [1]: nothing is written unless it is -1
  int32_t* bad;         // [1] the first row (or column) that is not finite
  int64_t first;        // the number of row 0
  bool by_column;
};
cudaError_t write_rows(const RowsWritten& op, cudaStream_t stream);

// Sums over rows, in their order.
struct ColumnSums {
  const float* rows;  // [count, columns]
  int64_t stride;
  int64_t count;
  int64_t columns;
  bool add;        // to what `sums` holds
  double* sums;    // [columns]
  float* rounded;  // [columns] the same
};
cudaError_t sum_columns(const ColumnSums& op, cudaStream_t stream);

// Which rows take part in a backward pass. [T]
cudaError_t find_rows(const LinearLogProbsBackward& op, uint8_t* part, cudaStream_t stream);

}  // namespace rlvr::cuda
