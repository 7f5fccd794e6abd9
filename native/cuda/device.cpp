#include "cuda/device.h"

#include "cuda/runtime.h"

namespace rlvr::cuda {
namespace {

constexpr int kOldestMajor = 8;  // sm_80: the oldest that the kernels are compiled for

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

std::string failure(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

}  // namespace

DeviceInfo probe_device(int index) {
  DeviceInfo info;
  cudaRuntimeGetVersion(&info.runtime);
  if (cudaDriverGetVersion(&info.driver) != cudaSuccess || info.driver == 0) {
    info.reason = "no NVIDIA driver";
    return info;
  }
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceCount(&info.count);
  if (error == cudaErrorInsufficientDriver) {
    info.reason = "the NVIDIA driver is for CUDA " + version(info.driver) + ", older than " + version(info.runtime);
  } else if (error != cudaSuccess) {
    info.reason = failure(error);
  } else if (info.count == 0) {
    info.reason = "no NVIDIA device";
  } else if (index >= info.count) {
    info.reason = "no device " + std::to_string(index) + ": there are " + std::to_string(info.count);
  } else if ((error = cudaGetDeviceProperties(&properties, index)) != cudaSuccess) {
    info.reason = failure(error);
  } else {
    info.name = properties.name;
    info.compute_major = properties.major;
    info.compute_minor = properties.minor;
    info.memory = static_cast<int64_t>(properties.totalGlobalMem);
    if (properties.major < kOldestMajor) info.reason = info.name + " is older than compute capability 8.0";
  }
  return info;
}

}  // namespace rlvr::cuda
