#include "emulation/devices.h"

#include <array>
#include <atomic>
#include <cstring>

#include "emulation/controls.h"
#include "emulation/runtime_state.h"

namespace rlvr::emulation {
namespace {

using detail::device_count;
using detail::driver_status;
using detail::result;
using detail::use_context;

constexpr int kMostDevices = 8;

std::atomic<int>& devices() {
  static std::atomic<int> count = detail::setting("RLVR_EMULATION_DEVICES", 1);
  return count;
}
std::array<std::atomic<bool>, kMostDevices>& contexts() {
  static std::array<std::atomic<bool>, kMostDevices> active{};
  return active;
}
thread_local int thread_device = 0;

}  // namespace

namespace detail {

int current_device() { return thread_device; }
int device_count() { return devices(); }
cudaError_t driver_status() { return device_count() == 0 ? cudaErrorNoDevice : cudaSuccess; }
void use_context(int device) { contexts()[static_cast<size_t>(device)] = true; }
cudaError_t enter_context() {
  if (const cudaError_t status = driver_status(); status != cudaSuccess) return result(status);
  use_context(thread_device);
  return cudaSuccess;
}

}  // namespace detail

void set_device_count(int count) { devices() = count; }
bool has_context(int device) { return contexts()[static_cast<size_t>(device)]; }

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return result(driver_status());
}
cudaError_t cudaGetDevice(int* device) {
  *device = thread_device;
  return result(driver_status());
}
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t status = driver_status(); status != cudaSuccess) return result(status);
  if (device < 0 || device >= device_count()) return result(cudaErrorInvalidDevice);
  thread_device = device;
  use_context(device);  // since CUDA 12
  return result(cudaSuccess);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t status = driver_status(); status != cudaSuccess) return result(status);
  if (device < 0 || device >= device_count()) return result(cudaErrorInvalidDevice);
  *properties = cudaDeviceProp{};
  std::strcpy(properties->name, "emulated");
  properties->totalGlobalMem = size_t{16} << 30;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->sharedMemPerMultiprocessor = 228 << 10;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->maxBlocksPerMultiProcessor = 32;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->totalConstMem = 64 << 10;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->pciBusID = device;
  properties->unifiedAddressing = 1;
  properties->memoryBusWidth = 64;
  properties->l2CacheSize = 1 << 20;
  return result(cudaSuccess);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, device); status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
    default:
      return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = device_count() == 0 ? 0 : CUDART_VERSION;
  return result(cudaSuccess);
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return result(cudaSuccess);
}

// ---- of the driver
// -----------------------------------------------------------------------------------------------------

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  if (device < 0 || device >= device_count()) return CUDA_ERROR_INVALID_DEVICE;
  *flags = 0;
  *active = has_context(device) ? 1 : 0;
  return CUDA_SUCCESS;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(symbol, "cuDevicePrimaryCtxGetState") == 0;
  *function = known ? reinterpret_cast<void*>(&cuDevicePrimaryCtxGetState) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return result(driver_status());
}
