#include "cuda/device_scope.h"

#include "cuda/runtime.h"

namespace rlvr::cuda {
namespace {

using GetContextState = decltype(&cuDevicePrimaryCtxGetState);

// The driver's, whose library the addon is not linked with; null if there is none. Ordinals are the runtime's.
GetContextState find_context_state() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const char* name = "cuDevicePrimaryCtxGetState";
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  if (error == cudaSuccess && found == cudaDriverEntryPointSuccess) return reinterpret_cast<GetContextState>(function);
  cudaGetLastError();  // nothing is worse for it
  return nullptr;
}

bool has_context(int device) {
  static const GetContextState state = find_context_state();
  unsigned flags = 0;
  int active = 0;
  return state != nullptr && state(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

}  // namespace

DeviceScope::DeviceScope(int device) {
  int current = -1;
  if (cudaGetDevice(&current) != cudaSuccess) current = -1;
  if (current == device) return;
  if (current >= 0 && has_context(current)) previous_ = current;
  cudaSetDevice(device);
}

DeviceScope::~DeviceScope() {
  if (previous_ >= 0) cudaSetDevice(previous_);
}

}  // namespace rlvr::cuda
