#include "emulation/launch.h"

#include <cstdlib>

#include "emulation/block.h"
#include "emulation/controls.h"
#include "emulation/devices.h"
#include "emulation/memory.h"
#include "emulation/streams.h"

namespace rlvr::emulation {
namespace {

std::string& order_setting() {
  static auto* const order = [] {
    const char* value = std::getenv("RLVR_EMULATION_ORDER");
    return new std::string(value == nullptr ? "forward" : value);
  }();
  return *order;
}

std::string triple(const dim3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

void check_configuration(const detail::Launch& launch) {
  const auto& [x, y, z] = launch.block;
  const uint64_t threads = uint64_t{x} * y * z;
  const auto bad = [&](const std::string& what) {
    detail::die("kernel " + detail::symbol_name(launch.kernel) + ": " + what);
  };
  if (threads == 0 || x > 1024 || y > 1024 || z > 64 || threads > 1024)
    bad("a block of " + triple(launch.block) + " threads; a GPU takes 1 to 1024");
  if (const auto* translation = launch.translation; translation != nullptr && threads > translation->max_threads)
    bad("a block of " + triple(launch.block) + " threads; compiled for " + std::to_string(translation->max_threads));
  const dim3& grid = launch.grid;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
    bad("a grid of " + triple(grid) + " blocks; a GPU takes 1 to (2147483647,65535,65535)");
}

void execute(const detail::Launch& launch) {
  launch.check_arguments(launch, true);
  detail::Order order(order_setting());
  detail::open_device_memory();
  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t number = order.block(i, blocks);
    detail::fill_shared_variables();
    const uint3 index{static_cast<unsigned>(number % launch.grid.x),
                      static_cast<unsigned>(number / launch.grid.x % launch.grid.y),
                      static_cast<unsigned>(number / launch.grid.x / launch.grid.y)};
    detail::run_block(launch, index, number, order);
  }
  detail::close_device_memory();
}

}  // namespace

void set_order(const std::string& order) {
  const std::lock_guard lock(detail::device_mutex());
  order_setting() = order;
}

void detail::check_pointer_argument(const void* kernel, int index, const volatile void* pointer, bool running) {
  if (usable_in_kernel(reinterpret_cast<uint64_t>(pointer), running)) return;
  die("kernel " + symbol_name(kernel) + ": argument " + std::to_string(index) +
      (running ? " points to memory that was freed before the kernel ran" : " is no pointer to device memory"));
}

cudaError_t detail::run(Launch launch) {
  if (inside_host_function()) return misuse(cudaErrorNotPermitted, "launch in a host function");
  if (const cudaError_t status = enter_context(); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = admit(launch.stream, "launch", &stream); status != cudaSuccess) return status;
  if (stream->device != current_device())
    return misuse(cudaErrorInvalidResourceHandle, "launch on a stream of another device");
  if (trait(Trait::kImages) == 0) return result(cudaErrorNoKernelImageForDevice);
  check_configuration(launch);
  launch.check_arguments(launch, false);
  ++counted().launches;
  counted().blocks += int64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  submit(*stream, [launch = std::move(launch)] { execute(launch); });
  return result(cudaSuccess);
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  if (kernel == nullptr) return detail::result(cudaErrorInvalidValue);
  if (detail::trait(Trait::kImages) == 0) return detail::result(cudaErrorNoKernelImageForDevice);
  *attributes = {32, 90};
  return detail::result(cudaSuccess);
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int) {
  return detail::result(kernel == nullptr ? cudaErrorInvalidValue : cudaSuccess);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int block_size, size_t) {
  if (kernel == nullptr || block_size <= 0 || block_size > 1024) return detail::result(cudaErrorInvalidValue);
  *blocks = 2048 / ((block_size + 31) / 32 * 32);
  if (*blocks > 32) *blocks = 32;
  return detail::result(cudaSuccess);
}
