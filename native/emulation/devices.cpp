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
std::array<std::atomic<int64_t>, kTraits>& traits() {
  static std::array<std::atomic<int64_t>, kTraits> values{
      detail::setting("RLVR_EMULATION_DRIVER", -1), detail::setting("RLVR_EMULATION_POOLS", -1),
      detail::setting("RLVR_EMULATION_IMAGES", -1), -1, -1, -1};
  return values;
}
constexpr std::array<int64_t, kTraits> kDefaults{CUDART_VERSION, 1, 1, (int64_t{1} << 31) - 1, int64_t{16} << 30, 4};
std::array<std::atomic<bool>, kMostDevices>& contexts() {
  static std::array<std::atomic<bool>, kMostDevices> active{};
  return active;
}
thread_local int thread_device = 0;

}  // namespace

namespace detail {

int current_device() { return thread_device; }
int device_count() { return devices(); }
int64_t trait(Trait which) {
  const auto index = static_cast<size_t>(which);
  const int64_t value = traits()[index];
  return value < 0 ? kDefaults[index] : value;
}
cudaError_t driver_status() {
  if (device_count() == 0) return cudaErrorNoDevice;
  return trait(Trait::kDriver) / 1000 < CUDART_VERSION / 1000 ? cudaErrorInsufficientDriver : cudaSuccess;
}
void use_context(int device) { contexts()[static_cast<size_t>(device)] = true; }
cudaError_t enter_context() {
  if (const cudaError_t status = driver_status(); status != cudaSuccess) return result(status);
  use_context(thread_device);
  return cudaSuccess;
}

}  // namespace detail

void set_device_count(int count) { devices() = count; }
void set_trait(Trait which, int64_t value) { traits()[static_cast<size_t>(which)] = value; }
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
  properties->totalGlobalMem = static_cast<size_t>(detail::trait(Trait::kMemory));
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
  properties->multiProcessorCount = static_cast<int>(detail::trait(Trait::kProcessors));
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
      *value = static_cast<int>(detail::trait(Trait::kPools));
      break;
    case cudaDevAttrMaxPitch:
      *value = static_cast<int>(detail::trait(Trait::kMaxPitch));
      break;
    default:
      return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = device_count() == 0 ? 0 : static_cast<int>(detail::trait(Trait::kDriver));
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
