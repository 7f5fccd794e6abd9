// Rows from one place to another, between host and device or within either.
#pragma once

#include <cstdint>

#include "cuda/device_context.h"

namespace rlvr::cuda {

// Row r is at byte r * pitch.
struct PitchedRows {
  void* data;
  int64_t pitch;
};

// Copies `rows` rows of `width` bytes on the context's stream.
cudaError_t copy_rows(DeviceContext& context, const PitchedRows& to, const PitchedRows& from, int64_t width,
                      int64_t rows, cudaMemcpyKind kind);

}  // namespace rlvr::cuda
