#include "cuda/device.h"

#include "cuda/device_scope.h"
#include "cuda/foreign_stream.h"
#include "cuda/runtime.h"
#include "cuda/transfer.h"

namespace rlvr::cuda {
namespace {

constexpr int kOldestMajor = 8;  // sm_80: the oldest that the kernels are compiled for

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

// The oldest driver branch for Linux that runs programs of a CUDA version: all of a major version have the same.
std::string oldest_driver(int runtime) {
  switch (runtime / 1000) {
    case 12:
      return "525";
    case 13:
      return "580";
    default:
      return "for CUDA " + std::to_string(runtime / 1000) + ".0";
  }
}

std::string too_old(const DeviceInfo& info) {
  return "the NVIDIA driver is for CUDA " + version(info.driver) + ", and this addon was built with CUDA " +
         version(info.runtime) + ", which needs driver " + oldest_driver(info.runtime) + " or newer";
}

// Why kernels would not run or find memory on a device whose properties are known. Creates its context.
std::string unfit(int index, const DeviceInfo& info) {
  if (info.compute_major < kOldestMajor) return info.name + " is older than compute capability 8.0";
  int pools = 0;
  if (const cudaError_t error = cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, index);
      error != cudaSuccess)
    return describe(error);
  if (pools == 0) return info.name + " has no memory pools (a virtual GPU without them?)";
  const DeviceScope scope(index);
  const cudaError_t error = find_kernels();
  if (error == cudaSuccess) return {};
  cudaGetLastError();
  return "no kernels for " + info.name + " in this addon: " + describe(error);
}

std::string look_at(int index, DeviceInfo& info) {
  if (cudaDriverGetVersion(&info.driver) != cudaSuccess || info.driver == 0) return "no NVIDIA driver";
  if (info.driver / 1000 < info.runtime / 1000) return too_old(info);
  const cudaError_t counted = cudaGetDeviceCount(&info.count);
  if (counted == cudaErrorInsufficientDriver) return too_old(info);
  if (counted != cudaSuccess) return describe(counted);
  if (info.count == 0) return "no NVIDIA device";
  if (index >= info.count) return "no device " + std::to_string(index) + ": there are " + std::to_string(info.count);
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess)
    return describe(error);
  info.name = properties.name;
  info.compute_major = properties.major;
  info.compute_minor = properties.minor;
  info.memory = static_cast<int64_t>(properties.totalGlobalMem);
  return unfit(index, info);
}

}  // namespace

DeviceInfo probe_device(int index) {
  DeviceInfo info;
  cudaRuntimeGetVersion(&info.runtime);
  info.reason = look_at(index, info);
  if (!info.reason.empty()) cudaGetLastError();
  return info;
}

}  // namespace rlvr::cuda
