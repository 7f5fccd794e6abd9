#include "cuda/copy_rows.h"

#include <algorithm>

namespace rlvr::cuda {

// As one block where there are no gaps between rows. A 2-D copy is for rows with gaps only: it may be slower, and has a
// limit on the distance between rows, beyond which each row is copied by itself.
cudaError_t copy_rows(DeviceContext& context, const PitchedRows& to, const PitchedRows& from, int64_t width,
                      int64_t rows, cudaMemcpyKind kind) {
  const cudaStream_t stream = context.stream();
  if (rows == 0 || width == 0) return cudaSuccess;
  if (rows == 1 || (to.pitch == width && from.pitch == width))
    return cudaMemcpyAsync(to.data, from.data, static_cast<size_t>(rows * width), kind, stream);
  if (std::max(to.pitch, from.pitch) <= context.max_pitch())
    return cudaMemcpy2DAsync(to.data, static_cast<size_t>(to.pitch), from.data, static_cast<size_t>(from.pitch),
                             static_cast<size_t>(width), static_cast<size_t>(rows), kind, stream);
  for (int64_t r = 0; r < rows; ++r) {
    void* row = static_cast<char*>(to.data) + r * to.pitch;
    const void* source = static_cast<const char*>(from.data) + r * from.pitch;
    const cudaError_t error = cudaMemcpyAsync(row, source, static_cast<size_t>(width), kind, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace rlvr::cuda
