// cuBLASLt, found at run time.
#pragma once

#include <string>

#include "cuda/cublaslt.h"

namespace rlvr::cuda::lt {

// The library, of version 12 or 13: that which RLVR_CUBLASLT names, or else that which the system finds. Looked for
// until it is found, and kept for as long as the process lives. Null and `failure` where there is none. Touches no
// device. For any thread.
const Functions* find_library(std::string& failure);

// A library that was found, on a device.
struct Library {
  const Functions& functions;
  Handle handle;
};

// The handle of the current device, made at the first call. For any thread.
cudaError_t handle_of_device(const Functions& functions, Handle& handle);
cudaError_t error_of(Status status);

}  // namespace rlvr::cuda::lt
