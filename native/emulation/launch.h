// Launching a kernel, and what tests may set and read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulation/device.h"
#include "emulation/runtime_api.h"

namespace rlvr::emulation {
namespace detail {

struct Launch {
  const void* kernel;
  dim3 grid;
  dim3 block;
  cudaStream_t stream;
  void (*run_thread)(const Launch& launch);
  void (*check_arguments)(const Launch& launch, bool running);
  std::shared_ptr<const void> arguments;  // by value: the launch may run later, and in a graph more than once
};
cudaError_t run(Launch launch);
void check_pointer_argument(const void* kernel, int index, const volatile void* pointer, bool running);

template <typename T>
void check_argument(const void* kernel, int index, const T& value, bool running) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>)
    check_pointer_argument(kernel, index, value, running);
}

}  // namespace detail

// kernel<<<grid, block, 0, stream>>>(args...). A bad configuration, a host pointer among the arguments, or a mistake
// inside the kernel ends the process.
template <typename... P, typename... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A&&... args) {
  static_assert((!std::is_reference_v<P> && ...), "kernel parameters are passed by value");
  using Arguments = std::pair<void (*)(P...), std::tuple<P...>>;
  auto arguments = std::make_shared<const Arguments>(kernel, std::tuple<P...>(std::forward<A>(args)...));
  const auto check_arguments = [](const detail::Launch& launch, bool running) {
    std::apply(
        [&](const P&... values) {
          int i = 0;
          (detail::check_argument(launch.kernel, i++, values, running), ...);
          (void)i;
        },
        static_cast<const Arguments*>(launch.arguments.get())->second);
  };
  const auto run_thread = [](const detail::Launch& launch) {
    const auto& [function, values] = *static_cast<const Arguments*>(launch.arguments.get());
    std::apply(function, values);
  };
  return detail::run(
      {reinterpret_cast<const void*>(kernel), grid, block, stream, run_thread, check_arguments, std::move(arguments)});
}

// "forward", "reverse" or a number that seeds a random order; RLVR_EMULATION_ORDER sets the first one.
void set_order(const std::string& order);
// The byte that new device memory and each block's shared memory hold; RLVR_EMULATION_FILL sets the first one.
void set_fill(uint8_t byte);
// Whether work on a stream waits in the stream's queue until something waits for it (streams.h says what does);
// RLVR_EMULATION_ASYNC=1 sets it at first. Turning it off runs what waits.
void set_async(bool async);

// Device and pinned host memory that was allocated and not yet freed (a free that waits on a stream has not happened).
int64_t live_allocations();
int64_t live_bytes();
int64_t live_streams();
int64_t live_events();
int64_t live_graphs();  // and executable ones
int64_t live_pools();   // not destroyed, or destroyed but with memory that is not freed

// The n-th allocation from now fails with cudaErrorMemoryAllocation (1: the next); 0 takes that back.
void fail_allocation(int64_t n);
// 0 to 8 devices (RLVR_EMULATION_DEVICES, 1 unless told); with 0 the runtime answers cudaErrorNoDevice.
void set_device_count(int count);

// Calls that a correct program never makes: foreign or double frees, copies that leave their allocation, wrong kinds of
// pointer, dead handles. They return an error as CUDA does, and count here.
int64_t misuse_count();
std::string last_misuse();

}  // namespace rlvr::emulation
