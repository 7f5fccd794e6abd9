// Many small arrays between pinned host memory and the device by one kernel: a launch costs a few microseconds, and so
// does every separate copy.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"

namespace rlvr::cuda {

struct Transfer {
  void* to;
  const void* from;  // null: zeros
  int64_t bytes;
};

constexpr int kMaxTransfers = 24;

struct Transfers {
  Transfer items[kMaxTransfers];
  int count;
};

// Whether this binary has kernels that run on the current device: an image for it, or PTX that its driver compiles.
cudaError_t find_kernels();

// Each side is device or pinned memory, at an address that is a multiple of 16.
cudaError_t transfer(const Transfers& transfers, cudaStream_t stream);

}  // namespace rlvr::cuda
