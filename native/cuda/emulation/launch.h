// Launching a kernel, and what tests may set and read.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda/emulation/device.h"
#include "cuda/emulation/runtime_api.h"

namespace rlvr::emulation {
namespace detail {

struct Launch {
  const void* kernel;
  dim3 grid;
  dim3 block;
  cudaStream_t stream;
  void (*run_thread)(const Launch& launch);
  const void* arguments;
};
cudaError_t run(const Launch& launch);
void check_pointer_argument(const void* kernel, int index, const volatile void* pointer);

template <typename T>
void check_argument(const void* kernel, int index, const T& value) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>)
    check_pointer_argument(kernel, index, value);
}

}  // namespace detail

// kernel<<<grid, block, 0, stream>>>(args...), done when it returns. A bad configuration, a host pointer among the
// arguments, or a mistake inside the kernel ends the process.
template <typename... P, typename... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A&&... args) {
  static_assert((!std::is_reference_v<P> && ...), "kernel parameters are passed by value");
  using Arguments = std::pair<void (*)(P...), std::tuple<P...>>;
  const Arguments arguments(kernel, std::tuple<P...>(std::forward<A>(args)...));
  const void* address = reinterpret_cast<const void*>(kernel);
  std::apply(
      [&](const P&... values) {
        int i = 0;
        (detail::check_argument(address, i++, values), ...);
        (void)i;
      },
      arguments.second);
  const auto run_thread = [](const detail::Launch& launch) {
    const auto& [function, values] = *static_cast<const Arguments*>(launch.arguments);
    std::apply(function, values);
  };
  return detail::run({address, grid, block, stream, run_thread, &arguments});
}

// "forward", "reverse" or a number that seeds a random order; RLVR_EMULATION_ORDER sets the first one.
void set_order(const std::string& order);
// The byte that new device memory and each block's shared memory hold; RLVR_EMULATION_FILL sets the first one.
void set_fill(uint8_t byte);

// Device and pinned host memory that was allocated and not yet freed.
int64_t live_allocations();
int64_t live_bytes();
int64_t live_streams();
int64_t live_events();

// The n-th allocation from now fails with cudaErrorMemoryAllocation (1: the next); 0 takes that back.
void fail_allocation(int64_t n);
// 0 to 8 devices (RLVR_EMULATION_DEVICES, 1 unless told); with 0 the runtime answers cudaErrorNoDevice.
void set_device_count(int count);

// Calls that a correct program never makes: foreign or double frees, copies that leave their allocation, wrong kinds of
// pointer, dead handles. They return an error as CUDA does, and count here.
int64_t misuse_count();
std::string last_misuse();

}  // namespace rlvr::emulation
